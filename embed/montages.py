"""Cut example patches of clusters from the slides again, and lay them out for a pathologist."""

from dataclasses import dataclass

import numpy as np

from tabular_trainers.errors import SchemaError

from .cluster_looks import Look, swatch_pixels
from .picture_parts import (
    FAINT,
    GAP_PX,
    INK,
    MARGIN_PX,
    MUTED,
    PAGE_PX,
    PAPER,
    Panel,
    as_image,
    draw_scale_bar,
    fit,
    font,
    lay_out,
    save_png,
    wrap,
)
from .requirements import need

PATCH_PX = 160
_SPACE_PX = 8  # between patches: 8 in a row fill a page, 4 half of it
KINDS = (("nearest", "nearest the centre"), ("random", "drawn at random"))


@dataclass(frozen=True)
class ClusterPicture:
    """What a montage says and shows of one cluster.

    Parameters
    ----------
    label : str
        Such as ``c07`` or ``c07, lymphocytes``.
    lines : tuple of str
        Facts below the label, such as prevalence and hazard ratio.
    images : list of ndarray or None
        Example patches, from ``cut_patches``.
    examples : pandas.DataFrame
        A row an image: ``kind`` (nearest or random), ``slide_id``, ``size_um``.
    look : Look
        Its colour on the maps.
    """

    label: str
    lines: tuple
    images: list
    examples: object
    look: Look


def cut_patches(examples, slides, side_px=PATCH_PX, progress=None):
    """Cut patches from their slides; each slide is opened once.

    Parameters
    ----------
    examples : pandas.DataFrame
        Columns ``slide_id, x_um, y_um, size_um``.
    slides : SlideFiles
        From ``find_slides``.
    side_px : int, default 160
        Side of a picture; a slide that is coarser is enlarged.
    progress : callable, optional
        Called as ``progress(done, total, slide_id)`` after each slide.

    Returns
    -------
    images : list of ndarray of uint8, shape (side_px, side_px, 3), or None
        In the order of the rows; None where the slide was not found or cannot be read.
    failures : dict of str to str
        Why, by slide_id.
    """
    images, failures = [None] * len(examples), {}
    by_slide = examples.reset_index(drop=True).groupby("slide_id", sort=True)
    for done, (slide_id, rows) in enumerate(by_slide, start=1):
        try:
            with slides.open(slide_id) as slide:
                for row in rows.itertuples():
                    images[row.Index] = cut_square(slide, row.x_um, row.y_um, row.size_um, side_px)
        except (SchemaError, OSError) as error:
            failures[slide_id] = str(error)
        if progress is not None:
            progress(done, by_slide.ngroups, slide_id)
    return images, failures


def cut_square(slide, x_um, y_um, size_um, side_px):
    """Cut a square from a slide, enlarged where the slide is coarser than the picture.

    Parameters
    ----------
    slide : Slide
        Open.
    x_um, y_um, size_um : float
    side_px : int
        Side of the picture.

    Returns
    -------
    ndarray of uint8, shape (side_px, side_px, 3)
    """
    mpp = max(size_um / side_px, slide.mpp)
    width = max(1, round(size_um / slide.pixel_mpp(mpp)))
    pixels = slide.read(x_um, y_um, width, width, mpp)
    if width == side_px:
        return pixels
    resampling = need("PIL.Image").Resampling.BICUBIC
    return np.asarray(as_image(pixels).resize((side_px, side_px), resampling))


def draw_montage(picture, path):
    """Draw one cluster: patches nearest its centre and random ones.

    Parameters
    ----------
    picture : ClusterPicture
    path : path
        A PNG; written whole or not at all.
    """
    width = PAGE_PX - 2 * MARGIN_PX
    rows = []
    for kind, heading in KINDS:
        chosen = np.flatnonzero(picture.examples["kind"].to_numpy() == kind)
        if len(chosen):
            rows.append([Panel(heading, _patches(picture, chosen, width))])
    sizes = picture.examples["size_um"].to_numpy(dtype=float)
    if len(sizes):
        rows.append([Panel("", _bar(sizes[0] / PATCH_PX, width))])
    key = as_image(swatch_pixels(picture.look, 30, 22))
    save_png(lay_out(picture.label, picture.lines, rows, key=key), path)


def draw_side_by_side(high, low, path, *, title, headings=("higher risk", "lower risk"), lines=()):
    """Draw clusters that go with higher risk beside those that go with lower risk.

    Parameters
    ----------
    high, low : sequence of ClusterPicture
        The strongest first; of each, the four patches nearest its centre are shown.
    path : path
        A PNG; written whole or not at all.
    title : str
    headings : (str, str), optional
        Of the two columns.
    lines : sequence of str, optional
        Stand below the title.
    """
    width = (PAGE_PX - 2 * MARGIN_PX - GAP_PX) // 2
    columns = [
        _column(pictures, heading, width)
        for pictures, heading in zip((high, low), headings, strict=True)
    ]
    rows = [[Panel("", column) for column in columns]]
    sizes = [float(p.examples["size_um"].iloc[0]) for p in (*high, *low) if len(p.examples)]
    if sizes:
        rows.append([Panel("", _bar(sizes[0] / PATCH_PX, PAGE_PX - 2 * MARGIN_PX))])
    save_png(lay_out(title, lines, rows), path)


def _patches(picture, chosen, width_px):
    """Lay patches in rows, with the slide's id below each."""
    columns = (width_px + _SPACE_PX) // (PATCH_PX + _SPACE_PX)
    n_rows = -(-len(chosen) // columns)
    height = PATCH_PX + 22
    sheet = need("PIL.Image").new("RGB", (width_px, n_rows * height), PAPER)
    pen = need("PIL.ImageDraw").Draw(sheet)
    slide_ids = picture.examples["slide_id"].tolist()
    for number, position in enumerate(chosen.tolist()):
        row, column = divmod(number, columns)
        x, y = column * (PATCH_PX + _SPACE_PX), row * height
        image = picture.images[position]
        if image is None:
            pen.rectangle((x, y, x + PATCH_PX - 1, y + PATCH_PX - 1), outline=FAINT)
            middle = (x + PATCH_PX / 2, y + PATCH_PX / 2)
            pen.text(middle, "slide not there", MUTED, font(13), anchor="mm")
        else:
            sheet.paste(as_image(image), (x, y))
        words = fit(slide_ids[position], font(12), PATCH_PX)
        pen.text((x, y + PATCH_PX + 3), words, MUTED, font(12))
    return sheet


def _column(pictures, heading, width_px):
    """Draw clusters below each other: label, facts, four patches."""
    bold, plain = font(15, True), font(14)
    lines = [
        [part for line in picture.lines for part in wrap(line, plain, width_px)]
        for picture in pictures
    ]
    heights = [26 + 19 * len(own) + PATCH_PX + 24 for own in lines]
    column = need("PIL.Image").new("RGB", (width_px, 36 + max(24, sum(heights))), PAPER)
    pen = need("PIL.ImageDraw").Draw(column)
    pen.text((0, 2), heading, INK, font(17, True))
    pen.line((0, 28, width_px, 28), FAINT)
    y = 36
    if not pictures:
        pen.text((0, y), "none", MUTED, plain)
    for picture, own, height in zip(pictures, lines, heights, strict=True):
        column.paste(as_image(swatch_pixels(picture.look, 22, 15)), (0, y + 2))
        pen.text((30, y), fit(picture.label, bold, width_px - 30), INK, bold)
        for number, line in enumerate(own):
            pen.text((0, y + 22 + 19 * number), line, MUTED, plain)
        top = y + 26 + 19 * len(own)
        nearest = np.argsort(picture.examples["kind"].to_numpy() != "nearest", kind="stable")
        shown = [picture.images[place] for place in nearest.tolist()]
        shown = [image for image in shown if image is not None]
        for number, image in enumerate(shown[: (width_px + _SPACE_PX) // (PATCH_PX + _SPACE_PX)]):
            column.paste(as_image(image), (number * (PATCH_PX + _SPACE_PX), top))
        y += height
    return column


def _bar(px_um, width_px):
    bar = need("PIL.Image").new("RGB", (width_px, 16), PAPER)
    draw_scale_bar(need("PIL.ImageDraw").Draw(bar), 0, 5, px_um, 0.8 * PATCH_PX)
    return bar
