"""Montages show the very pixels of each patch, and say which slides are not there."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tabular_trainers.embed.cluster_looks import Look
from tabular_trainers.embed.montages import (
    ClusterPicture,
    cut_patches,
    draw_montage,
    draw_side_by_side,
)
from tabular_trainers.embed.slide_files import SlideFiles
from tests.embed.drawn_slides import shrink
from tests.embed.small_slides import write_slide
from tests.embed.written_words import misplaced, watch_words

LOOK = Look("c01", "c01", (230, 159, 0))


@pytest.fixture
def slides(tmp_path):
    paths = {
        name: str(write_slide(tmp_path / f"{name}.tiff", seed=i)) for i, name in enumerate("ab")
    }
    facts = dict.fromkeys("abc", (0.5, 1536, 1024))
    return SlideFiles(paths, ("c",), facts)


@pytest.fixture
def examples():
    return pd.DataFrame(
        {
            "kind": ["nearest", "nearest", "random", "random"],
            "slide_id": ["b", "a", "c", "b"],
            "x_um": [128.0, 256.0, 128.0, 384.0],
            "y_um": [128.0, 192.0, 128.0, 256.0],
            "size_um": 128.0,
        },
        index=[7, 3, 9, 1],
    )


def test_patches_are_cut_where_they_are(slides, examples):
    told = []
    images, failures = cut_patches(examples, slides, 128, lambda *words: told.append(words))
    assert failures == {"c": "slide c: its file was not found."}
    assert images[2] is None
    assert told == [(1, 3, "a"), (2, 3, "b"), (3, 3, "c")]
    for position, name, left, top in ((0, "b", 256, 256), (1, "a", 512, 384), (3, "b", 768, 512)):
        with Image.open(slides.paths[name]) as image:
            expected = np.asarray(image.convert("RGB"))[top : top + 256, left : left + 256]
        expected = shrink(expected, 128, 128).astype(int)  # by matrix products
        assert np.abs(images[position] - expected).max() <= 1


def test_a_coarse_slide_is_enlarged(slides, examples):
    images, _ = cut_patches(examples.iloc[:1], slides, 512)
    assert images[0].shape == (512, 512, 3)


def test_montages_hold_their_patches(slides, examples, tmp_path):
    images, _ = cut_patches(examples, slides)
    picture = ClusterPicture("c01", ("in 2 of 3 patients",), images, examples, LOOK)
    draw_montage(picture, tmp_path / "montage.png")
    draw_side_by_side([picture], [picture], tmp_path / "both.png", title="Clusters")
    with Image.open(tmp_path / "montage.png") as page:
        seen = np.asarray(page.convert("RGB"))
    found = [(seen[y : y + 160, 24:184] == images[0]).all() for y in range(40, seen.shape[0] - 160)]
    assert sum(found) == 1
    assert (tmp_path / "both.png").stat().st_size > 10_000


def test_an_empty_side_says_so_and_long_facts_are_broken(slides, examples, tmp_path, monkeypatch):
    written = watch_words(monkeypatch)
    images, _ = cut_patches(examples, slides)
    facts = (
        "Hazard ratio a standard deviation 0.71 (0.60 to 0.84), adjusted for clinical values. " * 2
    )
    picture = ClusterPicture("c01, " + "stroma " * 30, (facts,), images, examples, LOOK)
    draw_side_by_side([], [picture, picture], tmp_path / "both.png", title="Clusters")
    draw_montage(picture, tmp_path / "montage.png")
    assert misplaced(written) == []
    said = [words for words, *_ in written]
    assert said.count("none") == 1
    assert said.count("slide not there") == 1
    assert " ".join(said[4:6]) == facts.strip()


def test_side_by_side_shows_those_nearest_first(slides, examples, tmp_path):
    images = [np.full((160, 160, 3), shade, dtype=np.uint8) for shade in (10, 20, 30, 40)]
    picture = ClusterPicture("c01", (), images, examples.iloc[[2, 0, 3, 1]], LOOK)
    draw_side_by_side([picture], [], tmp_path / "both.png", title="Clusters")
    with Image.open(tmp_path / "both.png") as page:
        seen = np.asarray(page.convert("RGB"))
    row = next(row for row in seen if (row[24:184] == 20).all())
    assert [int(row[24 + 168 * place, 0]) for place in range(4)] == [20, 40, 10, 30]
