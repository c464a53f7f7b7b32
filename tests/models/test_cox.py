"""Elastic-net Cox: agreement with R, choice of the penalty, and data that break the engine."""

import json
from pathlib import Path

import numpy as np
import pytest

from tabular_trainers.models import CoxRegression
from tabular_trainers.models.hazard import partial_log_likelihood


def drawn(n=150, p=6, seed=0, effect=1.0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, p))
    event_time, censoring = rng.exponential(np.exp(-effect * X[:, 0])), rng.exponential(2.0, n)
    y = np.empty(n, dtype=[("event", bool), ("time", float)])
    y["event"], y["time"] = event_time <= censoring, np.minimum(event_time, censoring)
    return X, y


def test_without_a_penalty_it_is_the_cox_regression_of_r():
    golden = json.loads((Path(__file__).parents[1] / "golden" / "cox_models.json").read_text())
    X = np.array(golden["x"])
    y = np.empty(len(X), dtype=[("event", bool), ("time", float)])
    y["event"], y["time"] = golden["event"], golden["time"]
    model = CoxRegression(penalty=1e-7).fit(X, y)
    assert model.converged_
    np.testing.assert_allclose(model.coef_, golden["coefficients"], atol=1e-4)
    curves = model.predict_survival(X[:3], golden["curve_times"])
    np.testing.assert_allclose(curves.T, golden["curves"], atol=1e-4)


@pytest.mark.parametrize("penalty", [0.02, 0.1])
def test_optimality_of_the_penalised_fit(penalty):
    X, y = drawn()
    model = CoxRegression(penalty=penalty, l1_ratio=0.5).fit(X, y)
    coef, step = model.coef_, 1e-5
    gradient = np.array(
        [
            partial_log_likelihood(y, X @ (coef + step * e))
            - partial_log_likelihood(y, X @ (coef - step * e))
            for e in np.eye(len(coef))
        ]
    ) / (2 * step * len(y))
    smooth = gradient - penalty * 0.5 * coef
    active = coef != 0
    assert active[0]
    assert not active.all()
    np.testing.assert_allclose(
        smooth[active], penalty * 0.5 * np.sign(coef[active]), atol=1e-3 * penalty
    )
    assert (np.abs(smooth[~active]) <= penalty * 0.5 * (1 + 1e-3)).all()


def test_the_chosen_parameters_repeat_the_fit_bit_for_bit():
    X, y = drawn(p=40)
    model = CoxRegression().fit(X, y)
    chosen = json.loads(json.dumps(model.chosen_parameters_))
    again = CoxRegression(**chosen).fit(X, y)
    np.testing.assert_array_equal(again.coef_, model.coef_)
    np.testing.assert_array_equal(again.baseline_hazard_, model.baseline_hazard_)
    assert again.inner_value_ is None
    assert 0.6 < model.inner_value_ < 0.9


def test_noise_is_shrunk_but_still_ranks():
    X, y = drawn(n=200, p=60, effect=0.0)
    model = CoxRegression().fit(X, y)
    assert np.ptp(model.predict(X)) > 0
    assert np.abs(model.coef_).max() < 0.2


def test_a_strong_effect_is_nearly_unpenalised():
    X, y = drawn(n=400, p=3)
    assert CoxRegression().fit(X, y).coef_[0] == pytest.approx(1.0, abs=0.15)


def test_few_events_and_many_columns():
    X, y = drawn(n=120, p=300, seed=1)
    y["event"][np.flatnonzero(y["event"])[8:]] = False
    model = CoxRegression().fit(X, y)
    curves = model.predict_survival(X, [0.1, 1.0, 10.0])
    assert np.isfinite(curves).all()
    assert np.isfinite(model.coef_).all()


def test_sites_stay_whole_inside(monkeypatch):
    X, y = drawn()
    site = np.array([f"s{i % 10}" for i in range(len(y))], dtype=object)
    seen = []
    from tabular_trainers.models import cox

    def spy(y, groups, **settings):
        seen.append(groups)
        return original(y, groups, **settings)

    original = cox.inner_folds
    monkeypatch.setattr(cox, "inner_folds", spy)
    CoxRegression().fit(X, y, groups=site)
    assert len(seen) == 1
    assert seen[0] is site


def test_where_the_engine_gives_up_the_path_ends_early(monkeypatch):
    import sksurv.linear_model

    engine = sksurv.linear_model.CoxnetSurvivalAnalysis

    class Fragile(engine):
        def fit(self, X, y):
            if min(self.alphas) < 0.05:
                raise ArithmeticError("Numerical error, because weights are too large.")
            return super().fit(X, y)

    X, y = drawn(n=100, p=4)
    monkeypatch.setattr(sksurv.linear_model, "CoxnetSurvivalAnalysis", Fragile)
    model = CoxRegression(penalty=1e-4).fit(X, y)
    assert not model.converged_
    assert 0.05 <= model.penalty_ < 0.3
    assert model.coef_.any()
    tuned = CoxRegression().fit(X, y)
    again = CoxRegression(**tuned.chosen_parameters_).fit(X, y)
    np.testing.assert_array_equal(again.coef_, tuned.coef_)
