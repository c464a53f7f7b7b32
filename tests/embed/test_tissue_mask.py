"""Tissue on drawn slides: what is found is held against what was drawn."""

import numpy as np
import pytest
from scipy import ndimage

from tabular_trainers import SchemaError
from tabular_trainers.embed.slide_reading import open_slide
from tabular_trainers.embed.tissue_mask import TissueOptions, find_tissue
from tests.embed.drawn_slides import GLASS, disc, draw_glass, overlap, stain

MPP = 8.0
SHAPE = (300, 400)
TISSUE = disc(SHAPE, 150, 180, 90) | disc(SHAPE, 120, 290, 50)
ROWS, COLUMNS = np.indices(SHAPE, sparse=True)
STROKE = (np.abs(ROWS - 40 - 0.3 * COLUMNS) < 6) & (COLUMNS > 60) & (COLUMNS < 350)


def draw(strength=1.0, glass=GLASS, seed=0):
    return stain(draw_glass(*SHAPE, glass, seed), TISSUE, strength, seed)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("strength", [1.5, 1.0, 0.5, 0.25, 0.1])
@pytest.mark.parametrize("glass", [GLASS, (255, 255, 255), (235, 230, 215), (210, 212, 220)])
def test_tissue_is_found_also_where_the_stain_is_faint_and_the_glass_tinted(strength, glass, seed):
    mask = find_tissue(draw(strength, glass, seed), MPP)
    assert overlap(mask.tissue, TISSUE) > 0.95
    assert not mask.pen.any()
    assert not mask.border.any()
    assert 0.03 <= mask.threshold <= 0.12


@pytest.mark.parametrize("glass", [GLASS, (255, 255, 255), (235, 230, 215)])
def test_empty_glass_has_no_tissue(glass):
    assert not find_tissue(draw_glass(*SHAPE, glass), MPP).tissue.any()
    assert not find_tissue(np.full((*SHAPE, 3), glass, dtype=np.uint8), MPP).tissue.any()


@pytest.mark.parametrize("strength", [1.5, 1.0, 0.5, 0.25])
def test_a_slide_that_is_all_tissue_is_not_cut_in_two(strength):
    everywhere = stain(draw_glass(*SHAPE), np.ones(SHAPE, dtype=bool), strength)
    assert find_tissue(everywhere, MPP).tissue.mean() > 0.98


@pytest.mark.parametrize("share", [0.02, 0.9])
def test_little_and_much_tissue(share):
    # A core needle biopsy, 2% of the slide; and a section that leaves 10% of glass.
    where = np.zeros(SHAPE, dtype=bool)
    where[140 : 140 + round(300 * share * 1.2), 10 : 10 + round(400 / 1.2)] = True
    image = stain(draw_glass(*SHAPE), where, 0.7)
    assert overlap(find_tissue(image, MPP).tissue, where) > 0.9


@pytest.mark.parametrize(
    "ink",
    [(40, 70, 170), (90, 140, 220), (30, 120, 70), (20, 70, 50), (35, 35, 40)],
    ids=["blue", "light blue", "green", "dark green", "black"],
)
def test_pen_marks_are_left_out_on_glass_and_over_tissue(ink):
    image = draw()
    image[STROKE] = np.rint(0.75 * np.array(ink) + 0.25 * image[STROKE])
    mask = find_tissue(image, MPP)
    assert mask.pen[STROKE].mean() > 0.99
    away = ndimage.distance_transform_edt(~STROKE)
    assert not mask.pen[away > 7].any()  # the margin, 48 um, is 6 pixels
    assert mask.pen[away <= 5].mean() > 0.99
    assert not (mask.tissue & mask.pen).any()
    assert overlap(mask.tissue, TISSUE & ~mask.pen) > 0.98


def test_ink_stays_where_that_is_asked_for():
    image = draw()
    image[STROKE] = (40, 70, 170)
    mask = find_tissue(image, MPP, TissueOptions(leave_out_ink=False))
    assert not mask.pen.any()
    assert mask.tissue[STROKE].mean() > 0.9


def test_nuclei_are_no_ink():
    # Haematoxylin alone, as dense as lymph nodes at this size, and darker.
    for amount in (0.5, 1.0, 1.5):
        colour = np.rint(243 * np.exp(-amount * np.array((0.65, 0.70, 0.29))))
        image = draw()
        image[disc(SHAPE, 150, 180, 60)] = colour
        mask = find_tissue(image, MPP)
        assert not mask.pen.any()
        assert overlap(mask.tissue, TISSUE) > 0.98


def test_black_borders_are_left_out():
    image = draw()
    image[:, :25] = (5, 5, 6)
    image[-20:] = (12, 10, 12)
    mask = find_tissue(image, MPP)
    black = (COLUMNS < 25) | (ROWS >= SHAPE[0] - 20)
    assert mask.border[black].all()
    assert mask.border.mean() < black.mean() + 0.05  # the margin
    assert not mask.pen.any()
    assert overlap(mask.tissue, TISSUE) > 0.98


def test_small_holes_are_filled_and_large_ones_stay():
    image = draw()
    small, large = disc(SHAPE, 110, 180, 5), disc(SHAPE, 190, 180, 25)  # 5,000 and 125,000 um2
    image[small | large] = GLASS
    mask = find_tissue(image, MPP)
    assert mask.tissue[small].all()
    assert not mask.tissue[disc(SHAPE, 190, 180, 23)].any()
    every = find_tissue(image, MPP, TissueOptions(max_hole_um2=200_000.0))
    assert every.tissue[large].all()
    none = find_tissue(image, MPP, TissueOptions(max_hole_um2=0.0))
    assert not none.tissue[disc(SHAPE, 110, 180, 3)].any()


def test_a_ring_of_ink_is_no_tissue_and_what_it_encircles_is_no_hole():
    image = draw_glass(*SHAPE)
    ring = disc(SHAPE, 150, 180, 20) & ~disc(SHAPE, 150, 180, 14)
    image[ring] = (30, 60, 160)
    mask = find_tissue(image, MPP)
    assert not mask.tissue.any()


def test_specks_are_dropped():
    image = draw()
    image[10:16, 10:16] = (180, 60, 150)  # 48 by 48 um
    mask = find_tissue(image, MPP)
    assert not mask.tissue[:25, :25].any()
    kept = find_tissue(image, MPP, TissueOptions(min_tissue_um2=0.0))
    assert kept.tissue[10:16, 10:16].all()


def test_fat_is_kept_where_its_cells_are_closed():
    image = draw()
    cells = (ROWS % 9 > 1) & (COLUMNS % 9 > 1) & disc(SHAPE, 150, 180, 60)
    image[cells] = draw_glass(*SHAPE, seed=3)[cells]  # 56 um of glass between 16 um of tissue
    assert overlap(find_tissue(image, MPP).tissue, TISSUE) > 0.95


def test_the_same_tissue_is_found_at_another_resolution():
    fine = find_tissue(draw(), MPP).tissue
    doubled = find_tissue(draw().repeat(2, axis=0).repeat(2, axis=1), MPP / 2).tissue
    assert overlap(doubled[::2, ::2], fine) > 0.98


def test_the_real_slide(real_data):
    with open_slide(real_data("wsi") / "CMU-1-Small-Region.svs") as slide:
        mask = find_tissue(slide.thumbnail(MPP), MPP)
    # Looked at: a tongue of skin from top to bottom, right of it a flap; a third of the picture.
    assert 0.3 < mask.tissue.mean() < 0.42
    assert mask.tissue[120:180, 52:72].all()
    assert not mask.tissue[:60, :40].any()
    assert not mask.tissue[:60, 105:].any()
    assert not mask.border.any()


def test_options_come_from_a_file(tmp_path):
    path = tmp_path / "tissue.toml"
    path.write_text("[tissue]\nmin_tissue = 0.25\nleave_out_ink = false\nthumbnail_mpp = 4\n")
    assert TissueOptions.from_toml(path) == TissueOptions(
        min_tissue=0.25, leave_out_ink=False, thumbnail_mpp=4
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[tissue]\nmin_tisue = 0.5\n", "unknown key 'min_tisue'; known: .* 'min_tissue'?"),
        ("[tisue]\nmin_tissue = 0.5\n", "(?s)unknown table 'tisue'.*no table .tissue."),
        ("[tissue]\nmin_tissue = 1.5\n", "tissue.min_tissue: 1.5; expected a number from 0 to 1"),
        ("[tissue]\nmin_tissue = true\n", "tissue.min_tissue: True; expected a number from 0"),
        ("[tissue]\nmin_tissue = nan\n", "tissue.min_tissue: nan; expected a number from 0"),
        ("[tissue]\nthumbnail_mpp = 0\n", "tissue.thumbnail_mpp: 0; expected a number above 0"),
        ("[tissue]\nmax_hole_um2 = -1\n", "tissue.max_hole_um2: -1; expected a number 0 or more"),
        ("[tissue]\nleave_out_ink = 1\n", "tissue.leave_out_ink: 1; expected true or false"),
        ("[tissue]\nmin_saturation = 0.5\n", "min_saturation is larger than"),
        ("[tissue\n", "tissue.toml: not a TOML file"),
    ],
)
def test_wrong_options_are_named(tmp_path, text, message):
    path = tmp_path / "tissue.toml"
    path.write_text(text)
    with pytest.raises(SchemaError, match=message):
        TissueOptions.from_toml(path)


def test_all_wrong_options_come_at_once():
    with pytest.raises(SchemaError, match=r"(?s)2 problems.*min_tissue: 2.*smoothing_um: 'x'"):
        TissueOptions(min_tissue=2, smoothing_um="x")


def test_a_missing_file_of_options_is_named(tmp_path):
    with pytest.raises(SchemaError, match=r"tissue.toml: no such file"):
        TissueOptions.from_toml(tmp_path / "tissue.toml")
