"""Pool the patches of a patient again without one of its clusters, from sums a cluster."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Bag:
    """Patches summed up a cluster, around a point near them so that little cancels.

    Attributes
    ----------
    n : ndarray (k,) of int64
        Patches.
    near : ndarray (dim,)
    sums, squares, largest : ndarray (k, dim) or None
        Of the numbers minus ``near``; the largest are the numbers themselves. None: not needed.
    """

    n: np.ndarray
    near: np.ndarray
    sums: np.ndarray | None = None
    squares: np.ndarray | None = None
    largest: np.ndarray | None = None


def summarise_bags(patches, slides, labels, k, how, clusters=None):
    """Sum up the slides of one patient.

    Parameters
    ----------
    patches : PatchStore
    slides : sequence of str
    labels : dict of str to ndarray (n_patches,) of int
        By slide: the cluster of each patch.
    k : int
        Clusters.
    how : str
        One of ``POOLED_AGAIN``.
    clusters : Clusters, optional
        Those of the fold, of which the block has the shares, with ``how="clusters"``.

    Returns
    -------
    list of Bag
        A slide each.
    """
    near, bags = None, []
    dim = patches.dim if clusters is None else clusters.k
    for slide in slides:
        arrays = {name: np.full((k, dim), start) for name, start in _NEEDS[how].items()}
        n, begin = np.zeros(k, dtype=np.int64), 0
        for block in patches.iterate(slide):
            own = labels[slide][begin : begin + len(block)].astype(np.int64)
            begin += len(block)
            n += np.bincount(own, minlength=k)
            order = np.argsort(own, kind="stable")
            found, starts = np.unique(own[order], return_index=True)
            values = block[order]
            if clusters is not None:
                values = np.arange(dim) == clusters.assign(values)[:, None]
            values = values.astype(np.float64)
            near = values.mean(axis=0) if near is None else near
            if "largest" in arrays:
                new = np.maximum.reduceat(values, starts, axis=0)
                arrays["largest"][found] = np.maximum(arrays["largest"][found], new)
            values -= near
            if "sums" in arrays:
                arrays["sums"][found] += np.add.reduceat(values, starts, axis=0)
            if "squares" in arrays:
                arrays["squares"][found] += np.add.reduceat(values**2, starts, axis=0)
        bags.append(Bag(n, near, **arrays))
    return bags


def pool_without(bags, how, by, columns):
    """Pool the bags of one patient as a block was pooled, whole and without each cluster.

    Parameters
    ----------
    bags : list of Bag
        A slide each.
    how, by : str
        As of a `Subject`.
    columns : list of (str, int)
        Of each column of the block, the ending that names its statistic, and the number of the
        vector that it is of.

    Returns
    -------
    share : ndarray (k,)
        Of the patient's patches in each cluster; slides count as they do in the block.
    whole : ndarray (n_columns,)
        The columns, of all patches.
    without : ndarray (k, n_columns)
        The columns, of the patches of the other clusters.
    possible : ndarray (k,) of bool
        False where there is no other patch.
    """
    if by == "patch":
        bags = [_joined(bags)]
    share = np.mean([bag.n / bag.n.sum() for bag in bags], axis=0)
    statistics = _STATISTICS[how]
    left = np.array([bag.n.sum() - np.append(bag.n, 0) for bag in bags])
    with np.errstate(invalid="ignore", divide="ignore"):  # where nothing is left
        pooled = np.array(
            [[f(bag, n) for f in statistics.values()] for bag, n in zip(bags, left, strict=True)]
        )
    # A slide on which nothing is left counts no more than one without tissue.
    pooled = np.where((left > 0)[:, None, :, None], pooled, 0.0).sum(axis=0)
    n_slides = (left > 0).sum(axis=0)
    pooled /= np.maximum(n_slides, 1)[None, :, None]
    places = {suffix: place for place, suffix in enumerate(statistics)}
    suffixes, features = zip(*columns, strict=True)
    rows = pooled[[places[suffix] for suffix in suffixes], :, list(features)].T
    return share, rows[-1], rows[:-1], n_slides[:-1] > 0


def _joined(bags):
    """Make one bag of several; all are summed up around the same point."""
    whole = {"n": sum(bag.n for bag in bags), "near": bags[0].near}
    for name in ("sums", "squares"):
        if getattr(bags[0], name) is not None:
            whole[name] = sum(getattr(bag, name) for bag in bags)
    if bags[0].largest is not None:
        whole["largest"] = np.max([bag.largest for bag in bags], axis=0)
    return Bag(**whole)


def _shift(bag, left):
    """Give the mean of what is left minus ``near``: a row for each cluster left out, and none."""
    total = bag.sums.sum(axis=0)
    return np.vstack([total - bag.sums, total]) / left[:, None]


def _mean(bag, left):
    return bag.near + _shift(bag, left)


def _std(bag, left):
    total = bag.squares.sum(axis=0)
    squares = np.vstack([total - bag.squares, total]) / left[:, None]
    return np.sqrt(np.maximum(squares - _shift(bag, left) ** 2, 0.0))


def _max(bag, left):
    """Give the largest of the others: the second largest where the cluster holds the largest."""
    k, dim = bag.largest.shape
    first = bag.largest.argmax(axis=0)
    rest = bag.largest.copy()
    rest[first, np.arange(dim)] = -np.inf
    largest = np.tile(bag.largest.max(axis=0), (k + 1, 1))
    largest[first, np.arange(dim)] = rest.max(axis=0)
    return largest


_STATISTICS = {
    "mean": {"": _mean},
    "mean+std": {"": _mean, "_std": _std},
    "max": {"_max": _max},
    "clusters": {"": _mean},  # of columns that are 1 for the patches of a cluster, else 0
}
_NEEDS = {  # what is kept a cluster, and what it starts with
    "mean": {"sums": 0.0},
    "mean+std": {"sums": 0.0, "squares": 0.0},
    "max": {"largest": -np.inf},
    "clusters": {"sums": 0.0},
}
POOLED_AGAIN = tuple(_STATISTICS)
