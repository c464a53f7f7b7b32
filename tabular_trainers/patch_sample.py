"""Draw patches evenly over patients, and over the slides of each, from a store of any size."""

import hashlib
from dataclasses import dataclass

import numpy as np

from tabular_trainers.errors import SchemaError


@dataclass(frozen=True, eq=False)
class PatchSample:
    """Some patches of a store, in the order of patients, slides and rows.

    Attributes
    ----------
    vectors : ndarray (n, dim) of float32
    patient_id, slide_id : ndarray (n,) of text
    row : ndarray (n,) of int64
        Within the slide's file, the first is 0.
    encoder_id : str
    """

    vectors: np.ndarray
    patient_id: np.ndarray
    slide_id: np.ndarray
    row: np.ndarray
    encoder_id: str


def sample_patches(patches, patients=None, n=100_000, seed=0, progress=None):
    """Draw patches: as many of each patient, as many of each of its slides, random rows.

    A patient with fewer patches gives all, and so does a slide; the others then give more. When
    the store has fewer than ``n``, all are taken. Which patches of a patient are drawn depends on
    the seed, the ids of its slides and the number a patient, never on the vectors of anybody. The
    store is read once; memory is that of the sample and one slide.

    Parameters
    ----------
    patches : PatchStore
    patients : sequence of str, optional
        Whom to draw from. Default: all.
    n : int, default 100000
        At most this many, at least one a patient.
    seed : int, default 0
    progress : callable, optional
        Called as ``progress(done, total, what)`` after each slide.

    Returns
    -------
    PatchSample

    Raises
    ------
    DataError
        When some patients have no patch.
    SchemaError
        When ``n`` is below 1, or a vector is not finite.
    """
    if n < 1:
        raise SchemaError(f"n = {n}: expected at least one patch.")
    slides = patches.slides_of(patients)
    counts = shared_out(slides["n_patches"], slides["patient_id"], n)
    chosen = [
        _rows(slide, size, wanted, seed)
        for slide, size, wanted in zip(slides["slide_id"], slides["n_patches"], counts, strict=True)
    ]
    vectors = np.empty((counts.sum(), patches.dim), dtype="float32")
    filled = 0
    for done, (slide, rows) in enumerate(zip(slides["slide_id"], chosen, strict=True), 1):
        if len(rows):
            filled = _fill(vectors, filled, patches, slide, rows)
        if progress is not None:
            progress(done, len(slides), f"slide {slide}")
    return PatchSample(
        vectors=vectors,
        patient_id=slides["patient_id"].to_numpy().repeat(counts),
        slide_id=slides["slide_id"].to_numpy().repeat(counts),
        row=np.concatenate(chosen),
        encoder_id=patches.encoder_id,
    )


def shared_out(sizes, groups, n):
    """Share a number out over groups, then over the members of each, as evenly as sizes allow.

    Parameters
    ----------
    sizes : sequence of int
        What each member has; none gives more.
    groups : sequence of str, the same length
        To whom it belongs.
    n : int
        At most this many in all; but every group gives at least one.

    Returns
    -------
    ndarray of int
        How many each gives, such that groups give as many as each other (or all they have), and so
        do members of a group; what does not divide evenly in a group goes to its first members,
        and what does not divide evenly over groups is left.

    Examples
    --------
    >>> shared_out([10, 10, 2, 50], ["a", "a", "b", "c"], 20)
    array([5, 4, 2, 9])
    """
    sizes = np.asarray(sizes, dtype=np.int64)
    names, place = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    held = np.bincount(place, weights=sizes, minlength=len(names)).astype(np.int64)
    wanted = np.minimum(held, max(1, _level(held, n)))
    counts = np.zeros(len(sizes), dtype=np.int64)
    order = np.argsort(place, kind="stable")
    for members, share in zip(
        np.split(order, np.cumsum(np.bincount(place))[:-1]), wanted, strict=True
    ):
        own = sizes[members]
        level = _level(own, share)
        counts[members] = np.minimum(own, level)
        rest = share - counts[members].sum()
        counts[members[np.flatnonzero(own > level)[:rest]]] += 1
    return counts


def _level(sizes, n):
    """Find the largest whole level such that all sizes cut at it sum to at most n."""
    ordered = np.sort(sizes)
    if ordered.sum() <= n:
        return int(ordered[-1])
    below = np.concatenate([[0], np.cumsum(ordered)[:-1]])  # of the smaller ones, whole
    levels = (n - below) // np.arange(len(ordered), 0, -1)
    return int(levels[np.argmax(levels < ordered)])


def _rows(slide, size, wanted, seed):
    """Choose rows of a slide: of more, the same ones and others."""
    return np.sort(slide_generator(slide, seed).permutation(size)[:wanted])


def slide_generator(slide_id, seed):
    """Make a random generator of a slide's own: who else is in the store changes nothing."""
    own = int.from_bytes(hashlib.sha256(slide_id.encode()).digest()[:8], "big")
    return np.random.default_rng([seed, own])


def _fill(vectors, filled, patches, slide, rows):
    """Copy the chosen rows of a slide from its blocks to where the sample is filled to."""
    start = 0
    for block in patches.iterate(slide):
        low, high = np.searchsorted(rows, [start, start + len(block)])
        vectors[filled : filled + high - low] = block[rows[low:high] - start]
        filled, start = filled + high - low, start + len(block)
    return filled
