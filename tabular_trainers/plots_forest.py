"""Forest plots: every feature set and model with its interval, and the paired differences."""

from tabular_trainers import plots_labels as words
from tabular_trainers.comparison import CORRECTED_T
from tabular_trainers.plots_intervals import draw_intervals, line_of
from tabular_trainers.plots_style import empty_drawing, model_looks, styled


def overall(table, **where):
    """Return the rows of `metrics` for all folds together, further restricted by `where`."""
    rows = table[table["repeat"].isna() & table["fold"].isna()]
    for column, value in where.items():
        rows = rows[rows[column] == value]
    return rows


@styled
def discrimination(tables, run, metric=None):
    """Draw a measure of every feature set and model with its 95% interval, as a forest plot.

    Parameters
    ----------
    tables : dict of str to DataFrame
        Tables of a run; here `metrics`.
    run : dict
        Content of run.json.
    metric : str, optional
        Measure without horizon; default: that of the verdict.

    Returns
    -------
    Drawing
        A matplotlib Figure.
    """
    metric = metric or words.main_metric(run)
    name = words.metric_words(metric)
    title = f"{name} of every feature set and model"
    rows = overall(tables["metrics"], metric=metric)
    rows = rows[rows["horizon"].isna()]
    if rows.empty:
        return empty_drawing("discrimination", title, run, f"This run has no {name}.")
    looks = model_looks(run["models"])
    single = rows["model"].nunique() == 1
    if single:
        title = f"{name} of every feature set: {words.model_words(run, rows['model'].iloc[0])}"
    lines, told = [], []
    for feature_set in _ordered(rows["feature_set"], run["feature_sets"]):
        is_baseline = feature_set == run.get("baseline")
        words_set = words.feature_set_words(feature_set)
        header = words_set + (" (baseline)" if is_baseline else "")
        if not single:
            lines.append({"header": header})
        own = rows[rows["feature_set"] == feature_set].set_index("model")
        for model in _ordered(own.index, [*run["models"], "selected"]):
            row = own.loc[model]
            text = words.interval(row["estimate"], row["lower"], row["upper"])
            label = words.model_words(run, model)
            shown = header if single else label
            lines.append(line_of(row, "estimate", shown, (text,), looks[model], hollow=is_baseline))
            told.append(f"{words_set}, {label}: {text}")
    reference = _baseline_value(rows, run)
    drawing = draw_intervals(
        "discrimination",
        title,
        run,
        lines,
        ("95% interval",),
        f"{name} (higher is better)",
        reference,
    )
    drawing.description = f"{name} with 95% interval. {'; '.join(told)}." + (
        "" if reference is None else " The dashed line is the baseline's estimate."
    )
    return drawing


@styled
def differences(tables, run, metric=None):
    """Draw the paired differences to the baseline with their 95% intervals, the primary one first.

    Parameters
    ----------
    tables : dict of str to DataFrame
        Tables of a run; here `comparisons`.
    run : dict
        Content of run.json.
    metric : str, optional
        Measure; default: that of the verdict.

    Returns
    -------
    Drawing
        A matplotlib Figure.
    """
    metric = metric or words.main_metric(run)
    name = words.metric_words(metric)
    title = f"Paired differences in {name}"
    rows = tables["comparisons"]
    rows = rows[(rows["metric"] == metric) & (rows["method"] != CORRECTED_T)]
    if rows.empty:
        return empty_drawing("differences", title, run, "This run has no comparison to draw.")
    looks = model_looks(run["models"])
    primary = rows[rows["primary"].astype(bool)]
    against = (
        f"against {words.feature_set_words(run['baseline'])}" if run.get("baseline") else "paired"
    )
    lines, told = [], []
    if len(primary):
        first = primary.iloc[0]
        same = first["model"] == first["baseline_model"]
        model = f": {words.model_words(run, first['model'])}" if same else ""
        lines.append({"header": f"Primary, named before the run, {against}{model}"})
        for _, row in primary.iterrows():
            label = _comparison_words(row, run, run.get("baseline"))
            text = words.interval(row["difference"], row["lower"], row["upper"], sign=True)
            p = words.p_value(row["p_value"])
            lines.append(
                line_of(row, "difference", label, (text, p), looks[row["model"]], strong=True)
            )
            told.append(f"primary: {_comparison_words(row, run)}: {text}, p {p}")
    others = rows[~rows["primary"].astype(bool)]
    for model in _ordered(others["model"], [*run["models"], "selected"]):
        lines.append({"header": f"Exploratory, {against}: {words.model_words(run, model)}"})
        for _, row in others[others["model"] == model].iterrows():
            label = _comparison_words(row, run, run.get("baseline"))
            text = words.interval(row["difference"], row["lower"], row["upper"], sign=True)
            p = words.p_value(row["p_value_holm"])
            lines.append(line_of(row, "difference", label, (text, p), looks[model]))
            told.append(f"{_comparison_words(row, run)}: {text}, Holm p {p}")
    better = "below" if metric in words.LOWER_IS_BETTER else "above"
    drawing = draw_intervals(
        "differences",
        title,
        run,
        lines,
        ("95% interval", "p"),
        f"Difference in {name} ({better} 0: better than the baseline)",
        0.0,
        solid_reference=True,
    )
    drawing.description = f"Difference in {name} with 95% interval. {'; '.join(told)}."
    return drawing


def _ordered(present, known):
    """Order names as in the run; those it does not list come last."""
    present = list(dict.fromkeys(present))
    return [n for n in known if n in present] + [n for n in present if n not in known]


def _baseline_value(rows, run):
    """Return the estimate that the dashed line marks: the primary comparison's baseline."""
    primary = run.get("primary") or {}
    feature_set = primary.get("baseline_feature_set") or run.get("baseline")
    own = rows[rows["feature_set"] == feature_set]
    named = own[own["model"] == primary.get("baseline_model")]
    own = named if len(named) else own
    return float(own["estimate"].iloc[0]) if len(own) else None


def _comparison_words(row, run, header=None):
    """Name what is compared; `header` is the baseline that the row's header names already."""
    sets = [words.feature_set_words(row[k]) for k in ("feature_set", "baseline_feature_set")]
    if row["model"] == row["baseline_model"]:
        if header is not None:
            return (
                sets[0] if row["baseline_feature_set"] == header else f"{sets[0]} against {sets[1]}"
            )
        return f"{sets[0]} against {sets[1]}, {words.model_words(run, row['model'])}"
    models = [words.model_words(run, row[k]) for k in ("model", "baseline_model")]
    if row["feature_set"] == row["baseline_feature_set"]:
        return f"{sets[0]}: {models[0]} against {models[1]}"
    return f"{sets[0]}, {models[0]}, against {sets[1]}, {models[1]}"
