"""Validate the primary model of a run on another cohort: tables, validation.json and a report."""

import hashlib
import json
from pathlib import Path

import pandas as pd

import tabular_trainers
from tabular_trainers import run_folder as folders
from tabular_trainers.cohort import Cohort, load_cohort
from tabular_trainers.cohort_encoders import encoder_facts
from tabular_trainers.column_summary import compare_columns, summarise_columns
from tabular_trainers.errors import DataError, SchemaError, count, listing
from tabular_trainers.external import measure_saved
from tabular_trainers.feature_sets import blocks_of
from tabular_trainers.patch_bags import clusters_asked
from tabular_trainers.run_facts import software
from tabular_trainers.saved_models import load_saved, read_run
from tabular_trainers.tables import read_written, write_tables

KIND = "validation"


def validate_on(
    run_folder,
    cohort,
    *,
    endpoint=None,
    data=None,
    out=None,
    overwrite=False,
    n_resamples=500,
):
    """Measure the primary model of a run, and its clinical baseline, on another cohort.

    The model was named before any scoring, as for `predict`. Nothing is fitted: the saved models
    predict, and the measures of a run are taken of these patients as one stratum.

    Parameters
    ----------
    run_folder : path
        A finished run.
    cohort : Cohort or path
        The other patients, with an endpoint of the run's kind and unit, and its blocks and columns.
    endpoint : str, optional
        Default: the one with the name of the run's, else the only one.
    data : path, optional
        Folder of the cohort's tables; default: that of ``cohort.toml``.
    out : path, optional
        Folder to write; default ``validations/<run>_on_<cohort>``.
    overwrite : bool, default False
        Replace a complete validation in ``out``.
    n_resamples : int, default 500
        Bootstrap resamples of the intervals.

    Returns
    -------
    Path
        The folder, whole: tables, figures, ``validation.json`` and ``validation.html``.

    Raises
    ------
    SchemaError
        The folder holds no run, columns differ from those of the run, or the output folder is not
        what was expected.
    DataError
        Patients of the run are among those of the cohort, the endpoint is of another kind or unit,
        or the patients cannot answer the question.
    """
    run_folder = Path(run_folder)
    run = read_run(run_folder)
    stem = "cohort"
    if not isinstance(cohort, Cohort):
        stem = Path(cohort).stem
        cohort = load_cohort(cohort, data)
    out = Path(out) if out else Path("validations") / f"{run_folder.resolve().name}_on_{stem}"
    folders.check_out(out, overwrite, KIND)
    primary, baseline = run["primary_model"], run["baseline"]
    names = dict.fromkeys([primary["feature_set"], *([baseline] if baseline else [])])
    saved = {name: load_saved(run_folder / "models", name, primary["model"]) for name in names}
    endpoint = _endpoint(cohort, endpoint, run)
    features, extra = _features(cohort, saved, primary["feature_set"])
    analysis = cohort.analysis_set(endpoint.name, [*names])
    _only_others(analysis, run_folder)
    features = {name: X.loc[analysis.patient_id] for name, X in features.items()}
    found = measure_saved(analysis, saved, features, n_resamples=n_resamples, seed=run["seed"])
    tables = found.tables()
    tables["column_differences"] = _differences(
        run_folder, saved[primary["feature_set"]], cohort, analysis, extra
    )
    facts = {
        "schema_version": "1",
        "package_version": tabular_trainers.__version__,
        "title": cohort.title,
        "time_zero": cohort.time_zero,
        "endpoint": {
            **{name: getattr(endpoint, name) for name in ("name", "kind", "unit", "description")},
            "entry": endpoint.has_entry,
            "landmark": endpoint.landmark,
        },
        **found.facts(),
        **{name: run[name] for name in ("model_labels", "risk_scales", "seed")},
        "source_hash": cohort.source_hash,
        "sources": list(cohort.sources),
        "blocks": {
            name: encoder_facts(cohort.blocks[name], cohort.sources)
            for name in blocks_of(primary["feature_set"])
        },
        "run": {
            name: run[name]
            for name in ("title", "endpoint", "time_zero", "n_patients", "n_events", "config_hash",
                         "package_version", "horizons", "verdict")
        },
        "versions": software(),
    }  # fmt: skip
    facts["notes"] = [*cohort.notes, *analysis.notes, *facts["notes"]]
    facts["config_hash"] = _hash(facts)
    _write(out, tables, facts)
    return out


def _endpoint(cohort, name, run):
    """Find the endpoint, and refuse one that the model does not predict."""
    wanted = run["endpoint"]
    if name is None and wanted["name"] in cohort.endpoint_names:
        name = wanted["name"]
    endpoint = cohort.endpoint(name)
    for what in ("kind", "unit"):
        if getattr(endpoint, what) != wanted[what]:
            raise DataError(
                f"endpoint {endpoint.name}: its {what} is {getattr(endpoint, what)}, that of the "
                f"run's endpoint {wanted['name']} is {wanted[what]}; expected the same."
            )
    return endpoint


def _features(cohort, saved, primary):
    found = {name: model.features(cohort) for name, model in saved.items()}
    return {name: X for name, (X, _) in found.items()}, found[primary][1]


def _only_others(analysis, run_folder):
    """Refuse patients that the models were fitted on: on them every model looks good."""
    fitted = set(read_written(run_folder / "folds.parquet")["patient_id"])
    shared = [patient for patient in analysis.patient_id if patient in fitted]
    if shared:
        raise DataError(
            f"{len(shared)} of {count(len(analysis.y), 'patient')} of the cohort took part in "
            f"fitting the model ({listing(shared)}); a validation needs others. Leave them out, or "
            "if other people have the same ids, give them ids of their own."
        )


def _differences(run_folder, saved, cohort, analysis, extra):
    """Compare the columns of the model, and those it does not know, between run and cohort."""
    path = run_folder / "predictors.parquet"
    if not path.is_file():
        raise SchemaError(f"{run_folder}: no predictors.parquet. Repeat the run.")
    columns = saved.metadata["columns"]
    known = read_written(path)
    known = known[(known["block"] + "." + known["variable"]).isin(columns)]
    X = cohort.features(saved.metadata["feature_set"]).loc[analysis.patient_id]
    own = set(analysis.endpoint.own_columns)
    ways = {name: block.reduce for name, block in cohort.blocks.items()}
    labels = [
        name
        for name in X
        if not pd.api.types.is_numeric_dtype(X[name]) and not clusters_asked(name, ways)
    ]
    shown = [*columns, *(name for name in extra if name not in own)]
    return compare_columns(known, summarise_columns(X[shown], labels))


def _hash(facts):
    settled = [facts["run"]["config_hash"], facts["source_hash"], facts["endpoint"]]
    settled += [facts["n_resamples"], facts["package_version"]]
    return hashlib.sha256(json.dumps(settled).encode()).hexdigest()


def _write(out, tables, facts):
    """Write the folder as ``OUT.partial`` and rename it; an error leaves nothing behind."""
    from tabular_trainers.report_validation import write_validation_report

    metadata = {"config_hash": facts["config_hash"], "seed": str(facts["seed"])}
    with folders.partial_folder(out, facts["config_hash"]) as partial:
        write_tables(tables, partial, metadata)
        folders.write_facts(partial / f"{KIND}.json", facts)
        write_validation_report(partial)
