"""Figures as bytes: inline SVG that a screen reader can name, and PNG for a paper."""

import html
import io
import re

from tabular_trainers.plots_style import styled_context

RELEASE_NOTE = "Contains patient-level points or small counts: not cleared for release."
DPI = 200


def inline_svg(drawing):
    """Return a figure as an SVG element for an HTML page.

    Text is drawn as paths, so it looks the same on every machine; the title and the description of
    the figure are given to screen readers. Ids are prefixed with the figure's name: in one page the
    glyphs and clip paths of many figures would otherwise be mixed up.

    Parameters
    ----------
    drawing : Drawing
        A figure of `plots`.

    Returns
    -------
    str
        The same text for the same figure.
    """
    buffer = io.StringIO()
    with styled_context(**{"svg.hashsalt": drawing.name}):
        drawing.savefig(buffer, format="svg", dpi=DPI, metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<!--.*?-->", "", svg, flags=re.DOTALL)
    # A style element inside the page would apply to the whole page; report.html.jinja has its rule.
    svg = re.sub(r"<style.*?</style>", "", svg, flags=re.DOTALL)
    svg = _own_ids(svg, drawing.name)
    svg = re.sub(r">\s+<", ">\n<", svg)
    box = re.search(r'viewBox="([^"]+)"', svg).group(1)
    start = svg.index(">") + 1
    name = html.escape(drawing.name, quote=True)
    head = (
        f'<svg class="figure" role="img" aria-labelledby="{name}-title {name}-desc" '
        f'viewBox="{box}" xmlns="http://www.w3.org/2000/svg" '
        'xmlns:xlink="http://www.w3.org/1999/xlink">'
        f'<title id="{name}-title">{html.escape(drawing.title)}</title>'
        f'<desc id="{name}-desc">{html.escape(drawing.description)}</desc>'
    )
    return head + svg[start:].strip()


def png_bytes(drawing):
    """Return a figure as PNG; its metadata say that it is not cleared for release."""
    buffer = io.BytesIO()
    facts = {"Software": None, "Title": drawing.title, "Disclaimer": RELEASE_NOTE}
    with styled_context():
        drawing.savefig(
            buffer, format="png", dpi=DPI, metadata=facts, pil_kwargs={"compress_level": 2}
        )
    return buffer.getvalue()


def _own_ids(svg, name):
    """Drop ids that nothing refers to, and prefix the others and their references."""
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', svg))

    def keep(match):
        return f' id="{name}-{match.group(1)}"' if match.group(1) in used else ""

    svg = re.sub(r'\sid="([^"]*)"', keep, svg)
    return re.sub(r'(href="#|url\(#)([^")]+)', rf"\g<1>{name}-\g<2>", svg)
