"""Draw what was kept of each slide, and all slides of a cohort on sheets: to look before trusting.

Colours are those of Okabe and Ito, which people with any colour vision can tell apart, and what is
left out is also hatched.
"""

import math
from pathlib import Path

import numpy as np

from tabular_trainers.errors import count

from .picture_parts import fit, round_length
from .requirements import need
from .whole_files import written_whole

_LONGEST_PX = 1200
_BLUE, _VERMILION, _ORANGE = (0, 114, 178), (213, 94, 0), (230, 159, 0)
_INK, _PAPER = (30, 30, 30), (255, 255, 255)
_MARGIN = 16
_BOX = "picture"  # key in a PNG's text: left, upper, right, lower edge of the slide on the page
SHEET_COLUMNS, SHEET_ROWS, _CELL = 6, 5, 300


def draw_quality(thumbnail, mask, grid, path, title=None):
    """Draw a slide with the tissue that was found and the patches that are kept.

    Parameters
    ----------
    thumbnail : ndarray of uint8, shape (h, w, 3)
        As given to ``find_tissue``.
    mask : TissueMask
    grid : PatchGrid
    path : path
        A PNG; written whole or not at all.
    title : str, optional
        Stands above; default: the name of the file without its suffix.
    """
    image_module = need("PIL.Image")
    path = Path(path)
    scale = min(3.0, _LONGEST_PX / max(thumbnail.shape[:2]))
    size = [max(1, round(side * scale)) for side in thumbnail.shape[1::-1]]
    picture = np.asarray(
        image_module.fromarray(thumbnail).resize(size, image_module.Resampling.BILINEAR)
    ).copy()
    tissue, pen, border = (
        np.asarray(image_module.fromarray(part).resize(size, image_module.Resampling.NEAREST))
        for part in (mask.tissue, mask.pen, mask.border)
    )
    px_um = mask.mpp * thumbnail.shape[1] / size[0]
    _draw_grid(picture, grid, px_um)
    picture[_outline(tissue)] = _INK
    _hatch(picture, pen, _VERMILION, 1)
    _hatch(picture, border, _ORANGE, -1)
    share = f"{100 * mask.tissue.mean():.1f}%"
    lines = [
        f"{count(len(grid), 'patch', 'patches')} kept of {grid.n_all:,}; "
        f"{grid.patch_px} px = {grid.size_um:.4g} um ({grid.mpp:.4g} um a pixel)",
        f"tissue {share} of the slide, saturation above {mask.threshold:.3f}",
    ]
    keys = [("kept patch", _BLUE, None), ("edge of tissue", _INK, None)]
    keys += [("pen mark", _VERMILION, 1)] if mask.pen.any() else []
    keys += [("black border", _ORANGE, -1)] if mask.border.any() else []
    page, box = _with_words(picture, title or path.stem, lines, keys, px_um)
    _save(page, path, {_BOX: ",".join(map(str, box))})


def _draw_grid(picture, grid, px_um):
    """Pale what is not kept, and outline each kept patch."""
    image_module, draw_module = need("PIL.Image"), need("PIL.ImageDraw")
    height, width = picture.shape[:2]
    places = image_module.new("L", (width, height))  # 0 not kept, 1 kept, 2 on a line
    pen = draw_module.Draw(places)
    corners = np.stack([grid.x_um, grid.y_um, grid.x_um, grid.y_um], axis=1)
    corners[:, 2:] += grid.size_um
    corners = np.minimum(np.rint(corners / px_um), [width - 1, height - 1] * 2)
    for corner in corners.tolist():
        pen.rectangle(corner, fill=1, outline=2)
    places = np.asarray(places)
    _blend(picture, places == 0, 255, 0.45)
    # Close lines would hide the tissue below them.
    _blend(picture, places == 2, _BLUE, min(1.0, max(0.25, grid.size_um / px_um / 25)))


def _blend(picture, where, colour, share):
    new = (1 - share) * picture[where] + share * np.asarray(colour)
    picture[where] = np.rint(new).astype(np.uint8)


def _outline(mask):
    """Mark the pixels of a mask that touch what is outside of it."""
    inside = mask.copy()
    inside[1:] &= mask[:-1]
    inside[:-1] &= mask[1:]
    inside[:, 1:] &= mask[:, :-1]
    inside[:, :-1] &= mask[:, 1:]
    return mask & ~inside


def _hatch(picture, mask, colour, slope):
    """Draw diagonal stripes over a mask, and its outline."""
    rows, columns = np.indices(mask.shape, sparse=True)
    picture[mask & ((columns + slope * rows) % 8 < 2)] = colour
    picture[_outline(mask)] = colour


def _with_words(picture, title, lines, keys, px_um):
    """Set title, counts, legend and scale bar around a picture."""
    image_module, draw_module = need("PIL.Image"), need("PIL.ImageDraw")
    big, small = (need("PIL.ImageFont").load_default(size) for size in (20, 15))
    height, width = picture.shape[:2]
    words = max([big.getlength(title), *(small.getlength(line) for line in lines)])
    legend = sum(40 + small.getlength(name) for name, _, _ in keys)
    page_width = max(width, math.ceil(max(words, legend))) + 2 * _MARGIN
    above = _MARGIN + 28 + 20 * len(lines) + 28
    page = image_module.new("RGB", (page_width, above + height + 50), _PAPER)
    page.paste(image_module.fromarray(picture), (_MARGIN, above))
    pen = draw_module.Draw(page)
    pen.rectangle((_MARGIN - 1, above - 1, _MARGIN + width, above + height), outline=(170,) * 3)
    pen.text((_MARGIN, _MARGIN - 6), title, _INK, big)
    for number, line in enumerate(lines):
        pen.text((_MARGIN, _MARGIN + 22 + 20 * number), line, _INK, small)
    x, y = _MARGIN, above - 24
    for name, colour, slope in keys:
        patch = np.full((14, 20, 3), 255, dtype=np.uint8)
        if slope is not None:
            _hatch(patch, np.ones(patch.shape[:2], dtype=bool), colour, slope)
        page.paste(image_module.fromarray(patch), (x, y + 2))
        pen.rectangle((x, y + 2, x + 20, y + 16), outline=colour, width=2)
        pen.text((x + 26, y), name, _INK, small)
        x += 40 + math.ceil(small.getlength(name))
    bar_um = round_length(0.25 * (page_width - 2 * _MARGIN) * px_um)
    bar_px = round(bar_um / px_um)
    y = above + height + 12
    pen.rectangle((_MARGIN, y, _MARGIN + bar_px - 1, y + 5), fill=_INK)
    label = f"{bar_um / 1000:g} mm" if bar_um >= 1000 else f"{bar_um:g} um"
    pen.text((_MARGIN, y + 8), label, _INK, small)
    return page, (_MARGIN, above, _MARGIN + width, above + height)


def draw_contact_sheet(slides, path):
    """Draw the pictures of all slides of a cohort on sheets of 30.

    Parameters
    ----------
    slides : sequence of (str, path or None, int, str)
        Of each slide its id, its picture, the number of patches kept and its status. Where there is
        no picture, as of a slide that failed, its place stays empty.
    path : path
        The first sheet, a PNG; the next are called ``<stem>_2.png`` and so on.

    Returns
    -------
    list of Path
        The sheets.
    """
    path = Path(path)
    slides = list(slides)
    a_page = SHEET_COLUMNS * SHEET_ROWS
    n_pages = max(1, math.ceil(len(slides) / a_page))
    pages = []
    for number in range(1, n_pages + 1):
        sheet = path if number == 1 else path.with_name(f"{path.stem}_{number}{path.suffix}")
        heading = f"{count(len(slides), 'slide')}, sheet {number} of {n_pages}"
        _draw_sheet(slides[(number - 1) * a_page : number * a_page], heading, sheet)
        pages.append(sheet)
    return pages


def _draw_sheet(slides, heading, path):
    image_module, draw_module = need("PIL.Image"), need("PIL.ImageDraw")
    big, small = (need("PIL.ImageFont").load_default(size) for size in (20, 14))
    columns = min(SHEET_COLUMNS, max(1, len(slides)))
    rows = max(1, math.ceil(len(slides) / columns))
    cell_height = _CELL + 44
    page = image_module.new(
        "RGB", (max(columns * _CELL, 300) + 2 * _MARGIN, rows * cell_height + 50), _PAPER
    )
    pen = draw_module.Draw(page)
    pen.text((_MARGIN, 10), heading, _INK, big)
    for number, (slide_id, picture, n_patches, status) in enumerate(slides):
        row, column = divmod(number, columns)
        x, y = _MARGIN + column * _CELL, 44 + row * cell_height
        room = _CELL - 10
        if picture is None:
            pen.rectangle((x, y, x + room, y + room), outline=_VERMILION, width=2)
            pen.line((x, y, x + room, y + room), _VERMILION, 2)
        else:
            with image_module.open(picture) as image:
                box = image.info.get(_BOX)  # without the words around it, too small to read here
                image = image.convert("RGB").crop(box and tuple(map(int, box.split(","))))
                image.thumbnail((room, room), image_module.Resampling.BILINEAR)
            page.paste(image, (x, y))
        pen.text((x, y + room + 4), fit(slide_id, small, room), _INK, small)
        words = f"{count(n_patches, 'patch', 'patches')}, {status}"
        colour = _INK if status == "done" else _VERMILION
        pen.text((x, y + room + 21), fit(words, small, room), colour, small)
    _save(page, path, {})


def _save(page, path, words):
    """Write a PNG of 256 colours, a fifth of the size of a full one, with words for programs."""
    image_module, facts = need("PIL.Image"), need("PIL.PngImagePlugin").PngInfo()
    for key, value in words.items():
        facts.add_text(key, value)
    page = page.quantize(256, image_module.Quantize.FASTOCTREE, dither=image_module.Dither.NONE)
    with written_whole(path) as partial:
        page.save(partial, format="PNG", pnginfo=facts)
