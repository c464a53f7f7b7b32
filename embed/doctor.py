"""Look at everything before the GPU hours, and work out how long a cohort will take."""

import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tabular_trainers.errors import DataError, SchemaError, count, listing
from tabular_trainers.parallel import cpu_count

from .device_batches import BATCH_SIZE, DeviceBatches, choose_device
from .encoders import load_encoder
from .requirements import need
from .slide_list import list_slides
from .slide_tasks import ReadSettings, SlideFailedError, make_handler
from .time_words import in_words
from .tissue_mask import TissueOptions

N_PATCHES = 50
N_SLIDES = 3  # looked at, from the first to the last of the list


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes
    ----------
    what : str
        ``"openslide"``, ``"device"``, ``"encoder"``, ``"slides"``, ``"speed"``, ``"disk"``.
    is_good : bool
    words : str
    """

    what: str
    is_good: bool
    words: str


@dataclass(frozen=True)
class Examination:
    """What examine found.

    Attributes
    ----------
    findings : tuple of Finding
    seconds : float or None
        How long the cohort will take; None where no slides were given or something is not good.
    """

    findings: tuple
    seconds: float | None = None

    @property
    def is_good(self):
        """Whether nothing stands in the way."""
        return all(finding.is_good for finding in self.findings)


@dataclass(frozen=True)
class _Sample:
    """What some slides of a cohort gave; times are of one process."""

    patches: float  # encoded a slide: of a pyramid all of a region, on tissue or not
    vectors: float  # stored a slide
    prepare_s: float  # a slide
    read_s: float  # a patch; where readers encode, with that
    images: np.ndarray | None  # None where readers encode


def examine(
    sources=None,
    encoder="stain",
    *,
    weights=None,
    device="auto",
    assume_mpp=None,
    revision=None,
    trust_remote_code=False,
    store=".",
    n_workers=None,
):
    """Look at device, libraries, weights, slides and disk, and time 50 patches.

    Parameters
    ----------
    sources : path, str or sequence of them, optional
        Slides, as ``extract_slides`` takes them. Without them only the encoder is timed, on noise.
    encoder : str, default "stain"
        A name as ``load_encoder`` takes it.
    weights : path, optional
        File or folder with the weights.
    device : str, default "auto"
        As ``extract_slides`` takes it.
    assume_mpp : float, optional
        Micrometres a pixel of slides that do not say.
    revision, trust_remote_code
        As ``load_encoder`` takes them.
    store : path, default "."
        Folder that is to be written.
    n_workers : int, optional
        Reader processes. Default: one a processor.

    Returns
    -------
    Examination
        What is wrong is a finding and not an error, so that everything is looked at in one go.
    """
    n_workers = n_workers or cpu_count()
    findings, loaded, found, sample = [], None, None, None

    def look(what, function, *arguments):
        try:
            words, value = function(*arguments)
        except (SchemaError, DataError, SlideFailedError, OSError, RuntimeError) as error:
            findings.append(Finding(what, False, " ".join(map(str, error.args))))
            return None
        findings.append(Finding(what, True, words))
        return value

    look("openslide", _openslide)
    chosen = look("device", _device, device, encoder, n_workers)
    if chosen:
        options = {"revision": revision, "trust_remote_code": trust_remote_code}
        loaded = look("encoder", _encoder, encoder, weights, chosen, options)
    if sources:
        found = look("slides", _slides, sources, assume_mpp)
    if loaded and found:
        sample = look("tissue", _tissue, found, loaded, encoder)
    seconds = None
    if loaded and (sample or not sources):
        seconds = look("speed", _speed, loaded, chosen, sample, len(found or ()), n_workers)
    look("disk", _disk, Path(store), loaded, sample, len(found or ()))
    examination = Examination(tuple(findings), seconds)
    return examination if examination.is_good else Examination(tuple(findings))


def _openslide():
    openslide = need("openslide")
    return f"{openslide.__library_version__}, openslide-python {openslide.__version__}", None


def _device(device, encoder, n_workers):
    words = count(n_workers, "reader process", "reader processes")
    chosen = choose_device(device, encoder)
    if chosen.startswith("cuda"):
        cuda = need("torch").cuda
        cards = range(cuda.device_count()) if chosen == "cuda" else [int(chosen[5:])]
        names = [f"{card.name}, {card.total_memory / 1e9:.0f} GB" for card in map(_card, cards)]
        words = f"{chosen} ({listing(names)}); {words}"
    else:
        words = f"cpu; {words}"
    return words, chosen


def _card(number):
    return need("torch").cuda.get_device_properties(number)


def _encoder(name, weights, device, options):
    encoder = load_encoder(name, weights, device, **options)
    words = f"{encoder.id}; {encoder.dim} numbers a patch of {encoder.patch_px} px at "
    words += f"{encoder.mpp:g} µm a pixel"
    if encoder.pretrained_on:
        words += f"; trained on: {listing(encoder.pretrained_on)}"
    return words, encoder


def _slides(sources, assume_mpp):
    slides = list_slides(sources, assume_mpp)
    return count(len(slides), "slide"), slides


def _tissue(slides, encoder, name):
    """Prepare some slides and read 50 patches of them, as a reader process does."""
    local = [slide for slide in slides if "://" not in slide.path]
    if not local:
        raise DataError(
            "all slides are at URIs, and none is fetched here; give a local one to be timed."
        )
    chosen = [local[i] for i in sorted({0, len(local) // 2, len(local) - 1})][:N_SLIDES]
    with tempfile.TemporaryDirectory() as pictures:
        region_patches = getattr(encoder, "region_patches", None)
        handler = make_handler(
            ReadSettings(
                encoder.patch_px,
                encoder.mpp,
                region_patches,
                TissueOptions(),
                Path(pictures),
                name if encoder.in_reader else None,
            )
        )
        grids, prepare_s = [], 0.0
        for slide in chosen:
            started = time.perf_counter()
            (_, grid), _ = handler.prepare(_place(slide), slide.slide_id)
            prepare_s += time.perf_counter() - started
            grids.append(grid)
        images, read_s = _read(handler, chosen, grids)
    vectors = np.mean([len(grid) for grid in grids])
    patches = np.mean([_n_encoded(grid) for grid in grids])
    sample = _Sample(
        float(patches),
        float(vectors),
        prepare_s / len(chosen),
        read_s,
        None if encoder.in_reader else images,
    )
    words = f"about {round(vectors):,} patches a slide, by {count(len(chosen), 'slide')}"
    return f"{words} ({listing(slide.slide_id for slide in chosen)})", sample


def _place(slide):
    return slide.path, slide.mpp, slide.assume_mpp


def _n_encoded(grid):
    if grid.regions is None:
        return len(grid)
    return int((grid.regions["columns"] * grid.regions["rows"]).sum())


def _read(handler, slides, grids):
    """Read 50 patches in all, neighbours as in earnest: (images, seconds a patch)."""
    with_tissue = [(slide, grid) for slide, grid in zip(slides, grids, strict=True) if len(grid)]
    if not with_tissue:
        raise DataError(
            "no tissue found on these slides; run embed slides --qc-only and look at the pictures."
        )
    share = -(-N_PATCHES // len(with_tissue))
    images, seconds = [], 0.0
    for slide, grid in with_tissue:
        middle = max(0, (len(grid) - share) // 2)
        x_um, y_um = (place[middle : middle + share] for place in (grid.x_um, grid.y_um))
        handler.patches(_place(slide), x_um[:1], y_um[:1])  # compiles what is compiled
        started = time.perf_counter()
        _, (pixels, _, _) = handler.patches(_place(slide), x_um, y_um)
        seconds += time.perf_counter() - started
        images.append(pixels)
    images = np.concatenate(images)
    return images, seconds / len(images)


def _speed(encoder, device, sample, n_slides, n_workers):
    """Time the encoder; with slides, work out the time of the cohort."""
    on_card = device.startswith("cuda")
    encode_s = 0.0
    if sample is None or sample.images is not None:
        images = None if sample is None else sample.images
        encode_s = _encode_seconds(
            encoder, images, BATCH_SIZE["cuda" if on_card else "cpu"], on_card
        )
    if sample is None:
        words = f"{1 / encode_s:,.1f} patches of noise a second"
        words += " in each reader process" if encoder.in_reader else ""
        return f"{words}; give slides to learn how long they will take", None
    patch_s = patch_seconds(sample.read_s, encode_s, n_workers, on_card)
    seconds = n_slides * (sample.prepare_s / n_workers + sample.patches * patch_s)
    read = "read and encoded" if encoder.in_reader else "read"
    words = f"{read} {1 / sample.read_s:,.1f} patches a second in a process"
    if encode_s:
        words += f", encoded {1 / encode_s:,.1f} a second"
    return f"{words}; the cohort will take about {in_words(seconds)}", seconds


def patch_seconds(read_s, encode_s, n_workers, on_card):
    """Work out the time a patch takes when several processes read and one encodes.

    Parameters
    ----------
    read_s : float
        Seconds a patch in one reader process.
    encode_s : float
        Seconds a patch on the device; 0 where readers encode.
    n_workers : int
        Reader processes.
    on_card : bool
        Whether the device is a graphics card. Then the slower of the two decides; on a CPU both
        take their share of the same processors.

    Returns
    -------
    float
        Seconds.

    Examples
    --------
    >>> patch_seconds(0.01, 0.002, 4, on_card=True)
    0.0025
    >>> patch_seconds(0.01, 0.05, 2, on_card=False)
    0.055
    """
    reading = read_s / n_workers
    return max(reading, encode_s) if on_card else reading + encode_s


def _encode_seconds(encoder, images, batch_size, on_card):
    """Time the encoder on 50 patches (on a card on a whole batch): seconds a patch."""
    if images is None:
        side = encoder.patch_px
        images = np.random.default_rng(0).integers(
            0, 256, (N_PATCHES, side, side, 3), dtype=np.uint8
        )
    if on_card and len(images) < batch_size:
        images = np.resize(images, (batch_size, *images.shape[1:]))
    batches = DeviceBatches(encoder, batch_size)
    batches.encode(images if on_card else images[:1])  # the first time is not like the others
    started = time.perf_counter()
    batches.encode(images)
    return (time.perf_counter() - started) / len(images)


def _disk(store, encoder, sample, n_slides):
    store = store.absolute()
    folder = next(place for place in (store, *store.parents) if place.is_dir())
    free = shutil.disk_usage(folder).free
    words = f"{_size(free)} free for {store}"
    if sample is not None:
        needed = n_slides * sample.vectors * encoder.dim * np.dtype(encoder.dtype).itemsize
        words += f", about {_size(needed)} needed"
        if needed > free:
            raise DataError(f"{words}. Give another folder (--out), or make room.")
    return words, None


def _size(n_bytes):
    return f"{n_bytes / 1e6:,.1f} MB" if n_bytes < 1e9 else f"{n_bytes / 1e9:,.1f} GB"
