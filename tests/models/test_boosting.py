"""XGBoost: survival curves calibrated out of fold, missing values, scales."""

import numpy as np
import pandas as pd
import pytest

from tabular_trainers.models.boosting import BoostedClassifier, BoostedCox


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
    label = (X[:, 0] + np.random.default_rng(0).logistic(size=300) > 0).astype(np.int8)
    model = BoostedClassifier().fit(X, label)
    engine = xgboost.Booster()
    engine.load_model(bytearray(model.booster_.tobytes()))
    theirs = engine.predict(xgboost.DMatrix(X.astype(np.float32)))
    np.testing.assert_allclose(model.predict(X), theirs, atol=1e-6)
    base, contributions = model.shap_values(X)
    assert abs(base) < 2
    assert contributions.shape == X.shape
