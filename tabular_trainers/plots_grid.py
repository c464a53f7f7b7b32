"""A page of small panels: a row a feature set, a column a model."""

from tabular_trainers import plots_labels as words
from tabular_trainers.plots_style import INK, WIDTH, axes_at, new_drawing, short, wrapped


def panel_grid(name, title, pairs, run, draw, xlabel, ylabel, legend=False, square=False):
    """Draw one small panel a feature set (row) and model (column), with common axis labels.

    Parameters
    ----------
    name, title : str
        As in `new_drawing`.
    pairs : iterable of (str, str)
        Feature sets and models that there are.
    run : dict
        Content of run.json.
    draw : callable
        Called with (axes, feature_set, model).
    xlabel, ylabel : str
        Labels common to all panels.
    legend : bool
        Show the labels of the first panel's lines once, at the foot.
    square : bool
        Make panels square.

    Returns
    -------
    Drawing
    """
    cells, heads = _cells(set(pairs), run)
    rows = 1 + max(row for row, _, _ in cells)
    left, gap = 0.62, 0.16
    top = 0.36 if heads else 0.0
    across = max(1 + max(column for _, column, _ in cells), 3)
    stride = (WIDTH - left - 0.12 + gap) / across
    width = stride - gap
    # The whole grid fits a printed page, however many feature sets there are.
    height = min(width if square else 0.72 * width, 1.6, max(0.62, 8.6 / rows - 0.56))
    width = height if square else width
    step = height + (0.4 if heads else 0.56)
    foot = 0.75 if legend else 0.5
    body = foot + top + step * rows
    drawing = new_drawing(name, title, run, body)
    total = drawing.get_size_inches()[1]
    for column, model in enumerate(heads):
        lines = wrapped(words.model_words(run, model), stride - gap, 8.5, "bold", max_lines=2)
        x, y = (left + column * stride) / WIDTH, (body - 0.06) / total
        label = "\n".join(lines)
        drawing.text(x, y, label, size=8.5, weight="bold", va="top", linespacing=1.1)
    lowest = {column: row for row, column, _ in cells}
    for row, column, (feature_set, model) in cells:
        bottom = body - top - (row + 1) * step + 0.08
        x, y = left + column * stride, (bottom + height + 0.07) / total
        if column == 0 or not heads:
            room = WIDTH - left - 0.2 if heads else stride - gap
            lines = wrapped(words.feature_set_words(feature_set), room, 8.5, max_lines=2)
            label = "\n".join(short(line, room, 8.5) for line in lines)
            drawing.text(x / WIDTH, y, label, size=8.5, va="bottom", color=INK, linespacing=1.1)
        ax = axes_at(drawing, x, bottom, width, height)
        draw(ax, feature_set, model)
        ax.tick_params(labelsize=7.5, length=2, pad=2)
        ax.tick_params(labelleft=column == 0, labelbottom=row == lowest[column])
    drawing.supxlabel(
        xlabel, x=(left + WIDTH) / 2 / WIDTH, y=(foot - 0.42) / total, va="bottom", size=8.5
    )
    middle = (foot + (body - top - foot) / 2) / total
    drawing.supylabel(ylabel, x=0.06 / WIDTH, y=middle, ha="left", size=8.5)
    if legend:
        handles, labels = ax.get_legend_handles_labels()
        drawing.legend(
            handles,
            labels,
            loc="lower center",
            ncols=3,
            handlelength=3.2,
            bbox_to_anchor=(0.5, 0.0),
            borderaxespad=0.2,
        )
    return drawing


def _cells(pairs, run):
    """Place the panels: (row, column, pair), and the models that head the columns.

    With one model there is nothing to head: its feature sets fill four columns.
    """
    sets = [s for s in run["feature_sets"] if any(s == pair[0] for pair in pairs)]
    models = [m for m in [*run["models"], "selected"] if any(m == pair[1] for pair in pairs)]
    if len(models) == 1:
        return [(i // 4, i % 4, (s, models[0])) for i, s in enumerate(sets)], []
    found = [
        (row, column, (feature_set, model))
        for row, feature_set in enumerate(sets)
        for column, model in enumerate(models)
        if (feature_set, model) in pairs
    ]
    return found, models
