"""Tuning: repeatable, inside the training part, and the chosen fit is the one that is returned."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest

from tabular_trainers import tuning
from tabular_trainers.models import MODELS, DataFacts, make_model, predict_risk
from tabular_trainers.trial_list import Asked, list_trials
from tabular_trainers.tuning import tune

ROWS = [(task, name) for task, rows in MODELS.items() for name in rows]


def drawn(n=150, seed=0):
    rng = np.random.default_rng(seed)
    X = pd.DataFrame(rng.normal(size=(n, 5)), columns=[f"clinical.x{j}" for j in range(5)])
    effect = X["clinical.x0"].to_numpy()
    event_time, censoring = rng.exponential(np.exp(-effect)), rng.exponential(2.0, n)
    y = np.empty(n, dtype=[("event", bool), ("time", float)])
    y["event"], y["time"] = event_time <= censoring, np.minimum(event_time, censoring)
    label = (rng.logistic(size=n) < 2 * effect).astype(np.int8)
    site = rng.choice([f"s{i}" for i in range(9)], n).astype(object)
    return X, {"survival": y, "classification": label}, site


@pytest.mark.parametrize(("task", "name"), ROWS)
def test_the_trials_name_a_fit_that_can_be_repeated(task, name):
    X, y, site = drawn()
    tuned = tune(name, task, X, y[task], site, n_trials=3, seed=4)
    trials = tuned.trials
    assert list(trials.columns) == ["trial", "parameters", "value", "chosen"]
    assert trials["chosen"].sum() == 1
    assert list(trials["trial"]) == list(range(len(trials)))
    chosen = trials[trials["chosen"]].iloc[0]
    assert chosen["value"] == tuned.value == trials["value"].max()
    assert 0.55 < tuned.value < 0.95
    again = make_model(name, task, parameters=json.loads(chosen["parameters"]), random_state=4).fit(
        X, y[task], model__groups=site
    )
    spec = MODELS[task][name]
    expected = predict_risk(tuned.pipeline, spec, X)
    np.testing.assert_array_equal(predict_risk(again, spec, X), expected)


@pytest.mark.parametrize("name", ["cox", "rsf", "xgb"])
def test_same_seed_same_trials(name):
    X, y, site = drawn()
    first, again, other = (
        tune(name, "survival", X, y["survival"], site, n_trials=6, seed=seed).trials
        for seed in (1, 1, 2)
    )
    pd.testing.assert_frame_equal(first, again)
    assert not first.equals(other)
    defaults = MODELS["survival"][name].build().get_params()
    tried = json.loads(first["parameters"][0])
    chosen = {key for key, value in defaults.items() if value is None}  # by the model itself
    assert tried == {key: tried[key] if key in chosen else defaults[key] for key in tried}
    assert first["parameters"].nunique() > 3


def test_a_model_that_tunes_itself_gives_one_trial():
    X, y, _ = drawn()
    tuned = tune("sksurv_coxnet", "survival", X, y["survival"], n_trials=6)
    assert len(tuned.trials) == 1
    assert tuned.parameters == tuned.pipeline[-1].chosen_parameters_
    assert tuned.value == tuned.pipeline[-1].inner_value_


def test_the_value_is_the_mean_over_inner_folds():
    X, y, site = drawn()
    tuned = tune("rsf", "survival", X, y["survival"], site, n_trials=1, seed=7)
    spec, values = MODELS["survival"]["rsf"], []
    splits = tuning.inner_folds(y["survival"], site, n_splits=3, seed=7)
    for train, test in splits:
        assert not set(site[train]) & set(site[test])
        model = make_model("rsf", "survival", parameters=tuned.parameters, random_state=7)
        model.fit(X.iloc[train], y["survival"][train])
        risk = predict_risk(model, spec, X.iloc[test])
        values.append(tuning.harrell_c(y["survival"][test], risk))
    assert tuned.value == pytest.approx(np.mean(values), rel=1e-12)


def test_seconds_end_the_search():
    X, y, _ = drawn()
    tuned = tune("rsf", "survival", X, y["survival"], n_trials=50, seconds=0.0)
    assert len(tuned.trials) == 1


def test_the_rounds_of_a_booster_are_no_trial_but_are_recorded():
    X, y, site = drawn()
    tuned = tune("xgb", "survival", X, y["survival"], site, n_trials=4, seed=3)
    spec = MODELS["survival"]["xgb"]
    assert "n_trees" not in spec.space(Asked(), DataFacts(n=150, p=5, n_events=90))
    rounds = [json.loads(parameters)["n_trees"] for parameters in tuned.trials["parameters"]]
    assert len(set(rounds)) > 1
    assert tuned.pipeline[-1].n_trees == tuned.parameters["n_trees"]
    values = []
    for train, test in tuning.inner_folds(y["survival"], site, n_splits=3, seed=3):
        model = make_model("xgb", "survival", parameters=tuned.parameters, random_state=3)
        model.fit(X.iloc[train], y["survival"][train])
        risk = predict_risk(model, spec, X.iloc[test])
        values.append(tuning.harrell_c(y["survival"][test], risk))
    assert tuned.value == pytest.approx(np.mean(values), rel=1e-12)


@pytest.mark.parametrize(("task", "name"), ROWS)
def test_an_inner_fold_is_prepared_once(task, name, monkeypatch):
    spec = MODELS[task][name]
    if spec.prepare is None:
        return
    X, y, site = drawn()
    prepared = []

    def counted(matrix, n_jobs):
        prepared.append(matrix.shape)
        return spec.prepare(matrix, n_jobs)

    row = dataclasses.replace(spec, prepare=counted)
    monkeypatch.setitem(MODELS[task], name, row)
    tuned = tune(name, task, X, y[task], site, n_trials=3, seed=2)
    monkeypatch.setitem(MODELS[task], name, dataclasses.replace(spec, prepare=None))
    plain = tune(name, task, X, y[task], site, n_trials=3, seed=2)
    assert len(prepared) == tuning.INNER_SPLITS
    pd.testing.assert_frame_equal(tuned.trials, plain.trials)


def wide(n=120, p=130, seed=1):
    """Draw a block that is reduced by default, one clinical column, an outcome of both."""
    rng = np.random.default_rng(seed)
    factors = rng.normal(size=(n, 6))
    genes = factors @ rng.normal(size=(6, p)) + rng.normal(size=(n, p))
    X = pd.DataFrame(genes, columns=[f"genes.g{j}" for j in range(p)])
    X["clinical.age"] = rng.normal(size=n)
    effect = X["clinical.age"].to_numpy() + factors[:, 0]
    y = np.empty(n, dtype=[("event", bool), ("time", float)])
    y["time"], y["event"] = rng.exponential(np.exp(-effect)), rng.random(n) < 0.7
    label = (rng.logistic(size=n) < 2 * effect).astype(np.int8)
    return X, {"survival": y, "classification": label}, rng.choice(list("abcdefgh"), n)


LINEAR = [("survival", "cox"), ("classification", "logistic")]


@pytest.mark.parametrize(("task", "name"), LINEAR)
def test_trials_choose_the_components_of_a_block_reduced_by_default(task, name):
    X, y, site = wide()
    tuned = tune(name, task, X, y[task], site, n_trials=5, seed=3)
    tried = [json.loads(parameters) for parameters in tuned.trials["parameters"]]
    assert tried[0]["components"] == 32
    smaller = y[task]["event"].sum() if task == "survival" else min(y[task].sum(), sum(1 - y[task]))
    assert all(4 <= one["components"] <= smaller / 5 for one in tried[1:])
    assert len({one["components"] for one in tried}) > 2
    for parameters, value in zip(tried, tuned.trials["value"], strict=True):
        values = []
        for train, test in tuning.inner_folds(y[task], site, n_splits=3, seed=3):
            model = make_model(name, task, parameters=parameters)
            model.fit(X.iloc[train], y[task][train])
            assert model[0].outputs_["is_component"].sum() == parameters["components"]
            risk = predict_risk(model, MODELS[task][name], X.iloc[test])
            values.append(tuning._SCORES[task](y[task][test], risk))
        # the path of trials ends at a looser tolerance than the last fit
        assert value == pytest.approx(np.mean(values), abs=5e-3)
    assert len(tuned.pipeline[-1].coef_) == tuned.parameters["components"] + 1


@pytest.mark.parametrize(("task", "name"), LINEAR)
def test_a_reduction_that_the_user_gave_stays(task, name):
    X, y, site = wide()
    for reduce, width in (({"genes": {"pca": 5}}, 6), ({"genes": {"pca": 0}}, 131)):
        tuned = tune(name, task, X, y[task], site, reduce=reduce, n_trials=2, seed=3)
        assert "components" not in tuned.parameters
        assert len(tuned.pipeline[-1].coef_) == width


@pytest.mark.parametrize(("task", "name"), LINEAR)
def test_a_block_is_decomposed_once_for_all_trials(task, name, monkeypatch):
    from tabular_trainers import principal_components

    shapes, decompose = [], principal_components._decompose
    monkeypatch.setattr(principal_components, "_AXES", {})
    monkeypatch.setattr(
        principal_components, "_decompose", lambda z, k: shapes.append(z.shape) or decompose(z, k)
    )
    X, y, site = wide()
    tune(name, task, X, y[task], site, n_trials=8, seed=3)
    assert len(shapes) == tuning.INNER_SPLITS + 1  # and all patients


@pytest.mark.parametrize(("task", "name"), ROWS)
def test_trials_do_not_depend_on_threads_or_on_their_number(task, name):
    X, y, site = drawn()
    one, two = (
        tune(name, task, X, y[task], site, n_trials=4, seed=5, n_jobs=n_jobs) for n_jobs in (1, 2)
    )
    pd.testing.assert_frame_equal(one.trials, two.trials)
    more = tune(name, task, X, y[task], site, n_trials=6, seed=5)
    columns = ["trial", "parameters", "value"]
    pd.testing.assert_frame_equal(more.trials[columns][: len(one.trials)], one.trials[columns])


def test_every_model_tuned_by_trials_gets_as_many():
    X, y, site = wide()
    for task, name in ROWS:
        tuned = tune(name, task, X, y[task], site, n_trials=3, seed=5)
        assert len(tuned.trials) == (1 if name == "sksurv_coxnet" else 3), name


def test_a_trial_that_equals_an_earlier_one_is_not_fitted_again(monkeypatch):
    X, y, site = drawn()
    spec, built = MODELS["survival"]["rsf"], []

    def build(**parameters):
        built.append(parameters.get("min_samples_leaf"))
        return spec.build(**parameters)

    def space(trial, facts):
        return {"min_samples_leaf": trial.suggest_int("min_samples_leaf", 15, 16)}

    row = dataclasses.replace(spec, build=build, space=space)
    monkeypatch.setitem(MODELS["survival"], "rsf", row)
    tuned = tune("rsf", "survival", X, y["survival"], site, n_trials=6, seed=1)
    assert len(tuned.trials) == 6
    assert tuned.trials["parameters"].nunique() == 2
    fits = [leaf for leaf in built if leaf is not None]
    assert sorted(fits[:2]) == [15, 16]
    assert fits[2:] == [tuned.parameters["min_samples_leaf"]]  # the last fit


def test_few_events_narrow_the_spaces():
    few, many = (DataFacts(n=400, p=20, n_events=events) for events in (30, 300))

    def tried(name, key, facts):
        space = MODELS["survival"][name].space
        return [one[key] for one in list_trials(space, facts, {key: 15}, 64, 1)[1:]]

    assert [max(tried("xgb", "max_depth", facts)) for facts in (few, many)] == [2, 4]
    assert [min(tried("rsf", "min_samples_leaf", facts)) for facts in (few, many)] == [13, 5]
