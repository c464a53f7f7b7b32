"""A store: what is written is read back, and nothing is taken for whole that is not."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tabular_trainers import SchemaError
from tabular_trainers.embed import store as stores

RECIPE = stores.Recipe("stain-1", {"patch_px": 256, "tissue": {"pen": True}}, (), ("a", "b", "c"))


def facts(slide_id="S1", **changed):
    known = {
        "slide_id": slide_id,
        "patient_id": "P1",
        "path": "slides/S1.svs",
        "mpp": 0.499,
        "width_px": 2220,
        "height_px": 2967,
        "source_bytes": 1938955,
    }
    return stores.SlideFacts(**known | changed)


def columns(n):
    place = np.arange(n, dtype=float) * 128
    share = np.linspace(0, 1, n, dtype=np.float32)
    return {
        "x_um": place,
        "y_um": place[::-1],
        "size_um": np.full(n, 128.0),
        "tissue": share,
        "blur": share,
        "artefact": share[::-1],
    }


def write(folder, n=5, slide=None, recipe=RECIPE, dtype=np.float32, dim=3):
    vectors = np.random.default_rng(0).normal(size=(n, dim)).astype(dtype)
    stored = stores.write_slide(folder, columns(n), vectors, recipe, slide or facts())
    return stored, vectors


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("n", [1, stores.ROW_GROUP, 2 * stores.ROW_GROUP + 3])
def test_what_is_written_is_read(tmp_path, n, dtype):
    stored, vectors = write(tmp_path, n, dtype=dtype)
    assert stored.file == tmp_path / "patch" / "S1.parquet"
    assert stores.describe_slide(stored.file) == stored
    frame, found = stores.read_slide(stored.file)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, vectors)
    assert list(frame) == ["slide_id", *columns(0)]
    assert set(frame["slide_id"]) == {"S1"}
    for name, values in columns(n).items():
        np.testing.assert_array_equal(frame[name], values)
        assert frame[name].dtype == values.dtype
    parts = list(stores.iterate_vectors(stored.file))
    assert max(map(len, parts)) <= stores.ROW_GROUP
    np.testing.assert_array_equal(np.concatenate(parts), vectors)


def test_another_reader_reads_it(tmp_path):
    stored, vectors = write(tmp_path, 1500, dtype=np.float16)
    file = pq.ParquetFile(stored.file)
    assert file.schema_arrow.field("embedding").type.list_size == 3
    assert file.schema_arrow.field("embedding").type.value_type == pa.float16()
    sizes = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
    assert sizes == [1024, 476]
    found = np.array(file.read().column("embedding").to_pylist(), dtype=np.float16)
    np.testing.assert_array_equal(found, vectors)


def test_a_file_says_where_it_comes_from(tmp_path):
    stored, _ = write(tmp_path, slide=facts(given_mpp=0.499))
    metadata = pq.read_schema(stored.file).metadata
    found = {k.decode(): v.decode() for k, v in metadata.items()}
    assert found == {
        "schema": "patches",
        "schema_version": "1",
        "package_version": found["package_version"],
        "encoder_id": "stain-1",
        "pretrained_on": "[]",
        "feature_names": '["a", "b", "c"]',
        "options": '{"patch_px": 256, "tissue": {"pen": true}}',
        "slide_id": "S1",
        "patient_id": "P1",
        "path": "slides/S1.svs",
        "slide_mpp": "0.499",
        "given_mpp": "0.499",
        "width_px": "2220",
        "height_px": "2967",
        "source_bytes": "1938955",
    }


def test_the_same_slide_gives_the_same_bytes(tmp_path):
    first = write(tmp_path / "a", 2000)[0].file.read_bytes()
    assert write(tmp_path / "b", 2000)[0].file.read_bytes() == first


@settings(max_examples=20, deadline=None)
@given(cut=st.floats(0, 0.999))
def test_a_cut_file_is_not_whole(cut, tmp_path_factory):
    folder = tmp_path_factory.mktemp("cut")
    stored, _ = write(folder, 40)
    content = stored.file.read_bytes()
    stored.file.write_bytes(content[: int(cut * len(content))])
    with pytest.raises(SchemaError, match=r"^S1.parquet: not a whole Parquet file\.$"):
        stores.describe_slide(stored.file)


def test_what_is_no_file_of_a_store(tmp_path):
    (tmp_path / "patch").mkdir()
    path = tmp_path / "patch" / "S1.parquet"
    with pytest.raises(SchemaError) as caught:
        stores.describe_slide(path)
    assert str(caught.value) == f"S1.parquet: no such file in {tmp_path / 'patch'}."
    pq.write_table(pa.table({"x": [1]}), path)
    with pytest.raises(SchemaError) as caught:
        stores.describe_slide(path)
    assert str(caught.value) == "S1.parquet: a Parquet file, but not the patches of a slide."
    stored, _ = write(tmp_path)
    with pytest.raises(SchemaError) as caught:
        stores.describe_slide(stored.file, "region")
    assert str(caught.value) == "S1.parquet: a Parquet file, but not the regions of a slide."


def test_wrong_columns_and_vectors_are_refused_together(tmp_path):
    wrong = columns(3) | {"tissue": np.array([0, 1.5, 1]), "blur": np.array([0, np.nan, 1])}
    vectors = np.array([[1, 2], [np.inf, 0], [0, 0]], np.float32)
    with pytest.raises(SchemaError) as caught:
        stores.write_slide(tmp_path, wrong, vectors, RECIPE, facts())
    assert str(caught.value) == (
        "3 problems:\n"
        "- patch/S1.parquet, column tissue: 1 of 3 rows not within 0 and 1.\n"
        "- patch/S1.parquet, column blur: 1 of 3 rows not within 0 and 1.\n"
        "- patch/S1.parquet, column embedding: not all values are finite."
    )
    with pytest.raises(SchemaError) as caught:
        stores.write_slide(tmp_path, {**columns(3), "z": 1}, vectors, RECIPE, facts())
    assert str(caught.value) == "patch/S1.parquet: column 'z' is missing or too many."
    with pytest.raises(SchemaError, match=r"float64 of shape \(3, 2\); expected float16 or"):
        stores.write_slide(tmp_path, columns(3), np.zeros((3, 2)), RECIPE, facts())
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_left_of_a_file_that_could_not_be_written(tmp_path, monkeypatch):
    write(tmp_path)
    before = (tmp_path / "patch" / "S1.parquet").read_bytes()

    def full(table, path, **options):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pq, "write_table", full)
    with pytest.raises(OSError, match="No space left"):
        write(tmp_path, 7)
    assert [entry.name for entry in (tmp_path / "patch").iterdir()] == ["S1.parquet"]
    assert (tmp_path / "patch" / "S1.parquet").read_bytes() == before


def test_regions_lie_beside_patches(tmp_path):
    write(tmp_path)
    regions = {
        "x_um": [0.0, 2048.0],
        "y_um": [0.0, 0.0],
        "width_um": [2048.0, 1024.0],
        "height_um": [2048.0, 2048.0],
        "tissue": [0.5, 1.0],
        "n_patches": [128, 64],
    }
    vectors = np.ones((2, 4), np.float16)
    stored = stores.write_slide(tmp_path, regions, vectors, RECIPE, facts(), "region")
    frame, found = stores.read_slide(stored.file, "region")
    assert stored.file == tmp_path / "region" / "S1.parquet"
    assert frame["n_patches"].tolist() == [128, 64]
    np.testing.assert_array_equal(found, vectors)


def test_a_store_is_opened(tmp_path):
    for slide_id in ("S2", "S10", "S1"):
        write(tmp_path, 4, facts(slide_id))
    store = stores.open_store(tmp_path)
    assert [stored.slide.slide_id for stored in store.slides] == ["S1", "S10", "S2"]
    assert (store.dim, store.dtype, store.recipe) == (3, "float32", RECIPE)


def test_a_store_of_two_makers_is_refused(tmp_path):
    write(tmp_path)
    other = stores.Recipe("stain-2", {"patch_px": 224, "tissue": {"pen": True}, "seed": 1})
    write(tmp_path, slide=facts("S2"), recipe=other)
    with pytest.raises(SchemaError) as caught:
        stores.open_store(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}: S2.parquet was not made like S1.parquet: encoder stain-2, not stain-1, "
        "patch_px 224, not 256, seed 1, not unset. Extract one of them again, into a store of its "
        "own."
    )
    write(tmp_path, slide=facts("S2"), dim=4)
    with pytest.raises(SchemaError, match="S1.parquet: 4 x float32, not 3 x float32"):
        stores.open_store(tmp_path)


def test_what_is_no_store(tmp_path):
    with pytest.raises(SchemaError) as caught:
        stores.open_store(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}: not a store with patches (no file in its folder patch). Make one with: "
        "tabular-trainers embed slides"
    )
    write(tmp_path)
    path = tmp_path / "patch" / "S1.parquet"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(SchemaError, match=r"^S1.parquet: not a whole Parquet file\.$"):
        stores.open_store(tmp_path)


def test_recipes_travel_as_json():
    again = json.loads(json.dumps(RECIPE.options, sort_keys=True))
    assert RECIPE.differences(stores.Recipe("stain-1", again)) == []
