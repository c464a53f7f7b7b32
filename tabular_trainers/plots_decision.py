"""Decision curves: net benefit over thresholds of the predicted risk."""

from matplotlib.ticker import PercentFormatter

from tabular_trainers import plots_labels as words
from tabular_trainers.plots_calibration import shown_pairs
from tabular_trainers.plots_style import (
    COLOURS,
    FAINT,
    INK,
    WIDTH,
    axes_at,
    empty_drawing,
    new_drawing,
    short,
    styled,
)

LINES = ((COLOURS[0], "-", 1.8), (COLOURS[1], (0, (5, 1.5)), 1.6))
HEIGHT = 3.1


@styled
def decision_curve(tables, run, horizon=None):
    """Draw the net benefit of the primary model and of the baseline, of treating all and nobody.

    Parameters
    ----------
    tables : dict of str to DataFrame
        Tables of a run; here `decision_curve`.
    run : dict
        Content of run.json.
    horizon : float, optional
        Horizon in the unit of the endpoint; default: the largest.

    Returns
    -------
    Drawing
        A matplotlib Figure.
    """
    title = "Net benefit of acting on the predicted risk"
    table = tables["decision_curve"]
    pairs = shown_pairs(table, run)
    if not pairs:
        return empty_drawing("decision_curve", title, run, "This run has no decision curve.")
    horizons = sorted(table["horizon"].dropna().unique())
    horizon = horizon if horizon is not None or not horizons else horizons[-1]
    rows = table[table["horizon"].isna() if horizon is None else table["horizon"] == horizon]
    by = "" if horizon is None else f" by {words.time_words(horizon, run['endpoint'].get('unit'))}"
    drawing = new_drawing("decision_curve", f"{title}{by}", run, HEIGHT + 1.55)
    ax = axes_at(drawing, 0.75, 1.4, WIDTH - 0.95, HEIGHT)
    everybody = rows.drop_duplicates("threshold").sort_values("threshold")
    ax.axhline(0, color=INK, lw=1.0, label="Treat nobody")
    ax.plot(
        everybody["threshold"],
        everybody["treat_all"],
        color=FAINT,
        lw=1.6,
        ls=(0, (1, 1.2)),
        label="Treat all",
    )
    told = []
    for (feature_set, model, what), (colour, dashes, width) in zip(pairs, LINES, strict=False):
        own = rows[(rows["feature_set"] == feature_set) & (rows["model"] == model)]
        own = own.sort_values("threshold")
        name = words.pair_words(run, feature_set, model)
        label = short(f"{what.capitalize()}: {name}", WIDTH - 1.6, 8.5)
        ax.fill_between(
            own["threshold"], own["lower"], own["upper"], color=colour, alpha=0.14, lw=0
        )
        ax.plot(
            own["threshold"], own["net_benefit"], color=colour, lw=width, ls=dashes, label=label
        )
        highest = own.loc[own["net_benefit"].idxmax()]
        told.append(
            f"{name}: from {words.number(own['net_benefit'].iloc[0])} at a threshold of "
            f"{own['threshold'].iloc[0]:.0%} to {words.number(own['net_benefit'].iloc[-1])} at "
            f"{own['threshold'].iloc[-1]:.0%}, highest {words.number(highest['net_benefit'])}"
        )
    top = max(rows["upper"].max(), rows["net_benefit"].max(), everybody["treat_all"].max(), 0.01)
    ax.set_ylim(-0.25 * top, 1.05 * top)
    ax.set_xlim(0, float(everybody["threshold"].max()))
    ax.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    what = "of the event" if words.is_survival(run) else "of being positive"
    ax.set_xlabel(f"Threshold of the predicted probability {what}{by}")
    ax.set_ylabel("Net benefit (true positives per patient)")
    ax.legend(loc="upper left", bbox_to_anchor=(-0.01, -0.19), ncols=1, borderaxespad=0)
    drawing.description = f"Net benefit over thresholds of the predicted risk{by}. " + "; ".join(
        told
    )
    return drawing
