"""Coordinate descent on a quadratic function: optimal by its own conditions, and to the end."""

import numpy as np
import pytest
import scipy.optimize

from tabular_trainers.models.penalised_quadratic import descend, subgradient_distance


def drawn(dtype, p=30, seed=0):
    rng = np.random.default_rng(seed)
    A = rng.normal(size=(60, p)) + rng.normal(size=(60, 1))
    hessian = (A.T @ A / 60).astype(dtype)
    l1 = np.full(p, 0.4)
    l1[:2], l1[20:] = 0.0, 9.0  # the last ones never enter
    return hessian, rng.normal(size=p), l1, np.full(p, 0.1), rng.uniform(0.5, 2, p)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_end_is_optimal_from_any_start(dtype):
    hessian, gradient, l1, l2, importance = drawn(dtype)
    enough = 1e-4 if dtype is np.float32 else 1e-10
    for start in (np.zeros(30), np.where(np.arange(30) % 3, 0.0, 1.0)):
        followed, coef = (gradient - hessian @ start).astype(dtype), start.copy()
        sweeps = descend(hessian, followed, coef, l1, l2, importance, enough, 1000)
        assert 2 < sweeps < 1000
        exact = gradient - hessian.astype(float) @ coef
        np.testing.assert_allclose(followed, exact, atol=1e-5 if dtype is np.float32 else 1e-12)
        distance = subgradient_distance(exact, coef, l1, l2) * importance
        assert distance.max() <= enough * (1.2 if dtype is np.float32 else 1.0001)
        assert (coef == 0).any()
        assert (coef != 0).sum() > 2


def test_agreement_with_a_general_minimiser():
    hessian, gradient, l1, l2, importance = drawn(np.float64, p=5)

    def objective(parts):  # each coefficient as the difference of two that are not negative
        b = parts[:5] - parts[5:]
        return b @ hessian @ b / 2 - gradient @ b + l1 @ (parts[:5] + parts[5:]) + l2 @ b**2 / 2

    found = scipy.optimize.minimize(
        objective, np.ones(10), bounds=[(0, None)] * 10, options={"ftol": 1e-15, "gtol": 1e-10}
    )
    coef = np.zeros(5)
    descend(hessian, gradient.copy(), coef, l1, l2, importance, 1e-12, 10_000)
    np.testing.assert_allclose(coef, found.x[:5] - found.x[5:], atol=1e-5)


def test_a_column_without_curvature_stays_where_it_is():
    hessian, coef = np.diag([1.0, 0.0]), np.zeros(2)
    ones = np.ones(2)
    assert descend(hessian, np.array([2.0, 0.0]), coef, 0 * ones, 0 * ones, ones, 1e-9, 100) < 100
    np.testing.assert_array_equal(coef, [2.0, 0.0])


def test_it_ends_after_the_last_sweep():
    hessian, gradient, l1, l2, importance = drawn(np.float64)
    assert descend(hessian, gradient, np.zeros(30), l1, l2, importance, 0.0, 3) == 3
