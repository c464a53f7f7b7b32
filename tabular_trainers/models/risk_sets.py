"""Who is at risk when, for the partial likelihood of Cox."""

from dataclasses import dataclass

import numpy as np

from tabular_trainers.errors import DataError
from tabular_trainers.kernels import compile_kernel
from tabular_trainers.models.partial_likelihood import LocalLikelihood
from tabular_trainers.outcome import finite_vector, refuse_late_entry, strata_codes, survival_arrays

TIES = ("breslow", "efron")


@dataclass(frozen=True)
class Path:
    """Coefficients along a path of penalties.

    Attributes
    ----------
    coef : array of shape (p, k)
        Float64; a column a penalty.
    converged : array of bool, shape (k,)
    kkt : array of shape (k,)
        Largest distance of a gradient to its subdifferential over the largest gradient of the null
        model.
    """

    coef: np.ndarray
    converged: np.ndarray
    kkt: np.ndarray


class RiskSets:
    """Who is at risk when: made once of the outcome, used at each step of a fit.

    A patient is at risk at the event times T of his stratum with ``entry < T <= time``. Patients of
    weight 0 take no part at all, so the inner folds of a cross-validation can share one matrix.

    Nothing overflows, whatever the range of the log hazards: every sum over a risk set is relative
    to the largest hazard in it. The sums run over a forest of nodes, whose first ``n_times`` are
    the event times. Without late entry that is a chain a stratum (the patients at risk at one
    event time are those of the next one and some more); with late entry it is a segment tree, so
    that nothing is ever subtracted. A patient belongs to the nodes that together cover his times.

    Parameters
    ----------
    y : structured array with fields event and time, shape (n,)
        And ``entry``, where patients came under observation later than time zero.
    strata : array of shape (n,), optional
        Each stratum has risk sets, and so a baseline hazard, of its own.
    sample_weight : array of shape (n,), optional
        At least 0; 0 leaves a patient out.
    ties : {"breslow", "efron"}
        As R ``survival::coxph``: the tied deaths of Efron weigh the mean of their weights.

    Attributes
    ----------
    total_weight : float
        Sum of all weights, of censored patients too.
    n_times : int
        Event times, those of two strata counted apart.
    times : array of shape (n_times,)
        Distinct event times, a stratum after the other.
    stratum : array of shape (n_times,)
        Number of the stratum of each, in the order of ``np.unique(strata)``.
    dead : array of shape (n_events,)
        Positions in ``y`` of the patients whose event counts.
    dead_time : array of shape (n_events,)
        Positions in ``times`` of their events.

    Raises
    ------
    DataError
        When ``y``, ``strata`` or the weights are no such arrays, a patient enters at or after his
        time, or ``ties`` is unknown.

    References
    ----------
    Breslow, N. (1974). Covariance analysis of censored survival data. Biometrics 30.
    Efron, B. (1977). The efficiency of Cox's likelihood function for censored data. JASA 72.
    """

    def __init__(self, y, strata=None, sample_weight=None, ties="breslow"):
        if ties not in TIES:
            raise DataError(f"ties: unknown {ties!r}; known: {', '.join(TIES)}.")
        time, event, entry = survival_arrays(y)
        n = len(time)
        codes, _ = strata_codes(strata, n)
        weight = np.ones(n) if sample_weight is None else finite_vector(sample_weight, n, "weights")
        if (weight < 0).any():
            raise DataError("weights: expected finite values of at least 0.")
        present = weight > 0
        event = event & present
        self.efron = ties == "efron"
        self.weight = weight
        self.total_weight = float(weight.sum())

        known = np.unique(time)
        key = codes * len(known) + np.searchsorted(known, time)
        keys = np.unique(key[event])  # a stratum after the other, times increasing
        self.times, self.stratum = known[keys % len(known)], keys // len(known)
        start = np.searchsorted(keys, codes * len(known))
        last = np.searchsorted(keys, key, side="right")
        first = start
        if entry is not None:
            refuse_late_entry(time, entry, present)
            entered = np.searchsorted(known, entry, side="right")  # the known times up to entry
            first = np.searchsorted(keys, codes * len(known) + entered)
        at_risk = np.flatnonzero(present & (first < last))
        self.n_times = n_times = len(keys)
        if (first[at_risk] == start[at_risk]).all():
            node, self._member = last[at_risk] - 1, at_risk
            ends = np.append(np.flatnonzero(np.diff(self.stratum)), n_times - 1)
            self._parent = np.arange(1, n_times + 1)
            self._parent[ends[ends >= 0]] = -1
        else:
            self._parent = _segment_parents(n_times)
            counts = _cover_counts(first[at_risk], last[at_risk], n_times)
            node = _cover_nodes(first[at_risk], last[at_risk], n_times, counts.sum())
            self._member = np.repeat(at_risk, counts)
        order = np.argsort(node, kind="stable")
        node, self._member = node[order], self._member[order]
        self._begin = np.searchsorted(node, np.arange(len(self._parent) + 1))

        self.dead = np.flatnonzero(event)
        self.dead_time = last[self.dead] - 1
        self._deaths = np.bincount(self.dead_time, minlength=n_times)
        self._dead_weight = self._sum_dead(weight[self.dead])

    def at(self, eta):
        """Give the partial likelihood around the log hazards ``eta``, of shape (n,)."""
        return LocalLikelihood(self, eta)

    def log_likelihood(self, eta):
        """Give the log partial likelihood of the log hazards ``eta``, of shape (n,)."""
        return LocalLikelihood(self, eta).log_likelihood

    def derivatives(self, eta):
        """Give log likelihood, its gradient and minus the diagonal of its Hessian, (n,) each."""
        local = LocalLikelihood(self, eta)
        return local.log_likelihood, local.residual(), local.curvature()

    def hessian(self, X, eta):
        """Give ``X' A X``, (p, p), where A is minus the Hessian with respect to ``eta``."""
        return LocalLikelihood(self, eta).hessian(X)

    def hessian_product(self, eta, u):
        """Give ``A u``, of shape (n,), where A is minus the Hessian with respect to ``eta``."""
        return LocalLikelihood(self, eta).product(u)

    def baseline(self, eta):
        """Give the cumulative hazard of ``eta = 0`` at ``times``, each stratum from zero.

        Breslow's estimate, and with ties after Efron its counterpart (R ``survfit(ctype = 2)``).
        """
        return LocalLikelihood(self, eta).baseline()

    def _sum_dead(self, values):
        sums = np.bincount(self.dead_time, weights=values, minlength=self.n_times)
        return sums.astype(np.float64, copy=False)  # integers where there is no event


def _segment_parents(n_times):
    """Parents in a segment tree whose leaves are nodes 0 to n_times - 1, each below its parent."""
    # In the usual numbering node v has the parent v // 2, the leaves are n_times to 2 n_times - 1.
    usual = np.concatenate([np.arange(n_times, 2 * n_times), np.arange(n_times - 1, 0, -1)]) // 2
    return np.where(usual >= 1, 2 * n_times - 1 - usual, -1)


@compile_kernel("int64[::1](int64[::1], int64[::1], int64)")
def _cover_counts(first, last, n_times):
    counts = np.zeros(first.size, np.int64)
    for i in range(first.size):
        low, high = first[i] + n_times, last[i] + n_times
        while low < high:
            counts[i] += (low & 1) + (high & 1)
            low, high = (low + 1) >> 1, high >> 1
    return counts


@compile_kernel("int64[::1](int64[::1], int64[::1], int64, int64)")
def _cover_nodes(first, last, n_times, n_members):
    """Nodes of the segment tree that together cover the event times first to last - 1."""
    nodes = np.empty(n_members, np.int64)
    at = 0
    for i in range(first.size):
        low, high = first[i] + n_times, last[i] + n_times
        while low < high:
            for v, taken in ((low, low & 1), (high - 1, high & 1)):
                if taken:
                    nodes[at] = v - n_times if v >= n_times else 2 * n_times - 1 - v
                    at += 1
            low, high = (low + 1) >> 1, high >> 1
    return nodes
