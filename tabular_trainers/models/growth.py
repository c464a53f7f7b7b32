"""Grow the trees of a forest in threads and join them into one set of arrays."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from tabular_trainers.models.binning import bin_columns
from tabular_trainers.models.tree_kernel import grow_tree
from tabular_trainers.models.trees import Forest


@dataclass(frozen=True)
class Times:
    """When patients are at risk, in time bins for the splits and unbinned for the leaves.

    Attributes
    ----------
    event : bool array of shape (n,)
    first, last : int arrays of shape (n,)
        Time bins, counted from 1, between which a patient is at risk; none if last < first. An
        event happens in the last.
    entry_rank, time_rank : int arrays of shape (n,)
        Number of distinct event times up to entry, and up to the time.
    end_rank : int array of shape (n_steps,)
        Number of distinct event times up to the end of each time bin.
    """

    event: np.ndarray
    first: np.ndarray
    last: np.ndarray
    entry_rank: np.ndarray
    time_rank: np.ndarray
    end_rank: np.ndarray


@dataclass(frozen=True)
class Grown:
    """A forest and what its leaves hold.

    Attributes
    ----------
    forest : Forest
    risk : array of shape (n_leaves,)
        Cumulative hazard, mean over the distinct event times.
    hazard, survival : float32 arrays of shape (n_leaves, n_steps)
        Nelson-Aalen and Kaplan-Meier estimates of a leaf at the ends of the time bins.
    out_of_bag_risk : array of shape (n,)
        Mean risk over the trees that a patient was not drawn for; NaN where there is none.
    """

    forest: Forest
    risk: np.ndarray
    hazard: np.ndarray
    survival: np.ndarray
    out_of_bag_risk: np.ndarray


def grow_forest(
    X,
    times,
    n_trees,
    min_samples_leaf,
    max_features,
    seed,
    max_depth=None,
    bootstrap=True,
    max_samples=1.0,
    sample_weight=None,
    out_of_bag=False,
    n_jobs=1,
):
    """Grow trees, each split by the log-rank statistic with its hypergeometric variance.

    Parameters
    ----------
    X : array of shape (n, p), or BinnedColumns
    times : Times
    n_trees : int
    min_samples_leaf : int
        Patients drawn in a leaf, at least, however often they were drawn.
    max_features : float, int or "sqrt"
        Columns looked at in a split: a share, a number, or the root of their number.
    seed : int
    max_depth : int, optional
        Splits from root to leaf, at most.
    bootstrap : bool
        Draw patients with replacement.
    max_samples : float
        Share of the patients drawn for a tree.
    sample_weight : array of shape (n,), optional
        Taken relative to their mean: the variance counts patients. A weight of 0 leaves out.
    out_of_bag : bool
        Also work out the risk of patients from the trees they were not drawn for.
    n_jobs : int
        Threads; each tree has its own seed, so the trees are the same.

    Returns
    -------
    Grown
    """
    columns = bin_columns(X)
    p, n = columns.bins.shape
    # In the order of the times a node's patients come sorted, and its leaf's curves cost one pass.
    order = np.lexsort((~times.event, times.time_rank))
    bins = np.take(columns.bins, order, axis=1)
    rows = np.ascontiguousarray(bins.T)
    weight = np.ones(n) if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
    weight = (weight / weight.mean())[order]
    outcome = [
        np.ascontiguousarray(values[order])
        for values in (times.event, times.first, times.last, times.entry_rank, times.time_rank)
    ]
    n_drawn = max(1, round(max_samples * n))
    n_most = 2 * max(1, n_drawn // int(min_samples_leaf)) + 1  # nodes
    settings = (
        times.end_rank,
        int(times.time_rank.max()),
        int(min_samples_leaf),
        n if max_depth is None else int(max_depth),
        columns_tried(max_features, p),
        n_drawn,
        bool(bootstrap),
    )
    seeds = np.random.SeedSequence(seed).generate_state(n_trees, dtype=np.uint64)

    def grow(tree_seed):
        nodes = np.full((9, n_most), -1, dtype=np.int32)
        measures = np.zeros((3, n_most))
        curves = np.empty((2, n_most, len(times.end_rank)), dtype=np.float32)
        leaf = np.full(n if out_of_bag else 0, -1, dtype=np.int32)
        n_nodes, n_leaves, depth = grow_tree(
            bins, rows, columns.n_cuts, weight, *outcome, *settings, tree_seed,
            nodes, measures, curves, leaf,
        )  # fmt: skip
        grown = (
            nodes[:5, :n_nodes].copy(),
            measures[:2, :n_nodes].copy(),
            measures[2, :n_leaves].copy(),
            curves[:, :n_leaves].copy(),
        )
        return grown, leaf, depth

    total, trees = np.zeros(n), np.zeros(n)
    grown, depths = [], []
    for tree, leaf, depth in _in_threads(grow, seeds, n_jobs):
        grown.append(tree)
        depths.append(depth)
        out = np.flatnonzero(leaf >= 0)
        total[out] += tree[2][leaf[out]]
        trees[out] += 1
    with np.errstate(invalid="ignore"):
        risk = np.empty(n)
        risk[order] = total / trees
    return _join(grown, max(depths), columns.cuts, risk)


def columns_tried(max_features, p):
    """Give the number of columns looked at in a split."""
    if max_features == "sqrt":
        return max(1, int(np.sqrt(p)))
    if isinstance(max_features, (int, np.integer)):
        return max(1, min(p, int(max_features)))
    return max(1, min(p, round(max_features * p)))


def _in_threads(grow, seeds, n_jobs):
    """Yield the trees in the order of their seeds, also when they were grown in threads."""
    if n_jobs == 1:
        yield from map(grow, seeds)
        return
    pool = ThreadPoolExecutor(n_jobs)
    try:
        yield from pool.map(grow, seeds)
    finally:  # an interrupted fit does not wait for the trees that nobody wants any more
        pool.shutdown(wait=True, cancel_futures=True)


def _join(grown, depth, cuts, out_of_bag_risk):
    nodes, measures, risk, curves = (
        np.concatenate([tree[k] for tree in grown], axis=axis)
        for k, axis in enumerate((1, 1, 0, 1))
    )
    left, right, feature, cut, missing_left = nodes
    sizes = [tree[0].shape[1] for tree in grown]
    roots = np.cumsum([0, *sizes[:-1]])
    shift = np.repeat(roots, sizes)
    leaf = left < 0
    own = np.arange(len(left))
    feature, cut = np.where(leaf, 0, feature), np.where(leaf, 0, cut)
    forest = Forest(
        roots=roots.astype(np.int32),
        left=np.where(leaf, own, left + shift).astype(np.int32),
        right=np.where(leaf, own, right + shift).astype(np.int32),
        feature=feature.astype(np.int32),
        threshold=np.where(leaf, np.float32(0), cuts[feature, cut]),
        missing_left=missing_left == 1,
        weight=measures[0].copy(),
        gain=measures[1].astype(np.float32),
        depth=depth,
    )
    return Grown(forest, risk, curves[0].copy(), curves[1].copy(), out_of_bag_risk)
