"""SVG: a Diagram as text, laid out, with title and legend; no fonts, no files, no foreign code."""

from raysym.pictures.diagram import Diagram
from raysym.pictures.drawing import Box, Drawing, Lane, PlacedArrow, Point
from raysym.pictures.layout import LANE_FONT, LANE_HEADER, layout
from raysym.pictures.legend import Legend, draw_legend
from raysym.pictures.looks import LANE_TINTS, LINE, LINE_ACROSS, PAPER, TEXT, TEXT_QUIET
from raysym.pictures.routes import ARROWHEAD
from raysym.pictures.shapes import draw_mark, draw_text, escape_text, number
from raysym.pictures.sizes import ARROW_FONT
from raysym.pictures.text import text_width

__all__ = ["svg"]

# Pixels.
MARGIN, TITLE_FONT, TITLE_ROOM, LEGEND_BELOW, LEGEND_BESIDE = 28.0, 17.0, 44.0, 30.0, 44.0
FONTS = "Inter, Helvetica Neue, Helvetica, Arial, Liberation Sans, DejaVu Sans, sans-serif"


def svg(diagram: Diagram, legend: bool = True) -> str:
    """The diagram as one SVG document; `legend` explains the kinds of mark that occur in it."""
    drawing = layout(diagram)
    title_width = text_width(diagram.title, TITLE_FONT) * 1.12
    top = MARGIN + (TITLE_ROOM if diagram.title else 0)
    key = Legend((), 0, 0)
    # A tall drawing has room at its side, a wide one below.
    beside = drawing.height > 1.2 * drawing.width
    if legend:
        key = draw_legend(diagram, 0 if beside else max(drawing.width, title_width, 320))
    if beside:
        width = max(title_width, drawing.width + (LEGEND_BESIDE + key.width if key.width else 0))
        height = max(drawing.height, key.height)
        left, key_at = MARGIN, (MARGIN + drawing.width + LEGEND_BESIDE, top)
    else:
        width = max(title_width, drawing.width, key.width)
        height = drawing.height + (LEGEND_BELOW + key.height if key.height else 0)
        left = MARGIN + (width - drawing.width) / 2
        key_at = (MARGIN, top + drawing.height + LEGEND_BELOW)
    return "\n".join(
        [
            *_open(diagram, width + 2 * MARGIN, top + height + MARGIN),
            *_group("drawing", (left, top), _draw(drawing)),
            *_group("legend", key_at, list(key.elements)),
            "</svg>\n",
        ]
    )


def _open(diagram: Diagram, width: float, height: float) -> list[str]:
    size = f"{number(width)} {number(height)}"
    title = escape_text(diagram.title or "Dataflow graph")
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size}"',
        f'  width="{number(width)}" height="{number(height)}" role="img"',
        f'  font-family="{FONTS}">',
        f"<title>{title}</title>",
        f"<desc>Marks: {len(diagram.marks)}. Arrows: {len(diagram.arrows)}.</desc>",
        f'<rect width="{number(width)}" height="{number(height)}" fill="{PAPER}"/>',
    ]
    if diagram.title:
        middle = MARGIN + TITLE_FONT / 2
        lines.append(draw_text(diagram.title, MARGIN, middle, TITLE_FONT, TEXT, weight=600))
    return lines


def _group(name: str, at: Point, elements: list[str]) -> list[str]:
    if not elements:
        return []
    shift = f"translate({number(at[0])} {number(at[1])})"
    return [f'<g class="{name}" transform="{shift}">', *elements, "</g>"]


def _draw(drawing: Drawing) -> list[str]:
    lines = []
    for index, lane in enumerate(drawing.lanes):
        lines += _draw_lane(lane, *LANE_TINTS[index % len(LANE_TINTS)])
    lines.append('<g class="arrows" fill="none" stroke-width="1.4">')
    lines += [_draw_line(arrow, drawing.sideways) for arrow in drawing.arrows]
    lines.append("</g>")
    for placed in drawing.marks:
        lines += draw_mark(placed.mark, placed.box)
    for arrow in drawing.arrows:
        if arrow.label:
            x, y = arrow.label.x, arrow.label.y
            lines.append(draw_text(arrow.arrow.label, x, y, ARROW_FONT, TEXT_QUIET, "middle"))
    return lines


def _draw_lane(lane: Lane, fill: str, stroke: str) -> list[str]:
    box = lane.box
    return [
        f'<rect class="lane" x="{number(box.left)}" y="{number(box.top)}" rx="12" '
        f'width="{number(box.width)}" height="{number(box.height)}" '
        f'fill="{fill}" stroke="{stroke}"/>',
        draw_text(
            lane.group, box.left + 16, box.top + LANE_HEADER / 2, LANE_FONT, TEXT_QUIET, weight=600
        ),
    ]


def _draw_line(placed: PlacedArrow, sideways: bool) -> str:
    colour = LINE_ACROSS if placed.changes_group else LINE
    (x, y), tip = placed.stops[0], placed.stops[-1]
    path = [f"M{_at((x, y))}"]
    # The line ends inside the head, so that its blunt end never shows at the tip.
    back = ARROWHEAD - 1
    end = (tip[0] - back, tip[1]) if sideways else (tip[0], tip[1] - back)
    for stop in (*placed.stops[1:-1], end):
        path.append(_stretch((x, y), stop, placed.label, sideways))
        x, y = stop
    return (
        f'<path d="{"".join(path)}" stroke="{colour}"/>'
        f'<path d="{_arrowhead(tip, sideways)}" fill="{colour}"/>'
    )


def _stretch(start: Point, stop: Point, label: Box | None, sideways: bool) -> str:
    (x0, y0), (x1, y1) = start, stop
    if sideways:
        if y0 == y1:
            return _straight(_jump_sideways(start, stop, label), stop)
        middle = (x0 + x1) / 2
        controls = (middle, y0, middle, y1)
    else:
        if x0 == x1:
            return _straight(_jump_down(start, stop, label), stop)
        middle = (y0 + y1) / 2
        controls = (x0, middle, x1, middle)
    return "C" + " ".join(number(value) for value in (*controls, x1, y1))


def _straight(jump: tuple[Point, Point] | None, stop: Point) -> str:
    """A line that leaves out the stretch from one point of `jump` to the other."""
    gap = f"L{_at(jump[0])}M{_at(jump[1])}" if jump else ""
    return f"{gap}L{_at(stop)}"


def _jump_down(start: Point, stop: Point, label: Box | None) -> tuple[Point, Point] | None:
    if label and start[1] <= label.top and label.bottom <= stop[1]:
        return (stop[0], label.top), (stop[0], label.bottom)
    return None


def _jump_sideways(start: Point, stop: Point, label: Box | None) -> tuple[Point, Point] | None:
    if label and start[0] <= label.left and label.right <= stop[0]:
        return (label.left, stop[1]), (label.right, stop[1])
    return None


def _at(point: Point) -> str:
    return f"{number(point[0])} {number(point[1])}"


def _arrowhead(tip: Point, sideways: bool) -> str:
    at = f"M{_at(tip)}"
    long, half = number(ARROWHEAD), 3.5
    return f"{at}l-{long}-{half}v7z" if sideways else f"{at}l-{half}-{long}h7z"
