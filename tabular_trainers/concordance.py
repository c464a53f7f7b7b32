"""Concordance of risks and survival times: Harrell's C, and the pair sums that Uno's C shares.

A pair is comparable when the patient who had the event first was seen to have it while the other
was under observation. Ties follow R ``survival::concordance``: an event comes before a censoring at
the same time (comparable), two events at the same time are not comparable, equal risks count 1/2.
Pairs are formed within strata (repeat and fold) only: risks of different models are not comparable.
"""

from typing import NamedTuple

import numpy as np

from tabular_trainers.errors import DataError
from tabular_trainers.kernels import compile_kernel
from tabular_trainers.outcome import (
    answer,
    finite_vector,
    ratio,
    refuse_late_entry,
    strata_codes,
    survival_arrays,
    weight_rows,
)


class TimeOrder(NamedTuple):
    """Patients sorted once by stratum and time, for any number of risks and replicates."""

    order: np.ndarray  # positions by stratum, then time descending, censored before events at ties
    time: np.ndarray  # times in that order
    event: np.ndarray  # events in that order
    starts: np.ndarray  # first position of each stratum, and the end, shape (n_strata + 1,)
    leaving: np.ndarray  # positions by stratum, then entry descending
    entry: np.ndarray  # entries in that order; -inf without entry
    strata: np.ndarray  # codes in the order of the patients


def time_order(y, strata=None):
    """Sort patients by stratum and time, the part of a concordance that no risk changes."""
    time, event, entry = survival_arrays(y)
    codes, n_strata = strata_codes(strata, len(time))
    if entry is None:
        entry = np.full(len(time), -np.inf)
    refuse_late_entry(time, entry)
    order = np.lexsort((event, -time, codes))
    leaving = np.lexsort((-entry, codes))
    starts = np.searchsorted(codes[order], np.arange(n_strata + 1))
    return TimeOrder(
        order, time[order], event[order], starts.astype(np.int64), leaving, entry[leaving], codes
    )


def ranks_within(risk, codes):
    """Dense ranks of the risks within each stratum, from 1; equal risks share a rank."""
    order = np.lexsort((risk, codes))
    risk, sorted_codes = risk[order], codes[order]
    new_stratum = np.r_[True, sorted_codes[1:] != sorted_codes[:-1]]
    steps = np.cumsum(new_stratum | np.r_[True, risk[1:] != risk[:-1]])
    first = steps[new_stratum][np.cumsum(new_stratum) - 1]
    ranks = np.empty(len(risk), dtype=np.int64)
    ranks[order] = steps - first + 1
    return ranks


def pair_sums(order, risk, weights, event_weights):
    """Sum concordant and comparable pairs within each stratum for every replicate.

    Parameters
    ----------
    order : TimeOrder
    risk : ndarray of shape (n_patients,)
    weights : ndarray of float64, shape (n_replicates, n_patients)
    event_weights : ndarray of float64, shape (n_replicates or 1, n_patients)
        Extra weight of the pairs in which that patient had the event first.

    Returns
    -------
    ndarray of shape (4, n_replicates, n_strata)
        Concordant and comparable with weights ``w_i w_j``; the same times the event weight.
    """
    return _pair_sums(
        order.order,
        order.time,
        order.event,
        order.starts,
        order.leaving,
        order.entry,
        ranks_within(risk, order.strata),
        weights,
        event_weights,
    )


@compile_kernel(
    "float64[:,:,::1](int64[::1], float64[::1], boolean[::1], int64[::1], int64[::1],"
    " float64[::1], int64[::1], float64[:,::1], float64[:,::1])"
)
def _pair_sums(order, time, event, starts, leaving, entry, rank, weights, event_weights):
    n_replicates = weights.shape[0]
    n_strata = len(starts) - 1
    sums = np.zeros((4, n_replicates, n_strata))
    tree = np.zeros(len(order) + 2)
    for r in range(n_replicates):
        g = r if event_weights.shape[0] > 1 else 0
        for s in range(n_strata):
            end = starts[s + 1]
            size = end - starts[s]
            tree[: size + 1] = 0.0
            under_observation = 0.0
            k = starts[s]
            leave = starts[s]
            while k < end:
                now = time[k]
                # going back in time: those who entered at or after this time are not yet there
                while leave < end and entry[leave] >= now:
                    j = leaving[leave]
                    w = weights[r, j]
                    if w != 0.0:
                        under_observation -= w
                        i = rank[j]
                        while i <= size:
                            tree[i] -= w
                            i += i & -i
                    leave += 1
                first = k
                while k < end and time[k] == now and not event[k]:
                    k += 1
                censored_until = k
                while k < end and time[k] == now:
                    k += 1
                for position in range(first, k):
                    # the censored enter first, then every event asks, then the events enter
                    if position == censored_until:
                        for q in range(censored_until, k):
                            j = order[q]
                            w = weights[r, j]
                            if w == 0.0:
                                continue
                            below = 0.0
                            i = rank[j] - 1
                            while i > 0:
                                below += tree[i]
                                i -= i & -i
                            upto = 0.0
                            i = rank[j]
                            while i > 0:
                                upto += tree[i]
                                i -= i & -i
                            concordant = w * 0.5 * (below + upto)
                            comparable = w * under_observation
                            extra = event_weights[g, j]
                            sums[0, r, s] += concordant
                            sums[1, r, s] += comparable
                            sums[2, r, s] += extra * concordant
                            sums[3, r, s] += extra * comparable
                    j = order[position]
                    w = weights[r, j]
                    if w != 0.0:
                        under_observation += w
                        i = rank[j]
                        while i <= size:
                            tree[i] += w
                            i += i & -i
    return sums


def harrell_c(y, risk, strata=None, weights=None):
    """Harrell's concordance of a risk with survival times, pairs formed within strata.

    Parameters
    ----------
    y : ndarray of shape (n_patients,)
        Structured array with ``event``, ``time`` and, for left-truncated follow-up, ``entry``:
        a patient takes part in pairs only after entry.
    risk : array-like of shape (n_patients,)
        Higher means worse. Survival times or probabilities are not accepted as they are: change
        their sign first.
    strata : array-like of shape (n_patients,), default=None
        Pairs are formed within these groups only: folds, or repeat and fold.
    weights : array-like of shape (n_patients,) or (n_replicates, n_patients), default=None
        Patient weights, such as bootstrap multiplicities; a pair weighs their product.

    Returns
    -------
    float or ndarray of shape (n_replicates,)
        Concordant over comparable pairs, summed over strata. Replicates without comparable pairs
        are NaN.

    Raises
    ------
    DataError
        If there is no comparable pair at all, or a risk is not finite.

    References
    ----------
    Harrell et al., JAMA 1982;247:2543. Therneau & Watson, The concordance statistic and the Cox
    model, Mayo Clinic technical report 85, 2015 (weights, strata, ties).

    Examples
    --------
    >>> import numpy as np
    >>> y = np.array([(True, 2.0), (True, 5.0), (False, 7.0)],
    ...              dtype=[("event", bool), ("time", float)])
    >>> harrell_c(y, risk=[0.9, 0.1, 0.4])
    0.6666666666666666
    """
    order = time_order(y, strata)
    risk = finite_vector(risk, len(order.order), "risk")
    rows, one = weight_rows(weights, len(risk))
    concordant, comparable, _, _ = pair_sums(order, risk, rows, np.ones((1, len(risk)))).sum(axis=2)
    if not (comparable > 0).any():
        raise DataError(no_pairs(order))
    return answer(ratio(concordant, comparable), one)


def no_pairs(order):
    """Say that a concordance has nothing to compare."""
    n_events, n = int(order.event.sum()), len(order.event)
    where = "" if len(order.starts) == 2 else f" within {len(order.starts) - 1} strata"
    return (
        f"no comparable pairs{where}: {n} patients, {n_events} of them with the event; expected at "
        "least one event with another patient still under observation. Use fewer or larger folds."
    )
