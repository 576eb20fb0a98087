"""Sizes: how large a mark must be so that its label and sublabel fit inside its shape."""

import math

from raysym.pictures.diagram import Mark
from raysym.pictures.looks import LOOKS
from raysym.pictures.text import text_width

__all__ = ["label_size", "mark_size", "sublabel_lines"]

# Pixels.
LABEL_FONT, LABEL_LINE = 13.0, 16.0
SUBLABEL_FONT, SUBLABEL_LINE = 10.5, 13.0
ARROW_FONT, ARROW_LINE = 10.5, 16.0
LEAST_ELLIPSE, LEAST_SQUARE, LEAST_CIRCLE = (58.0, 36.0), (48.0, 44.0), 46.0


def sublabel_lines(mark: Mark) -> list[str]:
    """The lines below the label."""
    return mark.sublabel.split("\n") if mark.sublabel else []


def label_size(label: str) -> tuple[float, float]:
    """Width and height of an arrow's label with a little air around it."""
    return text_width(label, ARROW_FONT) + 10, ARROW_LINE


def mark_size(mark: Mark) -> tuple[float, float]:
    """Width and height of the shape."""
    lines = _text_lines(mark)
    width = max(line_width for line_width, _ in lines)
    height = LABEL_LINE + SUBLABEL_LINE * (len(lines) - 1)
    match LOOKS[mark.kind].shape:
        case "ellipse":
            tall = max(LEAST_ELLIPSE[1], height + 24)
            return max(LEAST_ELLIPSE[0], _width_around(lines, tall)), tall
        case "circle":
            reach = max(math.hypot(line_width / 2, far) for line_width, far in lines)
            across = max(LEAST_CIRCLE, 2 * reach + 12)
            return across, across
        case "square":
            return max(LEAST_SQUARE[0], width + 20), max(LEAST_SQUARE[1], height + 18)


def _text_lines(mark: Mark) -> list[tuple[float, float]]:
    """Each line's width, and how far from the middle of the mark its letters reach, up or down."""
    lines = sublabel_lines(mark)
    half = (LABEL_LINE + SUBLABEL_LINE * len(lines)) / 2
    reaches = [(text_width(mark.label, LABEL_FONT), half - 2)]
    for index, line in enumerate(lines):
        top = LABEL_LINE + SUBLABEL_LINE * index - half
        reaches.append((text_width(line, SUBLABEL_FONT), max(-top, top + SUBLABEL_LINE) + 1))
    return reaches


def _width_around(lines: list[tuple[float, float]], tall: float) -> float:
    """The width of an ellipse `tall` pixels high that holds the corners of every line."""
    around = [width / math.sqrt(1 - (2 * far / tall) ** 2) for width, far in lines]
    return max(around) + 12
