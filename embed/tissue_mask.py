"""Find tissue on a thumbnail: by saturation, without pen marks and black borders.

Glass is colourless and tissue is not, so saturation is cut by Otsu's threshold, held between two
bounds. Otsu parts two classes where there are two. On a slide that is all tissue or all glass there
are not, and he would cut through the middle of the one: where his classes explain too little of the
variance, the lower bound alone decides.
"""

import tomllib
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from tabular_trainers.errors import Problems, SchemaError, unknown_name

from .ink_colours import BLACK, INK, mark_ink
from .requirements import need

_GLASS_MIN = 200  # darker than this, or more coloured than the next, no glass is
_GLASS_COLOUR = 20
_GLASS_PINK = 8  # by which green may lie below red and blue: pink is pale tissue, not glass
_TWO_CLASSES = 0.75  # share of variance between Otsu's classes; cutting one normal class gives 0.64


@dataclass(frozen=True)
class TissueOptions:
    """What counts as tissue; the table ``[tissue]`` of a TOML file.

    Parameters
    ----------
    thumbnail_mpp : float, default 8.0
        Micrometres a pixel at which tissue is looked for.
    min_tissue : float, default 0.5
        Share of a patch that must be tissue for the patch to be kept.
    min_saturation : float, default 0.03
        Lower bound of Otsu's threshold, 0 to 1.
    max_saturation : float, default 0.12
        Upper bound of Otsu's threshold.
    smoothing_um : float, default 8.0
        Standard deviation by which the thumbnail is blurred before it is cut.
    min_tissue_um2 : float, default 40_000.0
        Smaller pieces of tissue are dropped; the default is 200 by 200 um.
    max_hole_um2 : float, default 16_000.0
        Holes up to this size, fat cells and lumens, are filled; the default is a patch of 128 um.
    leave_out_ink : bool, default True
        Whether blue, green and black pen marks are left out. Turn it off for stains that are blue
        or green.
    min_pen_um2 : float, default 20_000.0
        Smaller spots of ink colour are no pen mark.
    pen_margin_um : float, default 48.0
        How far around a pen mark, whose edge is faint, and a border tissue is left out.
    """

    thumbnail_mpp: float = 8.0
    min_tissue: float = 0.5
    min_saturation: float = 0.03
    max_saturation: float = 0.12
    smoothing_um: float = 8.0
    min_tissue_um2: float = 40_000.0
    max_hole_um2: float = 16_000.0
    leave_out_ink: bool = True
    min_pen_um2: float = 20_000.0
    pen_margin_um: float = 48.0

    def __post_init__(self):
        """Refuse values that have no meaning."""
        problems = Problems()
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type is bool:
                if not isinstance(value, bool):
                    problems.add(f"tissue.{field.name}: {value!r}; expected true or false.")
                continue
            number = isinstance(value, int | float) and not isinstance(value, bool)
            top = np.inf if field.name.endswith(("_um", "_um2", "_mpp")) else 1.0
            if not (number and 0 <= value <= top and np.isfinite(value)):
                limits = "0 or more" if top == np.inf else "from 0 to 1"
                problems.add(f"tissue.{field.name}: {value!r}; expected a number {limits}.")
            elif value == 0 and field.name == "thumbnail_mpp":
                problems.add(f"tissue.{field.name}: 0; expected a number above 0.")
        problems.raise_if_any()
        if self.min_saturation > self.max_saturation:
            raise SchemaError("tissue.min_saturation is larger than tissue.max_saturation.")

    @classmethod
    def from_toml(cls, path):
        """Read the table ``[tissue]`` of a TOML file.

        Raises
        ------
        SchemaError
            For a file that is not TOML, an unknown table or key, or a wrong value.
        """
        path = Path(path)
        if not path.is_file():
            raise SchemaError(f"{path.name}: no such file ({path}).")
        try:
            content = tomllib.loads(path.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise SchemaError(f"{path.name}: not a TOML file ({error}).") from error
        problems = Problems()
        for table in content:
            if table != "tissue":
                problems.add(f"{path.name}: {unknown_name('table', table, ['tissue'])}")
        table = content.get("tissue")
        if not isinstance(table, dict):
            problems.add(f"{path.name}: no table [tissue].")
            table = {}
        known = [field.name for field in fields(cls)]
        for key in table:
            if key not in known:
                problems.add(f"{path.name}, [tissue]: {unknown_name('key', key, known)}")
        problems.raise_if_any()
        return cls(**table)


@dataclass(frozen=True)
class TissueMask:
    """What is where on a thumbnail.

    Parameters
    ----------
    tissue, pen, border : ndarray of bool, shape (h, w)
        Tissue overlaps neither of the others.
    mpp : float
        Micrometres a pixel of the mask.
    threshold : float
        The saturation from which on a pixel is tissue.
    """

    tissue: np.ndarray
    pen: np.ndarray
    border: np.ndarray
    mpp: float
    threshold: float


def find_tissue(thumbnail, mpp, options=None):
    """Find tissue on a thumbnail.

    Parameters
    ----------
    thumbnail : ndarray of uint8, shape (h, w, 3)
        RGB, as ``Slide.thumbnail(mpp)`` gives it.
    mpp : float
        Micrometres a pixel of the thumbnail.
    options : TissueOptions, optional

    Returns
    -------
    TissueMask

    References
    ----------
    Otsu N. A threshold selection method from gray-level histograms. IEEE Transactions on Systems,
    Man, and Cybernetics 1979;9:62-66.
    """
    from scipy import ndimage

    options = options or TissueOptions()
    pen, border = _ink(thumbnail, mpp, options)
    left_out = pen | border
    saturation = _saturation(thumbnail, options.smoothing_um / mpp)
    threshold = _threshold(saturation[~left_out], options)
    tissue = (saturation > threshold) & ~left_out
    tissue = _drop_small(tissue, options.min_tissue_um2 / mpp**2)
    holes = ndimage.binary_fill_holes(tissue) & ~tissue
    tissue |= holes & ~_drop_small(holes, options.max_hole_um2 / mpp**2) & ~left_out
    return TissueMask(tissue, pen, border, float(mpp), float(threshold))


def _saturation(thumbnail, sigma):
    """Give the saturation (0 to 1) of a thumbnail as if its glass were white."""
    from scipy import ndimage

    smooth = [
        ndimage.gaussian_filter(thumbnail[..., channel], sigma, output=np.float32)
        for channel in range(3)
    ]
    for channel, glass in zip(smooth, _glass(smooth), strict=True):
        channel *= 255 / glass
    darkest, brightest = _extremes(smooth)
    return 1 - darkest / np.maximum(brightest, 1)


def _extremes(channels):
    """Give the smallest and the largest of three channels; NumPy's reduce is ten times slower."""
    red, green, blue = channels
    return (
        np.minimum(np.minimum(red, green), blue),
        np.maximum(np.maximum(red, green), blue),
    )


def _glass(smooth):
    """Estimate the colour of glass as that of the brightest hundredth; white where that is none."""
    brightness, _ = _extremes(smooth)
    bright = brightness >= np.quantile(brightness, 0.99)
    glass = np.array([np.median(channel[bright]) for channel in smooth])
    pink = (glass[0] + glass[2]) / 2 - glass[1]
    bright_and_pale = glass.min() >= _GLASS_MIN and np.ptp(glass) <= _GLASS_COLOUR
    return glass if bright_and_pale and pink <= _GLASS_PINK else np.full(3, 255.0)


def _threshold(saturation, options):
    """Compute Otsu's threshold within the bounds; the lower one where there are no two classes."""
    variance = saturation.var(dtype=float) if saturation.size else 0.0
    if variance < 1e-12:
        return options.min_saturation
    otsu = need("skimage.filters").threshold_otsu(saturation)
    above = saturation > otsu
    share = above.mean()
    apart = saturation[above].mean(dtype=float) - saturation[~above].mean(dtype=float)
    if share * (1 - share) * apart**2 < _TWO_CLASSES * variance:
        return options.min_saturation
    return min(max(otsu, options.min_saturation), options.max_saturation)


def _ink(thumbnail, mpp, options):
    """Find pen marks, and black that reaches in from the edge of the thumbnail."""
    from scipy import ndimage

    marks = mark_ink(thumbnail)
    names, n = ndimage.label(marks == BLACK)
    edge = np.concatenate([names[0], names[-1], names[:, 0], names[:, -1]])
    border = _pick(names, n, np.unique(edge))
    if options.leave_out_ink:
        sure = ((marks == INK) | (marks == BLACK)) & ~border
        sure = _drop_small(sure, options.min_pen_um2 / mpp**2)
        names, n = ndimage.label((marks > 0) & ~border)
        pen = _pick(names, n, np.unique(names[sure]))
    else:
        pen = np.zeros_like(border)
    margin = options.pen_margin_um / mpp
    border = _grow(border, margin)
    return _grow(pen, margin) & ~border, border


def _grow(mask, radius):
    from scipy import ndimage

    if not mask.any():
        return mask
    return ndimage.distance_transform_edt(~mask) <= radius


def _drop_small(mask, min_pixels):
    """Drop connected pieces of fewer than this many pixels."""
    from scipy import ndimage

    names, n = ndimage.label(mask)
    return _pick(names, n, np.bincount(names.ravel(), minlength=n + 1) >= min_pixels)


def _pick(names, n, wanted):
    """Give the mask of the pieces that are wanted; piece 0 is what lies between."""
    picked = np.zeros(n + 1, dtype=bool)
    picked[wanted] = True
    picked[0] = False
    return picked[names]
