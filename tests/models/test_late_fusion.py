"""Late fusion: by hand, against R, without a leak, and for every row of MODELS."""

import functools
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize

from tabular_trainers.errors import DataError
from tabular_trainers.explanation import contributions_of
from tabular_trainers.folds import inner_folds
from tabular_trainers.models import (
    MODELS,
    find_model,
    late_fusion,
    load_model,
    make_model,
    predict_risk,
    predict_survival,
    save_model,
)

GOLDEN = json.loads(
    (Path(__file__).parents[1] / "golden" / "late_fusion.json").read_text(encoding="utf-8")
)
ROWS = [(task, name) for task, rows in MODELS.items() for name in rows]
SURVIVAL = [(task, name) for task, name in ROWS if MODELS[task][name].curve is not None]
CATEGORICAL = ("clinical.group",)
REDUCE = {"slides": {"pca": 3}}
TIMES = np.array([0.0, 0.1, 0.5, 1.0, 3.0])


def patients(n=150, seed=3, lacking=0.2):
    """Draw three blocks; a fifth lacks ``blood``, which ``missing_blocks.blood`` says."""
    rng = np.random.default_rng(seed)
    wide = [f"slides.v{i}" for i in range(12)]
    columns = ["clinical.age", "clinical.size", "blood.a", "blood.b", *wide]
    index = [f"p{i}" for i in range(n)]
    X = pd.DataFrame(rng.normal(size=(n, len(columns))), columns=columns, index=index)
    X["slides.v0"] *= 4  # so that the first component carries it
    X.insert(2, "clinical.group", rng.choice(["x", "y", "z"], n))
    effect = (X["clinical.age"] + X["blood.a"] + X["slides.v0"] / 8).to_numpy().copy()
    lacks = rng.random(n) < lacking
    X.loc[rng.random(n) < 0.1, "clinical.size"] = np.nan
    X.loc[lacks, ["blood.a", "blood.b"]] = np.nan
    if lacking:
        X["missing_blocks.blood"] = lacks.astype(float)
    event_time, censoring = rng.exponential(np.exp(-effect)), rng.exponential(3.0, n)
    y = np.empty(n, dtype=[("event", bool), ("time", float)])
    y["event"], y["time"] = event_time <= censoring, np.minimum(event_time, censoring)
    label = (rng.logistic(size=n) < 2 * effect).astype(np.int8)
    site = rng.choice([f"s{i}" for i in range(12)], n).astype(object)
    return X, {"survival": y, "classification": label}, site


@functools.cache
def parameters_of(task, name):
    """Let a model choose what it chooses for itself once, so that inner fits need not."""
    X, y, site = patients()
    chosen = make_model(name, task, CATEGORICAL, REDUCE).fit(X, y[task], model__groups=site)[-1]
    chosen = getattr(chosen, "chosen_parameters_", {})
    return {block: dict(chosen) for block in ("clinical", "blood", "slides")}


def build(task, name, **options):
    options = {"parameters": parameters_of(task, name), "late": True, **options}
    return make_model(name, task, CATEGORICAL, REDUCE, random_state=5, **options)


def fit(task, name):
    X, y, site = patients()
    return build(task, name).fit(X, y[task], model__groups=site), X


@pytest.fixture(scope="module")
def fitted():
    return {(task, name): fit(task, name)[0] for task, name in ROWS}


def golden_design():
    p = {name: np.array(values, dtype=float) for name, values in GOLDEN["patients"].items()}
    return p, np.column_stack([p["a"], p["b"], p["lacks"]])


@pytest.mark.parametrize(("answer", "fields"), [("cox", ()), ("cox_entry", ("entry",))])
def test_the_weights_are_those_of_r_coxph_with_ridge_and_strata(answer, fields):
    p, design = golden_design()
    y = np.empty(len(design), dtype=[("event", bool), *((f, float) for f in ("time", *fields))])
    for field in y.dtype.names:
        y[field] = p[field]
    weights = late_fusion._cox_weights(design, y, p["fold"])
    np.testing.assert_allclose(weights, GOLDEN[answer], rtol=0, atol=1e-8)


def test_the_weights_are_those_of_glmnet_and_the_intercept_that_of_glm():
    p, design = golden_design()
    weights = late_fusion._logistic_weights(design, p["label"], p["fold"])
    np.testing.assert_allclose(weights, GOLDEN["logistic"], rtol=0, atol=1e-9)
    learned = late_fusion._classification_baseline(p["label"], design @ weights)
    assert learned["intercept_"] == pytest.approx(GOLDEN["intercept"], abs=1e-9)


def test_survival_by_hand():
    """The same steps with lifelines' Cox in each block and a loop over risk sets on top."""
    from lifelines import CoxPHFitter

    X, y, site = patients(90, lacking=0)
    X, y = X[["clinical.age", "blood.a", "blood.b"]], y["survival"]
    blocks = [["clinical.age"], ["blood.a", "blood.b"]]

    def standardised(own, train, test):
        part = X.iloc[train][own].assign(time=y["time"][train], event=y["event"][train])
        coef = CoxPHFitter().fit(part, "time", "event").params_[own]
        known = X.iloc[train][own] @ coef
        return (X.iloc[test][own] @ coef - known.mean()) / known.std(ddof=0)

    risks, fold = np.zeros((90, 2)), np.zeros(90)
    for number, (train, test) in enumerate(inner_folds(y, site, n_splits=5, seed=0)):
        fold[test] = number
        for j, own in enumerate(blocks):
            risks[test, j] = standardised(own, train, test)

    def loss(weights):
        margin, total = risks @ weights, 0.5 * weights @ weights
        for i in np.flatnonzero(y["event"]):
            at_risk = (y["time"] >= y["time"][i]) & (fold == fold[i])
            total -= margin[i] - np.log(np.exp(margin[at_risk]).sum())
        return total

    weights = minimize(loss, np.zeros(2), options={"gtol": 1e-8}).x
    everybody = np.arange(90)
    final = np.column_stack([standardised(own, everybody, everybody) for own in blocks])
    held_out = np.exp(risks @ weights)
    hazard = sum(
        1 / held_out[y["time"] >= y["time"][i]].sum()
        for i in np.flatnonzero(y["event"] & (y["time"] <= 1.0))
    )

    parameters = {"clinical": {"penalty": 0.0}, "blood": {"penalty": 0.0}}
    model = make_model("cox", "survival", parameters=parameters, late=True)
    model.fit(X, y, model__groups=site)
    assert (weights > 0).all()
    np.testing.assert_allclose(model[-1].coef_, weights, atol=1e-5)
    row = find_model("cox", "survival", late=True)
    np.testing.assert_allclose(predict_risk(model, row, X), final @ weights, atol=1e-5)
    curve = predict_survival(model, row, X, np.array([1.0]))[:, 0]
    np.testing.assert_allclose(curve, np.exp(-hazard * np.exp(final @ weights)), atol=1e-5)


def test_classification_by_hand():
    """The same steps with scikit-learn in each block and a plain optimiser on top."""
    from sklearn.linear_model import LogisticRegression

    X, y, site = patients(120, lacking=0)
    X, y = X[["clinical.age", "blood.a", "blood.b"]], y["classification"]
    blocks = [["clinical.age"], ["blood.a", "blood.b"]]

    def standardised(own, train, test):
        Z = (X[own] - X.iloc[train][own].mean()) / X.iloc[train][own].std(ddof=0)
        engine = LogisticRegression(C=0.1, tol=1e-10).fit(Z.iloc[train], y[train])
        known = engine.decision_function(Z.iloc[train])
        return (engine.decision_function(Z.iloc[test]) - known.mean()) / known.std()

    risks, fold = np.zeros((120, 2)), np.zeros(120, dtype=int)
    for number, (train, test) in enumerate(inner_folds(y, site, n_splits=5, seed=0)):
        fold[test] = number
        for j, own in enumerate(blocks):
            risks[test, j] = standardised(own, train, test)

    def loss(b):
        eta = risks @ b[:2] + b[2:][fold]
        return 0.5 * b[:2] @ b[:2] - (y * eta - np.log1p(np.exp(eta))).sum()

    weights = minimize(loss, np.zeros(7), options={"gtol": 1e-8}).x[:2]

    def surplus(a):
        return ((1 / (1 + np.exp(-a[0] - risks @ weights))).sum() - y.sum()) ** 2

    intercept = minimize(surplus, [0.0], options={"gtol": 1e-10}).x[0]
    everybody = np.arange(120)
    final = np.column_stack([standardised(own, everybody, everybody) for own in blocks])

    parameters = {"clinical": {"C": 0.1}, "blood": {"C": 0.1}}
    model = make_model("logistic", "classification", parameters=parameters, late=True)
    model.fit(X, y, model__groups=site)
    assert (weights > 0).all()
    np.testing.assert_allclose(model[-1].coef_, weights, atol=1e-4)
    probability = predict_risk(model, find_model("logistic", "classification", late=True), X)
    expected = 1 / (1 + np.exp(-intercept - final @ weights))
    np.testing.assert_allclose(probability, expected, atol=1e-4)


def test_a_block_of_negative_weight_is_left_out():
    """Column 1 says the opposite of what it should; without it column 0 weighs as if alone."""
    p, design = golden_design()
    y = np.empty(len(design), dtype=[("event", bool), ("time", float)])
    y["event"], y["time"] = p["event"], p["time"]
    turned = design * [1, -1, 1]
    found = late_fusion._weights(turned, y, p["fold"], 2, late_fusion._cox_weights)
    assert found[1] == 0.0
    alone = late_fusion._cox_weights(turned[:, [0, 2]], y, p["fold"])
    np.testing.assert_array_equal(found[[0, 2]], alone)
    free = late_fusion._weights(-design, y, p["fold"], 2, late_fusion._cox_weights)
    assert free[:2].tolist() == [0.0, 0.0]
    assert free[2] < 0  # an indicator may have either sign


def test_no_site_is_in_two_parts_of_an_inner_fold(monkeypatch):
    seen = []

    def watched(y, site, **options):
        splits = inner_folds(y, site, **options)
        seen.append(splits)
        return splits

    monkeypatch.setattr(late_fusion, "inner_folds", watched)
    _, _, site = patients()
    fit("survival", "rsf")
    assert [len(splits) for splits in seen] == [5]
    for train, test in seen[0]:
        assert not set(site[train]) & set(site[test])
    assert sorted(np.concatenate([test for _, test in seen[0]])) == list(range(150))


def test_a_lacking_block_adds_nothing_but_its_indicator(fitted):
    fused = fitted["survival", "cox"][-1]
    X, _, _ = patients()
    lacks = X["missing_blocks.blood"].to_numpy() == 1
    assert fused.indicators_ == ["missing_blocks.blood"]
    _, terms = fused.shap_values(X)
    position = list(fused.columns_).index("blood")
    assert (terms[lacks, position] == 0).all()
    assert (terms[~lacks, position] != 0).all()
    assert fused.coef_[-1] != 0
    np.testing.assert_array_equal(terms[:, -1], fused.coef_[-1] * lacks)


def test_a_block_is_modelled_by_the_patients_who_have_it(fitted):
    """What is learned of their columns is what those patients alone would teach."""
    X, y, site = patients()
    has = X["missing_blocks.blood"].to_numpy() == 0
    own = ["blood.a", "blood.b"]
    parameters = parameters_of("survival", "cox")["blood"]
    alone = make_model("cox", "survival", parameters=parameters, random_state=5)
    alone.fit(X.loc[has, own], y["survival"][has], model__groups=site[has])
    fused = fitted["survival", "cox"][-1]
    np.testing.assert_array_equal(fused.pipelines_["blood"][-1].coef_, alone[-1].coef_)


@pytest.mark.parametrize("missing", [False, True])
def test_a_new_patient_without_a_block_can_be_scored(missing):
    """Nobody in training lacked it, so there is no indicator; the block gives the mean risk."""
    X, y, site = patients(lacking=0)
    model = build("survival", "rsf")
    model.fit(X, y["survival"], model__groups=site)
    new = X.iloc[:5].copy()
    if missing:
        new[["blood.a", "blood.b"]] = np.nan
    _, terms = model[-1].shap_values(new)
    assert (terms[:, 1] == 0).all() == missing
    assert np.isfinite(predict_risk(model, find_model("rsf", "survival", late=True), new)).all()


@pytest.mark.parametrize(("task", "name"), ROWS)
def test_contributions_of_columns_add_up(fitted, task, name):
    """Also of patients who lack a block: the base of its contributions is not the mean risk."""
    row, model = find_model(name, task, late=True), fitted[task, name]
    X, _, _ = patients(30, seed=9)
    assert X["missing_blocks.blood"].sum() >= 3
    base, terms, values = contributions_of(model, row, X, X.iloc[:15])
    explained = (row.explained or row.risk)(model[-1], X)
    tolerance = 1e-5 * np.ptp(explained)
    np.testing.assert_allclose(base + terms.sum(axis=1), explained, rtol=0, atol=tolerance)
    assert list(values.columns) == list(terms.columns)
    assert terms.columns.is_unique
    lacks = X["missing_blocks.blood"].to_numpy() == 1
    of_blood = terms[[c for c in terms if c.startswith("blood.")]].to_numpy()
    assert (of_blood[lacks] == 0).all()
    assert (of_blood[~lacks] != 0).any()
    of_blocks = row.shap(model[-1], X, X, 0)
    np.testing.assert_allclose(of_blocks[0] + of_blocks[1].sum(axis=1), explained, atol=tolerance)
    assert (terms.abs().mean().nlargest(2).index.isin(["clinical.age", "blood.a"])).any()


@pytest.mark.parametrize(("task", "name"), ROWS)
def test_a_saved_model_predicts_the_same(fitted, task, name, tmp_path):
    row, model = find_model(name, task, late=True), fitted[task, name]
    X, _, _ = patients(40, seed=10)
    save_model(model, tmp_path / "model.skops")
    loaded, _ = load_model(tmp_path / "model.skops")
    risk = predict_risk(model, row, X)
    assert np.isfinite(risk).all()
    np.testing.assert_array_equal(predict_risk(loaded, row, X), risk)
    assert (row.curve is None) == (task == "classification")
    if row.curve is not None:
        curves = predict_survival(model, row, X, TIMES)
        np.testing.assert_array_equal(predict_survival(loaded, row, X, TIMES), curves)
        np.testing.assert_array_equal(curves[:, 0], 1.0)
        assert (np.diff(curves, axis=1) <= 0).all()


@pytest.mark.parametrize(("task", "name"), ROWS)
def test_the_chosen_parameters_repeat_the_fit_bit_for_bit(fitted, task, name):
    first = fitted[task, name]
    assert first[-1].chosen_parameters_ == parameters_of(task, name)
    X, y, site = patients()
    again = build(task, name, parameters=json.loads(json.dumps(first[-1].chosen_parameters_)))
    again.fit(X, y[task], model__groups=site)
    row = find_model(name, task, late=True)
    np.testing.assert_array_equal(predict_risk(again, row, X), predict_risk(first, row, X))


@pytest.mark.parametrize(("task", "name"), SURVIVAL)
def test_entry_times_are_used_or_refused(task, name):
    X, y, site = patients()
    late = np.empty(len(X), dtype=[("event", bool), ("time", float), ("entry", float)])
    late["event"], late["time"] = y[task]["event"], y[task]["time"]
    late["entry"] = np.random.default_rng(0).uniform(0, 0.9, len(X)) * late["time"]
    model = build(task, name)
    if not find_model(name, task, late=True).supports_entry:
        with pytest.raises(DataError, match="entry times .* are given, but this model ignores"):
            model.fit(X, late, model__groups=site)
        return
    risks = [
        predict_risk(
            model.fit(X, outcome, model__groups=site), find_model(name, task, late=True), X
        )
        for outcome in (y[task], late)
    ]
    assert np.isfinite(risks).all()
    assert not np.allclose(*risks)


def test_one_block_is_not_fused():
    X, y, _ = patients()
    with pytest.raises(DataError) as caught:
        make_model("cox", "survival", late=True).fit(X[["blood.a", "blood.b"]], y["survival"])
    assert str(caught.value) == "late fusion: expected two blocks or more, got blood."
