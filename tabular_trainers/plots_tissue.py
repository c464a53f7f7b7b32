"""Figures of clusters of patches: what they explain of the risk, hazard ratios, sites, stability.

As in `plots`, each function takes tables and facts (here those of ``RUN/tissue``) and computes
nothing.
"""

import math

import numpy as np
import pandas as pd
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from tabular_trainers import plots_labels as words
from tabular_trainers.cluster_names import full_name
from tabular_trainers.plots_intervals import draw_intervals, line_of
from tabular_trainers.plots_style import (
    COLOURS,
    FAINT,
    GROUPS,
    MUTED,
    RULE,
    WIDTH,
    axes_at,
    empty_drawing,
    new_drawing,
    short,
    styled,
    text_width,
    wrapped,
)
from tabular_trainers.tissue_bias import ARTEFACT, SITE_AUC

SHOWN = 30  # clusters in a figure; the table has all
ROW = 0.235  # inches a cluster
PLAIN, PROGNOSTIC, FLAGGED = (MUTED, "o"), (COLOURS[0], "s"), (COLOURS[1], "X")
THIRDS = {"low": "o", "middle": "D", "high": "s"}
RATIOS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100)  # ticks, where they are far
NEAR = (0.5, 0.6, 0.7, 0.8, 0.9, 1, 1.1, 1.25, 1.5, 1.75, 2)  # and where they are not
LIMITS = {"site_auc": SITE_AUC, "artefact": 100 * ARTEFACT}  # from there a cluster is flagged
PREDICTORS = {"prevalence": "clusters", "clinical": "clinical columns", "both": "both"}


def look_of(row):
    """Give colour and marker of a cluster: flagged, prognostic, or neither."""
    if row.flag:
        return FLAGGED
    return PROGNOSTIC if row.prognostic else PLAIN


def leading(rows, shown=SHOWN):
    """Choose the clusters with the smallest p, from the one of highest to that of lowest risk."""
    tested = rows[rows["adjusted_ratio"].notna()]
    chosen = tested.nsmallest(shown, "adjusted_p_value", keep="first")
    return chosen.sort_values("adjusted_ratio", ascending=False, kind="stable")


@styled
def risk_explained(tables, run):
    """Draw how much of the variance of the risk clusters and clinical columns explain.

    Parameters
    ----------
    tables : dict of str to DataFrame
        Here `tissue_variance`.
    run : dict
        Content of tissue.json.

    Returns
    -------
    Drawing
        A matplotlib Figure.
    """
    title = f"Variance of the risk that is explained: {_whose(run)}"
    rows = tables["tissue_variance"]
    rows = rows[rows["r_squared"].notna()]
    if rows.empty:
        return empty_drawing("risk_explained", title, run, "Nothing could be estimated.")
    lines, told = [], []
    for row in rows.itertuples():
        label = PREDICTORS[row.predictors]
        text = words.interval(row.r_squared, row.lower, row.upper, 2)
        look = PLAIN if row.predictors == "clinical" else PROGNOSTIC
        lines.append(line_of(row._asdict(), "r_squared", label, (text,), look))
        told.append(f"{label}: {text}")
    drawing = draw_intervals(
        "risk_explained", title, run, lines, ("95% interval",),
        "R-squared on patients held out (0: no better than the mean; may be negative)", 0.0,
        solid_reference=True,
    )  # fmt: skip
    drawing.description = f"R-squared with 95% interval. {'; '.join(told)}."
    return drawing


@styled
def cluster_hazards(tables, run):
    """Draw the adjusted hazard ratio of each cluster, a standard deviation of its prevalence more.

    Parameters
    ----------
    tables : dict of str to DataFrame
        Here `tissue_clusters`; the 30 clusters of the smallest p are drawn.
    run : dict
        Content of tissue.json.

    Returns
    -------
    Drawing
        A matplotlib Figure.
    """
    ratio = "Hazard ratio" if words.is_survival(run) else "Odds ratio"
    title = f"{ratio} of clusters of patches"
    rows = leading(tables["tissue_clusters"])
    if rows.empty:
        message = "No cluster is found in enough patients to be tested."
        return empty_drawing("cluster_hazards", title, run, message)
    lines, told = [], []
    for row in rows.itertuples():
        name = full_name(row.cluster, run["names"])
        low, high = row.adjusted_lower, row.adjusted_upper
        text = words.interval(row.adjusted_ratio, low, high, 2)
        what = row.flag or ("prognostic" if row.prognostic else "")
        values = {"estimate": _log(row.adjusted_ratio), "lower": _log(low), "upper": _log(high)}
        texts = (text, words.p_value(row.adjusted_fdr), what)
        lines.append(
            line_of(values, "estimate", name, texts, look_of(row), bool(row.flag), row.prognostic)
        )
        told.append(f"{name}: {text}{', ' if what else ''}{what}")
    drawing = draw_intervals(
        "cluster_hazards", title, run, lines, ("95% interval", "FDR", ""),
        f"{ratio} for one standard deviation more", 0.0,
        solid_reference=True,
    )  # fmt: skip
    _ratio_axis(drawing.axes[0])
    drawing.description = f"{ratio} with 95% interval. {'; '.join(told)}."
    return drawing


def _log(value):
    return math.log(value) if not words.is_missing(value) and value > 0 else math.nan


def _ratio_axis(ax):
    """Label an axis of logarithms with the ratios."""
    low, high = ax.get_xlim()
    inside = [ratio for ratio in RATIOS if low <= math.log(ratio) <= high]
    if len(inside) < 3:
        inside = [ratio for ratio in NEAR if low <= math.log(ratio) <= high]
    ax.xaxis.set_major_locator(FixedLocator([math.log(r) for r in inside]))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{math.exp(x):.3g}"))


@styled
def prevalence_by_third(tables, run):
    """Draw the mean prevalence of clusters in thirds of the risk.

    Parameters
    ----------
    tables : dict of str to DataFrame
        Here `tissue_thirds` and `tissue_clusters`.
    run : dict
        Content of tissue.json.

    Returns
    -------
    Drawing
        A matplotlib Figure.
    """
    title = "Share of the tissue by third of the risk"
    thirds = tables["tissue_thirds"]
    order = list(leading(tables["tissue_clusters"])["cluster"])
    means = thirds.pivot(index="cluster", columns="third", values="mean").reindex(order)
    if means.empty:
        message = "No cluster is found in enough patients to be tested."
        return empty_drawing("prevalence_by_third", title, run, message)
    names = [full_name(cluster, run["names"]) for cluster in order]
    left = min(max(text_width(name, 9) for name in names) + 0.3, 3.0)
    height = ROW * len(order)
    drawing = new_drawing("prevalence_by_third", title, run, height + 0.95)
    ax = axes_at(drawing, left, 0.8, WIDTH - left - 0.2, height)
    shares = 100 * means
    for y, cluster in enumerate(order):
        own = shares.loc[cluster].dropna()
        ax.plot([own.min(), own.max()], [y, y], color=RULE, lw=2, zorder=1)
    for third, marker in THIRDS.items():
        colour = GROUPS[third][0]
        if third in shares:
            ax.plot(shares[third], np.arange(len(order)), marker, ms=5.5, color=colour, ls="none",
                    label=f"{third} risk")  # fmt: skip
    ax.set_ylim(len(order) - 0.5, -0.5)
    ax.set_yticks(range(len(order)), [short(name, left - 0.15) for name in names])
    ax.tick_params(axis="y", length=0)
    ax.tick_params(axis="x", length=3, color=FAINT)
    ax.set_xlim(left=0)
    ax.spines["left"].set_visible(False)
    ax.grid(axis="x", color=RULE, lw=0.5, alpha=0.7)
    ax.set_axisbelow(True)
    ax.set_xlabel("Mean share of a patient's patches (%)")
    drawing.legend(loc="lower left", ncols=3, borderaxespad=0,
                   bbox_to_anchor=(left / WIDTH, 0.05 / drawing.get_size_inches()[1]))  # fmt: skip
    told = "; ".join(
        f"{name}: " + ", ".join(f"{third} {shares.loc[c, third]:.1f}%" for third in shares)
        for name, c in zip(names, order, strict=True)
    )
    drawing.description = f"Mean share of patches by third of the risk. {told}."
    return drawing


@styled
def site_and_artefacts(tables, run):
    """Draw how well each cluster tells a site, and how much ink or blur is in its patches.

    Parameters
    ----------
    tables : dict of str to DataFrame
        Here `tissue_clusters`.
    run : dict
        Content of tissue.json.

    Returns
    -------
    Drawing
        A matplotlib Figure.
    """
    title = "Clusters that may be site or artefact more than tissue"
    rows = tables["tissue_clusters"]
    columns = {
        "site_auc": "AUC of its prevalence for the site that it tells best",
        "artefact": "Mean share of ink or black in its patches (%)",
        "blur": "Mean blur of its patches",
    }
    shown = [name for name in columns if rows[name].notna().any()]
    if not shown:
        message = "Neither sites nor scores of the patches are known."
        return empty_drawing("site_and_artefacts", title, run, message)
    flagged = rows[rows["flag"] != ""]
    plain = rows[rows["flag"] == ""]
    rest = plain.assign(most=plain[shown].rank(pct=True).max(axis=1))
    room = max(0, SHOWN - len(flagged))
    rest = rest.nlargest(room, "most", keep="first").sort_index()
    order = pd.concat([flagged, rest])
    names = [full_name(cluster, run["names"]) for cluster in order["cluster"]]
    left = min(max(text_width(name, 9) for name in names) + 0.3, 2.6)
    height = ROW * len(order)
    drawing = new_drawing("site_and_artefacts", title, run, height + 1.1)
    gap = 0.25
    width = (WIDTH - left - 0.15 - gap * (len(shown) - 1)) / len(shown)
    for i, name in enumerate(shown):
        ax = axes_at(drawing, left + i * (width + gap), 0.85, width, height)
        scale = 100 if name == "artefact" else 1
        for y, row in enumerate(order.itertuples()):
            value = scale * getattr(row, name)
            colour, marker = look_of(row)
            start = 0.5 if name == "site_auc" else 0
            ax.plot([start, value], [y, y], color=RULE, lw=2, zorder=1)
            ax.plot(value, y, marker, ms=6, color=colour, clip_on=False, zorder=3)
        if name in LIMITS:
            ax.axvline(LIMITS[name], color=MUTED, lw=0.9, ls=(0, (4, 3)), zorder=0)
        ax.set_ylim(len(order) - 0.5, -0.5)
        ax.set_yticks([])
        ax.set_xlim(*((0.5, 1.0) if name == "site_auc" else (0, None)))
        ax.spines["left"].set_visible(False)
        ax.tick_params(axis="x", length=3, color=FAINT)
        ax.locator_params(axis="x", nbins=max(3, int(width / 0.6)))
        ax.grid(axis="x", color=RULE, lw=0.5, alpha=0.7)
        ax.set_axisbelow(True)
        ax.set_xlabel("\n".join(wrapped(columns[name], width)))
        if i == 0:
            ax.set_yticks(range(len(order)), [short(text, left - 0.15) for text in names])
            ax.tick_params(axis="y", length=0)
    told = "; ".join(
        f"{text}: "
        + ", ".join(f"{name} {words.number(getattr(row, name), 2)}" for name in shown)
        + (f", flagged as {row.flag}" if row.flag else "")
        for text, row in zip(names, order.itertuples(), strict=True)
    )
    drawing.description = f"Site AUC, artefact and blur of clusters. {told}."
    return drawing


@styled
def cluster_stability(tables, run):
    """Draw how well each cluster is found again among resampled patients.

    Parameters
    ----------
    tables : dict of str to DataFrame
        Here `tissue_stability` and `tissue_clusters`.
    run : dict
        Content of tissue.json.

    Returns
    -------
    Drawing
        A matplotlib Figure.
    """
    title = "Are clusters found again when patients are resampled?"
    rows = tables["tissue_stability"].merge(
        tables["tissue_clusters"][["cluster", "flag", "prognostic"]], on="cluster"
    )
    rows = rows.sort_values("jaccard_mean", ascending=False, kind="stable")
    if len(rows) > SHOWN:
        keep = rows["prognostic"] | (rows["flag"] != "")
        rows = pd.concat([rows[keep], rows[~keep]]).head(SHOWN)
        rows = rows.sort_values("jaccard_mean", ascending=False, kind="stable")
    lines, told = [], []
    for row in rows.itertuples():
        name = full_name(row.cluster, run["names"])
        text = words.number(row.jaccard_mean, 2)
        values = {"mean": row.jaccard_mean, "lower": row.jaccard_lower, "upper": row.jaccard_mean}
        texts = (text, f"{row.dissolved:.0%}")
        lines.append(line_of(values, "mean", name, texts, look_of(row), bool(row.flag)))
        told.append(f"{name}: {text}")
    drawing = draw_intervals(
        "cluster_stability", title, run, lines, ("mean", "dissolved"),
        "Jaccard index with the most similar cluster; line: down to its 10% quantile", 0.75,
    )  # fmt: skip
    ax = drawing.axes[0]
    ax.set_xlim(0, 1.02)
    drawing.description = f"Mean Jaccard index. {'; '.join(told)}. The dashed line is at 0.75."
    return drawing


def _whose(run):
    return words.pair_words(run, run["subject"]["feature_set"], run["subject"]["model"])
