"""What every row of MODELS promises; a new model is tested by being there."""

import numpy as np
import pandas as pd
import pytest

from tabular_trainers.errors import DataError
from tabular_trainers.models import (
    MODELS,
    DataFacts,
    load_model,
    make_model,
    predict_risk,
    predict_survival,
    save_model,
)

ROWS = [(task, name) for task, rows in MODELS.items() for name in rows]
SURVIVAL = [(task, name) for task, name in ROWS if MODELS[task][name].curve is not None]
TIMES = np.array([0.0, 0.01, 0.2, 0.5, 1.0, 2.0, 1e6])
CATEGORICAL = ("clinical.group",)


def patients(n=160, seed=3):
    """Draw a table in which ``clinical.age`` raises the risk, with missing values and a site."""
    rng = np.random.default_rng(seed)
    X = pd.DataFrame(
        rng.normal(size=(n, 4)),
        columns=["clinical.age", "clinical.size", "blood.a", "blood.b"],
        index=[f"p{i}" for i in range(n)],
    )
    X["clinical.group"] = rng.choice(["x", "y", "z"], n)
    effect = X["clinical.age"].to_numpy().copy()
    X.loc[X.index[rng.random(n) < 0.15], "blood.a"] = np.nan
    event_time = rng.exponential(np.exp(-1.5 * effect))
    censoring = rng.exponential(2.0, n)
    y = np.empty(n, dtype=[("event", bool), ("time", float)])
    y["event"], y["time"] = event_time <= censoring, np.minimum(event_time, censoring)
    label = (rng.logistic(size=n) < 2.5 * effect).astype(np.int8)
    site = rng.choice([f"s{i}" for i in range(12)], n).astype(object)
    return X, {"survival": y, "classification": label}, site


def fit(task, name, **options):
    X, y, site = patients()
    model = make_model(name, task, CATEGORICAL, random_state=5, **options)
    return model.fit(X, y[task], model__groups=site), X, y[task]


@pytest.fixture(scope="module")
def fitted():
    return {(task, name): fit(task, name)[0] for task, name in ROWS}


@pytest.mark.parametrize(("task", "name"), ROWS)
def test_a_planted_effect_gives_the_right_sign(fitted, task, name):
    X, y, _ = patients(300, seed=8)
    risk = predict_risk(fitted[task, name], MODELS[task][name], X)
    assert risk.shape == (300,)
    assert risk.dtype == np.float64
    assert np.isfinite(risk).all()
    assert pd.Series(risk).corr(pd.Series(X["clinical.age"].to_numpy()), method="spearman") > 0.7
    if task == "classification":
        assert (risk >= 0).all()
        assert (risk <= 1).all()
        assert risk[y[task] == 1].mean() > risk[y[task] == 0].mean()


@pytest.mark.parametrize(("task", "name"), ROWS)
def test_base_and_contributions_add_up(fitted, task, name):
    spec = MODELS[task][name]
    X, _, _ = patients(60, seed=9)
    matrix = fitted[task, name][0].transform(X)
    base, contributions = spec.shap(fitted[task, name][-1], matrix, matrix[:20], 1)
    risk = predict_risk(fitted[task, name], spec, X)
    explained = spec.explained(fitted[task, name][-1], matrix) if spec.explained else risk
    assert isinstance(base, float)
    assert contributions.shape == matrix.shape
    np.testing.assert_allclose(
        base + contributions.sum(axis=1), explained, rtol=0, atol=1e-5 * np.ptp(explained)
    )
    assert np.abs(contributions).mean(axis=0).argmax() == 0  # clinical.age is the first column
    order = np.argsort(risk, kind="stable")  # the explained quantity is a monotone one of the risk
    assert (np.diff(explained[order]) >= -1e-9).all()
    assert (spec.shap_scale is None) == (spec.explained is None)


@pytest.mark.parametrize(("task", "name"), ROWS)
def test_coefficients_are_the_risk_that_is_explained(fitted, task, name):
    spec = MODELS[task][name]
    if spec.coefficients is None:
        assert spec.intercept is None
        return
    X, _, _ = patients(60, seed=9)
    estimator, matrix = fitted[task, name][-1], fitted[task, name][0].transform(X)
    explained = (spec.explained or spec.risk)(estimator, matrix)
    linear = matrix @ spec.coefficients(estimator)
    linear = linear + (spec.intercept(estimator) if spec.intercept else 0.0)
    np.testing.assert_allclose(linear, explained, rtol=0, atol=1e-9)


@pytest.mark.parametrize(("task", "name"), SURVIVAL)
def test_survival_curves_fall_from_one(fitted, task, name):
    spec = MODELS[task][name]
    X, _, _ = patients(80, seed=10)
    curves = predict_survival(fitted[task, name], spec, X, TIMES)
    assert curves.shape == (80, len(TIMES))
    assert np.isfinite(curves).all()
    assert (curves >= 0).all()
    assert (curves <= 1).all()
    assert (np.diff(curves, axis=1) <= 1e-12).all()
    np.testing.assert_array_equal(curves[:, 0], 1.0)
    risk = predict_risk(fitted[task, name], spec, X)
    assert np.corrcoef(risk, curves[:, 4])[0, 1] < -0.7


@pytest.mark.parametrize(("task", "name"), ROWS)
def test_same_seed_same_bytes(fitted, task, name, tmp_path):
    again, X, _ = fit(task, name)
    save_model(fitted[task, name], tmp_path / "a.skops", {"n": 1})
    save_model(again, tmp_path / "b.skops", {"n": 1})
    assert (tmp_path / "a.skops").read_bytes() == (tmp_path / "b.skops").read_bytes()


@pytest.mark.parametrize(("task", "name"), ROWS)
def test_neither_score_only_nor_threads_change_the_risk(fitted, task, name):
    spec = MODELS[task][name]
    X, _, _ = patients(80, seed=10)
    expected = predict_risk(fitted[task, name], spec, X)
    for options in ({"score_only": True}, {"n_jobs": 2}):
        other, _, _ = fit(task, name, **options)
        np.testing.assert_array_equal(predict_risk(other, spec, X), expected)


@pytest.mark.parametrize(("task", "name"), ROWS)
def test_fit_leaves_its_input_alone(task, name):
    X, y, site = patients()
    X_before, y_before, site_before = X.copy(), y[task].copy(), site.copy()
    model = make_model(name, task, CATEGORICAL).fit(X, y[task], model__groups=site)
    predict_risk(model, MODELS[task][name], X)
    pd.testing.assert_frame_equal(X, X_before)
    np.testing.assert_array_equal(y[task], y_before)
    np.testing.assert_array_equal(site, site_before)


@pytest.mark.parametrize(("task", "name"), ROWS)
def test_a_saved_model_predicts_the_same(fitted, task, name, tmp_path):
    spec, model = MODELS[task][name], fitted[task, name]
    X, _, _ = patients(80, seed=10)
    save_model(model, tmp_path / "model.skops", {"feature_set": "clinical"})
    loaded, metadata = load_model(tmp_path / "model.skops")
    assert metadata == {"feature_set": "clinical"}
    np.testing.assert_array_equal(predict_risk(loaded, spec, X), predict_risk(model, spec, X))
    if spec.curve is not None:
        np.testing.assert_array_equal(
            predict_survival(loaded, spec, X, TIMES), predict_survival(model, spec, X, TIMES)
        )


@pytest.mark.parametrize(("task", "name"), ROWS)
def test_facts_are_filled_in(task, name):
    spec = MODELS[task][name]
    assert spec.label
    assert spec.risk_scale
    assert spec.shap_kind in ("exact", "sampled")
    assert (spec.curve is None) == (task == "classification")


@pytest.mark.parametrize(("task", "name"), SURVIVAL)
def test_entry_times_are_used_or_refused(task, name):
    X, y, _ = patients()
    late = np.empty(len(X), dtype=[("event", bool), ("time", float), ("entry", float)])
    late["event"], late["time"], late["entry"] = y[task]["event"], y[task]["time"], 0.0
    model = make_model(name, task, CATEGORICAL)
    if MODELS[task][name].supports_entry:
        model.fit(X, late)
        return
    with pytest.raises(DataError, match="entry times .* are given, but this model ignores them"):
        model.fit(X, late)


@pytest.mark.parametrize(("task", "name"), ROWS)
def test_an_outcome_that_does_not_vary_is_an_error(task, name):
    X, y, _ = patients()
    outcome = y[task].copy()
    if task == "survival":
        outcome["event"] = False
    else:
        outcome[:] = 1
    with pytest.raises(DataError, match="of 160 patients|all 160 patients"):
        make_model(name, task, CATEGORICAL).fit(X, outcome)


def test_an_unknown_model_names_the_nearest():
    with pytest.raises(DataError) as caught:
        make_model("coxx", "survival")
    assert str(caught.value) == (
        "unknown survival model 'coxx'; known: cox, rsf, xgb, sksurv_rsf, sksurv_coxnet. "
        "Did you mean 'cox'?"
    )


class Bounds:
    """A trial that notes the bounds, and answers with defaults."""

    def __init__(self, defaults):
        self.defaults, self.asked = defaults, {}

    def suggest_int(self, name, low, high, log=False):
        assert low <= high
        self.asked[name] = low, high
        return self.defaults[name]

    suggest_float = suggest_int

    def suggest_categorical(self, name, choices):
        self.asked[name] = choices
        return self.defaults[name]


@pytest.mark.parametrize("n_events", [1, 5, 60, 5000])
@pytest.mark.parametrize(("task", "name"), ROWS)
def test_the_defaults_are_in_the_space_also_of_a_small_cohort(task, name, n_events):
    """They are the first trial, and the only one of a model that others are compared with."""
    spec = MODELS[task][name]
    defaults = spec.build().get_params()
    trial = Bounds(defaults | {"components": 32})
    facts = DataFacts(n=4 * n_events, p=300, n_events=n_events, reduced=True)
    found = spec.space(trial, facts)
    assert list(found) == list(trial.asked)
    if "components" in found:  # bounded by the events alone, as the default is not
        low, high = trial.asked.pop("components")
        assert 1 <= low <= high <= 64
        assert high <= max(n_events / 5, 2)
        assert "components" not in spec.space(Bounds(defaults), DataFacts(20, 3, n_events))
    for key, bounds in trial.asked.items():
        assert found[key] == defaults[key]
        inside = found[key] in bounds or bounds[0] <= found[key] <= bounds[-1]
        assert inside, (key, bounds)
