"""What a report says of saved models measured on other patients: words, captions and tables."""

import pandas as pd

from tabular_trainers import plots_labels as words
from tabular_trainers import (
    report_entry,
    report_measures,
    report_pretraining,
    report_tables,
    report_text,
)
from tabular_trainers.errors import count
from tabular_trainers.report_methods import REFERENCES, citing, interval_methods

HOLDOUT = "holdout/"  # before the names of the final part's tables
COLUMNS_SHOWN = 40  # of a block; the rest stays in column_differences.parquet
LARGE_DIFFERENCE = report_tables.LARGE_DIFFERENCE
FIXED = (
    "Intervals (95%) are for these models on patients like these: the models were not fitted again."
)


def final_part_inputs(tables, run):
    """Return the final part's tables and facts in the shape of a run's, or None without one."""
    if not run.get("holdout"):
        return None
    own = {
        name.removeprefix(HOLDOUT): table
        for name, table in tables.items()
        if name.startswith(HOLDOUT)
    }
    return own, {**run, **run["holdout"]}


def final_part(tables, run):
    """Return the section of the final part: sentences and tables, or None without one."""
    found = final_part_inputs(tables, run)
    if found is None:
        return None
    own, facts = found
    told = [
        f"{facts['note']}. No fold, tuning or fit saw them; at the end the saved primary model "
        "and the baseline were measured on them, once. Everything else in this report is of the "
        "other patients.",
        *report_text.verdict(own, facts)["sentences"],
        FIXED,
        *(f"{note[0].upper()}{note[1:]}." for note in facts["notes"]),
    ]
    shown = measure_tables(own, facts)
    for table in shown:
        table.name = f"final-{table.name}"
        table.caption = f"{table.caption}: the final part"
    return {"sentences": told, "tables": shown}


def final_part_captions():
    """Return what is said under the final part's figures."""
    return {
        "final_part_calibration": "Calibration in the final part, in fifths of the predicted risk.",
        "final_part_risk_thirds": "Thirds of the primary model's risk in the final part.",
    }


def measure_tables(tables, run):
    """Return the horizons, the measures and the paired difference."""
    return [
        table
        for table in (
            report_tables.horizon_table(tables, run),
            *report_measures.metric_tables(tables, run),
            *report_measures.comparison_tables(tables, run),
        )
        if table is not None
    ]


def question(run):
    """Say what was asked of the other cohort."""
    own = run["run"]
    primary = run["primary_model"]
    return (
        f"A model was fitted on {count(own['n_patients'], 'patient')} ({own['title']}): "
        f"{words.pair_words(run, primary['feature_set'], primary['model'])}, named before any "
        f"model was scored. How well does it predict {run['endpoint']['name']} "
        f"({run['endpoint']['description']}) in {words.cohort_phrase(run)} ({run['title']}), none "
        "of whom took part in fitting it?"
    )


def captions(tables, run):
    """Return what is said under each figure of a validation, by the name of the figure."""
    pair = (run["primary_model"]["feature_set"], run["primary_model"]["model"])
    return {
        "patient_flow": "Patients from the tables to the validation. Steps that left out nobody "
        "are not drawn.",
        "follow_up": "Kaplan-Meier estimate of all patients (a) and reverse Kaplan-Meier estimate "
        f"of follow-up (b); bands: 95%.{report_entry.curves_start(tables, run, 'overall')}",
        "discrimination": f"{words.metric_words(words.main_metric(run))} of the saved models. "
        f"Open symbol and dashed line: the baseline.{report_pretraining.caption(run)}",
        "risk_thirds": "Thirds of the primary model's risk, cut at the tertiles of these patients. "
        f"Bands: 95%.{report_entry.curves_start(tables, run, 'thirds', pair)}",
        "calibration": "Each point is a fifth of the patients by predicted risk, with 95% "
        "interval; dashed: perfect calibration. O/E: observed over expected events."
        f"{report_entry.calibration(run)}",
    }


def column_tables(tables):
    """Return the columns of the run's patients beside those of the cohort, one table a block."""
    rows = tables["column_differences"]
    known = rows[rows["status"] != "not known to the model"]
    found = []
    for block in dict.fromkeys(known["block"]):
        own = known[known["block"] == block]
        variables = list(dict.fromkeys(own["variable"]))
        size = own["standardised_difference"].abs()
        large = own.loc[size > LARGE_DIFFERENCE, "variable"].nunique()
        table = report_tables.Table(
            f"columns-{report_tables.slug(block)}",
            f"Columns of the model, {block}: patients of the run beside these",
            ["Column", "Run", "Run: missing", "Here", "Here: missing", "Standardised difference"],
            numbers=True,
        )
        if len(variables) > COLUMNS_SHOWN:
            furthest = size.groupby(own["variable"], sort=False).max().fillna(0)
            variables = list(furthest.nlargest(COLUMNS_SHOWN).index)
            table.notes.append(
                f"The {COLUMNS_SHOWN} columns that differ most of {furthest.size:,}; all are in "
                "column_differences.parquet."
            )
        for variable in variables:
            _add_column(table, own[own["variable"] == variable])
        table.notes.insert(
            0,
            "Mean (standard deviation), or percent of those known. Standardised difference: these "
            "patients minus those of the run, in pooled standard deviations; * above "
            f"{LARGE_DIFFERENCE} in size, in {large} of {own['variable'].nunique():,} columns. "
            f"{words.NO_VALUE}: fewer than 5 patients, or not computable.",
        )
        found.append(table)
    return found


def _add_column(table, rows):
    for position, row in enumerate(rows.itertuples()):
        name = row.variable if pd.isna(row.level) else f"{row.variable}: {row.level}"
        name += " (never seen in the run)" if row.status == "level not seen in the run" else ""
        value = row.standardised_difference
        large = not pd.isna(value) and abs(value) > LARGE_DIFFERENCE
        cells = []
        for side in ("run", "cohort"):
            cells.append(_value(row, side))
            share = getattr(row, f"missing_{side}")
            cells.append("" if position or pd.isna(share) else f"{share:.0%}")
        table.add(name, *cells, words.number(value, 2) + (" *" if large else ""))


def _value(row, side):
    value = getattr(row, f"value_{side}")
    if pd.isna(value):
        return words.NO_VALUE
    if row.kind == "categorical":
        return f"{value:.0%}"
    spread = getattr(row, f"standard_deviation_{side}")
    return f"{value:.3g} ({spread:.2g})".replace("-", words.MINUS)


def column_sentences(tables):
    """Say which columns or levels the model met for the first time, or did not use."""
    rows = tables["column_differences"]
    told = ["Every column of the model is there, of its type; otherwise nothing would be measured."]
    new = rows[rows["status"] == "level not seen in the run"]
    if len(new):
        named = "; ".join(f"{r.block}.{r.variable}: {r.level}" for r in new.head(20).itertuples())
        told.append(
            f"{count(len(new), 'level')} that the model never saw, and treats as none of those it "
            f"knows: {named}{' and others' if len(new) > 20 else ''}."
        )
    extra = rows.loc[rows["status"] == "not known to the model", ["block", "variable"]]
    extra = extra.drop_duplicates()
    if len(extra):
        named = ", ".join(f"{r.block}.{r.variable}" for r in extra.head(20).itertuples())
        told.append(
            f"{count(len(extra), 'column')} not known to the model and not used: {named}"
            f"{' and others' if len(extra) > 20 else ''}."
        )
    return told


def methods(tables, run):
    """Return the methods as paragraphs for a paper, and the references that they cite."""
    own, primary, survival = run["run"], run["primary_model"], words.is_survival(run)
    cite, cited = citing()
    baseline = ""
    if run["baseline"] and run["baseline"] != primary["feature_set"]:
        baseline = (
            f" and, for the paired difference, "
            f"{words.pair_words(run, run['baseline'], primary['model'])}"
        )
    paragraphs = [
        f"We measured {words.pair_words(run, primary['feature_set'], primary['model'])}{baseline}, "
        f"fitted on {count(own['n_patients'], 'patient')} with {own['n_events']:,} "
        f"{'events' if survival else 'positive'} ({own['title']}; endpoint "
        f"{own['endpoint']['name']}; time zero {own['time_zero']}), on {words.cohort_phrase(run)} "
        f"({run['title']}; time zero {run['time_zero']}). No id of a patient is in both. Nothing "
        "was fitted, chosen or updated here; missing values were filled in and columns "
        "scaled as learnt from the patients of the run."
    ]
    if survival:
        unit = run["endpoint"].get("unit")
        horizons = ", ".join(words.horizon_words(h, unit) for h in run["horizons"]) or "no horizon"
        tau = words.horizon_words(run["tau"], unit) if run["tau"] else "the last event"
        paragraphs.append(
            f"Discrimination: Harrell's C {cite('harrell')}, Uno's C up to tau = {tau} "
            f"{cite('uno_c')} and the cumulative/dynamic AUC at {horizons} {cite('uno_auc')}. "
            "Error: Brier score at the horizons and its integral up to tau, weighted by the "
            f"Kaplan-Meier estimate of censoring of these patients {cite('graf')}. Calibration "
            f"{cite('calibration')}: observed over expected risk and the slope at the horizons; "
            "in the large, the intercept of a Poisson model of the events up to tau with the log "
            f"of each patient's predicted cumulative hazard as offset {cite('crowson')}."
            f"{report_entry.methods(run)}"
        )
    else:
        paragraphs.append(
            f"Discrimination: AUROC {cite('auroc')} and AUPRC {cite('auprc')}. Error: Brier "
            f"score {cite('brier')} and log loss. Calibration {cite('calibration')}: observed "
            "over expected, the slope, and in the large the intercept of a logistic model with "
            f"the logit of the prediction as offset (compare {cite('crowson')})."
        )
    paragraphs.append(
        f"{FIXED} Method: {interval_methods(tables['metrics'], cite)}. Software: tabular-trainers "
        f"{run['package_version']}. What else a paper should report: TRIPOD+AI {cite('tripod')}."
    )
    return paragraphs, [REFERENCES[key] for key in cited]
