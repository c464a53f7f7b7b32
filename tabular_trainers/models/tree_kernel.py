"""Grow one survival tree: the best log-rank split of every node, over binned columns and times.

A cut's log-rank numerator is a sum over the patients left of it of one score, event minus
cumulative hazard. Its hypergeometric variance is V = sum_k f_k l_k (n_k - l_k), with n_k patients
at risk at the node's time bin k, l_k of them left of the cut, d_k events, and
f_k = d_k (n_k - d_k) / (n_k^2 (n_k - 1)). Both are followed from the lowest bin of a column to the
highest.
"""

from collections import namedtuple

import numpy as np

from tabular_trainers.kernels import compile_kernel
from tabular_trainers.models.binning import MAX_BINS, MISSING

# From about this many patients on a table of time bin x column bin is summed up whole; below,
# patients are sorted by their bin and counted one after the other. Measured on 17,000 x 2,000.
_LARGE_NODE = 300
# The table's variance is in single precision; only cuts this close to the best are looked at again
# in double precision, which decides.
_NEARLY_BEST = 1 - 1e-4
_LEAST_VARIANCE = 1e-9  # of patients at risk alone it is 0, but for rounding


# Of a node's patients, in the order of their times: weighted score, weight in double and single
# precision, and the node's time bins after which they are at risk and up to which.
_Patients = namedtuple("_Patients", "score weight single low high")
# Of a node's time bins that have events, counted from 0: n_k and f_k; then sums before each of them
# of f and of f n; and room for two that change with the column.
_TimeBins = namedtuple("_TimeBins", "at_risk factor factor_sum expected follow missing")
# Of a column's bins: patients, score, and the table of those who leave by time bin.
_ColumnBins = namedtuple("_ColumnBins", "count end score table flat carry variance")


# The helpers are functions of their own since LLVM vectorises their loops there, and does not
# inside the whole: half the time of a tree.
def _next(state):
    """Step Knuth's linear congruential generator, of which the upper bits are used.

    numba's own generator is one state for all threads.
    """
    return state * np.uint64(6364136223846793005) + np.uint64(1442695040888963407)


def _below(state, limit):
    return np.int64((state >> np.uint64(33)) % np.uint64(limit))


def _draw(n, n_drawn, replace, state):
    """Count how often each patient is drawn."""
    drawn = np.zeros(n)
    if replace:
        for _ in range(n_drawn):
            state = _next(state)
            drawn[_below(state, n)] += 1.0
    else:
        rows = np.empty(n, dtype=np.int64)
        for k in range(n):
            rows[k] = k
        for k in range(n_drawn):
            state = _next(state)
            other = k + _below(state, n - k)
            rows[k], rows[other] = rows[other], rows[k]
            drawn[rows[k]] = 1.0
    return drawn, state


def _gather(rows, members, columns, own_bins):
    """Read the bins of a node's patients row by row.

    A small node's patients lie far apart in a column, so that each is a wait for memory; in a row
    neighbouring columns come together.
    """
    for q in range(len(members)):
        row = rows[members[q]]
        for c in range(len(columns)):
            own_bins[c, q] = row[columns[c]]


def _sort_by_bin(own_bin, order, bins):
    """Count and sort a node's patients by their bin, missing values last."""
    bins.count[:] = 0
    for q in range(len(order)):
        bins.count[own_bin[q]] += 1
    at = 0
    for b in range(MISSING + 1):
        bins.end[b] = at
        at += bins.count[b]
    for q in range(len(order)):
        b = own_bin[q]
        order[bins.end[b]] = q
        bins.end[b] += 1


def _scan_patients(side, n_known, order, own_bin, patients, times, used, min_leaf, best):
    """Best cut of a column, patient after patient, and its value; a bin of -1 if none is better.

    A patient of weight w, at risk in time bins from low to high, changes V by
    w sum_k f_k (n_k - w - 2 l_k): sums of f and of f n are known, that of f l is followed.
    """
    factor_sum, expected, follow = times.factor_sum, times.expected, times.follow
    m = len(order)
    numerator = 0.0
    variance = 0.0
    cut = -1
    quads = used // 4 + 1  # whole vectors: what lies beyond is never read
    for k in range(4 * quads):
        follow[k] = 0.0
    # On side 1 the missing values, which are at the end, go left before all others.
    n_before = m - n_known if side == 1 else 0
    for step in range(n_before + n_known):
        q = order[n_known + step] if step < n_before else order[step - n_before]
        w = patients.weight[q]
        lo = patients.low[q]
        hi = patients.high[q]
        numerator += patients.score[q]
        variance += w * (
            (expected[hi] - expected[lo])
            - w * (factor_sum[hi] - factor_sum[lo])
            - 2 * (follow[hi] - follow[lo])
        )
        # G_k = sum_{i<k} f_i l_i grows by w F_{min(hi, k)} - w F_{min(lo, k)}
        f_high = factor_sum[hi]
        f_low = factor_sum[lo]
        if f_low == 0.0:
            for k in range(4 * quads):
                f = factor_sum[k]
                follow[k] += w * (f if f < f_high else f_high)
        else:
            for k in range(4 * quads):
                f = factor_sum[k]
                follow[k] += w * ((f if f < f_high else f_high) - (f if f < f_low else f_low))
        below = step + 1
        if below < min_leaf or step < n_before:
            continue
        if m - below < min_leaf:
            break
        if variance > _LEAST_VARIANCE and numerator * numerator > best * variance:
            known = below - n_before
            if known < n_known and own_bin[order[known]] == own_bin[q]:
                continue  # the cut comes after the bin's last patient
            best = numerator * numerator / variance
            cut = np.int64(own_bin[q])
    return best, cut


def _fill_table(column, members, patients, late, used, width, bins):
    """Sum scores by bin; count patients up to each bin (column) by the time bin they leave after.

    Row r is for those who leave after time bin used - 1 - r, counted from 0, so that the rows up to
    it are those at risk then; late entrants are taken off again. The last row is never read.
    """
    table = bins.table
    bins.count[:] = 0
    bins.score[:] = 0.0
    for k in range((used + 1) * table.shape[1]):
        bins.flat[k] = 0
    for q in range(len(members)):
        b = column[members[q]]
        bins.count[b] += 1
        bins.score[b] += patients.score[q]
        table[used - patients.high[q], b] += patients.single[q]
    if late:
        for q in range(len(members)):
            table[used - patients.low[q], column[members[q]]] -= patients.single[q]
    k = 0
    while k + 8 <= used:  # eight rows at a time: a running sum waits for the one before
        s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = np.float32(0)
        for b in range(width):
            s0 += table[k, b]
            s1 += table[k + 1, b]
            s2 += table[k + 2, b]
            s3 += table[k + 3, b]
            s4 += table[k + 4, b]
            s5 += table[k + 5, b]
            s6 += table[k + 6, b]
            s7 += table[k + 7, b]
            table[k, b] = s0
            table[k + 1, b] = s1
            table[k + 2, b] = s2
            table[k + 3, b] = s3
            table[k + 4, b] = s4
            table[k + 5, b] = s5
            table[k + 6, b] = s6
            table[k + 7, b] = s7
        k += 8
    while k < used:
        s0 = np.float32(0)
        for b in range(width):
            s0 += table[k, b]
            table[k, b] = s0
        k += 1


def _table_variance(times, used, width, table, carry, variance):
    variance[:width] = 0
    carry[:width] = 0
    for r in range(used):
        row = table[r]
        k = used - 1 - r
        f = np.float32(times.factor[k])
        n = np.float32(times.at_risk[k])
        more = np.float32(times.missing[k])
        for b in range(width):
            here = carry[b] + row[b]
            carry[b] = here
            here += more
            variance[b] += f * here * (n - here)


def _scan_table(side, missing_score, times, used, width, bins, m, min_leaf, best):
    """Best cut of a column from its table, and its value; a bin of -1 if none is better.

    On side 1 the missing values, ``missing`` of them at risk in a time bin, are left of all cuts.
    """
    table, variance = bins.table, bins.variance
    _table_variance(times, used, width, table, bins.carry, variance)
    numerator = missing_score
    below = bins.count[MISSING] if side == 1 else 0
    cut = -1
    for b in range(width):
        below += bins.count[b]
        numerator += bins.score[b]
        if bins.count[b] == 0 or below < min_leaf:
            continue
        if m - below < min_leaf:
            break
        square = numerator * numerator
        if square > best * _NEARLY_BEST * variance[b] and variance[b] > _LEAST_VARIANCE:
            exact = 0.0
            present = 0.0
            for k in range(used - 1, -1, -1):
                present += table[used - 1 - k, b]
                here = present + times.missing[k]
                exact += times.factor[k] * here * (times.at_risk[k] - here)
            if square > best * exact:
                best = square / exact
                cut = b
    return best, cut


def _leaf_curves(members, drawn, event, entry_rank, time_rank, end_rank, n_ranks, hazard, survival):
    """Nelson-Aalen and Kaplan-Meier of a leaf at the ends of the time bins; mean hazard."""
    ranks = np.zeros(len(members), dtype=np.int64)  # of the leaf's own distinct event times
    deaths = np.zeros(len(members))
    n_own = 0
    for i in members:
        if event[i]:
            if n_own == 0 or ranks[n_own - 1] != time_rank[i]:
                ranks[n_own] = time_rank[i]
                n_own += 1
            deaths[n_own - 1] += drawn[i]
    change = np.zeros(n_own + 1)
    at = 0
    for i in members:  # in the order of their times
        while at < n_own and ranks[at] <= time_rank[i]:
            at += 1
        change[at] -= drawn[i]
        entered = 0
        if entry_rank[i] > 0:
            while entered < n_own and ranks[entered] <= entry_rank[i]:
                entered += 1
        change[entered] += drawn[i]
    total = 0.0
    alive = 1.0
    present = 0.0
    mean = 0.0
    t = 0
    for e in range(n_own):
        while t < len(end_rank) and end_rank[t] < ranks[e]:
            hazard[t] = total
            survival[t] = alive
            t += 1
        present += change[e]
        share = deaths[e] / present if present > deaths[e] else 1.0  # sums of weights round
        total += share
        alive *= 1.0 - share
        mean += share * (n_ranks - ranks[e] + 1) / n_ranks
    while t < len(end_rank):
        hazard[t] = total
        survival[t] = alive
        t += 1
    return mean


@compile_kernel(
    "UniTuple(int64, 3)(uint8[:,::1], uint8[:,::1], int64[::1], float64[::1], boolean[::1],"
    " int64[::1], int64[::1], int64[::1], int64[::1], int64[::1], int64, int64, int64, int64,"
    " int64, boolean, uint64, int32[:,::1], float64[:,::1], float32[:,:,::1], int32[::1])",
    fastmath={"reassoc", "contract"},
    helpers=(
        _next,
        _below,
        _draw,
        _gather,
        _sort_by_bin,
        _scan_patients,
        _fill_table,
        _table_variance,
        _scan_table,
        _leaf_curves,
    ),
)
def grow_tree(
    bins,
    rows,
    n_cuts,
    weight,
    event,
    first,
    last,
    entry_rank,
    time_rank,
    end_rank,
    n_ranks,
    min_leaf,
    max_depth,
    tried,
    n_drawn,
    replace,
    seed,
    nodes,
    measures,
    curves,
    out_of_bag,
):
    """Grow a tree on patients in the order of their times.

    Parameters
    ----------
    bins : uint8 array of shape (p, n)
    rows : uint8 array of shape (n, p)
        The same, a patient after the other.
    n_cuts : int array of shape (p,)
    weight : float array of shape (n,)
    event : bool array of shape (n,)
    first, last : int arrays of shape (n,)
        Time bins, counted from 1, between which a patient is at risk; an event happens in the last.
    entry_rank, time_rank : int arrays of shape (n,)
        Number of the training part's distinct event times up to entry, and up to the time: at risk
        at those after the one and up to the other.
    end_rank : int array of shape (n_steps,)
        The same for the ends of the time bins.
    n_ranks : int
        Number of distinct event times.
    min_leaf, max_depth, tried : int
        Patients in a leaf at least; splits from root to leaf at most; columns looked at in a split.
    n_drawn : int
        Patients drawn for the tree.
    replace : bool
        Draw with replacement (bootstrap).
    seed : uint64
    nodes : int array of shape (9, n_most)
        Filled with -1. What is grown: left, right, feature, cut, missing_left and number of the
        leaf, then three rows of notes; children are -1 at a leaf.
    measures : float array of shape (3, n_most)
        Filled with 0. What is grown: weight and log-rank statistic of the split of each node; then
        of each leaf the cumulative hazard, mean over the distinct event times.
    curves : float32 array of shape (2, n_most, n_steps)
        What is grown: Nelson-Aalen and Kaplan-Meier of each leaf at the ends of the time bins, from
        unbinned times.
    out_of_bag : int array of shape (n,), or (0,) if nobody asks
        Filled with -1. What is grown: leaf of each patient who was not drawn.

    Returns
    -------
    n_nodes, n_leaves, depth : int
    """
    p, n = bins.shape
    n_steps = len(end_rank)
    drawn, state = _draw(n, n_drawn, replace, seed)
    members = np.empty(n, dtype=np.uint32)
    size = 0
    for i in range(n):
        drawn[i] *= weight[i]
        if drawn[i] > 0:
            members[size] = i
            size += 1

    left, right, feature, cut, missing_left = nodes[0], nodes[1], nodes[2], nodes[3], nodes[4]
    leaf_of, begin, end, level = nodes[5], nodes[6], nodes[7], nodes[8]
    node_weight, gain, risk = measures[0], measures[1], measures[2]
    begin[0] = 0
    level[0] = 0
    end[0] = size
    n_nodes = 1
    n_leaves = 0
    depth = 0

    patients = _Patients(
        np.empty(size),
        np.empty(size),
        np.empty(size, dtype=np.float32),
        np.empty(size, dtype=np.uint32),
        np.empty(size, dtype=np.uint32),
    )
    own_bins = np.empty((tried, _LARGE_NODE), dtype=np.uint8)
    order = np.empty(size, dtype=np.uint32)
    moved = np.empty(size, dtype=np.uint32)
    deaths = np.zeros(n_steps + 2)
    change = np.zeros(n_steps + 2)
    squeezed = np.zeros(n_steps + 1, dtype=np.int64)
    cumulative = np.zeros(n_steps + 1)
    times = _TimeBins(
        np.zeros(n_steps),
        np.zeros(n_steps),
        np.zeros(n_steps + 4),
        np.zeros(n_steps + 1),
        np.zeros(n_steps + 4),
        np.zeros(n_steps),
    )
    columns = np.empty(p, dtype=np.int64)
    for j in range(p):
        columns[j] = j
    looked_at = np.empty(tried, dtype=np.int64)
    table = np.zeros((n_steps + 1, MAX_BINS + 8), dtype=np.float32)
    column = _ColumnBins(
        np.zeros(MAX_BINS + 1, dtype=np.int64),
        np.zeros(MAX_BINS + 1, dtype=np.int64),
        np.zeros(MAX_BINS + 1),
        table,
        table.reshape(table.size),
        np.zeros(MAX_BINS + 8, dtype=np.float32),
        np.zeros(MAX_BINS, dtype=np.float32),
    )

    # Children are numbered after their parent, so one pass over the growing list grows the tree;
    # splitting partitions the node's stretch of ``members`` and keeps the order of times.
    node = -1
    while node + 1 < n_nodes:
        node += 1
        start = begin[node]
        m = end[node] - start
        own = members[start : start + m]
        deaths[:] = 0.0
        change[:] = 0.0
        late = m < 0  # no literal, for which numba would compile the helpers once more
        for i in own:
            node_weight[node] += drawn[i]
            if first[i] <= last[i]:
                change[first[i]] += drawn[i]
                change[last[i] + 1] -= drawn[i]
                late |= first[i] > 1
            if event[i]:
                deaths[last[i]] += drawn[i]
        present = 0.0
        used = np.int64(0)
        for t in range(1, n_steps + 1):
            present += change[t]
            d = deaths[t]
            if d > 0:
                present = max(present, d)  # sums of weights round
                times.at_risk[used] = present
                spread = d * (present - d) / (present - 1) if present > 1 else 0.0
                times.factor[used] = spread / present / present
                times.factor_sum[used + 1] = times.factor_sum[used] + times.factor[used]
                times.expected[used + 1] = times.expected[used] + spread / present
                cumulative[used + 1] = cumulative[used] + d / present
                used += 1
            squeezed[t] = used

        best = 1e-12
        best_feature = -1
        best_cut = 0
        best_side = 0
        if m >= 2 * min_leaf and used > 0 and level[node] < max_depth:
            for q in range(m):
                i = own[q]
                patients.weight[q] = drawn[i]
                patients.single[q] = drawn[i]
                patients.high[q] = squeezed[last[i]]
                patients.low[q] = (
                    squeezed[first[i] - 1] if first[i] <= last[i] else patients.high[q]
                )
                hazard_seen = cumulative[patients.high[q]] - cumulative[patients.low[q]]
                patients.score[q] = drawn[i] * ((1.0 if event[i] else 0.0) - hazard_seen)
            for c in range(tried):
                # the next of a random order of the columns
                state = _next(state)
                other = c + _below(state, p - c)
                columns[c], columns[other] = columns[other], columns[c]
            large = m >= _LARGE_NODE
            for c in range(tried):  # in their order: neighbours share a line of memory
                at = c
                while at > 0 and looked_at[at - 1] > columns[c]:
                    looked_at[at] = looked_at[at - 1]
                    at -= 1
                looked_at[at] = columns[c]
            if not large:
                _gather(rows, own, looked_at, own_bins)
            for c in range(tried):
                j = looked_at[c]
                width = n_cuts[j] + 1
                if large:
                    _fill_table(bins[j], own, patients, late, used, width, column)
                else:
                    _sort_by_bin(own_bins[c], order[:m], column)
                n_missing = column.count[MISSING]
                if n_missing == m or (n_missing == 0 and width == 1):
                    continue
                for side in range(1 if n_missing == 0 else 2):  # missing values right, then left
                    if large:
                        times.missing[:used] = 0.0
                        missing_score = 0.0
                        if side == 1:
                            missing_score = column.score[MISSING]
                            present = 0.0
                            for k in range(used - 1, -1, -1):
                                present += column.table[used - 1 - k, MISSING]
                                times.missing[k] = present
                        best, at = _scan_table(
                            side, missing_score, times, used, width, column, m, min_leaf, best
                        )
                    else:
                        best, at = _scan_patients(
                            side,
                            m - n_missing,
                            order[:m],
                            own_bins[c],
                            patients,
                            times,
                            used,
                            min_leaf,
                            best,
                        )
                    if at >= 0:
                        best_feature = j
                        best_cut = at
                        best_side = side
        if best_feature < 0:
            risk[n_leaves] = _leaf_curves(
                own,
                drawn,
                event,
                entry_rank,
                time_rank,
                end_rank,
                n_ranks,
                curves[0, n_leaves],
                curves[1, n_leaves],
            )
            leaf_of[node] = n_leaves
            n_leaves += 1
            continue

        middle = start
        n_moved = 0
        n_missing = 0
        weight_left = 0.0
        for i in own:
            b = np.int64(bins[best_feature, i])
            n_missing += b == MISSING
            if b <= best_cut or (b == MISSING and best_side == 1):
                weight_left += drawn[i]
                members[middle] = i
                middle += 1
            else:
                moved[n_moved] = i
                n_moved += 1
        for q in range(n_moved):
            members[middle + q] = moved[q]
        feature[node] = best_feature
        cut[node] = best_cut
        gain[node] = best
        if n_missing > 0:
            missing_left[node] = best_side
        else:  # nothing was learned: with the many
            missing_left[node] = 2 * weight_left >= node_weight[node]
        left[node] = n_nodes
        right[node] = n_nodes + 1
        begin[n_nodes] = start
        end[n_nodes] = middle
        begin[n_nodes + 1] = middle
        end[n_nodes + 1] = start + m
        level[n_nodes] = level[n_nodes + 1] = level[node] + 1
        depth = max(depth, level[node] + 1)
        n_nodes += 2

    for i in range(len(out_of_bag)):
        if drawn[i] > 0 or weight[i] == 0:
            continue
        node = 0
        while left[node] >= 0:
            b = np.int64(bins[feature[node], i])
            goes_left = missing_left[node] == 1 if b == MISSING else b <= cut[node]
            node = left[node] if goes_left else right[node]
        out_of_bag[i] = leaf_of[node]
    return n_nodes, n_leaves, depth
