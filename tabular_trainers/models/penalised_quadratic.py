"""Minimum of a quadratic function with an elastic-net penalty, by coordinate descent."""

import numpy as np

from tabular_trainers.kernels import compile_kernel


def subgradient_distance(gradient, coef, l1, l2):
    """Measure how far each column is from its optimality condition.

    Parameters
    ----------
    gradient : array of shape (p,)
        Of the function to be maximised, without the penalty ``l1 |b| + l2 b^2 / 2``.
    coef, l1, l2 : arrays of shape (p,)

    Returns
    -------
    array of shape (p,)
        Distance of the gradient to the subdifferential of the penalty.
    """
    rest = gradient - l2 * coef
    return np.where(coef != 0, np.abs(rest - l1 * np.sign(coef)), np.maximum(np.abs(rest) - l1, 0))


@compile_kernel(
    "int64(float32[:,::1], float32[::1], float64[::1], float64[::1], float64[::1], float64[::1],"
    " float64, int64)",
    "int64(float64[:,::1], float64[::1], float64[::1], float64[::1], float64[::1], float64[::1],"
    " float64, int64)",
    fastmath={"reassoc", "contract"},
)
def descend(hessian, gradient, coef, l1, l2, importance, enough, max_sweeps):
    """Minimise the quadratic model with the penalty over ``coef``, in place.

    Sweeps over all columns alternate with sweeps over those that are not zero until these rest.
    ``gradient`` follows ``coef``. Gives the number of sweeps.

    Nearly all of the time goes into reading the Hessian. In float32 it is 3.6 times faster (950
    patients, 2,900 columns). And as columns that are not zero come first, sweeps over them can
    leave the end of each row for later: that halves the time near the end of a path.
    """
    p = coef.size
    before = np.empty(p)
    every, end = True, p
    for sweep in range(max_sweeps):
        for j in range(end):
            old, curvature = coef[j], np.float64(hessian[j, j])
            if (old == 0.0 and not every) or curvature + l2[j] <= 0.0:
                continue
            pull = gradient[j] + curvature * old
            new = 0.0
            if pull > l1[j]:
                new = (pull - l1[j]) / (curvature + l2[j])
            elif pull < -l1[j]:
                new = (pull + l1[j]) / (curvature + l2[j])
            if new != old:
                coef[j] = new
                change = hessian.dtype.type(new - old)
                for i in range(end):
                    gradient[i] -= change * hessian[j, i]
        # Not the changes of the sweep: with correlated columns all are small long before the end.
        worst = 0.0
        for j in range(end):
            rest = gradient[j] - l2[j] * coef[j]
            if coef[j] > 0.0:
                worst = max(worst, abs(rest - l1[j]) * importance[j])
            elif coef[j] < 0.0:
                worst = max(worst, abs(rest + l1[j]) * importance[j])
            elif every:
                worst = max(worst, (abs(rest) - l1[j]) * importance[j])
        if every:
            if worst <= enough:
                return sweep + 1
            every = False
            for j in range(p):
                before[j] = coef[j]
                if coef[j] != 0.0:
                    end = j + 1
        elif worst <= enough:
            for j in range(end):
                change = hessian.dtype.type(coef[j] - before[j])
                if change != 0.0:
                    for i in range(end, p):
                        gradient[i] -= change * hessian[j, i]
            every, end = True, p
    return max_sweeps
