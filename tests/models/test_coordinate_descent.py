"""Elastic-net Cox path: agreement with glmnet and scikit-survival, optimality, and hard data."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tabular_trainers.errors import DataError
from tabular_trainers.models import coordinate_descent as module
from tabular_trainers.models.coordinate_descent import (
    elastic_net_path,
    kkt_residual,
    largest_penalty,
)
from tabular_trainers.models.risk_sets import RiskSets
from tabular_trainers.models.scaled_columns import ScaledColumns

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "elastic_net.json").read_text())


def outcome(event, time, entry=None):
    fields = [("event", bool), ("time", float)] + [("entry", float)] * (entry is not None)
    y = np.empty(len(time), dtype=fields)
    y["event"], y["time"] = event, time
    if entry is not None:
        y["entry"] = entry
    return y


def drawn(n=150, p=40, seed=0, dtype=np.float64):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, p)) + 0.5 * rng.normal(size=(n, 1))
    died = rng.exponential(np.exp(X[:, min(1, p - 1)] - X[:, 0]))
    left = rng.exponential(2.0, n)
    time = np.ceil(10 * np.minimum(died, left))
    return X.astype(dtype), outcome(died <= left, time)


def objective(X, risk_sets, coef, penalty, l1_ratio, factor=1.0):
    size = l1_ratio * np.abs(coef) + (1 - l1_ratio) / 2 * coef**2
    fit = -risk_sets.log_likelihood(X.astype(float) @ coef) / risk_sets.total_weight
    return fit + penalty * (factor * size).sum()


def null_objective(X, risk_sets):
    return objective(X, risk_sets, np.zeros(X.shape[1]), 0.0, 1.0)


def grid(X, risk_sets, l1_ratio=0.5, factor=None, end=0.05, k=20):
    return largest_penalty(X, risk_sets, l1_ratio, factor) * np.geomspace(1, end, k)


def check(X, risk_sets, penalties, path, l1_ratio=0.5, factor=None, tolerance=5e-4):
    """Every penalty is solved, and the path knows it, by the independent measure in float64."""
    assert path.converged.all()
    for i, penalty in enumerate(penalties):
        kkt = kkt_residual(X, risk_sets, path.coef[:, i], penalty, l1_ratio, factor)
        assert kkt <= tolerance * 1.02
        assert path.kkt[i] == pytest.approx(kkt, abs=2e-5)


@pytest.mark.parametrize("name", GOLDEN["cases"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_agreement_with_glmnet(name, dtype):
    case = GOLDEN["cases"][name]
    X = np.array(GOLDEN["wide" if "columns" in name else "x"])
    y = outcome(GOLDEN["event"], GOLDEN["time"], GOLDEN["entry"] if "entry" in name else None)
    strata = GOLDEN["strata"] if "strata" in name else None
    weight = GOLDEN["weight"] if "weight" in name else None
    risk_sets = RiskSets(y, strata, weight)
    factor, penalties = np.array(case["factor"], float), np.array(case["penalties"])
    theirs, l1_ratio = np.array(case["coefficients"]), case["l1_ratio"]
    path = elastic_net_path(X.astype(dtype), risk_sets, penalties, l1_ratio, factor)
    assert path.converged.all()
    slack = 1e-6 * null_objective(X, risk_sets)
    for i, penalty in enumerate(penalties):
        arguments = penalty, l1_ratio, factor
        assert kkt_residual(X, risk_sets, theirs[:, i], *arguments) < 1e-6
        assert kkt_residual(X, risk_sets, path.coef[:, i], *arguments) <= 1e-3
        ours = objective(X, risk_sets, path.coef[:, i], *arguments)
        assert ours <= objective(X, risk_sets, theirs[:, i], *arguments) + slack
    if dtype is np.float64:
        exact = elastic_net_path(X, risk_sets, penalties, l1_ratio, factor, tolerance=1e-8)
        np.testing.assert_allclose(exact.coef, theirs, atol=2e-6)


@pytest.mark.parametrize(("n", "p", "l1_ratio"), [(200, 30, 0.5), (80, 300, 0.5), (120, 60, 1.0)])
def test_agreement_with_scikit_survival(n, p, l1_ratio):
    from sksurv.linear_model import CoxnetSurvivalAnalysis

    X, y = drawn(n, p)
    risk_sets = RiskSets(y)
    penalties = grid(X, risk_sets, l1_ratio)[1:]
    peer = CoxnetSurvivalAnalysis(alphas=penalties, l1_ratio=l1_ratio, tol=1e-12, max_iter=10**6)
    peer.fit(X, y)
    path = elastic_net_path(X, risk_sets, penalties, l1_ratio)
    check(X, risk_sets, penalties, path, l1_ratio)
    slack = 1e-6 * null_objective(X, risk_sets)
    for i, penalty in enumerate(peer.alphas_):  # it may end early
        theirs = objective(X, risk_sets, peer.coef_[:, i], penalty, l1_ratio)
        assert objective(X, risk_sets, path.coef[:, i], penalty, l1_ratio) <= theirs + slack


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("ties", ["breslow", "efron"])
def test_optimality_with_everything_at_once(ties, dtype):
    X, y = drawn(200, 25, dtype=dtype)
    rng = np.random.default_rng(1)
    y = outcome(y["event"], y["time"], np.maximum(0, y["time"] - rng.integers(1, 20, 200)))
    risk_sets = RiskSets(y, rng.integers(0, 3, 200), rng.integers(0, 4, 200) / 2, ties)
    factor = rng.integers(0, 3, 25).astype(float)
    assert (factor == 0).any()
    penalties = grid(X, risk_sets, 0.7, factor)
    path = elastic_net_path(X, risk_sets, penalties, 0.7, factor)
    check(X, risk_sets, penalties, path, 0.7, factor)
    assert ((path.coef[:, 0] != 0) == (factor == 0)).all()


def test_the_largest_penalty_is_where_the_first_penalised_column_enters():
    X, y = drawn()
    risk_sets, factor = RiskSets(y), np.ones(X.shape[1])
    factor[5] = 0
    for factors in (None, factor):
        largest = largest_penalty(X, risk_sets, 0.5, factors)
        path = elastic_net_path(X, risk_sets, largest * np.array([1.01, 0.98]), 0.5, factors)
        entered = (path.coef != 0).sum(axis=0)
        unpenalised = 0 if factors is None else 1
        assert entered[0] == unpenalised
        assert entered[1] > unpenalised


def test_patients_of_weight_zero_are_left_out():
    X, y = drawn(dtype=np.float32)
    kept = np.arange(len(X)) % 5 != 0
    alone, among = RiskSets(y[kept]), RiskSets(y, sample_weight=kept.astype(float))
    penalties = grid(X[kept], alone)
    path = elastic_net_path(X[kept], alone, penalties, 0.5, tolerance=1e-5)
    shared = elastic_net_path(ScaledColumns(X), among, penalties, 0.5, tolerance=1e-5)
    np.testing.assert_allclose(shared.coef, path.coef, atol=2e-3)
    check(X[kept], alone, penalties, shared, tolerance=2e-5)


def test_neither_a_start_nor_the_grid_changes_the_answer():
    X, y = drawn()
    risk_sets = RiskSets(y)
    penalties = grid(X, risk_sets)
    path = elastic_net_path(X, risk_sets, penalties, 0.5, tolerance=1e-8)
    again = elastic_net_path(X, risk_sets, penalties, 0.5, start=path.coef, tolerance=1e-8)
    np.testing.assert_allclose(again.coef, path.coef, atol=1e-6)
    for order in (slice(None, None, -1), slice(7, 8)):
        other = elastic_net_path(X, risk_sets, penalties[order], 0.5, tolerance=1e-8)
        np.testing.assert_allclose(other.coef, path.coef[:, order], atol=1e-6)


def test_a_single_penalty_costs_no_more_than_a_path_down_to_it(monkeypatch):
    """Counted are the sweeps, and the squared columns of each Hessian; seconds would vary."""
    made = []
    make_hessian, descend = module._WorkingSet._make_hessian, module.descend
    monkeypatch.setattr(
        module._WorkingSet,
        "_make_hessian",
        lambda self: (made.append((len(self.index) ** 2, 0)), make_hessian(self)),
    )
    monkeypatch.setattr(module, "descend", lambda *all_: made.append((0, descend(*all_))))
    X, y = drawn(150, 2000, dtype=np.float32)
    risk_sets, columns = RiskSets(y), ScaledColumns(X)
    penalties = grid(columns, risk_sets, k=100)

    def cost(penalties):
        made.clear()
        path = elastic_net_path(columns, risk_sets, penalties, 0.5)
        assert path.coef.shape == (2000, len(penalties))
        assert path.converged.all()
        return np.sum(made, axis=0)

    whole = cost(penalties)
    for some in (penalties[-1:], penalties[[50, 99]], penalties[19::20]):
        assert (cost(some) <= 1.5 * whole).all()


def test_the_same_bytes_again_and_from_two_threads_at_once():
    X, y = drawn(300, 200, dtype=np.float32)
    risk_sets = RiskSets(y)
    penalties = grid(X, risk_sets)

    def fit(_):
        return elastic_net_path(X, risk_sets, penalties, 0.5).coef.tobytes()

    first = fit(None)
    with ThreadPoolExecutor(2) as threads:
        assert set(threads.map(fit, range(4))) == {first}


def _one_event(X, y):
    event = np.zeros(len(y), dtype=bool)
    event[np.argsort(y["time"])[len(y) // 3]] = True
    return X, outcome(event, y["time"]), None


def _all_tied(X, y):
    return X, outcome(y["event"], np.ones(len(y))), None


def _constant_column(X, y):
    X[:, [0, 7]] = 0.1, -3e7
    return X, y, None


def _duplicate_columns(X, y):
    X[:, 1] = X[:, 0]
    X[:, 2] = -3 * X[:, 0]
    return X, y, None


def _one_column(X, y):
    return X[:, :1], y, None


def _scale(power):
    def scaled(X, y):
        return X * np.array(10.0**power, X.dtype), y, None

    return scaled


def _scales_mixed(X, y):
    end = 30 if X.dtype == np.float32 else 150
    return X * 10.0 ** np.linspace(-end, end, X.shape[1]).astype(X.dtype), y, None


def _far_from_zero(X, y):
    return X + np.array(2000, X.dtype), y, None


def _stratum_without_events(X, y):
    strata = np.arange(len(y)) % 3
    return X, outcome(y["event"] & (strata > 0), y["time"]), strata


HARD = {
    "one event": _one_event,
    "all tied": _all_tied,
    "constant column": _constant_column,
    "duplicate columns": _duplicate_columns,
    "one column": _one_column,
    "scale 1e-30": _scale(-30),
    "scale 1e30": _scale(30),
    "scales mixed": _scales_mixed,
    "far from zero": _far_from_zero,
    "stratum without events": _stratum_without_events,
}


@pytest.mark.parametrize("name", HARD)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(150, 12), (40, 90)])
def test_hard_data(name, dtype, shape):
    X, y, strata = HARD[name](*drawn(*shape, dtype=dtype))
    risk_sets = RiskSets(y, strata)
    factor = np.ones(X.shape[1])
    if X.shape[1] == 12:
        factor[1] = 0.1
    penalties = grid(X, risk_sets, factor=factor)
    path = elastic_net_path(X, risk_sets, penalties, 0.5, factor)
    assert np.isfinite(path.coef).all()
    assert penalties[0] > 0
    assert (path.coef[:, 1:] != 0).any()
    check(X, risk_sets, penalties, path, factor=factor)


def test_a_column_of_a_tiny_scale_beside_one_of_a_huge_scale():
    X, y = drawn(p=3)
    factor = np.array([0.0, 0.0, 1.0])
    risk_sets = RiskSets(y)
    plain = elastic_net_path(X, risk_sets, [0.01], 0.5, factor, tolerance=1e-8)
    scale = np.array([1e-30, 1e30, 1.0])
    scaled = elastic_net_path(X * scale, risk_sets, [0.01], 0.5, factor, tolerance=1e-8)
    np.testing.assert_allclose(scaled.coef[:, 0] * scale, plain.coef[:, 0], rtol=1e-6)


def test_a_constant_column_without_a_penalty_stays_at_zero():
    X, y = drawn(p=3)
    X[:, 1] = 5.0
    path = elastic_net_path(X, RiskSets(y), [0.01], 0.5, np.array([0.0, 0.0, 1.0]))
    assert path.converged.all()
    assert path.coef[0, 0] != 0
    assert path.coef[1, 0] == 0


def test_a_step_that_leads_too_far_is_shortened():
    rng = np.random.default_rng(6)
    X = rng.standard_t(1.5, size=(120, 4))  # a few patients with most of the hazard
    risk_sets = RiskSets(outcome(np.ones(120), np.ceil(np.exp(2 - X[:, 0] + rng.normal(size=120)))))
    penalties = np.array([1e-4])
    path = elastic_net_path(X, risk_sets, penalties, 0.5)
    check(X, risk_sets, penalties, path)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_column_that_is_constant_within_the_strata_changes_nothing(dtype):
    X, y = drawn(p=4, dtype=dtype)
    X[:, 3] = np.arange(150) % 3
    risk_sets, factor = RiskSets(y, X[:, 3]), np.array([0.0, 1.0, 1.0, 0.0])
    path = elastic_net_path(X, risk_sets, [0.05, 0.01], 0.5, factor)
    without = elastic_net_path(X[:, :3], risk_sets, [0.05, 0.01], 0.5, factor[:3])
    assert path.converged.all()
    np.testing.assert_allclose(path.coef[:3], without.coef, atol=1e-4)
    assert np.abs(path.coef[3]).max() < 0.05


def test_an_outcome_that_says_nothing_gives_zero_coefficients():
    X, _ = drawn(p=5)
    time = np.arange(150.0) + 1
    alone = RiskSets(outcome(time == 150, time))  # the others all left before
    assert largest_penalty(X, alone, 0.5) == 0.0
    path = elastic_net_path(X, alone, [0.1, 0.0], 0.5, np.array([0, 1.0, 1, 1, 1]))
    assert (path.coef == 0).all()
    assert path.converged.all()
    assert (path.kkt == 0).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_likelihood_without_a_maximum_stays_finite(dtype):
    time = np.arange(60.0) + 1
    X = np.stack([-time, np.cos(time)], axis=1).astype(dtype)  # the order of X is that of death
    risk_sets = RiskSets(outcome(np.ones(60), time))
    path = elastic_net_path(X, risk_sets, [1e-3, 1e-6, 0.0], 0.5, np.array([0.0, 1.0]))
    assert np.isfinite(path.coef).all()
    assert np.isfinite(path.kkt).all()


def test_it_says_when_it_did_not_converge():
    X, y = drawn()
    risk_sets = RiskSets(y)
    penalties = grid(X, risk_sets)
    path = elastic_net_path(X, risk_sets, penalties, 0.5, max_iter=1, tolerance=1e-10)
    assert not path.converged.all()
    assert (path.kkt[~path.converged] > 1e-10).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"l1_ratio": 0.0}, "l1_ratio: expected above 0"),
        ({"penalty_factor": [1.0]}, "penalty_factor: expected 3"),
        ({"penalty_factor": [1.0, -1, 1]}, "penalty_factor: expected 3"),
        ({"penalties": [-1.0]}, "penalties: expected finite"),
        ({"X": np.array([[np.nan, 1.0, np.inf]] * 150)}, "X: 2 of 3 columns"),
    ],
)
def test_bad_arguments(arguments, message):
    X, y = drawn(p=3)
    asked = {"X": X, "risk_sets": RiskSets(y), "penalties": [0.1], "l1_ratio": 0.5} | arguments
    with pytest.raises(DataError, match=message):
        elastic_net_path(**asked)
