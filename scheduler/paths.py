"""What links cost at least: between pinned tasks, and along the paths of a graph."""

from __future__ import annotations

import numpy as np

from .cluster import Cluster
from .graph import Array, TaskGraph


def pinned_transfers(
    graph: TaskGraph, cluster: Cluster, table: Array
) -> tuple[Array, Array, Array]:
    """Per device: seconds of its pinned tasks, of the values that they surely exchange, with whom.

    `table` is seconds per task and device, infinite where a task may not run. A value goes out
    once and comes in once per device; the partner is the device that most seconds are for.
    """
    k = len(cluster.devices)
    home = np.where(np.isfinite(table).sum(axis=1) == 1, np.isfinite(table).argmax(axis=1), -1)
    fixed = np.flatnonzero(home >= 0)
    busy = np.bincount(home[fixed], weights=table[fixed, home[fixed]], minlength=k)
    between = np.zeros((k, k))
    longest_out: dict[int, tuple[float, int]] = {}
    for (source, b), seconds in _crossings(graph, cluster, home).items():
        between[b, home[source]] += seconds
        longest_out[source] = max(longest_out.get(source, (0.0, b)), (seconds, b))
    for source, (seconds, b) in longest_out.items():
        between[home[source], b] += seconds
    pays = np.array([device.pays_transfers for device in cluster.devices])
    return busy, between.sum(axis=1) * pays, between.argmax(axis=1)


def _crossings(graph: TaskGraph, cluster: Cluster, home: Array) -> dict[tuple[int, int], float]:
    """Seconds of each value (its task, the device it goes to) between two pinned tasks."""
    a, b = home[graph.src], home[graph.dst]
    found: dict[tuple[int, int], float] = {}
    for e in np.flatnonzero((a >= 0) & (b >= 0) & (a != b)).tolist():
        key = int(graph.src[e]), int(b[e])
        delay = cluster.latency_s[a[e], b[e]] + graph.nbytes[e] * cluster.s_per_byte[a[e], b[e]]
        found[key] = max(found.get(key, 0.0), float(delay))
    return found


def path_with_links(graph: TaskGraph, cluster: Cluster, table: Array) -> tuple[float, str]:
    """The longest chain, transfers included, each task where that makes the chain shortest.

    finish[i, d] = seconds of i on d + max over inputs p of min over e (finish[p, e] + transfer);
    every input may choose its device anew, so this is a lower bound on any makespan.
    """
    finish = table.copy()
    edges_into: list[list[int]] = [[] for _ in range(len(graph))]
    for e, target in enumerate(graph.dst.tolist()):
        edges_into[target].append(e)
    for i, edges in enumerate(edges_into):
        if edges:
            finish[i] += np.max(
                [_ways(graph, cluster, finish, e).min(axis=0) for e in edges], axis=0
            )
    end = int(finish.min(axis=1).argmax())
    return float(finish[end].min()), _reason(graph, cluster, finish, edges_into, end)


def _ways(graph: TaskGraph, cluster: Cluster, finish: Array, e: int) -> Array:
    """When the value of edge `e` arrives: from each device (rows) on each device (columns)."""
    delay = cluster.latency_s + graph.nbytes[e] * cluster.s_per_byte
    ways: Array = finish[graph.src[e]][:, None] + delay
    return ways


def _reason(
    graph: TaskGraph, cluster: Cluster, finish: Array, edges_into: list[list[int]], end: int
) -> str:
    """The last link on the chain that ends at `end`, or the chain itself when it has none."""
    at, device = end, int(finish[end].argmin())
    while edges_into[at]:
        ways = [_ways(graph, cluster, finish, e)[:, device] for e in edges_into[at]]
        late = int(np.argmax([way.min() for way in ways]))
        source, before = int(graph.src[edges_into[at][late]]), int(ways[late].argmin())
        if before != device:
            names = [cluster.devices[d].name for d in (before, device)]
            value = f"{graph.tasks[source].id} to {graph.tasks[at].id}"
            return f"the link {' -> '.join(names)} on the path from {value}"
        at = source
    return f"the critical path to {graph.tasks[end].id}"
