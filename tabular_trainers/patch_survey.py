"""One pass over a store: which cluster every patch lies in, and what there is to say of each."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from tabular_trainers.patch_prevalence import check_clusters, shares
from tabular_trainers.patch_sample import slide_generator

KINDS = ("nearest", "random")
_CANDIDATE = np.dtype(
    [
        ("cluster", "i4"),
        ("rank", "i4"),  # among the patient's own
        ("key", "f8"),  # what is the smallest is taken
        ("slide", "i4"),
        ("row", "i8"),
        ("x_um", "f8"),
        ("y_um", "f8"),
        ("size_um", "f8"),
        ("distance", "f8"),
    ]
)


@dataclass(frozen=True, eq=False)
class Survey:
    """What is known of every cluster and of every patch.

    Attributes
    ----------
    prevalence : DataFrame
        Share of each patient's patches in each cluster, as `prevalence` gives it.
    slide_prevalence : DataFrame
        The same by slide, indexed by ``slide_id``.
    quality : DataFrame
        A row a cluster: ``cluster``, ``n_patches``, ``n_patients`` (with at least one of its
        patches), mean ``blur`` and ``artefact`` of its patches (missing where it has none).
    examples : DataFrame
        Patches to look at: ``cluster``, ``kind`` (``nearest`` to the centre, nearest first, or
        ``random``), ``slide_id``, ``patient_id``, ``row``, ``x_um``, ``y_um``, ``size_um``,
        ``distance`` from the centre.
    labels : dict of str to ndarray (n_patches,) of int16
        By slide: the cluster of each patch, 0 for the first.
    """

    prevalence: pd.DataFrame
    slide_prevalence: pd.DataFrame
    quality: pd.DataFrame
    examples: pd.DataFrame
    labels: dict


def survey(patches, clusters, n_examples=8, seed=0, by="slide", patients=None, progress=None):
    """Assign every patch of a store to its cluster; sum up clusters, patients and slides.

    The store is read once, slide by slide.

    Parameters
    ----------
    patches : PatchStore
    clusters : Clusters
    n_examples : int, default 8
        Patches a cluster and kind. They are of different patients while there are enough of them.
        A random one is none of the nearest.
    seed : int, default 0
        Of the random examples: each patch of a cluster is as likely as any other to be the first.
    by : {"slide", "patch"}, default "slide"
        As in `prevalence`.
    patients : sequence of str, optional
        Default: all of the store.
    progress : callable, optional
        Called as ``progress(done, total, what)`` after each slide.

    Returns
    -------
    Survey

    Raises
    ------
    SchemaError
        When the clusters are of another encoder, or ``by`` is unknown.
    DataError
        When some patients have no patch.
    """
    check_clusters(patches, clusters)
    slides, k = patches.slides_of(patients).reset_index(drop=True), clusters.k
    counts = np.zeros((len(slides), k), dtype=np.int64)
    sums = {"blur": np.zeros(k), "artefact": np.zeros(k)}
    pools = {kind: np.empty(0, _CANDIDATE) for kind in KINDS}
    labels, done = {}, 0
    for _, own in slides.groupby("patient_id", sort=False):
        found = {kind: [] for kind in KINDS}
        for number, slide in zip(own.index, own["slide_id"], strict=True):
            candidates = _candidates(patches, clusters, slide)
            candidates["slide"] = number
            label, frame = candidates["cluster"], patches.frame(slide)
            for column, summed in sums.items():
                summed += np.bincount(label, frame[column].to_numpy("float64"), minlength=k)
            for column in ("x_um", "y_um", "size_um"):
                candidates[column] = frame[column]
            counts[number] = np.bincount(label, minlength=k)
            labels[slide] = label.astype(np.int16)
            candidates["key"] = candidates["distance"]
            found["nearest"].append(_first(candidates, n_examples))
            candidates["key"] = slide_generator(slide, seed).random(len(label))
            found["random"].append(_first(candidates, 2 * n_examples))
            done += 1
            if progress is not None:
                progress(done, len(slides), f"slide {slide}")
        for kind, n in (("nearest", n_examples), ("random", 2 * n_examples)):
            ranked = _first(np.concatenate(found[kind]), n, rank=True)
            pools[kind] = _first(np.concatenate([pools[kind], ranked]), n)
    counts = pd.DataFrame(counts, columns=clusters.names)
    n_patches = counts.sum().to_numpy()
    with_any = counts.gt(0).groupby(slides["patient_id"]).any().sum().to_numpy()
    known = {name: np.where(n_patches > 0, s / np.maximum(n_patches, 1), np.nan)
             for name, s in sums.items()}  # fmt: skip
    return Survey(
        prevalence=shares(counts, slides["patient_id"], by),
        slide_prevalence=shares(counts, slides["slide_id"]).rename_axis("slide_id"),
        quality=pd.DataFrame(
            {"cluster": clusters.names, "n_patches": n_patches, "n_patients": with_any, **known}
        ),
        examples=_examples(pools, clusters.names, slides, n_examples),
        labels=labels,
    )


def _candidates(patches, clusters, slide):
    """Give a row for each patch of a slide: its cluster, and how far it is from its centre."""
    parts = []
    for block in patches.iterate(slide):
        part = np.zeros(len(block), _CANDIDATE)
        part["cluster"] = clusters.assign(block)
        part["distance"] = clusters.distance(block, part["cluster"])
        parts.append(part)
    found = np.concatenate(parts)
    found["row"] = np.arange(len(found))
    return found


def _first(candidates, n, rank=False):
    """Keep the first n of each cluster by rank and key; on request, number these as their rank."""
    order = np.lexsort([candidates["key"], candidates["rank"], candidates["cluster"]])
    ordered = candidates["cluster"][order]
    place = np.arange(len(order)) - np.searchsorted(ordered, ordered)
    kept = candidates[order[place < n]]
    if rank:
        kept["rank"] = place[place < n]
    return kept


def _examples(pools, names, slides, n_examples):
    """Lay out the chosen patches, nearest first; random ones are none of these."""
    nearest, random = pools["nearest"], pools["random"]
    taken = np.isin(_places(random), _places(nearest))
    parts = [nearest, _first(random[~taken], n_examples)]
    chosen = np.concatenate(parts)
    frame = pd.DataFrame(
        {
            "cluster": np.array(names, dtype=object)[chosen["cluster"]],
            "kind": np.repeat(KINDS, [len(part) for part in parts]).astype(object),
            "slide_id": slides["slide_id"].to_numpy()[chosen["slide"]],
            "patient_id": slides["patient_id"].to_numpy()[chosen["slide"]],
            **{c: chosen[c] for c in ("row", "x_um", "y_um", "size_um", "distance")},
        }
    )
    order = np.lexsort([chosen["key"], frame["kind"] == "random", chosen["cluster"]])
    return frame.iloc[order].reset_index(drop=True)


def _places(candidates):
    """Give each patch a number of its own, of its slide and row."""
    return candidates["slide"].astype(np.int64) << 40 | candidates["row"]
