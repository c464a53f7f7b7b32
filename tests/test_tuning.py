"""Tuning: repeatable, inside the training part, and the chosen fit is the one that is returned."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest

from tabular_trainers import tuning
from tabular_trainers.models import MODELS, make_model, predict_risk
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


@pytest.mark.parametrize("name", ["rsf", "xgb"])
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
    tuned = tune("cox", "survival", X, y["survival"], n_trials=6)
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
    assert "n_trees" not in spec.space(tuning._Probe(), None)
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
