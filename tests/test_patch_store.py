"""A store as the core reads it: whose patches there are, and everything that is wrong with it."""

import pickle

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from tabular_trainers import DataError, SchemaError
from tabular_trainers.patch_store import open_patches
from tests.patch_stores import write_patches, write_store


def bag(patient, n, dim=3, dtype="float32", seed=0):
    return patient, np.random.default_rng(seed).normal(size=(n, dim)).astype(dtype)


@pytest.fixture
def bags():
    return {
        "S3": bag("P1", 5, seed=1),
        "S1": bag("P2", 2100, seed=2),
        "S2": bag("P1", 1, seed=3),
        "S4": bag("P3", 0),
    }


def test_slides_of_a_store(tmp_path, bags):
    patches = open_patches(write_store(tmp_path, bags, feature_names='["a", "b", "c"]'))
    assert patches.slides[["slide_id", "patient_id", "n_patches"]].to_numpy().tolist() == [
        ["S2", "P1", 1],
        ["S3", "P1", 5],
        ["S1", "P2", 2100],
    ]
    assert list(patches.patients) == ["P1", "P2"]
    assert (patches.dim, patches.dtype, patches.n_patches) == (3, "float32", 2106)
    assert (patches.encoder_id, patches.pretrained_on) == ("drawn-1", ())
    assert patches.feature_names == ("a", "b", "c")
    assert patches.options == {"patch_px": 256, "mpp": 0.5}


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("plain", [True, False])  # as embed slides writes vectors, or not
def test_vectors_are_what_was_stored(tmp_path, dtype, plain):
    bags = {"S1": bag("P1", 2100, dtype=dtype)}
    patches = open_patches(write_store(tmp_path, bags))
    if plain:
        file = tmp_path / "patch" / "S1.parquet"
        layout = {"compression": "none", "use_dictionary": False, "row_group_size": 1024}
        pq.write_table(pq.read_table(file, partitioning=None), file, **layout)
    blocks = list(patches.iterate("S1"))
    assert [len(block) for block in blocks] == [1024, 1024, 52]
    found = patches.vectors("S1")
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, bags["S1"][1].astype("float32"))
    np.testing.assert_array_equal(np.concatenate(blocks), found)


def test_where_patches_lie(tmp_path):
    blur = np.linspace(0, 1, 12)
    patches = open_patches(
        write_store(tmp_path, {"S1": bag("P1", 12)}, quality={"S1": {"blur": blur}})
    )
    frame = patches.frame("S1")
    assert list(frame) == ["x_um", "y_um", "size_um", "tissue", "blur", "artefact"]
    assert frame[["x_um", "y_um"]].iloc[11].tolist() == [128, 128]
    np.testing.assert_array_equal(frame["blur"], blur.astype("float32"))


def test_an_open_store_goes_to_other_processes(tmp_path, bags):
    patches = open_patches(write_store(tmp_path, bags))
    sent = pickle.dumps(patches)
    assert len(sent) < 10_000
    again = pickle.loads(sent)
    pd.testing.assert_frame_equal(again.slides, patches.slides)
    np.testing.assert_array_equal(again.vectors("S3"), bags["S3"][1])


def test_the_hash_tells_patients_sizes_and_encoder(tmp_path, bags):
    def hashed(name, bags, **facts):
        return open_patches(write_store(tmp_path / name, bags, **facts)).source_hash

    (tmp_path / "elsewhere").mkdir()
    first = hashed("a", bags)
    assert hashed("elsewhere/a", bags) == first
    assert hashed("b", bags | {"S2": bag("P9", 1)}) != first
    assert hashed("c", bags | {"S2": bag("P1", 2)}) != first
    assert hashed("d", bags, encoder_id="drawn-2") != first
    assert hashed("e", bags, options='{"patch_px": 224}') != first


def test_all_problems_come_in_one_message(tmp_path, bags):
    store = write_store(tmp_path, bags | {"S5": bag("P5", 4), "S6": bag("P6", 4)})
    (store / "patch" / "S1.parquet").unlink()
    (store / "patch" / "S2.parquet").write_bytes(b"PAR1")
    write_patches(store / "patch" / "S3.parquet", "S3", *bag("P9", 5))
    write_patches(store / "patch" / "S5.parquet", "S5", *bag("P5", 3))
    write_patches(store / "patch" / "S6.parquet", "S6", *bag("P6", 4), schema="regions")
    with pytest.raises(SchemaError) as error:
        open_patches(store)
    for words in (
        "patch/S1.parquet: no such file",
        "patch/S2.parquet: not a whole Parquet file",
        "patch/S3.parquet: 5 patches of slide S3, patient P9; slides.parquet says 5 of slide S3, "
        "patient P1",
        "patch/S5.parquet: 3 patches of slide S5",
        "patch/S6.parquet: a Parquet file, but not the patches",
    ):
        assert words in str(error.value)


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"encoder_id": "drawn-2"}, "encoder drawn-2, not drawn-1"),
        ({"options": '{"mpp": 1.0}'}, 'options {"mpp": 1.0}, not {"mpp": 0.5, "patch_px": 256}'),
        ({"dim": 4}, "dimensions 4, not 3"),
        ({"dtype": "float16"}, "type float16, not float32"),
    ],
)
def test_slides_that_were_not_made_alike(tmp_path, bags, other, words):
    store = write_store(tmp_path, bags)
    shape = {key: other.pop(key) for key in ("dim", "dtype") if key in other}
    write_patches(store / "patch" / "S3.parquet", "S3", *bag("P1", 5, **shape), **other)
    with pytest.raises(SchemaError, match="not all slides were made alike") as error:
        open_patches(store)
    assert f"Unlike 2 slides: 1 slide (S3): {words}." in str(error.value)


def test_what_is_no_store(tmp_path, bags):
    with pytest.raises(SchemaError, match="no slides.parquet.*embed slides"):
        open_patches(tmp_path)
    with pytest.raises(DataError, match="no slide has a patch; failures.parquet says why"):
        open_patches(write_store(tmp_path, {"S4": bags["S4"]}))


def test_names_that_are_not_there(tmp_path, bags):
    patches = open_patches(write_store(tmp_path, bags))
    with pytest.raises(SchemaError, match="unknown slide 's3'.*Did you mean 'S3'"):
        patches.vectors("s3")
    (tmp_path / "patch" / "S3.parquet").unlink()
    with pytest.raises(SchemaError, match="patch/S3.parquet: no such file"):
        patches.frame("S3")
    with pytest.raises(DataError, match="1 patient without any patch in it: P3"):
        patches.slides_of(["P1", "P3"])


def test_vectors_that_are_not_finite(tmp_path):
    vectors = np.ones((3, 2), dtype="float32")
    vectors[1, 1] = np.nan
    patches = open_patches(write_store(tmp_path, {"S1": ("P1", vectors)}))
    with pytest.raises(SchemaError, match="patch/S1.parquet: vectors that are not finite"):
        patches.vectors("S1")
