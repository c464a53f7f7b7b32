"""What pictures of slides share: fonts, words that fit, scale bars, a page, and files.

Drawn with Pillow, which takes tens of milliseconds a page where matplotlib takes some hundred. The
font is DejaVu Sans, which comes with matplotlib: the same as in the other figures, with the letters
of names in most languages.
"""

import functools
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .requirements import need
from .whole_files import written_whole

INK, MUTED, FAINT, PAPER = (27, 31, 36), (87, 96, 106), (208, 215, 222), (255, 255, 255)
_WARNING = (170, 60, 0)
PAGE_PX = 1400
MARGIN_PX = 24
GAP_PX = 20


@functools.cache
def font(size, bold=False):
    """Give DejaVu Sans in a size in pixels."""
    folder = Path(need("matplotlib").get_data_path()) / "fonts" / "ttf"
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return need("PIL.ImageFont").truetype(folder / name, size)


def fit(text, typeface, width_px):
    """Cut a text in its middle to a width, so that ids which end differently stay apart."""
    text = " ".join(str(text).split())
    if typeface.getlength(text) <= width_px:
        return text
    for kept in range(len(text) - 1, 1, -1):
        shorter = f"{text[: kept - kept // 2]}…{text[len(text) - kept // 2 :]}"
        if typeface.getlength(shorter) <= width_px:
            return shorter
    return "…"


def wrap(text, typeface, width_px):
    """Break a text into lines that fit a width; a word longer than a line is cut."""
    lines, line = [], ""
    for word in str(text).split():
        longer = f"{line} {word}".strip()
        if line and typeface.getlength(longer) > width_px:
            lines.append(line)
            longer = word
        line = longer
    return [fit(line, typeface, width_px) for line in [*lines, line]]


def round_length(length):
    """Give the largest of 1, 2, 5, 10, 20, ... that is not above a length."""
    decade = 10.0 ** math.floor(math.log10(length))
    return max(step for step in (1, 2, 5) if step * decade <= length * (1 + 1e-9)) * decade


def length_words(length_um):
    """Write a length: 500 µm, 2 mm."""
    return f"{length_um / 1000:g} mm" if length_um >= 1000 else f"{length_um:g} µm"


def draw_scale_bar(pen, x, y, px_um, longest_px):
    """Draw a bar of a round length and say its length behind it; gives the bar's (px, µm)."""
    bar_um = round_length(longest_px * px_um)
    bar_px = round(bar_um / px_um)
    pen.rectangle((x, y, x + bar_px - 1, y + 4), fill=INK)
    pen.text((x + bar_px + 8, y + 2), length_words(bar_um), INK, font(14), anchor="lm")
    return bar_px, bar_um


@dataclass(frozen=True)
class Panel:
    """A picture on a page, with a heading above and, where pixels have a size, a scale bar below.

    Parameters
    ----------
    heading : str
    image : PIL.Image.Image
    px_um : float, optional
        Micrometres a pixel of the image.
    """

    heading: str
    image: object
    px_um: float | None = None

    @property
    def width_px(self):
        """Width on the page."""
        return self.image.width

    @property
    def height_px(self):
        """Height on the page, with heading and scale bar."""
        return (24 if self.heading else 0) + self.image.height + (26 if self.px_um else 0)

    def paste(self, page, pen, x, y):
        """Draw it with its upper left corner at (x, y)."""
        if self.heading:
            pen.text((x, y), fit(self.heading, font(15), self.width_px), MUTED, font(15))
            y += 24
        page.paste(self.image, (x, y))
        if self.px_um:
            right, bottom = x + self.image.width, y + self.image.height
            pen.rectangle((x - 1, y - 1, right, bottom), outline=FAINT)
            draw_scale_bar(pen, x, bottom + 11, self.px_um, 0.25 * self.image.width)


def lay_out(title, lines, rows, width_px=PAGE_PX, banner="", key=None):
    """Set a title, lines of text and rows of panels on a white page.

    Parameters
    ----------
    title : str
    lines : sequence of str
        Wrapped to the width.
    rows : sequence of sequence of Panel
    width_px : int, default 1400
    banner : str, default ""
        A warning; stands above the lines in a colour of its own.
    key : PIL.Image.Image, optional
        A small picture before the title.

    Returns
    -------
    PIL.Image.Image
    """
    inner = width_px - 2 * MARGIN_PX
    wrapped = [(part, _WARNING, font(15, True)) for part in wrap(banner, font(15, True), inner)]
    wrapped = wrapped if banner else []
    wrapped += [(part, INK, font(15)) for line in lines for part in wrap(line, font(15), inner)]
    heights = [max(panel.height_px for panel in row) for row in rows]
    above = MARGIN_PX + 34 + 21 * len(wrapped) + 6
    total = above + sum(heights) + GAP_PX * max(0, len(rows) - 1) + MARGIN_PX
    page = need("PIL.Image").new("RGB", (width_px, total), PAPER)
    pen = need("PIL.ImageDraw").Draw(page)
    left = 0 if key is None else key.width + 12
    if key is not None:
        page.paste(key, (MARGIN_PX, MARGIN_PX - 3))
    words = fit(title, font(22, True), inner - left)
    pen.text((MARGIN_PX + left, MARGIN_PX - 6), words, INK, font(22, True))
    for number, (line, colour, typeface) in enumerate(wrapped):
        pen.text((MARGIN_PX, MARGIN_PX + 30 + 21 * number), line, colour, typeface)
    y = above
    for row, height in zip(rows, heights, strict=True):
        x = MARGIN_PX
        for panel in row:
            panel.paste(page, pen, x, y)
            x += panel.width_px + GAP_PX
        y += height + GAP_PX
    return page


def save_png(page, path):
    """Write a PNG in full colour, so that a map's colours are its legend's; whole or not at all."""
    with written_whole(path) as partial:
        page.save(partial, format="PNG", compress_level=2)  # half the time, 7% larger


def shrink_picture(path, width_px=480):
    """Give a PNG smaller, as the bytes of a JPEG: a thumbnail for a page that links the large one.

    Parameters
    ----------
    path : path
    width_px : int, default 480

    Returns
    -------
    bytes
    """
    import io

    image_module = need("PIL.Image")
    with image_module.open(path) as image:
        image = image.convert("RGB")
    height = max(1, round(image.height * width_px / image.width))
    small = image.resize((width_px, height), image_module.Resampling.LANCZOS)
    stream = io.BytesIO()
    small.save(stream, format="JPEG", quality=82)
    return stream.getvalue()


def as_image(pixels):
    """Make a picture of an array (h, w, 3)."""
    return need("PIL.Image").fromarray(np.ascontiguousarray(pixels, dtype=np.uint8))
