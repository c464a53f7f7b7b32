"""What reader processes do: find the tissue of a slide, draw it, read patches and score them.

Neither pandas nor Arrow is imported here: each process would spend a second and 100 MB on them.
"""

import collections
import contextlib
import errno
from dataclasses import dataclass
from pathlib import Path

from .encoders import load_encoder
from .patch_grid import lay_grid
from .patch_quality import score_quality
from .quality_pictures import draw_quality
from .slide_reading import open_slide
from .tissue_mask import TissueOptions, find_tissue

_OPEN_SLIDES = 2  # kept open by a process; each may hold some hundred MB of decoded tiles


class SlideFailedError(Exception):
    """A slide cannot be done: at which stage, and why (arguments ``stage, reason``)."""


@dataclass(frozen=True)
class ReadSettings:
    """What readers need to know.

    Parameters
    ----------
    patch_px : int
    mpp : float
    region_patches : int or None
        Patches along the side of a region; None lays a flat grid.
    tissue : TissueOptions
    pictures : Path
        Folder of the quality pictures.
    encoder : str, optional
        An encoder to compute where patches are read, by name; the readers then give features
        instead of pixels.
    """

    patch_px: int
    mpp: float
    region_patches: int | None
    tissue: TissueOptions
    pictures: Path
    encoder: str | None = None


def make_handler(settings):
    """Give the handler of tasks of a reader process."""
    return _SlideHandler(settings)


class _SlideHandler:
    def __init__(self, settings):
        self.settings = settings
        self.encoder = None if settings.encoder is None else load_encoder(settings.encoder)
        self.open = collections.OrderedDict()

    def __call__(self, what, place, *rest):
        return getattr(self, what)(place, *rest)

    def prepare(self, place, slide_id):
        """Find tissue, lay the grid, draw both: (mpp, width_px, height_px), PatchGrid."""
        settings = self.settings
        with _stage("open"):
            slide = self._slide(place)
        with _stage("tissue"):
            options = settings.tissue
            thumbnail = slide.thumbnail(options.thumbnail_mpp)
            mask = find_tissue(thumbnail, options.thumbnail_mpp, options)
            grid = lay_grid(
                slide,
                mask,
                settings.patch_px,
                settings.mpp,
                options.min_tissue,
                settings.region_patches,
            )
        with _stage("write"):
            settings.pictures.mkdir(parents=True, exist_ok=True)
            draw_quality(thumbnail, mask, grid, settings.pictures / f"{slide_id}.png")
        return ((slide.mpp, slide.width_px, slide.height_px), grid), ()

    def patches(self, place, x_um, y_um):
        """Read patches: arrays of pixels, or features where the encoder is here; blur, artefact."""
        with _stage("read"):
            slide = self._slide(place)
            images = slide.read_many(x_um, y_um, self.settings.patch_px, self.settings.mpp)
            blur, artefact = score_quality(images)
        if self.encoder is not None:
            with _stage("encode"):
                images = self.encoder.encode(images)
        return None, (images, blur, artefact)

    def region(self, place, x_um, y_um, columns, rows, kept):
        """Read a region: its pixels; blur and artefact of the patches that are kept."""
        side = self.settings.patch_px
        with _stage("read"):
            slide = self._slide(place)
            image = slide.read(x_um, y_um, columns * side, rows * side, self.settings.mpp)
            patches = image.reshape(rows, side, columns, side, 3).swapaxes(1, 2)
            patches = patches.reshape(rows * columns, side, side, 3)
            blur, artefact = score_quality(patches[kept])
        return None, (image, blur, artefact)

    def _slide(self, place):
        """Open a slide, (path, mpp, assume_mpp), or give it if it is open."""
        if place in self.open:
            self.open.move_to_end(place)
        else:
            while len(self.open) >= _OPEN_SLIDES:
                self.open.popitem(last=False)[1].close()
            self.open[place] = open_slide(*place)
        return self.open[place]


@contextlib.contextmanager
def _stage(name):
    """Name the stage of whatever goes wrong inside."""
    try:
        yield
    except Exception as error:
        raise SlideFailedError(name, reason_of(error)) from error


def reason_of(error):
    """Put an error in one line, as failures.parquet has it."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "no space left on the disk"
    text = " ".join(str(error).split())
    known = isinstance(error, ValueError | OSError | RuntimeError) and text
    return text if known else f"{type(error).__name__}: {text}"
