"""Scikit-survival's models as rows of ours: the same numbers, kept as arrays."""

import numpy as np
import pytest

from tabular_trainers.errors import DataError
from tabular_trainers.models.reference_cox import SKSURV_COXNET, ReferenceCoxnet
from tabular_trainers.models.reference_forest import SKSURV_RSF, ReferenceForest

ROWS = {"sksurv_rsf": SKSURV_RSF, "sksurv_coxnet": SKSURV_COXNET}
TIMES = np.array([0.0, 0.05, 0.3, 1.0, 50.0])


def drawn(n=150, seed=0, p=6):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, p)).round(1)  # ties between patients, as thresholds meet them
    event_time = rng.exponential(np.exp(-X[:, 0]))
    censoring = rng.exponential(2.0, n)
    y = np.empty(n, dtype=[("event", bool), ("time", float)])
    y["event"], y["time"] = event_time <= censoring, np.minimum(event_time, censoring)
    return X, y


def surv(y):
    from sksurv.util import Surv

    return Surv.from_arrays(y["event"], y["time"])


def test_the_forest_predicts_as_scikit_survival():
    from sksurv.ensemble import RandomSurvivalForest

    X, y = drawn()
    X_new, _ = drawn(400, seed=1)
    model = ReferenceForest(n_trees=20, random_state=3).fit(X, y)
    theirs = RandomSurvivalForest(
        n_estimators=20, min_samples_leaf=15, max_features=0.3, random_state=3
    ).fit(X, surv(y))
    np.testing.assert_allclose(model.predict(X_new), theirs.predict(X_new), rtol=1e-10)
    curves = model.predict_survival(X_new, TIMES)
    for mine, step in zip(curves, theirs.predict_survival_function(X_new), strict=True):
        inside = (step.x[0] <= TIMES) & (step.x[-1] >= TIMES)
        np.testing.assert_allclose(mine[inside], step(TIMES[inside]), atol=1e-12)


def test_a_threshold_between_neighbouring_floats_parts_them():
    from sksurv.ensemble import RandomSurvivalForest

    X, y = drawn(80, p=1)
    low = np.nextafter(np.float32(4.0), np.float32(5.0))
    high = np.nextafter(low, np.float32(5.0))
    y["time"] = np.where(X[:, 0] > 0, 1.0, 2.0) + 0.1 * y["time"]
    X = np.where(X > 0, high, low)  # their midpoint rounds up, to high
    settings = {"n_estimators": 5, "max_features": 1.0, "min_samples_leaf": 5, "random_state": 0}
    theirs = RandomSurvivalForest(**settings).fit(X, surv(y))
    mine = ReferenceForest(n_trees=5, max_features=1.0, min_samples_leaf=5).fit(X, y)
    np.testing.assert_allclose(mine.predict(X), theirs.predict(X), rtol=1e-10)
    assert np.ptp(mine.predict(X)) > 0


def test_coxnet_is_scikit_survivals_at_the_same_penalty():
    from sksurv.linear_model import CoxnetSurvivalAnalysis

    X, y = drawn()
    model = ReferenceCoxnet(penalty=0.02).fit(X, y)
    theirs = CoxnetSurvivalAnalysis(
        l1_ratio=0.5, alphas=[0.02], tol=1e-9, fit_baseline_model=True
    ).fit(X, surv(y))
    # Ours comes along the path, theirs at once; the engine stops within about 1e-5 of either.
    np.testing.assert_allclose(model.coef_, theirs.coef_[:, 0], atol=1e-5)
    expected = [step(TIMES[1:4]) for step in theirs.predict_survival_function(X)]
    np.testing.assert_allclose(model.predict_survival(X, TIMES[1:4]), expected, atol=1e-5)


def test_the_grid_starts_where_scikit_survivals_does():
    from sksurv.linear_model import CoxnetSurvivalAnalysis

    X, y = drawn()
    largest = CoxnetSurvivalAnalysis(l1_ratio=0.5, n_alphas=2).fit(X, surv(y)).alphas_[0]
    assert ReferenceCoxnet()._grid(X - X.mean(axis=0), y)[0] == pytest.approx(largest, rel=1e-9)


def test_the_chosen_penalty_repeats_the_fit_to_the_last_bit():
    X, y = drawn()
    site = np.random.default_rng(0).choice(10, len(X))
    model = ReferenceCoxnet(random_state=2).fit(X, y, groups=site)
    again = ReferenceCoxnet(random_state=2, **model.chosen_parameters_).fit(X, y, groups=site)
    np.testing.assert_array_equal(again.coef_, model.coef_)
    assert 0.6 < model.inner_value_ < 0.9


def test_a_path_that_breaks_the_engine_is_cut(monkeypatch):
    import sksurv.linear_model

    engine = sksurv.linear_model.CoxnetSurvivalAnalysis
    lengths = []

    class Fragile(engine):
        def fit(self, X, y):
            lengths.append(len(self.alphas))
            if len(self.alphas) > 20:
                raise ArithmeticError("Numerical error, because weights are too large.")
            return super().fit(X, y)

    X, y = drawn()
    whole = ReferenceCoxnet().fit(X, y)
    monkeypatch.setattr(sksurv.linear_model, "CoxnetSurvivalAnalysis", Fragile)
    model = ReferenceCoxnet(penalty=whole.penalty_ / 100).fit(X, y)
    assert lengths[0] > 20 >= lengths[-1]
    assert model.penalty_ > whole.penalty_ / 100
    assert np.isfinite(model.coef_).all()


@pytest.mark.parametrize("name", ROWS)
def test_a_row_keeps_the_contract(name, tmp_path):
    """The short form; the rows are tested in full once they stand in MODELS."""
    spec = ROWS[name]
    X, y = drawn()
    model = spec.build(random_state=1).fit(X, y)
    assert "scikit-survival" in spec.label
    base, contributions = spec.shap(model, X, X[:10], 0)
    risk = spec.risk(model, X)
    np.testing.assert_allclose(base + contributions.sum(axis=1), risk, atol=1e-8 * np.ptp(risk))
    curves = spec.curve(model, X, TIMES)
    np.testing.assert_array_equal(curves[:, 0], 1.0)
    assert (np.diff(curves, axis=1) <= 1e-12).all()
    held = [value for value in vars(model).values() if not isinstance(value, str | dict)]
    assert all(value is None or isinstance(value, int | float | np.ndarray) for value in held)
    late = np.empty(len(y), dtype=[*y.dtype.descr, ("entry", float)])
    late["event"], late["time"], late["entry"] = y["event"], y["time"], 0.0
    with pytest.raises(DataError, match=f"{spec.label}: entry times"):
        spec.build().fit(X, late)
    y["event"] = False
    with pytest.raises(DataError, match=f"{spec.label}: none of 150 patients"):
        spec.build().fit(X, y)
