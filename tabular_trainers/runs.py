"""The main job: from a cohort to a run folder with tables, models, figures and a report."""

import hashlib
import importlib.metadata
import json
import logging
import time
from pathlib import Path

import pandas as pd

import tabular_trainers
from tabular_trainers import evaluation as evaluating
from tabular_trainers import final_models, probes, run_folder
from tabular_trainers.cohort import Cohort, load_cohort
from tabular_trainers.explanation import explain

logger = logging.getLogger("tabular_trainers")
LIBRARIES = (
    "numpy", "pandas", "pyarrow", "scikit-learn", "scikit-survival", "xgboost", "xgboost-cpu",
    "lifelines", "numba", "shap", "optuna", "skops", "matplotlib",
)  # fmt: skip


def run(
    cohort,
    *,
    endpoint=None,
    feature_sets=None,
    models=None,
    folds=5,
    n_trials=evaluating.DEFAULT_TRIALS,
    tuning_seconds=None,
    out=None,
    n_jobs=None,
    seed=0,
    overwrite=False,
    data=None,
    n_resamples=500,
    progress=None,
):
    """Evaluate, explain, compare and probe, fit the final models and write the report.

    Parameters
    ----------
    cohort : Cohort or path
        A cohort, or its ``cohort.toml``.
    endpoint : str, optional
        May be left out when the cohort has one.
    feature_sets : sequence of str, optional
        Blocks joined by ``+``. Default: clinical; each other block alone; clinical + each; all.
    models : sequence of str, optional
        Names in ``MODELS[kind of the endpoint]``; default: all of them.
    folds : int or path, default 5
        Number of folds, a folder of ``splits_k.csv`` (columns train, val) or a ``folds.parquet``.
    n_trials : int, default 8
        Sets of hyper-parameters tried in each training part.
    tuning_seconds : float, optional
        Stop trying after this many seconds a model and fold; results then depend on the machine.
    out : path, optional
        Folder of the run; default ``runs/<cohort>_<endpoint>``.
    n_jobs : int, optional
        Processes; default: one for each processor. Does not change any result.
    seed : int, default 0
    overwrite : bool, default False
        Replace a complete run in ``out``.
    data : path, optional
        Folder of the cohort's tables; default: that of ``cohort.toml``.
    n_resamples : int, default 500
        Bootstrap resamples of all intervals.
    progress : callable, optional
        Called as ``progress(done, total, what)``.

    Returns
    -------
    Path
        The run folder, whole.

    Raises
    ------
    SchemaError
        A table, a name or the output folder is not what was expected.
    DataError
        The patients cannot answer the question.
    """
    from tabular_trainers.parallel import cpu_count

    started = time.perf_counter()
    stem = "cohort"
    if not isinstance(cohort, Cohort):
        stem = Path(cohort).stem
        cohort = load_cohort(cohort, data, endpoint=endpoint)
    endpoint = cohort.endpoint(endpoint).name
    out = Path(out) if out else Path("runs") / f"{stem}_{endpoint}"
    run_folder.check_out(out, overwrite)
    n_jobs = n_jobs or cpu_count()
    plan = evaluating.make_plan(
        cohort,
        endpoint,
        feature_sets,
        models,
        folds,
        n_trials=n_trials,
        seed=seed,
        tuning_seconds=tuning_seconds,
    )
    config_hash = _hash(cohort, plan, n_resamples)
    n_pairs = len(plan.analysis.feature_sets) * len(plan.models)
    total = n_pairs * (2 * len(evaluating.fold_numbers(plan.folds)) + 1) + probes.count_fits(plan)
    tick = _Ticker(progress, total + 1)
    with run_folder.partial_folder(out, config_hash, total) as partial:
        kept = {"n_jobs": n_jobs, "store": partial / run_folder.TASKS, "progress": tick}
        evaluation = evaluating.evaluate_plan(plan, n_resamples=n_resamples, **kept)
        shap, shap_blocks = explain(evaluation, **kept)
        facts = final_models.model_facts(config_hash)
        final_trials = final_models.fit_final_models(plan, partial / "models", facts, **kept)
        probed = probes.probe(evaluation, **kept)
        tables = _tables(cohort, evaluation, shap, shap_blocks, final_trials, probed)
        facts = _facts(cohort, evaluation, tables, config_hash)
        facts["timings"] = {"seconds": round(time.perf_counter() - started, 1), "jobs": n_jobs}
        _write(partial, tables, facts)
        tick("report")
    return out


class _Ticker:
    """Turn keys of finished tasks into calls of ``progress(done, total, what)``."""

    stages = {
        "fold": "evaluating",
        "shap": "explaining",
        "final": "fitting on all patients",
        "probe": "probing",
        "report": "report",
    }

    def __init__(self, progress, total):
        self.progress, self.total, self.done = progress, total, 0

    def __call__(self, key):
        self.done += 1
        if self.progress is not None:
            stage, _, rest = key.partition("-")
            self.progress(self.done, self.total, f"{self.stages[stage]} {rest}".strip())


def _hash(cohort, plan, n_resamples):
    """Hash what decides the results: two runs with the same hash have the same tables."""
    endpoint = plan.analysis.endpoint
    settled = {
        "package_version": tabular_trainers.__version__,
        "source": cohort.source_hash,
        "endpoint": [endpoint.name, endpoint.kind, endpoint.description],
        "feature_sets": {
            name: list(columns) for name, columns in plan.analysis.feature_sets.items()
        },
        "models": list(plan.models),
        "folds": plan.folds.to_csv(index=False),
        "horizons": list(plan.horizons),
        "settings": [plan.seed, plan.n_trials, plan.tuning_seconds, n_resamples],
    }
    return hashlib.sha256(json.dumps(settled, sort_keys=True).encode()).hexdigest()


def _tables(cohort, evaluation, shap, shap_blocks, final_trials, probed):
    from tabular_trainers import description
    from tabular_trainers.comparison import compare

    analysis = evaluation.plan.analysis
    tables = {
        "flow": analysis.flow,
        "table_one": description.table_one(analysis),
        "folds": evaluation.folds,
        "predictions": evaluation.predictions,
        "metrics": evaluation.metrics,
        "comparisons": compare(evaluation),
        "kaplan_meier": evaluation.kaplan_meier,
        "calibration": evaluation.calibration,
        "trials": pd.concat([evaluation.trials, final_trials], ignore_index=True),
        "shap": shap,
        "shap_blocks": shap_blocks,
        "probes": probed,
    }
    if evaluation.survival is not None:
        tables["survival"] = evaluation.survival
    return tables


def _facts(cohort, evaluation, tables, config_hash):
    """Collect what the report says in words; everything in it was settled or computed before."""
    from tabular_trainers import description, metrics
    from tabular_trainers.comparison import verdict
    from tabular_trainers.folds import fold_summary
    from tabular_trainers.models import MODELS

    plan = evaluation.plan
    analysis, endpoint = plan.analysis, plan.analysis.endpoint
    rows = MODELS[plan.task]
    survival = plan.task == "survival"
    event = analysis.y["event"] if survival else analysis.y
    comparisons = tables["comparisons"]
    primary = comparisons[comparisons["primary"]]
    return {
        "schema_version": "1",
        "package_version": tabular_trainers.__version__,
        "title": cohort.title,
        "time_zero": cohort.time_zero,
        "endpoint": {
            "name": endpoint.name,
            "kind": endpoint.kind,
            "unit": endpoint.unit,
            "description": endpoint.description,
        },
        "n_patients": len(analysis.y),
        "n_events": int(event.sum()),
        "config_hash": config_hash,
        "source_hash": cohort.source_hash,
        "seed": plan.seed,
        "feature_sets": list(analysis.feature_sets),
        "models": list(plan.models),
        "model_labels": {name: rows[name].label for name in plan.models},
        "risk_scales": {name: rows[name].risk_scale for name in plan.models},
        "shap_kinds": {name: rows[name].shap_kind for name in plan.models},
        "baseline": analysis.baseline,
        "full": analysis.full,
        "primary": plan.primary,
        "primary_model": {"feature_set": analysis.full, "model": plan.models[0]},
        "horizons": list(plan.horizons),
        "tau": plan.tau,
        "numbers_at_risk": metrics.numbers_at_risk(analysis.y, plan.horizons) if survival else {},
        "folds_note": plan.fold_note,
        "fold_sizes": fold_summary(
            plan.folds, analysis.y, analysis.patient_id, analysis.site
        ).to_dict("records"),
        "n_trials": plan.n_trials,
        "tuning_seconds": plan.tuning_seconds,
        "n_resamples": evaluation.n_resamples,
        "missing_blocks": cohort.missing_blocks,
        "notes": list(cohort.notes),
        "follow_up": description.follow_up(analysis.y) if survival else None,
        "verdict": verdict(primary.iloc[0]) if len(primary) else None,
        "blocks": {
            name: {
                "n_columns": block.table.shape[1],
                "reduce": block.reduce,
                "pool": block.pool,
            }
            for name, block in cohort.blocks.items()
            if any(name in feature_set.split("+") for feature_set in analysis.feature_sets)
        },
        "versions": _versions(),
    }


def _versions():
    found = {}
    for library in LIBRARIES:
        try:
            found[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            continue  # xgboost and xgboost-cpu are two names of one library
    return found


def _write(partial, tables, facts):
    from tabular_trainers.report import write_report
    from tabular_trainers.tables import write_tables

    metadata = {"config_hash": facts["config_hash"], "seed": str(facts["seed"])}
    write_tables(tables, partial, metadata)
    text = json.dumps(facts, indent=2, ensure_ascii=False, allow_nan=False, default=_plain)
    (partial / "run.json").write_text(text + "\n", encoding="utf-8")
    write_report(partial)


def _plain(value):
    """Turn NumPy scalars into numbers that JSON knows."""
    return value.item()
