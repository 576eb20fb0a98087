"""Drawing: what the layout hands to a writer; boxes and stops in pixels, y downwards."""

from dataclasses import dataclass

from raysym.pictures.diagram import Arrow, Mark

__all__ = ["Box", "Drawing", "Lane", "PlacedArrow", "PlacedMark", "Point", "turn"]

Point = tuple[float, float]


@dataclass(frozen=True)
class Box:
    """A rectangle by its centre."""

    x: float
    y: float
    width: float
    height: float

    @property
    def left(self) -> float:
        return self.x - self.width / 2

    @property
    def right(self) -> float:
        return self.x + self.width / 2

    @property
    def top(self) -> float:
        return self.y - self.height / 2

    @property
    def bottom(self) -> float:
        return self.y + self.height / 2


@dataclass(frozen=True)
class PlacedMark:
    """A mark, the box of its shape, and the layer it stands in."""

    mark: Mark
    box: Box
    rank: int


@dataclass(frozen=True)
class PlacedArrow:
    """An arrow's stops: straight between two stops in line, an S-curve between two that are not."""

    arrow: Arrow
    stops: tuple[Point, ...]
    label: Box | None
    changes_group: bool


@dataclass(frozen=True)
class Lane:
    """The backdrop of one group."""

    group: str
    box: Box


@dataclass(frozen=True)
class Drawing:
    """Everything placed, from (0, 0) to (width, height); `sideways` when ranks run to the right."""

    marks: tuple[PlacedMark, ...]
    arrows: tuple[PlacedArrow, ...]
    lanes: tuple[Lane, ...]
    width: float
    height: float
    sideways: bool = False


def turn(drawing: Drawing) -> Drawing:
    """The drawing with x and y exchanged: ranks that ran down run to the right."""
    return Drawing(
        tuple(PlacedMark(m.mark, _turn_box(m.box), m.rank) for m in drawing.marks),
        tuple(_turn_arrow(arrow) for arrow in drawing.arrows),
        tuple(Lane(lane.group, _turn_box(lane.box)) for lane in drawing.lanes),
        drawing.height,
        drawing.width,
        not drawing.sideways,
    )


def _turn_box(box: Box) -> Box:
    return Box(box.y, box.x, box.height, box.width)


def _turn_arrow(placed: PlacedArrow) -> PlacedArrow:
    stops = tuple((y, x) for x, y in placed.stops)
    label = _turn_box(placed.label) if placed.label else None
    return PlacedArrow(placed.arrow, stops, label, placed.changes_group)
