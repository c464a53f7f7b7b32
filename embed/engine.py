"""Extract features of slides into a store, once: resumable, and no slide is lost silently."""

import dataclasses
import errno
import logging
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from tabular_trainers.errors import SchemaError, count
from tabular_trainers.parallel import cpu_count
from tabular_trainers.schema import empty
from tabular_trainers.tables import read_written

from .device_batches import (
    BATCH_SIZE,
    DeviceBatches,
    all_devices,
    arithmetic,
    choose_device,
    prepare_determinism,
)
from .encoders import load_encoder
from .quality_pictures import draw_contact_sheet
from .requirements import need
from .several_devices import extract_on_devices
from .slide_cache import SlideCache
from .slide_list import list_slides
from .slide_pipeline import SlidePipeline
from .slide_reading import SAME_MPP
from .slide_tasks import ReadSettings
from .store import Recipe
from .store_tables import NO_TISSUE, done_slides, write_tables
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
    if deterministic:
        prepare_determinism()
    name = encoder if isinstance(encoder, str) else None
    devices = all_devices(device, name)[: len(slides)]
    if len(devices) > 1 and not qc_only:
        settings = {
            "sources": [
                str(s) for s in ([sources] if isinstance(sources, str | Path) else sources)
            ],
            "store": str(store),
            "encoder": name,
            "weights": weights and str(weights),
            "mpp": mpp,
            "patch_px": patch_px,
            "tissue": dataclasses.asdict(tissue),
            "assume_mpp": assume_mpp,
            "batch_size": batch_size,
            "n_workers": n_workers or max(1, cpu_count() // len(devices)),
            "deterministic": deterministic,
            "precision": precision,
            "revision": revision,
            "trust_remote_code": trust_remote_code,
            "cache": cache and str(cache),
            "cache_gb": cache_gb / len(devices),
            "overwrite": overwrite,
        }
        parts = extract_on_devices(devices, len(slides), shard, settings, progress)
        failures = [row for part in parts for row in part["failures"]]
        return Extraction(
            store,
            len(slides),
            sum(part["n_before"] for part in parts),
            sum(part["n_patches"] for part in parts),
            time.monotonic() - started,
            pd.DataFrame(failures, columns=list(empty("failures"))),
            tuple(Path(sheet) for part in parts for sheet in part["sheets"]),
            patients_assumed,
        )
    if name:
        encoder = load_encoder(
            name,
            weights,
            choose_device(device, name),
            precision=precision,
            revision=revision,
            trust_remote_code=trust_remote_code,
        )
    if mpp and encoder.feature_names and abs(mpp / encoder.mpp - 1) > SAME_MPP:
        raise SchemaError(
            f"mpp {mpp:g}: {encoder.id} measures nuclei and textures in micrometres on pixels of "
            f"{encoder.mpp:g} um; at another size its numbers would not mean what their names say. "
            "Leave --mpp out."
        )
    device = str(getattr(encoder, "device", "cpu"))
    patch_px, mpp = patch_px or encoder.patch_px, mpp or encoder.mpp
    batch_size = batch_size or BATCH_SIZE["cuda" if device.startswith("cuda") else "cpu"]
    region_patches = getattr(encoder, "region_patches", None)
    recipe = Recipe(
        encoder.id,
        {
            "patch_px": int(patch_px),
            "mpp": float(mpp),
            "tissue": dataclasses.asdict(tissue),
            "precision": getattr(encoder, "precision", None),
            "deterministic": deterministic
            and {"batch_size": batch_size, "device": device.partition(":")[0]},
        },
        tuple(encoder.pretrained_on),
        encoder.feature_names and tuple(encoder.feature_names),
    )
    levels = ("patch",) if region_patches is None else ("region", "patch")
    stored = {} if qc_only else done_slides(store, slides, recipe, levels, overwrite)
    todo = [slide for slide in slides if slide.slide_id not in stored]
    settings = ReadSettings(
        int(patch_px),
        float(mpp),
        region_patches,
        tissue,
        store / "quality",
        name if name and encoder.in_reader else None,
    )
    batches = DeviceBatches(encoder, batch_size, fixed=deterministic)
    if not (qc_only or settings.encoder):
        _try_encoder(encoder, settings)
    store.mkdir(parents=True, exist_ok=True)
    tell = _teller(progress, len(slides), len(slides) - len(todo), time.monotonic())
    cache = SlideCache(cache or Path(tempfile.gettempdir()) / "slides", int(cache_gb * 1e9))
    with arithmetic(deterministic):
        pipeline = SlidePipeline(
            store, recipe, batches, settings, n_workers or cpu_count(), cache.local, qc_only, tell
        )
        outcome = pipeline.run(todo)
    failures = _failure_rows(slides, outcome.failures)
    sheets = ()
    try:
        if qc_only:
            sheets = _draw_sheet(store, _looked_at(slides, outcome))
        else:
            ids = [slide.slide_id for slide in slides]
            is_last = write_tables(store, recipe, stored | outcome.stored, failures, ids, shard)
            if is_last:
                sheets = _draw_sheet(store, read_written(store / "slides.parquet"))
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        _LOG.error("the tables of %s: no space left on the disk. Free some and run again.", store)
    return Extraction(
        store,
        len(slides),
        len(stored),
        sum(n for slide, n in outcome.found.items() if slide not in outcome.failures),
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


def _try_encoder(encoder, settings):
    """Encode one blank patch, so that a wrong size is an error at once and not a slide's."""
    blank = np.full((1, settings.patch_px, settings.patch_px, 3), 255, np.uint8)
    try:
        found = encoder.encode(blank)
    except (ValueError, RuntimeError) as error:
        raise SchemaError(
            f"encoder {encoder.id}: cannot encode a patch of {settings.patch_px} px "
            f"({str(error).splitlines()[0]}). It expects {encoder.patch_px} px."
        ) from error
    if found.shape != (1, encoder.dim):
        raise SchemaError(
            f"encoder {encoder.id}: gave an array of shape {found.shape} for one patch; expected "
            f"(1, {encoder.dim})."
        )


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


def in_words(seconds):
    """Put a time in words.

    Examples
    --------
    >>> in_words(50), in_words(500), in_words(50_000), in_words(500_000)
    ('50 s', '8 min', '13.9 h', '5.8 days')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 172_800 else f"{seconds / 86_400:.1f} days"


def _failure_rows(slides, failures):
    rows = [
        (slide.slide_id, slide.patient_id, slide.path, *failures[slide.slide_id])
        for slide in slides
        if slide.slide_id in failures
    ]
    return pd.DataFrame(rows, columns=list(empty("failures")))


def _looked_at(slides, outcome):
    """Give the table of slides for the sheet of a run that only looked."""
    rows = []
    for slide in slides:
        _, reason = outcome.failures.get(slide.slide_id, (None, None))
        status = {None: "not encoded", NO_TISSUE: "no tissue"}.get(reason, "failed")
        rows.append((slide.slide_id, outcome.found.get(slide.slide_id, 0), status))
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
