"""The main job: from a cohort to a run folder with tables, models, figures and a report."""

import hashlib
import json
import time
from pathlib import Path

import pandas as pd

import tabular_trainers
from tabular_trainers import final_models, probes, run_folder
from tabular_trainers.cohort import Cohort, load_cohort
from tabular_trainers.evaluation import evaluate_plan
from tabular_trainers.evaluation_plan import DEFAULT_TRIALS, fold_numbers, make_plan
from tabular_trainers.explanation import explain
from tabular_trainers.run_facts import collect_facts


def run(
    cohort,
    *,
    endpoint=None,
    feature_sets=None,
    models=None,
    folds=5,
    n_trials=DEFAULT_TRIALS,
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
        Names in ``MODELS[kind of the endpoint]``; default: all but the reference models
        (``sksurv_rsf``, ``sksurv_coxnet``).
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
    plan = make_plan(
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
    total = n_pairs * (2 * len(fold_numbers(plan.folds)) + 1) + probes.count_fits(plan)
    tick = _Ticker(progress, total + 1)
    with run_folder.partial_folder(out, config_hash, total) as partial:
        kept = {"n_jobs": n_jobs, "store": partial / run_folder.TASKS, "progress": tick}
        evaluation = evaluate_plan(plan, n_resamples=n_resamples, **kept)
        shap, shap_blocks = explain(evaluation, **kept)
        facts = final_models.model_facts(config_hash)
        final_trials = final_models.fit_final_models(plan, partial / "models", facts, **kept)
        probed = probes.probe(evaluation, **kept)
        tables = _tables(evaluation, shap, shap_blocks, final_trials, probed)
        facts = collect_facts(cohort, evaluation, tables, config_hash)
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


def _tables(evaluation, shap, shap_blocks, final_trials, probed):
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
