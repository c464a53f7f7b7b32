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
from tabular_trainers.models import DataFacts, find_model, make_model, split_parameters
from tabular_trainers.models.late_fusion import block_columns, has_block
from tabular_trainers.patch_bags import clusters_asked
from tabular_trainers.preprocess import reduces_by_default
from tabular_trainers.trial_list import Asked, list_trials

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
    late=False,
):
    """Try sets of hyper-parameters on inner folds, and fit the best on all patients.

    The first trial is the model's defaults; the others are the points of a scrambled Sobol
    sequence in the model's space, settled by seed and space before any fit. A model with the method
    ``fit_folds`` chooses the rest of its parameters, such as a penalty or the number of rounds, on
    the inner folds of each trial. A trial that equals an earlier one is not fitted again.

    Every model gets as many trials and the same inner folds, so that values of different models can
    be compared. Only a model without a space and without ``fit_folds`` chooses for itself, and
    gives one trial.

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
    late : bool
        Late fusion: each block is tuned on its own columns, by the patients who have it, and the
        parameters are ``{block: hyper-parameters}``. One trial is given: the fusion has no choice.

    Returns
    -------
    Tuned
    """
    if late:
        return _tune_late(
            name, task, X, y, site, categorical, reduce, n_trials, seed, seconds, n_jobs
        )
    spec = find_model(name, task)
    common = {"categorical": categorical, "reduce": reduce, "random_state": seed, "n_jobs": n_jobs}
    facts = _facts(spec, task, X, y, categorical, reduce)

    def fitted(parameters):
        pipeline = make_model(name, task, parameters=parameters, **common)
        return pipeline.fit(X, y, model__groups=site)

    if not is_searched(spec, facts):
        pipeline = fitted({})
        parameters, value = pipeline[-1].chosen_parameters_, pipeline[-1].inner_value_
        return Tuned(parameters, value, _table([parameters], [value], 0), pipeline)

    defaults = {**spec.build().get_params(), "components": split_parameters({})[0]}
    trials = list_trials(spec.space, facts, defaults, n_trials, seed)
    most = {"components": max(split_parameters(trial)[0] for trial in trials)}
    preprocess = make_model(name, task, parameters=most, **common)[0]
    inner = _InnerFolds(preprocess, spec, X, y, site, seed, n_jobs)
    known = {}

    def score(trial):
        key = json.dumps(trial, sort_keys=True)
        if key not in known:
            components, own = split_parameters(trial)
            model = spec.build(**own, random_state=seed, n_jobs=n_jobs, score_only=True)
            risks, chosen = _held_out_risks(model, spec, inner.of(components))
            pairs = zip(inner.outcomes, risks, strict=True)
            known[key] = (
                {**trial, **chosen},
                float(np.mean([_SCORES[task](y_test, risk) for y_test, risk in pairs])),
            )
        return known[key]

    tried, values = _search(trials, score, seconds)
    best = int(np.argmax(values))
    return Tuned(tried[best], values[best], _table(tried, values, best), fitted(tried[best]))


def _tune_late(name, task, X, y, site, categorical, reduce, n_trials, seed, seconds, n_jobs):
    columns, parameters = block_columns(X), {}
    for block, own in columns.items():
        has = has_block(X[own])
        tuned = tune(
            name,
            task,
            X.loc[has, own],
            y[has],
            site=None if site is None else site[has],
            categorical=categorical,
            reduce=reduce,
            n_trials=n_trials,
            seed=seed,
            seconds=None if seconds is None else seconds / len(columns),
            n_jobs=n_jobs,
        )
        parameters[block] = tuned.parameters
    pipeline = make_model(
        name, task, categorical, reduce, parameters, random_state=seed, n_jobs=n_jobs, late=True
    ).fit(X, y, model__groups=site)
    value = pipeline[-1].inner_value_
    return Tuned(parameters, value, _table([parameters], [value], 0), pipeline)


def _facts(spec, task, X, y, categorical, reduce):
    event = y["event"] if task == "survival" else y
    n_events = int(event.sum())
    if task == "classification":
        n_events = min(n_events, len(event) - n_events)
    reduced = reduces_by_default(X.columns, categorical, reduce, spec.max_block_columns)
    p = sum(clusters_asked(name, reduce) or 1 for name in X.columns)
    return DataFacts(n=X.shape[0], p=p, n_events=n_events, reduced=reduced)


class _InnerFolds:
    """The inner folds as matrices, made once: trials differ in the model and its first columns.

    The preprocessing makes as many components as the largest trial asks for.
    """

    def __init__(self, preprocess, spec, X, y, site, seed, n_jobs):
        self._spec, self._n_jobs = spec, n_jobs
        self._folds, self._sized = [], {}
        for train, test in inner_folds(y, site, n_splits=INNER_SPLITS, seed=seed):
            learned = clone(preprocess)
            matrices = learned.fit_transform(X.iloc[train]), learned.transform(X.iloc[test])
            groups = None if site is None else site[train]
            self._folds.append((learned, *matrices, y[train], y[test], groups))
        self.outcomes = [fold[4] for fold in self._folds]

    def of(self, components):
        """Give (X_train, X_test, y_train, y_test, groups) of each fold; X_train is prepared."""
        columns = [fold[0].first_components(components) for fold in self._folds]
        key = tuple(len(kept) for kept in columns)
        if key not in self._sized:
            self._sized = {key: [self._cut(*two) for two in zip(self._folds, columns, strict=True)]}
        return self._sized[key]

    def _cut(self, fold, columns):
        _, train, test, *rest = fold
        if len(columns) < train.shape[1]:
            train, test = (np.ascontiguousarray(part[:, columns]) for part in (train, test))
        if self._spec.prepare is not None:
            train = self._spec.prepare(train, self._n_jobs)
        return (train, test, *rest)


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


def _search(trials, score, seconds):
    tried, values = [], []
    started = time.monotonic()
    for trial in trials:
        if tried and seconds is not None and time.monotonic() - started > seconds:
            break
        parameters, value = score(trial)
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
    """Tell whether a model is tuned by trials, or chooses its hyper-parameters for itself.

    Parameters
    ----------
    spec : ModelSpec
    facts : DataFacts, optional

    Returns
    -------
    bool
    """
    facts = facts or DataFacts(n=100, p=10, n_events=50)
    return hasattr(spec.build(), "fit_folds") or bool(spec.space(Asked(), facts))
