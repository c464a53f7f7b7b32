"""XGBoost: survival curves calibrated out of fold, missing values, scales."""

import numpy as np
import pandas as pd
import pytest

from tabular_trainers.errors import DataError
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


def with_entry(y, entry):
    late = np.empty(len(y), dtype=[*y.dtype.descr, ("entry", float)])
    late["event"], late["time"], late["entry"] = y["event"], y["time"], entry
    return late


def log_likelihood_by_hand(y, strata, eta):
    total = 0.0
    for i in np.flatnonzero(y["event"]):
        t = y["time"][i]
        at_risk = (y["entry"] < t) & (t <= y["time"]) & (strata == strata[i])
        total += eta[i] - np.log(np.exp(eta[at_risk]).sum())
    return total


def test_a_leaf_is_a_newton_step_of_the_likelihood_with_entry_and_strata():
    _, y = drawn(40, seed=13)
    rng = np.random.default_rng(13)
    y["time"] = np.ceil(4 * y["time"])  # ties
    y = with_entry(y, y["time"] * rng.choice([0.0, 0.5, 0.9], 40))
    strata, column = rng.choice(["a", "b"], 40), rng.integers(0, 2, 40)
    plain = {"n_trees": 1, "max_depth": 1, "subsample": 1.0, "colsample": 1.0, "score_only": True}
    model = BoostedCox(learning_rate=1.0, min_child_weight=0.0, reg_lambda=3.0, **plain)
    margin = model.fit(column[:, None], y, strata=strata)._margin(column[:, None])
    step = 1e-3
    moved = [
        [log_likelihood_by_hand(y, strata, eta) for eta in (-step * unit, 0 * unit, step * unit)]
        for unit in np.eye(40)
    ]
    before, at, after = np.array(moved).T
    gradient, curvature = (after - before) / (2 * step), (2 * at - before - after) / step**2
    for side in (0, 1):
        rows = column == side
        expected = gradient[rows].sum() / (curvature[rows].sum() + 3.0)
        np.testing.assert_allclose(margin[rows], expected, rtol=1e-4)


def test_entry_of_everyone_at_time_zero_changes_nothing_but_the_last_digits():
    X, y = drawn(250, seed=14)
    new, _ = drawn(50, seed=15)
    expected = BoostedCox(learning_rate=0.04).fit(X, y)
    model = BoostedCox(learning_rate=0.04).fit(X, with_entry(y, 0.0))
    assert MIN_ROUNDS < model.chosen_parameters_["n_trees"] < MAX_ROUNDS
    assert model.chosen_parameters_ == expected.chosen_parameters_
    np.testing.assert_allclose(model.predict(new), expected.predict(new), atol=1e-4)
    times = [0.2, 0.5, 1.0]
    np.testing.assert_allclose(
        model.predict_survival(new, times), expected.predict_survival(new, times), atol=1e-4
    )


def test_the_rounds_have_the_highest_likelihood_of_the_patients_held_out_also_with_entry():
    X, y = drawn(250, seed=7)
    y = with_entry(y, y["time"] * np.random.default_rng(7).choice([0.0, 0.3, 0.6], len(y)))
    folds = [
        (X[train], X[test], y[train], y[test], None)
        for train, test in inner_folds(y, None, n_splits=3, seed=3)
    ]
    _, chosen = BoostedCox(learning_rate=0.04).fit_folds(folds)
    looked_at = np.arange(MIN_ROUNDS - PATIENCE, chosen["n_trees"] + PATIENCE + 1, STEP)
    likelihood = []
    for n_trees in looked_at:
        risks, _ = BoostedCox(learning_rate=0.04, n_trees=int(n_trees)).fit_folds(folds)
        likelihood.append(
            sum(
                log_likelihood_by_hand(fold[3], np.zeros(len(fold[3])), risk)
                for fold, risk in zip(folds, risks, strict=True)
            )
        )
    assert MIN_ROUNDS < chosen["n_trees"] < MAX_ROUNDS - PATIENCE
    assert looked_at[np.argmax(likelihood)] == chosen["n_trees"]


def test_late_entry_is_not_mistaken_for_long_life():
    """The second column brings patients in late and does nothing else."""
    rng = np.random.default_rng(16)
    X = rng.normal(size=(3000, 3))
    time = rng.exponential(np.exp(-X[:, 0]))
    entry = np.where(X[:, 1] > 0, rng.uniform(0.2, 1.2, 3000), 0.0)
    seen = entry < time
    y = np.empty(3000, dtype=[("event", bool), ("time", float)])
    y["event"], y["time"] = time < 3.0, np.minimum(time, 3.0)
    seen &= entry < y["time"]
    late = with_entry(y, entry)[seen]
    new = rng.normal(size=(1000, 3))
    ours, naive = BoostedCox().fit(X[seen], late), BoostedCox().fit(X[seen], y[seen])

    def by_second_column(model):
        return np.polyfit(new[:, 1], model.predict(new) - np.clip(new[:, 0], -2, 2), 1)[0]

    assert abs(by_second_column(ours)) < 0.05
    assert by_second_column(naive) < -0.15
    truth = np.exp(-np.exp(new[:, 0]) * 0.5).mean()
    assert ours.predict_survival(new, [0.5]).mean() == pytest.approx(truth, abs=0.03)
    assert naive.predict_survival(new, [0.5]).mean() > truth + 0.1


def test_only_the_order_within_a_stratum_matters():
    X, y = drawn(200, seed=17)
    strata = np.random.default_rng(17).choice(["a", "b"], 200)
    later = y.copy()
    later["time"][strata == "b"] += 100.0
    options = {"n_trees": 40, "score_only": True}
    expected = BoostedCox(**options).fit(X, y, strata=strata).predict(X)
    risk = BoostedCox(**options).fit(X, later, strata=strata).predict(X)
    np.testing.assert_array_equal(risk, expected)
    assert np.ptp(BoostedCox(**options).fit(X, later).predict(X) - risk) > 0.5


def test_each_stratum_has_a_baseline_of_its_own():
    X, y = drawn(300, seed=18)
    strata = np.random.default_rng(18).choice(["a", "b"], 300)
    y["time"][strata == "b"] += 5.0
    model = BoostedCox().fit(X, y, strata=strata)
    curves = {name: model.predict_survival(X, [1.0, 5.0], np.full(300, name)) for name in "ab"}
    assert (curves["b"] == 1.0).all()
    assert (curves["a"][:, 1] < 0.5).mean() > 0.5
    with pytest.raises(DataError, match="the fit had strata; give those of these patients"):
        model.predict_survival(X, [1.0])
