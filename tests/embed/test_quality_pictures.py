"""The pictures show what they say: kept patches, edges, ink, a true scale bar, every slide."""

import numpy as np
import pytest
from PIL import Image

from tabular_trainers.embed import quality_pictures
from tabular_trainers.embed.patch_grid import lay_grid
from tabular_trainers.embed.quality_pictures import draw_contact_sheet, draw_quality
from tabular_trainers.embed.tissue_mask import find_tissue
from tests.embed.drawn_slides import disc, draw_glass, stain

MPP = 8.0
BLUE, VERMILION, ORANGE, DARK = (0, 114, 178), (213, 94, 0), (230, 159, 0), (30, 30, 30)


class Sized:
    mpp = 0.5

    def __init__(self, thumbnail):
        self.height_px, self.width_px = (round(side * MPP / 0.5) for side in thumbnail.shape[:2])

    def pixel_mpp(self, mpp):
        return mpp


def drawn(shape=(300, 400), ink=True):
    image = stain(draw_glass(*shape), disc(shape, 150, 180, 90))
    if ink:
        image[140:152, 20:340] = (40, 70, 170)
        image[:, -12:] = 4
    mask = find_tissue(image, MPP)
    return image, mask, lay_grid(Sized(image), mask, 256, 0.5, 0.5)


def near(picture, colour, by=14):
    """Mark pixels of a colour; 256 colours of a PNG are not exact."""
    return (np.abs(picture.astype(int) - colour) <= by).all(axis=2)


def picture_of(path):
    with Image.open(path) as page:
        assert page.mode == "P"  # 256 colours, so that 200,000 slides need no terabyte
        box = tuple(map(int, page.info["picture"].split(",")))
        return np.asarray(page.convert("RGB").crop(box)), np.asarray(page.convert("RGB")), box


def test_kept_patches_are_outlined_where_they_are(tmp_path):
    image, mask, grid = drawn(ink=False)
    draw_quality(image, mask, grid, tmp_path / "S1.png")
    picture, _, _ = picture_of(tmp_path / "S1.png")
    scale = picture.shape[1] / image.shape[1]
    assert scale == 3.0
    lines = near(picture, BLUE)
    expected = np.zeros(lines.shape, dtype=bool)
    for x, y in zip(grid.x_um, grid.y_um, strict=True):
        x0, y0, x1, y1 = (round(v / MPP * scale) for v in (x, y, x + 128, y + 128))
        expected[y0 : y1 + 1, [x0, x1]] = True
        expected[[y0, y1], x0 : x1 + 1] = True
    found = lines[expected].mean()
    assert found > 0.97  # the edge of the tissue crosses some
    assert not lines[~expected].any()
    outside = picture[5:40, 5:200]
    assert (outside > 235).all()


def test_ink_and_borders_are_hatched_and_named(tmp_path):
    image, mask, grid = drawn()
    draw_quality(image, mask, grid, tmp_path / "S1.png")
    picture, page, box = picture_of(tmp_path / "S1.png")
    for part, colour in ((mask.pen, VERMILION), (mask.border, ORANGE)):
        where = part.repeat(3, axis=0).repeat(3, axis=1)
        hatched = near(picture, colour)
        assert 0.15 < hatched[where].mean() < 0.5
        assert hatched[~where].mean() < 0.001
        assert near(page[: box[1]], colour).any()  # its key in the legend
    clean = drawn(ink=False)
    draw_quality(*clean, tmp_path / "S2.png")
    _, page, _ = picture_of(tmp_path / "S2.png")
    assert not near(page, ORANGE).any()


def test_the_edge_of_tissue_is_drawn(tmp_path):
    image, mask, grid = drawn(ink=False)
    draw_quality(image, mask, grid, tmp_path / "S1.png")
    picture, _, _ = picture_of(tmp_path / "S1.png")
    inside = mask.tissue.repeat(3, axis=0).repeat(3, axis=1)
    padded = np.pad(inside, 1, mode="edge")
    four = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    edge = inside & ~four
    assert near(picture, DARK, 20)[edge].mean() > 0.95


@pytest.mark.parametrize(
    ("size", "bar_um"), [((300, 400), 500), ((60, 80), 200), ((3000, 30), 1000)]
)
def test_the_scale_bar_has_the_length_it_says(tmp_path, monkeypatch, size, bar_um):
    said = []
    monkeypatch.setattr(
        quality_pictures,
        "round_length",
        lambda length, real=quality_pictures.round_length: said.append(real(length)) or said[-1],
    )
    image = draw_glass(*size)
    mask = find_tissue(image, MPP)
    draw_quality(image, mask, lay_grid(Sized(image), mask, 256, 0.5, 0.5), tmp_path / "S1.png")
    _, page, box = picture_of(tmp_path / "S1.png")
    um_a_px = size[1] * MPP / (box[2] - box[0])
    bar = near(page[None, box[3] + 14], DARK, 20).sum()
    assert said == [bar_um]
    assert bar * um_a_px == pytest.approx(bar_um, abs=0.51 * um_a_px)


def words_of(monkeypatch, draw):
    """Give what is written on a page, by noting it where Pillow is asked to write."""
    from PIL import ImageDraw

    written = []
    real = ImageDraw.ImageDraw.text
    monkeypatch.setattr(
        ImageDraw.ImageDraw,
        "text",
        lambda self, place, text, *rest: written.append(text) or real(self, place, text, *rest),
    )
    draw()
    return written


def test_counts_are_written(tmp_path, monkeypatch):
    image, mask, grid = drawn(ink=False)
    written = words_of(monkeypatch, lambda: draw_quality(image, mask, grid, tmp_path / "P-1.png"))
    share = 100 * np.pi * 90**2 / (300 * 400)
    assert written[0] == "P-1"
    assert written[1] == f"{len(grid)} patches kept of 450; 256 px = 128 um (0.5 um a pixel)"
    assert written[2].startswith(f"tissue {share:.0f}".rstrip("."))
    assert written[3:5] == ["kept patch", "edge of tissue"]
    assert written[5] == "500 um"


def test_a_slide_without_patches_has_a_picture_too(tmp_path):
    image = draw_glass(100, 130)
    mask = find_tissue(image, MPP)
    draw_quality(image, mask, lay_grid(Sized(image), mask, 256, 0.5, 0.5), tmp_path / "S1.png")
    assert (tmp_path / "S1.png").stat().st_size > 1000


def test_a_large_slide_gives_a_small_picture(tmp_path):
    image = np.tile(drawn(ink=False)[0], (6, 6, 1))
    mask = find_tissue(image, MPP)
    draw_quality(image, mask, lay_grid(Sized(image), mask, 256, 0.5, 0.5), tmp_path / "S1.png")
    picture, _, _ = picture_of(tmp_path / "S1.png")
    assert max(picture.shape) == 1200
    assert [path.name for path in tmp_path.iterdir()] == ["S1.png"]


def test_a_contact_sheet_has_every_slide_with_its_count_and_status(tmp_path, monkeypatch):
    draw_quality(*drawn(ink=False), tmp_path / "S1.png")
    slides = [
        (f"S{i}", tmp_path / "S1.png" if i % 3 else None, i, "done" if i % 3 else "failed")
        for i in range(1, 35)
    ]
    sheets = []
    written = words_of(
        monkeypatch,
        lambda: sheets.extend(draw_contact_sheet(slides, tmp_path / "contact_sheet.png")),
    )
    assert [sheet.name for sheet in sheets] == ["contact_sheet.png", "contact_sheet_2.png"]
    assert written[0] == "34 slides, sheet 1 of 2"
    assert written[61] == "34 slides, sheet 2 of 2"
    for slide_id, _, n, status in slides:
        place = written.index(slide_id)
        assert written[place + 1] == f"{n} patch{'' if n == 1 else 'es'}, {status}"
    with Image.open(sheets[0]) as page:
        seen = np.asarray(page.convert("RGB"))
    # The first place has tissue in it, the third, a slide that failed, a cross on white.
    cell = seen[44:340, 16:306], seen[44:340, 616:906]
    purple = [(c[..., 1].astype(int) < c[..., 0] - 20).mean() for c in cell]
    assert purple[0] > 0.1
    assert near(cell[1], VERMILION).sum() > 900
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "S1.png",
        "contact_sheet.png",
        "contact_sheet_2.png",
    ]


def test_long_ids_are_cut_in_their_middle(tmp_path, monkeypatch):
    slide_id = "TCGA-XX-YYYY-01Z-00-DX1." + "0123456789" * 6
    written = words_of(
        monkeypatch,
        lambda: draw_contact_sheet([(slide_id, None, 0, "failed")], tmp_path / "sheet.png"),
    )
    first, last = written[1].split("…")
    assert slide_id.startswith(first)
    assert slide_id.endswith(last)
    assert len(first) > 5
    assert len(last) > 5


def test_a_cohort_without_slides_has_an_empty_sheet(tmp_path):
    assert draw_contact_sheet([], tmp_path / "sheet.png") == [tmp_path / "sheet.png"]
