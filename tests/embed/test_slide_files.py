"""The slides of a store are found again: where they were, or where they are now."""

import pandas as pd
import pytest

from tabular_trainers.embed.slide_files import find_slides
from tabular_trainers.errors import SchemaError
from tests.embed.small_slides import write_slide


@pytest.fixture
def store(tmp_path):
    """A store's list of three slides that lie beside it, the last without patches."""
    folder = tmp_path / "cohort"
    (folder / "slides").mkdir(parents=True)
    for number, name in enumerate(("a", "b", "c")):
        write_slide(folder / "slides" / f"{name}.tiff", seed=number)
    store = folder / "store"
    store.mkdir()
    pd.DataFrame(
        {
            "slide_id": ["S1", "S2", "S3"],
            "patient_id": ["P1", "P1", "P2"],
            "path": ["slides/a.tiff", str(folder / "slides" / "b.tiff"), "slides/c.tiff"],
            "mpp": 0.5,
            "width_px": 1536,
            "height_px": 1024,
            "n_patches": [4, 5, 0],
            "status": "done",
        }
    ).to_parquet(store / "slides.parquet")
    return store


def test_relative_paths_are_found_from_the_folders_above_the_store(store):
    found = find_slides(store)
    assert set(found.paths) == {"S1", "S2"}
    assert found.missing == ()
    assert "S1" in found
    assert "S3" not in found
    assert found.words() == "2 of 2 slides found"
    with found.open("S1") as slide:
        assert (slide.mpp, slide.width_px) == (0.5, 1536)


def test_slides_that_moved_are_found_by_their_id_or_file_name(store, tmp_path):
    moved = tmp_path / "moved"
    (store.parent / "slides").rename(moved)
    found = find_slides(store)
    assert found.missing == ("S1", "S2")
    assert found.words() == "0 of 2 slides found; not found: S1, S2"
    with pytest.raises(SchemaError, match="slide S1: its file was not found"), found.open("S1"):
        pass
    assert find_slides(store, moved).paths["S1"] == str(moved / "a.tiff")
    (moved / "a.tiff").rename(moved / "S1.tiff")
    found = find_slides(store, moved)
    assert found.paths == {"S1": str(moved / "S1.tiff"), "S2": str(moved / "b.tiff")}


def test_another_slide_under_the_same_name_is_refused(store):
    write_slide(store.parent / "slides" / "a.tiff", width=2048)
    found = find_slides(store)
    with pytest.raises(SchemaError, match="2,048 x 1,024 pixels.* 1,536 x 1,024; it is another"):
        with found.open("S1"):
            pass


def test_a_slide_has_the_resolution_that_the_store_was_made_with(store):
    table = pd.read_parquet(store / "slides.parquet")
    table.assign(mpp=0.25).to_parquet(store / "slides.parquet")
    with find_slides(store).open("S1") as slide:
        assert slide.mpp == 0.25  # the file says 0.5
