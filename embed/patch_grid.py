"""Lay a grid of patches over a slide, flat or in regions, and keep those on tissue."""

from dataclasses import dataclass

import numpy as np

REGION = np.dtype(
    [("x_um", "f8"), ("y_um", "f8"), ("columns", "i4"), ("rows", "i4"), ("tissue", "f4")]
)


@dataclass(frozen=True)
class PatchGrid:
    """The patches of a slide that are kept, in the order: region, then y, then x.

    Parameters
    ----------
    x_um, y_um : ndarray of float64, shape (n,)
        Upper left corners in micrometres from the slide's.
    size_um : float
        Side of a patch.
    patch_px : int
        Side of a patch as read.
    mpp : float
        Micrometres a pixel that a read really has.
    tissue : ndarray of float32, shape (n,)
        Share of the patch that is tissue.
    region : ndarray of int32, shape (n,)
        Row of ``regions``; -1 in a flat grid.
    position : ndarray of int32, shape (n,)
        Place of the patch among all patches, kept or not, of its region (in a flat grid: of the
        slide), row by row.
    n_all : int
        Number of patches before those off the tissue were dropped.
    regions : ndarray, optional
        Structured: ``x_um, y_um`` of the first patch, ``columns`` and ``rows`` in patches, and the
        share ``tissue``. A region is there when one of its patches is kept.
    """

    x_um: np.ndarray
    y_um: np.ndarray
    size_um: float
    patch_px: int
    mpp: float
    tissue: np.ndarray
    region: np.ndarray
    position: np.ndarray
    n_all: int
    regions: np.ndarray | None = None

    def __len__(self):
        """Count the patches that are kept."""
        return len(self.x_um)


def lay_grid(slide, mask, patch_px, mpp, min_tissue, region_patches=None):
    """Lay a grid over a slide and keep the patches on tissue.

    Parameters
    ----------
    slide : Slide
        Anything with ``width_px, height_px, mpp, pixel_mpp(mpp)``.
    mask : TissueMask
    patch_px : int
        Side of a patch.
    mpp : float
        Micrometres a pixel asked for.
    min_tissue : float
        Share of a patch that must be tissue, 0 to 1.
    region_patches : int, optional
        Patches along the side of a region. Regions tile the slide from its corner; one that reaches
        over the edge is cut, around its centre, to whole patches, as HIPT's authors do. Default: a
        flat grid from the slide's corner, whole patches only.

    Returns
    -------
    PatchGrid
    """
    real_mpp = slide.pixel_mpp(mpp)
    size_um = patch_px * real_mpp
    width, height = (
        int(side * slide.mpp / real_mpp + 1e-6) for side in (slide.width_px, slide.height_px)
    )
    areas = _area_table(mask.tissue)
    if region_patches is None:
        whole = np.array([(0, 0, width // patch_px, height // patch_px, 0)], dtype=REGION)
        x, y, region, position = _patches(whole, size_um)
    else:
        whole = _regions(width, height, patch_px, region_patches, real_mpp)
        x, y, region, position = _patches(whole, size_um)
    tissue = _share(areas, x, y, size_um, size_um, mask.mpp)
    kept = tissue >= min_tissue if min_tissue > 0 else np.ones(len(x), dtype=bool)
    regions = None
    if region_patches is None:
        region = np.full(len(x), -1, dtype=np.int32)
    else:
        used = np.unique(region[kept])
        regions = whole[used]
        sides = regions["columns"] * size_um, regions["rows"] * size_um
        regions["tissue"] = _share(areas, regions["x_um"], regions["y_um"], *sides, mask.mpp)
        region = np.searchsorted(used, region).astype(np.int32)
    return PatchGrid(
        x[kept],
        y[kept],
        float(size_um),
        int(patch_px),
        float(real_mpp),
        tissue[kept].astype(np.float32),
        region[kept],
        position[kept],
        len(x),
        regions,
    )


def _regions(width, height, patch_px, region_patches, mpp):
    """List regions with at least one whole patch, row by row; sizes in pixels of a read."""
    side = patch_px * region_patches
    columns = [_cut(x, min(side, width - x), patch_px) for x in range(0, width, side)]
    rows = [_cut(y, min(side, height - y), patch_px) for y in range(0, height, side)]
    return np.array(
        [
            (x * mpp, y * mpp, n_columns, n_rows, 0)
            for y, n_rows in rows
            for x, n_columns in columns
            if n_columns and n_rows
        ],
        dtype=REGION,
    )


def _cut(start, length, patch_px):
    """Cut a stretch around its centre to whole patches: (start, number of patches)."""
    n = length // patch_px
    return start + round((length - n * patch_px) / 2), n


def _patches(regions, size_um):
    """List all patches of regions: x_um, y_um, region, position in the region."""
    counts = regions["columns"] * regions["rows"]
    region = np.repeat(np.arange(len(regions)), counts)
    position = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    row, column = np.divmod(position, regions["columns"][region])
    x = regions["x_um"][region] + column * size_um
    y = regions["y_um"][region] + row * size_um
    return x, y, region, position.astype(np.int32)


def _area_table(mask):
    """Sum a mask over every rectangle from its corner: (h + 1, w + 1)."""
    table = np.zeros((mask.shape[0] + 1, mask.shape[1] + 1))
    np.cumsum(np.cumsum(mask, axis=0, dtype=float), axis=1, out=table[1:, 1:])
    return table


def _share(table, x_um, y_um, width_um, height_um, mpp):
    """Compute the share of rectangles that a mask covers, exactly: sums are linear in a pixel."""

    def corner(x, y):
        x = np.clip(np.asarray(x) / mpp, 0, table.shape[1] - 1)
        y = np.clip(np.asarray(y) / mpp, 0, table.shape[0] - 1)
        i = np.minimum(x.astype(int), table.shape[1] - 2)
        j = np.minimum(y.astype(int), table.shape[0] - 2)
        u, v = x - i, y - j
        upper = table[j, i] * (1 - u) + table[j, i + 1] * u
        lower = table[j + 1, i] * (1 - u) + table[j + 1, i + 1] * u
        return upper * (1 - v) + lower * v

    right, bottom = x_um + width_um, y_um + height_um
    covered = corner(right, bottom) - corner(x_um, bottom) - corner(right, y_um)
    covered += corner(x_um, y_um)
    return np.clip(covered * mpp**2 / (width_um * height_um), 0, 1)
