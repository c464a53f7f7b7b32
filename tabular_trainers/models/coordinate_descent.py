"""Elastic-net Cox regression along a path of penalties, by Newton steps and coordinate descent.

The work is arranged so that the whole matrix is read seldom. Penalties are taken in blocks. At the
start of a block a working set of columns is chosen, and the exact Hessian of the log partial
likelihood is made for these columns only; each penalty of the block is then solved within the
working set, by coordinate descent on the quadratic model, which costs nothing that grows with the
number of patients. One product of the matrix with the residuals of all penalties of the block shows
afterwards which penalties are solved for all columns; the first that is not starts the next block.

The Hessian costs the square of the columns of the working set, and these are guessed from the
gradient at the last penalty solved: that is good nearby, and far below takes in nearly all columns.
So where the next penalty is far below, others between are solved on the way and not given: a single
penalty costs no more than a path down to it.
"""

import numpy as np

from tabular_trainers.errors import DataError
from tabular_trainers.models.penalised_quadratic import descend, subgradient_distance
from tabular_trainers.models.risk_sets import Path
from tabular_trainers.models.scaled_columns import ScaledColumns

BLOCK = 8  # penalties a block: a product with 8 residuals costs as much as two products with one
STRIDE = 0.78  # a block may end so far below the last penalty, however many columns that takes in,
FEW = 20  # and further where it takes in no more than these, or as many as are in the model
WALKED = 1e-4  # of the largest penalty; a walk down to 0 would not end
MAX_SWEEPS = 1000
MAX_HALVINGS = 30
NOISE = 1e-12  # gradients below this share of an event are rounding


def elastic_net_path(
    X,
    risk_sets,
    penalties,
    l1_ratio,
    penalty_factor=None,
    start=None,
    max_iter=100,
    tolerance=5e-4,
):
    """Fit Cox regressions for a sequence of penalties.

    Minimises ``-log partial likelihood / total weight + penalty * sum_j penalty_factor_j *
    (l1_ratio |b_j| + (1 - l1_ratio) / 2 b_j^2)`` for the columns as given. A warm start makes each
    penalty cheap after a slightly larger one, so penalties should decrease.

    Parameters
    ----------
    X : array of shape (n, p) or ScaledColumns
        Without missing values. Float32 halves time and memory; its rounding allows a ``tolerance``
        down to about 1e-6.
    risk_sets : RiskSets
        Of the n patients.
    penalties : array of shape (k,)
    l1_ratio : float
        Share of the lasso, above 0 and at most 1; without any lasso see ``newton.ridge_path``.
    penalty_factor : array of shape (p,), optional
        At least 0; 0 leaves a column unpenalised. Used as it is, not rescaled to mean 1.
    start : array of shape (p, k), optional
        Coefficients of a similar problem at the same penalties: where they are not zero, columns
        are looked at from the start, which saves second attempts.
    max_iter : int
        Newton steps a penalty.
    tolerance : float
        Largest KKT residual that counts as solved, for the columns as given and for scaled ones.

    Returns
    -------
    Path
        Where the outcome says nothing about any column, such as when all other patients leave
        before the first event, all coefficients are zero (and ``largest_penalty`` is 0).

    Raises
    ------
    DataError
        When ``X`` has missing values, or a parameter is out of its range.

    References
    ----------
    Simon, N. et al. (2011). Regularization paths for Cox's proportional hazards model via
    coordinate descent. Journal of Statistical Software 39(5).
    Tibshirani, R. et al. (2012). Strong rules for discarding predictors in lasso-type problems.
    Journal of the Royal Statistical Society B 74(2).
    """
    problem = _Problem(X, risk_sets, l1_ratio, penalty_factor, max_iter, tolerance)
    penalties = np.asarray(penalties, dtype=np.float64)
    if not (np.isfinite(penalties) & (penalties >= 0)).all():
        raise DataError("penalties: expected finite values of at least 0.")
    p, k = len(problem.l1), len(penalties)
    coef, converged, kkt = np.zeros((p, k)), np.ones(k, dtype=bool), np.zeros(k)
    if not problem.informative:
        return Path(coef, converged, kkt)
    current, gradient = problem.null_model()
    largest = reached = problem.largest_penalty(gradient)
    done, kept = 0, np.zeros(p, dtype=bool)
    while done < k:
        first, block = done, penalties[done : done + BLOCK]
        if reached > WALKED * largest:
            lowest = problem.within_reach(gradient, current, reached)
            block = block[np.logical_and.accumulate(block >= lowest)]
        on_the_way = len(block) == 0
        if on_the_way:
            block = np.array([lowest])
        # A strong rule, bold enough to be wrong about once in ten blocks: looking further ahead
        # (2 penalty - last penalty) doubles the columns, and the work on them.
        wanted = kept | (current != 0) | (np.abs(gradient) >= min(block) * problem.l1)
        if start is not None:
            wanted |= (start[:, done : done + len(block)] != 0).any(axis=1)
        index = np.flatnonzero(wanted)
        # Those that are, or are likely to become, different from zero come first; see descend.
        index = index[np.lexsort((-np.abs(gradient[index]), current[index] == 0))]
        working = _WorkingSet(problem, index, current)
        solutions = [working.solve(penalty) for penalty in block]
        gradients = problem.gradients(np.stack([point.residual for point, _ in solutions], axis=1))
        for i, (penalty, (point, solved)) in enumerate(zip(block, solutions, strict=True)):
            current = np.zeros(p)
            current[working.index] = point.coef
            gradient, reached = gradients[:, i], penalty
            if on_the_way:
                break
            distance = problem.distance(gradient, current, penalty)
            if ((distance * problem.importance)[~wanted] > tolerance).any():
                break  # to be solved again with the columns that matter after all
            kkt[done] = (distance * problem.scale).max() / problem.largest_gradient
            converged[done] = solved
            coef[:, done] = current / problem.scale
            done += 1
        # Without progress the working set only grows, so it ends.
        kept = wanted & (done == first and not on_the_way)
    return Path(coef, converged, kkt)


def largest_penalty(X, risk_sets, l1_ratio, penalty_factor=None):
    """Find the smallest penalty that leaves the coefficients of all penalised columns at zero.

    Parameters
    ----------
    X : array of shape (n, p) or ScaledColumns
    risk_sets : RiskSets
    l1_ratio : float
        Above 0 and at most 1.
    penalty_factor : array of shape (p,), optional
        Columns with factor 0 are in the model at any penalty.

    Returns
    -------
    float
        0 when no column is penalised, or the outcome says nothing about any.
    """
    problem = _Problem(X, risk_sets, l1_ratio, penalty_factor)
    if not problem.informative:
        return 0.0
    return problem.largest_penalty(problem.null_model()[1])


def kkt_residual(X, risk_sets, coef, penalty, l1_ratio, penalty_factor=None):
    """Measure how far coefficients are from the optimum, in float64 throughout.

    Parameters
    ----------
    X : array of shape (n, p)
    risk_sets : RiskSets
    coef : array of shape (p,)
    penalty, l1_ratio : float
    penalty_factor : array of shape (p,), optional

    Returns
    -------
    float
        Largest distance of a gradient to its subdifferential over the largest gradient of the null
        model, in which all coefficients are zero.
    """
    factor = np.ones(X.shape[1]) if penalty_factor is None else np.asarray(penalty_factor, float)
    eta = np.zeros(len(X))
    parts = [slice(at, at + 256) for at in range(0, X.shape[1], 256)]  # spares a copy of X
    for part in parts:
        eta += X[:, part].astype(np.float64) @ coef[part]
    ends = np.stack([risk_sets.at(eta).residual(), risk_sets.at(np.zeros(len(X))).residual()])
    gradients = np.hstack([ends @ X[:, part].astype(np.float64) for part in parts])
    gradient, null = gradients / risk_sets.total_weight
    l1, l2 = penalty * l1_ratio * factor, penalty * (1 - l1_ratio) * factor
    largest = np.abs(null).max()
    return (
        float(subgradient_distance(gradient, coef, l1, l2).max() / largest) if largest > 0 else 0.0
    )


class _Problem:
    """What stays the same along the path; everything is in the units of the scaled columns."""

    def __init__(self, X, risk_sets, l1_ratio, penalty_factor, max_iter=100, tolerance=5e-4):
        if not 0 < l1_ratio <= 1:
            raise DataError(f"l1_ratio: expected above 0 and at most 1, got {l1_ratio!r}.")
        columns = X if isinstance(X, ScaledColumns) else ScaledColumns(X)
        self.rows, self.scale = columns.rows, columns.scale
        p = len(self.scale)
        factor = np.ones(p) if penalty_factor is None else np.asarray(penalty_factor, np.float64)
        if factor.shape != (p,) or not (np.isfinite(factor) & (factor >= 0)).all():
            raise DataError(f"penalty_factor: expected {p} finite values of at least 0.")
        self.risk_sets, self.max_iter, self.tolerance = risk_sets, max_iter, tolerance
        with np.errstate(over="ignore"):  # a tiny scale: the column cannot enter
            self.l1 = np.minimum(l1_ratio * factor / self.scale, 1e150)
            self.l2 = np.minimum((1 - l1_ratio) * factor / self.scale / self.scale, 1e150)
        null = np.abs(self.gradients(risk_sets.at(np.zeros(self.rows.shape[1])).residual()))
        self.informative = bool(null.size and null.max() > NOISE)
        if self.informative:
            self.largest_gradient = (null * self.scale).max()
            # Solved means: for the columns as given, and for each column on its own scale.
            self.importance = np.maximum(self.scale / self.largest_gradient, 1 / null.max())

    def gradients(self, residual):
        """Gradient of the mean log likelihood for residuals of shape (n,) or (n, k)."""
        product = self.rows @ residual.astype(self.rows.dtype)
        return product.astype(np.float64) / self.risk_sets.total_weight

    def distance(self, gradient, coef, penalty):
        return subgradient_distance(gradient, coef, penalty * self.l1, penalty * self.l2)

    def null_model(self):
        """Coefficients with only the unpenalised columns, and the gradient of all columns."""
        coef = np.zeros(len(self.l1))
        working = _WorkingSet(self, np.flatnonzero(self.l1 == 0), coef)
        point, _ = working.solve(0.0)
        coef[working.index] = point.coef
        return coef, self.gradients(point.residual)

    def within_reach(self, gradient, coef, reached):
        """Lowest penalty of a block that starts from the optimum of the penalty ``reached``."""
        outside = (coef == 0) & (self.l1 > 0)
        enters = np.abs(gradient[outside]) / self.l1[outside]  # the penalty at which it may
        some = max(FEW, np.count_nonzero(coef))
        if some >= len(enters):
            return 0.0
        return min(STRIDE * reached, -np.partition(-enters, some)[some])

    def largest_penalty(self, gradient):
        penalised = self.l1 > 0
        return float((np.abs(gradient[penalised]) / self.l1[penalised]).max(initial=0.0))


class _Point:
    """Coefficients of a working set, and the likelihood there."""

    def __init__(self, working, coef, eta):
        problem = working.problem
        self.coef, self.eta = coef, eta
        local = problem.risk_sets.at(eta)
        self.mean_log_likelihood = local.log_likelihood / problem.risk_sets.total_weight
        self.residual = local.residual()
        product = working.rows @ self.residual.astype(working.rows.dtype)
        self.gradient = product.astype(np.float64) / problem.risk_sets.total_weight


class _WorkingSet:
    """The columns that a block of penalties is solved for."""

    def __init__(self, problem, index, coef):
        self.problem, self.index = problem, index
        self.rows = problem.rows[index]
        self.l1, self.l2 = problem.l1[index], problem.l2[index]
        self.importance = problem.importance[index]
        self.point = _Point(self, coef[index], self._eta(coef[index]))
        self._make_hessian()

    def solve(self, penalty):
        """Move to the optimum of one penalty; give the point, and whether it is solved."""
        l1, l2, tolerance = penalty * self.l1, penalty * self.l2, self.problem.tolerance
        distance = self._distance(l1, l2)
        for _ in range(self.problem.max_iter):
            if distance <= tolerance:
                break
            # A step that is exact to a tenth gains a digit; the quadratic model is no better.
            enough = max(0.3 * tolerance, 0.1 * distance)
            gradient, coef = self.point.gradient.astype(self.hessian.dtype), self.point.coef.copy()
            descend(self.hessian, gradient, coef, l1, l2, self.importance, enough, MAX_SWEEPS)
            if not self._step(coef, l1, l2) and self.fresh:
                break
            before, distance = distance, self._distance(l1, l2)
            # A Hessian costs as much as several steps with the old one.
            if distance > max(tolerance, 0.6 * before) and not self.fresh:
                self._make_hessian()
        return self.point, distance <= tolerance

    def _distance(self, l1, l2):
        distance = subgradient_distance(self.point.gradient, self.point.coef, l1, l2)
        return float((distance * self.importance).max(initial=0.0))

    def _eta(self, coef):
        return (coef.astype(self.rows.dtype) @ self.rows).astype(np.float64)

    def _make_hessian(self):
        total = self.problem.risk_sets.total_weight
        hessian = self.problem.risk_sets.hessian(self.rows.T, self.point.eta)
        self.hessian = (hessian / total).astype(self.rows.dtype)
        diagonal = np.einsum("ii->i", self.hessian)
        # Rounding must not make it indefinite where columns are copies of each other, nor decide
        # the coefficient of a column that is constant within the strata.
        diagonal += 100 * np.finfo(self.rows.dtype).eps * diagonal.max(initial=0.0)
        self.fresh = True

    def _step(self, coef, l1, l2):
        """Go towards ``coef`` as far as the objective decreases; False where it does not."""
        old, length = self.point, 1.0
        direction, turn = coef - old.coef, self._eta(coef) - old.eta
        # Rounding of the log hazards makes the objective uncertain by so much.
        uncertain = 10 * np.finfo(self.rows.dtype).eps * abs(old.mean_log_likelihood)
        target = self._objective(old, l1, l2) + uncertain
        for _ in range(MAX_HALVINGS):
            new = _Point(self, old.coef + length * direction, old.eta + length * turn)
            if self._objective(new, l1, l2) <= target:
                self.point, self.fresh = new, False
                return True
            length /= 2
        return False

    def _objective(self, point, l1, l2):
        return -point.mean_log_likelihood + (l1 @ np.abs(point.coef) + l2 @ point.coef**2 / 2)
