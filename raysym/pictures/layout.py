"""Layout: a Diagram becomes a Drawing, with a place for every mark and a route for every arrow.

Ranks, then the order within them, then coordinates (Sugiyama's plan). Arrows bend only between the
layers and cross a layer straight, in room that was kept for them: none can run over a mark.
"""

from raysym.pictures.coordinates import place_lane
from raysym.pictures.diagram import Diagram
from raysym.pictures.drawing import Box, Drawing, Lane, PlacedArrow, PlacedMark, turn
from raysym.pictures.grouping import stack_groups
from raysym.pictures.layers import Layers, split_edges
from raysym.pictures.order import order_rows
from raysym.pictures.ranks import Edge, rank_vertices
from raysym.pictures.routes import route
from raysym.pictures.sizes import label_size, mark_size
from raysym.pictures.text import text_width

__all__ = ["layout"]

# Pixels. Marks stand MARK_GAP apart, arrows that pass side by side LINE_GAP.
MARK_GAP, LINE_GAP = 22.0, 15.0
LANE_GAP, LANE_PADDING, LANE_HEADER, LANE_FONT = 24.0, 18.0, 30.0, 12.0
ROW_GAP, MOST_ROW_GAP, GAP_PER_BEND = 38.0, 90.0, 0.13

Size = tuple[float, float]


def layout(diagram: Diagram) -> Drawing:
    """Place every mark and arrow; the same diagram always gives the same drawing."""
    return _Sheet(diagram).draw()


class _Sheet:
    """One diagram on its way through the stages, with ranks running down.

    Groups stand in lanes side by side, or, if `stack` is not empty, in bands one below another
    with `walls` between them: ranks that no mark stands on.
    """

    def __init__(self, diagram: Diagram) -> None:
        self.diagram = diagram
        self.sideways = diagram.ranks == "right"
        self.stack = stack_groups(diagram)
        self.has_groups = any(mark.group for mark in diagram.marks)
        groups = list(dict.fromkeys(mark.group for mark in diagram.marks))
        self.lanes = [""] if self.stack else groups
        self.walls: list[int] = []
        self.layers, self.paths = self._layers()
        self.sizes = self._sizes()

    def draw(self) -> Drawing:
        order_rows(self.layers)
        xs, lanes, width = self._place_across()
        tops, bottoms, height = self._place_down(xs)
        boxes = [
            Box(x, (tops[rank] + bottoms[rank]) / 2, *size)
            for x, rank, size in zip(xs, self.layers.ranks, self.sizes, strict=True)
        ]
        backdrops = [Lane(group, Box(x, height / 2, w, height)) for group, x, w in lanes]
        backdrops += self._bands([tops[rank] for rank in self.walls], width, height)
        marks = [
            PlacedMark(mark, boxes[vertex], self.layers.ranks[vertex])
            for vertex, mark in enumerate(self.diagram.marks)
        ]
        arrows = self._arrows(boxes, tops, bottoms)
        drawing = Drawing(tuple(marks), arrows, tuple(backdrops), width, height)
        return turn(drawing) if self.sideways else drawing

    def _layers(self) -> tuple[Layers, list[list[int]]]:
        number = {mark.id: vertex for vertex, mark in enumerate(self.diagram.marks)}
        edges = [
            # A label needs a layer of its own to stand in.
            Edge(number[arrow.src], number[arrow.dst], 2 if arrow.label else 1)
            for arrow in self.diagram.arrows
        ]
        n_walls = max(0, len(self.stack) - 1)
        ranks = rank_vertices(len(number) + n_walls, edges + self._wall_edges())
        self.walls = ranks[len(number) :]
        groups = [0 if self.stack else self.lanes.index(m.group) for m in self.diagram.marks]
        return split_edges(ranks[: len(number)], groups, edges)

    def _wall_edges(self) -> list[Edge]:
        """Edges of no weight that keep every band above the wall below it."""
        edges = []
        for vertex, mark in enumerate(self.diagram.marks if self.stack else ()):
            place = self.stack.index(mark.group)
            wall = len(self.diagram.marks) + place
            if place > 0:
                edges.append(Edge(wall - 1, vertex, weight=0))
            if place < len(self.stack) - 1:
                edges.append(Edge(vertex, wall, weight=0))
        return edges

    def _sizes(self) -> list[Size]:
        sizes = [self._upright(mark_size(mark)) for mark in self.diagram.marks]
        sizes += [(0.0, 0.0)] * (len(self.layers.ranks) - len(sizes))
        for arrow, path in zip(self.diagram.arrows, self.paths, strict=True):
            if arrow.label:
                sizes[_middle(path)] = self._upright(label_size(arrow.label))
        return sizes

    def _upright(self, size: Size) -> Size:
        return (size[1], size[0]) if self.sideways else size

    def _separation(self, left: int, right: int) -> float:
        is_line = self.layers.is_dummy(left) or self.layers.is_dummy(right)
        gap = LINE_GAP if is_line else MARK_GAP
        return (self.sizes[left][0] + self.sizes[right][0]) / 2 + gap

    def _place_across(self) -> tuple[list[float], list[tuple[str, float, float]], float]:
        """The x of every vertex, the lanes as (group, x, width), and the width of it all."""
        xs = [0.0] * len(self.sizes)
        lanes = []
        edge = 0.0
        for number, group in enumerate(self.lanes):
            placed = place_lane(self.layers, number, self._separation)
            left = min(x - self.sizes[v][0] / 2 for v, x in placed.items())
            right = max(x + self.sizes[v][0] / 2 for v, x in placed.items())
            start, width = self._lane_room(group, right - left)
            for v, x in placed.items():
                xs[v] = x - left + edge + start
            if group:
                lanes.append((group, edge + width / 2, width))
            edge += width + LANE_GAP
        return xs, lanes, edge - LANE_GAP

    def _lane_room(self, group: str, content: float) -> tuple[float, float]:
        """Where the content starts in its lane, and the lane's width."""
        if not self.has_groups or not (group or self.stack):
            return 0.0, content
        if self.sideways:
            return LANE_HEADER, LANE_HEADER + content + LANE_PADDING
        if self.stack:
            # Labels get a column of their own: arrows from band to band must not cross them.
            column = max(lane_label_width(name) for name in self.stack)
            return column, column + content + LANE_PADDING
        width = max(content + 2 * LANE_PADDING, lane_label_width(group))
        return (width - content) / 2, width

    def _place_down(self, xs: list[float]) -> tuple[list[float], list[float], float]:
        """The top and bottom of every row, and the height of it all.

        Gaps grow where arrows travel far across.
        """
        tops: list[float] = []
        bottoms: list[float] = []
        y = self._room_above()
        band_start = 0.0
        for rank, row in enumerate(self.layers.rows):
            if rank in self.walls:
                y = max(y, band_start + self._least_band(self.walls.index(rank)) + LANE_GAP / 2)
                band_start = y + LANE_GAP / 2
            tops.append(y)
            bottoms.append(y + max(self.sizes[v][1] for v in row))
            bend = max((abs(xs[v] - xs[u]) for v in row for u in self.layers.below[v]), default=0)
            y = bottoms[-1] + min(MOST_ROW_GAP, ROW_GAP + GAP_PER_BEND * bend)
        height = bottoms[-1] + (LANE_PADDING if self.has_groups else 0.0)
        return tops, bottoms, max(height, band_start + self._least_band(-1))

    def _room_above(self) -> float:
        if not self.has_groups:
            return 0.0
        if self.stack:
            return LANE_PADDING
        if not self.sideways:
            return LANE_HEADER + 4
        # A lane's label lies over its first rank; arrows cross lanes only beyond that rank.
        label = max(lane_label_width(group) for group in self.lanes)
        first_rank = max(self.sizes[v][1] for v in self.layers.rows[0])
        return max(LANE_PADDING, label - first_rank)

    def _least_band(self, place: int) -> float:
        """A band of ranks that run sideways must be as long as its label, which lies along it."""
        if not self.stack or not self.sideways:
            return 0.0
        return lane_label_width(self.stack[place])

    def _bands(self, walls: list[float], width: float, height: float) -> list[Lane]:
        starts = [0.0, *(y + LANE_GAP / 2 for y in walls)]
        stops = [*(y - LANE_GAP / 2 for y in walls), height]
        return [
            Lane(group, Box(width / 2, (start + stop) / 2, width, stop - start))
            for group, start, stop in zip(self.stack, starts, stops, strict=False)
        ]

    def _arrows(
        self, boxes: list[Box], tops: list[float], bottoms: list[float]
    ) -> tuple[PlacedArrow, ...]:
        marks = self.diagram.marks
        routes = route(marks, self.paths, boxes, self.layers.ranks, tops, bottoms)
        return tuple(
            PlacedArrow(
                arrow,
                stops,
                boxes[_middle(path)] if arrow.label else None,
                marks[path[0]].group != marks[path[-1]].group,
            )
            for arrow, path, stops in zip(self.diagram.arrows, self.paths, routes, strict=True)
        )


def lane_label_width(group: str) -> float:
    """A group's label in bold, with room on both sides."""
    return text_width(group, LANE_FONT) * 1.15 + 2 * 16


def _middle(path: list[int]) -> int:
    return path[len(path) // 2]
