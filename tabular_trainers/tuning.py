"""Choose hyper-parameters inside a training part, then fit them on all of it."""

import json
import time
from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.pipeline import Pipeline

from tabular_trainers.folds import inner_folds
from tabular_trainers.metrics import harrell_c
from tabular_trainers.models import DataFacts, find_model, make_model

INNER_SPLITS = 3


@dataclass(frozen=True)
class Tuned:
    """What tuning gives.

    Attributes
    ----------
    parameters : dict
        For `make_model`; repeats the fit.
    value : float
        Mean over inner folds of Harrell's C (classification: AUROC).
    trials : DataFrame
        trial, parameters (JSON), value, chosen.
    pipeline : Pipeline
        Fitted on all patients given.
    """

    parameters: dict
    value: float
    trials: pd.DataFrame
    pipeline: Pipeline


def tune(
    name,
    task,
    X,
    y,
    site=None,
    categorical=(),
    reduce=None,
    n_trials=8,
    seed=0,
    seconds=None,
    n_jobs=1,
):
    """Try sets of hyper-parameters on inner folds, and fit the best on all patients.

    The first trial is the model's defaults; the others are drawn by Optuna's TPE sampler from the
    model's space. A model without a space chooses for itself and gives one trial. A model with the
    method ``fit_folds`` chooses the rest of its parameters, such as the number of rounds, on the
    inner folds of each trial.

    Parameters
    ----------
    name, task : str
        Row of ``MODELS[task]``.
    X : DataFrame of shape (n_patients, n_columns)
        Columns ``block.column``, of the training part only.
    y : array of shape (n_patients,)
    site : array of shape (n_patients,), optional
        A site stays in one inner fold.
    categorical, reduce
        As for `make_model`.
    n_trials : int
        Fits cost ``3 * n_trials + 1``.
    seed : int
    seconds : float, optional
        Stop trying after this long. The result then depends on the machine.
    n_jobs : int
        Threads of one fit.

    Returns
    -------
    Tuned
    """
    spec = find_model(name, task)
    common = {"categorical": categorical, "reduce": reduce, "random_state": seed, "n_jobs": n_jobs}
    n_events = int(y["event"].sum() if task == "survival" else y.sum())
    facts = DataFacts(n=X.shape[0], p=X.shape[1], n_events=n_events)

    def fitted(parameters):
        pipeline = make_model(name, task, parameters=parameters, **common)
        return pipeline.fit(X, y, model__groups=site)

    if not is_searched(spec, facts):
        pipeline = fitted({})
        parameters, value = pipeline[-1].chosen_parameters_, pipeline[-1].inner_value_
        return Tuned(parameters, value, _table([parameters], [value], 0), pipeline)

    inner = _inner_matrices(make_model(name, task, **common)[0], spec, X, y, site, seed, n_jobs)

    def score(parameters):
        model = spec.build(**parameters, random_state=seed, n_jobs=n_jobs, score_only=True)
        risks, chosen = _held_out_risks(model, spec, inner)
        values = [_SCORES[task](fold[3], risk) for fold, risk in zip(inner, risks, strict=True)]
        return {**parameters, **chosen}, float(np.mean(values))

    tried, values = _search(spec, facts, score, n_trials, seed, seconds)
    best = int(np.argmax(values))
    return Tuned(tried[best], values[best], _table(tried, values, best), fitted(tried[best]))


def _inner_matrices(preprocess, spec, X, y, site, seed, n_jobs):
    """Preprocess and prepare each inner fold once; trials differ in the model only."""
    folds = []
    for train, test in inner_folds(y, site, n_splits=INNER_SPLITS, seed=seed):
        learned = clone(preprocess).fit(X.iloc[train])
        train_matrix, test_matrix = (learned.transform(X.iloc[rows]) for rows in (train, test))
        if spec.prepare is not None:
            train_matrix = spec.prepare(train_matrix, n_jobs)
        groups = None if site is None else site[train]
        folds.append((train_matrix, test_matrix, y[train], y[test], groups))
    return folds


def _held_out_risks(model, spec, inner):
    """Fit a model on each inner fold; return the risks held out and the parameters it chose.

    A model with ``fit_folds`` sees all folds at once and chooses, say, its number of rounds.
    """
    if hasattr(model, "fit_folds"):
        return model.fit_folds(inner)
    risks = []
    for train_matrix, test_matrix, y_train, _, groups in inner:
        model.fit(train_matrix, y_train, groups=groups)
        risks.append(spec.risk(model, test_matrix))
    return risks, {}


def _search(spec, facts, score, n_trials, seed, seconds):
    import optuna

    # The sampler's first half is at random; TPE needs some results to learn from.
    sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=max(4, n_trials // 2))
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.study.create_study(direction="maximize", sampler=sampler)
    optuna.logging.set_verbosity(verbosity)
    study.enqueue_trial({k: v for k, v in spec.build().get_params().items() if v is not None})
    tried, values = [], []
    started = time.monotonic()
    while len(tried) < max(1, n_trials):
        if tried and seconds is not None and time.monotonic() - started > seconds:
            break
        trial = study.ask()
        parameters, value = score(spec.space(trial, facts))
        study.tell(trial, value)
        tried.append(parameters)
        values.append(value)
    return tried, values


def _table(tried, values, best):
    return pd.DataFrame(
        {
            "trial": np.arange(len(tried)),
            "parameters": [json.dumps(parameters, sort_keys=True) for parameters in tried],
            "value": np.array(values, dtype=np.float64),
            "chosen": np.arange(len(tried)) == best,
        }
    )


def _auroc(y, risk):
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(y, risk))


_SCORES = {"survival": harrell_c, "classification": _auroc}


def is_searched(spec, facts=None):
    """Tell whether a model has hyper-parameters that trials choose.

    Parameters
    ----------
    spec : ModelSpec
    facts : DataFacts, optional

    Returns
    -------
    bool
    """
    return bool(spec.space(_Probe(), facts or DataFacts(n=100, p=10, n_events=50)))


class _Probe:
    """The least of a trial that shows whether a space is empty, without importing Optuna."""

    def suggest_int(self, name, low, high, **settings):
        return low

    def suggest_float(self, name, low, high, **settings):
        return low

    def suggest_categorical(self, name, choices):
        return choices[0]
