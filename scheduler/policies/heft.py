"""HEFT: tasks by upward rank, each into the earliest gap that fits (Topcuoglu, Hariri, Wu 2002).

Cast of characters: rank = longest mean way from a task to the end, itself included; ready[d] = when
all inputs are on device d; gap = idle time between two tasks of one device; free[d] = end of its
last task.
"""

from __future__ import annotations

import numpy as np

from scheduler.cluster import Cluster
from scheduler.graph import Array, TaskGraph
from scheduler.schedule import Schedule
from scheduler.timeline import from_times

from .gaps import Gaps
from .room import Room

_INF = float("inf")
Inputs = list[list[tuple[int, float]]]


def heft(graph: TaskGraph, cluster: Cluster) -> Schedule:
    """The HEFT schedule with insertion. Tasks that stay together follow the first of them.

    Raises ScheduleError when a task finds no device with memory left for its unit.
    """
    room = Room.of(graph, cluster)
    ranks = upward_ranks(graph, cluster)
    order = np.lexsort((np.arange(len(graph)), -ranks)).tolist()
    run = _uniform if _has_one_link(cluster) else _general
    where, starts, finishes = run(graph, cluster, room, order)
    return from_times(graph, cluster, where, starts, finishes, "heft", "makespan")


def upward_ranks(graph: TaskGraph, cluster: Cluster) -> Array:
    """Mean seconds of the task plus the dearest way to the end, float64[N]."""
    ranks = cluster.seconds(graph).mean(axis=1)
    mean = _mean_delays(graph, cluster)
    order = np.argsort(-graph.src, kind="stable")
    own = ranks.tolist()
    # sources come last to first, so `total` of a target is final when an edge reads it
    best = [0.0] * len(graph)
    ends = zip(
        graph.src[order].tolist(), graph.dst[order].tolist(), mean[order].tolist(), strict=True
    )
    for i, j, delay in ends:
        way = delay + own[j] + best[j]
        if way > best[i]:
            best[i] = way
    total: Array = ranks + np.array(best)
    return total


def _mean_delays(graph: TaskGraph, cluster: Cluster) -> Array:
    apart = ~np.eye(len(cluster.devices), dtype=bool)
    if not apart.any():
        return np.zeros(len(graph.nbytes))
    latency, per_byte = cluster.latency_s[apart].mean(), cluster.s_per_byte[apart].mean()
    mean: Array = latency + graph.nbytes * per_byte
    return mean


def _has_one_link(cluster: Cluster) -> bool:
    apart = ~np.eye(len(cluster.devices), dtype=bool)
    tables = (cluster.latency_s[apart], cluster.s_per_byte[apart])
    return all(bool((table == table[:1]).all()) for table in tables)


def _inputs(graph: TaskGraph, numbers: Array) -> Inputs:
    inputs: Inputs = [[] for _ in range(len(graph))]
    for i, j, number in zip(graph.src.tolist(), graph.dst.tolist(), numbers.tolist(), strict=True):
        inputs[j].append((i, number))
    return inputs


class _Board:
    """The growing schedule: where and when each task runs, and the gaps of every device."""

    def __init__(self, n: int, devices: int) -> None:
        self.where = [-1] * n
        self.starts, self.finishes = [0.0] * n, [0.0] * n
        self.free = [0.0] * devices
        self.gaps = [Gaps() for _ in range(devices)]
        self.last_gap = [0.0] * devices  # no gap of the device ends later

    def put(self, i: int, ready: list[float], cost: list[float]) -> int:
        """Run task i where it finishes first; device -1 if every cost is infinite."""
        best, begin, chosen = _INF, 0.0, -1
        early: list[int] | None = None
        d = 0
        for at, own, free, gap in zip(ready, cost, self.free, self.last_gap, strict=True):
            if at < free:
                if at + own <= gap:
                    early = [d] if early is None else [*early, d]
                at = free
            if at + own < best:
                best, begin, chosen = at + own, at, d
            d += 1
        for d in early or ():
            if ready[d] + cost[d] < best:
                start = self.gaps[d].first_fit(ready[d], cost[d], best)
                if start >= 0:
                    best, begin, chosen = start + cost[d], start, d
        if chosen >= 0:
            self._note(i, chosen, begin, best)
        return chosen

    def _note(self, i: int, d: int, start: float, finish: float) -> None:
        self.where[i], self.starts[i], self.finishes[i] = d, start, finish
        free = self.free[d]
        if start < free:
            self.gaps[d].fill(start, finish)
            return
        if start > free:
            self.gaps[d].append(free, start)
            self.last_gap[d] = start
        self.free[d] = finish


Times = tuple[list[int], list[float], list[float]]


def _uniform(graph: TaskGraph, cluster: Cluster, room: Room, order: list[int]) -> Times:
    """All links alike: inputs are ready everywhere at once, except on the devices that made
    them."""
    first, sources, delays = _flat_inputs(graph, _mean_delays(graph, cluster))
    k = len(cluster.devices)
    board = _Board(len(graph), k)
    where, finishes, put = board.where, board.finishes, board.put
    free, table = room.free, room.table
    for i in order:
        edges = range(first[i], first[i + 1])
        latest = 0.0
        for e in edges:
            arrival = finishes[sources[e]] + delays[e]
            if arrival > latest:
                latest = arrival
        ready = [latest] * k
        for e in edges:
            home = where[sources[e]]
            at = 0.0
            for other in edges:
                p = sources[other]
                arrival = finishes[p] if where[p] == home else finishes[p] + delays[other]
                if arrival > at:
                    at = arrival
            ready[home] = at
        if free:
            put(i, ready, table[i])
        else:
            room.take(i, put(i, ready, room.costs(i)))
    return board.where, board.starts, board.finishes


def _flat_inputs(graph: TaskGraph, delays: Array) -> tuple[list[int], list[int], list[float]]:
    """Edges sorted by target: where each task's begin, their sources and their delays.

    Three flat lists: tuples by the hundred thousand would keep the garbage collector busy.
    """
    order = np.argsort(graph.dst, kind="stable")
    counts = np.bincount(graph.dst, minlength=len(graph))
    first = np.concatenate([[0], np.cumsum(counts)])
    return first.tolist(), graph.src[order].tolist(), delays[order].tolist()


def _general(graph: TaskGraph, cluster: Cluster, room: Room, order: list[int]) -> Times:
    inputs = _inputs(graph, graph.nbytes)
    latency, per_byte = cluster.latency_s, cluster.s_per_byte
    board = _Board(len(graph), len(cluster.devices))
    for i in order:
        ready = np.zeros(len(cluster.devices))
        for p, nbytes in inputs[i]:
            home = board.where[p]
            delay = latency[home] + nbytes * per_byte[home]
            np.maximum(ready, board.finishes[p] + delay, out=ready)
        room.take(i, board.put(i, ready.tolist(), room.costs(i)))
    return board.where, board.starts, board.finishes
