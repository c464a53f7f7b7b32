"""Shares of clusters a patient: by hand, and untouched by what others hold."""

import numpy as np
import pandas as pd
import pytest

from tabular_trainers import SchemaError
from tabular_trainers.patch_clusters import fit_clusters
from tabular_trainers.patch_matching import match_clusters
from tabular_trainers.patch_prevalence import prevalence, shares
from tabular_trainers.patch_sample import sample_patches
from tabular_trainers.patch_store import open_patches
from tests.patch_stores import tissue_bags, write_store


@pytest.fixture
def drawn(tmp_path):
    bags, kinds = tissue_bags(n_slides=2)
    return open_patches(write_store(tmp_path, bags)), kinds


def test_shares_by_hand():
    counts = pd.DataFrame({"c01": [3, 0, 1], "c02": [1, 4, 3]})
    # P2 has slides 3:1 and 1:3. By slide (0.75 + 0.25) / 2; by patch 4 of 8. P1: 0 of 4.
    found = shares(counts, ["P2", "P1", "P2"])
    assert found.loc["P2"].tolist() == [0.5, 0.5]
    assert found.loc["P1"].tolist() == [0, 1]
    counts = pd.DataFrame({"c01": [3, 0], "c02": [1, 12]})
    assert shares(counts, ["P1", "P1"]).loc["P1", "c01"] == 0.375  # (0.75 + 0) / 2
    assert shares(counts, ["P1", "P1"], "patch").loc["P1", "c01"] == 3 / 16
    with pytest.raises(SchemaError, match="unknown unit 'patient'"):
        shares(counts, ["P1", "P1"], "patient")


@pytest.mark.parametrize("by", ["slide", "patch"])
def test_prevalence_counts_patches(tmp_path, by):
    bags, _ = tissue_bags(n_patients=6, n_slides=1)
    more, _ = tissue_bags(n_patients=4, n_slides=2, n_patches=15, seed=1)
    patches = open_patches(write_store(tmp_path, bags | more))
    clusters = fit_clusters(sample_patches(patches), 3)
    found = prevalence(patches, clusters, by)
    rows = [
        (patient, slide, clusters.names[label])
        for slide, (patient, vectors) in (bags | more).items()
        for label in clusters.assign(vectors)
    ]
    long = pd.DataFrame(rows, columns=["patient_id", "slide", "cluster"])
    unit = ["patient_id", "slide"] if by == "slide" else ["patient_id"]
    expected = long.groupby(unit)["cluster"].value_counts(normalize=True).unstack(fill_value=0)
    expected = expected.groupby("patient_id").mean()[clusters.names]
    pd.testing.assert_frame_equal(found, expected, check_names=False, atol=1e-14)
    assert np.abs(found.sum(axis=1) - 1).max() < 1e-12
    some = prevalence(patches, clusters, by, patients=["P005", "P002"])
    pd.testing.assert_frame_equal(some, found.loc[["P002", "P005"]])


def test_clusters_of_another_encoder(drawn, tmp_path):
    patches, _ = drawn
    clusters = fit_clusters(sample_patches(patches), 3)
    bags, _ = tissue_bags(dim=7)
    other = open_patches(write_store(tmp_path / "wide", bags))
    with pytest.raises(SchemaError, match="vectors of 7 columns; these clusters are of 6"):
        prevalence(other, clusters)
    bags, _ = tissue_bags()
    other = open_patches(write_store(tmp_path / "other", bags, encoder_id="drawn-2"))
    with pytest.raises(SchemaError, match="encoder drawn-2; these clusters are of .* drawn-1"):
        prevalence(other, clusters)
    with pytest.raises(SchemaError, match="two encoders"):
        match_clusters(clusters, fit_clusters(sample_patches(other), 3))
    with pytest.raises(SchemaError, match=r"shape \(2,\)"):
        clusters.assign(np.zeros(2))


def test_what_others_hold_changes_nothing(tmp_path):
    bags, _ = tissue_bags(n_patients=10)
    train = [f"P{i:03d}" for i in range(1, 8)]
    found = []
    for name, bag in (("clean", None), ("poisoned", np.full((40, 6), 1e30, dtype="float32"))):
        held_out = {"P009-1": ("P009", bag)} if bag is not None else {}
        patches = open_patches(write_store(tmp_path / name, bags | held_out))
        clusters = fit_clusters(sample_patches(patches, train, n=100), 4)
        others = prevalence(patches, clusters, patients=[*train, "P008", "P010"])
        found.append((clusters, others))
    for part in ("centres", "mean", "spread", "sizes"):
        assert getattr(found[0][0], part).tobytes() == getattr(found[1][0], part).tobytes()
    pd.testing.assert_frame_equal(found[0][1], found[1][1], check_exact=True)
