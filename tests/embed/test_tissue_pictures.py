"""All pictures of a scene are drawn where the slides are, and what is not there is said."""

import base64
import io

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tabular_trainers.embed import tissue_pictures
from tabular_trainers.embed.tissue_pictures import TissuePictures, file_stem
from tabular_trainers.errors import SchemaError
from tabular_trainers.tables import write_table
from tabular_trainers.tissue_scene import CaseScene, Scene
from tests.embed.small_slides import write_slide

CLUSTERS = ("c01", "c02", "c03")
SLIDES = {"a": "P1", "b": "P1", "c": "P/2", "gone": "P3"}


@pytest.fixture
def store(tmp_path):
    """Write three slides and the list of a store that knows a fourth."""
    (tmp_path / "slides").mkdir()
    for number, slide in enumerate("abc"):
        write_slide(tmp_path / "slides" / f"{slide}.tiff", seed=number)
    rows = [
        {
            "slide_id": slide, "patient_id": patient, "path": f"slides/{slide}.tiff", "mpp": 0.5,
            "width_px": 1536, "height_px": 1024, "n_patches": 6, "status": "done",
            "encoder_id": "drawn",
        }
        for slide, patient in SLIDES.items()
    ]  # fmt: skip
    (tmp_path / "store").mkdir()
    write_table(pd.DataFrame(rows), "slides", tmp_path / "store" / "slides.parquet")
    return tmp_path / "store"


def make_scene(folder):
    """Describe three clusters and two cases, of whom one has two slides."""
    (folder / "patches").mkdir(parents=True)
    for slide in SLIDES:
        frame = pd.DataFrame(
            {
                "slide_id": slide, "row": range(6), "x_um": 128.0 + 64.0 * np.arange(6),
                "y_um": 192.0, "size_um": 64.0, "cluster": [*CLUSTERS, *CLUSTERS],
                "term": np.linspace(-1, 1, 6),
            }
        )  # fmt: skip
        write_table(frame, "tissue_patches", folder / "patches" / f"{slide}.parquet")
    examples = pd.DataFrame(
        {
            "cluster": ["c01", "c01", "c02", "c03"], "kind": ["nearest", "random"] * 2,
            "slide_id": ["a", "c", "b", "gone"], "x_um": 128.0, "y_um": 192.0, "size_um": 64.0,
        }
    )  # fmt: skip
    shares = pd.DataFrame({"c01": [0.5, 0.2], "stroma": [0.3, 0.3], "c03": [0.2, 0.5]})
    fields = {"clinical": (("age", "61"),), "times": None, "survival": None}
    cases = (
        CaseScene("P1", {"a": 6, "b": 6}, ("Risk 0.3.",), shares.loc[0], **fields),
        CaseScene("P/2", {"c": 6}, ("Risk 0.5.",), shares.loc[1], **fields),
        CaseScene("P3", {"gone": 6}, ("Risk 0.7.",), shares.loc[1], **fields),
    )
    return Scene(
        folder=folder, clusters=CLUSTERS, names={"c02": "stroma"}, order=("c02", "c01", "c03"),
        facts=dict.fromkeys(CLUSTERS, ("Median 10%",)), examples=examples, high=("c01",),
        low=("c02", "c03"), composition=shares, cases=cases, limit=1.0, unit="log hazard",
        terms_words="Exact.", time_unit="days",
    )  # fmt: skip


def test_everything_is_drawn_with_thumbnails_that_name_their_files(store, tmp_path):
    out = tmp_path / "out"
    pictures = TissuePictures(store)
    pictures.find()
    seen = []
    drawn = pictures.draw(make_scene(out), out, lambda *call: seen.append(call))
    assert seen[-1][0] == seen[-1][1] == len(seen)
    assert set(drawn["clusters"]) == {"c01", "c02"}  # of c03 there is no slide
    assert len(drawn["cases"]["P1"]["maps"]) == 4
    assert drawn["cases"]["P3"]["maps"] == []
    assert drawn["notes"] == ["Pictures: 3 of 4 slides found; not found: gone."]
    every = [*drawn["clusters"].values(), drawn["side_by_side"]]
    for case in drawn["cases"].values():
        every += [case["page"], *case["maps"]]
    written = {str(path.relative_to(out)) for path in out.rglob("*.png")}
    assert {picture["file"].replace("%25", "%") for picture in every} == written
    for picture in every:
        small = base64.b64decode(picture["source"].removeprefix("data:image/jpeg;base64,"))
        with Image.open(io.BytesIO(small)) as image:
            assert image.size == (picture["width"], picture["height"])
    assert drawn["looks"]["c02"]["colour"].startswith("#")


def test_slides_that_moved_are_found_by_their_ids(store, tmp_path):
    (tmp_path / "slides").rename(tmp_path / "elsewhere")
    pictures = TissuePictures(store)
    pictures.find()
    assert pictures.why_not.startswith("None of the 4 slides of the store was found")
    out = tmp_path / "out"
    drawn = pictures.draw(make_scene(out), out)
    assert (drawn["clusters"], drawn["cases"], drawn["side_by_side"]) == ({}, {}, None)
    moved = TissuePictures(store, tmp_path / "elsewhere")
    moved.find()
    assert moved.why_not is None
    with pytest.raises(SchemaError, match="nowhere"):
        TissuePictures(store, tmp_path / "nowhere").find()


def test_without_openslide_it_says_how_to_get_it(store, monkeypatch):
    def refuse(module):
        raise SchemaError(f"{module} cannot be imported")

    monkeypatch.setattr(tissue_pictures, "need", refuse)
    pictures = TissuePictures(store, "nowhere")
    pictures.find()
    assert pictures.why_not == "openslide cannot be imported"


def test_a_slide_that_cannot_be_read_is_said_and_the_rest_is_drawn(store, tmp_path):
    (tmp_path / "slides" / "c.tiff").write_bytes(b"no slide")
    pictures = TissuePictures(store)
    pictures.find()
    out = tmp_path / "out"
    drawn = pictures.draw(make_scene(out), out)
    assert "1 slide could not be read (c)" in drawn["notes"][1]
    assert drawn["cases"]["P/2"]["maps"] == []
    assert (out / "cases" / f"{file_stem('P/2')}.png").is_file()
