"""Draw what lies where on a slide: the cluster of each patch, and its part of the risk.

A map stands beside the tissue that it lies over, in the same frame: the part of the slide that has
patches. Under the colours the tissue is grey, and as bright as it is in the slide, so that a colour
on the map is that of the legend.
"""

import math
from collections import Counter
from dataclasses import dataclass, replace

import numpy as np

from tabular_trainers.errors import count

from .cluster_looks import GREY, mark_colour, swatch_pixels, texture_pixels
from .picture_parts import (
    GAP_PX,
    INK,
    MARGIN_PX,
    MUTED,
    PAGE_PX,
    PAPER,
    Panel,
    as_image,
    fit,
    font,
    lay_out,
    save_png,
    wrap,
)
from .requirements import need

SHOWN = 16  # clusters in a legend
RISK_HEADING = "risk: orange raises it, blue lowers it"
TALLEST_PX = 860
_ENLARGED = 3.0  # most, of a slide that is small
_ROOM_UM = 1000.0  # least side of the part of a slide that is shown, where the slide is as large
_LOW, _HIGH = (0, 90, 160), (190, 75, 0)  # ends of the scale of risk, after Okabe and Ito
_LIGHT = {_LOW: (140, 190, 225), _HIGH: (245, 175, 110)}  # half way
_MIDDLE = (247, 247, 247)
_ENDS = (1, 1.2, 1.6, 2, 3, 4, 5, 6, 8, 10)


@dataclass(frozen=True)
class View:
    """A part of a slide as it is drawn.

    Attributes
    ----------
    pixels : ndarray of uint8, shape (h, w, 3)
    x_um, y_um : float
        Its upper left corner on the slide.
    px_um : float
        Micrometres a pixel.
    """

    pixels: np.ndarray
    x_um: float
    y_um: float
    px_um: float

    def image(self):
        """Give it as a picture."""
        return as_image(self.pixels)


def view_patches(slide, frame, width_px, height_px):
    """Read the part of a slide that has patches, with some room around it.

    Parameters
    ----------
    slide : Slide
    frame : pandas.DataFrame
        Columns ``x_um, y_um, size_um`` of its patches.
    width_px, height_px : int
        The view is at most so large.

    Returns
    -------
    View
    """
    whole = np.array([slide.width_px, slide.height_px]) * slide.mpp
    corners = frame[["x_um", "y_um"]].to_numpy(dtype=float)
    size_um = float(frame["size_um"].max())
    low, high = corners.min(axis=0), corners.max(axis=0) + size_um
    room = np.maximum(size_um, 0.04 * (high - low))
    room = np.maximum(room, (_ROOM_UM - (high - low)) / 2)
    low, high = np.maximum(low - room, 0), np.minimum(high + room, whole)
    px_um = float(max((high - low) / (width_px, height_px)))
    mpp = max(px_um, slide.mpp)
    width, height = (max(1, math.floor(side / mpp + 1e-6)) for side in high - low)
    pixels = slide.read(*low, width, height, mpp)
    mpp = slide.pixel_mpp(mpp)
    scale = min(_ENLARGED, mpp / px_um, width_px / width, height_px / height)
    if scale > 1.02:
        resampling = need("PIL.Image").Resampling.BICUBIC
        size = (max(1, int(width * scale)), max(1, int(height * scale)))
        pixels = np.asarray(as_image(pixels).resize(size, resampling))
        mpp *= width / size[0]
    return View(pixels, float(low[0]), float(low[1]), mpp)


def patch_places(view, frame):
    """Give for each pixel of a view the row of the patch that it lies in, or -1.

    Returns
    -------
    ndarray of int, shape (h, w)
    """
    height, width = view.pixels.shape[:2]
    places = need("PIL.Image").new("I", (width, height), -1)
    pen = need("PIL.ImageDraw").Draw(places)
    corners = frame[["x_um", "y_um"]].to_numpy(dtype=float) - (view.x_um, view.y_um)
    ends = corners + frame["size_um"].to_numpy(dtype=float)[:, None]
    boxes = np.rint(np.concatenate([corners, ends], axis=1) / view.px_um).astype(int)
    boxes[:, 2:] = np.maximum(boxes[:, 2:] - 1, boxes[:, :2])
    for row, box in enumerate(boxes.tolist()):
        pen.rectangle(box, fill=row)
    return np.asarray(places)


def colour_clusters(view, frame, labels, looks):
    """Colour the patches of a view by their clusters.

    Parameters
    ----------
    view : View
    frame : pandas.DataFrame
    labels : ndarray of int, shape (n_patches,)
        Positions in ``looks``.
    looks : sequence of Look

    Returns
    -------
    PIL.Image.Image
    """
    places = patch_places(view, frame)
    kinds, firsts = _kinds(looks)
    colours = np.array([looks[first].colour for first in firsts], dtype=float)
    marks = np.array([mark_colour(looks[first].colour) for first in firsts], dtype=float)
    textures = [looks[first].texture for first in firsts]
    kind = np.where(places >= 0, kinds[np.asarray(labels)][places], -1)
    painted = colours[kind]
    for texture in sorted(set(textures) - {"plain"}):
        has = np.array([own == texture for own in textures])[kind]
        has &= texture_pixels(kind.shape, texture)
        painted[has] = marks[kind[has]]
    return as_image(_over_tissue(view, places, painted, kind))


def colour_terms(view, frame, terms, limit):
    """Colour the patches of a view by numbers, on a scale from -limit to limit.

    Returns
    -------
    PIL.Image.Image
    """
    places = patch_places(view, frame)
    colours = risk_colours(np.asarray(terms, dtype=float) / limit)
    return as_image(_over_tissue(view, places, colours[places], np.minimum(places, 0)))


def risk_colours(values):
    """Give colours for values from -1 (blue) over 0 (nearly white) to 1 (orange-brown).

    Parameters
    ----------
    values : ndarray of float, shape (n,)
        Those beyond -1 and 1 have the colour of the ends.

    Returns
    -------
    ndarray of float, shape (n, 3)
    """
    stops = np.array([_LOW, _LIGHT[_LOW], _MIDDLE, _LIGHT[_HIGH], _HIGH], dtype=float)
    places = np.linspace(-1, 1, len(stops))
    return np.stack([np.interp(values, places, stops[:, i]) for i in range(3)], axis=1)


def scale_end(limit):
    """Round the end of a scale up, so that it and its half are short numbers.

    Examples
    --------
    >>> scale_end(7.71), scale_end(0.13), scale_end(3.0)
    (8.0, 0.16, 3.0)
    """
    decade = 10.0 ** math.floor(math.log10(limit))
    steps = (step for step in _ENDS if step * decade >= limit * (1 - 1e-9))
    return float(f"{next(steps) * decade:.2g}")


def looks_on_slide(labels, looks, shown=SHOWN):
    """Make grey what a slide has too little of for its legend; the others look as everywhere.

    Parameters
    ----------
    labels : ndarray of int, shape (n_patches,)
        Positions in ``looks``.
    looks : sequence of Look
    shown : int, default 16
        At most so many names keep their colours: those that most of the patches have.

    Returns
    -------
    tuple of Look
    """
    counts = Counter()
    for look, n in zip(looks, np.bincount(labels, minlength=len(looks)).tolist(), strict=True):
        if n and not look.is_other:
            counts[look.label] += n
    kept = {label for label, _ in counts.most_common(shown)}
    return tuple(
        look if look.label in kept else replace(look, colour=GREY, texture="plain")
        for look in looks
    )


def draw_cluster_map(slide, frame, labels, looks, path, *, title, lines=()):
    """Draw a slide beside the clusters of its patches.

    Parameters
    ----------
    slide : Slide
        Open.
    frame : pandas.DataFrame
        Columns ``x_um, y_um, size_um`` of its patches.
    labels : ndarray of int, shape (n_patches,)
        Cluster of each patch, as a position in ``looks``.
    looks : sequence of Look
        From ``cluster_looks``.
    path : path
        A PNG; written whole or not at all.
    title : str
    lines : sequence of str, optional
        Stand below the title.
    """
    view, box = _view_for_page(slide, frame)
    looks = looks_on_slide(labels, looks)
    coloured = colour_clusters(view, frame, labels, looks)
    panels = [Panel("tissue", view.image(), view.px_um), Panel("clusters", coloured, view.px_um)]
    legend = cluster_legend(labels, looks, PAGE_PX - 2 * MARGIN_PX)
    save_png(lay_out(title, lines, [*_beside(panels, box), [Panel("", legend)]]), path)


def draw_risk_map(slide, frame, terms, path, *, limit, title, lines=(), unit="log hazard"):
    """Draw a slide beside what each of its patches adds to the patient's risk.

    Parameters
    ----------
    slide : Slide
        Open.
    frame : pandas.DataFrame
        Columns ``x_um, y_um, size_um`` of its patches.
    terms : ndarray of float, shape (n_patches,)
    path : path
        A PNG; written whole or not at all.
    limit : float
        The scale goes from -limit, rounded, to limit; one for all patients lets them be compared.
    title : str
    lines : sequence of str, optional
        Stand below the title, such as whether the terms are exact.
    unit : str, default "log hazard"
    """
    limit = scale_end(limit)
    view, box = _view_for_page(slide, frame)
    coloured = colour_terms(view, frame, terms, limit)
    panels = [
        Panel("tissue", view.image(), view.px_um),
        Panel(RISK_HEADING, coloured, view.px_um),
    ]
    bar = risk_legend(terms, limit, unit, PAGE_PX - 2 * MARGIN_PX)
    save_png(lay_out(title, lines, [*_beside(panels, box), [Panel("", bar)]]), path)


def cluster_legend(labels, looks, width_px, size=15):
    """Draw the legend of the clusters on one slide with their shares, the largest first.

    Parameters
    ----------
    labels : ndarray of int, shape (n_patches,)
    looks : sequence of Look
        Those without a colour of their own are one last entry.
    width_px : int
    size : int, default 15
        Of the letters, in pixels.

    Returns
    -------
    PIL.Image.Image
    """
    entries = _legend_entries(labels, looks)
    typeface, line = font(size), size + 9
    swatch = 2 * size - 6
    # A long name is cut rather than that it makes the legend of all one long column.
    room = width_px / 2 - GAP_PX - swatch - 10 - typeface.getlength("  99%")
    entries = [(look, f"{fit(name, typeface, room)}  {share}") for look, name, share in entries]
    widest = max(swatch + 10 + typeface.getlength(words) for _, words in entries)
    columns = int(max(1, min(len(entries), (width_px + GAP_PX) // (widest + GAP_PX))))
    rows = math.ceil(len(entries) / columns)
    column_px = min((width_px + GAP_PX) / columns, widest + 2 * GAP_PX)
    legend = need("PIL.Image").new("RGB", (width_px, rows * line), PAPER)
    pen = need("PIL.ImageDraw").Draw(legend)
    for number, (look, words) in enumerate(entries):
        column, row = divmod(number, rows)
        x, y = round(column * column_px), row * line
        legend.paste(as_image(swatch_pixels(look, swatch, size)), (x, y + 3))
        pen.rectangle((x, y + 3, x + swatch - 1, y + 2 + size), outline=MUTED)
        pen.text((x + swatch + 10, y + 3 + size / 2), words, INK, typeface, anchor="lm")
    return legend


def risk_legend(terms, limit, unit, width_px, size=15):
    """Draw the colour bar of a risk map, where the slide's patches lie on it, and their mean.

    Parameters
    ----------
    terms : ndarray of float, shape (n_patches,)
    limit : float
    unit : str
    width_px : int
    size : int, default 15

    Returns
    -------
    PIL.Image.Image
    """
    typeface = font(size)
    terms = np.asarray(terms, dtype=float)
    beyond = {-1: "≤ ", 1: "≥ "} if np.abs(terms).max() > limit else {}
    ticks = {
        place: f"{beyond.get(place, '')}{place * limit:+g}".replace("-", "−") if place else "0"
        for place in (-1, -0.5, 0, 0.5, 1)
    }
    widest = max(typeface.getlength(words) for words in ticks.values())
    left, top, hill = math.ceil(widest / 2), 2 * size + 12, 2 * size
    bar_px, bar_height = min(560, width_px - 2 * left), size + 3
    if 4 * (widest + size) > bar_px:
        del ticks[-0.5], ticks[0.5]
    words = f"term of a patch ({unit}); mean {signed(terms.mean(), limit)}"
    lines = wrap(words, typeface, width_px - left)
    y = top + bar_height + 2 * size + 4
    legend = need("PIL.Image").new("RGB", (width_px, y + (size + 5) * len(lines)), PAPER)
    pen = need("PIL.ImageDraw").Draw(legend)
    scale = risk_colours(np.linspace(-1, 1, bar_px))
    legend.paste(as_image(np.repeat(np.rint(scale)[None], bar_height, axis=0)), (left, top))
    pen.rectangle((left, top, left + bar_px - 1, top + bar_height - 1), outline=MUTED)
    counts, _ = np.histogram(np.clip(terms / limit, -1, 1), bins=56, range=(-1, 1))
    step = bar_px / len(counts)
    for number, share in enumerate(counts / counts.max()):
        if share > 0:
            x, height = left + number * step, max(1, round(share * hill))
            pen.rectangle((x, top - 3 - height, x + step - 2, top - 3), fill=(150, 156, 163))
    for place, words in ticks.items():
        x = left + (place + 1) / 2 * (bar_px - 1)
        pen.line((x, top + bar_height, x, top + bar_height + 4), MUTED)
        pen.text((x, top + bar_height + 7), words, INK, typeface, anchor="mt")
    for number, line in enumerate(lines):
        pen.text((left, y + (size + 5) * number), line, INK, typeface)
    return legend


def signed(value, limit):
    """Write a number with its sign, to a hundredth or so of the scale's end: +0.31, −1.20, 0."""
    decimals = max(0, 2 - math.floor(math.log10(limit)))
    words = f"{value:+.{decimals}f}"
    return "0" if float(words) == 0 else words.replace("-", "−")


def _view_for_page(slide, frame):
    """Read a view for one of two panels; they lie beside each other unless they are wide."""
    half, whole = (PAGE_PX - 2 * MARGIN_PX - GAP_PX) // 2, PAGE_PX - 2 * MARGIN_PX
    beside = view_patches(slide, frame, half, TALLEST_PX)
    height, width = beside.pixels.shape[:2]
    if width > 1.9 * height:
        return view_patches(slide, frame, whole, TALLEST_PX), True
    return beside, False


def _beside(panels, stacked):
    return [[panel] for panel in panels] if stacked else [panels]


def _kinds(looks):
    """Tell which clusters look alike: (kind of each cluster, first cluster of each kind)."""
    known, kinds, firsts = {}, [], []
    for position, look in enumerate(looks):
        key = (look.colour, look.texture)
        if key not in known:
            known[key] = len(firsts)
            firsts.append(position)
        kinds.append(known[key])
    return np.array(kinds), firsts


def _over_tissue(view, places, painted, kind):
    """Lay colours over the grey tissue, with a line where one kind meets another."""
    grey = view.pixels @ np.array([0.299, 0.587, 0.114])
    inside = places >= 0
    out = np.repeat(255 - 0.4 * (255 - grey)[..., None], 3, axis=2)
    if inside.any():
        # Darker towards black and lighter towards white: the hue stays that of the legend.
        relief = (grey[inside] - np.median(grey[inside]))[:, None] / 255
        ends = np.where(relief > 0, 255.0, 0.0)
        share = np.minimum(0.5 * np.abs(relief), 0.2)
        out[inside] = (1 - share) * painted[inside] + share * ends
    line = np.zeros(kind.shape, dtype=bool)
    line[1:] |= kind[1:] != kind[:-1]
    line[:, 1:] |= kind[:, 1:] != kind[:, :-1]
    out[line] = 0.55 * out[line] + 0.45 * np.array(INK)
    return np.clip(np.rint(out), 0, 255).astype(np.uint8)


def _legend_entries(labels, looks):
    """List (look, name, share) of what is on a slide, the largest first, the rest as one."""
    counts = np.bincount(labels, minlength=len(looks)).tolist()
    by_label, others = {}, []
    for look, n in zip(looks, counts, strict=True):
        if look.is_other:
            others += [n] if n else []
        elif n:
            by_label[look.label] = (look, n + by_label.get(look.label, (None, 0))[1])
    ranked = sorted(by_label.values(), key=lambda entry: -entry[1])
    entries = [(look, look.label, _percent(n, len(labels))) for look, n in ranked]
    if others:
        words = count(len(others), "other cluster")
        entries.append((None, words, _percent(sum(others), len(labels))))
    return entries


def _percent(n, n_all):
    share = 100 * n / n_all
    return f"{share:.0f}%" if share >= 0.95 or n == 0 else f"{share:.1g}%"
