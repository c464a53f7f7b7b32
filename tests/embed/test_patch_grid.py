"""Where patches lie and how much of each is tissue, against counting one by one."""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tabular_trainers.embed.patch_grid import lay_grid
from tabular_trainers.embed.slide_reading import open_slide
from tabular_trainers.embed.tissue_mask import TissueMask
from tests.embed.drawn_slides import average, noise, write_pyramid


@dataclass
class Sized:
    """A slide of which only the size is known, and whose reads are exact."""

    width_px: int
    height_px: int
    mpp: float

    def pixel_mpp(self, mpp):
        return mpp


def mask_of(tissue, mpp):
    none = np.zeros_like(tissue)
    return TissueMask(tissue, none, none, mpp, 0.1)


def random_mask(seed, shape=(60, 90)):
    return np.random.default_rng(seed).random(shape) < 0.5


def share_by_counting(tissue, mpp, x_um, y_um, width_um, height_um):
    """Add up what each pixel of the mask shares with a rectangle."""

    def shared(start, length, n_pixels):
        edges = mpp * np.arange(n_pixels + 1)
        return np.maximum(np.minimum(start + length, edges[1:]) - np.maximum(start, edges[:-1]), 0)

    down, across = shared(y_um, height_um, len(tissue)), shared(x_um, width_um, tissue.shape[1])
    return down @ tissue.astype(float) @ across / (width_um * height_um)


def test_a_flat_grid_goes_row_by_row_from_the_corner():
    slide = Sized(1000, 700, 0.5)  # 500 by 350 um
    grid = lay_grid(slide, mask_of(np.ones((88, 125), dtype=bool), 4.0), 100, 1.0, 0.5)
    assert grid.size_um == 100
    assert grid.x_um.tolist() == [0, 100, 200, 300, 400] * 3  # 50 um below are left over
    assert grid.y_um.tolist() == [0] * 5 + [100] * 5 + [200] * 5
    assert grid.position.tolist() == list(range(15))
    assert grid.n_all == len(grid) == 15
    assert set(grid.region) == {-1}
    assert grid.regions is None
    assert grid.tissue.tolist() == [1.0] * 15
    assert grid.tissue.dtype == np.float32
    assert grid.region.dtype == grid.position.dtype == np.int32


@pytest.mark.parametrize(("patch_px", "mpp"), [(64, 0.5), (50, 0.7), (37, 1.3)])
def test_shares_of_tissue_are_exact(patch_px, mpp):
    tissue = random_mask(1)
    slide = Sized(1400, 940, 0.5)  # 700 by 470 um, a mask of 720 by 480
    grid = lay_grid(slide, mask_of(tissue, 8.0), patch_px, mpp, 0.0)
    side = patch_px * mpp
    expected = [
        share_by_counting(tissue, 8.0, x, y, side, side)
        for x, y in zip(grid.x_um, grid.y_um, strict=True)
    ]
    assert len(grid) == grid.n_all == int(700 / side) * int(470 / side)
    np.testing.assert_allclose(grid.tissue, expected, atol=1e-6)


def test_only_patches_on_tissue_are_kept():
    tissue = random_mask(2)
    slide = Sized(1400, 940, 0.5)
    every = lay_grid(slide, mask_of(tissue, 8.0), 64, 0.5, 0.0)
    grid = lay_grid(slide, mask_of(tissue, 8.0), 64, 0.5, 0.5)
    kept = every.tissue >= 0.5
    assert 0 < kept.sum() < len(every)
    np.testing.assert_array_equal(grid.x_um, every.x_um[kept])
    np.testing.assert_array_equal(grid.y_um, every.y_um[kept])
    np.testing.assert_array_equal(grid.position, np.flatnonzero(kept))
    assert grid.n_all == len(every)


def test_a_patch_is_as_large_as_its_pixels_really_are(tmp_path):
    image = noise(300, 400)
    path = write_pyramid(tmp_path / "S1.tiff", image, 0.499)
    with open_slide(path) as slide:
        mask = mask_of(np.ones((19, 25), dtype=bool), 8.0)
        grid = lay_grid(slide, mask, 32, 0.5, 0.5)
        assert grid.size_um == pytest.approx(32 * 0.499)
        assert grid.mpp == pytest.approx(0.499)
        # The grid goes in steps of 32 pixels of the file, so reads are the file's own pixels.
        patches = slide.read_many(grid.x_um, grid.y_um, grid.patch_px, grid.mpp)
    expected = [
        image[32 * row : 32 * row + 32, 32 * column : 32 * column + 32]
        for row in range(9)
        for column in range(12)
    ]
    np.testing.assert_array_equal(patches, expected)


def test_regions_at_the_border_are_cut_around_their_centre():
    # 1000 x 700 pixels of 1 um, patches of 100, regions of 3 by 3 patches. Regions start at
    # x 0, 300, 600, 900 and y 0, 300, 600; the last column and row hold one patch, which fits.
    whole = mask_of(np.ones((70, 100), dtype=bool), 10.0)
    grid = lay_grid(Sized(1000, 700, 1.0), whole, 100, 1.0, 0.5, region_patches=3)
    assert grid.regions["columns"].tolist() == [3, 3, 3, 1] * 3
    assert grid.regions["rows"].tolist() == [3] * 8 + [1] * 4
    assert grid.regions["x_um"].tolist() == [0, 300, 600, 900] * 3
    # 50 pixels more leave 50 over in the last column: half of them before the patch.
    grid = lay_grid(Sized(1050, 790, 1.0), whole, 100, 1.0, 0.0, region_patches=3)
    assert grid.regions["x_um"].tolist() == [0, 300, 600, 925] * 3
    assert grid.regions["y_um"].tolist() == [0] * 4 + [300] * 4 + [645] * 4
    # Less than a patch over: no region there.
    grid = lay_grid(Sized(950, 690, 1.0), whole, 100, 1.0, 0.0, region_patches=3)
    assert grid.regions["x_um"].tolist() == [0, 300, 600] * 2
    assert grid.regions["columns"].tolist() == [3, 3, 3] * 2


def test_patches_of_regions_come_region_by_region_with_their_place_in_it():
    tissue = random_mask(3, (47, 70))
    slide = Sized(1400, 940, 0.5)
    grid = lay_grid(slide, mask_of(tissue, 10.0), 64, 0.5, 0.55, region_patches=4)
    expected, regions = [], []
    for top in range(0, 940, 256):
        for left in range(0, 1400, 256):
            columns, rows = min(256, 1400 - left) // 64, min(256, 940 - top) // 64
            x0 = left + round((min(256, 1400 - left) - 64 * columns) / 2)
            y0 = top + round((min(256, 940 - top) - 64 * rows) / 2)
            inside = []
            for position in range(columns * rows):
                x, y = x0 + 64 * (position % columns), y0 + 64 * (position // columns)
                share = share_by_counting(tissue, 10.0, x / 2, y / 2, 32, 32)
                if share >= 0.55:
                    inside.append((len(regions), position, x / 2, y / 2, share))
            if inside:
                size = 32 * columns, 32 * rows
                share = share_by_counting(tissue, 10.0, x0 / 2, y0 / 2, *size)
                regions.append((x0 / 2, y0 / 2, columns, rows, share))
                expected += inside
    got = zip(grid.region, grid.position, grid.x_um, grid.y_um, grid.tissue, strict=True)
    np.testing.assert_allclose([*got], expected, atol=1e-5)
    np.testing.assert_allclose([tuple(region) for region in grid.regions], regions, atol=1e-5)
    assert 0 < len(grid) < grid.n_all


def test_a_slide_without_tissue_or_smaller_than_a_patch_has_no_patches():
    none = mask_of(np.zeros((70, 100), dtype=bool), 10.0)
    for region_patches in (None, 3):
        grid = lay_grid(Sized(1000, 700, 1.0), none, 100, 1.0, 0.5, region_patches)
        assert (len(grid), grid.n_all) == (0, 70)
        tiny = lay_grid(Sized(90, 700, 1.0), none, 100, 1.0, 0.0, region_patches)
        assert (len(tiny), tiny.n_all) == (0, 0)
        assert tiny.x_um.dtype == float
    assert len(grid.regions) == 0


@settings(max_examples=60)
@given(
    width=st.integers(1, 900),
    height=st.integers(1, 900),
    patch_px=st.integers(30, 120),
    mpp=st.floats(0.5, 2.0),
    region_patches=st.one_of(st.none(), st.integers(1, 5)),
)
def test_patches_lie_on_the_slide_and_do_not_overlap(width, height, patch_px, mpp, region_patches):
    slide = Sized(width, height, 0.5)
    mask = mask_of(np.ones((height // 16 + 1, width // 16 + 1), dtype=bool), 8.0)
    grid = lay_grid(slide, mask, patch_px, mpp, 0.5, region_patches)
    assert (grid.x_um >= 0).all()
    assert (grid.y_um >= 0).all()
    assert (grid.x_um + grid.size_um <= width * 0.5 + 1e-3).all()
    assert (grid.y_um + grid.size_um <= height * 0.5 + 1e-3).all()
    apart = np.maximum(
        np.abs(grid.x_um[:, None] - grid.x_um), np.abs(grid.y_um[:, None] - grid.y_um)
    )
    np.fill_diagonal(apart, np.inf)
    if len(grid):
        assert apart.min() >= grid.size_um * (1 - 1e-9)


def test_the_drawn_average_is_what_it_says():
    # The reference of these tests, by hand: (10 + 20) / 2, and half of it white outside.
    image = np.full((1, 2, 3), 0, dtype=np.uint8)
    image[0, :, 0] = (10, 20)
    assert average(image, 0, 0, 1, 1, 2)[0, 0, 0] == (10 + 20 + 255 + 255) / 4
