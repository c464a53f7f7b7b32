"""The main job: from a cohort to a run folder with tables, models, figures and a report."""

import hashlib
import json
import time
from pathlib import Path

import pandas as pd

import tabular_trainers
from tabular_trainers import final_models, probes, run_folder
from tabular_trainers.cohort import Cohort, load_cohort
from tabular_trainers.column_summary import summarise_columns
from tabular_trainers.evaluation import evaluate_plan
from tabular_trainers.evaluation_plan import DEFAULT_TRIALS, fold_numbers, make_plan
from tabular_trainers.explanation import explain
from tabular_trainers.external import measure_saved
from tabular_trainers.fold_clusters import match_folds, reference_clusters
from tabular_trainers.patch_bags import clusters_asked
from tabular_trainers.reporting_guideline import checklist
from tabular_trainers.run_facts import collect_facts
from tabular_trainers.saved_models import load_saved
from tabular_trainers.tables import write_tables


def run(
    cohort,
    *,
    endpoint=None,
    feature_sets=None,
    models=None,
    folds=5,
    n_repeats=1,
    holdout=None,
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
        Blocks joined by ``+``, side by side in one model; after ``late:`` one model a block, their
        risks combined. Default: clinical; each other block alone; clinical + each; all.
    models : sequence of str, optional
        Names in ``MODELS[kind of the endpoint]``; default: all but the reference models
        (``sksurv_rsf``, ``sksurv_coxnet``).
    folds : int or path, default 5
        Number of folds, a folder of ``splits_k.csv`` (columns train, val) or a ``folds.parquet``.
    n_repeats : int, default 1
        Repeats of the folds, where their number was given.
    holdout : float, optional
        Share of the patients (above 0, at most 0.5), by whole sites where known, set aside before
        the folds are made: the saved primary model and the clinical baseline are measured on them
        once, at the end.
    n_trials : int, default 8
        Sets of hyper-parameters tried in each training part.
    tuning_seconds : float, optional
        Stop trying after this many seconds a model and fold; results then depend on the machine.
    out : path, optional
        Folder of the run; default ``runs/<cohort>_<endpoint>``.
    n_jobs : int, optional
        Processes; default: one for each processor. Does not change any result. Not used inside
        `use_cluster`.
    seed : int, default 0
    overwrite : bool or "changed", default False
        Replace a complete run in ``out``; ``"changed"``: only where its configuration, tables or
        folds are not those of this one.
    data : path, optional
        Folder of the cohort's tables; default: that of ``cohort.toml``.
    n_resamples : int, default 500
        Bootstrap resamples of all intervals but that of Harrell's C, which needs none.
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
    from tabular_trainers.parallel import cluster_size, cpu_count, one_thread

    started = time.perf_counter()
    stem = "cohort"
    if not isinstance(cohort, Cohort):
        stem = Path(cohort).stem
        cohort = load_cohort(cohort, data, endpoint=endpoint)
    endpoint = cohort.endpoint(endpoint).name
    out = Path(out) if out else Path("runs") / f"{stem}_{endpoint}"
    run_folder.check_out(out, overwrite)
    n_jobs = cluster_size() or n_jobs or cpu_count()
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
        holdout=holdout,
    )
    config_hash = _hash(cohort, plan, n_resamples)
    if run_folder.finish_whole(out, config_hash) and overwrite is not True:
        return out
    if overwrite == "changed" and run_folder.holds_same(out, config_hash):
        return out
    n_pairs = len(plan.analysis.feature_sets) * len(plan.models)
    total = n_pairs * (2 * len(fold_numbers(plan.folds)) + 1) + probes.count_fits(plan)
    if any(clusters_asked(name, plan.analysis.reduce) for name in plan.analysis.X):
        total += int(plan.folds.loc[plan.folds["repeat"] == 0, "fold"].nunique())
    tick = _Ticker(progress, total + 1)
    # What is computed between the tasks must not depend on the threads of this process either.
    with one_thread(), run_folder.partial_folder(out, config_hash, total) as partial:
        kept = {"n_jobs": n_jobs, "store": partial / run_folder.TASKS, "progress": tick}
        evaluation = evaluate_plan(plan, n_resamples=n_resamples, **kept)
        shap, shap_blocks = explain(evaluation, **kept)
        facts = final_models.model_facts(config_hash)
        final_trials = final_models.fit_final_models(plan, partial / "models", facts, **kept)
        probed = probes.probe(evaluation, **kept)
        tables = _tables(evaluation, shap, shap_blocks, final_trials, probed)
        if references := reference_clusters(plan):
            tables["cluster_matches"] = match_folds(plan, references, **kept)
        facts = collect_facts(cohort, evaluation, tables, config_hash)
        metadata = {"config_hash": config_hash, "seed": str(seed)}
        if plan.final_part is not None:
            found = _measure_final_part(plan, partial / "models", n_resamples)
            facts["holdout"] = {
                "share": plan.final_part.share, "note": plan.final_part.note, **found.facts()
            }  # fmt: skip
            write_tables(found.tables(), partial / run_folder.HOLDOUT, metadata)
        tables["tripod_ai"] = checklist(tables, facts)
        facts["timings"] = {"seconds": round(time.perf_counter() - started, 1), "jobs": n_jobs}
        _write(partial, tables, facts, metadata)
        tick("report")
    return out


class _Ticker:
    """Turn keys of finished tasks into calls of ``progress(done, total, what)``."""

    stages = {
        "fold": "evaluating",
        "shap": "explaining",
        "final": "fitting on all patients",
        "probe": "probing",
        "match": "matching clusters",
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
    endpoint, final = plan.analysis.endpoint, plan.final_part
    settled = {
        "package_version": tabular_trainers.__version__,
        "source": cohort.source_hash,
        "endpoint": [endpoint.name, endpoint.kind, endpoint.description],
        "feature_sets": {
            name: list(columns) for name, columns in plan.analysis.feature_sets.items()
        },
        "models": list(plan.models),
        "folds": plan.folds.to_csv(index=False),
        "final_part": None if final is None else [final.share, *final.analysis.patient_id],
        "horizons": list(plan.horizons),
        "landmark": endpoint.landmark,
        "settings": [plan.seed, plan.n_trials, plan.tuning_seconds, n_resamples],
    }
    return hashlib.sha256(json.dumps(settled, sort_keys=True).encode()).hexdigest()


def _tables(evaluation, shap, shap_blocks, final_trials, probed):
    from tabular_trainers import description
    from tabular_trainers.comparison import compare
    from tabular_trainers.subgroups import subgroup_table

    analysis = evaluation.plan.analysis
    tables = {
        "flow": analysis.flow,
        "predictors": summarise_columns(analysis.X, analysis.categorical),
        "table_one": description.table_one(analysis),
        "folds": evaluation.folds,
        "predictions": evaluation.predictions,
        "metrics": evaluation.metrics,
        "comparisons": compare(evaluation),
        "kaplan_meier": evaluation.kaplan_meier,
        "calibration": evaluation.calibration,
        "decision_curve": evaluation.decision_curve,
        "trials": pd.concat([evaluation.trials, final_trials], ignore_index=True),
        "shap": shap,
        "shap_blocks": shap_blocks,
        "probes": probed,
        "subgroups": subgroup_table(evaluation),
    }
    if evaluation.survival is not None:
        tables["survival"] = evaluation.survival
    return tables


def _measure_final_part(plan, folder, n_resamples):
    """Measure the saved primary model and the baseline, once, on the part that nothing has seen."""
    final, model = plan.final_part.analysis, plan.models[0]
    names = dict.fromkeys([final.full, *([final.baseline] if final.baseline else [])])
    saved = {name: load_saved(folder, name, model) for name in names}
    features = {name: final.X[list(saved[name].metadata["columns"])] for name in names}
    return measure_saved(final, saved, features, n_resamples=n_resamples, seed=plan.seed)


def _write(partial, tables, facts, metadata):
    from tabular_trainers.report import write_report

    write_tables(tables, partial, metadata)
    run_folder.write_facts(partial / "run.json", facts)
    write_report(partial)
