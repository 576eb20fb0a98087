"""Routes: where each arrow leaves its source, passes the layers, and meets its target's border."""

import math
from collections import defaultdict

from raysym.pictures.diagram import Mark
from raysym.pictures.drawing import Box, Point
from raysym.pictures.looks import LOOKS

__all__ = ["ARROWHEAD", "route"]

# Pixels: the length of an arrowhead, and how far apart two of them touch one mark.
ARROWHEAD = 8.0
PORT_GAP = 13.0


def route(
    marks: tuple[Mark, ...],
    paths: list[list[int]],
    boxes: list[Box],
    ranks: list[int],
    tops: list[float],
    bottoms: list[float],
) -> list[tuple[Point, ...]]:
    """The stops of every path, from border to border; the last stop is the arrow's tip."""
    shapes = [LOOKS[mark.kind].shape for mark in marks]
    heads = _head_ports(paths, boxes)
    tails = _tail_ports(paths, heads, boxes)
    routes = []
    for path, tail, head in zip(paths, tails, heads, strict=True):
        first, last = boxes[path[0]], boxes[path[-1]]
        start = (first.x + tail, first.y + _rise(shapes[path[0]], first, tail))
        tip = (last.x + head, last.y - _rise(shapes[path[-1]], last, head))
        stops = [start, (start[0], bottoms[ranks[path[0]]])]
        for v in path[1:-1]:
            stops += [(boxes[v].x, tops[ranks[v]]), (boxes[v].x, bottoms[ranks[v]])]
        stops += [(tip[0], tops[ranks[path[-1]]] - ARROWHEAD), tip]
        routes.append(_merge_straight(stops))
    return routes


_FAN = 0.3  # of a mark's width, to either side of its middle: ports stay within


def _head_ports(paths: list[list[int]], boxes: list[Box]) -> list[float]:
    """How far from its target's middle each path ends: fanned out in the order they arrive."""
    arriving: dict[int, list[int]] = defaultdict(list)
    for index, path in enumerate(paths):
        arriving[path[-1]].append(index)
    ports = [0.0] * len(paths)
    for vertex, indices in arriving.items():
        offsets = {i: boxes[paths[i][-2]].x - boxes[vertex].x for i in indices}
        indices.sort(key=lambda i: (offsets[i], i))
        fan = _fan([offsets[i] for i in indices], _FAN * boxes[vertex].width)
        for index, port in zip(indices, fan, strict=True):
            ports[index] = port
    return ports


def _fan(offsets: list[float], limit: float) -> list[float]:
    """Ports at even distances; one that comes from straight above keeps its line straight."""
    straight = [i for i, offset in enumerate(offsets) if abs(offset) <= limit / 2]
    middle = (len(offsets) - 1) / 2
    anchor, shift = middle, 0.0
    if straight:
        anchor = sum(straight) / len(straight)
        shift = sum(offsets[i] for i in straight) / len(straight)
    furthest = max(anchor, len(offsets) - 1 - anchor)
    gap = min(PORT_GAP, (limit - abs(shift)) / furthest) if furthest else 0.0
    return [shift + (i - anchor) * gap for i in range(len(offsets))]


def _tail_ports(paths: list[list[int]], heads: list[float], boxes: list[Box]) -> list[float]:
    """Paths leave from the middle of their source; equal arrows keep their distance all the way,
    unless the source is narrower than the target."""
    twins: dict[tuple[int, int], list[int]] = defaultdict(list)
    for index, path in enumerate(paths):
        twins[path[0], path[1]].append(index)
    ports = [0.0] * len(paths)
    for indices in twins.values():
        mean = sum(heads[i] for i in indices) / len(indices)
        reach = max(abs(heads[i] - mean) for i in indices)
        limit = _FAN * boxes[paths[indices[0]][0]].width
        for i in indices:
            ports[i] = (heads[i] - mean) * min(1.0, limit / reach if reach else 1.0)
    return ports


def _rise(shape: str, box: Box, offset: float) -> float:
    """How far the border lies above or below the middle, `offset` beside it."""
    # A square's corner is rounded, but ports stay within the straight part of its side.
    if shape == "square":
        return box.height / 2
    return box.height / 2 * math.sqrt(1 - (2 * offset / box.width) ** 2)


def _merge_straight(stops: list[Point]) -> tuple[Point, ...]:
    kept: list[Point] = []
    for stop in stops:
        if len(kept) >= 2 and kept[-2][0] == kept[-1][0] == stop[0]:
            kept.pop()
        if not kept or kept[-1] != stop:
            kept.append(stop)
    return tuple(kept)
