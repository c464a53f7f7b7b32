"""The partial likelihood of Cox and its derivatives with respect to the log hazards."""

from dataclasses import dataclass

import numpy as np

from tabular_trainers.errors import DataError
from tabular_trainers.kernels import compile_kernel
from tabular_trainers.outcome import finite_vector, strata_codes, survival_arrays

TIES = ("breslow", "efron")
BLOCK = 4096  # rows weighted at a time, so that the matrix is never copied whole


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
            if (entry[present] >= time[present]).any():
                bad = int((entry[present] >= time[present]).sum())
                raise DataError(f"y: {bad} of {n} patients enter at or after their time.")
            entered = np.searchsorted(known, entry, side="right")  # the known times up to entry
            first = np.searchsorted(keys, codes * len(known) + entered)
        at_risk = np.flatnonzero(present & (first < last))
        n_times = len(keys)
        if (first[at_risk] == start[at_risk]).all():
            self._node, self._member = last[at_risk] - 1, at_risk
            ends = np.append(np.flatnonzero(np.diff(self.stratum)), n_times - 1)
            self._parent = np.arange(1, n_times + 1)
            self._parent[ends[ends >= 0]] = -1
        else:
            self._parent = _segment_parents(n_times)
            counts = _cover_counts(first[at_risk], last[at_risk], n_times)
            self._node = _cover_nodes(first[at_risk], last[at_risk], n_times, counts.sum())
            self._member = np.repeat(at_risk, counts)
        order = np.argsort(self._node, kind="stable")
        self._node, self._member = self._node[order], self._member[order]
        self._begin = np.searchsorted(self._node, np.arange(len(self._parent) + 1))

        self.dead = np.flatnonzero(event)
        self.dead_time = last[self.dead] - 1
        self._deaths = np.bincount(self.dead_time, minlength=n_times)
        self._dead_weight = self._sum_dead(weight[self.dead])

    @property
    def n_times(self):
        """Number of event times, those of two strata counted apart."""
        return len(self.times)

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


class LocalLikelihood:
    """The log partial likelihood and its derivatives at one point; see ``RiskSets.at``.

    Attributes
    ----------
    log_likelihood : float
    """

    def __init__(self, sets, eta):
        self.sets = sets
        eta = np.ascontiguousarray(eta, dtype=np.float64)
        self.level = np.empty(len(sets._parent))
        _levels(eta, sets._member, sets._begin, sets._parent, sets.n_times, self.level)
        above = self.level[sets._parent]
        # Eta of any size: a difference beyond the range of exp is a share of 0, never infinity.
        with np.errstate(under="ignore", over="ignore", invalid="ignore"):
            self.step = np.where(sets._parent >= 0, np.exp(above - self.level), 0.0)
            relative = np.exp(eta[sets._member] - self.level[sets._node])
            self.share = sets.weight[sets._member] * relative
            dead_eta = eta[sets.dead] - self.level[sets.dead_time]
            self.dead_share = sets.weight[sets.dead] * np.exp(dead_eta)
        total = self._at_risk(np.ones(len(eta)))
        self.table = np.empty((5, sets.n_times))
        self.log_likelihood = float(sets.weight[sets.dead] @ dead_eta) - _tie_sums(
            total,
            sets._sum_dead(self.dead_share),
            sets._dead_weight,
            sets._deaths,
            sets.efron,
            self.table,
        )
        self._hazard = None

    def residual(self):
        """Give the gradient: weighted event minus expected events, of shape (n,)."""
        out = -self._expected()
        out[self.sets.dead] += self.sets.weight[self.sets.dead]
        return out

    def curvature(self):
        """Give minus the diagonal of the Hessian, of shape (n,), at least 0."""
        _, _, a, b, c = self.table
        square = self._over_times(a, self.share**2, self.step**2)
        if self.sets.efron:
            k = self.sets.dead_time
            square[self.sets.dead] += self.dead_share**2 * (c[k] - 2 * b[k])
        return np.maximum(self._expected() - square, 0.0)

    def product(self, u):
        """Give minus the Hessian times ``u``, of shape (n,)."""
        _, _, a, b, c = self.table
        u = np.ascontiguousarray(u, dtype=np.float64)
        mean = self._at_risk(u)
        if not self.sets.efron:
            return self._expected() * u - self._over_times(a * mean, self.share, self.step)
        dead, k = self.sets.dead, self.sets.dead_time
        dying = self.sets._sum_dead(self.dead_share * u[dead])
        out = self._expected() * u
        out -= self._over_times(a * mean - b * dying, self.share, self.step)
        out[dead] += self.dead_share * (b[k] * mean[k] - c[k] * dying[k])
        return out

    def hessian(self, X):
        """Give minus ``X' (Hessian) X``, of shape (p, p), float64.

        Of a float32 matrix the large products are float32, the means in the risk sets float64.
        """
        _, _, a, b, c = self.table
        single = X.dtype == np.float32
        X = np.ascontiguousarray(X, dtype=np.float32 if single else np.float64)
        sets = self.sets
        mean = np.zeros((len(sets._parent), X.shape[1]))
        _at_risk_columns(X, self.share, sets._member, sets._begin, sets._parent, self.step, mean)
        mean = mean[: sets.n_times]
        root = np.sqrt(a)[:, None]  # positive: at least one event a time
        rows = [root * mean]
        if sets.efron:
            tied = np.flatnonzero(sets._deaths > 1)
            which = np.flatnonzero(sets._deaths[sets.dead_time] > 1)
            place = np.searchsorted(tied, sets.dead_time[which])
            dying = np.zeros((len(tied), X.shape[1]))
            np.add.at(dying, place, self.dead_share[which, None] * X[sets.dead[which]])
            # a mm' - b (md' + dm') + c dd' as two squares, by Cholesky
            slope = b[tied, None] / root[tied]
            rows[0][tied] -= slope * dying
            rows.append(np.sqrt(np.maximum(c[tied, None] - slope**2, 0.0)) * dying)
        weight = np.sqrt(np.maximum(self._expected(), 0.0))[:, None].astype(X.dtype)
        out = np.zeros((X.shape[1], X.shape[1]))
        for start in range(0, len(X), BLOCK):
            block = X[start : start + BLOCK] * weight[start : start + BLOCK]
            out += block.T @ block
        for part in rows:
            for start in range(0, len(part), BLOCK):
                block = part[start : start + BLOCK].astype(X.dtype, copy=False)
                out -= block.T @ block
        return out

    def baseline(self):
        """Give the cumulative hazard of ``eta = 0`` at the event times, each stratum from zero."""
        sets = self.sets
        with np.errstate(over="ignore", under="ignore"):  # a hazard may be infinite: survival 0
            steps = self.table[0] * np.exp(-self.level[: sets.n_times])
            out = np.empty(sets.n_times)
            for code in np.unique(sets.stratum):
                rows = sets.stratum == code
                out[rows] = np.cumsum(steps[rows])
        return out

    def _expected(self):
        """Give the expected events of each patient, of shape (n,)."""
        if self._hazard is None:
            inverse, death, _, _, _ = self.table
            out = self._over_times(inverse, self.share, self.step)
            out[self.sets.dead] -= self.dead_share * death[self.sets.dead_time]
            self._hazard = out
        return self._hazard

    def _at_risk(self, values):
        sets, out = self.sets, np.zeros(len(self.sets._parent))
        _at_risk(values, self.share, sets._member, sets._begin, sets._parent, self.step, out)
        return out[: sets.n_times]

    def _over_times(self, values, share, step):
        sets = self.sets
        node, out = np.zeros(len(sets._parent)), np.zeros(len(sets.weight))
        node[: sets.n_times] = values
        _over_times(node, share, sets._member, sets._begin, sets._parent, step, out)
        return out


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


@compile_kernel("void(float64[::1], int64[::1], int64[::1], int64[::1], int64, float64[::1])")
def _levels(eta, member, begin, parent, n_times, level):
    """Give each event time its largest eta at risk, each other node the least of those below it."""
    for v in range(parent.size - 1, -1, -1):
        top = level[parent[v]] if parent[v] >= 0 else -np.inf
        for e in range(begin[v], begin[v + 1]):
            top = max(top, eta[member[e]])
        level[v] = top
    for v in range(n_times, parent.size):
        level[v] = np.inf
    for v in range(parent.size):
        if parent[v] >= 0:
            level[parent[v]] = min(level[parent[v]], level[v])


@compile_kernel(
    "void(float64[::1], float64[::1], int64[::1], int64[::1], int64[::1], float64[::1],"
    " float64[::1])"
)
def _at_risk(values, share, member, begin, parent, step, out):
    """Sum over the patients at risk at each event time, relative to the level of the time."""
    for v in range(parent.size - 1, -1, -1):
        total = step[v] * out[parent[v]] if parent[v] >= 0 else 0.0
        for e in range(begin[v], begin[v + 1]):
            total += share[e] * values[member[e]]
        out[v] = total


@compile_kernel(
    "void(float64[:,::1], float64[::1], int64[::1], int64[::1], int64[::1], float64[::1],"
    " float64[:,::1])",
    "void(float32[:,::1], float64[::1], int64[::1], int64[::1], int64[::1], float64[::1],"
    " float64[:,::1])",
)
def _at_risk_columns(X, share, member, begin, parent, step, out):
    """Do the same for each column of a matrix."""
    p = X.shape[1]
    for v in range(parent.size - 1, -1, -1):
        if parent[v] >= 0:
            for j in range(p):
                out[v, j] = step[v] * out[parent[v], j]
        for e in range(begin[v], begin[v + 1]):
            factor, row = share[e], X[member[e]]
            for j in range(p):
                out[v, j] += factor * row[j]


@compile_kernel(
    "void(float64[::1], float64[::1], int64[::1], int64[::1], int64[::1], float64[::1],"
    " float64[::1])"
)
def _over_times(node, share, member, begin, parent, step, out):
    """Sum over the event times at which each patient is at risk; the transpose of ``_at_risk``."""
    for v in range(parent.size):
        if parent[v] >= 0:
            node[parent[v]] += step[v] * node[v]
        for e in range(begin[v], begin[v + 1]):
            out[member[e]] += share[e] * node[v]


@compile_kernel(
    "float64(float64[::1], float64[::1], float64[::1], int64[::1], boolean, float64[:,::1])"
)
def _tie_sums(total, dying, weight, deaths, efron, table):
    """Sum log, 1/s, t/s, 1/s^2, t/s^2 and t^2/s^2 over the deaths of a time; give that of the logs.

    The l-th of d tied deaths faces the hazard s = total - t dying with t = l / d after Efron, and
    t = 0 after Breslow.
    """
    logs = 0.0
    for k in range(total.size):
        turns = deaths[k] if efron else 1
        mean = weight[k] / turns
        for row in range(5):
            table[row, k] = 0.0
        for turn in range(turns):
            t = turn / turns
            inverse = 1.0 / (total[k] - t * dying[k])
            logs -= mean * np.log(inverse)
            table[0, k] += mean * inverse
            table[1, k] += mean * t * inverse
            table[2, k] += mean * inverse * inverse
            table[3, k] += mean * t * inverse * inverse
            table[4, k] += mean * t * t * inverse * inverse
    return logs
