"""Several slides at once from reading to a file: readers decode while this process computes.

Of a slide are held its grid and its features; of pixels at most three answers a reader, each a
batch of patches or a region (a region of HIPT is 50 MB). As many slides are in work as there are
readers, and one more.
"""

import contextlib
import logging
import shutil
import threading
from dataclasses import dataclass, field

import numpy as np

from tabular_trainers.errors import count, listing

from .device_batches import DeviceMemoryError
from .reader_processes import ReaderPool
from .slide_list import source_bytes
from .slide_tasks import SlideFailedError, reason_of
from .store import SlideFacts, slide_file, write_slide
from .store_tables import NO_TISSUE

READERS = "tabular_trainers.embed.slide_tasks:make_handler"

_LOG = logging.getLogger("tabular_trainers")
_READ_PATCHES = 32  # a task where features are computed in the readers


@dataclass
class Outcome:
    """What became of the slides of a run.

    Attributes
    ----------
    stored : dict of str to StoredSlide
    failures : dict of str to (str, str)
        Stage and reason.
    found : dict of str to int
        Patches that each slide has.
    """

    stored: dict = field(default_factory=dict)
    failures: dict = field(default_factory=dict)
    found: dict = field(default_factory=dict)


@dataclass(eq=False)
class _Slide:
    """A slide in work."""

    source: object
    path: object = None  # a local file, once it is there
    problem: Exception | None = None  # why it could not be fetched
    held: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    is_sent: bool = False  # to a reader
    facts: object = None
    grid: object = None
    tasks: list = field(default_factory=list)  # not yet given to a reader, the next one last
    n_tasks: int = 0
    n_answered: int = 0
    columns: dict = field(default_factory=dict)
    vectors: np.ndarray | None = None
    regions: np.ndarray | None = None
    is_through: bool = False


class SlidePipeline:
    """Turn slides into files of a store.

    Parameters
    ----------
    store : Path
    recipe : Recipe
    batches : DeviceBatches
    settings : ReadSettings
    n_workers : int
    local : callable
        ``local(path)`` is a context with the slide as a local file.
    qc_only : bool
        Stop after the picture of each slide.
    tell : callable
        ``tell(share, n_patches)`` after each step: slides that are through, with parts of those in
        work, and patches encoded.
    """

    def __init__(self, store, recipe, batches, settings, n_workers, local, qc_only, tell):
        self.store = store
        self.recipe = recipe
        self.batches = batches
        self.settings = settings
        self.n_workers = n_workers
        self.local = local
        self.qc_only = qc_only
        self.tell = tell
        self.outcome = Outcome()
        self._work = []
        self._n_through = 0
        self._n_patches = 0

    def run(self, sources):
        """Do all slides, a list of SlideSource; give the Outcome."""
        if not sources:
            return self.outcome
        self._waiting = sources[::-1]
        with contextlib.ExitStack() as held:
            self._readers = held.enter_context(ReaderPool(self.n_workers, READERS, self.settings))
            held.callback(self._let_go)  # first: what is fetched goes while readers end
            while True:
                while self._readers.has_room and self._submit_next():
                    pass
                if not self._work:
                    return self.outcome
                answer = self._readers.next_answer()
                if answer is not None:
                    self._take(answer)
                    self._say()

    def _submit_next(self):
        """Give a reader something to do; say whether there was anything."""
        if self._waiting and len(self._work) < self.n_workers + 2:
            slide = _Slide(self._waiting.pop())
            self._work.append(slide)
            if "://" in slide.source.path:
                threading.Thread(target=self._fetch, args=(slide,), daemon=True).start()
            else:
                self._fetch(slide)
        for slide in list(self._work):
            if slide.problem is not None:
                self._fail(slide, "open", reason_of(slide.problem))
                return True
            if slide.path is not None and not slide.is_sent:
                slide.is_sent = True
                self._submit(slide, "prepare", None, slide.source.slide_id)
                return True
        for slide in self._work:
            if slide.tasks:
                self._submit(slide, *slide.tasks.pop())
                # the next task is another slide's: each reader then stays at one, whose tiles it
                # has decoded already
                self._work.remove(slide)
                self._work.append(slide)
                return True
        return False

    def _fetch(self, slide):
        try:
            slide.path = slide.held.enter_context(self.local(slide.source.path))
        except Exception as error:  # noqa: BLE001 - whatever a file system of others raises
            slide.problem = error
        self._readers.wake()

    def _submit(self, slide, what, place, *arguments):
        file = (str(slide.path), slide.source.mpp, slide.source.assume_mpp)
        self._readers.submit((slide, what, place), what, file, *arguments, near=slide)

    def _take(self, answer):
        slide, what, place = answer.key
        if slide.is_through:
            return
        try:
            if answer.error is not None:
                raise answer.error
            if what == "prepare":
                self._begin(slide, *answer.value)
            else:
                self._add(slide, what, place, answer.arrays)
        except SlideFailedError as error:
            self._fail(slide, *error.args)
        except Exception as error:  # noqa: BLE001 - a slide that fails must not stop the others
            stage = {"prepare": "open"}.get(what, "read" if answer.error else "encode")
            self._fail(slide, stage, reason_of(error))

    def _begin(self, slide, size, grid):
        """Plan the reading of a slide whose grid is known."""
        slide.facts, slide.grid = _facts(slide, *size), grid
        n, encoder = len(grid), self.batches.encoder
        if n == 0:
            raise SlideFailedError("tissue", NO_TISSUE)
        self.outcome.found[slide.source.slide_id] = n
        if self.qc_only:
            self._finish(slide)
            return
        dtype = np.dtype(encoder.dtype)
        needed, free = n * encoder.dim * dtype.itemsize, shutil.disk_usage(self.store).free
        if needed > free:  # seen before it is read and encoded, which is what costs
            raise SlideFailedError("write", _no_space(needed, free))
        slide.vectors = np.empty((n, encoder.dim), dtype)
        slide.columns = {
            "x_um": grid.x_um,
            "y_um": grid.y_um,
            "size_um": np.full(n, grid.size_um),
            "tissue": grid.tissue,
            "blur": np.empty(n, np.float32),
            "artefact": np.empty(n, np.float32),
        }
        if grid.regions is None:
            step = _READ_PATCHES if self.settings.encoder else self.batches.batch_size
            for start in range(0, n, step):
                rows = slice(start, min(start + step, n))
                slide.tasks.append(("patches", rows, grid.x_um[rows], grid.y_um[rows]))
        else:
            slide.regions = np.empty((len(grid.regions), encoder.region_dim), dtype)
            for number, region in enumerate(grid.regions.tolist()):
                rows = np.flatnonzero(grid.region == number)
                x_um, y_um, columns, rows_ = region[:4]
                slide.tasks.append(
                    ("region", (number, rows), x_um, y_um, columns, rows_, grid.position[rows])
                )
        slide.n_tasks = len(slide.tasks)
        slide.tasks.reverse()

    def _add(self, slide, what, place, arrays):
        """Encode what was read, and write the slide when that was the last of it."""
        pixels, blur, artefact = arrays
        rows = place if what == "patches" else place[1]
        if self.settings.encoder:
            vectors = pixels  # encoded where they were read
        elif what == "patches":
            vectors = self._encode(self.batches.encode, pixels)
        else:
            vectors, region = self._encode(self.batches.encode_region, pixels)
            vectors = vectors[slide.grid.position[rows]]
            self._keep(slide.regions, place[0], region)
        self._keep(slide.vectors, rows, vectors)
        slide.columns["blur"][rows] = blur
        slide.columns["artefact"][rows] = artefact
        slide.n_answered += 1
        self._n_patches += len(blur)
        if slide.n_answered == slide.n_tasks:
            self._write(slide)
            self._finish(slide)

    def _encode(self, encode, pixels):
        try:
            return encode(pixels)
        except DeviceMemoryError as error:
            raise SlideFailedError("encode", str(error)) from error

    def _keep(self, kept, rows, vectors):
        """Store vectors in the type of the file, in which all must be finite."""
        with np.errstate(over="ignore"):
            kept[rows] = vectors
        is_bad = ~np.isfinite(np.atleast_2d(kept[rows])).all(axis=1)
        if is_bad.any():
            bad = np.atleast_1d(np.arange(len(kept))[rows])[is_bad]
            raise SlideFailedError(
                "encode",
                f"{count(len(bad), 'vector')} of {len(kept):,} not finite as {kept.dtype} "
                f"(row{'s' * (len(bad) > 1)} {listing(bad + 1)})",
            )

    def _write(self, slide):
        grid = slide.grid
        try:
            if slide.regions is not None:
                # before the patches, whose file says that the slide is whole
                regions = {
                    "x_um": grid.regions["x_um"],
                    "y_um": grid.regions["y_um"],
                    "width_um": grid.regions["columns"] * grid.size_um,
                    "height_um": grid.regions["rows"] * grid.size_um,
                    "tissue": grid.regions["tissue"],
                    "n_patches": np.bincount(grid.region, minlength=len(grid.regions)),
                }
                write_slide(self.store, regions, slide.regions, self.recipe, slide.facts, "region")
            stored = write_slide(self.store, slide.columns, slide.vectors, self.recipe, slide.facts)
        except OSError as error:
            slide_file(self.store, slide.source.slide_id, "region").unlink(missing_ok=True)
            raise SlideFailedError("write", reason_of(error)) from error
        self.outcome.stored[slide.source.slide_id] = stored

    def _fail(self, slide, stage, reason):
        self.outcome.failures[slide.source.slide_id] = (stage, reason)
        _LOG.warning("slide %s failed (%s): %s", slide.source.slide_id, stage, reason)
        self._finish(slide)

    def _finish(self, slide):
        slide.is_through = True
        slide.held.close()
        self._work.remove(slide)
        self._n_through += 1
        # readers may still be at it and would keep its arrays
        slide.tasks, slide.columns, slide.vectors, slide.regions = [], {}, None, None

    def _let_go(self):
        for slide in self._work:
            slide.held.close()

    def _say(self):
        parts = sum(slide.n_answered / slide.n_tasks for slide in self._work if slide.n_tasks)
        self.tell(self._n_through + parts, self._n_patches)


def _facts(slide, mpp, width_px, height_px):
    source = slide.source
    assumed = source.mpp is None and mpp == source.assume_mpp
    return SlideFacts(
        source.slide_id,
        source.patient_id,
        source.path,
        mpp,
        width_px,
        height_px,
        source_bytes(slide.path),
        source.assume_mpp if assumed else source.mpp,
    )


def _no_space(needed, free):
    return f"no space left on the disk: {needed / 1e6:,.1f} MB needed, {free / 1e6:,.1f} MB free"
