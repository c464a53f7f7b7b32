"""Kaplan-Meier curves with their numbers at risk: overall, follow-up and thirds of the risk."""

import math

import numpy as np

from tabular_trainers import plots_labels as words
from tabular_trainers.plots_grid import panel_grid
from tabular_trainers.plots_style import (
    FAINT,
    GROUPS,
    INK,
    RULE,
    WIDTH,
    axes_at,
    empty_drawing,
    new_drawing,
    styled,
    wrapped,
)

POINTS = 400  # a step curve needs no more to look the same at this size
RISK_ROW = 0.19  # inches a row of the numbers at risk
THIRDS = ("low", "middle", "high")


@styled
def follow_up(tables, run):
    """Draw survival of all patients, and follow-up by the reverse Kaplan-Meier estimate.

    Parameters
    ----------
    tables : dict of str to DataFrame
        Tables of a run; here `kaplan_meier`.
    run : dict
        Content of run.json.

    Returns
    -------
    Drawing
        A matplotlib Figure.
    """
    title = "Survival and follow-up of all patients"
    curves = tables["kaplan_meier"]
    panels = [curves[curves["curve"] == name] for name in ("overall", "reverse")]
    if not all(len(panel) for panel in panels):
        return empty_drawing(
            "follow_up", title, run, "This run has no Kaplan-Meier curve of all patients."
        )
    unit = run["endpoint"].get("unit")
    given = [
        words.given_alive(words.curve_start(panel), run, doing)
        for panel, doing in zip(panels, ("alive", "still followed"), strict=True)
    ]
    drawing = new_drawing("follow_up", title, run, 3.25 + (0.15 if any(given) else 0.0))
    divisor, shown = words.time_axis(unit, curves["time"].max())
    headings = [
        f"{told},\n    {condition}" if condition else told
        for told, condition in zip(
            ("a  Probability of no event", "b  Probability of still being followed"),
            given,
            strict=True,
        )
    ]
    width = (WIDTH - 1.55) / 2
    for position, (panel, heading) in enumerate(zip(panels, headings, strict=True)):
        left = 0.75 + position * (width + 0.65)
        ax = axes_at(drawing, left, 1.0, width, 1.95)
        _curve(ax, panel, divisor, "all")
        _finish(ax, run, shown, panel["time"].max() / divisor, room=width + 0.2)
        ax.set_title(heading, loc="left", x=-0.13)
        ax.set_ylabel("Probability" if position == 0 else "")
        _numbers_at_risk(drawing, ax, {"": panel}, divisor, left, 0.12)
    median = run.get("follow_up") or {}
    told = words.interval(median.get("median"), median.get("lower"), median.get("upper"), 0)
    drawing.description = (
        f"Two Kaplan-Meier curves with 95% bands. {_curve_words(panels[0], run, 'Survival')} "
        f"Median follow-up, reverse Kaplan-Meier: {told} {unit or 'time units'}."
    )
    return drawing


@styled
def risk_thirds(tables, run, feature_set=None, model=None):
    """Draw Kaplan-Meier curves of thirds of the risk, with numbers at risk.

    Thirds are formed within each test fold: risks of different folds are not comparable.

    Parameters
    ----------
    tables : dict of str to DataFrame
        Tables of a run; here `kaplan_meier`.
    run : dict
        Content of run.json.
    feature_set, model : str, optional
        Which risk; default: the primary model.

    Returns
    -------
    Drawing
        A matplotlib Figure.
    """
    chosen = run.get("primary_model") or {}
    feature_set, model = feature_set or chosen.get("feature_set"), model or chosen.get("model")
    title = f"Thirds of the risk: {words.pair_words(run, feature_set, model)}"
    groups = _groups(tables["kaplan_meier"], feature_set, model)
    if not groups:
        return empty_drawing("risk_thirds", title, run, "This run has no curves of this model.")
    divisor, shown = words.time_axis(run["endpoint"].get("unit"), _last(groups))
    given = words.given_alive(min(words.curve_start(rows) for rows in groups.values()), run)
    body = 3.95 + RISK_ROW * len(groups)
    drawing = new_drawing("risk_thirds", title, run, body)
    left = 0.95
    bottom = 0.62 + RISK_ROW * (len(groups) + 1)
    # The key stands above the curves: there is no corner that no curve ever crosses.
    ax = axes_at(drawing, left, bottom, WIDTH - left - 0.35, body - bottom - 0.35)
    for group, rows in groups.items():
        # under late entry the number at risk is never that of all patients
        most = f"{int(rows['n_at_risk'].max()):,} {'at risk at most' if given else 'patients'}"
        events = f"{most}, {int(rows['n_events'].sum()):,} events"
        _curve(ax, rows, divisor, group, label=f"{group}: {events}")
    _finish(ax, run, shown, _last(groups) / divisor)
    ax.set_ylabel(f"Probability of no event,\n{given}" if given else "Probability of no event")
    ax.legend(
        loc="lower right",
        bbox_to_anchor=(1.03, 1.0),
        ncols=len(groups),
        handlelength=2.4,
        columnspacing=1.0,
        fontsize=8,
        borderaxespad=0.2,
    )
    _numbers_at_risk(drawing, ax, groups, divisor, left, 0.12)
    told = " ".join(_curve_words(rows, run, f"{group} risk:") for group, rows in groups.items())
    drawing.description = f"Kaplan-Meier curves with 95% bands. {told}"
    return drawing


@styled
def risk_thirds_grid(tables, run):
    """Draw the thirds of the risk of every feature set (rows) and model (columns), small.

    Parameters
    ----------
    tables : dict of str to DataFrame
        Tables of a run; here `kaplan_meier`.
    run : dict
        Content of run.json.

    Returns
    -------
    Drawing
        A matplotlib Figure.
    """
    curves = tables["kaplan_meier"]
    curves = curves[curves["curve"] == "thirds"]
    title = "Thirds of the risk, every feature set and model"
    if curves.empty:
        return empty_drawing(
            "risk_thirds_grid", title, run, "This run has no curves of thirds of the risk."
        )
    divisor, shown = words.time_axis(run["endpoint"].get("unit"), curves["time"].max())
    by_pair = dict(iter(curves.groupby(["feature_set", "model"])))
    limit = curves["time"].max() / divisor

    def draw(ax, feature_set, model):
        groups = _groups(by_pair[(feature_set, model)], feature_set, model)
        for group, rows in groups.items():
            _curve(ax, rows, divisor, group, band=False, label=f"{group} risk")
        _finish(ax, run, shown, limit, small=True)

    drawing = panel_grid(
        "risk_thirds_grid",
        title,
        by_pair,
        run,
        draw,
        words.time_label(run, shown),
        "Probability of no event",
        legend=True,
    )
    drawing.description = "Small Kaplan-Meier curves of low, middle and high risk: " + "; ".join(
        words.pair_words(run, *pair) for pair in by_pair
    )
    return drawing


def _groups(curves, feature_set, model):
    rows = curves[
        (curves["curve"] == "thirds")
        & (curves["feature_set"] == feature_set)
        & (curves["model"] == model)
    ]
    return {
        group: rows[rows["group"] == group] for group in THIRDS if (rows["group"] == group).any()
    }


def _last(groups):
    return max(float(rows["time"].max()) for rows in groups.values())


def _curve(ax, rows, divisor, group, band=True, label=None):
    """Draw one step curve from probability 1 at its first time, thinned to what can be seen."""
    colour, dashes = GROUPS[group]
    rows = rows.sort_values("time")
    time = rows["time"].to_numpy(float) / divisor
    keep = rows["n_events"].to_numpy() > 0
    keep[[0, -1]] = True
    if keep.sum() > POINTS:
        grid = np.linspace(time[0], time[-1], POINTS)
        keep = np.zeros(len(time), dtype=bool)
        keep[np.clip(np.searchsorted(time, grid, side="right") - 1, 0, None)] = True
        keep[-1] = True
    values = {c: rows[c].to_numpy(float)[keep] for c in ("survival", "lower", "upper")}
    time = time[keep]
    if band and np.isfinite(values["lower"]).any():
        ax.fill_between(
            time, values["lower"], values["upper"], step="post", color=colour, alpha=0.13, lw=0
        )
    ax.plot(
        time,
        values["survival"],
        color=colour,
        ls=dashes,
        lw=1.5 if band else 1.1,
        label=label,
        drawstyle="steps-post",
    )


def _finish(ax, run, shown, last, small=False, room=None):
    ax.set_ylim(0, 1.03)
    ax.set_yticks([0, 0.5, 1] if small else [0, 0.25, 0.5, 0.75, 1])
    ticks = _ticks(last, 3 if small else 7)
    ax.set_xlim(-0.01 * last, last * 1.01)
    ax.set_xticks(ticks)
    ax.set_xticklabels([f"{tick:,.6g}" for tick in ticks])
    ax.grid(axis="y", color=RULE, lw=0.5, alpha=0.7)
    ax.set_axisbelow(True)
    ax.tick_params(length=3, color=FAINT)
    if not small:
        ax.set_xlabel("\n".join(wrapped(words.time_label(run, shown), room or WIDTH - 1.5)))


def _ticks(last, at_most):
    """Choose round tick positions from 0, at most `at_most` steps."""
    raw = last / at_most
    power = 10.0 ** math.floor(math.log10(raw)) if raw > 0 else 1.0
    step = next(power * k for k in (1, 2, 2.5, 5, 10) if power * k >= raw * (1 - 1e-9))
    if step > 1:
        step = math.ceil(step)
    return [step * i for i in range(int(last / step + 1e-9) + 1)]


def _numbers_at_risk(drawing, ax, groups, divisor, left, bottom):
    """Write the numbers at risk under the ticks of the time axis, one row a group."""
    ticks = ax.get_xticks()
    box = ax.get_position()
    total = drawing.get_size_inches()[1]
    height = RISK_ROW * len(groups)
    below = axes_at(drawing, left, bottom, box.width * WIDTH, height)
    below.set_xlim(ax.get_xlim())
    below.set_ylim(len(groups) - 0.5, -0.5)
    below.axis("off")
    heading_y = (bottom + height + 0.09) / total
    drawing.text(
        0.08 / WIDTH if any(groups) else (left - 0.42) / WIDTH,
        heading_y,
        "Number at risk",
        size=8,
        va="center",
        weight="bold",
    )
    for y, (group, rows) in enumerate(groups.items()):
        if group:
            below.text(
                -0.18 / (box.width * WIDTH),
                y,
                group,
                transform=below.get_yaxis_transform(),
                ha="right",
                va="center",
                size=8.5,
            )
        rows = rows.sort_values("time")
        times, at_risk = rows["time"].to_numpy(float), rows["n_at_risk"].to_numpy()
        for tick in ticks:
            if tick * divisor < times[0]:
                continue  # the curve starts later
            position = np.searchsorted(times, tick * divisor * (1 - 1e-12))
            left_over = int(at_risk[position]) if position < len(times) else 0
            below.text(tick, y, f"{left_over:,}", ha="center", va="center", size=8, color=INK)


def _curve_words(rows, run, subject):
    """Say the value of a curve at the horizons, for someone who cannot see it."""
    unit = run["endpoint"].get("unit")
    rows = rows.sort_values("time")
    given = words.given_alive(words.curve_start(rows), run)
    subject = f"{subject.rstrip(':')}, {given}:" if given else subject
    told = []
    for horizon in run.get("horizons") or []:
        before = rows[rows["time"] <= horizon]
        if len(before) and horizon <= rows["time"].max():
            row = before.iloc[-1]
            value = words.interval(row["survival"], row["lower"], row["upper"], 2)
            told.append(f"{value} at {words.time_words(horizon, unit)}")
    return f"{subject} {', '.join(told)}." if told else f"{subject} no horizon is within the curve."
