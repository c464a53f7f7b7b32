"""One pass over a store, held against the same counts taken from all patches at once."""

import numpy as np
import pandas as pd
import pytest
from sklearn.preprocessing import normalize

from tabular_trainers import SchemaError
from tabular_trainers.patch_clusters import Clusters, fit_clusters
from tabular_trainers.patch_prevalence import prevalence
from tabular_trainers.patch_sample import sample_patches
from tabular_trainers.patch_store import open_patches
from tabular_trainers.patch_survey import survey
from tests.patch_stores import tissue_bags, write_store


@pytest.fixture
def drawn(tmp_path):
    """Give patients with one slide and with two, their clusters, and one row a patch."""
    bags, _ = tissue_bags(n_patients=12)
    more, _ = tissue_bags(n_patients=4, n_slides=3, n_patches=25, seed=1)
    bags |= more
    rng = np.random.default_rng(0)
    quality = {
        slide: {name: rng.random(len(v)).astype("float32") for name in ("blur", "artefact")}
        for slide, (_, v) in bags.items()
    }
    patches = open_patches(write_store(tmp_path, bags, quality))
    clusters = fit_clusters(sample_patches(patches), 5)
    parts = []
    for slide, (patient, vectors) in bags.items():
        part = patches.frame(slide).assign(slide_id=slide, patient_id=patient)
        part["row"] = np.arange(len(vectors))
        z = (vectors.astype("float64") - clusters.mean) / clusters.spread
        z = normalize(clusters.within * z)
        far = np.linalg.norm(z[:, None] - clusters.centres, axis=2)
        part["cluster"] = np.array(clusters.names)[far.argmin(axis=1)]
        part["distance"] = far.min(axis=1)
        parts.append(part)
    return patches, clusters, pd.concat(parts, ignore_index=True)


def test_counts_and_quality(drawn):
    patches, clusters, rows = drawn
    found = survey(patches, clusters)
    grouped = rows.groupby("cluster")
    quality = found.quality.set_index("cluster")
    assert list(quality.index) == clusters.names
    assert quality["n_patches"].to_dict() == grouped.size().to_dict()
    assert quality["n_patients"].to_dict() == grouped["patient_id"].nunique().to_dict()
    for name in ("blur", "artefact"):
        np.testing.assert_allclose(quality[name], grouped[name].mean(), rtol=1e-6)
    for slide, labels in found.labels.items():
        assert labels.dtype == np.int16
        own = rows[rows["slide_id"] == slide]
        assert [clusters.names[label] for label in labels] == own["cluster"].tolist()


@pytest.mark.parametrize("by", ["slide", "patch"])
def test_prevalence_is_that_of_a_pass_of_its_own(drawn, by):
    patches, clusters, rows = drawn
    found = survey(patches, clusters, by=by)
    expected = prevalence(patches, clusters, by)
    pd.testing.assert_frame_equal(found.prevalence, expected, check_exact=True)
    slides = pd.crosstab(rows["slide_id"], rows["cluster"], normalize="index")
    pd.testing.assert_frame_equal(found.slide_prevalence, slides, check_names=False)
    assert found.slide_prevalence.index.name == "slide_id"


def test_the_nearest_are_the_nearest_of_different_patients(drawn):
    patches, clusters, rows = drawn
    examples = survey(patches, clusters, n_examples=3).examples
    for name in clusters.names:
        own = rows[rows["cluster"] == name].sort_values("distance")
        expected = own.drop_duplicates("patient_id").head(3)
        found = examples.query("cluster == @name and kind == 'nearest'")
        for column in ("slide_id", "patient_id", "row", "x_um", "y_um", "size_um"):
            assert found[column].tolist() == expected[column].tolist()
        np.testing.assert_allclose(found["distance"], expected["distance"], rtol=1e-9)


def test_random_ones_are_others_of_different_patients(drawn):
    patches, clusters, rows = drawn
    examples = survey(patches, clusters, n_examples=3).examples
    place = ["slide_id", "row"]
    assert not examples.duplicated(place).any()
    known = examples.merge(rows, on=place, suffixes=("", "_of_it"), validate="one_to_one")
    assert len(known) == len(examples) == 5 * 6
    assert (known["cluster"] == known["cluster_of_it"]).all()
    assert examples.groupby(["cluster", "kind"])["patient_id"].nunique().eq(3).all()
    other = survey(patches, clusters, n_examples=3, seed=1).examples
    same = other["kind"] == "nearest"
    pd.testing.assert_frame_equal(examples[same], other[same])
    assert not examples[~same].equals(other[~same])


def test_few_patients_give_several_examples(tmp_path):
    # The centre lies along the first column; each patch is turned from it by an angle.
    angles = {"S1": ("P1", [0.5, 0.4, 0.3, 0.2, 0.1]), "S2": ("P2", [0.9])}
    bags = {
        slide: (patient, np.column_stack([np.cos(a), np.sin(a)]).astype("float32"))
        for slide, (patient, a) in angles.items()
    }
    patches = open_patches(write_store(tmp_path, bags))
    clusters = Clusters(np.array([[1.0, 0], [-1, 0]]), np.zeros(2), np.ones(2), np.array([6, 0]))
    examples = survey(patches, clusters, n_examples=4).examples
    nearest = examples[examples["kind"] == "nearest"]
    # first one of each patient, then more of P1
    chords = 2 * np.sin(np.array([0.1, 0.2, 0.3, 0.9]) / 2)
    assert sorted(nearest["distance"]) == pytest.approx(chords, abs=1e-6)
    random = examples[examples["kind"] == "random"]
    assert sorted(random["distance"]) == pytest.approx(2 * np.sin([0.2, 0.25]), abs=1e-6)
    assert set(examples["cluster"]) == {"c01"}


def test_an_empty_cluster_has_no_quality(tmp_path):
    bags, _ = tissue_bags(n_patients=2)
    patches = open_patches(write_store(tmp_path, bags))
    clusters = Clusters(
        np.array([[0.0] * 6, [1e6] * 6]), np.zeros(6), np.ones(6), np.array([80, 0])
    )
    quality = survey(patches, clusters).quality
    assert quality["n_patches"].tolist() == [80, 0]
    assert quality["blur"].isna().tolist() == [False, True]


def test_random_ones_are_drawn_evenly(tmp_path):
    # One cluster; P1 has 70 patches, P2 has 30: the first drawn is of P2 in 30% of the seeds.
    bags = {
        "S1": ("P1", np.zeros((70, 1), dtype="float32")),
        "S2": ("P2", np.zeros((30, 1), dtype="float32")),
    }
    patches = open_patches(write_store(tmp_path, bags))
    clusters = Clusters(np.array([[0.0], [9.0]]), np.zeros(1), np.ones(1), np.array([100, 0]))
    first = [
        survey(patches, clusters, 1, seed).examples.query("kind == 'random'")["patient_id"].iloc[0]
        for seed in range(80)
    ]
    # binomial with p = 0.3: three standard errors are 0.154, and 0.5 would be a patient's turn
    assert abs(np.mean(np.array(first) == "P2") - 0.3) < 0.154


def test_some_patients_only(drawn):
    patches, clusters, rows = drawn
    found = survey(patches, clusters, patients=["P003", "P001"])
    own = rows[rows["patient_id"].isin(["P001", "P003"])]
    assert found.prevalence.index.tolist() == ["P001", "P003"]
    assert found.quality["n_patches"].sum() == len(own)
    assert set(found.labels) == set(own["slide_id"])
    assert set(found.examples["patient_id"]) == {"P001", "P003"}


def test_what_cannot_be_surveyed(drawn):
    patches, clusters, _ = drawn
    with pytest.raises(SchemaError, match="unknown unit 'slides'"):
        survey(patches, clusters, by="slides")
