"""Flow of patients: from the tables to the analysis, with those left out at each step."""

from matplotlib.patches import FancyBboxPatch

from tabular_trainers.errors import count
from tabular_trainers.plots_style import (
    INK,
    MUTED,
    WIDTH,
    axes_at,
    empty_drawing,
    new_drawing,
    styled,
    wrapped,
)

LINE = 0.165  # inches a line of text
LEFT_BOX, RIGHT_BOX, GAP = 3.15, 3.35, 0.6


@styled
def patient_flow(tables, run):
    """Draw the flow of patients; steps that left out nobody are left out.

    Parameters
    ----------
    tables : dict of str to DataFrame
        Tables of a run; here `flow`.
    run : dict
        Content of run.json.

    Returns
    -------
    Drawing
        A matplotlib Figure.
    """
    title = "Flow of patients"
    rows = tables["flow"].sort_values("step")
    if rows.empty:
        return empty_drawing("patient_flow", title, run, "This run has no flow of patients.")
    records = rows.to_dict("records")
    start = [f"{count(records[0]['n_patients'] + records[0]['n_dropped'], 'patient')}"]
    if not records[0]["n_dropped"]:
        start = [*wrapped(records[0]["description"], LEFT_BOX - 0.2, 8.5), *start]
        records = records[1:]
    boxes = [("kept", start)]
    for row in (row for row in records if row["n_dropped"]):
        reason = wrapped(row["description"], RIGHT_BOX - 0.2, 8.5)
        boxes.append(("dropped", [*reason, f"{count(row['n_dropped'], 'patient')} left out"]))
        boxes.append(("kept", [f"{count(row['n_patients'], 'patient')}"]))
    boxes[-1] = ("kept", ["analysed", boxes[-1][1][-1]] if len(boxes) > 1 else boxes[-1][1])
    heights = [LINE * len(lines) + 0.16 for _, lines in boxes]
    total = sum(heights) + 0.13 * (len(boxes) - 1) + 0.1
    drawing = new_drawing("patient_flow", title, run, total)
    ax = axes_at(drawing, 0, 0, WIDTH, total)
    ax.set_xlim(0, WIDTH)
    ax.set_ylim(0, total)
    ax.axis("off")
    _draw(ax, boxes, heights, total)
    steps = "; ".join(
        f"{row['description']}: {row['n_dropped']:,} left out, {row['n_patients']:,} left"
        for row in rows.to_dict("records")
    )
    drawing.description = f"Steps from the tables to the analysis. {steps}."
    return drawing


def _draw(ax, boxes, heights, top):
    x = {"kept": 0.1, "dropped": 0.1 + LEFT_BOX + GAP}
    width = {"kept": LEFT_BOX, "dropped": RIGHT_BOX}
    middle = x["kept"] + LEFT_BOX / 2
    above = None
    y = top - 0.05
    for (kind, lines), height in zip(boxes, heights, strict=True):
        bottom = y - height
        if kind == "kept":
            if above is not None:
                ax.annotate("", (middle, y), (middle, above), arrowprops=_arrow())
            above = bottom
        else:
            ax.annotate(
                "", (x["dropped"], y - height / 2), (middle, y - height / 2), arrowprops=_arrow()
            )
        ax.add_patch(
            FancyBboxPatch(
                (x[kind], bottom),
                width[kind],
                height,
                boxstyle="round,pad=0,rounding_size=0.04",
                fc="#f6f8fa" if kind == "kept" else "white",
                ec=MUTED,
                lw=0.8,
                ls="-" if kind == "kept" else (0, (4, 2)),
            )
        )
        for i, line in enumerate(lines):
            ax.text(
                x[kind] + 0.1,
                y - 0.08 - LINE * (i + 0.5),
                line,
                va="center",
                size=8.5,
                color=INK,
                weight="bold" if i == len(lines) - 1 else "normal",
            )
        y = bottom - 0.13


def _arrow():
    return {
        "arrowstyle": "-|>",
        "color": MUTED,
        "lw": 0.9,
        "shrinkA": 0,
        "shrinkB": 0,
        "mutation_scale": 8,
    }
