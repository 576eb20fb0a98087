"""Pictures: diagrams laid out in layers and written as SVG, without a system graphviz."""

from raysym.pictures.diagram import Arrow, Diagram, Mark
from raysym.pictures.layout import layout
from raysym.pictures.looks import LOOKS
from raysym.pictures.svg import svg

__all__ = ["LOOKS", "Arrow", "Diagram", "Mark", "layout", "svg"]
