"""Shapes: single SVG elements, shared by the drawing and its legend."""

import re
from html import escape

from raysym.pictures.diagram import Mark
from raysym.pictures.drawing import Box
from raysym.pictures.looks import LOOKS, Look
from raysym.pictures.sizes import (
    LABEL_FONT,
    LABEL_LINE,
    SUBLABEL_FONT,
    SUBLABEL_LINE,
    sublabel_lines,
)

__all__ = ["draw_mark", "draw_shape", "draw_text", "escape_text", "number"]

# What XML 1.0 cannot hold even when escaped.
NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
# From the middle of a line of text down to its baseline, in parts of the font size.
BASELINE = 0.35


def number(value: float) -> str:
    """At most one decimal, and no '-0'."""
    return f"{round(value, 1) + 0.0:g}" if abs(value) < 1e5 else f"{value:.1f}"


def escape_text(text: str) -> str:
    """Text for XML content or attributes; characters that XML forbids become U+FFFD."""
    return escape(NOT_XML.sub("\ufffd", text), quote=True)


def draw_text(
    text: str, x: float, middle: float, size: float, ink: str, anchor: str = "", weight: int = 0
) -> str:
    """One line of text whose letters are centred on y = `middle`."""
    extra = f' text-anchor="{anchor}"' if anchor else ""
    extra += f' font-weight="{weight}"' if weight else ""
    y = number(middle + BASELINE * size)
    return (
        f'<text x="{number(x)}" y="{y}" font-size="{size:g}" fill="{ink}"{extra}>'
        f"{escape_text(text)}</text>"
    )


def draw_shape(look: Look, box: Box) -> str:
    """The outline of a mark."""
    paint = f'fill="{look.fill}" stroke="{look.stroke}"'
    if look.dash:
        paint += f' stroke-dasharray="{look.dash}"'
    if look.shape == "square":
        radius = min(7.0, box.height / 4)
        return (
            f'<rect x="{number(box.left)}" y="{number(box.top)}" width="{number(box.width)}" '
            f'height="{number(box.height)}" rx="{number(radius)}" {paint}/>'
        )
    return (
        f'<ellipse cx="{number(box.x)}" cy="{number(box.y)}" rx="{number(box.width / 2)}" '
        f'ry="{number(box.height / 2)}" {paint}/>'
    )


def draw_mark(mark: Mark, box: Box) -> list[str]:
    """Shape, label and sublabel, under a title that viewers show as a tooltip."""
    look = LOOKS[mark.kind]
    lines = sublabel_lines(mark)
    tooltip = ": ".join([look.legend, " ".join([mark.label, *lines])])
    middle = box.y - SUBLABEL_LINE * len(lines) / 2
    texts = [draw_text(mark.label, box.x, middle, LABEL_FONT, look.ink, weight=500)]
    middle += (LABEL_LINE + SUBLABEL_LINE) / 2
    for line in lines:
        texts.append(draw_text(line, box.x, middle, SUBLABEL_FONT, look.ink))
        middle += SUBLABEL_LINE
    return [
        f'<g class="mark {mark.kind}" text-anchor="middle">',
        f"<title>{escape_text(tooltip)}</title>",
        draw_shape(look, box),
        *texts,
        "</g>",
    ]
