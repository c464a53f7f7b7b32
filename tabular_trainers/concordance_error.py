"""Harrell's C with its error: how each patient bears on it, and what follows from that.

The estimate is concordant over comparable pairs, N / D. Leaving a patient out a little changes it
by (n_i - C d_i) / D, where n_i and d_i count the pairs that the patient takes part in. The sum of
the squares of these influences is the infinitesimal jackknife variance; the sum of products for
two risks on the same patients is their covariance.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from tabular_trainers.bootstrap import cluster_codes, sum_by_cluster
from tabular_trainers.concordance import no_pairs, ranks_within, time_order
from tabular_trainers.errors import DataError, count
from tabular_trainers.kernels import compile_kernel
from tabular_trainers.outcome import finite_vector, ratio
from tabular_trainers.uncertainty import error_interval, error_p_value


class Difference(NamedTuple):
    """A paired difference of two measures, with its 95% interval and two-sided p value."""

    difference: float
    standard_error: float
    lower: float
    upper: float
    p_value: float


@dataclass(frozen=True)
class Concordance:
    """Harrell's C of k risks of the same patients, with their joint error.

    Attributes
    ----------
    estimate : ndarray of shape (k,)
    covariance : ndarray of shape (k, k)
        Infinitesimal jackknife; summed within clusters first where they were given.
    influence : ndarray of shape (n_patients, k)
        Change of each estimate by each patient (R's ``dfbeta``); columns sum to 0.
    pairs : ndarray of shape (n_patients, k + 1)
        Concordant pairs that each patient takes part in, equal risks counting 1/2, a risk; then the
        comparable ones. Both patients of a pair count it.
    freedom : float
        Degrees of freedom of intervals and tests: clusters - 1; infinite without clusters, where
        they are normal.
    """

    estimate: np.ndarray
    covariance: np.ndarray
    influence: np.ndarray
    pairs: np.ndarray
    freedom: float = math.inf

    @property
    def n_pairs(self):
        """Number of comparable pairs."""
        return int(self.pairs[:, -1].sum()) // 2

    @property
    def standard_error(self):
        """Standard error of each estimate, shape (k,)."""
        return np.sqrt(np.diag(self.covariance))

    def interval(self):
        """Compute 95% intervals, clipped at 0 and 1.

        Returns
        -------
        lower, upper : ndarray of shape (k,)
        """
        found = [
            error_interval(estimate, error, (0.0, 1.0), self.freedom)
            for estimate, error in zip(self.estimate, self.standard_error, strict=True)
        ]
        return np.array([one.lower for one in found]), np.array([one.upper for one in found])

    def difference(self, i, j):
        """Compare risk ``i`` with risk ``j`` on these patients.

        Returns
        -------
        Difference
            C of ``i`` minus C of ``j``. Where the standard error is 0, as for risks that order
            everybody alike, the interval is the difference itself and the p value is NaN.
        """
        difference = float(self.estimate[i] - self.estimate[j])
        found = self.covariance
        variance = float(found[i, i] - found[i, j] - found[j, i] + found[j, j])
        # what rounding leaves of two equal variances is no error
        if variance <= 1e-14 * float(found[i, i] + found[j, j]):
            variance = 0.0
        error, lower, upper = error_interval(
            difference, np.sqrt(variance), (-1.0, 1.0), self.freedom
        )
        p_value = error_p_value(difference, error, self.freedom)
        return Difference(difference, error, lower, upper, p_value)


def concordance(y, risks, strata=None, cluster=None):
    """Harrell's C of one or more risks, with infinitesimal-jackknife variance and covariance.

    Time grows as n log n with the number of patients. Ties follow R ``survival::concordance``: an
    event comes before a censoring at the same time, two events at the same time are not
    comparable, equal risks count 1/2. With entry times a pair needs the later patient to have
    entered before the event of the earlier one (R's ``timewt = "n"``).

    Parameters
    ----------
    y : ndarray of shape (n_patients,)
        Structured array with ``event``, ``time`` and, for left-truncated follow-up, ``entry``.
    risks : array-like of shape (n_patients,) or (n_patients, k)
        Higher means worse.
    strata : array-like of shape (n_patients,), default=None
        Pairs are formed within these groups only: folds, or repeat and fold.
    cluster : array-like of shape (n_patients,), default=None
        Sites: influences are summed within each first (R's ``cluster``), so that patients of one
        site need not be independent. A missing one is a cluster of its own. The variance of a few
        clusters is itself uncertain, so intervals and tests are Student's t with a degree of
        freedom less than there are clusters (R leaves them normal).

    Returns
    -------
    Concordance

    Raises
    ------
    DataError
        If there is no comparable pair, or a risk is not finite.

    References
    ----------
    Therneau & Watson, The concordance statistic and the Cox model, Mayo Clinic technical report
    85, 2015 (variance, strata, clusters). Efron, The jackknife, the bootstrap and other resampling
    plans, SIAM 1982 (infinitesimal jackknife). Cameron & Miller, Journal of Human Resources
    2015;50:317 (few clusters).

    Examples
    --------
    >>> import numpy as np
    >>> y = np.array([(True, 2.0), (True, 5.0), (False, 7.0), (True, 4.0)],
    ...              dtype=[("event", bool), ("time", float)])
    >>> found = concordance(y, np.array([[0.9, 0.1], [0.1, 0.2], [0.4, 0.3], [0.5, 0.4]]))
    >>> found.estimate.round(3).tolist(), found.n_pairs
    ([0.833, 0.333], 6)
    >>> round(found.difference(0, 1).difference, 3)
    0.5
    """
    order = time_order(y, strata)
    pairs = pairs_of_patients(order, _risk_columns(risks, len(order.order)))
    if not pairs[:, -1].any():
        raise DataError(no_pairs(order))
    estimate, influence = influence_of_pairs(pairs)
    units, freedom = influence, math.inf
    if cluster is not None:
        units = _sums(influence, cluster)
        freedom = len(units) - 1
    return Concordance(estimate, units.T @ units, influence, pairs, freedom)


def pairs_of_patients(order, risks):
    """Count each patient's concordant pairs a risk, then the comparable ones, (n_patients, k + 1).

    Parameters
    ----------
    order : TimeOrder
    risks : sequence of k ndarrays of shape (n_patients,)
    """
    pairs = np.empty((len(order.order), len(risks) + 1))
    for k, risk in enumerate(risks):
        pairs[:, k], pairs[:, -1] = _pairs_of_patients(
            *order[:-1], ranks_within(risk, order.strata)
        )
    return pairs


def influence_of_pairs(pairs):
    """Give the concordance (k,) and the influence of patients on it (n_patients, k).

    Both are NaN where there is no comparable pair.
    """
    total = pairs[:, -1].sum()
    # every pair counts for two patients, in the numerator and in the denominator
    estimate = ratio(pairs[:, :-1].sum(axis=0), total)
    return estimate, ratio(2 * (pairs[:, :-1] - estimate * pairs[:, -1:]), total)


def _sums(influence, cluster):
    codes = cluster_codes(cluster, at_least=0)
    if len(codes) != len(influence):
        raise DataError(
            f"cluster: {count(len(influence), 'value')} expected, one a patient; got {len(codes)}."
        )
    return sum_by_cluster(influence, codes)


def _risk_columns(risks, n):
    """Read risks as one contiguous column each."""
    risks = np.asarray(risks, dtype=np.float64)
    if risks.ndim != 2:
        return [finite_vector(risks, n, "risks")]
    if risks.shape[1] == 0:
        raise DataError("risks: no column; expected at least one.")
    return [finite_vector(risks[:, k], n, f"risks, column {k}") for k in range(risks.shape[1])]


def _add(tree, rank, amount, size):
    """Add to a rank of a Fenwick tree."""
    while rank <= size:
        tree[rank] += amount
        rank += rank & -rank


def _below(tree, rank):
    """Sum a Fenwick tree below a rank, the rank itself counting 1/2."""
    found = 0.0
    for upto in (rank, rank - 1):
        while upto > 0:
            found += 0.5 * tree[upto]
            upto -= upto & -upto
    return found


@compile_kernel(
    "float64[:,::1](int64[::1], float64[::1], boolean[::1], int64[::1], int64[::1],"
    " float64[::1], int64[::1])",
    helpers=(_add, _below),
)
def _pairs_of_patients(order, time, event, starts, leaving, entry, rank):
    """Count the concordant and the comparable pairs of each patient, (2, n_patients).

    Back in time, each event finds those still under observation then; forward in time, each patient
    finds the events that happened while he was under observation.
    """
    found = np.zeros((2, len(order)))
    tree = np.zeros(len(order) + 2)
    for s in range(len(starts) - 1):
        begin = starts[s]
        end = starts[s + 1]
        size = end - begin
        tree[: size + 1] = 0.0
        present = 0.0
        k = begin
        leave = begin
        while k < end:
            now = time[k]
            # going back, those who entered at or after this time are not yet there
            while leave < end and entry[leave] >= now:
                _add(tree, rank[leaving[leave]], -1.0, size)
                present -= 1.0
                leave += 1
            # the censored enter first, then every event asks, then the events enter
            while k < end and time[k] == now and not event[k]:
                _add(tree, rank[order[k]], 1.0, size)
                present += 1.0
                k += 1
            first = k
            while k < end and time[k] == now:
                j = order[k]
                found[0, j] += _below(tree, rank[j])
                found[1, j] += present
                k += 1
            for q in range(first, k):
                _add(tree, rank[order[q]], 1.0, size)
                present += 1.0
        tree[: size + 1] = 0.0
        happened = 0.0
        k = end - 1
        enter = end - 1
        while k >= begin:
            now = time[k]
            # what happened so far was before these patients entered, or at that time
            while enter >= begin and entry[enter] < now:
                j = leaving[enter]
                found[0, j] -= happened - _below(tree, rank[j])
                found[1, j] -= happened
                enter -= 1
            # those with the event ask first, then their events happen, then the censored ask
            last = k
            while k >= begin and time[k] == now and event[k]:
                j = order[k]
                found[0, j] += happened - _below(tree, rank[j])
                found[1, j] += happened
                k -= 1
            for q in range(k + 1, last + 1):
                _add(tree, rank[order[q]], 1.0, size)
                happened += 1.0
            while k >= begin and time[k] == now:
                j = order[k]
                found[0, j] += happened - _below(tree, rank[j])
                found[1, j] += happened
                k -= 1
    return found
