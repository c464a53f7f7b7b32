"""One page of one patient: tissue, maps, the patches that matter most, the patient in the cohort.

Such a page is about a person: it says so at its top, whatever else is on it.
"""

from dataclasses import dataclass

import numpy as np

from tabular_trainers.errors import count

from .maps import (
    RISK_HEADING,
    cluster_legend,
    colour_clusters,
    colour_terms,
    looks_on_slide,
    risk_legend,
    scale_end,
    signed,
    view_patches,
)
from .montages import cut_square
from .picture_parts import (
    GAP_PX,
    INK,
    MARGIN_PX,
    MUTED,
    PAPER,
    Panel,
    as_image,
    fit,
    font,
    lay_out,
    save_png,
)
from .requirements import need

WIDTH_PX = 1754  # A4, landscape, at 150 dots an inch
_COLUMN_PX = (WIDTH_PX - 2 * MARGIN_PX - 2 * GAP_PX) // 3
_MAP_PX = 500  # tallest
_PATCH_PX = 132
_N_PATCHES = 4  # of each direction
_NUMBER_PX = 16
_SHOWN = 10  # clusters in the chart
_COMPARED = 10  # patients from which on a patient is compared with them
_GREY = "#b4bac1"
_MARKERS = {"plain": "o", "stripes": "s", "dots": "D"}
_RAISES, _LOWERS = (190, 75, 0), (0, 90, 160)
_STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "text.parse_math": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#57606a",
    "axes.linewidth": 0.8,
    "figure.dpi": 100,
}


@dataclass(frozen=True)
class Case:
    """What is known of one patient.

    Parameters
    ----------
    patient_id : str
    lines : sequence of str
        Below the title, such as the risk and how it compares.
    composition : pandas.Series
        The patient's share of tissue by the label of each cluster.
    cohort : pandas.DataFrame
        The same of all patients, a row each; same columns.
    clinical : sequence of (str, str)
        Name and value, as they are to be read.
    times, survival : ndarray of float, optional
        The predicted curve.
    time_unit : str, default "days"
    unit : str, default "log hazard"
        Of the patches' terms.
    """

    patient_id: str
    lines: tuple
    composition: object
    cohort: object
    clinical: tuple = ()
    times: object = None
    survival: object = None
    time_unit: str = "days"
    unit: str = "log hazard"


@dataclass(frozen=True)
class CaseSlide:
    """The slide of a patient that is shown.

    Parameters
    ----------
    slide_id : str
    frame : pandas.DataFrame
        Columns ``x_um, y_um, size_um`` of its patches.
    labels : ndarray of int, shape (n_patches,)
        Positions in the looks.
    terms : ndarray of float, shape (n_patches,), optional
        Part of the risk in each patch; without them there is neither a risk map nor top patches.
    n_slides : int, default 1
        Slides of the patient.
    """

    slide_id: str
    frame: object
    labels: np.ndarray
    terms: np.ndarray | None = None
    n_slides: int = 1


def draw_case_page(case, path, *, banner, looks, shown=None, slide=None, limit=1.0):
    """Draw the page of a patient.

    Parameters
    ----------
    case : Case
    path : path
        A PNG; written whole or not at all.
    banner : str
        Says that this is about a person.
    looks : sequence of Look
        From ``cluster_looks``.
    shown : CaseSlide, optional
        The slide to draw; one of several is best that with the most patches.
    slide : Slide, optional
        The same, open. Without it there are charts only.
    limit : float, default 1.0
        The scale of risk goes from -limit, rounded, to limit; one for all patients.
    """
    rows, lines, limit = [], list(case.lines), scale_end(limit)
    below = []
    if slide is not None:
        one_of = f", that with most patches of {shown.n_slides}" if shown.n_slides > 1 else ""
        n = count(len(shown.frame), "patch", "patches")
        lines.append(f"Slide {shown.slide_id}{one_of}: {n}.")
        maps, patches = _pictures(case, shown, slide, looks, limit)
        rows.append(maps)
        below += patches
    n = len(case.cohort)
    of_all = f", and that of all {count(n, 'patient')}" if n >= _COMPARED else ""
    heading = f"share of the tissue{of_all}"
    below.append(Panel(heading, _composition_chart(case, looks)))
    below.append(_facts(case))
    rows.append(below)
    width = WIDTH_PX if slide is not None else WIDTH_PX - _COLUMN_PX - GAP_PX
    page = lay_out(f"Patient {case.patient_id}", lines, rows, width, banner)
    save_png(page, path)


def top_patches(terms, n=_N_PATCHES):
    """Choose the patches that raise and that lower the risk most.

    Parameters
    ----------
    terms : ndarray of float, shape (n_patches,)
    n : int, default 4

    Returns
    -------
    raising, lowering : ndarray of int
        Rows, the strongest first; at most n each, only such with a term above (below) 0.
    """
    order = np.argsort(terms, kind="stable")
    raising = [row for row in order[::-1][:n] if terms[row] > 0]
    lowering = [row for row in order[:n] if terms[row] < 0]
    return np.array(raising, dtype=int), np.array(lowering, dtype=int)


def _pictures(case, shown, slide, looks, limit):
    """Draw the panels that need the slide: maps for a row, patches for the next."""
    view = view_patches(slide, shown.frame, _COLUMN_PX, _MAP_PX)
    tissue = view.image()
    own = looks_on_slide(shown.labels, looks)
    coloured = colour_clusters(view, shown.frame, shown.labels, own)
    legend = cluster_legend(shown.labels, own, _COLUMN_PX, size=13)
    maps = [
        Panel("tissue", tissue, view.px_um),
        _stack(Panel("clusters", coloured, view.px_um), Panel("", legend)),
    ]
    if shown.terms is None:
        return [_widened(panel) for panel in maps], []
    risk = colour_terms(view, shown.frame, shown.terms, limit)
    bar = risk_legend(shown.terms, limit, case.unit, _COLUMN_PX, size=13)
    maps.append(_stack(Panel(RISK_HEADING, risk, view.px_um), Panel("", bar)))
    raising, lowering = top_patches(shown.terms)
    _mark(tissue, view, shown.frame, raising, lowering)
    sheets = [
        Panel(heading, _patch_row(slide, shown, rows, first, colour, limit))
        for heading, rows, first, colour in (
            ("raise the risk most", raising, 1, _RAISES),
            ("lower the risk most", lowering, 1 + len(raising), _LOWERS),
        )
        if len(rows)
    ]
    return [_widened(panel) for panel in maps], [_widened(_stack(*sheets))] if sheets else []


def _mark(image, view, frame, raising, lowering):
    """Outline patches on the tissue and number them."""
    pen = need("PIL.ImageDraw").Draw(image)
    rows = [*((row, _RAISES) for row in raising), *((row, _LOWERS) for row in lowering)]
    corners = frame[["x_um", "y_um"]].to_numpy(dtype=float) - (view.x_um, view.y_um)
    corners = np.rint(corners / view.px_um).astype(int)
    side = round(float(frame["size_um"].max()) / view.px_um)
    for row, colour in rows:
        box = (*corners[row], *(corners[row] + side - 1))
        pen.rectangle(box, outline=colour, width=3 if side > 2 * _NUMBER_PX else 2)
    taken = []
    for number, (row, colour) in enumerate(rows, start=1):
        x, y = _place_number(corners[row], side, image.size, taken)
        taken.append((x, y))
        _draw_number(pen, x, y, number, colour)


def _place_number(corner, side, size, taken):
    """Find room for a number: inside a large patch, else beside it and off other numbers."""
    left, top = corner.tolist()
    if side > 2 * _NUMBER_PX:
        return left, top
    before, after = -_NUMBER_PX, side
    places = [
        (min(max(left + x, 0), size[0] - _NUMBER_PX), min(max(top + y, 0), size[1] - _NUMBER_PX))
        for x, y in ((before, before), (after, before), (before, after), (after, after), (0, after))
    ]
    free = (
        place
        for place in places
        if all(max(abs(place[0] - x), abs(place[1] - y)) >= _NUMBER_PX for x, y in taken)
    )
    return next(free, places[0])


def _draw_number(pen, x, y, number, colour):
    pen.rectangle((x, y, x + _NUMBER_PX - 1, y + _NUMBER_PX - 1), fill=colour)
    middle = (x + _NUMBER_PX / 2, y + _NUMBER_PX / 2)
    pen.text(middle, str(number), PAPER, font(12, True), anchor="mm")


def _patch_row(slide, shown, rows, first, colour, limit):
    """Lay patches in a row, each with its number and its term."""
    sheet = need("PIL.Image").new("RGB", (_COLUMN_PX, _PATCH_PX + 24), PAPER)
    pen = need("PIL.ImageDraw").Draw(sheet)
    for place, row in enumerate(rows.tolist()):
        patch = shown.frame.iloc[row]
        pixels = cut_square(slide, patch["x_um"], patch["y_um"], patch["size_um"], _PATCH_PX)
        x = place * (_PATCH_PX + 8)
        sheet.paste(as_image(pixels), (x, 0))
        _draw_number(pen, x, 0, first + place, colour)
        pen.text((x, _PATCH_PX + 4), signed(shown.terms[row], limit), INK, font(13))
    return sheet


def _facts(case):
    """Draw the clinical values, and the predicted curve below."""
    panels = []
    if case.clinical:
        typeface, line = font(14), 22
        table = need("PIL.Image").new("RGB", (_COLUMN_PX, line * len(case.clinical)), PAPER)
        pen = need("PIL.ImageDraw").Draw(table)
        half = _COLUMN_PX // 2
        for number, (name, value) in enumerate(case.clinical):
            pen.text((0, number * line), fit(name, typeface, half - 12), MUTED, typeface)
            pen.text((half, number * line), fit(value, typeface, half), INK, typeface)
        panels.append(Panel("clinical values", table))
    if case.times is not None:
        panels.append(Panel("predicted survival", _survival_chart(case)))
    return _stack(*panels) if panels else Panel("", as_image(np.full((1, _COLUMN_PX, 3), 255)))


def _survival_chart(case):
    figure, axes = _new_chart(230)
    times, survival = [0.0, *case.times], [1.0, *case.survival]
    axes.plot(times, survival, color="#1b1f24", linewidth=1.8, drawstyle="steps-post")
    axes.set_ylim(0, 1.02)
    axes.set_xlim(0, max(times))
    axes.set_xlabel(f"time ({case.time_unit})")
    axes.set_ylabel("probability")
    return _drawn(figure)


def _composition_chart(case, looks):
    """Draw the patient's share of each cluster over its spread in the cohort."""
    by_label = {look.label: look for look in looks}
    own = 100 * case.composition.astype(float)
    cohort = 100 * case.cohort[own.index].astype(float)
    compared = len(cohort) >= _COMPARED
    chosen = own[_telling(own, cohort)].sort_values(ascending=False, kind="stable")
    figure, axes = _new_chart(78 + 30 * len(chosen), left=0.3, right=0.82)
    beside = {"transform": axes.get_yaxis_transform(), "va": "center"}
    for row, (label, share) in enumerate(chosen.items()):
        values = cohort[label].to_numpy()
        if compared:
            low, first, middle, third, high = np.quantile(values, [0.05, 0.25, 0.5, 0.75, 0.95])
            axes.plot([low, high], [row, row], color=_GREY, linewidth=1.2)
            axes.plot([first, third], [row, row], color=_GREY, linewidth=7, solid_capstyle="butt")
            axes.plot([middle, middle], [row - 0.28, row + 0.28], color="#57606a", linewidth=1.5)
            below = ((values < share).mean() + (values <= share).mean()) / 2
            axes.text(1.05, row, f"{100 * below:.0f}", **beside)
        look = by_label[label]
        face = np.array(look.colour) / 255
        axes.plot(share, row, _MARKERS[look.texture], markersize=9, mfc=face, mec="#1b1f24")
    if compared:
        axes.text(1.05, -0.85, "percentile", **beside)
    axes.set_yticks(range(len(chosen)), [_short(label) for label in chosen.index])
    axes.set_ylim(len(chosen) - 0.5, -0.5)
    axes.set_xlim(left=0)
    grey = "; grey: median, middle half and 90% of patients" if compared else ""
    axes.set_xlabel(f"% of the tissue{grey}", x=0.4)
    return _drawn(figure)


def _telling(own, cohort):
    """Choose the clusters that say most of a patient: large ones, and unusual ones."""
    spread = (cohort.quantile(0.75) - cohort.quantile(0.25)).clip(lower=0.1)
    unusual = ((own - cohort.median()).abs() / spread).clip(upper=10)
    return (own + 2 * unusual).sort_values(ascending=False, kind="stable").index[:_SHOWN]


def _short(label):
    return fit(label, font(13), 0.28 * _COLUMN_PX)


def _new_chart(height_px, left=0.12, right=0.97):
    """Give a figure and its axes, without pyplot; in the context of _drawn's settings."""
    need("matplotlib")
    from matplotlib import style
    from matplotlib.figure import Figure

    with style.context(["default", _STYLE]):
        figure = Figure(figsize=(_COLUMN_PX / 100, height_px / 100))
        axes = figure.add_axes((left, 48 / height_px, right - left, 1 - (48 + 24) / height_px))
    return figure, axes


def _drawn(figure):
    from matplotlib import style
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    with style.context(["default", _STYLE]):
        canvas.draw()
    return as_image(np.asarray(canvas.buffer_rgba())[..., :3])


def _stack(*panels):
    """Set panels below each other, as one panel without a heading."""
    height = sum(panel.height_px for panel in panels) + 10 * (len(panels) - 1)
    sheet = need("PIL.Image").new("RGB", (_COLUMN_PX, height), PAPER)
    pen = need("PIL.ImageDraw").Draw(sheet)
    y = 0
    for panel in panels:
        panel.paste(sheet, pen, 1, y)
        y += panel.height_px + 10
    return Panel("", sheet)


def _widened(panel):
    """Give a panel the width of a column."""
    return panel if panel.width_px == _COLUMN_PX else _stack(panel)
