"""Rows of intervals, with their labels at the left and their numbers at the right."""

import numpy as np

from tabular_trainers import plots_labels as words
from tabular_trainers.plots_style import (
    FAINT,
    INK,
    MUTED,
    RULE,
    WIDTH,
    axes_at,
    new_drawing,
    short,
    text_width,
    wrapped,
)

ROW = 0.215  # inches a row
LABELS_AT_MOST = 3.35
SIDES = 0.2  # inches below the axis for what its two sides mean


def line_of(row, column, label, texts, look, hollow=False, strong=False):
    """Return one line: its label, (estimate, lower, upper), texts and look."""
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


def draw_intervals(
    name,
    title,
    run,
    lines,
    columns,
    xlabel,
    reference,
    solid_reference=False,
    sides=None,
    labels_at_most=LABELS_AT_MOST,
):
    """Place labels, intervals and texts in columns.

    Parameters
    ----------
    name, title, run
        As in `new_drawing`.
    lines : list of dict
        From `line_of`, or {"header": text}. With ``size`` the marker has this size in points; with
        ``form`` a line is a ``"diamond"`` from end to end, or a ``"range"`` without an estimate.
    columns : tuple of str
        Heads of the texts at the right.
    xlabel : str
        Label of the axis.
    reference : float or None
        Where to draw the vertical line.
    solid_reference : bool
        Draw it as a whole line rather than dashed.
    sides : tuple of str, optional
        What the left and the right side of the reference mean, shown below the axis.
    labels_at_most : float, default 3.35
        Width of the labels in inches; longer ones are broken.

    Returns
    -------
    Drawing
    """
    widest = max(
        text_width(line["label"], 9, "bold" if line["strong"] else "normal") + 0.16
        for line in lines
        if "label" in line
    )
    left = min(widest + 0.3, labels_at_most)
    text_widths = [
        max(
            text_width(column, 8.5, "bold"),
            *(text_width(line["texts"][i], 8.5) for line in lines if line.get("texts")),
        )
        for i, column in enumerate(columns)
    ]
    right = sum(text_widths) + 0.16 * (len(columns) + 1)
    rows = _broken(lines, left - 0.27, WIDTH - right - 0.2)
    height = ROW * (len(rows) + 1)
    xlabel = wrapped(xlabel, WIDTH - left - right + 1.4, 9)
    bottom = 0.4 + 0.15 * len(xlabel) + (SIDES if sides else 0)
    drawing = new_drawing(name, title, run, height + bottom)
    ax = axes_at(drawing, left, bottom, WIDTH - left - right, height)
    ax.set_ylim(len(rows) - 0.5, -1.5)
    _draw_rows(ax, rows, reference, solid_reference)
    ax.locator_params(axis="x", nbins=max(3, int((WIDTH - left - right) / 0.55)))
    ax.set_yticks([])
    ax.spines["left"].set_visible(False)
    ax.set_xlabel("\n".join(xlabel), labelpad=4 + (72 * SIDES if sides else 0))
    if sides:
        _name_sides(ax, reference, sides, left, height)
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


def _broken(lines, inches, header_inches):
    """Break long labels: what is left after the first piece becomes rows below it."""
    rows = []
    for line in lines:
        if "header" in line:
            pieces = wrapped(line["header"], header_inches, 9, "bold")
            rows += [{"header": piece, "rule": not i} for i, piece in enumerate(pieces)]
            continue
        weight = "bold" if line["strong"] else "normal"
        pieces = wrapped(line["label"], inches, 9, weight)
        pieces = [short(piece, inches, 9, weight) for piece in pieces]
        rows.append({**line, "label": pieces[0]})
        blank = {"values": [np.nan] * 3, "texts": None, "look": line["look"], "hollow": False}
        rows += [{**blank, "label": piece, "strong": line["strong"]} for piece in pieces[1:]]
    return rows


def _draw_rows(ax, rows, reference, solid_reference):
    drawn = [v for row in rows if "values" in row for v in row["values"] if np.isfinite(v)]
    ends = [*drawn, *([] if reference is None else [reference])]
    if ends:
        # At least 0.05 wide: differences in the fourth decimal must not look like a finding.
        pad = max(0.06 * (max(ends) - min(ends)), (0.05 - max(ends) + min(ends)) / 2)
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
        if "values" not in row or not np.isfinite(row["values"]).any():
            continue
        estimate, lower, upper = row["values"]
        colour, marker = row["look"]
        if row.get("form"):
            _draw_form(ax, y, row)
            continue
        if np.isfinite(lower) and np.isfinite(upper):
            ax.plot([lower, upper], [y, y], color=colour, lw=2.2 if row["strong"] else 1.5)
        size = (9 if marker == "*" else 6) + (1.5 if row["strong"] else 0)
        size = row.get("size", size)
        face = "white" if row["hollow"] else colour
        ax.plot(estimate, y, marker, ms=size, mfc=face, mec=colour, mew=1.2)
    ax.tick_params(axis="x", length=3, color=FAINT)


def _draw_form(ax, y, row):
    """Draw a diamond as wide as its interval, or a range with an upright line at each end."""
    estimate, lower, upper = row["values"]
    colour, _ = row["look"]
    if row["form"] == "diamond":
        ax.fill([lower, estimate, upper, estimate], [y, y - 0.32, y, y + 0.32], color=colour, lw=0)
        return
    ax.plot([lower, upper], [y, y], color=colour, lw=1.5, ls=(0, (3, 1.5)))
    ax.plot([lower, upper], [y, y], "|", color=colour, ms=8, mew=1.5)


def _name_sides(ax, reference, sides, left, height):
    """Write what the two sides of the reference mean below the axis, an arrow each."""
    width = ax.get_position().width * WIDTH
    start, end = ax.get_xlim()
    here = left + width * (reference - start) / (end - start)
    y = -0.3 / height
    for words_, room, align, gap in (
        (f"\N{LEFTWARDS ARROW} {sides[0]}", here, "right", -0.08),
        (f"{sides[1]} \N{RIGHTWARDS ARROW}", WIDTH - here, "left", 0.08),
    ):
        x = (here + gap - left) / width
        text = short(words_, room - 0.2, 8.5)
        ax.text(x, y, text, transform=ax.transAxes, ha=align, va="top", size=8.5, color=MUTED)
