"""Layers: the ranked graph made proper, with a dummy wherever a long edge passes a layer."""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

from raysym.pictures.ranks import Edge

__all__ = ["Layers", "Separation", "split_edges"]

# The least distance between the middles of two neighbours in a row, in pixels.
Separation = Callable[[int, int], float]


@dataclass
class Layers:
    """Vertices by layer, left to right. The first vertices are real, the rest dummies.

    Every link joins neighbouring layers; `above` and `below` list its ends, a parallel link twice.
    """

    rows: list[list[int]]
    ranks: list[int]
    lanes: list[int]
    n_real: int
    above: list[list[int]] = field(default_factory=list)
    below: list[list[int]] = field(default_factory=list)

    def is_dummy(self, vertex: int) -> bool:
        return vertex >= self.n_real

    def weight(self, upper: int, lower: int) -> int:
        """How much the link wants to be straight: the middle of a long edge (3), the spine of
        marks that have inputs (2), the ends of a long edge (1), a leaf's arrow (0)."""
        n_dummies = self.is_dummy(upper) + self.is_dummy(lower)
        if n_dummies:
            return 3 if n_dummies == 2 else 1
        return 2 if self.above[upper] else 0

    def positions(self) -> list[int]:
        """The place of every vertex in its row."""
        positions = [0] * len(self.ranks)
        for row in self.rows:
            for place, vertex in enumerate(row):
                positions[vertex] = place
        return positions

    def add_dummy(self, rank: int, lane: int) -> int:
        self.ranks.append(rank)
        self.lanes.append(lane)
        self.above.append([])
        self.below.append([])
        return len(self.ranks) - 1


def split_edges(
    ranks: list[int], lanes: list[int], edges: list[Edge]
) -> tuple[Layers, list[list[int]]]:
    """The layers (rows still in order of vertex), and each edge's vertices from tail to head."""
    layers = Layers([], list(ranks), list(lanes), len(ranks))
    layers.above = [[] for _ in ranks]
    layers.below = [[] for _ in ranks]
    paths = [_split(layers, edge) for edge in edges]
    layers.rows = [[] for _ in range(max(ranks) + 1)]
    for vertex, rank in enumerate(layers.ranks):
        layers.rows[rank].append(vertex)
    return layers, paths


def _split(layers: Layers, edge: Edge) -> list[int]:
    # A long edge changes lanes at once, so that it runs beside what waits for it.
    lane = layers.lanes[edge.head]
    between = range(layers.ranks[edge.tail] + 1, layers.ranks[edge.head])
    path = [edge.tail, *(layers.add_dummy(rank, lane) for rank in between), edge.head]
    for upper, lower in pairwise(path):
        layers.below[upper].append(lower)
        layers.above[lower].append(upper)
    return path
