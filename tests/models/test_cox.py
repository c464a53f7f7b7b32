"""The Cox regression: agreement with R, choice of the penalty, and data that break engines."""

import json
from pathlib import Path

import numpy as np
import pytest

from tabular_trainers.errors import DataError
from tabular_trainers.folds import inner_folds
from tabular_trainers.models import CoxRegression
from tabular_trainers.models import cox as module
from tabular_trainers.models.risk_sets import RiskSets

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "cox_models.json").read_text())


def drawn(n=150, p=6, seed=0, effect=1.0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, p))
    event_time, censoring = rng.exponential(np.exp(-effect * X[:, 0])), rng.exponential(2.0, n)
    y = np.empty(n, dtype=[("event", bool), ("time", float)])
    y["event"], y["time"] = event_time <= censoring, np.minimum(event_time, censoring)
    return X, y


def golden_outcome(late):
    names = ("event", "time", "entry") if late else ("event", "time")
    y = np.empty(len(GOLDEN["time"]), dtype=[(k, bool if k == "event" else float) for k in names])
    for name in names:
        y[name] = GOLDEN[name]
    return y


def test_without_a_penalty_it_is_the_cox_regression_of_r():
    X, y = np.array(GOLDEN["x"]), golden_outcome(False)
    for model in (CoxRegression(penalty=0), CoxRegression(penalty=1e-10)):
        model.fit(X, y)
        assert model.converged_
        np.testing.assert_allclose(model.coef_, GOLDEN["coefficients"], rtol=1e-6, atol=1e-8)
        curves = model.predict_survival(X[:3], GOLDEN["curve_times"])
        np.testing.assert_allclose(curves.T, GOLDEN["curves"], rtol=1e-6)


@pytest.mark.parametrize("case", range(16))
def test_ties_strata_entry_and_weights_are_those_of_r(case):
    fit = GOLDEN["fits"][case]
    X, y = np.array(GOLDEN["x"]), golden_outcome(fit["entry"])
    strata = np.array(GOLDEN["stratum"]) if fit["strata"] else None
    weight = np.array(GOLDEN["weight"]) if fit["weighted"] else None
    model = CoxRegression(penalty=0, ties=fit["ties"])
    model.fit(X, y, strata=strata, sample_weight=weight)
    assert model.converged_
    np.testing.assert_allclose(model.coef_, fit["coefficients"], rtol=1e-6)
    np.testing.assert_allclose(model.centre_, np.average(X, axis=0, weights=weight))
    # R gives the cumulative hazard at covariates 0; the curve there is its negative exponential.
    names = np.array(fit["baseline_strata"])
    for stratum in np.unique(names):
        own = names == stratum
        times = np.array(fit["baseline_times"])[own]
        asked = None if strata is None else [stratum]
        curve = model.predict_survival(np.zeros((1, 3)), times, strata=asked)[0]
        np.testing.assert_allclose(-np.log(curve), np.array(fit["baseline_hazard"])[own], rtol=1e-6)


@pytest.mark.parametrize("penalty", [0.02, 0.1])
def test_optimality_of_the_penalised_fit(penalty):
    X, y = drawn()
    model = CoxRegression(penalty=penalty, l1_ratio=0.5).fit(X, y)
    coef, step = model.coef_, 1e-5
    gradient = np.array(
        [
            RiskSets(y).log_likelihood(X @ (coef + step * e))
            - RiskSets(y).log_likelihood(X @ (coef - step * e))
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


@pytest.mark.parametrize("l1_ratio", [0.5, 0.0])
def test_the_chosen_parameters_repeat_the_fit_bit_for_bit(l1_ratio):
    X, y = drawn(p=40)
    model = CoxRegression(l1_ratio=l1_ratio).fit(X, y)
    chosen = json.loads(json.dumps(model.chosen_parameters_))
    again = CoxRegression(**chosen).fit(X, y)
    np.testing.assert_array_equal(again.coef_, model.coef_)
    np.testing.assert_array_equal(again.baseline_hazard_, model.baseline_hazard_)
    assert again.inner_value_ is None
    assert 0.6 < model.inner_value_ < 0.9


@pytest.mark.parametrize("l1_ratio", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("late", [False, True])
def test_inner_folds_choose_the_penalty_by_the_cross_validated_likelihood(l1_ratio, late):
    """Each candidate by brute force: a plain fit a fold, Verweij and van Houwelingen's sum."""
    X, y = drawn(n=120, p=8)
    if late:
        entered = np.empty(120, dtype=[*y.dtype.descr, ("entry", float)])
        for name in y.dtype.names:
            entered[name] = y[name]
        entered["entry"] = y["time"] * np.random.default_rng(1).uniform(0, 0.5, 120)
        y = entered
    folds = [
        (X[train], X[test], y[train], y[test], None)
        for train, test in inner_folds(y, n_splits=3, seed=2)
    ]
    model = CoxRegression(l1_ratio, n_penalties=20)
    risks, chosen = model.fit_folds(folds)
    penalty = chosen["penalty"]

    def held_out(value):
        total = 0.0
        for train, test, y_train, y_test, _ in folds:
            coef = CoxRegression(l1_ratio, penalty=value).fit(train, y_train).coef_
            total += RiskSets(np.concatenate([y_train, y_test])).log_likelihood(
                np.vstack([train, test]) @ coef
            )
            total -= RiskSets(y_train).log_likelihood(train @ coef)
        return total

    assert held_out(penalty) > max(held_out(penalty * 3), held_out(penalty / 3))
    for (train, test, y_train, *_), risk in zip(folds, risks, strict=True):
        fit = CoxRegression(l1_ratio, penalty=penalty).fit(train, y_train)
        np.testing.assert_allclose(risk, fit.predict(test), rtol=0, atol=5e-3)
    given, same = CoxRegression(l1_ratio, penalty=penalty).fit_folds(folds)
    assert same == chosen
    np.testing.assert_allclose(given, risks, rtol=0, atol=5e-3)


def test_the_last_fit_at_a_penalty_of_inner_folds_keeps_a_column():
    for seed in range(6):
        rng = np.random.default_rng(seed)
        _, y = drawn(n=90, seed=seed)
        X = rng.normal(size=(90, 20))  # noise: the largest penalties are the best
        folds = [(X[a], X[b], y[a], y[b], None) for a, b in inner_folds(y, n_splits=3, seed=seed)]
        _, chosen = CoxRegression(1.0).fit_folds(folds)
        assert CoxRegression(1.0, **chosen).fit(X, y).coef_.any()


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

    def spy(y, groups, **settings):
        seen.append(groups)
        return original(y, groups, **settings)

    original = module.inner_folds
    monkeypatch.setattr(module, "inner_folds", spy)
    CoxRegression().fit(X, y, groups=site)
    assert len(seen) == 1
    assert seen[0] is site


@pytest.mark.parametrize("l1_ratio", [0.0, 0.5])
def test_the_choice_is_that_of_separate_fits(l1_ratio):
    """Shared matrices, weights of 0 and warm starts only save work (Verweij & van Houwelingen)."""
    X, y = drawn(p=12, seed=4)
    model = CoxRegression(l1_ratio=l1_ratio, n_penalties=12).fit(X, y)
    values, events = [], []
    for train, test in inner_folds(y, None, n_splits=5, seed=0):
        part = [
            CoxRegression(l1_ratio=l1_ratio, penalty=penalty).fit(X[train], y[train]).coef_
            for penalty in model.penalties_
        ]
        whole, inner = RiskSets(y), RiskSets(y[train])
        values.append(
            [whole.log_likelihood(X @ b) - inner.log_likelihood(X[train] @ b) for b in part]
        )
        events.append(y["event"][test].sum())
    values, events = np.array(values), np.array(events)
    best = 1 + np.argmax(values.sum(axis=0)[1:])
    assert model.penalty_ == model.penalties_[best]
    # Largest penalty within a standard error: mean and spread over folds, weighted by their events.
    mean = np.average(values / events[:, None], axis=0, weights=events)
    spread = np.average((values / events[:, None] - mean) ** 2, axis=0, weights=events)
    near = 1 + np.flatnonzero(mean[1:] >= mean[best] - np.sqrt(spread[best] / 4))[0]
    sparse = CoxRegression(l1_ratio=l1_ratio, n_penalties=12, penalty_rule="1se").fit(X, y)
    assert sparse.penalty_ == model.penalties_[near]
    assert sparse.penalty_ >= model.penalty_
    at = np.flatnonzero(model.penalties_ == model.penalty_)[0]
    np.testing.assert_allclose(model.coef_path_[:, at], model.coef_, atol=1e-3)


@pytest.mark.parametrize("l1_ratio", [0.0, 0.5, 1.0])
def test_an_unpenalised_column_stays_as_penalties_grow(l1_ratio):
    X, y = drawn(p=8)
    factor = np.r_[0.0, np.ones(7)]
    model = CoxRegression(l1_ratio, penalty=1e3, penalty_factor=factor).fit(X, y)
    alone = CoxRegression(penalty=0).fit(X[:, :1], y)
    assert model.coef_[0] == pytest.approx(alone.coef_[0], rel=1e-3)
    assert np.abs(model.coef_[1:]).max() < 1e-3
    assert CoxRegression(l1_ratio, penalty_factor=factor).fit(X, y).coef_[0] > 0.5


@pytest.mark.parametrize("l1_ratio", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_columns_of_any_scale(l1_ratio, scale):
    X, y = drawn(p=5)
    plain = CoxRegression(l1_ratio).fit(X, y)
    scaled = CoxRegression(l1_ratio).fit(X * scale, y)
    assert scaled.converged_
    if l1_ratio in (0, 1):  # between them the two parts of the penalty scale differently
        np.testing.assert_allclose(scaled.predict(X * scale), plain.predict(X), atol=1e-4)
    mixed = X * np.array([1, scale, 1, scale, 1])
    model = CoxRegression(l1_ratio).fit(mixed, y)
    assert np.isfinite(model.predict(mixed)).all()
    assert model.converged_


@pytest.mark.parametrize("l1_ratio", [0.0, 0.5])
@pytest.mark.parametrize("penalty", [None, 0.1, 0.0])
@pytest.mark.parametrize("ties", ["breslow", "efron"])
def test_awkward_cohorts(l1_ratio, penalty, ties):
    X, y = drawn(n=60, p=3)
    X = np.column_stack([X, np.full(60, 0.1), X[:, 0]])
    tied = y.copy()
    tied["time"] = np.ceil(2 * y["time"])
    model = CoxRegression(l1_ratio, penalty, ties)
    assert model.fit(X, tied).coef_[3] == 0
    assert model.converged_
    strata = np.where(np.arange(60) < 15, "quiet", "other")
    tied["event"][:15] = False
    model.fit(X, tied, strata=strata)
    curves = model.predict_survival(X, [1.0, 2.0], strata=strata)
    assert np.isfinite(curves).all()
    np.testing.assert_array_equal(curves[:15], 1.0)  # nobody of this stratum had the event
    alone = CoxRegression(l1_ratio, penalty, ties).fit(X[:, :1], y)
    assert alone.coef_.shape == (1,)


@pytest.mark.parametrize("l1_ratio", [0.0, 0.5])
def test_one_event_and_all_others_gone_before_it(l1_ratio):
    X, y = drawn(n=40, p=3)
    y["event"] = np.arange(40) == np.argmax(y["time"])
    for penalty in (0.0, 0.1):
        model = CoxRegression(l1_ratio, penalty).fit(X, y)
        np.testing.assert_array_equal(model.coef_, 0.0)
        assert model.converged_
    y["event"] = np.arange(40) == np.argsort(y["time"])[5]
    assert CoxRegression(l1_ratio, 0.1).fit(X, y).converged_
    with pytest.raises(DataError, match="1 event"):
        CoxRegression(l1_ratio).fit(X, y)


def test_what_does_not_converge_warns_and_stays_finite():
    from sklearn.exceptions import ConvergenceWarning

    X, y = drawn(n=40, p=2)
    X[:, 0], y["event"] = -y["time"], True
    with pytest.warns(ConvergenceWarning, match="not converged at penalty 0"):
        model = CoxRegression(penalty=0).fit(X, y)
    assert not model.converged_
    assert np.isfinite(model.predict_survival(X, [0.1, 1.0])).all()


def test_an_interrupted_fit_leaves_the_model_unfitted(monkeypatch):
    X, y = drawn()

    def interrupt(self, eta):
        raise KeyboardInterrupt

    model = CoxRegression(penalty=0.1)
    monkeypatch.setattr(RiskSets, "baseline", interrupt)  # the last step of a fit
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, y)
    assert [name for name in vars(model) if name.endswith("_")] == []


def test_two_threads_fit_at_once():
    from concurrent.futures import ThreadPoolExecutor

    sets = [drawn(seed=seed) for seed in range(6)]
    one_by_one = [CoxRegression().fit(X, y).coef_ for X, y in sets]
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(lambda one: CoxRegression().fit(*one).coef_, sets))
    np.testing.assert_array_equal(together, one_by_one)


def test_weights_count_patients():
    X, y = drawn(n=80)
    weight = np.arange(80) % 3
    twice = np.repeat(np.arange(80), weight)
    model = CoxRegression(penalty=0.05).fit(X, y, sample_weight=weight)
    again = CoxRegression(penalty=0.05).fit(X[twice], y[twice])
    np.testing.assert_allclose(model.coef_, again.coef_, atol=1e-6)
    np.testing.assert_allclose(model.predict(X), again.predict(X), atol=1e-5)
    assert CoxRegression().fit(X, y, sample_weight=weight).inner_value_ > 0.6


@pytest.mark.parametrize("l1_ratio", [0.0, 0.5])
def test_float32_gives_nearly_the_same(l1_ratio):
    X, y = drawn(p=20)
    single = CoxRegression(l1_ratio, penalty=0.05).fit(X.astype(np.float32), y)
    double = CoxRegression(l1_ratio, penalty=0.05).fit(X, y)
    assert single.converged_
    assert single.coef_.dtype == np.float64
    np.testing.assert_allclose(single.coef_, double.coef_, atol=1e-4)
    assert CoxRegression(l1_ratio, n_penalties=5).fit(X.astype(np.float32), y).inner_value_ > 0.6


def test_strata_are_asked_for():
    X, y = drawn(n=60)
    strata = np.arange(60) % 2
    model = CoxRegression(penalty=0.1).fit(X, y, strata=strata)
    with pytest.raises(DataError, match="give those of these patients"):
        model.predict_survival(X, [1.0])
    with pytest.raises(DataError, match=r"strata \[7\] were not in the fit"):
        model.predict_survival(X[:2], [1.0], strata=[0, 7])
    with pytest.raises(DataError, match="the fit had none"):
        CoxRegression(penalty=0.1).fit(X, y).predict_survival(X, [1.0], strata=strata)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"l1_ratio": 1.5}, "l1_ratio: expected from 0 to 1, got 1.5"),
        ({"penalty": -1.0}, "penalty: expected at least 0"),
        ({"penalty_rule": "best"}, "penalty_rule: unknown 'best'; known: min, 1se"),
        ({"penalty_factor": [1.0, -1.0]}, "penalty_factor: expected 6 values of at least 0"),
        ({"ties": "exact"}, "ties: unknown 'exact'"),
    ],
)
def test_parameters_out_of_range(settings, message):
    with pytest.raises(DataError, match=message):
        CoxRegression(**settings).fit(*drawn())


def test_missing_values_and_weightless_events_are_errors():
    X, y = drawn()
    with pytest.raises(DataError, match="all patients with an event have weight 0"):
        CoxRegression().fit(X, y, sample_weight=~y["event"])
    X[3, 2] = np.nan
    with pytest.raises(DataError, match="1 of 6 columns hold missing values"):
        CoxRegression().fit(X, y)
