"""Earliest task first with memory limits (Hwang, Chow, Anger, Lee 1989): the ready task that can
start first goes next; a device without room for a task's unit does not count."""

from __future__ import annotations

from heapq import heapify, heappop, heappush

import numpy as np

from scheduler.cluster import Cluster
from scheduler.graph import Array, TaskGraph
from scheduler.schedule import Schedule
from scheduler.timeline import from_times

from .heft import upward_ranks
from .room import Room


def etf(graph: TaskGraph, cluster: Cluster) -> Schedule:
    """The ETF schedule. Raises ScheduleError when a ready task finds no room anywhere."""
    run = _Run(graph, cluster)
    while run.heap:
        run.step()
    return from_times(graph, cluster, run.where, run.starts, run.finishes, "etf", "makespan")


class _Run:
    """Starts only move later while others are placed, so a heap of stale starts suffices."""

    def __init__(self, graph: TaskGraph, cluster: Cluster) -> None:
        self.graph, self.cluster = graph, cluster
        self.room = Room.of(graph, cluster)
        n = len(graph)
        self.ranks = upward_ranks(graph, cluster).tolist()
        self.free = np.zeros(len(cluster.devices))
        self.ready: dict[int, Array] = {}
        self.waiting = [len(preds) for preds in graph.preds]
        self.where, self.starts, self.finishes = [-1] * n, [0.0] * n, [0.0] * n
        self.edges: list[list[tuple[int, float]]] = [[] for _ in range(n)]
        for i, j, nbytes in zip(
            graph.src.tolist(), graph.dst.tolist(), graph.nbytes.tolist(), strict=True
        ):
            self.edges[i].append((j, nbytes))
        roots = [i for i in range(n) if not self.waiting[i]]
        self.heap = [(0.0, -self.ranks[i], i) for i in roots]
        heapify(self.heap)

    def step(self) -> None:
        """Place the first task of the heap, or put it back if its start has moved."""
        start, key, i = heappop(self.heap)
        device, now = self.earliest(i)
        if now > start and self.heap and (now, key, i) > self.heap[0]:
            heappush(self.heap, (now, key, i))
            return
        self.room.take(i, device)
        self.put(i, device, now)

    def earliest(self, i: int) -> tuple[int, float]:
        """Device and time of the earliest start; the faster device wins a tie."""
        costs = np.array(self.room.costs(i))
        starts = np.maximum(self.free, self.ready[i]) if i in self.ready else self.free
        allowed = np.isfinite(costs)
        if not allowed.any():
            return -1, 0.0
        order = np.lexsort((costs, np.where(allowed, starts, np.inf)))
        return int(order[0]), float(starts[order[0]])

    def put(self, i: int, device: int, start: float) -> None:
        """Write task i down and release the tasks that waited for it only."""
        finish = start + self.room.table[i][device]
        self.where[i], self.starts[i], self.finishes[i] = device, start, finish
        self.free[device] = finish
        latency, per_byte = self.cluster.latency_s[device], self.cluster.s_per_byte[device]
        for j, nbytes in self.edges[i]:
            arrival = finish + latency + nbytes * per_byte
            self.ready[j] = np.maximum(self.ready[j], arrival) if j in self.ready else arrival
        for j in self.graph.succs[i]:
            self.waiting[j] -= 1
            if not self.waiting[j]:
                heappush(self.heap, (self.earliest(j)[1], -self.ranks[j], j))
