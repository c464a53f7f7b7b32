"""Models fitted once more on all patients of the run, and new patients scored by them."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

import tabular_trainers
from tabular_trainers.errors import SchemaError
from tabular_trainers.feature_sets import is_late
from tabular_trainers.parallel import Task, map_tasks
from tabular_trainers.patch_bags import clusters_asked
from tabular_trainers.saved_models import load_saved, model_path, read_run


@dataclass(frozen=True)
class _Context:
    plan: object
    facts: dict


def fit_final_models(plan, folder, facts, n_jobs=1, store=None, progress=None):
    """Tune and fit each feature set x model on all patients of the run and save it.

    Parameters
    ----------
    plan : Plan
    folder : path
        Gets ``<feature_set>/<model>.skops``; ``late-`` stands for ``late:``.
    facts : dict
        Provenance kept inside every file (configuration hash, package version).
    n_jobs, store, progress
        As in `evaluate`.

    Returns
    -------
    DataFrame
        Table ``trials`` of these fits; repeat and fold are empty.
    """
    from tabular_trainers.models.storage import write_model

    tasks = [
        Task(f"final-{feature_set}-{model}", (feature_set, model), plan.cost(feature_set, model))
        for feature_set in plan.analysis.feature_sets
        for model in plan.models
    ]
    results = map_tasks(_fit, tasks, _Context(plan, facts), n_jobs, store, progress)
    for task, result in zip(tasks, results, strict=True):
        write_model(result["model"]["content"].item(), model_path(folder, *task.arguments))
    return pd.concat([result["trials"] for result in results], ignore_index=True)


def _fit(context, feature_set, model):
    from tabular_trainers.models import find_model
    from tabular_trainers.models.storage import model_bytes
    from tabular_trainers.tuning import tune

    plan, analysis, late = context.plan, context.plan.analysis, is_late(feature_set)
    X = analysis.columns_of(feature_set)
    tuned = tune(
        model,
        plan.task,
        X,
        analysis.y,
        site=analysis.site,
        categorical=analysis.categorical,
        reduce=analysis.reduce,
        n_trials=plan.n_trials,
        seed=plan.seed,
        seconds=plan.tuning_seconds,
        late=late,
    )
    metadata = {
        **context.facts,
        "endpoint": analysis.endpoint.name,
        "kind": plan.task,
        "unit": analysis.endpoint.unit,
        "feature_set": feature_set,
        "model": model,
        "risk_scale": find_model(model, plan.task, late).risk_scale,
        "horizons": list(plan.horizons),
        "columns": {name: _kind(name, analysis) for name in X.columns},
        "parameters": tuned.parameters,
    }
    trials = tuned.trials.assign(feature_set=feature_set, model=model, repeat=pd.NA, fold=pd.NA)
    return {
        "trials": trials.astype({"repeat": "Int64", "fold": "Int64"}),
        # not written here: a worker of a cluster may have another disk
        "model": pd.DataFrame({"content": [model_bytes(tuned.pipeline, metadata)]}),
    }


def _kind(name, analysis):
    if clusters_asked(name, analysis.reduce):
        return "patches"
    return "categorical" if name in analysis.categorical else "numeric"


def predict(run_folder, cohort, *, data=None, out=None):
    """Score the patients of a cohort with the primary model of a run, named before any scoring.

    Parameters
    ----------
    run_folder : path
        A finished run.
    cohort : Cohort or path
        Describes the new patients; no endpoint is needed. Blocks and columns as in the run.
    data : path, optional
        Folder of the cohort's tables.
    out : path, optional
        File for the scores (.csv or .parquet); default ``scores.csv``.

    Returns
    -------
    Path

    Raises
    ------
    SchemaError
        The folder holds no run, or columns differ from those of the run; all are named.
    """
    from tabular_trainers import cohort as cohorts

    run_folder, out = Path(run_folder), Path(out or "scores.csv")
    if out.suffix not in (".csv", ".parquet"):
        raise SchemaError(f"{out}: the name of the scores must end in .csv or .parquet.")
    primary = read_run(run_folder)["primary_model"]
    feature_set, model = primary["feature_set"], primary["model"]
    saved = load_saved(run_folder / "models", feature_set, model)
    if not isinstance(cohort, cohorts.Cohort):
        cohort = cohorts.load_cohort(cohort, data)
    X, _ = saved.features(cohort)
    horizons = saved.metadata["horizons"] or [np.nan]
    risk = saved.risk(X)
    survival = np.full((len(X), len(horizons)), np.nan)
    if saved.has_curve:
        survival = saved.survival(X, horizons)
    scores = pd.DataFrame(
        {
            "patient_id": np.repeat(X.index.to_numpy(), len(horizons)),
            "feature_set": feature_set,
            "model": model,
            "risk": np.repeat(risk, len(horizons)),
            "time": np.tile(horizons, len(X)),
            "survival": survival.ravel(),
        }
    )
    return _write_scores(scores, out, saved.metadata)


def _write_scores(scores, out, metadata):
    from tabular_trainers.schema import validate
    from tabular_trainers.tables import write_table

    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f"{out.name}.partial")
    try:
        if out.suffix == ".parquet":
            write_table(scores, "scores", partial, {"config_hash": metadata["config_hash"]})
        else:
            validate(scores, "scores", str(out)).to_csv(partial, index=False)
        partial.replace(out)
    except OSError:
        partial.unlink(missing_ok=True)  # a full disk keeps nothing half-written
        raise
    return out


def model_facts(config_hash):
    """Collect the provenance that every saved model carries."""
    return {"config_hash": config_hash, "package_version": tabular_trainers.__version__}
