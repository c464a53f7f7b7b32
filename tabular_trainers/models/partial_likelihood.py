"""The log partial likelihood of Cox around given log hazards, and its derivatives."""

import numpy as np

from tabular_trainers.kernels import compile_kernel

BLOCK = 4096  # rows weighted at a time, so that the matrix is never copied whole


class LocalLikelihood:
    """The log partial likelihood and its derivatives at one point; see ``RiskSets.at``.

    Attributes
    ----------
    log_likelihood : float
    """

    def __init__(self, sets, eta):
        self.sets = sets
        n_nodes = len(sets._parent)
        self.level, self.step = np.empty(n_nodes), np.empty(n_nodes)
        self.share, self.dead_share = np.empty(len(sets._member)), np.empty(len(sets.dead))
        self.table = np.zeros((5, sets.n_times))
        self.log_likelihood = _localise(
            np.ascontiguousarray(eta, dtype=np.float64),
            sets.weight,
            sets._member,
            sets._begin,
            sets._parent,
            sets.dead,
            sets.dead_time,
            sets._dead_weight,
            sets._deaths,
            sets.efron,
            self.level,
            self.step,
            self.share,
            self.dead_share,
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


@compile_kernel(
    "float64(float64[::1], float64[::1], int64[::1], int64[::1], int64[::1], int64[::1],"
    " int64[::1], float64[::1], int64[::1], boolean, float64[::1], float64[::1], float64[::1],"
    " float64[::1], float64[:,::1])"
)
def _localise(
    eta,
    weight,
    member,
    begin,
    parent,
    dead,
    dead_time,
    dead_weight,
    deaths,
    efron,
    level,
    step,
    share,
    dead_share,
    table,
):
    """Give the log likelihood; fill in what the derivatives need.

    The level of an event time is the largest eta at risk, that of another node the least of those
    below it. A share is a patient's hazard relative to the level of a node of his, a step the level
    of the parent relative to that of a node: none exceeds the weight, or 1.

    The l-th of d tied deaths faces the hazard s = total - t dying with t = l / d after Efron, and
    t = 0 after Breslow. The rows of the table sum 1/s, t/s, 1/s^2, t/s^2 and t^2/s^2 over the
    deaths of a time, relative to its level.
    """
    n_nodes, n_times = parent.size, deaths.size
    for v in range(n_nodes - 1, -1, -1):
        top = level[parent[v]] if parent[v] >= 0 else -np.inf
        for e in range(begin[v], begin[v + 1]):
            top = max(top, eta[member[e]])
        level[v] = top
    for v in range(n_times, n_nodes):
        level[v] = np.inf
    for v in range(n_nodes):
        if parent[v] >= 0:
            level[parent[v]] = min(level[parent[v]], level[v])

    total, dying = np.empty(n_nodes), np.zeros(n_times)
    for v in range(n_nodes - 1, -1, -1):
        total[v] = step[v] = 0.0
        if parent[v] >= 0:
            step[v] = np.exp(level[parent[v]] - level[v])
            total[v] = step[v] * total[parent[v]]
        for e in range(begin[v], begin[v + 1]):
            share[e] = weight[member[e]] * np.exp(eta[member[e]] - level[v])
            total[v] += share[e]

    logs = 0.0
    for e in range(dead.size):
        relative = eta[dead[e]] - level[dead_time[e]]
        logs += weight[dead[e]] * relative
        dead_share[e] = weight[dead[e]] * np.exp(relative)
        dying[dead_time[e]] += dead_share[e]
    for k in range(n_times):
        turns = deaths[k] if efron else 1
        mean = dead_weight[k] / turns
        for turn in range(turns):
            t = turn / turns
            inverse = 1.0 / (total[k] - t * dying[k])
            logs += mean * np.log(inverse)
            table[0, k] += mean * inverse
            table[1, k] += mean * t * inverse
            table[2, k] += mean * inverse * inverse
            table[3, k] += mean * t * inverse * inverse
            table[4, k] += mean * t * t * inverse * inverse
    return logs


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
