"""Forest plots: every feature set and model with its interval, and the paired differences."""

import numpy as np

from tabular_trainers import plots_labels as words
from tabular_trainers.plots_style import (
    FAINT,
    INK,
    MUTED,
    RULE,
    WIDTH,
    axes_at,
    empty_drawing,
    model_looks,
    new_drawing,
    short,
    styled,
    text_width,
    wrapped,
)

ROW = 0.215  # inches a row
LABELS_AT_MOST = 3.35


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
        return empty_drawing(f"discrimination_{metric}", title, run, f"This run has no {name}.")
    looks = model_looks(run["models"])
    lines, told = [], []
    for feature_set in _ordered(rows["feature_set"], run["feature_sets"]):
        is_baseline = feature_set == run.get("baseline")
        words_set = words.feature_set_words(feature_set)
        lines.append({"header": words_set + (" (baseline)" if is_baseline else "")})
        own = rows[rows["feature_set"] == feature_set].set_index("model")
        for model in _ordered(own.index, [*run["models"], "selected"]):
            row = own.loc[model]
            text = words.interval(row["estimate"], row["lower"], row["upper"])
            label = words.model_words(run, model)
            lines.append(_line(row, "estimate", label, (text,), looks[model], hollow=is_baseline))
            told.append(f"{words_set}, {label}: {text}")
    reference = _baseline_value(rows, run)
    drawing = _forest(
        f"discrimination_{metric}",
        title,
        run,
        lines,
        ("95% interval",),
        f"{name} (higher is better)",
        reference,
    )
    drawing.description = (
        f"{name} with 95% interval. {'; '.join(told)}. The dashed line is the baseline's estimate."
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
    rows = rows[rows["metric"] == metric]
    if rows.empty:
        return empty_drawing(
            f"differences_{metric}", title, run, "This run has no comparison to draw."
        )
    looks = model_looks(run["models"])
    primary = rows[rows["primary"].astype(bool)]
    lines, told = [], []
    if len(primary):
        lines.append({"header": "Primary, named before the run"})
        for _, row in primary.iterrows():
            label = _comparison_words(row, run)
            text = words.interval(row["difference"], row["lower"], row["upper"], sign=True)
            p = words.p_value(row["p_value"])
            lines.append(
                _line(row, "difference", label, (text, p), looks[row["model"]], strong=True)
            )
            told.append(f"primary: {label}: {text}, p {p}")
    others = rows[~rows["primary"].astype(bool)]
    for model in _ordered(others["model"], [*run["models"], "selected"]):
        against = (
            f" against {words.feature_set_words(run['baseline'])}" if run.get("baseline") else ""
        )
        lines.append({"header": f"Exploratory{against}: {words.model_words(run, model)}"})
        for _, row in others[others["model"] == model].iterrows():
            label = _comparison_words(row, run, run.get("baseline"))
            text = words.interval(row["difference"], row["lower"], row["upper"], sign=True)
            p = words.p_value(row["p_value_holm"])
            lines.append(_line(row, "difference", label, (text, p), looks[model]))
            told.append(f"{_comparison_words(row, run)}: {text}, Holm p {p}")
    better = "below" if metric in words.LOWER_IS_BETTER else "above"
    drawing = _forest(
        f"differences_{metric}",
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


def _line(row, column, label, texts, look, hollow=False, strong=False):
    values = [
        float(row[c]) if not words.is_missing(row[c]) else np.nan
        for c in (column, "lower", "upper")
    ]
    return {
        "label": label,
        "values": values,
        "texts": texts,
        "look": look,
        "hollow": hollow,
        "strong": strong,
    }


def _forest(name, title, run, lines, columns, xlabel, reference, solid_reference=False):
    """Place labels, intervals and texts in columns; one row a line, headers in bold."""
    widest = max(
        text_width(line["label"], 9, "bold" if line["strong"] else "normal") + 0.16
        for line in lines
        if "label" in line
    )
    left = min(widest + 0.3, LABELS_AT_MOST)
    rows = _broken(lines, left - 0.3)
    text_widths = [
        max(
            text_width(column, 8.5, "bold"),
            *(text_width(row["texts"][i], 8.5) for row in rows if row.get("texts")),
        )
        for i, column in enumerate(columns)
    ]
    right = sum(text_widths) + 0.16 * (len(columns) + 1)
    height = ROW * (len(rows) + 1)
    xlabel = wrapped(xlabel, WIDTH - left - right + 1.4, 9)
    bottom = 0.4 + 0.15 * len(xlabel)
    drawing = new_drawing(name, title, run, height + bottom)
    ax = axes_at(drawing, left, bottom, WIDTH - left - right, height)
    ax.set_ylim(len(rows) - 0.5, -1.5)
    _draw_intervals(ax, rows, reference, solid_reference)
    ax.locator_params(axis="x", nbins=max(3, int((WIDTH - left - right) / 0.55)))
    ax.set_yticks([])
    ax.spines["left"].set_visible(False)
    ax.set_xlabel("\n".join(xlabel))
    place = ax.get_yaxis_transform()
    unit = 1 / (WIDTH - left - right)  # axes widths in an inch
    for y, row in enumerate(rows):
        if "header" in row:
            ax.text(
                -(left - 0.1) * unit,
                y,
                row["header"],
                transform=place,
                va="center",
                weight="bold",
                bbox={"fc": "white", "ec": "none", "pad": 1.5},
            )
            continue
        weight = "bold" if row["strong"] else "normal"
        ax.text(-(left - 0.24) * unit, y, row["label"], transform=place, va="center", weight=weight)
    start = 1 + 0.16 * unit
    for i, column in enumerate(columns):
        ax.text(start, -1, column, transform=place, va="center", size=8.5, weight="bold")
        for y, row in enumerate(rows):
            if row.get("texts"):
                ax.text(start, y, row["texts"][i], transform=place, va="center", size=8.5)
        start += (text_widths[i] + 0.16) * unit
    for y, row in enumerate(rows):
        if row.get("rule") and y:
            ax.plot(
                [-(left - 0.1) * unit, 1 + (right - 0.1) * unit],
                [y - 0.5, y - 0.5],
                color=RULE,
                lw=0.6,
                transform=place,
                clip_on=False,
            )
    return drawing


def _broken(lines, inches):
    """Break long labels: what is left after the first piece becomes rows below it."""
    rows = []
    for line in lines:
        if "header" in line:
            pieces = wrapped(line["header"], WIDTH - 2.6, 9, "bold")
            rows += [{"header": piece, "rule": not i} for i, piece in enumerate(pieces)]
            continue
        weight = "bold" if line["strong"] else "normal"
        pieces = wrapped(line["label"], inches - 0.14, 9, weight)
        pieces = [short(piece, inches - 0.14, 9, weight) for piece in pieces]
        rows.append({**line, "label": pieces[0]})
        blank = {"values": [np.nan] * 3, "texts": None, "look": line["look"], "hollow": False}
        rows += [{**blank, "label": piece, "strong": line["strong"]} for piece in pieces[1:]]
    return rows


def _draw_intervals(ax, rows, reference, solid_reference):
    drawn = [v for row in rows if "values" in row for v in row["values"] if np.isfinite(v)]
    ends = [*drawn, *([] if reference is None else [reference])]
    if ends:
        pad = max(max(ends) - min(ends), 0.02) * 0.06
        ax.set_xlim(min(ends) - pad, max(ends) + pad)
    ax.grid(axis="x", color=RULE, lw=0.5, alpha=0.7)
    ax.set_axisbelow(True)
    if reference is not None:
        ax.axvline(
            reference,
            color=INK if solid_reference else MUTED,
            lw=0.9,
            ls="-" if solid_reference else (0, (4, 3)),
            ymax=1 - 1 / (len(rows) + 1),
        )
    for y, row in enumerate(rows):
        if "values" not in row or not np.isfinite(row["values"][0]):
            continue
        estimate, lower, upper = row["values"]
        colour, marker = row["look"]
        if np.isfinite(lower) and np.isfinite(upper):
            ax.plot([lower, upper], [y, y], color=colour, lw=2.2 if row["strong"] else 1.5)
        size = (9 if marker == "*" else 6) + (1.5 if row["strong"] else 0)
        face = "white" if row["hollow"] else colour
        ax.plot(estimate, y, marker, ms=size, mfc=face, mec=colour, mew=1.2)
    ax.tick_params(axis="x", length=3, color=FAINT)
