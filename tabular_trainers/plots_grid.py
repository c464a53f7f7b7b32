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
    pairs = set(pairs)
    sets = [s for s in run["feature_sets"] if any(s == pair[0] for pair in pairs)]
    models = [m for m in [*run["models"], "selected"] if any(m == pair[1] for pair in pairs)]
    left, gap, top = 0.62, 0.16, 0.36
    across = max(len(models), 3)
    width = (WIDTH - left - 0.12 - gap * (across - 1)) / across
    # The whole grid fits a printed page, however many feature sets there are.
    height = min(width if square else 0.72 * width, 1.3, max(0.62, 8.6 / len(sets) - 0.4))
    width = height if square else width
    stride = (WIDTH - left - 0.12 + gap) / across
    step = height + 0.4
    foot = 0.75 if legend else 0.5
    body = foot + top + step * len(sets)
    drawing = new_drawing(name, title, run, body)
    for column, model in enumerate(models):
        x = (left + column * stride) / WIDTH
        label = "\n".join(
            wrapped(words.model_words(run, model), stride - gap, 8.5, "bold", max_lines=2)
        )
        y = (body - 0.06) / drawing.get_size_inches()[1]
        drawing.text(x, y, label, size=8.5, weight="bold", va="top", linespacing=1.1)
    last = None
    for row, feature_set in enumerate(sets):
        bottom = body - top - (row + 1) * step + 0.08
        y = (bottom + height + 0.07) / drawing.get_size_inches()[1]
        label = short(words.feature_set_words(feature_set), WIDTH - left - 0.2, 8.5)
        drawing.text(left / WIDTH, y, label, size=8.5, va="bottom", color=INK)
        for column, model in enumerate(models):
            if (feature_set, model) not in pairs:
                continue
            ax = axes_at(drawing, left + column * stride, bottom, width, height)
            draw(ax, feature_set, model)
            ax.tick_params(
                labelsize=7.5,
                length=2,
                pad=2,
                labelleft=column == 0,
                labelbottom=row == len(sets) - 1,
            )
            last = ax
    total = drawing.get_size_inches()[1]
    drawing.supxlabel(
        xlabel, x=(left + WIDTH) / 2 / WIDTH, y=(foot - 0.42) / total, va="bottom", size=8.5
    )
    middle = (foot + (body - top - foot) / 2) / total
    drawing.supylabel(ylabel, x=0.06 / WIDTH, y=middle, ha="left", size=8.5)
    if legend and last is not None:
        handles, labels = last.get_legend_handles_labels()
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
