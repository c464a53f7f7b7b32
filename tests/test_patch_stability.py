"""How much of a clustering is found again: by brute force, and where the truth is known."""

from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from tabular_trainers.patch_clusters import fit_clusters
from tabular_trainers.patch_sample import sample_patches
from tabular_trainers.patch_stability import jaccard_index, stability
from tabular_trainers.patch_store import open_patches
from tests.patch_stores import tissue_bags, write_store


def sample_of(folder, bags):
    return sample_patches(open_patches(write_store(folder, bags)))


def test_jaccard_by_sets():
    rng = np.random.default_rng(0)
    labels, others = rng.integers(0, 6, 300), rng.integers(0, 6, 300)
    labels[labels == 4] = 3  # one is empty

    def sets(values):
        return [set(np.flatnonzero(values == i)) for i in range(6)]

    expected = [
        max(len(a & b) / len(a | b) if a | b else 0 for b in sets(others)) for a in sets(labels)
    ]
    np.testing.assert_allclose(jaccard_index(labels, others, 6), expected)
    assert expected[4] == 0
    np.testing.assert_array_equal(jaccard_index(labels, 5 - labels, 6), np.arange(6) != 4)


def test_kinds_of_tissue_are_found_again(tmp_path):
    sample = sample_of(tmp_path, tissue_bags(n_patients=30, k=4)[0])
    found = stability(sample, fit_clusters(sample, 4), n_resamples=5)
    np.testing.assert_array_equal(found.rand, 1)
    assert found.clusters["cluster"].tolist() == ["c01", "c02", "c03", "c04"]
    assert (found.clusters[["jaccard_mean", "jaccard_lower"]] == 1).all(axis=None)
    assert (found.clusters["dissolved"] == 0).all()


def test_clusters_of_noise_are_not(tmp_path):
    rng = np.random.default_rng(0)
    bags = {f"S{i}": (f"P{i}", rng.normal(size=(30, 6)).astype("float32")) for i in range(30)}
    sample = sample_of(tmp_path, bags)
    found = stability(sample, fit_clusters(sample, 12), n_resamples=5)
    assert found.rand.max() < 0.7
    assert found.clusters["jaccard_mean"].max() < 0.75


def test_a_cluster_of_one_patient_is_not_there_where_it_is_not_drawn(tmp_path):
    bags, _ = tissue_bags(n_patients=20, k=3)
    bags["P001-1"] = "P001", np.full((40, 6), 500, dtype="float32") + bags["P001-1"][1]
    sample = sample_of(tmp_path, bags)
    clusters = fit_clusters(sample, 4)
    own = clusters.names[clusters.assign(bags["P001-1"][1])[0]]
    found = stability(sample, clusters, n_resamples=20).clusters.set_index("cluster")
    rng = np.random.default_rng(0)
    rng.permutation(800)  # what the sample of 800 patches is cut with
    drawn = [0 in rng.integers(0, 20, 20) for _ in range(20)]
    assert found.loc[own, "dissolved"] == pytest.approx(1 - np.mean(drawn))
    assert found.loc[own, "jaccard_mean"] == pytest.approx(np.mean(drawn))


def test_only_the_drawn_are_clustered_as_often_as_drawn(tmp_path):
    rng = np.random.default_rng(3)
    bags = {f"S{i}": (f"P{i}", rng.normal(size=(20, 4)).astype("float32")) for i in range(9)}
    sample = sample_of(tmp_path, bags)
    clusters = fit_clusters(sample, 5)
    found = stability(sample, clusters, n_resamples=3)
    rng = np.random.default_rng(0)
    rng.permutation(180)
    for number in range(3):
        drawn = [f"P{i}" for i in rng.integers(0, 9, 9)]
        often = [drawn.count(patient) for patient in sample.patient_id]
        rows = [row for row, times in enumerate(often) for _ in range(times)]
        again = SimpleNamespace(vectors=sample.vectors[rows], slide_id=sample.slide_id[rows])
        resampled = fit_clusters(again, 5, seed=1 + number)
        some = sample.vectors[np.isin(sample.patient_id, drawn)]
        expected = adjusted_rand_score(clusters.assign(some), resampled.assign(some))
        assert found.rand[number] == pytest.approx(expected)


def test_the_seed_decides(tmp_path):
    rng = np.random.default_rng(0)
    bags = {f"S{i}": (f"P{i}", rng.normal(size=(20, 4)).astype("float32")) for i in range(20)}
    sample = sample_of(tmp_path, bags)
    clusters = fit_clusters(sample, 6)
    said = []
    first, again, other = (
        stability(sample, clusters, 3, seed, lambda *words: said.append(words)).rand
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert said[:3] == [(i, 3, f"resample {i}") for i in (1, 2, 3)]
