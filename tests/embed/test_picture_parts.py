"""Words fit, scale bars are as long as they say, files are whole."""

import io

import numpy as np
import pytest
from PIL import Image, ImageDraw

from tabular_trainers.embed.picture_parts import (
    INK,
    Panel,
    as_image,
    draw_scale_bar,
    fit,
    font,
    lay_out,
    length_words,
    round_length,
    save_png,
    shrink_picture,
    wrap,
)


def test_lengths_are_round():
    lengths = [0.7, 1, 1.9, 2, 4.99, 5, 9.9, 10, 730, 2000]
    expected = [0.5, 1, 1, 2, 2, 5, 5, 10, 500, 2000]
    assert [round_length(v) for v in lengths] == pytest.approx(expected)
    assert [length_words(v) for v in (0.5, 20, 500, 1000, 5000)] == [
        *("0.5 µm", "20 µm", "500 µm"),
        *("1 mm", "5 mm"),
    ]


@pytest.mark.parametrize("px_um", [0.25, 1.73, 31.4])
def test_a_scale_bar_has_the_length_it_says(px_um):
    page = Image.new("RGB", (600, 40), "white")
    bar_px, bar_um = draw_scale_bar(ImageDraw.Draw(page), 10, 10, px_um, 300)
    row = (np.asarray(page)[12] == INK).all(axis=1)
    drawn = np.flatnonzero(~row[10:])[0]
    assert drawn == bar_px <= 300
    assert bar_px * px_um == pytest.approx(bar_um, abs=0.51 * px_um)


def test_words_are_cut_in_their_middle_or_broken_to_a_width():
    slide_id = "TCGA-XX-YYYY-01Z-00-DX1." + "0123456789" * 6
    short = fit(slide_id, font(15), 200)
    first, last = short.split("…")
    assert font(15).getlength(short) <= 200
    assert slide_id.startswith(first)
    assert slide_id.endswith(last)
    assert min(len(first), len(last)) > 5
    assert fit("S1", font(15), 200) == "S1"
    lines = wrap(f"one two three four five six seven eight {slide_id}", font(15), 120)
    assert " ".join(lines[:-1]) == "one two three four five six seven eight"
    assert all(font(15).getlength(line) <= 120 for line in lines)


def test_a_page_holds_its_panels_with_their_pixels(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (50, 80, 3), dtype=np.uint8)
    panel = Panel("tissue", as_image(pixels), 2.0)
    page = lay_out("A title", ["a line"], [[panel, panel], [Panel("", as_image(pixels))]], 400)
    save_png(page, tmp_path / "page.png")
    assert [path.name for path in tmp_path.iterdir()] == ["page.png"]
    with Image.open(tmp_path / "page.png") as image:
        seen = np.asarray(image.convert("RGB"))
    found = [
        (x, y)
        for y in range(seen.shape[0] - 50)
        for x in (24, 124)
        if (seen[y : y + 50, x : x + 80] == pixels).all()
    ]
    assert [x for x, _ in found] == [24, 124, 24]


def test_a_thumbnail_is_a_small_jpeg_of_the_same_shape(tmp_path):
    save_png(Image.new("RGB", (1400, 700), (200, 80, 40)), tmp_path / "page.png")
    with Image.open(io.BytesIO(shrink_picture(tmp_path / "page.png"))) as small:
        assert (small.format, small.size) == ("JPEG", (480, 240))
        assert np.abs(np.asarray(small)[100, 100].astype(int) - (200, 80, 40)).max() < 4
