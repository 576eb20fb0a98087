"""Coordinates: the x of every vertex, with long edges and the spine of the graph straight.

Brandes and Köpf, "Fast and simple horizontal coordinate assignment" (2001): four alignments, each
packed to one side, and the mean of the two middle ones. Packing is by longest paths over blocks,
which keeps every separation; so does the middle of four, since order statistics are monotone.
"""

from bisect import bisect_left, bisect_right
from itertools import pairwise

from raysym.pictures.layers import Layers, Separation
from raysym.pictures.relax import relax

__all__ = ["place_lane"]

Links = set[tuple[int, int]]


def place_lane(layers: Layers, lane: int, separation: Separation) -> dict[int, float]:
    """The centre of each vertex of `lane`; `separation(left, right)` is the least distance."""
    rows = [[v for v in row if layers.lanes[v] == lane] for row in layers.rows]
    crossed = _find_crossed(layers, rows)
    placements = [
        _align_and_pack(layers, rows, crossed, separation, upwards, mirrored)
        for upwards in (False, True)
        for mirrored in (False, True)
    ]
    xs = _balance(placements)
    relax(layers, rows, xs, separation)
    return xs


def _find_crossed(layers: Layers, rows: list[list[int]]) -> Links:
    """Links (upper, lower) that cross a heavier one, and so give way to it."""
    crossed: Links = set()
    places = {v: place for row in rows for place, v in enumerate(row)}
    for row in rows:
        links = [(v, u) for v in row for u in layers.below[v] if u in places]
        for weight in (1, 2, 3):
            heavy = [link for link in links if layers.weight(*link) >= weight]
            light = [link for link in links if layers.weight(*link) < weight]
            crossed |= _crossing(light, heavy, places)
    return crossed


def _crossing(
    light: list[tuple[int, int]], heavy: list[tuple[int, int]], places: dict[int, int]
) -> Links:
    ends = sorted((places[upper], places[lower]) for upper, lower in heavy)
    uppers = [upper for upper, _ in ends]
    left_reach = [-1]
    for _, lower in ends:
        left_reach.append(max(left_reach[-1], lower))
    right_reach = [len(places)]
    for _, lower in reversed(ends):
        right_reach.append(min(right_reach[-1], lower))
    right_reach.reverse()
    return {
        (upper, lower)
        for upper, lower in light
        if left_reach[bisect_left(uppers, places[upper])] > places[lower]
        or right_reach[bisect_right(uppers, places[upper])] < places[lower]
    }


def _align_and_pack(
    layers: Layers,
    rows: list[list[int]],
    crossed: Links,
    separation: Separation,
    upwards: bool,
    mirrored: bool,
) -> dict[int, float]:
    facing = [row[::-1] if mirrored else row for row in rows]
    roots = _align(layers, facing[::-1] if upwards else facing, crossed, upwards)
    xs = _pack(facing, roots, separation)
    sign = -1 if mirrored else 1
    return {v: sign * xs[roots[v]] for row in rows for v in row}


def _align(layers: Layers, rows: list[list[int]], crossed: Links, upwards: bool) -> dict[int, int]:
    """The root of each vertex's block: vertices of one block share one x."""
    beside = layers.below if upwards else layers.above
    places = {v: place for row in rows for place, v in enumerate(row)}
    roots = {v: v for v in places}
    for row in rows:
        taken = -1
        for v in row:
            candidates = _best_links(layers, v, [u for u in beside[v] if u in places], upwards)
            candidates.sort(key=places.__getitem__)
            for u in _medians(candidates):
                link = (v, u) if upwards else (u, v)
                if roots[v] == v and taken < places[u] and link not in crossed:
                    roots[v] = roots[u]
                    taken = places[u]
    return roots


def _best_links(layers: Layers, vertex: int, neighbours: list[int], upwards: bool) -> list[int]:
    """The neighbours that a vertex may line up with: those of the heaviest links on both sides."""
    if not neighbours:
        return []
    best = max(layers.weight(*link) for link in _links(vertex, neighbours, upwards))
    back = layers.above if upwards else layers.below
    kept = []
    for u in neighbours:
        rivals = max(layers.weight(*link) for link in _links(u, back[u], not upwards))
        (link,) = _links(vertex, [u], upwards)
        if layers.weight(*link) == best == rivals:
            kept.append(u)
    return kept


def _links(vertex: int, neighbours: list[int], upwards: bool) -> list[tuple[int, int]]:
    return [(vertex, u) if upwards else (u, vertex) for u in neighbours]


def _medians(values: list[int]) -> list[int]:
    return values[(len(values) - 1) // 2 : len(values) // 2 + 1]


def _pack(rows: list[list[int]], roots: dict[int, int], separation: Separation) -> dict[int, float]:
    """The x of every block: as far left as it goes, then back right to close needless gaps."""
    right_of: dict[int, dict[int, float]] = {root: {} for root in roots.values()}
    for row in rows:
        for left, right in pairwise(row):
            gaps = right_of[roots[left]]
            gaps[roots[right]] = max(gaps.get(roots[right], 0.0), separation(left, right))
    order = _topological(right_of)
    xs = dict.fromkeys(order, 0.0)
    for block in order:
        for other, gap in right_of[block].items():
            xs[other] = max(xs[other], xs[block] + gap)
    for block in reversed(order):
        if right_of[block]:
            xs[block] = min(xs[other] - gap for other, gap in right_of[block].items())
    return xs


def _topological(right_of: dict[int, dict[int, float]]) -> list[int]:
    waiting = dict.fromkeys(right_of, 0)
    for others in right_of.values():
        for other in others:
            waiting[other] += 1
    order = [block for block, count in waiting.items() if count == 0]
    for block in order:
        for other in right_of[block]:
            waiting[other] -= 1
            if waiting[other] == 0:
                order.append(other)
    return order


def _balance(placements: list[dict[int, float]]) -> dict[int, float]:
    """Line all four up with the narrowest, left ends or right ends, and take the middle."""
    narrowest = min(placements, key=lambda xs: max(xs.values()) - min(xs.values()))
    shifted = []
    for index, xs in enumerate(placements):
        end = max if index % 2 else min
        shift = end(narrowest.values()) - end(xs.values())
        shifted.append({v: x + shift for v, x in xs.items()})
    return {v: sum(sorted(xs[v] for xs in shifted)[1:3]) / 2 for v in narrowest}
