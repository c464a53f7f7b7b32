"""Contributions: a point a patient for the largest features, and sums a block."""

import numpy as np
from matplotlib.colors import LinearSegmentedColormap

from tabular_trainers import plots_labels as words
from tabular_trainers.plots_style import (
    COLOURS,
    FAINT,
    INK,
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

POINTS_AS_PATHS = 2000  # more points than this are rasterised inside the SVG
FEATURES = 20
ROW = 0.27  # inches a feature
# Blue to vermillion over a mid grey: told apart with every common colour vision, and on white.
VALUES = LinearSegmentedColormap.from_list("values", ["#0072B2", "#a9a9a9", "#D55E00"])


@styled
def contributions(tables, run, feature_set=None, model=None):
    """Draw the contribution of the largest features for each held-out patient.

    Parameters
    ----------
    tables : dict of str to DataFrame
        Tables of a run; here `shap`.
    run : dict
        Content of run.json.
    feature_set, model : str, optional
        Which model; default: the primary model.

    Returns
    -------
    Drawing
        A matplotlib Figure. More than 2,000 points are rasterised inside it.
    """
    feature_set, model = explained(tables, run, feature_set, model)
    title = f"Contributions of features: {words.pair_words(run, feature_set, model)}"
    rows = _of(tables.get("shap"), feature_set, model)
    if rows is None:
        message = "This run has no contributions of this model."
        return empty_drawing("contributions", title, run, message)
    ranked = ranked_features(rows)
    shown = [key for key in ranked if key[1] != "other"][:FEATURES]
    rest = [key for key in ranked if key[1] == "other"]
    keys = shown + rest
    left = min(max(text_width(_feature_words(*key), 8.5) for key in keys) + 0.25, 2.9)
    height = ROW * len(keys)
    drawing = new_drawing("contributions", title, run, height + 0.85)
    ax = axes_at(drawing, left, 0.65, WIDTH - left - 0.95, height)
    by_key = dict(iter(rows.groupby(["block", "feature"])))
    count = sum(len(by_key[key]) for key in keys)
    grey = _beeswarm(ax, [by_key[key] for key in keys], rasterized=count > POINTS_AS_PATHS)
    ax.axvline(0, color=MUTED, lw=0.8, zorder=0)
    ax.set_ylim(len(keys) - 0.5, -0.5)
    ax.set_yticks(range(len(keys)))
    ax.set_yticklabels([short(_feature_words(*key), left - 0.15, 8.5) for key in keys])
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    ax.grid(axis="y", color=RULE, lw=0.5, ls=(0, (1, 2)))
    ax.set_axisbelow(True)
    scale = words.scale_words(run, feature_set, model)
    label = f"Contribution to the risk ({scale}); to the right: higher risk"
    ax.set_xlabel("\n".join(wrapped(label, WIDTH - left - 0.3)))
    if rest and shown:
        ax.axhline(len(shown) - 0.5, color=RULE, lw=0.8)
    _value_key(drawing, height, grey)
    largest = ", ".join(_feature_words(*key) for key in shown[:10])
    drawing.description = (
        f"One point a held-out patient and feature; {count:,} points. Largest first: {largest}."
    )
    return drawing


@styled
def block_contributions(tables, run, feature_set=None, model=None):
    """Draw what each block contributes: its mean absolute contribution, and each patient's.

    Parameters
    ----------
    tables : dict of str to DataFrame
        Tables of a run; here `shap_blocks`.
    run : dict
        Content of run.json.
    feature_set, model : str, optional
        Which model; default: the primary model.

    Returns
    -------
    Drawing
        A matplotlib Figure. More than 2,000 points are rasterised inside it.
    """
    feature_set, model = explained(tables, run, feature_set, model, "shap_blocks")
    title = f"Contributions of blocks: {words.pair_words(run, feature_set, model)}"
    rows = _of(tables.get("shap_blocks"), feature_set, model)
    if rows is None:
        message = "This run has no contributions of this model."
        return empty_drawing("block_contributions", title, run, message)
    sizes = block_sizes(rows)
    by_block = dict(iter(rows.groupby("block")))
    left = min(max(text_width(block, 9) for block in sizes) + 0.25, 2.2)
    height = max(0.5 * len(sizes), 0.9)
    drawing = new_drawing("block_contributions", title, run, height + 1.05)
    room = WIDTH - left - 0.15
    bars = axes_at(drawing, left, 0.6, room * 0.38, height)
    points = axes_at(drawing, left + room * 0.46, 0.6, room * 0.54, height)
    y = np.arange(len(sizes))
    bars.barh(y, list(sizes.values()), height=0.55, color=COLOURS[0])
    bars.set_xlim(0, max(sizes.values()) * 1.3 or 1)
    total = sum(sizes.values()) or 1.0
    for position, size in enumerate(sizes.values()):
        bars.text(size, position, f" {words.magnitude(size)}", va="center", size=8.5)
    bars.set_yticks(y)
    bars.set_yticklabels([short(block, left - 0.15) for block in sizes])
    scale = words.scale_words(run, feature_set, model)
    bars.set_title("a  Mean absolute contribution")
    bars.set_xlabel("\n".join(wrapped(f"Mean |contribution| ({scale})", room * 0.4)))
    _beeswarm(points, [by_block[block] for block in sizes], len(rows) > POINTS_AS_PATHS, plain=True)
    points.axvline(0, color=MUTED, lw=0.8, zorder=0)
    points.set_yticks([])
    points.spines["left"].set_visible(False)
    points.set_title("b  Each patient; box: median and quartiles")
    points.set_xlabel("\n".join(wrapped(f"Contribution ({scale})", room * 0.5)))
    quartiles = [by_block[block]["contribution"].to_numpy() for block in sizes]
    points.boxplot(
        quartiles,
        orientation="horizontal",
        positions=y,
        widths=0.5,
        showfliers=False,
        manage_ticks=False,
        whis=0,
        showcaps=False,
        boxprops={"color": INK, "lw": 1.1},
        medianprops={"color": INK, "lw": 1.8},
    )
    for ax in (bars, points):
        ax.set_ylim(len(sizes) - 0.5, -0.5)
        ax.tick_params(length=3, color=FAINT)
        ax.tick_params(axis="y", length=0)
        ax.locator_params(axis="x", nbins=5)
    told = "; ".join(
        f"{block} {words.magnitude(size)} ({size / total:.0%})" for block, size in sizes.items()
    )
    drawing.description = (
        f"Mean absolute contribution of each block ({scale}), share in brackets: {told}."
    )
    return drawing


def explained(tables, run, feature_set=None, model=None, table="shap"):
    """Choose what to explain: as asked, else the primary model, else its feature set."""
    chosen = run.get("primary_model") or {}
    feature_set = feature_set or chosen.get("feature_set") or run.get("full")
    model = model or chosen.get("model")
    shap = tables.get(table)
    if shap is not None and len(shap):
        own = shap[shap["feature_set"] == feature_set]
        if model not in set(own["model"]) and len(own):
            model = own["model"].iloc[0]
    return feature_set, model


def block_sizes(rows):
    """Return the mean absolute contribution of each block, largest first.

    Parameters
    ----------
    rows : DataFrame
        Rows of `shap_blocks` of one feature set and model.

    Returns
    -------
    dict of str to float
    """
    sizes = rows["contribution"].abs().groupby(rows["block"]).mean()
    return dict(sizes.sort_values(ascending=False, kind="stable"))


def ranked_features(rows):
    """Return (block, feature), the largest mean absolute contribution first.

    A feature that stands in the table of some folds only counts as 0 for patients of the others.
    """
    patients = len(rows[["patient_id", "repeat", "fold"]].drop_duplicates())
    sizes = rows["contribution"].abs().groupby([rows["block"], rows["feature"]]).sum() / patients
    return list(sizes.sort_values(ascending=False, kind="stable").index)


def _of(table, feature_set, model):
    """Return the rows of one model, or None when there are none."""
    if table is None:
        return None
    rows = table[(table["feature_set"] == feature_set) & (table["model"] == model)]
    return rows if len(rows) else None


def _feature_words(block, feature):
    return f"all other features ({block})" if feature == "other" else f"{feature} ({block})"


def _beeswarm(ax, parts, rasterized, plain=False):
    """Scatter each part in its row, spread where it is dense; say whether a point had no value."""
    everything = np.concatenate([part["contribution"].to_numpy(float) for part in parts])
    low, high = everything.min(), everything.max()
    width = max(high - low, 1e-12)
    grey = False
    for y, part in enumerate(parts):
        x = part["contribution"].to_numpy(float)
        spread = y + _spread(np.floor((x - low) / width * 110).astype(int))
        if plain:
            ax.scatter(x, spread, s=5, color=COLOURS[5], alpha=0.55, lw=0, rasterized=rasterized)
            continue
        value = part["value"].to_numpy(float)
        known = np.isfinite(value)
        grey |= bool((~known).any())
        # Coloured by rank within the feature: units differ, and one outlier must not hide the rest.
        order = np.searchsorted(np.sort(value[known]), value[known], side="left")
        over = np.searchsorted(np.sort(value[known]), value[known], side="right") - 1
        rank = (order + over) / 2
        rank = (rank - rank.min(initial=np.inf)) / max(np.ptp(rank) if len(rank) else 0, 1)
        ax.scatter(
            x[known],
            spread[known],
            s=6.5,
            c=rank,
            cmap=VALUES,
            vmin=0,
            vmax=1,
            lw=0,
            rasterized=rasterized,
        )
        ax.scatter(
            x[~known], spread[~known], s=9, marker="x", color=FAINT, lw=0.6, rasterized=rasterized
        )
    ax.set_xlim(low - 0.03 * width, high + 0.03 * width)
    return grey


def _spread(bins, most=0.38):
    """Return offsets that spread points of the same bin up and down, in the order of the rows."""
    order = np.argsort(bins, kind="stable")
    start = np.r_[0, np.flatnonzero(np.diff(bins[order])) + 1]
    sizes = np.diff(np.r_[start, len(bins)])
    within = np.arange(len(bins)) - np.repeat(start, sizes)
    offsets = np.empty(len(bins))
    offsets[order] = np.where(within % 2, 1, -1) * ((within + 1) // 2)
    densest = max(np.abs(offsets).max(), 4)
    return offsets / densest * most


def _value_key(drawing, height, grey):
    """Draw the colour scale at the right, and what a grey cross means."""
    bar_height = min(1.5, height * 0.7)
    bottom = 0.65 + (height - bar_height) / 2
    bar = axes_at(drawing, WIDTH - 0.72, bottom, 0.1, bar_height)
    bar.imshow(np.linspace(1, 0, 64)[:, None], aspect="auto", cmap=VALUES, extent=(0, 1, 0, 1))
    bar.set_xticks([])
    bar.set_yticks([0, 1])
    bar.set_yticklabels(["low", "high"])
    bar.yaxis.tick_right()
    bar.tick_params(length=0, labelsize=8, pad=3)
    bar.set_title("Value", fontsize=8, loc="left", pad=9)
    for side in bar.spines.values():
        side.set_visible(False)
    if grey:
        bar.text(
            0,
            -0.08,
            "× no\nnumber",
            transform=bar.transAxes,
            va="top",
            size=8,
            color=MUTED,
            linespacing=1.1,
        )
