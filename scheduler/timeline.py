"""From a placement to a Schedule: start and finish of every task in the order of the graph."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import repeat

import numpy as np

from .bounds import Bound
from .cluster import Cluster
from .graph import Array, TaskGraph
from .schedule import Schedule, Slot


def from_placement(
    graph: TaskGraph,
    cluster: Cluster,
    where: Sequence[int] | Array,
    policy: str,
    objective: str,
    known: Bound | None = None,
) -> Schedule:
    """Run the tasks of each device in the order of the graph, each as early as its inputs allow.

    `where[i]` is the device position of task i; `known` is a bound that the policy proved.
    """
    spots = np.asarray(where, dtype=np.int64)
    starts, finishes = earliest(graph, cluster, spots)
    return from_times(graph, cluster, spots.tolist(), starts, finishes, policy, objective, known)


def from_times(
    graph: TaskGraph,
    cluster: Cluster,
    where: list[int],
    starts: list[float],
    finishes: list[float],
    policy: str,
    objective: str,
    known: Bound | None = None,
) -> Schedule:
    """Wrap known device positions, starts and finishes (one per task) as a Schedule."""
    names = [device.name for device in cluster.devices]
    ids = [task.id for task in graph.tasks]
    devices = [names[spot] for spot in where]
    # `Slot(...)` a hundred thousand times, without a Python call for each
    rows = zip(ids, devices, starts, finishes, strict=True)
    slots = list(map(tuple.__new__, repeat(Slot), rows))
    order = np.lexsort((np.arange(len(ids)), np.array(finishes), np.array(starts))).tolist()
    return Schedule(tuple([slots[i] for i in order]), policy, objective, graph, cluster, known)


def earliest(graph: TaskGraph, cluster: Cluster, where: Array) -> tuple[list[float], list[float]]:
    """Starts and finishes in seconds when every device runs its tasks in the graph's order."""
    cost = cluster.seconds(graph)[np.arange(len(graph)), where].tolist()
    free = [0.0] * len(cluster.devices)
    spots = where.tolist()
    arrivals = [0.0] * len(graph)
    starts, finishes = [0.0] * len(graph), [0.0] * len(graph)
    outgoing = _timed_edges(graph, cluster, where)
    for i, spot in enumerate(spots):
        start = max(free[spot], arrivals[i])
        finish = start + cost[i]
        starts[i], finishes[i], free[spot] = start, finish, finish
        for j, delay in outgoing[i]:
            if finish + delay > arrivals[j]:
                arrivals[j] = finish + delay
    return starts, finishes


def _timed_edges(graph: TaskGraph, cluster: Cluster, where: Array) -> list[list[tuple[int, float]]]:
    a, b = where[graph.src], where[graph.dst]
    delays = cluster.latency_s[a, b] + graph.nbytes * cluster.s_per_byte[a, b]
    outgoing: list[list[tuple[int, float]]] = [[] for _ in range(len(graph))]
    for i, j, delay in zip(graph.src.tolist(), graph.dst.tolist(), delays.tolist(), strict=True):
        outgoing[i].append((j, delay))
    return outgoing
