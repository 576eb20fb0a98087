"""Topological orders of a small level, by different tastes, and the best cut along them."""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heapify, heappop, heappush

import numpy as np

from scheduler.graph import Array

from .levels import Level


def orders(level: Level, tries: int, seed: int) -> Iterator[Array]:
    """Topological orders: depth first with random preferences, by connection to the prefix, by
    rank.

    Every second one grows from the sinks instead of the sources.
    """
    rng = np.random.default_rng(seed)
    back = level.reversed()
    for number in range(tries):
        graph, turned = (back, True) if number % 2 else (level, False)
        noise = rng.random(level.n)
        grow = (_greedy, _depth_first, _ranked)[number // 2 % 3]
        order = grow(graph, noise)
        yield (level.n - 1 - order)[::-1] if turned else order


def _greedy(level: Level, noise: Array) -> Array:
    """Next: the ready node whose edges from the prefix weigh most against those it opens."""
    closed = np.bincount(level.dst, weights=level.edge_weight, minlength=level.n)
    opened = np.bincount(level.src, weights=level.edge_weight, minlength=level.n)
    return _by_key(level, (opened - closed + 1e-3 * noise).tolist())


def _ranked(level: Level, noise: Array) -> Array:
    """Next: the ready node with the smallest random rank, where ranks rise along edges."""
    return _by_key(level, (noise * level.n).tolist())


def _by_key(level: Level, key: list[float]) -> Array:
    starts, targets, _ = level.successors()
    begin, to = starts.tolist(), targets.tolist()
    degree = np.bincount(level.dst, minlength=level.n)
    waiting = degree.tolist()
    heap = [(key[v], v) for v in np.flatnonzero(degree == 0).tolist()]
    heapify(heap)
    order = []
    while heap:
        _, v = heappop(heap)
        order.append(v)
        for w in to[begin[v] : begin[v + 1]]:
            waiting[w] -= 1
            if not waiting[w]:
                heappush(heap, (key[w], w))
    return np.array(order, dtype=np.int64)


def _depth_first(level: Level, noise: Array) -> Array:
    starts, targets, _ = level.successors()
    begin, to, taste = starts.tolist(), targets.tolist(), noise.tolist()
    degree = np.bincount(level.dst, minlength=level.n)
    waiting = degree.tolist()
    ready = sorted(np.flatnonzero(degree == 0).tolist(), key=taste.__getitem__)
    order = []
    while ready:
        v = ready.pop()
        order.append(v)
        for w in sorted(to[begin[v] : begin[v + 1]], key=taste.__getitem__):
            waiting[w] -= 1
            if not waiting[w]:
                ready.append(w)
    return np.array(order, dtype=np.int64)


def best_prefix(level: Level, order: Array, low: float, high: float) -> tuple[float, Array]:
    """Cut weight and flags (true = later side) of the cheapest prefix with weight in [low,
    high]."""
    place = np.empty(level.n, dtype=np.int64)
    place[order] = np.arange(level.n)
    change = np.zeros(level.n + 1)
    np.add.at(change, place[level.src] + 1, level.edge_weight)
    np.subtract.at(change, place[level.dst] + 1, level.edge_weight)
    cut = np.cumsum(change)
    weight = np.concatenate([[0.0], np.cumsum(level.node_weight[order])])
    allowed = np.flatnonzero((weight >= low) & (weight <= high))
    if not allowed.size:
        allowed = np.array([np.abs(weight - (low + high) / 2).argmin()])
    end = int(allowed[cut[allowed].argmin()])
    return float(cut[end]), place >= end
