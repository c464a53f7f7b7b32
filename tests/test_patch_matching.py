"""Matching of clusters, beside all permutations."""

import itertools

import numpy as np
import pytest
from sklearn.preprocessing import normalize

from tabular_trainers.patch_clusters import Clusters
from tabular_trainers.patch_matching import match_clusters


def some_clusters(k, seed, dim=3, weighted=True):
    rng = np.random.default_rng(seed)
    return Clusters(
        rng.normal(size=(k, dim)),
        rng.normal(size=dim),
        rng.uniform(1, 3, dim),
        np.ones(k, int),
        within=rng.uniform(0.2, 1, dim) if weighted else None,
    )


@pytest.mark.parametrize(("k", "other_k"), [(5, 5), (6, 3), (3, 6)])
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("weighted", [True, False])
def test_matching_is_the_best_of_all(k, other_k, seed, weighted):
    reference = some_clusters(k, seed, weighted=weighted)
    other = some_clusters(other_k, seed + 100, weighted=weighted)
    weights = [c.within if weighted else np.ones(3) for c in (other, reference)]
    found = match_clusters(reference, other).set_index("cluster")
    # a patch as far from the mean as the root mean square, in the direction of the centre
    length = np.linalg.norm(weights[0])
    raw = normalize(other.centres) * length * other.spread / weights[0] + other.mean
    placed = normalize((raw - reference.mean) / reference.spread * weights[1])
    far = np.linalg.norm(placed[:, None] - normalize(reference.centres), axis=2)
    most = max(k, other_k)
    padded = np.zeros((most, most))
    padded[:other_k, :k] = np.square(far)
    best = min(itertools.permutations(range(most)), key=lambda p: padded[range(most), p].sum())
    for i, name in enumerate(other.names):
        if best[i] >= k:
            assert found.loc[name, "matched"] is None
            assert np.isnan(found.loc[name, "distance"])
            assert found.loc[name, "quality"] == 0
            continue
        assert found.loc[name, "matched"] == reference.names[best[i]]
        assert found.loc[name, "distance"] == pytest.approx(far[i, best[i]])
        rival = np.delete(far[i], best[i]).min()
        assert found.loc[name, "quality"] == pytest.approx(max(0, 1 - far[i, best[i]] / rival))


def test_clusters_match_themselves_in_another_scale_and_order():
    reference = some_clusters(6, 0)
    order = np.array([3, 1, 5, 0, 2, 4])
    # of patches twice as far from the mean, in the same directions
    other = Clusters(
        reference.centres[order], reference.mean, 2 * reference.spread, np.ones(6, int),
        within=reference.within,
    )  # fmt: skip
    found = match_clusters(reference, other)
    assert found["matched"].tolist() == [reference.names[i] for i in order]
    np.testing.assert_allclose(found["distance"], 0, atol=1e-12)
    np.testing.assert_allclose(found["quality"], 1)
