"""Evaluate feature sets x models on saved folds: tuned in the training part, scored on the rest."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from tabular_trainers.evaluation_plan import (
    DEFAULT_TRIALS,
    SELECTED,
    Plan,
    fold_numbers,
    make_plan,
)
from tabular_trainers.feature_sets import is_late
from tabular_trainers.parallel import Task, map_tasks


@dataclass(frozen=True)
class Evaluation:
    """Held-out predictions of every feature set and model, and how good they are.

    Attributes
    ----------
    plan : Plan
        Patients, models, folds, horizons and seeds.
    predictions, survival, metrics, calibration, decision_curve, kaplan_meier, trials : DataFrame
        Tables as in ``data_schemas``; ``survival`` is None for classification.
    headline : dict
        (feature_set, model) -> the headline measure: Influences of Harrell's C, or Draws of the
        AUROC, whose differences are paired.
    n_resamples : int
    """

    plan: Plan
    predictions: pd.DataFrame
    survival: pd.DataFrame | None
    metrics: pd.DataFrame
    calibration: pd.DataFrame
    decision_curve: pd.DataFrame
    kaplan_meier: pd.DataFrame
    trials: pd.DataFrame
    headline: dict
    n_resamples: int

    @property
    def folds(self):
        """Which patients train and which are tested in each fold."""
        return self.plan.folds

    @property
    def primary(self):
        """The comparison named before the run, or None."""
        return self.plan.primary

    @property
    def baseline(self):
        """Name of the feature set that others are compared with, or None."""
        return self.plan.analysis.baseline


def evaluate(
    cohort,
    endpoint=None,
    feature_sets=None,
    models=None,
    folds=5,
    n_trials=DEFAULT_TRIALS,
    seed=0,
    n_jobs=1,
    *,
    n_repeats=1,
    tuning_seconds=None,
    n_resamples=500,
    store=None,
    progress=None,
):
    """Fit every feature set x model in every fold and measure it on the patients held out.

    Preprocessing, reduction and tuning happen inside the training part of each fold. No measure
    compares patients of different folds.

    Parameters
    ----------
    cohort : Cohort
    endpoint : str, optional
        May be left out when the cohort has one.
    feature_sets : sequence of str, optional
        Blocks joined by ``+``, side by side in one model; after ``late:`` one model a block, their
        risks combined. Default: clinical; each other block alone; clinical + each; all.
    models : sequence of str, optional
        Names in ``MODELS[kind of the endpoint]``; default: all but the reference models
        (``sksurv_rsf``, ``sksurv_coxnet``).
    folds : int, path or DataFrame, default 5
        Number of folds, or published folds: a folder of ``splits_k.csv`` with columns train and
        val, a ``folds.parquet``, or a table with patient_id, repeat, fold, part.
    n_trials : int, default 8
        Sets of hyper-parameters tried in each training part, as many for every model. All are
        valued on the same inner folds, and ``selected`` takes the model with the best value.
    seed : int, default 0
    n_jobs : int, default 1
        Processes; does not change any result.
    n_repeats : int, default 1
        Repeats of the folds, where their number was given.
    tuning_seconds : float, optional
        Stop trying after this many seconds a model and fold. Results then depend on the machine.
    n_resamples : int, default 500
        Bootstrap resamples of all intervals but that of Harrell's C, which needs none.
    store : path, optional
        Folder that keeps finished folds; whole results found there are used again.
    progress : callable, optional
        Called with a key after each fitted feature set x model x fold.

    Returns
    -------
    Evaluation

    Raises
    ------
    SchemaError
        A fold table breaks its contract.
    DataError
        Unknown endpoint, block or model; or the patients cannot answer the question: too few
        events for the folds, one site with over half of the events, entry times that a model does
        not take.
    """
    plan = make_plan(
        cohort,
        endpoint,
        feature_sets,
        models,
        folds,
        n_trials=n_trials,
        seed=seed,
        n_repeats=n_repeats,
        tuning_seconds=tuning_seconds,
    )
    return evaluate_plan(plan, n_jobs, n_resamples, store, progress)


def evaluate_plan(plan, n_jobs=1, n_resamples=500, store=None, progress=None):
    """Carry out a plan; `evaluate` makes the plan and calls this."""
    tasks = [
        Task(
            f"fold-{feature_set}-{model}-{repeat}-{fold}",
            (feature_set, model, repeat, fold),
            plan.cost(feature_set, model),
        )
        for repeat, fold in fold_numbers(plan.folds)
        for feature_set in plan.analysis.feature_sets
        for model in plan.models
    ]
    results = map_tasks(fit_fold, tasks, plan, n_jobs, store, progress)
    trials = _join(results, "trials")
    predictions, survival = _join(results, "predictions"), _join(results, "survival")
    del results  # as large as the joined tables, which the measures stand beside
    if len(plan.models) > 1:
        best = _selected_models(trials, plan.models)
        predictions = _add_selected(predictions, best)
        survival = _add_selected(survival, best)
    return measure(plan, predictions, survival, trials, n_resamples, n_jobs)


def measure(plan, predictions, survival, trials=None, n_resamples=500, n_jobs=1):
    """Measure predictions of the test patients of a plan, whoever made them.

    Parameters
    ----------
    plan : Plan
    predictions, survival : DataFrame
        Tables of the data schemas; ``survival`` is None for classification.
    trials : DataFrame, optional
    n_resamples : int, default 500
    n_jobs : int, default 1
        Threads; does not change any result.

    Returns
    -------
    Evaluation
    """
    from tabular_trainers import description, metrics

    analysis = plan.analysis
    given = (plan.task, analysis.y, analysis.patient_id, plan.folds, predictions, survival)
    options = {
        "site": analysis.site,
        "horizons": plan.horizons,
        "n_resamples": n_resamples,
        "seed": plan.seed,
        "landmark": analysis.endpoint.landmark,
    }
    scored, headline = metrics.score(*given, **options, n_jobs=n_jobs)
    return Evaluation(
        plan=plan,
        predictions=predictions,
        survival=survival,
        metrics=scored,
        calibration=description.calibration(
            plan.task, analysis.y, analysis.patient_id, predictions, survival, plan.horizons
        ),
        decision_curve=metrics.decision_curve(*given, **options),
        kaplan_meier=description.kaplan_meier_curves(
            plan.task, analysis.y, analysis.patient_id, plan.folds, predictions
        ),
        trials=trials,
        headline=headline,
        n_resamples=n_resamples,
    )


def fit_fold(plan, feature_set, model, repeat, fold):
    """Tune and fit one model on the training part of a fold and predict the patients held out."""
    from tabular_trainers.models import (
        find_model,
        predict_risk,
        predict_survival,
        predict_survival_at_entry,
    )
    from tabular_trainers.tuning import tune

    analysis, late = plan.analysis, is_late(feature_set)
    spec = find_model(model, plan.task, late)
    train, test = plan.positions(repeat, fold)
    X = analysis.columns_of(feature_set)
    tuned = tune(
        model,
        plan.task,
        X.iloc[train],
        analysis.y[train],
        site=None if analysis.site is None else analysis.site[train],
        categorical=analysis.categorical,
        reduce=analysis.reduce,
        n_trials=plan.n_trials,
        seed=plan.fold_seed(repeat, fold),
        seconds=plan.tuning_seconds,
        late=late,
    )
    where = {"repeat": repeat, "fold": fold, "feature_set": feature_set, "model": model}
    risk = predict_risk(tuned.pipeline, spec, X.iloc[test])
    predictions = pd.DataFrame({"patient_id": X.index[test], **where, "risk": risk})
    predictions["survival_at_entry"] = np.nan
    if analysis.endpoint.has_entry:
        entry = analysis.y["entry"][test]
        at_entry = predict_survival_at_entry(tuned.pipeline, spec, X.iloc[test], entry)
        predictions["survival_at_entry"] = at_entry
    tables = {"predictions": predictions, "trials": tuned.trials.assign(**where)}
    if len(plan.times):
        curves = predict_survival(tuned.pipeline, spec, X.iloc[test], plan.times)
        tables["survival"] = pd.DataFrame(
            {
                "patient_id": np.repeat(X.index[test].to_numpy(), len(plan.times)),
                **where,
                "time": np.tile(plan.times, len(test)),
                "survival": curves.ravel(),
            }
        )
    return tables


def _join(results, name):
    frames = [result[name] for result in results if name in result]
    return pd.concat(frames, ignore_index=True) if frames else None


def _selected_models(trials, models):
    """Pick, in each fold and feature set, the model that did best inside the training part."""
    chosen = trials[trials["chosen"]].copy()
    chosen["order"] = chosen["model"].map({name: i for i, name in enumerate(models)})
    keys = ["repeat", "fold", "feature_set"]
    best = chosen.sort_values(["value", "order"], ascending=[False, True]).drop_duplicates(keys)
    return best[[*keys, "model"]]


def _add_selected(table, best):
    if table is None:
        return None
    picked = table.merge(best, on=["repeat", "fold", "feature_set", "model"])
    return pd.concat([table, picked.assign(model=SELECTED)], ignore_index=True)
