"""Calibration: predicted against observed risk in groups of the predicted risk."""

from tabular_trainers import plots_labels as words
from tabular_trainers.plots_forest import overall
from tabular_trainers.plots_grid import panel_grid
from tabular_trainers.plots_style import (
    COLOURS,
    FAINT,
    MUTED,
    WIDTH,
    axes_at,
    empty_drawing,
    new_drawing,
    styled,
    wrapped,
)


def shown_pairs(table, run):
    """Name what a figure shows: the primary model, and the baseline with the same model.

    Parameters
    ----------
    table : DataFrame
        With columns feature_set and model; what it lacks is left out.
    run : dict
        Content of run.json.

    Returns
    -------
    list of (str, str, str)
        Feature set, model, and what it is.
    """
    primary = run.get("primary_model") or {}
    pairs = [(primary.get("feature_set"), primary.get("model"), "primary model")]
    if run.get("baseline") and run["baseline"] != primary.get("feature_set"):
        pairs.append((run["baseline"], primary.get("model"), "baseline"))
    present = set(zip(table["feature_set"], table["model"], strict=True))
    return [pair for pair in pairs if pair[:2] in present]


@styled
def calibration(tables, run, pairs=None):
    """Draw predicted against observed risk in fifths or thirds of it, at each horizon.

    Parameters
    ----------
    tables : dict of str to DataFrame
        Tables of a run; here `calibration` and `metrics`.
    run : dict
        Content of run.json.
    pairs : list of (str, str, str), optional
        Feature set, model and a word for it; default: the primary model and the baseline.

    Returns
    -------
    Drawing
        A matplotlib Figure.
    """
    title = "Calibration in groups of the predicted risk"
    pairs = shown_pairs(tables["calibration"], run) if pairs is None else pairs
    if not pairs:
        return empty_drawing(
            "calibration", title, run, "This run has no calibration of the primary model."
        )
    table = tables["calibration"]
    horizons = sorted(table["horizon"].dropna().unique()) or [None]
    # One horizon: the models side by side. Several: a row a model, a column a horizon.
    flat = len(horizons) == 1
    left, gap, heading = 0.68, 0.5, 0.62 if flat else 0.45
    across = len(pairs) if flat else len(horizons)
    down = 1 if flat else len(pairs)
    side = min((WIDTH - left - 0.1 - gap * (max(across, 2) - 1)) / max(across, 2), 2.5)
    step = side + heading + 0.6
    drawing = new_drawing("calibration", title, run, step * down + 0.05)
    told = []
    for i, (feature_set, model, what) in enumerate(pairs):
        for j, horizon in enumerate(horizons):
            row, column = (0, i) if flat else (i, j)
            x, y = left + column * (side + gap), step * (down - row) - heading - side
            ax = axes_at(drawing, x, y, side, side)
            summary = _panel(ax, tables, feature_set, model, horizon, _limit(table, pairs, horizon))
            when = f"{words.time_words(horizon, run['endpoint'].get('unit'))}" if horizon else ""
            by = f" by {when}" if when else ""
            ax.set_xlabel(f"Predicted probability{by}", size=8.5)
            ax.set_ylabel("Observed" if column == 0 else "")
            if flat or column == 0:
                room = side + gap if flat else WIDTH - left
                label = wrapped(
                    words.pair_words(run, feature_set, model), room - 0.1, 8.5, max_lines=2
                )
                ax.text(
                    0,
                    1 + 0.07 / side,
                    "\n".join(label),
                    transform=ax.transAxes,
                    size=8.5,
                    va="bottom",
                    linespacing=1.15,
                )
                y_name = 1 + (0.11 + 0.145 * len(label)) / side
                ax.text(
                    0, y_name, what.capitalize(), transform=ax.transAxes, weight="bold", va="bottom"
                )
            told.append(f"{words.pair_words(run, feature_set, model)}{by}: {summary}")
    drawing.description = (
        "Predicted against observed risk. " + "; ".join(told).replace("\n", ", ") + "."
    )
    return drawing


@styled
def calibration_grid(tables, run, horizon=None):
    """Draw the calibration of every feature set (rows) and model (columns) at one horizon, small.

    Parameters
    ----------
    tables : dict of str to DataFrame
        Tables of a run; here `calibration` and `metrics`.
    run : dict
        Content of run.json.
    horizon : float, optional
        Horizon in the unit of the endpoint; default: the largest.

    Returns
    -------
    Drawing
        A matplotlib Figure.
    """
    table = tables["calibration"]
    horizons = sorted(table["horizon"].dropna().unique())
    horizon = horizon if horizon is not None or not horizons else horizons[-1]
    by = f" by {words.time_words(horizon, run['endpoint'].get('unit'))}" if horizons else ""
    title = f"Calibration{by}, every feature set and model"
    if table.empty:
        return empty_drawing("calibration_grid", title, run, "This run has no calibration table.")
    present = list(dict.fromkeys(zip(table["feature_set"], table["model"], strict=True)))
    limit = _limit(table, present, horizon)

    def draw(ax, feature_set, model):
        _panel(ax, tables, feature_set, model, horizon, limit, small=True)

    drawing = panel_grid(
        "calibration_grid",
        title,
        present,
        run,
        draw,
        f"Predicted probability{by}",
        "Observed",
        square=True,
    )
    drawing.description = "Small calibration plots: " + "; ".join(
        words.pair_words(run, *pair) for pair in present
    )
    return drawing


def _limit(table, pairs, horizon):
    """Return the end of both axes: a little above the largest value shown, at most 1."""
    keys = {pair[:2] for pair in pairs}
    table = table[table["horizon"].isna() if horizon is None else table["horizon"] == horizon]
    shown = [pair in keys for pair in zip(table["feature_set"], table["model"], strict=True)]
    largest = table.loc[shown, ["predicted", "observed", "upper"]].max().max()
    return float(min(1.0, largest * 1.08)) if largest > 0 else 1.0


def _panel(ax, tables, feature_set, model, horizon, limit, small=False):
    """Draw one panel; return the summary that is written on it."""
    table = tables["calibration"]
    rows = table[(table["feature_set"] == feature_set) & (table["model"] == model)]
    rows = rows[rows["horizon"].isna() if horizon is None else rows["horizon"] == horizon]
    rows = rows.sort_values("predicted")
    ax.plot([0, limit], [0, limit], color=FAINT, lw=0.9, ls=(0, (4, 3)))
    known = rows[rows["lower"].notna() & rows["upper"].notna()]
    ax.vlines(known["predicted"], known["lower"], known["upper"], color=COLOURS[0], lw=1.2)
    ax.plot(
        rows["predicted"], rows["observed"], "o-", color=COLOURS[0], lw=0.8, ms=3 if small else 4.5
    )
    ax.set_xlim(0, limit)
    ax.set_ylim(0, limit)
    ax.set_aspect("equal")
    ax.tick_params(length=3, color=FAINT)
    ax.locator_params(nbins=3 if small else 5)
    summary = _summary(tables, feature_set, model, horizon)
    if not small:
        place = {"transform": ax.transAxes, "ha": "right", "va": "bottom"}
        ax.text(0.99, 0.03, summary, size=7.5, color=MUTED, linespacing=1.25, **place)
    return summary


def _summary(tables, feature_set, model, horizon):
    rows = overall(tables["metrics"], feature_set=feature_set, model=model)
    rows = rows[rows["horizon"].isna() if horizon is None else rows["horizon"] == horizon]
    lines = []
    for metric, name in (
        ("observed_expected", "O/E"),
        ("calibration_slope", "slope"),
        ("integrated_calibration_index", "ICI"),
    ):
        own = rows[rows["metric"] == metric]
        if len(own):
            row = own.iloc[0]
            value = words.interval(
                row["estimate"], row["lower"], row["upper"], words.DECIMALS.get(metric, 3)
            )
            if value != words.NO_VALUE:
                lines.append(f"{name} {value}")
    return "\n".join(lines)
