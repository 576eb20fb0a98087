"""Ranks: the layer of every vertex, such that the arrows are as short as they can be in all.

The network simplex of Gansner, Koutsofios, North and Vo, "A technique for drawing directed graphs"
(1993), in the form that shifts a whole side of a tight spanning tree at a time.
"""

from dataclasses import dataclass

__all__ = ["Edge", "rank_vertices"]

# Each step lowers the total length or exchanges one tree edge; far fewer are needed in practice.
MAX_STEPS = 400


@dataclass(frozen=True)
class Edge:
    """Vertex `head` must lie at least `least` layers below `tail`; more costs `weight` a layer."""

    tail: int
    head: int
    least: int = 1
    weight: int = 1


def rank_vertices(n_vertices: int, edges: list[Edge]) -> list[int]:
    """The layer of each vertex, from 0; every connected part of the graph starts at layer 0."""
    ranks = _latest_ranks(n_vertices, edges)
    touching: list[list[Edge]] = [[] for _ in range(n_vertices)]
    for edge in edges:
        touching[edge.tail].append(edge)
        touching[edge.head].append(edge)
    seen = [False] * n_vertices
    for vertex in range(n_vertices):
        if not seen[vertex]:
            part = _part_of(vertex, touching, seen)
            _Part(part, touching, ranks).shorten()
    return ranks


def _latest_ranks(n_vertices: int, edges: list[Edge]) -> list[int]:
    """Longest path up from the sinks: leaves sit next to their readers from the start."""
    above: list[list[Edge]] = [[] for _ in range(n_vertices)]
    waiting = [0] * n_vertices
    for edge in edges:
        above[edge.head].append(edge)
        waiting[edge.tail] += 1
    ranks = [0] * n_vertices
    ready = [vertex for vertex in range(n_vertices) if waiting[vertex] == 0]
    while ready:
        for edge in above[ready.pop()]:
            ranks[edge.tail] = min(ranks[edge.tail], ranks[edge.head] - edge.least)
            waiting[edge.tail] -= 1
            if waiting[edge.tail] == 0:
                ready.append(edge.tail)
    return ranks


def _part_of(vertex: int, touching: list[list[Edge]], seen: list[bool]) -> list[int]:
    seen[vertex] = True
    part = [vertex]
    for found in part:
        for edge in touching[found]:
            for end in (edge.tail, edge.head):
                if not seen[end]:
                    seen[end] = True
                    part.append(end)
    return part


class _Part:
    """One connected part: its vertices, the shared ranks, and a spanning tree of tight edges."""

    def __init__(self, part: list[int], touching: list[list[Edge]], ranks: list[int]) -> None:
        self.part = part
        self.touching = touching
        self.ranks = ranks
        # What the total length gains when one vertex alone moves down a layer.
        self.pull = {
            vertex: sum(e.weight if e.head == vertex else -e.weight for e in touching[vertex])
            for vertex in part
        }
        self.tree: dict[int, list[Edge]] = {vertex: [] for vertex in part}

    def shorten(self) -> None:
        self._grow_tree()
        for _ in range(MAX_STEPS):
            if not self._step():
                break
        top = min(self.ranks[vertex] for vertex in self.part)
        self._shift(self.part, -top)

    def _slack(self, edge: Edge) -> int:
        return self.ranks[edge.head] - self.ranks[edge.tail] - edge.least

    def _shift(self, vertices: list[int] | set[int], layers: int) -> None:
        for vertex in vertices:
            self.ranks[vertex] += layers

    def _grow_tree(self) -> None:
        inside = [self.part[0]]
        reached = set(inside)
        while True:
            self._follow_tight(inside, reached)
            if len(inside) == len(self.part):
                return
            # The tree is stuck: pull it against the nearest vertex outside, and go on from there.
            border = [
                edge
                for vertex in inside
                for edge in self.touching[vertex]
                if (edge.tail in reached) != (edge.head in reached)
            ]
            nearest = min(border, key=self._slack)
            slack = self._slack(nearest)
            self._shift(inside, slack if nearest.tail in reached else -slack)

    def _follow_tight(self, inside: list[int], reached: set[int]) -> None:
        for vertex in inside:
            for edge in self.touching[vertex]:
                other = edge.head if edge.tail == vertex else edge.tail
                if other not in reached and self._slack(edge) == 0:
                    reached.add(other)
                    inside.append(other)
                    self._link(edge)

    def _link(self, edge: Edge) -> None:
        self.tree[edge.tail].append(edge)
        self.tree[edge.head].append(edge)

    def _step(self) -> bool:
        """Move one side of one tree edge if that shortens the whole; False at the optimum."""
        order, above = self._root_tree()
        total = dict(self.pull)
        for vertex in reversed(order):
            edge = above.get(vertex)
            if edge is None:
                continue
            is_head = edge.head == vertex
            if (total[vertex] < 0) if is_head else (total[vertex] > 0):
                self._exchange(edge, vertex, is_head)
                return True
            total[edge.tail if is_head else edge.head] += total[vertex]
        return False

    def _root_tree(self) -> tuple[list[int], dict[int, Edge]]:
        order = [self.part[0]]
        above: dict[int, Edge] = {}
        for vertex in order:
            for edge in self.tree[vertex]:
                other = edge.head if edge.tail == vertex else edge.tail
                if above.get(vertex) is not edge:
                    above[other] = edge
                    order.append(other)
        return order, above

    def _exchange(self, leaving: Edge, vertex: int, goes_down: bool) -> None:
        self.tree[leaving.tail] = [e for e in self.tree[leaving.tail] if e is not leaving]
        self.tree[leaving.head] = [e for e in self.tree[leaving.head] if e is not leaving]
        side = self._side_of(vertex)
        limits = [
            edge
            for inner in sorted(side)
            for edge in self.touching[inner]
            if (edge.tail if goes_down else edge.head) == inner
            and (edge.head if goes_down else edge.tail) not in side
        ]
        entering = min(limits, key=self._slack)
        slack = self._slack(entering)
        self._shift(side, slack if goes_down else -slack)
        self._link(entering)

    def _side_of(self, vertex: int) -> set[int]:
        side = {vertex}
        stack = [vertex]
        while stack:
            for edge in self.tree[stack.pop()]:
                for end in (edge.tail, edge.head):
                    if end not in side:
                        side.add(end)
                        stack.append(end)
        return side
