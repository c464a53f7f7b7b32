"""Partial likelihood, derivatives, baseline: a loop over risk sets, finite differences, and R."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tabular_trainers.errors import DataError
from tabular_trainers.models.risk_sets import TIES, RiskSets

GOLDEN = Path(__file__).parents[1] / "golden" / "cox_models.json"


def outcome(time, event, entry=None):
    fields = [("event", bool), ("time", float)] + ([("entry", float)] if entry is not None else [])
    y = np.empty(len(time), dtype=fields)
    y["event"], y["time"] = event, time
    if entry is not None:
        y["entry"] = entry
    return y


def by_hand(y, strata, weight, ties, eta):
    """Log likelihood, gradient and minus the Hessian by a loop over the tied deaths."""
    n = len(y)
    entry = y["entry"] if "entry" in y.dtype.names else np.full(n, -np.inf)
    logs, gradient, hessian = 0.0, np.zeros(n), np.zeros((n, n))
    for stratum in np.unique(strata):
        own = (strata == stratum) & (weight > 0)
        for now in np.unique(y["time"][own & y["event"]]):
            at_risk = own & (entry < now) & (y["time"] >= now)
            dead = own & y["event"] & (y["time"] == now)
            logs += (weight * eta)[dead].sum()
            gradient[dead] += weight[dead]
            for turn in range(dead.sum()):
                gone = turn / dead.sum() if ties == "efron" else 0.0
                hazard = weight * np.exp(eta) * (at_risk - gone * dead)
                share, mean = hazard / hazard.sum(), weight[dead].mean()
                logs -= mean * np.log(hazard.sum())
                gradient -= mean * share
                hessian += mean * (np.diag(share) - np.outer(share, share))
    return logs, gradient, hessian


@st.composite
def cases(draw):
    """Up to 25 patients with ties, up to three strata, weights of 0 among others, late entry."""
    n = draw(st.integers(1, 25))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    time = rng.integers(1, draw(st.integers(2, 30)), n).astype(float)
    entry = time - rng.integers(1, 10, n) if draw(st.booleans()) else None
    y = outcome(time, rng.random(n) < draw(st.sampled_from([0.0, 0.2, 0.7, 1.0])), entry)
    weight = rng.choice([0, 1, 0.3, 2.5], n) if draw(st.booleans()) else np.ones(n)
    strata = rng.integers(0, draw(st.integers(1, 3)), n)
    eta = rng.normal(size=n) * draw(st.sampled_from([0.1, 1.0, 5.0]))
    return y, strata, weight, draw(st.sampled_from(TIES)), eta, rng


@settings(max_examples=120, deadline=None)
@given(cases())
def test_likelihood_and_derivatives_are_those_of_a_loop_over_risk_sets(case):
    y, strata, weight, ties, eta, rng = case
    sets = RiskSets(y, strata, weight, ties)
    logs, gradient, hessian = by_hand(y, strata, weight, ties, eta)
    log_likelihood, residual, curvature = sets.derivatives(eta)
    close = {"rtol": 0, "atol": 1e-9 * max(1.0, np.abs(hessian).max())}
    np.testing.assert_allclose(log_likelihood, logs, rtol=1e-10, atol=1e-10)
    assert sets.log_likelihood(eta) == log_likelihood
    np.testing.assert_allclose(residual, gradient, **close)
    np.testing.assert_allclose(curvature, np.diag(hessian), **close)
    u, X = rng.normal(size=len(y)), rng.normal(size=(len(y), 3))
    np.testing.assert_allclose(sets.hessian_product(eta, u), hessian @ u, **close)
    np.testing.assert_allclose(sets.hessian(X, eta), X.T @ hessian @ X, **close)
    single = sets.hessian(X.astype(np.float32), eta)
    np.testing.assert_allclose(single, X.T @ hessian @ X, atol=1e-4 * close["atol"] / 1e-9)
    assert sets.total_weight == weight.sum()


@settings(max_examples=50, deadline=None)
@given(cases())
def test_derivatives_are_finite_differences(case):
    y, strata, weight, ties, eta, rng = case
    eta = eta / max(1.0, np.abs(eta).max())
    sets, u, step = RiskSets(y, strata, weight, ties), rng.normal(size=len(y)), 1e-5
    up, down = sets.at(eta + step * u), sets.at(eta - step * u)
    slope = (up.log_likelihood - down.log_likelihood) / (2 * step)
    assert slope == pytest.approx(sets.at(eta).residual() @ u, abs=1e-7 * (1 + len(y)))
    change = (up.residual() - down.residual()) / (2 * step)
    np.testing.assert_allclose(change, -sets.hessian_product(eta, u), atol=1e-7 * (1 + len(y)))


@settings(max_examples=100, deadline=None)
@given(cases(), st.sampled_from([800.0, 1e5, 1e30]))
def test_log_hazards_of_any_size_neither_overflow_nor_vanish(case, size):
    y, strata, weight, ties, eta, rng = case
    sets = RiskSets(y, strata, weight, ties)
    eta = eta * size
    with np.errstate(all="raise", under="ignore"):
        answers = [*sets.derivatives(eta), sets.hessian_product(eta, rng.normal(size=len(y)))]
        answers.append(sets.hessian(rng.normal(size=(len(y), 2)), eta))
        baseline = sets.baseline(eta)
    for answer in answers:
        assert np.isfinite(answer).all()
    assert (answers[2] >= 0).all()
    assert not np.isnan(baseline).any()
    # One patient at risk at each time decides: the likelihood is that of the largest hazards.
    if ties == "breslow" and size == 1e30:
        entry = y["entry"] if "entry" in y.dtype.names else np.full(len(y), -np.inf)
        expected = 0.0
        for i in sets.dead:
            at_risk = (strata == strata[i]) & (entry < y["time"][i]) & (y["time"] >= y["time"][i])
            expected += weight[i] * (eta[i] - eta[at_risk & (weight > 0)].max())
        assert answers[0] == pytest.approx(expected, rel=1e-12, abs=100)


@pytest.fixture(scope="module")
def golden():
    return json.loads(GOLDEN.read_text())


@pytest.mark.parametrize("case", range(16))
def test_likelihood_and_baseline_are_those_of_r(golden, case):
    fit = golden["fits"][case]
    y = outcome(golden["time"], golden["event"], golden["entry"] if fit["entry"] else None)
    strata = np.array(golden["stratum"]) if fit["strata"] else None
    weight = np.array(golden["weight"]) if fit["weighted"] else None
    sets = RiskSets(y, strata, weight, fit["ties"])
    eta = np.array(golden["x"]) @ np.array(fit["coefficients"])
    found = [sets.log_likelihood(np.zeros(len(y))), sets.log_likelihood(eta)]
    np.testing.assert_allclose(found, fit["log_likelihood"], rtol=1e-12)
    np.testing.assert_array_equal(sets.times, fit["baseline_times"])
    names = np.array(["a", "b", "c"] if fit["strata"] else ["all"])
    np.testing.assert_array_equal(names[sets.stratum], fit["baseline_strata"])
    np.testing.assert_allclose(sets.baseline(eta), fit["baseline_hazard"], rtol=1e-12)


def test_patients_of_weight_zero_take_no_part():
    rng = np.random.default_rng(2)
    y = outcome(rng.integers(1, 9, 40), rng.random(40) < 0.6, rng.integers(-5, 1, 40))
    eta, weight = rng.normal(size=40), (rng.random(40) < 0.7).astype(float)
    kept = weight > 0
    whole, part = RiskSets(y, sample_weight=weight, ties="efron"), RiskSets(y[kept], ties="efron")
    assert whole.log_likelihood(eta) == pytest.approx(part.log_likelihood(eta[kept]), rel=1e-14)
    residual = np.zeros(40)
    residual[kept] = part.at(eta[kept]).residual()
    np.testing.assert_allclose(whole.at(eta).residual(), residual, atol=1e-13)


def test_no_event_at_all():
    y = outcome([1.0, 2.0, 3.0], [False] * 3)
    sets = RiskSets(y)
    assert sets.n_times == 0
    for answer in [*sets.derivatives(np.ones(3)), sets.hessian(np.ones((3, 2)), np.ones(3))]:
        assert not np.any(answer)
    assert sets.baseline(np.ones(3)).shape == (0,)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ties": "exact"}, "ties: unknown 'exact'; known: breslow, efron"),
        ({"sample_weight": [1.0, -1.0]}, "at least 0"),
        ({"sample_weight": [1.0, np.nan]}, "not finite"),
        ({"strata": [1]}, "strata: 2 values expected"),
    ],
)
def test_wrong_settings(settings, message):
    with pytest.raises(DataError, match=message):
        RiskSets(outcome([1.0, 2.0], [True, True]), **settings)


def test_entry_must_precede_time():
    y = outcome([1.0, 2.0], [True, True], [0.0, 2.0])
    with pytest.raises(DataError, match="1 of 2 patients enter at or after their time"):
        RiskSets(y)
    assert RiskSets(y, sample_weight=[1, 0]).n_times == 1
