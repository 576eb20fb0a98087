"""Lower bounds that hold for every placement: what no policy can beat, and what binds."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .cluster import Cluster
from .graph import Array, TaskGraph
from .paths import path_with_links, pinned_transfers


class Bound(NamedTuple):
    """No schedule has a smaller objective than `value` seconds, and why."""

    value: float
    reason: str


_MOST_EDGES = 50_000  # of a graph whose paths are searched with their transfers


def best_bound(graph: TaskGraph, cluster: Cluster, objective: str) -> Bound:
    """The largest of the general bounds on `objective` ("load" or "makespan"), in seconds."""
    if not len(graph):
        return Bound(0.0, "no tasks")
    table = _by_unit(graph, allowed_seconds(graph, cluster))
    bounds = [work(table), one_unit(graph, table), pinned(graph, cluster, table)]
    if float(graph.memory.sum()) > float(cluster.capacity.min()):
        bounds.append(memory(graph, cluster, table))
    if objective == "load":
        bounds.append(pinned_links(graph, cluster, table))
    else:
        bounds.append(critical_path(graph, table))
        if len(graph.edges) <= _MOST_EDGES:
            bounds.append(Bound(*path_with_links(graph, cluster, table)))
    # the first of equals: a simple reason before one that is not needed
    best = max(bound.value for bound in bounds) * (1 - 1e-12)
    return next(bound for bound in bounds if bound.value >= best)


def _by_unit(graph: TaskGraph, table: Array) -> Array:
    """What excludes a device for one task excludes it for all that stay with it."""
    banned = np.zeros((int(graph.units.max()) + 1, table.shape[1]), dtype=bool)
    np.logical_or.at(banned, graph.units, ~np.isfinite(table))
    return np.where(banned[graph.units], np.inf, table)


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


def memory(graph: TaskGraph, cluster: Cluster, table: Array, rounds: int = 300) -> Bound:
    """The work of all devices when none can keep more than its memory.

    Dual of the fractional assignment with memory limits: any weights w >= 0 of the devices and
    prices p >= 0 of their bytes give (sum_i min_d (w_d t_id + p_d m_i) - sum_d p_d C_d) / sum w.
    """
    heads, counts = _alike(cluster, table)
    table, kept = table[:, heads], graph.memory
    room = cluster.capacity[heads] * counts
    rows, whole = np.arange(len(table)), float(kept.sum())
    weights, prices = np.ones(len(heads)), np.zeros(len(heads))
    dear = float(table.min(axis=1).sum()) / whole
    best, full, top = 0.0, int(heads[0]), 1e-300
    for step in range(1, rounds + 1):
        paid = table * weights + kept[:, None] * prices
        at = paid.argmin(axis=1)
        rent = np.multiply(prices, room, out=np.zeros_like(room), where=prices > 0)
        value = float(paid[rows, at].sum() - rent.sum()) / float(weights @ counts)
        if value > best:
            best, full = value, int(heads[rent.argmax()])
        busy = np.bincount(at, weights=table[rows, at], minlength=len(heads)) / counts
        over = np.bincount(at, weights=kept, minlength=len(heads)) - room
        top = max(top, float(busy.max()))  # one scale for all steps keeps their mean a subgradient
        dear = max(dear, top * float(counts.min()) / whole)
        weights = weights * np.exp(busy / top / np.sqrt(step))
        weights = weights / weights.max()
        prices = np.maximum(0.0, prices + dear * over / whole / np.sqrt(step))
    return Bound(best, f"the memory of {cluster.devices[full].name}")


def _alike(cluster: Cluster, table: Array) -> tuple[Array, Array]:
    """One device of each class of equal ones, and how many each class has."""
    keys = [(table[:, d].tobytes(), room) for d, room in enumerate(cluster.capacity.tolist())]
    firsts = {key: keys.index(key) for key in dict.fromkeys(keys)}
    return np.array(list(firsts.values())), np.array([keys.count(key) for key in firsts])


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


def pinned_links(graph: TaskGraph, cluster: Cluster, table: Array) -> Bound:
    """A device runs what is pinned to it and moves what its pinned tasks exchange with others."""
    busy, moved, partner = pinned_transfers(graph, cluster, table)
    worst = int((busy + moved).argmax())
    name, other = cluster.devices[worst].name, cluster.devices[int(partner[worst])].name
    return Bound(
        float(busy[worst] + moved[worst]), f"the link between {name} and {other}: pinned tasks"
    )


def critical_path(graph: TaskGraph, table: Array) -> Bound:
    """The longest chain, each task on its fastest device and no transfers."""
    cost = table.min(axis=1).tolist()
    longest = list(cost)
    for i, preds in enumerate(graph.preds):
        if preds:
            longest[i] = cost[i] + max(longest[p] for p in preds)
    end = max(range(len(longest)), key=longest.__getitem__)
    return Bound(float(longest[end]), f"the critical path to {graph.tasks[end].id}")
