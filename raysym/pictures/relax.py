"""Relax: pull a legal placement together, without bending what is straight.

The mean of four alignments leaves needless room. Vertices that hang together by straight links
form a run; each run moves, as one, towards what it is linked to, as far as its neighbours let it.
"""

from itertools import pairwise
from math import inf

from raysym.pictures.layers import Layers, Separation

__all__ = ["relax"]

SWEEPS = 8
# Pixels: two ends of a straight link differ by rounding errors only.
STRAIGHT = 1e-6


def relax(
    layers: Layers, rows: list[list[int]], xs: dict[int, float], separation: Separation
) -> None:
    """Change `xs` in place; `rows` are the rows of the lane that `xs` places."""
    lane = _Lane(layers, rows, xs, separation)
    for sweep in range(SWEEPS):
        runs = lane.straight_runs()
        for run in runs if sweep % 2 else reversed(runs):
            lane.move(run, lane.wish(run))
    lane.gather_ends()


class _Lane:
    def __init__(
        self, layers: Layers, rows: list[list[int]], xs: dict[int, float], separation: Separation
    ) -> None:
        self.layers = layers
        self.rows = rows
        self.xs = xs
        self.separation = separation
        self.left_of = {v: u for row in rows for u, v in pairwise(row)}
        self.right_of = {u: v for v, u in self.left_of.items()}

    def move(self, run: list[int], shift: float) -> None:
        """Move a run sideways, but keep every separation."""
        low = max((-self._room(self.left_of[v], v) for v in run if v in self.left_of), default=-inf)
        high = min(
            (self._room(v, self.right_of[v]) for v in run if v in self.right_of), default=inf
        )
        for v in run:
            self.xs[v] += max(low, min(high, shift))

    def _room(self, left: int, right: int) -> float:
        return self.xs[right] - self.xs[left] - self.separation(left, right)

    def straight_runs(self) -> list[list[int]]:
        """The vertices, each with all that straight links tie to it."""
        runs = []
        seen: set[int] = set()
        for start in self.xs:
            if start not in seen:
                runs.append(self._straight_run(start, seen))
        return runs

    def _straight_run(self, start: int, seen: set[int]) -> list[int]:
        seen.add(start)
        run = [start]
        for v in run:
            for u in self.layers.above[v] + self.layers.below[v]:
                if u in self.xs and u not in seen and abs(self.xs[u] - self.xs[v]) < STRAIGHT:
                    seen.add(u)
                    run.append(u)
        return run

    def wish(self, run: list[int]) -> float:
        """The mean way to the far ends of the run's slanted links, heavy links counting more."""
        total, weights = 0.0, 0
        for v in run:
            links = [(u, u, v) for u in self.layers.above[v]]
            links += [(u, v, u) for u in self.layers.below[v]]
            for u, upper, lower in links:
                if u in self.xs and abs(self.xs[u] - self.xs[v]) >= STRAIGHT:
                    weight = 4 ** self.layers.weight(upper, lower)
                    total += weight * (self.xs[u] - self.xs[v])
                    weights += weight
        return total / weights if weights else 0.0

    def gather_ends(self) -> None:
        """Bring vertices that are linked on one side only as close as there is room."""
        for row in self.rows:
            # Once each way, so that a whole flock closes up; then settle.
            for order in (row, row[::-1], row):
                for v in order:
                    near = [self.xs[u] for u in self._only_neighbours(v) if u in self.xs]
                    if near:
                        self.move([v], sum(near) / len(near) - self.xs[v])

    def _only_neighbours(self, vertex: int) -> list[int]:
        """The ends of the heaviest links, if all links lie on one side of the vertex."""
        above, below = self.layers.above[vertex], self.layers.below[vertex]
        if above and below:
            return []
        weights = {u: self.layers.weight(u, vertex) for u in above}
        weights |= {u: self.layers.weight(vertex, u) for u in below}
        return [u for u in above + below if weights[u] == max(weights.values())]
