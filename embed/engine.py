"""Extract features of slides into a store, once: resumable, and no slide is lost silently."""

import dataclasses
import errno
import logging
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from tabular_trainers.errors import SchemaError, count
from tabular_trainers.parallel import cluster_size, cpu_count
from tabular_trainers.schema import empty
from tabular_trainers.tables import read_written

from .cluster_slides import extract_on_cluster
from .device_batches import all_devices
from .extraction_plan import make_plan
from .quality_pictures import draw_contact_sheet
from .requirements import need
from .several_devices import extract_on_devices
from .slide_cache import SlideCache
from .slide_list import list_slides
from .slide_processes import Extracted
from .store_tables import NO_TISSUE, done_slides, write_tables
from .time_words import in_words
from .tissue_mask import TissueOptions

_LOG = logging.getLogger("tabular_trainers")
CACHE_GB = 50.0


@dataclass(frozen=True)
class Extraction:
    """What a run of extract_slides did.

    Attributes
    ----------
    store : Path
    n_slides : int
        Slides of this run (of this shard).
    n_before : int
        Those that were done already.
    n_patches : int
        Patches of the others; with ``qc_only``, those that would be encoded.
    seconds : float
    failures : pandas.DataFrame
        Slides of this run without features: contract ``failures``.
    sheets : tuple of Path
        Contact sheets: look at them before you trust the features.
    patients_assumed : bool
        Whether each slide was taken as a patient of its own, because no CSV names the patients.
    """

    store: Path
    n_slides: int
    n_before: int
    n_patches: int
    seconds: float
    failures: pd.DataFrame
    sheets: tuple
    patients_assumed: bool


def extract_slides(
    sources,
    store,
    encoder="stain",
    *,
    weights=None,
    device="auto",
    mpp=None,
    patch_px=None,
    tissue=None,
    assume_mpp=None,
    batch_size=None,
    n_workers=None,
    shard=None,
    deterministic=False,
    precision=None,
    revision=None,
    trust_remote_code=False,
    cache=None,
    cache_gb=CACHE_GB,
    qc_only=False,
    overwrite=False,
    progress=None,
):
    """Extract features of slides into a store.

    Slides that the store holds already, made by the same encoder with the same options from the
    same file, are left alone: run the same call again after any stop. A slide that fails costs
    itself only; it has a row in ``failures.parquet``. Features of a slide depend on the slide, the
    encoder and ``batch_size``, and not on ``n_workers``, shards or what was done before.

    Parameters
    ----------
    sources : path, str or sequence of them
        As ``list_slides`` takes them: slides, folders, globs, URIs, or a CSV ``slide_id,
        patient_id, path[, mpp]``.
    store : path
        Folder to write.
    encoder : str or object, default "stain"
        A name as ``load_encoder`` takes it, or an encoder.
    weights : path, optional
        File or folder with the weights.
    device : str, default "auto"
        ``"auto"``, ``"cpu"``, ``"cuda"`` (all graphics cards of this computer) or ``"cuda:1"``.
    mpp : float, optional
        Micrometres a pixel at which patches are read. Default: the encoder's.
    patch_px : int, optional
        Side of a patch in pixels. Default: the encoder's.
    tissue : TissueOptions, optional
        What counts as tissue.
    assume_mpp : float, optional
        Micrometres a pixel of slides that do not say.
    batch_size : int, optional
        Patches encoded at a time. Default: 32, on a graphics card 256.
    n_workers : int, optional
        Reader processes. Default: one a processor. They hold three batches each in memory.
    shard : tuple of int, optional
        ``(i, n)``: only every n-th slide, from the i-th (i from 1) in the order of slide_id.
    deterministic : bool, default False
        Repeat every bit of networks too: fixed shapes, one thread, ``batch_size`` never halved.
    precision, revision, trust_remote_code
        As ``load_encoder`` takes them.
    cache : path, optional
        Folder for slides fetched from URIs. Default: one in the system's temporary folder.
    cache_gb : float, default 50.0
        How much the cache may hold.
    qc_only : bool, default False
        Find tissue and draw it, and encode nothing.
    overwrite : bool, default False
        Extract these slides anew.
    progress : callable, optional
        Called as ``progress(slides done, slides, words)``; slides in work count in part.

    Returns
    -------
    Extraction

    Raises
    ------
    SchemaError
        Before anything is computed: for sources, options or weights that cannot be, and for a store
        that was made with others.
    """
    store, started = Path(store), time.monotonic()
    for library in ("openslide", "PIL.Image"):
        need(library)
    if mpp is not None and not mpp > 0:
        raise SchemaError(f"--mpp {mpp:g}: expected micrometres a pixel above 0, such as 0.5.")
    tissue = tissue or TissueOptions()
    slides = list_slides(sources, assume_mpp)
    patients_assumed = all(slide.patient_id == slide.slide_id for slide in slides)
    if shard is not None:
        slides = _of_shard(slides, shard)
    name = encoder if isinstance(encoder, str) else None
    given = {
        "encoder": encoder,
        "weights": weights and str(weights),
        "device": device,
        "mpp": mpp,
        "patch_px": patch_px,
        "tissue": dataclasses.asdict(tissue),
        "batch_size": batch_size,
        "deterministic": deterministic,
        "precision": precision,
        "revision": revision,
        "trust_remote_code": trust_remote_code,
        "qc_only": qc_only,
    }
    cache = str(cache or Path(tempfile.gettempdir()) / "slides")
    run = {
        "n_workers": n_workers,
        "sharing": 1,
        "cache": cache,
        "cache_gb": cache_gb,
        "overwrite": overwrite,
    }
    order = {"store": str(store), "plan": given, "run": run}
    if cluster_size() is not None:
        parts = [extract_on_cluster(slides, order, progress)]
    elif len(devices := all_devices(device, name)[: len(slides)]) > 1 and not qc_only:
        shared = {"sharing": len(devices), "cache_gb": cache_gb / len(devices)}
        parts = extract_on_devices(devices, slides, order | {"run": run | shared}, progress)
    else:
        plan = make_plan(store, **given | {"tissue": tissue})
        before = {}
        if not qc_only:
            before = done_slides(store, slides, plan.recipe, plan.levels, overwrite)
        todo = [slide for slide in slides if slide.slide_id not in before]
        store.mkdir(parents=True, exist_ok=True)
        tell = _teller(progress, len(slides), len(before), time.monotonic())
        cache = SlideCache(cache, int(cache_gb * 1e9))
        outcome = plan.run(todo, store, n_workers or cpu_count(), cache, qc_only, tell)
        stored = before | outcome.stored
        parts = [
            Extracted(
                plan.recipe, plan.levels, len(before), stored, outcome.failures, outcome.found
            )
        ]
    found = {slide: n for part in parts for slide, n in part.found.items()}
    failed = {slide: why for part in parts for slide, why in part.failures.items()}
    failures = _failure_rows(slides, failed)
    sheets = ()
    try:
        if qc_only:
            sheets = _draw_sheet(store, _looked_at(slides, failed, found))
        else:
            ids = [slide.slide_id for slide in slides]
            stored = {slide: one for part in parts for slide, one in part.stored.items()}
            is_last = write_tables(store, parts[0].recipe, stored, failures, ids, shard)
            if is_last:
                sheets = _draw_sheet(store, read_written(store / "slides.parquet"))
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        _LOG.error("the tables of %s: no space left on the disk. Free some and run again.", store)
    return Extraction(
        store,
        len(slides),
        sum(part.n_before for part in parts),
        sum(n for slide, n in found.items() if slide not in failed),
        time.monotonic() - started,
        failures,
        tuple(sheets),
        patients_assumed,
    )


def parse_shard(text):
    """Read ``i/n``: the i-th of n shards, from 1.

    Examples
    --------
    >>> parse_shard("3/40")
    (3, 40)
    """
    number, slash, of = str(text).partition("/")
    if not (slash and number.isdigit() and of.isdigit() and 1 <= int(number) <= int(of)):
        raise SchemaError(
            f"--shard {text}: expected i/n with i from 1 to n, such as 1/4 for the first of four."
        )
    return int(number), int(of)


def _of_shard(slides, shard):
    number, of = shard
    chosen = slides[number - 1 :: of]
    if not chosen:
        raise SchemaError(
            f"--shard {number}/{of}: nothing for this shard of {count(len(slides), 'slide')}."
        )
    return chosen


def _teller(progress, n_slides, n_before, started):
    """Turn steps of the pipeline into calls of ``progress`` with rate and time left."""

    def tell(share, n_patches):
        seconds = time.monotonic() - started
        if progress is None or seconds == 0:
            return
        words = f"{n_patches / seconds:,.0f} patches/s"
        if share > 0:
            words += f", {in_words(seconds * (n_slides - n_before - share) / share)} left"
        progress(n_before + share, n_slides, words)

    return tell


def _failure_rows(slides, failures):
    rows = [
        (slide.slide_id, slide.patient_id, slide.path, *failures[slide.slide_id])
        for slide in slides
        if slide.slide_id in failures
    ]
    return pd.DataFrame(rows, columns=list(empty("failures")))


def _looked_at(slides, failures, found):
    """Give the table of slides for the sheet of a run that only looked."""
    rows = []
    for slide in slides:
        _, reason = failures.get(slide.slide_id, (None, None))
        status = {None: "not encoded", NO_TISSUE: "no tissue"}.get(reason, "failed")
        rows.append((slide.slide_id, found.get(slide.slide_id, 0), status))
    return pd.DataFrame(rows, columns=["slide_id", "n_patches", "status"])


def _draw_sheet(store, table):
    """Draw the contact sheet of a table of slides."""
    rows = []
    for slide in table.itertuples():
        picture = store / "quality" / f"{slide.slide_id}.png"
        rows.append(
            (slide.slide_id, picture if picture.is_file() else None, slide.n_patches, slide.status)
        )
    return draw_contact_sheet(rows, store / "contact_sheet.png")
