"""The split problem in numbers: units, device types, values with the units they touch.

A contiguous split is a chain of ideals, empty = I0 < I1 < ... < Ik = all units; device j gets
S = Ij - I(j-1). A value touches its producer and its readers. It costs S its transfer, once, when
it touches S and also something outside S: out if the producer is in S, in if it is not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scheduler.cluster import Cluster
from scheduler.graph import Array, TaskGraph
from scheduler.units import Units

from .components import strong_components


@dataclass(frozen=True)
class Problem:
    """Units 0..U-1 in topological order of `preds`; device types 0..D-1.

    `seconds` [U, D] (infinite = not allowed), `memory` [U], `preds` lists, `costs` [V] seconds per
    transfer, `touched` lists the units of each value. Per type: `counts`, `capacity`, `pays`.
    """

    seconds: Array
    memory: Array
    preds: tuple[tuple[int, ...], ...]
    costs: Array
    touched: tuple[tuple[int, ...], ...]
    counts: tuple[int, ...]
    capacity: Array
    pays: tuple[bool, ...]

    def __len__(self) -> int:
        return len(self.memory)


@dataclass(frozen=True)
class Translation:
    """How to read a solution of the Problem as device positions of tasks."""

    unit_of_task: Array
    devices_of_type: tuple[tuple[int, ...], ...]


def pose(graph: TaskGraph, cluster: Cluster, units: Units) -> tuple[Problem, Translation]:
    """Build the problem. Order binds the forward tasks only: those not tied to another task's id.

    Units in a cycle of forward edges can only share a device, so they become one. Where links
    or the edges of a value differ, the cheapest counts: the answer is then a bound first and a
    split second.
    """
    forward = forward_edges(graph, units)
    merged, preds = strong_components(len(units), forward)
    n = len(preds)
    seconds = np.zeros((n, len(cluster.devices)))
    np.add.at(seconds, merged, units.seconds)
    types = _types(seconds, cluster)
    heads = [devices[0] for devices in types]
    of = merged[units.of]
    costs, touched = _values(graph, cluster, of)
    problem = Problem(
        seconds=seconds[:, heads],
        memory=np.bincount(merged, weights=units.memory, minlength=n),
        preds=preds,
        costs=costs,
        touched=touched,
        counts=tuple(len(devices) for devices in types),
        capacity=cluster.capacity[heads],
        pays=tuple(cluster.devices[d].pays_transfers for d in heads),
    )
    return problem, Translation(of, types)


def forward_edges(graph: TaskGraph, units: Units) -> set[tuple[int, int]]:
    """Pairs of units joined by an edge between tasks that are not tied to another task's id."""
    tied = np.array([task.together in graph.index for task in graph.tasks], dtype=bool)
    own = np.array([task.together == task.id for task in graph.tasks], dtype=bool)
    forward = ~tied | own
    keep = forward[graph.src] & forward[graph.dst]
    a, b = units.of[graph.src[keep]], units.of[graph.dst[keep]]
    return {(i, j) for i, j in zip(a.tolist(), b.tolist(), strict=True) if i != j}


def _types(seconds: Array, cluster: Cluster) -> tuple[tuple[int, ...], ...]:
    groups: dict[bytes, list[int]] = {}
    for d, device in enumerate(cluster.devices):
        key = seconds[:, d].tobytes() + repr((device.memory, device.pays_transfers)).encode()
        groups.setdefault(key, []).append(d)
    return tuple(tuple(devices) for devices in groups.values())


def _values(
    graph: TaskGraph, cluster: Cluster, of: Array
) -> tuple[Array, tuple[tuple[int, ...], ...]]:
    apart = ~np.eye(len(cluster.devices), dtype=bool)
    latency = cluster.latency_s[apart].min(initial=np.inf)
    per_byte = cluster.s_per_byte[apart].min(initial=np.inf)
    if not np.isfinite(latency):
        return np.zeros(0), ()
    sums: dict[tuple[int, ...], float] = {}
    for i, readers in enumerate(graph.succs):
        touched = tuple(sorted({int(of[i]), *(int(of[j]) for j in readers)}))
        cost = float(latency + graph.least_nbytes[i] * per_byte)
        if len(touched) > 1 and cost > 0:
            sums[touched] = sums.get(touched, 0.0) + cost
    return np.array(list(sums.values())), tuple(sums)
