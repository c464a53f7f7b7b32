"""Tables of the report with measures and their paired differences."""

import pandas as pd

from tabular_trainers import plots_labels as words
from tabular_trainers import report_entry, report_pretraining
from tabular_trainers.comparison import CORRECTED_T
from tabular_trainers.report_pretraining import mark
from tabular_trainers.report_tables import Table, pairs_of

SHORT = {
    "observed_expected": "O/E",
    "calibration_slope": "Slope",
    "calibration_in_the_large": "In the large",
    "integrated_calibration_index": "ICI",
    "integrated_brier": "Integrated Brier",
}
CALIBRATION = ("observed_expected", "calibration_in_the_large", "calibration_slope")
IN_THE_LARGE = (
    "In the large: shift of the log cumulative hazard over each patient's follow-up up to that "
    "time (classification: of the logit) that makes predictions right on average; 0 is right, "
    "above 0 more events than predicted."
)
NO_INTERVAL = (
    f"({words.NO_VALUE}): no interval, because the measure could not be computed in enough "
    f"resamples of these patients; {words.NO_VALUE} alone: not computable at all."
)


def metric_tables(tables, run):
    """Return all measures of every feature set and model: discrimination, error, calibration."""
    rows = tables["metrics"]
    rows = rows[rows["repeat"].isna() & rows["fold"].isna()]
    groups = (
        ("discrimination", "Discrimination", ("harrell_c", "uno_c", "auc", "auroc", "auprc")),
        (
            "error",
            "Error of the predicted probabilities",
            ("integrated_brier", "brier", "log_loss"),
        ),
        ("calibration-table", "Calibration", CALIBRATION),
        (
            "calibration-index",
            "Integrated calibration index (ICI)",
            ("integrated_calibration_index",),
        ),
    )
    named = {metric for _, _, metrics in groups for metric in metrics}
    others = tuple(m for m in dict.fromkeys(rows["metric"]) if m not in named)
    notes = {
        "discrimination": "0.5 is chance (AUPRC: the share of positives), 1 is perfect.",
        "error": "Brier score, at horizons and integrated up to tau, or log loss. Lower is better; "
        "0 is perfect.",
        "calibration-table": "O/E, observed over expected: 1 is right, above 1 more events than "
        "predicted. "
        "Slope: 1 is right, below 1 predictions are too extreme.",
        "calibration-index": "Mean distance of a smooth calibration curve from the predicted "
        "probability. 0 is perfect, and chance alone leaves it above 0; resampling adds to it, so "
        "a small index can lie below its interval. "
        + (
            "Left empty under 50 events by the horizon, where only O/E and thirds are shown."
            if words.is_survival(run)
            else "Left empty with fewer than 50 patients in the rarer class."
        ),
        "other-metrics": "Further measures.",
    }
    found = []
    for name, caption, metrics in (*groups, ("other-metrics", "Further measures", others)):
        table = _metric_table(rows, run, name, caption, metrics)
        if table is not None:
            table.notes.insert(0, f"Estimate (95% interval). {notes[name]}")
            if name == "calibration-table" and "calibration_in_the_large" in set(rows["metric"]):
                table.notes.append(IN_THE_LARGE)
            found.append(table)
    return found


def _metric_table(rows, run, name, caption, metrics):
    rows = rows[rows["metric"].isin(metrics)]
    if rows.empty:
        return None
    unit = run["endpoint"].get("unit")
    keys = []
    for metric in metrics:
        own = rows[rows["metric"] == metric]
        horizons = sorted(own["horizon"].dropna().unique())
        keys += [(metric, None)] if own["horizon"].isna().any() else []
        keys += [(metric, horizon) for horizon in horizons]
    heads = [
        SHORT.get(m, words.metric_words(m))
        + (f", {words.time_words(h, unit)}" if h is not None else "")
        for m, h in keys
    ]
    table = Table(
        name,
        f"{caption} of every feature set and model",
        ["Feature set, model", *heads],
        numbers=True,
    )
    values = {
        (r.feature_set, r.model, r.metric, None if pd.isna(r.horizon) else r.horizon): r
        for r in rows.itertuples()
    }
    primary = run.get("primary") or {}
    single = rows["model"].nunique() == 1
    if single:
        model = words.model_words(run, rows["model"].iloc[0])
        table.caption, table.columns[0] = f"{caption} of every feature set, {model}", "Feature set"
    for feature_set, models in pairs_of(rows, run).items():
        baseline = " (baseline)" if feature_set == run.get("baseline") else ""
        heading = f"{words.feature_set_words(feature_set)}{baseline}{mark(run, feature_set)}"
        if not single:
            table.group(heading)
        for model in models:
            cells = []
            for metric, horizon in keys:
                r = values.get((feature_set, model, metric, horizon))
                decimals = words.DECIMALS.get(metric, 3)
                cells.append(
                    words.NO_VALUE
                    if r is None
                    else words.interval(r.estimate, r.lower, r.upper, decimals)
                )
            strong = (feature_set, model) == (primary.get("feature_set"), primary.get("model"))
            label = heading if single else words.model_words(run, model)
            label += " (primary)" if strong else ""
            table.add(label, *cells, strong=strong)
    table.notes += report_pretraining.notes(run, pairs_of(rows, run))
    if any(words.NO_VALUE in cell for row in table.rows for cell in row.get("cells", ())[1:]):
        table.notes.append(NO_INTERVAL)
    if run["endpoint"].get("entry"):
        table.notes += report_entry.landmark_notes(rows, run)
    return table


def comparison_tables(tables, run):
    """Return the paired differences: of the measure of the verdict, then of the others."""
    rows = tables.get("comparisons")
    if rows is None or rows.empty:
        return []
    main = words.main_metric(run)
    over_folds = rows["method"] == CORRECTED_T
    found = []
    for metric in sorted(dict.fromkeys(rows["metric"]), key=lambda name: name != main):
        own = rows["metric"] == metric
        found.append(_comparison_table(rows[own & ~over_folds], run, metric))
        if (own & over_folds).any():
            found.append(_fold_comparison_table(rows[own & over_folds], run, metric))
    return found


def _comparison_table(rows, run, metric):
    name = words.metric_words(metric)
    table = Table(
        f"differences-{metric.replace('_', '-')}",
        f"Differences in {name}",
        ["Compared", "Against", f"Difference in {name}", "p", "p, Holm"],
        numbers=True,
    )
    for r in rows.sort_values("primary", ascending=False, kind="stable").itertuples():
        table.add(
            _pair(run, r.feature_set, r.model) + (" (primary)" if r.primary else ""),
            _pair(run, r.baseline_feature_set, r.baseline_model),
            words.interval(r.difference, r.lower, r.upper, sign=True),
            words.p_value(r.p_value),
            "not adjusted" if r.primary else words.p_value(r.p_value_holm),
            strong=bool(r.primary),
        )
    table.notes.append(f"Difference (95% interval). {_better(metric)}")
    table.notes += _notes(rows, run)
    return table


def _fold_comparison_table(rows, run, metric):
    name = words.metric_words(metric)
    table = Table(
        f"differences-{metric.replace('_', '-')}-folds",
        f"Differences in {name}, fold by fold",
        ["Compared", "Against", f"Mean difference in {name}", "p"],
        numbers=True,
    )
    for r in rows.itertuples():
        table.add(
            _pair(run, r.feature_set, r.model),
            _pair(run, r.baseline_feature_set, r.baseline_model),
            words.interval(r.difference, r.lower, r.upper, sign=True),
            words.p_value(r.p_value),
        )
    table.notes.append(
        f"Mean over the folds of all repeats (95% interval). {_better(metric)} Corrected resampled "
        "t, which allows for training parts that share patients; p values are not adjusted, and "
        "the verdict does not rest on them."
    )
    table.notes += _notes(rows, run)
    return table


def _pair(run, feature_set, model):
    return words.pair_words(run, feature_set, model) + mark(run, feature_set)


def _notes(rows, run):
    return report_pretraining.notes(run, {*rows["feature_set"], *rows["baseline_feature_set"]})


def _better(metric):
    better = "Below 0" if metric in words.LOWER_IS_BETTER else "Above 0"
    return f"{better}: better than the baseline."
