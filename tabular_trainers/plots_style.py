"""The look of every figure, and a figure that knows its title and its description."""

import contextlib
import contextvars
import functools
import io
import textwrap
import warnings

from matplotlib import rc_context, style
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font

from tabular_trainers.plots_labels import cohort_words

WIDTH = 7.4  # inches; the text width of an A4 page
INK, MUTED, FAINT, RULE = "#1b1f24", "#57606a", "#8c959f", "#d0d7de"
# After Okabe and Ito, darkened where they vanish on white. Each colour comes with a marker or a
# line style, so that nothing is told by colour alone.
COLOURS = ("#0072B2", "#D55E00", "#007A5A", "#A3527D", "#946200", "#3D8FC4", "#4d4d4d")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
GROUPS = {  # risk thirds
    "low": ("#0072B2", "-"),
    "middle": ("#4d4d4d", (0, (4, 1.6))),
    "high": ("#D55E00", (0, (7, 1.5, 1.5, 1.5))),
    "all": ("#0072B2", "-"),
}
STYLE = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same shapes on every machine
    "font.size": 9.0,
    "axes.titlesize": 9.0,
    "axes.titlelocation": "left",
    "axes.labelsize": 9.0,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.unicode_minus": True,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "text.color": INK,
    "text.parse_math": False,  # a column may be named "cost$"
    "figure.dpi": 100,
    "savefig.dpi": 200,
    "svg.fonttype": "path",
    "path.simplify": True,
}


class Drawing(Figure):
    """A matplotlib Figure with a name, a title and a description; notebooks show it without pyplot.

    Attributes
    ----------
    name : str
        File name without its ending.
    title : str
        First line of the figure, with patients and events.
    description : str
        What the figure shows, for someone who cannot see it.
    """

    name = "figure"
    title = ""
    description = ""

    def _repr_png_(self):
        buffer = io.BytesIO()
        with styled_context():
            self.savefig(buffer, format="png", dpi=110)
        return buffer.getvalue()


# Whether our settings are in force: setting all of matplotlib's takes longer than a small figure.
_STYLED = contextvars.ContextVar("styled", default=False)


@contextlib.contextmanager
def styled_context(**more):
    """Draw with our settings, whatever the user's matplotlibrc says; contexts may be nested."""
    if _STYLED.get():
        with rc_context(more):
            yield
        return
    token = _STYLED.set(True)
    try:
        with style.context(["default", {**STYLE, **more}]), warnings.catch_warnings():
            # A column may be named in a script that the font lacks; the description has its name.
            warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from")
            yield
    finally:
        _STYLED.reset(token)


def styled(function):
    """Draw with our settings."""

    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        with styled_context():
            return function(*args, **kwargs)

    return wrapper


def new_drawing(name, title, run, height):
    """Return an empty Drawing with its title at the top left.

    Parameters
    ----------
    name : str
        File name without its ending.
    title : str
        Title; wrapped to the width. Patients and events of the run stand below it.
    run : dict
        Content of run.json.
    height : float
        Height below the title, in inches.

    Returns
    -------
    Drawing
        An empty figure of the common width.
    """
    lines = wrapped(title, WIDTH - 0.2, 10, "bold")
    top = 0.3 + 0.19 * len(lines)
    total = height + top
    drawing = Drawing(figsize=(WIDTH, total))
    cohort = cohort_words(run)
    drawing.name, drawing.title = name, f"{title} ({cohort})"
    x = 0.08 / WIDTH
    drawing.suptitle(
        "\n".join(lines),
        x=x,
        y=1 - 0.05 / total,
        ha="left",
        va="top",
        fontsize=10,
        fontweight="bold",
        linespacing=1.15,
    )
    y = 1 - (0.09 + 0.19 * len(lines)) / total
    drawing.text(x, y, cohort, ha="left", va="top", fontsize=8.5, color=MUTED)
    return drawing


def axes_at(drawing, left, bottom, width, height, **kwargs):
    """Add axes at a place given in inches, so that margins do not depend on the figure's size."""
    total_width, total_height = drawing.get_size_inches()
    box = (left / total_width, bottom / total_height, width / total_width, height / total_height)
    return drawing.add_axes(box, **kwargs)


@functools.lru_cache(maxsize=4096)
def text_width(text, size=9.0, weight="normal"):
    """Return the width of one line of text in inches."""
    font = get_font(findfont(FontProperties(family="DejaVu Sans", weight=weight)))
    font.set_size(size, 72)
    font.set_text(text, 0.0)
    return font.get_width_height()[0] / 64 / 72


def wrapped(text, inches, size=9.0, weight="normal", max_lines=None):
    """Break a text into lines that fit a width; words longer than a line are cut.

    Returns
    -------
    list of str
    """
    text = " ".join(str(text).split())
    average = text_width("abcdefghij nopqrst", size, weight) / 18
    characters = max(6, int(1.4 * inches / average))
    while True:
        lines = textwrap.wrap(text, characters) or [""]
        if characters <= 6 or all(text_width(line, size, weight) <= inches for line in lines):
            break
        characters -= 1
    if max_lines and len(lines) > max_lines:
        lines = lines[:max_lines]
        lines[-1] = lines[-1][: max(1, len(lines[-1]) - 1)].rstrip() + "…"
    return lines


def short(text, inches, size=9.0, weight="normal"):
    """Cut one line of text to a width, marking the cut with an ellipsis."""
    text = " ".join(str(text).split())
    if text_width(text, size, weight) <= inches:
        return text
    while len(text) > 2 and text_width(text + "…", size, weight) > inches:
        text = text[:-1]
    return text + "…"


def model_looks(models):
    """Give each model a colour and a marker, in the order of the run; 'selected' is black.

    Returns
    -------
    dict of str to (str, str)
    """
    looks = {}
    for position, model in enumerate(m for m in models if m != "selected"):
        looks[model] = (COLOURS[position % len(COLOURS)], MARKERS[position % len(MARKERS)])
    looks["selected"] = (INK, "*")
    return looks


def empty_drawing(name, title, run, message):
    """Return a figure that says why there is nothing to draw."""
    drawing = new_drawing(name, title, run, 0.6)
    drawing.text(
        0.08 / WIDTH, 0.3, "\n".join(wrapped(message, WIDTH - 0.3)), ha="left", va="center"
    )
    drawing.description = message
    return drawing
