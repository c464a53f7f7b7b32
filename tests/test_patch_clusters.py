"""Clusters of patches: k-means, shares a patient, and matching, beside other implementations."""

import numpy as np
import pandas as pd
import pytest
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score
from sklearn.preprocessing import StandardScaler, normalize
from threadpoolctl import threadpool_limits

from tabular_trainers import DataError, SchemaError
from tabular_trainers.patch_clusters import Clusters, fit_clusters, recommended_clusters
from tabular_trainers.patch_prevalence import label_slide
from tabular_trainers.patch_sample import sample_patches
from tabular_trainers.patch_store import open_patches
from tests.patch_stores import tissue_bags, write_store


@pytest.fixture
def drawn(tmp_path):
    bags, kinds = tissue_bags(n_slides=2)
    return open_patches(write_store(tmp_path, bags)), kinds


def blobs(n=3000, dim=8, k=5, spread=4.0, seed=0):
    rng = np.random.default_rng(seed)
    centres = rng.normal(0, spread, (k, dim))
    return (centres[rng.integers(0, k, n)] + rng.normal(size=(n, dim))).astype("float32")


def placed(x, clusters):
    return normalize((x.astype("float64") - clusters.mean) / clusters.spread)


def test_kinds_of_tissue_are_found(drawn):
    patches, kinds = drawn
    clusters = fit_clusters(sample_patches(patches), 4)
    labels = np.concatenate([label_slide(patches, clusters, s) for s in kinds])
    assert adjusted_rand_score(np.concatenate(list(kinds.values())), labels) == 1
    assert labels.dtype == np.int32
    assert clusters.names == ["c01", "c02", "c03", "c04"]
    assert clusters.encoder_id == "drawn-1"
    # numbered from the largest
    assert clusters.sizes.tolist() == np.bincount(labels).tolist()
    assert (np.diff(clusters.sizes) <= 0).all()


def test_centres_are_means_of_their_patches():
    x = blobs()
    clusters = fit_clusters(x, 5)
    z = normalize(StandardScaler().fit_transform(x.astype("float64")))
    labels = clusters.assign(x)
    expected = np.stack([z[labels == i].mean(axis=0) for i in range(5)])
    np.testing.assert_allclose(clusters.centres, expected, atol=1e-6)
    np.testing.assert_allclose(clusters.mean, x.mean(axis=0, dtype="float64"), rtol=1e-12)
    np.testing.assert_allclose(clusters.spread, x.std(axis=0, dtype="float64"), rtol=1e-12)


@pytest.mark.parametrize("n", [3000, 30_000])  # below and above what the starts are tried on
def test_as_tight_as_scikit_learn_s(n):
    x = blobs(n, k=12, spread=1.0)
    z = normalize(StandardScaler().fit_transform(x.astype("float64")))
    clusters = fit_clusters(x, 10)
    ours = np.square(clusters.distance(x)).sum()
    theirs = min(KMeans(10, n_init=1, random_state=s).fit(z).inertia_ for s in range(5))
    assert ours < 1.005 * theirs


def test_assigned_to_the_nearest_centre():
    x = blobs(2500, k=7, spread=0.5)  # no gap between the clusters
    clusters = fit_clusters(x, 7)
    z = placed(x, clusters)
    far = np.linalg.norm(z[:, None] - clusters.centres, axis=2)
    np.testing.assert_array_equal(clusters.assign(x), far.argmin(axis=1))
    np.testing.assert_allclose(clusters.distance(x), far.min(axis=1), rtol=1e-9)
    np.testing.assert_array_equal(clusters.assign(x.astype("float64")), far.argmin(axis=1))


def test_a_patch_s_cluster_does_not_hang_on_its_neighbours():
    x = blobs(2500, dim=300, k=20, spread=0.05)
    clusters = fit_clusters(x[:500], 20)
    together = clusters.assign(x)
    np.testing.assert_array_equal(np.concatenate([clusters.assign(p[None]) for p in x]), together)
    half = np.concatenate([clusters.assign(part) for part in np.array_split(x, 7)])
    np.testing.assert_array_equal(half, together)


def test_patches_halfway_are_decided_in_float64():
    # Two directions 2e-5 apart: float32 sees no difference.
    centres = np.array([[1, 1e-5], [1, 3e-5]])
    clusters = Clusters(centres, np.zeros(2), np.ones(2), np.array([1, 1]))
    x = np.array([[1, 1.9e-5], [1, 2.1e-5], [5, 0], [1e30, 1e26]])
    assert clusters.assign(x).tolist() == [0, 1, 0, 1]


def test_only_the_direction_from_the_mean_counts():
    x = blobs()
    clusters = fit_clusters(x, 5)
    further = clusters.mean + 7 * (x.astype("float64") - clusters.mean)
    np.testing.assert_array_equal(clusters.assign(further), clusters.assign(x))
    np.testing.assert_allclose(clusters.distance(further), clusters.distance(x), rtol=1e-9)


def test_a_few_patches_far_away_take_no_clusters_for_themselves():
    x = np.concatenate([blobs(spread=1.0), 100 * np.eye(8, dtype="float32")[:4]])
    usual = KMeans(5, n_init=10, random_state=0).fit(StandardScaler().fit_transform(x))
    assert np.bincount(usual.labels_).min() == 1
    assert fit_clusters(x, 5).sizes.min() > 100


def stained(n_slides=20, n=40, seed=0):
    """Two tissues told by column 0, on slides that differ more in columns 1 to 3 than tissues."""
    rng = np.random.default_rng(seed)
    tissue = rng.integers(0, 2, (n_slides, n))
    x = rng.normal(0, 0.3, (n_slides, n, 4))
    x[..., 0] += 2 * tissue
    x[..., 1:] += 3 * np.sign(rng.normal(size=(n_slides, 1, 3)))
    bags = {f"S{i:02d}": (f"P{i:02d}", one.astype("float32")) for i, one in enumerate(x)}
    return bags, tissue.ravel()


def test_what_differs_between_slides_makes_no_clusters(tmp_path):
    bags, tissue = stained()
    sample = sample_patches(open_patches(write_store(tmp_path, bags)))
    kind = tissue.reshape(20, 40)[[int(s[1:]) for s in sample.slide_id], sample.row]
    found = fit_clusters(sample, 2)
    assert adjusted_rand_score(kind, found.assign(sample.vectors)) == 1
    blind = fit_clusters(sample.vectors, 2)  # whose patches they are is not said
    assert adjusted_rand_score(kind, blind.assign(sample.vectors)) < 0.1
    assert (blind.within == 1).all()


def test_columns_count_by_their_variance_within_slides(drawn):
    sample = sample_patches(drawn[0])
    frame = pd.DataFrame(sample.vectors.astype("float64"))
    by = frame.groupby(sample.slide_id)
    within = ((by.size() - 1).to_numpy()[:, None] * by.var().to_numpy()).sum(axis=0)
    within /= len(frame) - by.ngroups
    found = fit_clusters(sample, 4)
    expected = np.minimum(1, within / frame.var(ddof=0))
    np.testing.assert_allclose(found.within, expected, rtol=1e-9)
    assert expected.min() < 1  # so that there is something to see
    z = normalize((frame - found.mean) / found.spread * expected)
    np.testing.assert_allclose(found.place(frame.to_numpy()), z, rtol=1e-9)


def test_slides_of_one_patch_say_nothing_of_what_is_within(tmp_path):
    rng = np.random.default_rng(0)
    bags = {
        f"S{i:02d}": (f"P{i:02d}", rng.normal(size=(1, 4)).astype("float32")) for i in range(30)
    }
    sample = sample_patches(open_patches(write_store(tmp_path, bags)))
    assert (fit_clusters(sample, 3).within == 1).all()


def test_the_mean_patch_has_no_direction():
    clusters = fit_clusters(blobs(), 5)
    assert clusters.assign(clusters.mean[None]) == np.square(clusters.centres).sum(axis=1).argmin()


def test_huge_vectors_have_a_cluster():
    clusters = fit_clusters(blobs(), 5)
    x = np.full((3, 8), 3e38, dtype="float32")
    x[1] = -x[1]
    x[2] = 0
    z = placed(x, clusters)
    expected = (np.square(clusters.centres).sum(1) - 2 * z @ clusters.centres.T).argmin(axis=1)
    assert clusters.assign(x).tolist() == expected.tolist()
    assert np.isfinite(clusters.distance(x)).all()


def test_the_same_bytes_on_any_number_of_threads():
    x = blobs(25_000, dim=40, k=12, spread=0.3)
    found = []
    for threads in (1, 2):
        with threadpool_limits(threads):
            clusters = fit_clusters(x, 12)
            found.append((clusters.centres.tobytes(), clusters.assign(x).tobytes()))
    assert found[0] == found[1]
    assert found[0][0] != fit_clusters(x, 12, seed=1).centres.tobytes()


def test_a_constant_column_counts_nowhere():
    x = np.insert(blobs(), 3, 0.1, axis=1)  # 0.1 is none of float32's: means of it are not exact
    with_it, without = fit_clusters(x, 5), fit_clusters(np.delete(x, 3, axis=1), 5)
    assert with_it.spread[3] == 0
    assert (with_it.centres[:, 3] == 0).all()
    np.testing.assert_allclose(np.delete(with_it.centres, 3, axis=1), without.centres, atol=1e-7)
    x[:, 3] = 1e6  # where it varies later on
    np.testing.assert_array_equal(with_it.assign(x), without.assign(np.delete(x, 3, axis=1)))


def test_too_few_patches():
    x = np.repeat(np.eye(3, dtype="float32"), 10, axis=0)
    assert fit_clusters(x, 3).sizes.tolist() == [10, 10, 10]
    with pytest.raises(DataError, match="4 clusters of 3 distinct patches: take fewer"):
        fit_clusters(x, 4)
    with pytest.raises(DataError, match="40 clusters of 3 distinct patches"):
        fit_clusters(x, 40)
    with pytest.raises(SchemaError, match="1 cluster: expected at least 2"):
        fit_clusters(x, 1)


def test_recommended_numbers_grow():
    found = [recommended_clusters(n) for n in range(1, 5000)]
    assert (np.diff(found) >= 0).all()
    assert (min(found), max(found)) == (10, 200)
