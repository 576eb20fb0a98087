"""Lower bounds that hold for every placement: what no policy can beat, and what binds."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .cluster import Cluster
from .graph import Array, TaskGraph


class Bound(NamedTuple):
    """No schedule has a smaller objective than `value` seconds, and why."""

    value: float
    reason: str


def best_bound(graph: TaskGraph, cluster: Cluster, objective: str) -> Bound:
    """The largest of the general bounds on `objective` ("load" or "makespan"), in seconds."""
    table = allowed_seconds(graph, cluster)
    if not len(graph):
        return Bound(0.0, "no tasks")
    bounds = [work(table), one_unit(graph, table), pinned(graph, cluster, table)]
    if objective == "makespan":
        bounds.append(critical_path(graph, table))
    return max(bounds, key=lambda bound: bound.value)


def allowed_seconds(graph: TaskGraph, cluster: Cluster) -> Array:
    """Seconds of each task on each device, infinite where pin or `forbidden` exclude it, [N, D]."""
    table = cluster.seconds(graph)
    for i in [i for i, task in enumerate(graph.tasks) if task.pin is not None or task.forbidden]:
        task = graph.tasks[i]
        for d, device in enumerate(cluster.devices):
            elsewhere = task.pin is not None and device.name != task.pin
            if elsewhere or device.name in task.forbidden or device.kind in task.forbidden:
                table[i, d] = np.inf
    return table


def work(table: Array) -> Bound:
    """All devices together, even if every task could be split between them."""
    weights = work_weights(table, np.ones(table.shape[1]))
    value = float((table * weights).min(axis=1).sum()) / float(weights.sum())
    return Bound(value, "the work of all devices")


def work_weights(table: Array, counts: Array, rounds: int = 40) -> Array:
    """Weights w of the device types, largest 1, that make sum_i min_d w_d t_id / w.counts large.

    By duality of the fractional assignment every choice is a lower bound on the largest load;
    multiplicative updates shift weight to the devices that get most work. `table` is [N, D].
    """
    weights = np.ones(table.shape[1])
    if (table == table[:, :1]).all():
        return weights
    rows = np.arange(len(table))
    best, chosen = -1.0, weights
    for step in range(1, rounds + 1):
        scaled = table * weights
        at = scaled.argmin(axis=1)
        value = float(scaled[rows, at].sum()) / float(weights @ counts)
        if value > best:
            best, chosen = value, weights
        busy = np.bincount(at, weights=table[rows, at], minlength=len(weights)) / counts
        weights = weights * np.exp(busy / max(float(busy.max()), 1e-300) / np.sqrt(step))
    largest: float = chosen.max()
    return chosen / largest


def one_unit(graph: TaskGraph, table: Array) -> Bound:
    """Some device runs the heaviest unit: one task, or tasks that must stay together."""
    units = graph.units
    sums = np.zeros((int(units.max()) + 1, table.shape[1]))
    np.add.at(sums, units, table)
    heaviest = int(sums.min(axis=1).argmax())
    task = graph.tasks[int(np.flatnonzero(units == heaviest)[0])].id
    members = int((units == heaviest).sum())
    what = f"task {task}" if members == 1 else f"the {members} tasks kept together with {task}"
    return Bound(float(sums[heaviest].min()), what)


def pinned(graph: TaskGraph, cluster: Cluster, table: Array) -> Bound:
    """A device runs at least what is pinned to it."""
    only = np.isfinite(table).sum(axis=1) == 1
    sums = np.where(only[:, None] & np.isfinite(table), table, 0.0).sum(axis=0)
    worst = int(sums.argmax())
    return Bound(float(sums[worst]), f"tasks pinned to {cluster.devices[worst].name}")


def critical_path(graph: TaskGraph, table: Array) -> Bound:
    """The longest chain, each task on its fastest device and no transfers."""
    cost = table.min(axis=1).tolist()
    longest = list(cost)
    for i, preds in enumerate(graph.preds):
        if preds:
            longest[i] = cost[i] + max(longest[p] for p in preds)
    end = max(range(len(longest)), key=longest.__getitem__)
    return Bound(float(longest[end]), f"the critical path to {graph.tasks[end].id}")
