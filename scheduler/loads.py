"""What a placement costs each device: seconds of compute and transfers, bytes kept."""

from __future__ import annotations

import numpy as np

from .cluster import Cluster
from .graph import Array, TaskGraph


def loads(graph: TaskGraph, cluster: Cluster, where: Array) -> Array:
    """Seconds of each device: compute, values out (once each), foreign values in (once each)."""
    n, k = len(graph), len(cluster.devices)
    own = cluster.seconds(graph)[np.arange(n), where]
    total = np.bincount(where, weights=own, minlength=k)
    source, target, moved = moves(graph, cluster, where)
    busy = np.bincount(target, weights=moved, minlength=k)
    out = np.zeros(n)
    np.maximum.at(out, source, moved)
    busy = busy + np.bincount(where, weights=out, minlength=k)
    return total + busy * [device.pays_transfers for device in cluster.devices]


def moves(graph: TaskGraph, cluster: Cluster, where: Array) -> tuple[Array, Array, Array]:
    """Every value moved: the task that made it, the device that needs it, seconds on the link."""
    k = len(cluster.devices)
    crossing = np.flatnonzero(where[graph.src] != where[graph.dst])
    keys = graph.src[crossing] * k + where[graph.dst[crossing]]
    pairs, which = np.unique(keys, return_inverse=True)
    nbytes = np.zeros(len(pairs))
    np.maximum.at(nbytes, which, graph.nbytes[crossing])
    source, target = pairs // k, pairs % k
    home = where[source]
    return (
        source,
        target,
        cluster.latency_s[home, target] + nbytes * cluster.s_per_byte[home, target],
    )


def kept(graph: TaskGraph, cluster: Cluster, where: Array) -> Array:
    """Bytes kept on each device."""
    return np.bincount(where, weights=graph.memory, minlength=len(cluster.devices))
