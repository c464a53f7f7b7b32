"""What is said of a run in words: settled before it or computed by it, never by the report."""

import importlib.metadata

import tabular_trainers
from tabular_trainers.cohort_encoders import encoder_facts
from tabular_trainers.feature_sets import blocks_of, is_late

LIBRARIES = (
    "numpy", "pandas", "pyarrow", "scikit-learn", "scikit-survival", "xgboost", "xgboost-cpu",
    "lifelines", "numba", "shap", "skops", "matplotlib",
)  # fmt: skip


def collect_facts(cohort, evaluation, tables, config_hash):
    """Collect what is said of a run in words, as plain JSON.

    Parameters
    ----------
    cohort : Cohort
    evaluation : Evaluation
    tables : dict of DataFrame
        Of the run; ``comparisons`` and ``trials`` are read.
    config_hash : str

    Returns
    -------
    dict
        Content of ``run.json``, but for the timings.
    """
    from tabular_trainers import description, metrics
    from tabular_trainers.comparison import verdict
    from tabular_trainers.folds import fold_summary
    from tabular_trainers.models import MODELS
    from tabular_trainers.tuning import is_searched

    plan = evaluation.plan
    analysis, endpoint = plan.analysis, plan.analysis.endpoint
    rows = MODELS[plan.task]
    sizes = fold_summary(plan.folds, analysis.y, analysis.patient_id, analysis.site)
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
            "deaths_censored": description.deaths_are_censored(endpoint),
            "entry": endpoint.has_entry,
            "landmark": endpoint.landmark,
        },
        "n_patients": len(analysis.y),
        "n_events": int(event.sum()),
        "config_hash": config_hash,
        "source_hash": cohort.source_hash,
        "cohort_file": cohort.config_file,
        "data": cohort.data,
        "seed": plan.seed,
        "feature_sets": list(analysis.feature_sets),
        "models": list(plan.models),
        "model_labels": {name: rows[name].label for name in plan.models},
        "risk_scales": {name: rows[name].risk_scale for name in plan.models},
        "contribution_scales": {
            name: rows[name].shap_scale or rows[name].risk_scale for name in plan.models
        },
        "searched": [name for name in plan.models if is_searched(rows[name])],
        "self_tuning": {
            name: rows[name].self_tuning for name in plan.models if rows[name].self_tuning
        },
        "late_fusion": _late_fusion(plan),
        "shap_kinds": {name: rows[name].shap_kind for name in plan.models},
        "baseline": analysis.baseline,
        "full": analysis.full,
        "primary": plan.primary,
        "primary_model": {"feature_set": analysis.full, "model": plan.models[0]},
        "horizons": list(plan.horizons),
        "tau": plan.tau,
        "numbers_at_risk": metrics.numbers_at_risk(analysis.y, plan.horizons) if survival else {},
        "folds_note": plan.fold_note + _shared_sites(sizes),
        "fold_sizes": sizes.to_dict("records"),
        "n_trials": plan.n_trials,
        "tuning_seconds": plan.tuning_seconds,
        "n_resamples": evaluation.n_resamples,
        "sample_size": description.sample_size(
            analysis, plan.models[0], plan.horizons, tables["trials"]
        ),
        "missing_blocks": cohort.missing_blocks,
        "sources": list(cohort.sources),
        "notes": _notes(cohort, plan),
        "follow_up": description.follow_up(analysis.y) if survival else None,
        "entry_dependence": description.entry_dependence(analysis.y),
        "log_rank": _log_rank(evaluation) if survival else [],
        "verdict": verdict(primary.iloc[0]) if len(primary) else None,
        "blocks": {
            name: {
                "n_columns": block.n_columns,
                "reduce": block.reduce,
                "default_components": _default_components(block, rows, plan.models),
                "components_tuned_by": _tuning_components(rows, plan.models),
                "pool": block.pool,
                **encoder_facts(block, cohort.sources),
            }
            for name, block in cohort.blocks.items()
            if any(name in blocks_of(feature_set) for feature_set in analysis.feature_sets)
        },
        "versions": software(),
    }


def _tuning_components(rows, models):
    """List the models that choose, by trials, the components of blocks reduced by default."""
    from tabular_trainers.models import DataFacts
    from tabular_trainers.trial_list import Asked

    facts = DataFacts(n=100, p=10, n_events=50, reduced=True)
    return [name for name in models if "components" in rows[name].space(Asked(), facts)]


def _late_fusion(plan):
    """Say how late fusion was done, or None where no feature set asked for it."""
    from tabular_trainers.models import find_model

    if not any(is_late(name) for name in plan.analysis.feature_sets):
        return None
    row = find_model(plan.models[0], plan.task, late=True)
    return {
        "contribution_scale": row.shap_scale or row.risk_scale,
        "inner_folds": row.build().n_splits,
    }


def _default_components(block, rows, models):
    """Return to how many components models reduce a block that nobody asked to reduce, or None."""
    from tabular_trainers.preprocess import DEFAULT_COMPONENTS

    widest = [rows[name].max_block_columns for name in models]
    n_numeric = block.table.shape[1] - len(block.categorical)
    wide = any(most is not None and n_numeric > most for most in widest)
    return DEFAULT_COMPONENTS if wide and not block.reduce else None


def _shared_sites(sizes):
    """Say where folds do not keep sites apart: a model may then know the hospital."""
    shared = int(sizes["shared_sites"].sum()) if "shared_sites" in sizes else 0
    if not shared:
        return ""
    tested = int(sizes["sites_test"].sum())
    return (
        f". Sites are not kept apart: summed over folds, {shared} of {tested} tested sites also "
        "have patients in the training part, so a model can profit from knowing the hospital"
    )


def _notes(cohort, plan):
    from tabular_trainers.metrics import horizon_note

    notes = [*cohort.notes, *plan.analysis.notes]
    if plan.horizons:
        endpoint = plan.analysis.endpoint
        notes.append(horizon_note(plan.horizons, plan.analysis.y, endpoint.unit, endpoint.horizons))
    return notes


def _log_rank(evaluation):
    """Test the thirds of each model's risk, within folds; descriptive, as the thirds are."""
    from tabular_trainers.description import log_rank, risk_thirds

    analysis, rows = evaluation.plan.analysis, []
    predictions = evaluation.predictions[evaluation.predictions["repeat"] == 0]
    for (feature_set, model), own in predictions.groupby(["feature_set", "model"], sort=False):
        fold = own["fold"].to_numpy()
        group = risk_thirds(own["risk"].to_numpy(), fold)
        if len(set(group)) < 2:
            continue  # a model that gives everybody the same risk has no groups
        y = analysis.y[analysis.patient_id.get_indexer(own["patient_id"])]
        p_value = log_rank(y, group, fold)["p_value"]
        rows.append({"feature_set": feature_set, "model": model, "p_value": p_value})
    return rows


def software():
    """Return the versions of the libraries."""
    found = {}
    for library in LIBRARIES:
        try:
            found[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            continue  # xgboost and xgboost-cpu are two names of one library
    return found
