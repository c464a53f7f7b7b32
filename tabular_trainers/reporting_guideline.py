"""The TRIPOD+AI checklist of a run: what it knows is filled in, the rest is left for the author."""

import re

import pandas as pd

from tabular_trainers import plots_labels as words
from tabular_trainers import report_methods, report_text
from tabular_trainers.errors import count
from tabular_trainers.report_clusters import n_clusters
from tabular_trainers.reporting_items import ITEMS

FILLED, PARTLY, AUTHOR = "filled", "partly filled", "for the author"


def checklist(tables, run):
    """Fill the TRIPOD+AI checklist from the tables and run.json of a run.

    An item is "filled" only where the run knows all that it asks for, "partly filled" where the
    author has to add to the text, and "for the author" where the run knows nothing.

    Parameters
    ----------
    tables : dict of str to DataFrame
    run : dict
        Content of run.json.

    Returns
    -------
    DataFrame
        Schema ``tripod_ai``: the 52 numbered parts of the 27 items.

    References
    ----------
    Collins et al., BMJ 2024;385:e078378.
    """
    known = _methods(tables, run) | _results(tables, run)
    rows = [(*item, *known.get(item.item, (AUTHOR, ""))) for item in ITEMS]
    columns = ["item", "section", "topic", "description", "status", "text"]
    return pd.DataFrame(rows, columns=columns).astype("string")


def _methods(tables, run):
    endpoint = run["endpoint"]
    paragraphs, _ = report_methods.methods(tables, run)
    data, folds, models, measures, uncertainty, *_ = map(_without_citations, paragraphs)
    unit = endpoint.get("unit")
    horizons = ", ".join(words.horizon_words(h, unit) for h in run.get("horizons") or [])
    sets = "; ".join(words.feature_set_words(name) for name in run["feature_sets"])
    blocks = "; ".join(
        f"{name}: {count(block['n_columns'], 'column')}"
        for name, block in (run.get("blocks") or {}).items()
    )
    scales = "; ".join(
        f"{words.model_words(run, name)}: {scale}"
        for name, scale in (run.get("risk_scales") or {}).items()
    )
    output = f"A risk for each patient, higher is worse ({scales}). "
    if words.is_survival(run):
        output += f"Survival probabilities at {horizons}. "
    found = {
        "1": (
            PARTLY,
            "Development with internal validation (cross-validation) of models of "
            f"{endpoint['name']}; data: {run['title']}.",
        ),
        "4": (PARTLY, f"Development with internal validation. {report_text.question(run)}"),
        "5a": (PARTLY, f"Data: {run['title']}."),
        "7": (
            PARTLY,
            "Imputation, encoding, scaling and reduction of columns were learned in the training "
            "part of each fold. Not looked at: whether data quality is alike in all groups.",
        ),
        "8a": (
            PARTLY,
            f"{endpoint['name']} ({endpoint['description']}); time zero: {run['time_zero']}"
            + (f"; horizons: {horizons}." if horizons else "."),
        ),
        "9a": (
            PARTLY,
            f"The columns named in cohort.toml, in feature sets settled before the run: {sets}. "
            "The outcome had no part in choosing columns before modelling.",
        ),
        "9b": (PARTLY, f"Blocks of columns: {blocks}. Definitions are not known to the run."),
        "11": (
            PARTLY,
            f"{data} Missing numbers became the median of the training part (in blocks that are "
            "reduced the mean), with an indicator column where enough patients lack the value; "
            "models that split on missing values saw them as missing. A missing category is a "
            "level of its own. Why values are missing is not known to the run.",
        ),
        "12a": (FILLED, folds),
        "12b": (
            FILLED,
            "Numbers enter as they are, standardised for linear models; categories as one column a "
            "level; wide blocks as principal components of their standardised columns"
            + ("; patches of slides as shares in clusters" if n_clusters(run) else "")
            + ". Linear models are linear in these columns; trees find thresholds and "
            "interactions.",
        ),
        "12c": (PARTLY, f"{models} Why these models is for the author to say."),
        "12e": (FILLED, f"{measures} {uncertainty}"),
        "12f": (FILLED, "None: no model was updated or recalibrated after its evaluation."),
        "12g": (
            FILLED,
            "By the fitted pipelines in models/ (skops files), with the command "
            "tabular-trainers predict.",
        ),
        "13": (
            FILLED,
            "None: patients were neither resampled nor reweighted by their outcome.",
        ),
        "15": (
            FILLED,
            f"{output}No threshold was chosen; decision_curve.parquet has the net benefit over a "
            "range of thresholds, where it is defined.",
        ),
        "16": (
            FILLED,
            "None by design: development and evaluation patients are of the same cohort, parted by "
            f"folds ({run.get('folds_note', 'cross-validation')}).",
        ),
        "18f": (
            PARTLY,
            f"tabular-trainers {run.get('package_version', '')}; configuration "
            f"{str(run.get('config_hash', ''))[:12]}, seed {run.get('seed')}.",
        ),
    }
    if "flow" in tables:
        steps = "; ".join(
            f"{row.description}: {row.n_dropped:,} left out"
            for row in tables["flow"].itertuples()
            if row.n_dropped
        )
        found["6b"] = (PARTLY, f"Left out of the tables given: {steps or 'nobody'}.")
    sizes = run.get("sample_size")
    if sizes:
        found["10"] = (PARTLY, report_text.sample_size(run))
    if _has_sites(run):
        found["12d"] = (
            PARTLY,
            "Probes of a hospital effect (probes.parquet); measures of each fold in "
            "metrics.parquet.",
        )
    return found


def _results(tables, run):
    sizes = run.get("fold_sizes") or []
    follow_up = report_methods.follow_up(run) if words.is_survival(run) else ""
    found = {
        "20a": (
            FILLED,
            f"{words.cohort_phrase(run)[:1].upper()}{words.cohort_phrase(run)[1:]}; steps in "
            f"flow.parquet and in the figure of the flow of patients. {follow_up}".strip(),
        ),
        "20c": (FILLED, "The same patients (cross-validation); see 16."),
        "22": (
            PARTLY,
            "The models fitted on all patients, with all coefficients or trees, are in models/ "
            "(skops files). Who may have them is for the author to say.",
        ),
        "24": (FILLED, "None; see 12f."),
        "26": (PARTLY, " ".join(_limits(run))),
        "27a": (
            PARTLY,
            "tabular-trainers predict refuses a table that lacks a column of the model and names "
            "it; a missing value is handled as in training.",
        ),
    }
    if "table_one" in tables and len(tables["table_one"]):
        found["20b"] = (
            PARTLY,
            "Characteristics with missing values, analysed against dropped patients, are in "
            "table_one.parquet and in the table of characteristics.",
        )
    if sizes:

        def between(key):
            values = [int(row[key]) for row in sizes]
            low, high = min(values), max(values)
            return f"{low:,}" if low == high else f"{low:,} to {high:,}"

        events = "events" if words.is_survival(run) else "positive"
        found["21"] = (
            FILLED,
            f"Training parts: {between('n_train')} patients ({between('events_train')} {events}); "
            f"test parts: {between('n_test')} ({between('events_test')}), each tuned within the "
            f"training part. Final models: all {words.cohort_phrase(run)}.",
        )
    verdict = report_text.verdict(tables, run)
    subgroups = "subgroups" in tables and len(tables["subgroups"])
    told = " ".join(sentence for sentence in verdict["sentences"] if sentence)
    found["23a"] = (
        FILLED if subgroups else PARTLY,
        f"{told} All measures with intervals are in metrics.parquet"
        + (", subgroups in subgroups.parquet." if subgroups else "; none of subgroups."),
    )
    if _has_sites(run):
        found["23b"] = (PARTLY, "Probes of a hospital effect are in probes.parquet.")
    return found


def _limits(run):
    yield "No external validation in this run."
    yield report_methods.INTERVALS
    if run["endpoint"].get("deaths_censored"):
        yield report_text.DEATHS_CENSORED
    if run.get("sample_size"):
        yield "Sample size: see 10."


def _has_sites(run):
    return any(not words.is_missing(row.get("sites_test")) for row in run.get("fold_sizes") or [])


def _without_citations(text):
    return re.sub(r" ?\[[\d,]+\]", "", text)
