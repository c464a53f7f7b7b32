"""Unpenalised and ridge Cox: R survival, scipy's optimiser, and the three ways to solve alike."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import minimize

from tabular_trainers.models import newton
from tabular_trainers.models.newton import ridge_path
from tabular_trainers.models.risk_sets import RiskSets
from tabular_trainers.models.rotation import make_design

GOLDEN = Path(__file__).parents[1] / "golden" / "cox_models.json"


def drawn(n=150, p=6, seed=0, effect=1.0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, p))
    event_time, censoring = rng.exponential(np.exp(-effect * X[:, 0])), rng.exponential(2.0, n)
    y = np.empty(n, dtype=[("event", bool), ("time", float)])
    y["event"], y["time"] = event_time <= censoring, np.minimum(event_time, censoring)
    return X, y


def largest_gradient(X, sets, coef, penalty, factor=1.0):
    residual = sets.at(X.astype(float) @ coef).residual()
    return np.abs(X.T @ residual / sets.total_weight - penalty * factor * coef).max()


@pytest.mark.parametrize("case", range(16))
def test_unpenalised_coefficients_are_those_of_r(case):
    golden = json.loads(GOLDEN.read_text())
    fit = golden["fits"][case]
    names = ("event", "time", "entry")[: 3 if fit["entry"] else 2]
    y = np.empty(len(golden["time"]), dtype=[(k, bool if k == "event" else float) for k in names])
    for name in names:
        y[name] = golden[name]
    strata = np.array(golden["stratum"]) if fit["strata"] else None
    weight = np.array(golden["weight"]) if fit["weighted"] else None
    path = ridge_path(np.array(golden["x"]), RiskSets(y, strata, weight, fit["ties"]), [0.0])
    assert path.converged.all()
    np.testing.assert_allclose(path.coef[:, 0], fit["coefficients"], rtol=1e-10)


@pytest.mark.parametrize("shape", [(120, 5), (40, 90)])
def test_ridge_is_the_minimum_that_scipy_finds(shape):
    X, y = drawn(*shape)
    factor = np.linspace(0.5, 2.0, shape[1])
    factor[1] = 0.0
    sets, penalty = RiskSets(y, ties="efron"), 0.05

    def objective(b):
        residual = sets.at(X @ b).residual() / len(y)
        value = -sets.log_likelihood(X @ b) / len(y) + penalty / 2 * factor @ b**2
        return value, penalty * factor * b - X.T @ residual

    options = {"gtol": 1e-12, "ftol": 0, "maxiter": 5000}
    found = minimize(objective, np.zeros(shape[1]), jac=True, method="L-BFGS-B", options=options)
    path = ridge_path(X, sets, [penalty], factor)
    assert path.converged.all()
    np.testing.assert_allclose(path.coef[:, 0], found.x, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_conjugate_gradients_and_rotation_give_the_dense_solution(monkeypatch, dtype):
    X, y = drawn(60, 90)
    X = X.astype(dtype)
    factor = np.r_[0.0, np.linspace(0.5, 2.0, 89)]
    penalties = np.geomspace(1.0, 0.05, 8)
    sets = RiskSets(y)
    turned = ridge_path(X, sets, penalties, factor)
    assert make_design(X, factor).matrix.shape[1] <= 61
    monkeypatch.setattr(newton, "DENSE", 0)
    by_products = ridge_path(X, sets, penalties, factor)
    tall = np.vstack([X, X[:40]])  # weight 0, so that there are more patients than columns
    weights = np.r_[np.ones(60), np.zeros(40)]
    again = RiskSets(np.concatenate([y, y[:40]]), sample_weight=weights)
    flat = ridge_path(tall, again, penalties, factor)
    monkeypatch.setattr(newton, "DENSE", 1000)
    dense = ridge_path(tall, again, penalties, factor)
    for path in (turned, by_products, flat):
        assert path.converged.all()
        assert path.kkt.max() < 1e-4
        np.testing.assert_allclose(path.coef, dense.coef, atol=1e-4)
    assert dense.kkt.max() < 1e-8
    null = largest_gradient(X, sets, np.zeros(90), 0.0)
    for path in (turned, by_products):
        recomputed = largest_gradient(X, sets, path.coef[:, -1], penalties[-1], factor) / null
        assert recomputed == pytest.approx(path.kkt[-1], abs=1e-5)


def test_starts_save_work_and_change_nothing():
    X, y = drawn(150, 20)
    penalties = np.geomspace(1.0, 1e-3, 10)
    whole = ridge_path(X, RiskSets(y), penalties)
    fold = RiskSets(y, sample_weight=np.arange(150) % 5 > 0)
    warm = ridge_path(X, fold, penalties, start=whole.coef)
    cold = ridge_path(X, fold, penalties)
    np.testing.assert_allclose(warm.coef, cold.coef, atol=1e-8)


def test_a_design_is_shared_with_held_out_patients_and_goes_back_and_forth():
    X, y = drawn(50, 80)
    design = make_design(X)
    coef = ridge_path(X, RiskSets(y), [0.1], design=design).coef
    np.testing.assert_allclose(design.coefficients(design.start(coef)), coef, atol=1e-12)
    kept = np.arange(50) % 4 > 0
    shared = ridge_path(X, RiskSets(y, sample_weight=kept), [0.1], design=design).coef
    np.testing.assert_allclose(
        shared, ridge_path(X[kept], RiskSets(y[kept]), [0.1]).coef, atol=1e-7
    )


@pytest.mark.parametrize("scale", [1e-30, 1e30])
@pytest.mark.parametrize("p", [1, 4, 200])
def test_columns_of_any_scale(scale, p):
    X, y = drawn(80, p)
    penalty = 0.0 if p < 80 else 0.1
    plain = ridge_path(X, RiskSets(y), [penalty])
    scaled = ridge_path(X * scale, RiskSets(y), [penalty * scale**2])
    np.testing.assert_allclose(scaled.coef * scale, plain.coef, rtol=1e-5, atol=1e-8)
    assert scaled.converged.all()
    mixed = ridge_path(X * np.where(np.arange(p) % 2, scale, 1.0), RiskSets(y), [0.1])
    assert np.isfinite(mixed.coef).all()
    # Beside columns of 1e30 a penalty of 0.1 is none, and 100 of them separate 80 patients.
    assert mixed.converged.all() or (scale > 1 and p == 200)


def test_constant_and_duplicate_columns():
    X, y = drawn(100, 3)
    alone = ridge_path(X, RiskSets(y), [0.0]).coef[:, 0]
    wide = np.column_stack([X, np.full(100, 0.1), X[:, 0], np.full(100, 1e6)])
    for penalty in (0.0, 0.1):
        path = ridge_path(wide, RiskSets(y), [penalty])
        coef = path.coef[:, 0]
        assert path.converged.all()
        np.testing.assert_array_equal(coef[[3, 5]], 0.0)
        assert coef[0] == pytest.approx(coef[4], rel=1e-6)
        if penalty == 0:
            np.testing.assert_allclose([coef[0] + coef[4], *coef[1:3]], alone, rtol=1e-6)
    only = ridge_path(np.ones((100, 200)), RiskSets(y), [0.1, 0.0])
    np.testing.assert_array_equal(only.coef, 0.0)
    assert only.converged.all()


@pytest.mark.parametrize("dense", [0, 300])
def test_all_patients_leave_before_the_first_event(monkeypatch, dense):
    monkeypatch.setattr(newton, "DENSE", dense)
    X, y = drawn(30, 3)
    y["event"] = False
    y["event"][np.argmax(y["time"])] = True
    for penalty in (0.0, 0.1):
        path = ridge_path(X, RiskSets(y), [penalty])
        np.testing.assert_array_equal(path.coef, 0.0)
        assert path.converged.all()


@pytest.mark.parametrize("p", [1, 3])
def test_a_separating_column_is_finite_and_not_converged(p):
    X, y = drawn(40, p)
    X[:, 0] = -y["time"]
    y["event"] = True
    path = ridge_path(X, RiskSets(y), [0.0])
    assert np.isfinite(path.coef).all()
    assert not path.converged.any()
    assert ridge_path(X, RiskSets(y), [0.01]).converged.all()


def test_one_event_with_and_without_a_penalty():
    X, y = drawn(40, 3)
    y["event"] = np.arange(40) == np.argsort(y["time"])[5]
    free, held = ridge_path(X, RiskSets(y), [0.0]), ridge_path(X, RiskSets(y), [0.1])
    assert np.isfinite(free.coef).all()
    assert held.converged.all()
    assert held.kkt[0] < 1e-6


def test_too_few_steps_are_said():
    X, y = drawn()
    assert not ridge_path(X, RiskSets(y), [0.01], max_iter=1).converged.any()
