"""Patches drawn evenly over patients and slides, each patient's apart from who else is there."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tabular_trainers import DataError, SchemaError
from tabular_trainers.patch_sample import sample_patches, shared_out
from tabular_trainers.patch_store import open_patches
from tests.patch_stores import tissue_bags, write_store


def numbered(patient, start, n):
    return patient, np.arange(start, start + n, dtype="float32")[:, None].repeat(2, 1)


BAGS = {
    "S1": numbered("P1", 0, 1500),
    "S2": numbered("P1", 2000, 10),
    "S3": numbered("P2", 3000, 4),
    "S4": numbered("P3", 4000, 300),
}


@pytest.fixture
def patches(tmp_path):
    return open_patches(write_store(tmp_path, BAGS))


@given(
    st.lists(st.tuples(st.sampled_from("abcd"), st.integers(1, 30)), min_size=1, max_size=12),
    st.integers(1, 200),
)
@example([("a", 6), ("b", 13), ("c", 11)], 29)  # 6 + 12 + 11: one level is what a group has
def test_sharing_out_is_as_even_as_sizes_allow(members, n):
    groups, sizes = [m[0] for m in members], np.array([m[1] for m in members])
    counts = shared_out(sizes, groups, n)
    given_by = {g: sum(c for c, o in zip(counts, groups, strict=True) if o == g) for g in groups}
    held = {g: sum(s for s, o in zip(sizes, groups, strict=True) if o == g) for g in groups}
    assert (counts <= sizes).all()
    assert min(given_by.values()) >= 1
    assert sum(given_by.values()) <= max(n, len(held))
    most = max(given_by.values())
    for group, number in given_by.items():
        assert number in (most, held[group])
    if sum(held.values()) <= n:
        assert counts.tolist() == sizes.tolist()
    else:  # one more a group that has more would be too many
        more = sum(held[g] > number for g, number in given_by.items())
        assert sum(given_by.values()) + more > n
    for group in held:
        own = [(c, s) for c, s, o in zip(counts, sizes, groups, strict=True) if o == group]
        top = max(c for c, _ in own)
        assert all(c in (top, top - 1) or c == s for c, s in own)


def test_evenly_over_patients_then_slides(patches):
    # 64 of patients with 1510, 4 and 300: 30 + 4 + 30; P1's slides 20 + 10
    sample = sample_patches(patches, n=64)
    drawn = dict(zip(*np.unique(sample.slide_id, return_counts=True), strict=True))
    assert drawn == {"S1": 20, "S2": 10, "S3": 4, "S4": 30}
    for slide, (patient, vectors) in BAGS.items():
        own = sample.slide_id == slide
        assert set(sample.patient_id[own]) == {patient}
        rows = sample.row[own]
        assert (np.diff(rows) > 0).all()
        np.testing.assert_array_equal(sample.vectors[own], vectors[rows])
    assert sample.row[sample.slide_id == "S1"].max() > 1024  # not from the first block alone


def test_a_small_store_is_taken_whole(patches):
    sample = sample_patches(patches)
    np.testing.assert_array_equal(sample.vectors, np.concatenate([v for _, v in BAGS.values()]))


def test_rows_are_random_and_the_seed_s(patches):
    first, again, other = (sample_patches(patches, n=300, seed=s).row for s in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_rows_are_drawn_uniformly(tmp_path):
    bags = {f"S{i}": numbered(f"P{i}", 0, 10) for i in range(2000)}
    sample = sample_patches(open_patches(write_store(tmp_path, bags)), n=6000)
    share = np.bincount(sample.row) / 2000
    # binomial with p = 0.3: four standard errors are 0.041
    assert np.abs(share - 0.3).max() < 0.041


def test_nobody_else_decides_which_patches_of_a_patient(patches, tmp_path):
    together = sample_patches(patches, ["P1", "P3"], n=40)
    alone = sample_patches(patches, ["P3"], n=20)
    own = together.patient_id == "P3"
    np.testing.assert_array_equal(together.row[own], alone.row)
    assert set(together.patient_id) == {"P1", "P3"}
    poisoned = BAGS | {"S4": ("P3", np.full((300, 2), 1e30, dtype="float32"))}
    found = sample_patches(open_patches(write_store(tmp_path / "x", poisoned)), ["P1", "P3"], n=40)
    np.testing.assert_array_equal(found.row, together.row)
    np.testing.assert_array_equal(found.vectors[~own], together.vectors[~own])


def test_more_of_a_slide_are_the_same_and_others(patches):
    few, many = (set(sample_patches(patches, ["P3"], n=n).row) for n in (20, 50))
    assert few < many


def test_every_patient_gives_one_at_least(tmp_path):
    bags, _ = tissue_bags(n_patients=5)
    sample = sample_patches(open_patches(write_store(tmp_path, bags)), n=3)
    assert list(sample.patient_id) == [f"P{i:03d}" for i in range(1, 6)]


def test_progress_is_told(patches):
    said = []
    sample_patches(patches, n=10, progress=lambda *words: said.append(words))
    assert said[0] == (1, 4, "slide S1")
    assert said[-1][:2] == (4, 4)


def test_what_cannot_be_drawn(patches):
    with pytest.raises(DataError, match="1 patient without any patch in it: P9"):
        sample_patches(patches, ["P1", "P9"])
    with pytest.raises(SchemaError, match="n = 0"):
        sample_patches(patches, n=0)
