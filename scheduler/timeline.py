"""From a placement to a Schedule: start and finish of every task, loads, memory, bound."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .bounds import best_bound
from .cluster import Cluster
from .graph import Array, TaskGraph
from .schedule import Bound, Schedule, Slot


def from_placement(
    graph: TaskGraph,
    cluster: Cluster,
    where: Sequence[int] | Array,
    policy: str,
    objective: str,
    bound: Bound | None = None,
) -> Schedule:
    """Run the tasks of each device in the order of the graph, each as early as its inputs allow.

    `where[i]` is the device position of task i. A `bound` known to the policy is used when it is
    better than the general ones.
    """
    spots = np.asarray(where, dtype=np.int64)
    starts, finishes = earliest(graph, cluster, spots)
    return from_times(graph, cluster, spots, starts, finishes, policy, objective, bound)


def from_times(
    graph: TaskGraph,
    cluster: Cluster,
    where: Array,
    starts: Sequence[float],
    finishes: Sequence[float],
    policy: str,
    objective: str,
    bound: Bound | None = None,
) -> Schedule:
    """Wrap known device positions, starts and finishes (one per task) as a Schedule."""
    names = [device.name for device in cluster.devices]
    ids = [task.id for task in graph.tasks]
    order = np.lexsort((np.arange(len(ids)), finishes, starts)).tolist()
    slots = tuple(Slot(ids[i], names[where[i]], starts[i], finishes[i]) for i in order)
    general = best_bound(graph, cluster, objective)
    bounds = [general] if bound is None else [bound, general]
    return Schedule(
        slots=slots,
        loads=dict(zip(names, loads(graph, cluster, where).tolist(), strict=True)),
        peak_memory=dict(zip(names, kept(graph, cluster, where).tolist(), strict=True)),
        bound=max(bounds, key=lambda bound: bound.value),
        policy=policy,
        objective=objective,
        graph=graph,
        cluster=cluster,
    )


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


def loads(graph: TaskGraph, cluster: Cluster, where: Array) -> Array:
    """Seconds of each device: compute, values out (once each), foreign values in (once each)."""
    n, k = len(graph), len(cluster.devices)
    own = cluster.seconds(graph)[np.arange(n), where]
    total = np.bincount(where, weights=own, minlength=k)
    crossing = where[graph.src] != where[graph.dst]
    pairs = np.unique(graph.src[crossing] * k + where[graph.dst[crossing]])
    source, target = pairs // k, pairs % k
    home = where[source]
    moved = cluster.latency_s[home, target]
    moved = moved + graph.value_nbytes[source] * cluster.s_per_byte[home, target]
    moves = np.bincount(target, weights=moved, minlength=k)
    out = np.zeros(n)
    np.maximum.at(out, source, moved)
    moves += np.bincount(where, weights=out, minlength=k)
    return total + moves * [device.pays_transfers for device in cluster.devices]


def kept(graph: TaskGraph, cluster: Cluster, where: Array) -> Array:
    """Bytes kept on each device."""
    return np.bincount(where, weights=graph.memory, minlength=len(cluster.devices))


def _timed_edges(
    graph: TaskGraph, cluster: Cluster, where: Array
) -> list[list[tuple[int, float]]]:
    a, b = where[graph.src], where[graph.dst]
    delays = cluster.latency_s[a, b]
    delays = delays + graph.value_nbytes[graph.src] * cluster.s_per_byte[a, b]
    outgoing: list[list[tuple[int, float]]] = [[] for _ in range(len(graph))]
    for i, j, delay in zip(graph.src.tolist(), graph.dst.tolist(), delays.tolist(), strict=True):
        outgoing[i].append((j, delay))
    return outgoing
