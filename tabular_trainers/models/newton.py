"""Cox regression with a ridge penalty or none, by Newton's method on the partial likelihood."""

import numpy as np

from tabular_trainers.models.risk_sets import Path
from tabular_trainers.models.rotation import column_chunks, make_design

DENSE = 300  # up to this many dimensions the Hessian is made and solved at each step
CAP = 10.0  # at most this change of the spread of the log hazards in a step
SETTLED = 1e-5  # change of the spread of the log hazards, over 1 + their spread
PATIENCE = 10  # steps without a smaller gradient, such as within its rounding
NOISE = 1e-15  # gradients below it are rounding: the outcome says nothing about any column
SINGULAR = 1e-11  # squared pivots below it, of a correlation matrix, are no information


def ridge_path(
    X, risk_sets, penalties, penalty_factor=None, start=None, max_iter=100, tolerance=None,
    design=None,
):  # fmt: skip
    """Fit Cox regressions with ridge penalties, each from the solution of the one before.

    Minimises ``-log partial likelihood / total weight + penalty / 2 * sum_j factor_j b_j^2``.
    Columns as given: nothing is standardised in this objective.

    Up to 300 dimensions each step solves with the exact Hessian. Beyond, conjugate gradients on
    exact Hessian products solve it roughly, preconditioned by the Cholesky factor of an earlier
    Hessian, and solutions are extrapolated along the path.

    Parameters
    ----------
    X : array of shape (n, p)
        Float32 stays so in the passes over a tall matrix, sums are float64.
    risk_sets : RiskSets
    penalties : array of shape (k,)
        Decreasing; 0 is no penalty.
    penalty_factor : array of shape (p,), optional
        At least 0; default 1.
    start : array of shape (p, k), optional
        Guesses, such as the path of all patients for an inner fold.
    max_iter : int
        Steps of Newton a penalty.
    tolerance : float, optional
        Largest gradient, over the largest without coefficients, of standardised columns. Default
        1e-9, where conjugate gradients are used 1e-6.
    design : Design, optional
        ``make_design(X, penalty_factor)``, when it is made already.

    Returns
    -------
    Path
        ``converged`` is False after ``max_iter`` steps, and where the likelihood of unpenalised
        columns still rises towards infinite coefficients.

    References
    ----------
    Hastie, T. and Tibshirani, R. (2004). Efficient quadratic regularization for expression arrays.
    Biostatistics 5(3).
    Dembo, R., Eisenstat, S. and Steihaug, T. (1982). Inexact Newton methods. SIAM Journal on
    Numerical Analysis 19(2).
    """
    penalties = np.atleast_1d(np.asarray(penalties, dtype=np.float64))
    design = make_design(X, penalty_factor) if design is None else design
    Z = design.matrix
    n, q = Z.shape
    solver = _Solver(Z, risk_sets, max_iter, tolerance)
    b = np.zeros((q, len(penalties)))
    residual = np.zeros((n, len(penalties)))
    converged = np.zeros(len(penalties), dtype=bool)
    guesses = None
    if start is not None:
        guess = design.start(np.asarray(start, dtype=np.float64))
        guesses = guess, (Z @ guess.astype(Z.dtype)).astype(np.float64)
    past = []
    for k, penalty in enumerate(penalties):
        candidates = _candidates(past, penalties, k, guesses, (q, n))
        ridge = np.minimum(penalty * design.penalty_factor, 1e250)
        b[:, k], eta, residual[:, k], converged[k] = solver.solve(ridge, candidates)
        past = [*past[-2:], (b[:, k], eta)]
    coef = design.coefficients(b)
    kkt = _kkt(X, risk_sets, design, residual, coef, penalties, penalty_factor)
    return Path(coef, converged, kkt)


class _Solver:
    """Newton's method for one penalty after another on one matrix."""

    def __init__(self, Z, risk_sets, max_iter, tolerance):
        self.Z, self.sets, self.max_iter = Z, risk_sets, max_iter
        self.weight = risk_sets.total_weight
        dense = Z.shape[1] <= DENSE
        if tolerance is None:
            tolerance = 1e-9 if dense else 1e-6
        self.exact = np.ascontiguousarray(Z, dtype=np.float64) if dense else None
        self.fast = None if dense else np.ascontiguousarray(Z, dtype=np.float32)
        self.preconditioner = None if dense else _Preconditioner(self.fast)
        null = risk_sets.at(np.zeros(len(Z)))
        largest = np.abs(self._back(null.residual())).max(initial=0.0) / self.weight
        self.target = max(tolerance * largest, NOISE)

    def _back(self, residual):
        if self.exact is not None:
            return self.exact.T @ residual
        return (self.Z.T @ residual.astype(self.Z.dtype)).astype(np.float64)

    def _value(self, local, ridge, b):
        return -local.log_likelihood / self.weight + 0.5 * float(ridge @ b**2)

    def solve(self, ridge, candidates):
        """Give coefficients, log hazards, their residual, and whether it converged."""
        found = []
        for b, eta in candidates:
            local = self.sets.at(eta)
            found.append((self._value(local, ridge, b), b, eta, local))
        value, b, eta, local = min(found, key=lambda one: one[0])
        certain = bool((ridge > 0).all())  # a finite minimum exists
        moved = 0.0 if certain else np.inf
        least, idle = np.inf, 0
        for _ in range(self.max_iter):
            residual = local.residual()
            gradient = self._back(residual) / self.weight - ridge * b
            size = np.abs(gradient).max(initial=0.0)
            if size <= self.target and moved <= SETTLED:
                return b, eta, residual, True
            idle = 0 if size < 0.9 * least else idle + 1
            least = min(least, size)
            if idle > PATIENCE:
                break
            step, change = self._step(local, ridge, gradient)
            spread = float(np.ptp(change))
            length = min(1.0, CAP / spread) if spread > 0 else 1.0
            slope = float(gradient @ step)
            for _ in range(40):
                b_next, eta_next = b + length * step, eta + length * change
                local = self.sets.at(eta_next)
                value_next = self._value(local, ridge, b_next)
                noise = 1e-13 * (1.0 + abs(value))
                if value_next <= value - 1e-4 * length * slope + noise:
                    break
                length /= 2
            else:
                break  # rounding, or a step without a sense of direction
            moved = 0.0 if certain else length * spread / (1.0 + float(np.ptp(eta)))
            value, b, eta = value_next, b_next, eta_next
        return b, eta, self.sets.at(eta).residual(), False

    def _step(self, local, ridge, gradient):
        if self.exact is not None:
            hessian = local.hessian(self.exact) / self.weight
            step = _solve_symmetric(hessian, ridge, gradient)
            return step, self.exact @ step
        return self._conjugate_gradients(local, ridge, gradient)

    def _conjugate_gradients(self, local, ridge, gradient):
        start = np.abs(gradient).max()
        # One digit a step of Newton, and no finer than what is asked for in the end.
        enough = max(0.5 * self.target, 0.1 * start * max(start / self.target, 1.0) ** -0.1)
        self.preconditioner.prepare(local, ridge, self.weight)
        step, change = np.zeros(len(gradient)), np.zeros(len(self.Z))
        rest = gradient.copy()
        towards = direction = None
        for turn in range(200):
            solved = self.preconditioner.apply(rest)
            product = float(rest @ solved)
            direction = solved if turn == 0 else solved + product / towards * direction
            towards = product
            image = (self.fast @ direction.astype(np.float32)).astype(np.float64)
            curved = self.fast.T @ local.product(image).astype(np.float32)
            curved = curved / self.weight + ridge * direction
            bend = float(direction @ curved)
            if bend <= 0:
                break
            step += towards / bend * direction
            change += towards / bend * image
            rest -= towards / bend * curved
            if np.abs(rest).max() <= enough:
                break
        self.preconditioner.spent += turn
        return step, change if self.fast is self.Z else self.Z @ step


class _Preconditioner:
    """Cholesky factor, in float32, of an earlier Hessian and the ridge."""

    def __init__(self, Z):
        self.Z = Z
        self.spent = 0
        self.gram = None
        self.ridge = None

    def prepare(self, local, ridge, weight):
        """Make the Hessian anew when its age has cost as much as it costs, the factor as needed."""
        if self.gram is None or self.spent > 20 + self.Z.shape[1] // 10:
            self.gram = local.hessian(self.Z) / weight
            self.spent, self.ridge = 0, None
        if self.ridge is not None and np.array_equal(ridge, self.ridge):
            return
        if self.ridge is not None:
            apart = ridge > 0
            ratio = self.ridge[apart] / ridge[apart]
            if ((0.7 < ratio) & (ratio < 1.4)).all():
                return
        self._factor(ridge)

    def _factor(self, ridge):
        from scipy.linalg.lapack import spotrf

        self.ridge = ridge
        diagonal = np.diag(self.gram) + ridge
        self.scale = 1.0 / np.sqrt(np.maximum(diagonal, 1e-300))
        jitter = 1e-6
        while True:
            matrix = (self.gram * self.scale * self.scale[:, None]).astype(np.float32).T
            matrix[np.diag_indices_from(matrix)] = 1.0 + jitter
            self.triangle, failed = spotrf(matrix, lower=1, overwrite_a=1, clean=0)
            if not failed:
                return
            jitter *= 10

    def apply(self, values):
        from scipy.linalg.blas import strsv

        once = strsv(self.triangle, (values * self.scale).astype(np.float32), lower=1)
        return strsv(self.triangle, once, lower=1, trans=1).astype(np.float64) * self.scale


def _solve_symmetric(hessian, ridge, gradient):
    """Solve (hessian + diag(ridge)) step = gradient; without information nothing moves."""
    from scipy.linalg import LinAlgError, cho_solve, cholesky, eigh

    diagonal = np.diag(hessian) + ridge
    scale = np.where(diagonal > 0, 1.0 / np.sqrt(np.where(diagonal > 0, diagonal, 1.0)), 0.0)
    matrix = hessian * scale * scale[:, None]
    matrix[np.diag_indices_from(matrix)] = 1.0
    try:
        factor = cholesky(matrix, lower=True, check_finite=False)
        if np.diag(factor).min(initial=1.0) ** 2 > SINGULAR:
            return scale * cho_solve((factor, True), scale * gradient, check_finite=False)
    except LinAlgError:
        pass
    values, vectors = eigh(matrix, check_finite=False)
    inverse = np.where(values > SINGULAR * len(values), 1.0 / np.maximum(values, SINGULAR), 0.0)
    return scale * (vectors @ (inverse * (vectors.T @ (scale * gradient))))


def _candidates(past, penalties, k, guesses, shape):
    """Coefficients and log hazards to start from: the last ones, extrapolated, and guesses.

    Both are linear in the coefficients, so that none of them costs a pass over the matrix.
    """
    found = [past[-1]] if past else [tuple(np.zeros(size) for size in shape)]
    if guesses is not None:
        move = [guess[:, k] - (guess[:, k - 1] if past else 0.0) for guess in guesses]
        found.append(tuple(was + by for was, by in zip(found[0], move, strict=True)))
    nearby = penalties[k - len(past) : k + 1]
    if penalties[k] > 0 and (np.diff(nearby) < 0).all():
        place = np.log(nearby)
        for m in range(2, len(past) + 1):  # a polynomial in the log penalty through m solutions
            known = place[-1 - m : -1]
            share = [
                np.prod([(place[-1] - other) / (at - other) for other in known if other != at])
                for at in known
            ]
            found.append(
                tuple(np.tensordot(share, part, 1) for part in zip(*past[-m:], strict=True))
            )
    return found


def _kkt(X, risk_sets, design, residual, coef, penalties, penalty_factor):
    """Largest gradient at each solution over the largest without coefficients; columns as given."""
    p = len(coef)
    factor = np.ones(p) if penalty_factor is None else np.asarray(penalty_factor, np.float64)
    null = risk_sets.at(np.zeros(len(X))).residual()
    residual = np.column_stack([null, residual])
    largest, worst = 0.0, np.zeros(len(penalties))
    for columns in column_chunks(p):
        centred = X[:, columns].astype(np.float64) - design.centre[columns]
        gradient = centred.T @ residual / risk_sets.total_weight
        largest = max(largest, np.abs(gradient[:, 0]).max(initial=0.0))
        gradient = gradient[:, 1:] - factor[columns, None] * coef[columns] * penalties
        worst = np.maximum(worst, np.abs(gradient).max(axis=0))
    return worst / largest if largest > 0 else worst
