"""Read slides in physical units: micrometres from the slide's corner, micrometres a pixel.

openslide reads the formats of scanners (svs, ndpi, mrxs, scn, tiled TIFF, DICOM); Pillow reads
plain PNG, JPEG and TIFF, which are then held in memory.

A read takes pixels from one level. A level whose resolution lies within 1% of the one asked for is
taken as it is, because resampling by so little only blurs; otherwise the next finer level is
averaged over the area of each new pixel, once. Averaging over areas keeps every read independent of
its neighbours and equally sharp whether the factor is 2 or 1.98, which scanners disagree on; it
takes a third of the time of Pillow's resize with antialiasing (1.1 ms against 3.2 ms a patch).
"""

import functools
import math
import os
import warnings
from pathlib import Path

import numpy as np

from tabular_trainers.errors import SchemaError, nearest, the_folder
from tabular_trainers.kernels import compile_kernel

from .requirements import need

SAME_MPP = 0.01  # relative difference below which two resolutions are taken as one
MAX_ENLARGEMENT = 1.25  # finer than this times the slide's own resolution holds no more detail
PLAUSIBLE_MPP = (0.05, 20.0)  # um; 72 dpi, which is no scanner's, would be 353
BLOCK_PX = 2048  # of a level, read at a time: bounds memory at 16 MiB a block
# Decoded tiles, of all open slides of a process together. openslide's own 32 MiB a slide is less
# than one row of tiles of a wide slide: each tile would be decoded for the row of patches above and
# again for the one below.
TILE_CACHE_BYTES = 192 << 20
_PIXELS = "Array(uint8, 3, 'C', readonly=True)"  # NumPy's view of Pillow's bytes


def open_slide(path, mpp=None, assume_mpp=None):
    """Open a slide for reading; close it, or use it in a ``with``.

    Parameters
    ----------
    path : path
        A slide's file, or a folder that holds the .dcm files of one slide.
    mpp : float, optional
        Micrometres a pixel at full resolution, where the file is known to be wrong: it is taken
        instead of the file's.
    assume_mpp : float, optional
        Micrometres a pixel where the file says nothing.

    Returns
    -------
    Slide

    Raises
    ------
    SchemaError
        When there is no such file, it cannot be read as a slide, its pixels are not square, or
        nothing says how large they are.

    Examples
    --------
    >>> with open_slide("CMU-1.svs") as slide:  # doctest: +SKIP
    ...     patch = slide.read(1000.0, 1500.0, 256, 256, mpp=0.5)
    """
    path = Path(path)
    source, stated = _open(path)
    try:
        return Slide(path, source, _decide_mpp(path.name, stated, mpp, assume_mpp))
    except SchemaError:
        source.close()
        raise


class Slide:
    """An open slide; made by open_slide.

    Attributes
    ----------
    path : Path
    mpp : float
        Micrometres a pixel at level 0.
    width_px, height_px : int
        Size at level 0.
    """

    def __init__(self, path, source, mpp):
        self.path = path
        self.mpp = mpp
        self.width_px, self.height_px = source.level_dimensions[0]
        self._source = source
        self._level_mpp = mpp * np.array(source.level_downsamples, dtype=float)

    def __enter__(self):
        """Return the slide."""
        return self

    def __exit__(self, *details):
        """Close the slide."""
        self.close()

    def close(self):
        """Close the file."""
        self._source.close()

    def pixel_mpp(self, mpp):
        """Give the resolution that a read at ``mpp`` really has (micrometres a pixel).

        It is ``mpp``, or that of a level within 1% of it.
        """
        level, factor = self._plan(mpp)
        return float(self._level_mpp[level]) if factor == 1 else float(mpp)

    def read(self, x_um, y_um, width_px, height_px, mpp):
        """Read a rectangle.

        Parameters
        ----------
        x_um, y_um : float
            Upper left corner in micrometres from the slide's; rounded to level-0 pixels, or to
            those of the level that is taken as it is.
        width_px, height_px : int
            Size of the result.
        mpp : float
            Micrometres a pixel asked for; ``pixel_mpp(mpp)`` is what the result has.

        Returns
        -------
        ndarray of uint8, shape (height_px, width_px, 3)
            RGB. White outside the slide and where it is transparent.

        Raises
        ------
        SchemaError
            When the slide is coarser than ``mpp``.
        OSError
            When the file is damaged there.
        """
        out = np.empty((int(height_px), int(width_px), 3), dtype=np.uint8)
        self._fill(out, x_um, y_um, *self._plan(mpp))
        return out

    def read_many(self, x_um, y_um, size_px, mpp):
        """Read squares of one size, in the order given.

        Parameters
        ----------
        x_um, y_um : array of shape (n,)
            Upper left corners, as for ``read``.
        size_px : int
            Side of each square.
        mpp : float
            As for ``read``.

        Returns
        -------
        ndarray of uint8, shape (n, size_px, size_px, 3)
        """
        x_um, y_um = np.asarray(x_um, dtype=float), np.asarray(y_um, dtype=float)
        plan = self._plan(mpp)
        out = np.empty((len(x_um), int(size_px), int(size_px), 3), dtype=np.uint8)
        for image, x, y in zip(out, x_um.tolist(), y_um.tolist(), strict=True):
            self._fill(image, x, y, *plan)
        return out

    def thumbnail(self, mpp):
        """Read the whole slide at exactly ``mpp``.

        It is resampled even from a level within 1% of ``mpp``: over a whole slide 1% is some
        hundred micrometres. The last row and column may reach beyond the slide; there it is white.

        Returns
        -------
        ndarray of uint8, shape (ceil(height / mpp), ceil(width / mpp), 3)
        """
        level = self._finer_level(mpp)
        shape = [
            max(1, math.ceil(side * self.mpp / mpp - 1e-6))
            for side in (self.height_px, self.width_px)
        ]
        out = np.empty((*shape, 3), dtype=np.uint8)
        self._fill(out, 0.0, 0.0, level, mpp / self._level_mpp[level])
        return out

    def _plan(self, mpp):
        """Choose (level, how many of its pixels along the side of a new one)."""
        off = np.abs(self._level_mpp / mpp - 1)
        if off.min() <= SAME_MPP:
            return int(off.argmin()), 1.0
        level = self._finer_level(mpp)
        return level, float(mpp / self._level_mpp[level])

    def _finer_level(self, mpp):
        if not mpp > 0:
            raise SchemaError(f"mpp is {mpp}; expected micrometres a pixel above 0.")
        if self.mpp > mpp * MAX_ENLARGEMENT:
            raise SchemaError(
                f"{self.path.name}: {mpp:g} um a pixel was asked for, but the slide was scanned at "
                f"{self.mpp:.4g}; enlarged, it would show no more. Ask for {self.mpp:.4g} or more, "
                "or leave this slide out."
            )
        finer = np.flatnonzero(self._level_mpp <= mpp * (1 + 1e-6))
        return int(finer[self._level_mpp[finer].argmax()]) if len(finer) else 0

    def _fill(self, out, x_um, y_um, level, factor):
        """Fill an image (h, w, 3), block by block."""
        step = self._level_mpp[level] / self.mpp  # level-0 pixels a pixel of the level
        left, top = round(x_um / self.mpp) / step, round(y_um / self.mpp) / step
        if factor == 1:  # openslide would blend neighbours to reach between two pixels
            left, top = float(round(left)), float(round(top))
        height, width = out.shape[:2]
        block = max(1, int(BLOCK_PX / factor))
        for row in range(0, height, block):
            for column in range(0, width, block):
                part = out[row : row + block, column : column + block]
                x, y = left + column * factor, top + row * factor
                x0, y0 = math.floor(x + 1e-6), math.floor(y + 1e-6)
                x1 = math.ceil(x + part.shape[1] * factor - 1e-6)
                y1 = math.ceil(y + part.shape[0] * factor - 1e-6)
                pixels = self._pixels(level, step, x0, y0, x1 - x0, y1 - y0)
                if factor == 1:
                    _copy_colours(pixels, part)
                else:
                    _average_areas(pixels, part, max(0.0, x - x0), max(0.0, y - y0), factor)

    def _pixels(self, level, step, x, y, width, height):
        """Read pixels of a level as they are: (height, width, 4), made opaque on white."""
        level_width, level_height = self._source.level_dimensions[level]
        left, top = max(x, 0), max(y, 0)
        right, bottom = min(x + width, level_width), min(y + height, level_height)
        if (left, top, right, bottom) != (x, y, x + width, y + height):
            # Not left to openslide: it rounds what lies before the corner to whole pixels.
            out = np.full((height, width, 4), 255, dtype=np.uint8)
            if right > left and bottom > top:
                inside = self._pixels(level, step, left, top, right - left, bottom - top)
                out[top - y : bottom - y, left - x : right - x] = inside
            return out
        corner = (round(x * step), round(y * step))
        try:
            image = self._source.read_region(corner, level, (width, height))
        except need("openslide").OpenSlideError as error:
            raise OSError(
                f"{self.path.name}: cannot be read at level-0 pixel {corner} ({error}); "
                "the file is damaged there."
            ) from error
        pixels = np.asarray(image)
        alpha = pixels[..., 3:]
        if alpha.min() < 255:
            white = 255 - (255 - pixels[..., :3].astype(np.uint16)) * alpha / np.uint16(255)
            pixels = np.concatenate([np.rint(white).astype(np.uint8), alpha], axis=2)
        return pixels


@compile_kernel(f"void({_PIXELS}, uint8[:,:,:])")
def _copy_colours(pixels, out):
    """Leave alpha out; NumPy takes ten times as long to copy three bytes of four."""
    for row in range(out.shape[0]):
        for column in range(out.shape[1]):
            for channel in range(3):
                out[row, column, channel] = pixels[row, column, channel]


@compile_kernel(
    f"void({_PIXELS}, uint8[:,:,:], float64, float64, float64)",
    fastmath={"reassoc", "contract"},
)
def _average_areas(pixels, out, x, y, factor):
    """Average, for each new pixel, the area of ``factor`` by ``factor`` pixels that it covers."""
    height, width = pixels.shape[0], pixels.shape[1]
    rows = pixels.reshape((height, width * 4))  # one long row a time is what a compiler vectorises
    sums = np.empty(width * 4, dtype=np.float32)
    scale = np.float32(1.0 / (factor * factor))
    for row in range(out.shape[0]):
        top = y + row * factor
        bottom = min(top + factor, float(height))
        sums[:] = 0.0
        for j in range(int(top), min(height, int(np.ceil(bottom)))):
            weight = np.float32(min(bottom, j + 1.0) - max(top, float(j)))
            line = rows[j]
            for i in range(width * 4):
                sums[i] += weight * np.float32(line[i])
        for column in range(out.shape[1]):
            left = x + column * factor
            right = min(left + factor, float(width))
            red = green = blue = np.float32(0.5)
            for i in range(int(left), min(width, int(np.ceil(right)))):
                weight = np.float32(min(right, i + 1.0) - max(left, float(i))) * scale
                red += weight * sums[4 * i]
                green += weight * sums[4 * i + 1]
                blue += weight * sums[4 * i + 2]
            out[row, column, 0] = np.uint8(min(red, np.float32(255.0)))
            out[row, column, 1] = np.uint8(min(green, np.float32(255.0)))
            out[row, column, 2] = np.uint8(min(blue, np.float32(255.0)))


def _open(path):
    """Open a file: (what has openslide's interface, (mpp-x, mpp-y) that it states or None)."""
    openslide = need("openslide")
    file = _slide_file(path)
    try:
        if openslide.OpenSlide.detect_format(file) is None:
            return _open_plain(file)
        source = openslide.OpenSlide(file)
        source.set_cache(_tile_cache(os.getpid()))
    except openslide.OpenSlideError as error:
        raise SchemaError(f"{path.name}: openslide cannot open it ({error}).") from error
    stated = [source.properties.get(f"openslide.mpp-{axis}") for axis in "xy"]
    return source, None if None in stated else tuple(map(float, stated))


@functools.cache
def _tile_cache(process):
    """Make the cache that the slides of a process share; a forked one needs its own."""
    return need("openslide").OpenSlideCache(TILE_CACHE_BYTES)


def _slide_file(path):
    if path.is_dir():
        return _dicom_file(path)
    if path.is_file():
        return path
    if not path.parent.is_dir():
        raise SchemaError(f"{path.name}: no such file, because there is no folder {path.parent}.")
    hint = nearest(path.name, sorted(entry.name for entry in path.parent.iterdir()))
    raise SchemaError(f"{path.name}: no such file in {the_folder(path.parent)}.{hint}")


def _dicom_file(folder):
    """Find a file of the one series in a folder; openslide finds the others beside it."""
    openslide = need("openslide")
    parts = sorted(entry for entry in folder.iterdir() if entry.suffix.lower() == ".dcm")
    series, problem = {}, "no .dcm files in it"
    for part in parts:
        try:
            with openslide.OpenSlide(part) as source:
                series.setdefault(source.properties.get("dicom.SeriesInstanceUID"), part)
        except openslide.OpenSlideError as error:  # such as an annotation beside the levels
            problem = f"openslide cannot open its files ({error})"
    if not series:
        raise SchemaError(f"{folder.name}: a folder, and {problem}; expected those of one slide.")
    if len(series) > 1:
        raise SchemaError(
            f"{folder.name}: its .dcm files belong to {len(series)} slides (series); give each its "
            "own folder, or name one file of each in a CSV of slides."
        )
    return next(iter(series.values()))


def _open_plain(file):
    """Read a PNG, JPEG or untiled TIFF into memory."""
    image_module, openslide = need("PIL.Image"), need("openslide")
    try:
        with warnings.catch_warnings():
            # Pillow warns from 89 megapixels on, which a tissue core has, and refuses at 179; of
            # what is damaged it warns before it raises.
            warnings.simplefilter("ignore")
            with image_module.open(file) as image:
                if image.mode in ("I", "F") or image.mode.startswith("I;"):
                    raise SchemaError(
                        f"{file.name}: pixels of more than 8 bits ({image.mode}); expected a "
                        "colour image of 8 bits a channel."
                    )
                stated = _tiff_mpp(image)
                transparent = "transparency" in image.info or image.mode in ("RGBA", "LA", "PA")
                loaded = image.convert("RGBA" if transparent else "RGB")
    except image_module.UnidentifiedImageError as error:
        raise SchemaError(
            f"{file.name}: not a slide or image that openslide or Pillow can read."
        ) from error
    except image_module.DecompressionBombError as error:
        raise SchemaError(
            f"{file.name}: too large for an image without tiles; save it as a tiled, pyramidal "
            "TIFF."
        ) from error
    except (OSError, SyntaxError) as error:  # SyntaxError is what Pillow says of a broken PNG
        raise SchemaError(f"{file.name}: damaged, or cut off ({error}).") from error
    return openslide.ImageSlide(loaded), stated


def _tiff_mpp(image):
    """Read the resolution tags of a TIFF; what PNG and JPEG say is meant for printers."""
    if image.format != "TIFF":
        return None
    tags = image.tag_v2
    unit_um = {2: 25400.0, 3: 10000.0}.get(tags.get(296, 2))
    resolution = [float(tags.get(tag) or 0) for tag in (282, 283)]
    if unit_um is None or min(resolution) <= 0:
        return None
    return tuple(unit_um / value for value in resolution)


def _decide_mpp(name, stated, mpp, assume_mpp):
    for option, value in (("mpp", mpp), ("--assume-mpp", assume_mpp)):
        if value is not None and not PLAUSIBLE_MPP[0] <= value <= PLAUSIBLE_MPP[1]:
            raise SchemaError(
                f"{name}: {option} is {value:g} um a pixel; expected {PLAUSIBLE_MPP[0]:g} to "
                f"{PLAUSIBLE_MPP[1]:g}."
            )
    if mpp is not None:
        return float(mpp)
    if stated and all(PLAUSIBLE_MPP[0] <= value <= PLAUSIBLE_MPP[1] for value in stated):
        if abs(stated[0] / stated[1] - 1) > SAME_MPP:
            raise SchemaError(
                f"{name}: pixels of {stated[0]:g} by {stated[1]:g} um; expected square ones."
            )
        return (stated[0] + stated[1]) / 2
    if assume_mpp is not None:
        return float(assume_mpp)
    says = f"says {stated[0]:.4g} um a pixel, which no scanner has" if stated else "does not say"
    raise SchemaError(
        f"{name}: the file {says}; how large a pixel is must be known. Give it with --assume-mpp "
        "(0.25 is usual for 40x, 0.5 for 20x), or in a column mpp of a CSV of slides."
    )
