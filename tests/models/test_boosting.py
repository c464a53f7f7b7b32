"""XGBoost: survival curves calibrated out of fold, missing values, scales."""

import numpy as np
import pandas as pd
import pytest

from tabular_trainers.folds import inner_folds
from tabular_trainers.models import booster as boosters
from tabular_trainers.models.booster import (
    MAX_ROUNDS,
    MIN_ROUNDS,
    PATIENCE,
    STEP,
    SharedMatrix,
)
from tabular_trainers.models.boosting import BoostedClassifier, BoostedCox
from tabular_trainers.models.risk_sets import RiskSets


def drawn(n, seed, p=10, effect=1.0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, p))
    event_time = rng.exponential(np.exp(-effect * (X[:, 0] + 0.5 * X[:, 1] * X[:, 2])))
    censoring = rng.exponential(2.0, n)
    y = np.empty(n, dtype=[("event", bool), ("time", float)])
    y["event"], y["time"] = event_time <= censoring, np.minimum(event_time, censoring)
    return X, y


def slope_of(y, log_hazard):
    from lifelines import CoxPHFitter

    frame = pd.DataFrame({"time": y["time"], "event": y["event"], "x": log_hazard})
    return CoxPHFitter().fit(frame, "time", "event").params_["x"]


def labels(X, seed=0):
    noise = np.random.default_rng(seed).logistic(size=len(X))
    return (X[:, 0] + noise > 0).astype(np.int8)


# The second is overfitted on purpose: only margins held out can tell.
OVERFITTED = {"n_trees": 200, "max_depth": 4, "learning_rate": 0.1, "reg_lambda": 1.0}


@pytest.mark.parametrize("parameters", [{}, OVERFITTED])
def test_curves_are_calibrated_on_new_patients(parameters):
    X, y = drawn(400, seed=0)
    X_test, y_test = drawn(4000, seed=1)
    model = BoostedCox(**parameters).fit(X, y)
    curves = model.predict_survival(X_test, [0.3, 1.0])
    log_hazard = np.log(-np.log(np.clip(curves[:, 1], 1e-9, 1 - 1e-9)))
    assert 0.8 < slope_of(y_test, log_hazard) < 1.2
    from lifelines import KaplanMeierFitter

    observed = KaplanMeierFitter().fit(y_test["time"], y_test["event"])
    for column, time in enumerate((0.3, 1.0)):
        assert curves[:, column].mean() == pytest.approx(observed.predict(time), abs=0.05)


def test_margins_of_the_training_patients_would_not_do():
    X, y = drawn(400, seed=0)
    model = BoostedCox(**OVERFITTED).fit(X, y)
    assert slope_of(y, model.predict(X)) > 1.2  # looks underfitted in-sample
    assert model.slope_ < 0.8


def test_the_risk_is_centred_and_curves_need_calibration():
    X, y = drawn(200, seed=2)
    model = BoostedCox(score_only=True).fit(X, y)
    assert model.predict(X).mean() == pytest.approx(0.0, abs=1e-6)
    assert not hasattr(model, "slope_")
    with pytest.raises(ValueError, match="fitted with score_only: no survival curves"):
        model.predict_survival(X, [1.0])


def test_only_the_order_of_times_matters():
    X, y = drawn(200, seed=3)
    later = y.copy()
    later["time"] = np.exp(5 * y["time"])
    expected = BoostedCox(score_only=True).fit(X, y).predict(X)
    np.testing.assert_array_equal(BoostedCox(score_only=True).fit(X, later).predict(X), expected)


def test_noise_gives_the_same_curve_to_everyone():
    X, y = drawn(200, seed=4, effect=0.0)
    model = BoostedCox(**OVERFITTED).fit(X, y)
    assert np.ptp(model.predict_survival(X, [0.5])) < 0.5 * np.ptp(
        np.exp(-np.exp(model.predict(X) - 1))
    )


def test_missing_values_are_a_split_of_their_own():
    X, y = drawn(300, seed=5)
    X[X[:, 0] > 0.5, 0] = np.nan  # missing where the risk is high
    risk = BoostedCox(score_only=True).fit(X, y).predict(X)
    assert risk[np.isnan(X[:, 0])].mean() > risk[~np.isnan(X[:, 0])].mean() + 0.5


def test_probabilities_are_xgboosts_own():
    import xgboost

    X, _ = drawn(300, seed=6)
    label = labels(X)
    model = BoostedClassifier().fit(X, label)
    engine = xgboost.Booster()
    engine.load_model(bytearray(model.booster_.tobytes()))
    theirs = engine.predict(xgboost.DMatrix(X.astype(np.float32)))
    np.testing.assert_allclose(model.predict(X), theirs, atol=1e-6)
    base, contributions = model.shap_values(X)
    assert abs(base) < 2
    assert contributions.shape == X.shape


def alone(model, X, y, n_rounds):
    """Fit XGBoost by its own function, with the settings of a model."""
    import xgboost

    settings = {
        "objective": "survival:cox",
        "base_score": 1.0,
        "tree_method": "hist",
        "max_bin": 64,
        "max_depth": model.max_depth,
        "eta": model.learning_rate,
        "min_child_weight": model.min_child_weight,
        "lambda": model.reg_lambda,
        "subsample": model.subsample,
        "colsample_bynode": model.colsample,
        "seed": model.random_state,
        "seed_per_iteration": True,
        "nthread": 1,
    }
    label = np.where(y["event"], 1, -1) * y["time"]
    return xgboost.train(settings, xgboost.QuantileDMatrix(X, label, max_bin=64), n_rounds)


def margins(engine, X, n_rounds=0):
    import xgboost

    table = xgboost.DMatrix(X)
    return engine.predict(table, output_margin=True, iteration_range=(0, n_rounds))


def test_the_rounds_have_the_highest_likelihood_of_the_patients_held_out():
    X, y = drawn(250, seed=7)
    site = np.random.default_rng(1).choice(12, len(X))
    splits = inner_folds(y, site, n_splits=3, seed=3)
    model = BoostedCox(learning_rate=0.04, random_state=3)
    risks, chosen = model.fit_folds(
        [(X[train], X[test], y[train], y[test], site[train]) for train, test in splits]
    )
    n_rounds = chosen["n_trees"]
    assert MIN_ROUNDS < n_rounds < MAX_ROUNDS - PATIENCE
    # Each fold alone, by xgboost.train; the likelihood by ours, which has goldens of its own.
    looked_at = np.arange(MIN_ROUNDS - PATIENCE, n_rounds + PATIENCE + 1, STEP)
    likelihood = np.zeros(len(looked_at))
    for (train, test), risk in zip(splits, risks, strict=True):
        engine = alone(model, X[train], y[train], int(looked_at[-1]))
        np.testing.assert_array_equal(risk, margins(engine, X[test], n_rounds))
        stages = np.stack([margins(engine, X[test], int(k)) for k in looked_at], axis=1)
        sets = RiskSets(y[test])
        likelihood += [sets.log_likelihood(eta) for eta in stages.T.astype(np.float64)]
    assert looked_at[likelihood.argmax()] == n_rounds


def test_the_booster_is_what_xgboost_alone_would_grow():
    X, y = drawn(200, seed=8)
    model = BoostedCox(n_trees=30, random_state=5).fit(X, y)
    expected = margins(alone(model, X, y, 30), X).astype(np.float64)
    np.testing.assert_array_equal(model.predict(X), expected - expected.mean())


@pytest.mark.parametrize("kind", [BoostedCox, BoostedClassifier])
def test_the_chosen_rounds_repeat_the_fit_to_the_last_bit(kind):
    X, y = drawn(250, seed=9)
    outcome = y if kind is BoostedCox else labels(X)
    site = np.random.default_rng(2).choice(12, len(X))
    chosen = kind(random_state=4).fit(X, outcome, groups=site)
    again = kind(random_state=4, **chosen.chosen_parameters_).fit(X, outcome, groups=site)
    assert list(chosen.chosen_parameters_) == ["n_trees"]
    for name, value in vars(chosen).items():
        if name != "n_trees":
            np.testing.assert_array_equal(getattr(again, name), value, err_msg=name)


def test_rounds_end_when_the_patients_held_out_say_so():
    X, y = drawn(400, seed=10, effect=0.0)
    noise = BoostedCox(score_only=True).fit(X, y)
    assert noise.chosen_parameters_["n_trees"] == MIN_ROUNDS
    X, y = drawn(400, seed=10)
    slow = BoostedCox(score_only=True, learning_rate=0.04).fit(X, y)
    assert MIN_ROUNDS < slow.chosen_parameters_["n_trees"] < MAX_ROUNDS
    endless = BoostedCox(score_only=True, learning_rate=0.001).fit(X, y)
    assert endless.chosen_parameters_["n_trees"] == MAX_ROUNDS


def test_a_site_is_never_on_both_sides_of_early_stopping(monkeypatch):
    X, y = drawn(200, seed=11)
    site = np.random.default_rng(3).choice(10, len(X))
    seen = []

    def recorded(*arguments, **options):
        seen.extend(inner_folds(*arguments, **options))
        return seen

    monkeypatch.setattr(boosters, "inner_folds", recorded)
    BoostedCox(score_only=True).fit(X, y, groups=site)
    assert len(seen) == 5
    for train, test in seen:
        assert not set(site[train]) & set(site[test])


def test_a_shared_matrix_gives_the_same_fit_and_is_binned_once():
    X, y = drawn(200, seed=12)
    shared = SharedMatrix(X)
    for depth in (1, 3):
        expected = BoostedCox(max_depth=depth, n_trees=20).fit(X, y)
        model = BoostedCox(max_depth=depth, n_trees=20).fit(shared, y)
        np.testing.assert_array_equal(model.booster_, expected.booster_)
    label = np.arange(1.0, 201.0)
    table = shared.quantiles(label)
    assert shared.quantiles(label.copy()) is table
    # XGBoost keeps the order of the first Cox label of a matrix, so another needs another.
    assert shared.quantiles(label[::-1]) is not table
