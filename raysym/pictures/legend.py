"""Legend: what the shapes and colours mean, for the kinds that a diagram holds."""

from dataclasses import dataclass

from raysym.pictures.diagram import Diagram
from raysym.pictures.drawing import Box
from raysym.pictures.looks import LOOKS
from raysym.pictures.shapes import draw_shape, draw_text
from raysym.pictures.text import text_width

__all__ = ["Legend", "draw_legend"]

# Pixels.
FONT, INK, ROW, GAP = 11.5, "#3e4c59", 25.0, 22.0
SWATCHES = {"ellipse": (24.0, 15.0), "square": (15.0, 15.0), "circle": (15.0, 15.0)}
SWATCH_ROOM = 32.0


@dataclass(frozen=True)
class Legend:
    """SVG elements from (0, 0) to (width, height)."""

    elements: tuple[str, ...]
    width: float
    height: float


def draw_legend(diagram: Diagram, most_width: float) -> Legend:
    """The kinds present, flowing in rows of at most `most_width` (or one entry, if wider)."""
    present = {mark.kind for mark in diagram.marks}
    x, y, width = 0.0, 0.0, 0.0
    elements: list[str] = []
    for kind, look in LOOKS.items():
        if kind not in present:
            continue
        entry = SWATCH_ROOM + text_width(look.legend, FONT)
        if x and x + entry > most_width:
            x, y = 0.0, y + ROW
        swatch = Box(x + 12, y + ROW / 2, *SWATCHES[look.shape])
        elements.append(draw_shape(look, swatch))
        elements.append(draw_text(look.legend, x + SWATCH_ROOM, y + ROW / 2, FONT, INK))
        width = max(width, x + entry)
        x += entry + GAP
    return Legend(tuple(elements), width, y + ROW)
