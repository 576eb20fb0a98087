"""Initial parts on the coarsest level: bisect again and again, each half refined by moves."""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from itertools import pairwise

import numpy as np

from scheduler.graph import Array

from .levels import Level
from .orders import best_prefix, orders


def recursive_parts(level: Level, k: int, slack: float, tries: int = 9) -> Array:
    """Part of each node, int64[n], 0..k-1, never smaller at the end of an edge than at its
    start."""
    part = np.zeros(level.n, dtype=np.int64)
    if k == 1:
        return part
    first = k // 2
    later = _bisect(level, first / k, slack, tries)
    for side, base, count in ((~later, 0, first), (later, first, k - first)):
        nodes = np.flatnonzero(side)
        if nodes.size:
            part[nodes] = base + recursive_parts(_induced(level, nodes), count, slack, tries)
    return part


def _bisect(level: Level, share: float, slack: float, tries: int) -> Array:
    total = float(level.node_weight.sum())
    low, high = total * share * (1 - slack), total * (1 - (1 - share) * (1 - slack))
    best_cut, best = np.inf, np.zeros(level.n, dtype=bool)
    for number, order in enumerate(orders(level, tries, seed=level.n)):
        cut, later = best_prefix(level, order, low, high)
        if cut < best_cut * 1.1 or number == 0:
            cut, later = _refine(level, later, low, high)
        if cut < best_cut:
            best_cut, best = cut, later
    return best


def _induced(level: Level, nodes: Array) -> Level:
    number = np.full(level.n, -1)
    number[nodes] = np.arange(nodes.size)
    inside = (number[level.src] >= 0) & (number[level.dst] >= 0)
    return Level(
        nodes.size,
        number[level.src[inside]],
        number[level.dst[inside]],
        level.edge_weight[inside],
        level.node_weight[nodes],
    )


def _refine(
    level: Level, later: Array, low: float, high: float, passes: int = 3
) -> tuple[float, Array]:
    """Fiduccia-Mattheyses passes with moves that keep all edges from early to late."""
    cut = float(level.edge_weight[later[level.src] != later[level.dst]].sum())
    for _ in range(passes):
        better, flags = _Pass(level, later, low, high).run(cut)
        if better >= cut:
            break
        cut, later = better, flags
    return cut, later


class _Pass:
    """Each node moves at most once; the best moment of the pass is kept."""

    def __init__(self, level: Level, later: Array, low: float, high: float) -> None:
        self.level, self.low, self.high = level, low, high
        starts, targets, weights = level.successors()
        self.next = _rows(starts, targets, weights)
        order = np.argsort(level.dst, kind="stable")
        ends = np.concatenate([[0], np.cumsum(np.bincount(level.dst, minlength=level.n))])
        self.prev = _rows(ends, level.src[order], level.edge_weight[order])
        self.later = later.tolist()
        self.weight = level.node_weight.tolist()
        self.early = float(level.node_weight[~later].sum())
        self.moved = [False] * level.n
        blocking = later[level.src] == later[level.dst]
        late_edge = blocking & later[level.src]
        early_edge = blocking & ~later[level.src]
        # a late node may move when no predecessor is late, an early one when no successor is early
        blocked = np.bincount(level.dst[late_edge], minlength=level.n)
        blocked = blocked + np.bincount(level.src[early_edge], minlength=level.n)
        self.blocked = blocked.tolist()
        self.heap = [(-self.gain(v), v) for v in np.flatnonzero(blocked == 0).tolist()]
        heapify(self.heap)

    def gain(self, v: int) -> float:
        """How much the cut falls when the free node v changes sides."""
        into = sum(w for _, w in self.prev[v])
        out = sum(w for _, w in self.next[v])
        return into - out if self.later[v] else out - into

    def run(self, cut: float, patience: int = 300) -> tuple[float, Array]:
        """Move while it may help; return the best cut and its flags."""
        best, keep = cut, 0
        done: list[int] = []
        while self.heap and len(done) - keep < patience:
            loss, v = heappop(self.heap)
            if self.moved[v] or self.blocked[v] or not self.fits(v):
                continue
            cut += loss
            self.move(v)
            done.append(v)
            if cut < best - 1e-9 and self.low <= self.early <= self.high:
                best, keep = cut, len(done)
        for v in done[keep:]:
            self.later[v] = not self.later[v]
        return best, np.array(self.later, dtype=bool)

    def fits(self, v: int) -> bool:
        """Whether the early side stays within its limits, or comes nearer to them."""
        after = self.early + (self.weight[v] if self.later[v] else -self.weight[v])
        if self.low <= after <= self.high:
            return True
        middle = (self.low + self.high) / 2
        return bool(abs(after - middle) < abs(self.early - middle))

    def move(self, v: int) -> None:
        """Change sides; free or block the neighbours."""
        late = self.later[v]
        self.early += self.weight[v] if late else -self.weight[v]
        self.moved[v], self.later[v] = True, not late
        freed, held = (self.next[v], self.prev[v]) if late else (self.prev[v], self.next[v])
        for w, _ in freed:
            if self.later[w] == late:
                self.blocked[w] -= 1
                if not self.blocked[w] and not self.moved[w]:
                    heappush(self.heap, (-self.gain(w), w))
        for w, _ in held:
            if self.later[w] != late:
                self.blocked[w] += 1


def _rows(starts: Array, targets: Array, weights: Array) -> list[list[tuple[int, float]]]:
    pairs = list(zip(targets.tolist(), weights.tolist(), strict=True))
    ends = starts.tolist()
    return [pairs[a:b] for a, b in pairwise(ends)]
