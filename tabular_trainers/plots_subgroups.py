"""For whom: the primary model and its baseline in groups of patients, and the difference there."""

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
)

ROW = 0.235  # inches a row
LABELS_AT_MOST = 2.6
APART = 0.17  # of a row, between the primary model and its baseline
TOO_FEW = "too few events"


@styled
def for_whom(tables, run):
    """Draw the measure of the verdict and its paired difference to the baseline by groups.

    Parameters
    ----------
    tables : dict of str to DataFrame
        Tables of a run; here `subgroups`.
    run : dict
        Content of run.json.

    Returns
    -------
    Drawing
        A matplotlib Figure.
    """
    rows = tables["subgroups"]
    if rows["too_few"].astype(bool).all():
        return empty_drawing(
            "for_whom", "For whom", run, "This run has no group of patients with 10 events."
        )
    metric = words.metric_words(rows["metric"].iloc[0])
    first = rows.iloc[0]
    paired = bool(rows["difference"].notna().any())
    title = f"For whom: {words.pair_words(run, first['feature_set'], first['model'])}"
    lines = _lines(rows)
    events = "events" if words.is_survival(run) else "positive"
    counts = [f"{row.n:,} / {row.n_events:,}" for row in rows.itertuples()]
    head = f"patients / {events}"
    labels = [line["label"] for line in lines if line["row"] is not None]
    left = min(max(text_width(label, 9) for label in labels) + 0.4, LABELS_AT_MOST)
    left = max(left, text_width(head, 8.5, "bold") - 0.6)
    middle = max(text_width(text, 8.5) for text in counts) + 0.3
    height, bottom = ROW * (len(lines) + 1), 0.85
    drawing = new_drawing("for_whom", title, run, height + bottom)
    width = (WIDTH - left - middle - 0.25 - (0.3 if paired else 0.0)) / (2 if paired else 1)
    panels = [axes_at(drawing, left + middle, bottom, width, height)]
    look = model_looks(run["models"])[first["model"]]
    _estimates(panels[0], lines, look, paired)
    panels[0].set_xlabel(metric)
    if paired:
        panels.append(axes_at(drawing, left + middle + width + 0.3, bottom, width, height))
        _differences(panels[1], lines, look)
        panels[1].set_xlabel(f"Difference in {metric}")
        _key(drawing, panels[0], run, first, look, left + middle, bottom)
    _texts(panels[0], lines, left + middle, middle, width, head)
    for ax in panels:
        ax.set_ylim(len(lines) - 0.5, -1.5)
        ax.set_yticks([])
        ax.spines["left"].set_visible(False)
        ax.tick_params(axis="x", length=3, color=FAINT)
        ax.locator_params(axis="x", nbins=max(3, int(width / 0.5)))
        ax.grid(axis="x", color=RULE, lw=0.5, alpha=0.7)
        ax.set_axisbelow(True)
    drawing.description = _description(rows, run, metric)
    return drawing


def _lines(rows):
    """List what stands in each line: a variable, or one of its levels."""
    lines = []
    for variable, own in rows.groupby("variable", sort=False):
        single = len(own) == 1
        if not single:
            p_value = own["interaction_p_value"].iloc[0]
            test = "" if words.is_missing(p_value) else f"interaction p {words.p_value(p_value)}"
            label = str(variable).replace("_", " ")
            lines.append({"label": label, "weight": "bold", "row": None, "test": test})
        for row in own.itertuples():
            weight = "bold" if single else "normal"
            lines.append({"label": str(row.level), "weight": weight, "row": row, "test": ""})
    return lines


def _estimates(ax, lines, look, paired):
    colour, marker = look
    for y, line in enumerate(lines):
        row = line["row"]
        if row is None or row.too_few:
            continue
        up = APART if paired else 0.0
        size = _size(marker)
        ax.plot([row.lower, row.upper], [y - up, y - up], color=colour, lw=1.6)
        ax.plot(row.estimate, y - up, marker, ms=size, color=colour)
        if paired:
            ax.plot([row.baseline_lower, row.baseline_upper], [y + up, y + up], color=MUTED, lw=1)
            hollow = {"ms": 0.8 * size, "mfc": "white", "mec": MUTED}
            ax.plot(row.baseline_estimate, y + up, marker, **hollow)
    ax.axvline(0.5, color=MUTED, lw=0.9, ls=(0, (4, 3)), ymax=1 - 1 / (len(lines) + 1))
    low, high = ax.get_xlim()
    ax.set_xlim(max(low, -0.02), min(high, 1.02))


def _differences(ax, lines, look):
    colour, marker = look
    for y, line in enumerate(lines):
        row = line["row"]
        if row is not None and np.isfinite(row.difference):
            ax.plot([row.difference_lower, row.difference_upper], [y, y], color=colour, lw=1.6)
            ax.plot(row.difference, y, marker, ms=_size(marker), color=colour)
        if line["test"]:
            place = ax.get_yaxis_transform()
            ax.text(1, y, line["test"], transform=place, ha="right", va="center", size=8.5,
                    bbox={"fc": "white", "ec": "none", "pad": 1.0}, zorder=3)  # fmt: skip
    ax.axvline(0, color=INK, lw=0.9, ymax=1 - 1 / (len(lines) + 1))
    ends = np.abs(ax.get_xlim()).max()
    ax.set_xlim(-max(ends, 0.025), max(ends, 0.025))  # the same to either side of none


def _size(marker):
    return 9 if marker == "*" else 6


def _texts(ax, lines, inches, middle, width, head):
    """Write labels and counts at the left of a panel."""
    place, unit = ax.get_yaxis_transform(), 1 / width
    counts_at = -0.15 * unit
    ax.text(counts_at, -1, head, transform=place, ha="right", va="center", size=8.5, weight="bold")
    for y, line in enumerate(lines):
        indent = 0.1 if line["weight"] == "bold" else 0.24
        room = inches - indent - middle if line["row"] is not None else inches + 0.5 * width
        label = short(line["label"], room, 9, line["weight"])
        row = line["row"]
        box = {"fc": "white", "ec": "none", "pad": 1.0} if row is None else None
        ax.text(-(inches - indent) * unit, y, label, transform=place, va="center",
                weight=line["weight"], bbox=box)  # fmt: skip
        if row is None:
            continue
        text = f"{row.n:,} / {row.n_events:,}"
        ax.text(counts_at, y, text, transform=place, ha="right", va="center", size=8.5)
        if row.too_few:
            ax.text(0.02, y, TOO_FEW, transform=place, va="center", size=8.5, color=MUTED,
                    style="italic", bbox={"fc": "white", "ec": "none", "pad": 1.0})  # fmt: skip


def _key(drawing, ax, run, first, look, left, bottom):
    """Say which symbol is which, below the axes."""
    colour, marker = look
    symbols = [
        ax.plot([], [], marker=marker, color=colour, ms=_size(marker), lw=1.6)[0],
        ax.plot([], [], marker=marker, mfc="white", color=MUTED, ms=0.8 * _size(marker), lw=1)[0],
    ]
    names = [words.feature_set_words(first[k]) for k in ("feature_set", "baseline_feature_set")]
    names = [short(name, (WIDTH - 1.6) / 2, 8.5) for name in (names[0], f"{names[1]} (baseline)")]
    drawing.legend(symbols, names, loc="lower left", ncols=2, borderaxespad=0,
                   bbox_to_anchor=(0.1 / WIDTH, 0.05 / drawing.get_size_inches()[1]))  # fmt: skip


def _description(rows, run, metric):
    told = []
    for row in rows.itertuples():
        name = row.level if row.level == row.variable else f"{row.variable} {row.level}"
        text = f"{name}: {words.cohort_words(run, row.n, row.n_events)}, "
        if row.too_few:
            told.append(text + TOO_FEW)
            continue
        text += words.interval(row.estimate, row.lower, row.upper)
        if np.isfinite(row.difference):
            ends = row.difference_lower, row.difference_upper
            text += f", difference {words.interval(row.difference, *ends, sign=True)}"
        told.append(text)
    return f"{metric} with 95% interval in groups of patients. {'; '.join(told)}."
