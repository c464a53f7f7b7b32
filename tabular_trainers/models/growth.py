"""Grow trees on binned columns and binned event times.

A node's log-rank numerator for any cut is a sum over its patients of one score, event minus
cumulative hazard, so a column costs one pass over the node's patients and one over its bins.
"""

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from tabular_trainers.kernels import compile_kernel
from tabular_trainers.models.trees import Forest

MAX_BINS = 128  # cuts a column; finer ones changed no concordance


def grow_forest(X, event, step, n_steps, n_trees, min_samples_leaf, max_features, seed, n_jobs):
    """Grow trees on bootstrap samples, each split by the log-rank score statistic.

    The statistic is the log-rank numerator over its permutation standard deviation given the
    node's scores; a node is split at its largest over a random share of the columns, until no
    split leaves ``min_samples_leaf`` patients on both sides.

    Parameters
    ----------
    X : array of shape (n, p)
        Without missing values.
    event : bool array of shape (n,)
    step : int array of shape (n,)
        Last of the ``n_steps`` time bins, counted from 1, at which the patient is at risk; 0 for
        none. An event happens in it.
    max_features : float
        Share of the columns looked at in a split, at least one.
    seed : int
    n_jobs : int
        Threads; each tree has its own seed, so the trees are the same.

    Returns
    -------
    forest : Forest
    hazard : array of shape (n_leaves, n_steps)
        Cumulative hazard of every leaf (Nelson-Aalen), leaves in the order of their nodes.

    References
    ----------
    Hothorn, T. and Lausen, B. (2003). On the exact distribution of maximally selected rank
    statistics. Computational Statistics & Data Analysis 43(2).
    """
    X = np.asarray(X, dtype=np.float32)  # what a fitted forest compares thresholds with
    bins, cuts, n_cuts = _bin_columns(X)
    tried = max(1, min(X.shape[1], round(max_features * X.shape[1])))
    seeds = np.random.SeedSequence(seed).generate_state(n_trees, dtype=np.uint64)
    event = np.ascontiguousarray(event, dtype=np.bool_)
    step = np.ascontiguousarray(step, dtype=np.int64)

    def grow(tree_seed):
        return _grow(
            bins, n_cuts, event, step, int(n_steps), int(min_samples_leaf), tried, tree_seed
        )

    if n_jobs == 1:
        grown = [grow(s) for s in seeds]
    else:
        with ThreadPoolExecutor(n_jobs) as pool:
            grown = list(pool.map(grow, seeds))
    return _join(grown, cuts)


def _bin_columns(X):
    """Bin every column at midpoints between values: (p, n) uint8, cuts (p, MAX_BINS), counts."""
    n, p = X.shape
    bins = np.empty((p, n), dtype=np.uint8)
    cuts = np.zeros((p, MAX_BINS))
    n_cuts = np.zeros(p, dtype=np.int64)
    for j in range(p):
        values = np.unique(X[:, j]).astype(np.float64)
        if len(values) > MAX_BINS:
            inner = np.sort(X[:, j])[np.arange(1, MAX_BINS) * n // MAX_BINS]
            values = np.unique(np.append(inner, X[:, j].max())).astype(np.float64)
            between = values[:-1]  # an observed value: the cut is "at most this"
        else:
            between = (values[:-1] + values[1:]) / 2
        n_cuts[j] = len(between)
        cuts[j, : len(between)] = between
        bins[j] = np.searchsorted(between, X[:, j], side="left")
    return bins, cuts, n_cuts


def _join(grown, cuts):
    offsets = np.cumsum([0] + [len(tree[0]) for tree in grown])
    left, right, feature, cut, weight = (
        np.concatenate([tree[k] for tree in grown]) for k in range(5)
    )
    shift = np.repeat(offsets[:-1], np.diff(offsets))
    leaf = left < 0
    own = np.arange(len(left))
    forest = Forest(
        roots=offsets[:-1].astype(np.int64),
        left=np.where(leaf, own, left + shift),
        right=np.where(leaf, own, right + shift),
        feature=np.where(leaf, 0, feature),
        threshold=np.where(leaf, 0.0, cuts[feature, cut]),
        weight=weight,
        depth=max(int(tree[6]) for tree in grown),
    )
    return forest, np.concatenate([tree[5] for tree in grown])


@compile_kernel(
    "Tuple((int64[::1], int64[::1], int64[::1], int64[::1], float64[::1], float64[:,::1], int64))"
    "(uint8[:,::1], int64[::1], boolean[::1], int64[::1], int64, int64, int64, uint64)"
)
def _grow(bins, n_cuts, event, step, n_steps, min_leaf, tried, seed):
    p, n = bins.shape
    state = np.uint64(seed)

    # bootstrap: how often each patient was drawn, by Knuth's linear congruential generator, of
    # which the upper bits are used; numba's own generator is one state for all threads
    drawn = np.zeros(n)
    for _ in range(n):
        state = state * np.uint64(6364136223846793005) + np.uint64(1442695040888963407)
        drawn[int((state >> np.uint64(33)) % np.uint64(n))] += 1.0
    members = np.empty(n, dtype=np.int64)
    size = 0
    for i in range(n):
        if drawn[i] > 0:
            members[size] = i
            size += 1

    most = 2 * max(1, size // min_leaf) + 1
    left = np.full(most, -1, dtype=np.int64)
    right = np.full(most, -1, dtype=np.int64)
    feature = np.zeros(most, dtype=np.int64)
    cut = np.zeros(most, dtype=np.int64)
    weight = np.zeros(most)
    begin = np.zeros(most, dtype=np.int64)
    end = np.zeros(most, dtype=np.int64)
    level = np.zeros(most, dtype=np.int64)
    hazard = np.zeros((most, n_steps))
    end[0] = size
    n_nodes = 1
    n_leaves = 0
    deepest = 0

    deaths = np.zeros(n_steps + 1)
    leaving = np.zeros(n_steps + 1)
    cumulative = np.zeros(n_steps + 1)
    score = np.zeros(n)
    columns = np.arange(p)
    bin_score = np.zeros(256)
    bin_weight = np.zeros(256)
    bin_count = np.zeros(256, dtype=np.int64)
    moved = np.empty(n, dtype=np.int64)

    # Children are numbered after their parent, so one pass over the growing list grows the tree;
    # splitting partitions the node's stretch of ``members``.
    node = 0
    while node < n_nodes:
        lo = begin[node]
        hi = end[node]
        deaths[:] = 0.0
        leaving[:] = 0.0
        total = 0.0
        for k in range(lo, hi):
            i = members[k]
            leaving[step[i]] += drawn[i]
            total += drawn[i]
            if event[i]:
                deaths[step[i]] += drawn[i]
        weight[node] = total
        at_risk = total - leaving[0]
        for t in range(1, n_steps + 1):
            increment = deaths[t] / at_risk if deaths[t] > 0 else 0.0
            cumulative[t] = cumulative[t - 1] + increment
            at_risk -= leaving[t]

        best = 1e-12
        best_feature = -1
        best_cut = 0
        if hi - lo >= 2 * min_leaf:
            for k in range(lo, hi):
                i = members[k]
                score[i] = drawn[i] * ((1.0 if event[i] else 0.0) - cumulative[step[i]])
            for c in range(tried):
                # the next of a random order of the columns
                state = state * np.uint64(6364136223846793005) + np.uint64(1442695040888963407)
                other = c + int((state >> np.uint64(33)) % np.uint64(p - c))
                j = columns[other]
                columns[other] = columns[c]
                columns[c] = j
                used = n_cuts[j] + 1
                for b in range(used):
                    bin_score[b] = 0.0
                    bin_weight[b] = 0.0
                    bin_count[b] = 0
                for k in range(lo, hi):
                    i = members[k]
                    b = bins[j, i]
                    bin_score[b] += score[i]
                    bin_weight[b] += drawn[i]
                    bin_count[b] += 1
                below = 0.0
                weight_below = 0.0
                count_below = 0
                for b in range(used - 1):
                    if bin_count[b] == 0:
                        continue
                    below += bin_score[b]
                    weight_below += bin_weight[b]
                    count_below += bin_count[b]
                    if count_below < min_leaf:
                        continue
                    if hi - lo - count_below < min_leaf:
                        break
                    # scores sum to zero in the node: the permutation variance of their sum below
                    # the cut is proportional to weight_below * weight_above
                    value = below * below / (weight_below * (total - weight_below))
                    if value > best:
                        best = value
                        best_feature = j
                        best_cut = b
        if best_feature < 0:
            hazard[n_leaves] = cumulative[1:]
            n_leaves += 1
            node += 1
            continue

        middle = lo
        n_moved = 0
        for k in range(lo, hi):
            i = members[k]
            if bins[best_feature, i] <= best_cut:
                members[middle] = i
                middle += 1
            else:
                moved[n_moved] = i
                n_moved += 1
        members[middle:hi] = moved[:n_moved]
        feature[node] = best_feature
        cut[node] = best_cut
        left[node] = n_nodes
        right[node] = n_nodes + 1
        begin[n_nodes] = lo
        end[n_nodes] = middle
        begin[n_nodes + 1] = middle
        end[n_nodes + 1] = hi
        level[n_nodes] = level[node] + 1
        level[n_nodes + 1] = level[node] + 1
        deepest = max(deepest, level[node] + 1)
        n_nodes += 2
        node += 1

    return (
        left[:n_nodes].copy(),
        right[:n_nodes].copy(),
        feature[:n_nodes].copy(),
        cut[:n_nodes].copy(),
        weight[:n_nodes].copy(),
        hazard[:n_leaves].copy(),
        deepest,
    )
