"""The acyclic multilevel policy: parts of the unit graph, one per device, cut where few bytes
cross."""

from __future__ import annotations

import numpy as np

from scheduler.cluster import Cluster
from scheduler.graph import Array, TaskGraph
from scheduler.partitioning.multilevel import partition
from scheduler.splitting.components import strong_components
from scheduler.splitting.problem import forward_edges
from scheduler.units import Units, condense

from .contiguous import contiguous


def multilevel(graph: TaskGraph, cluster: Cluster) -> Array:
    """Device position of each task; parts are equal in seconds, so it suits like devices.

    Where a part does not fit its device (memory, pins, forbidden), the contiguous cut is returned.
    """
    units = condense(graph, cluster)
    k = len(cluster.devices)
    merged, preds = strong_components(len(units), forward_edges(graph, units))
    of = merged[units.of]
    a, b = of[graph.src], of[graph.dst]
    apart = a != b
    # a backward edge costs as much as a forward one; the order is that of the forward edges
    low, high = np.minimum(a, b)[apart], np.maximum(a, b)[apart]
    mean = np.where(np.isfinite(units.seconds), units.seconds, 0.0).mean(axis=1)
    weight = np.bincount(merged, weights=mean, minlength=len(preds))
    weight = weight + weight.mean() * 1e-6
    part = partition(len(preds), low, high, k, weight, graph.nbytes[apart] + 1.0).part[of]
    return part if _fits(graph, cluster, units, part) else contiguous(graph, cluster)


def _fits(graph: TaskGraph, cluster: Cluster, units: Units, part: Array) -> bool:
    allowed = np.isfinite(units.seconds[units.of, part]).all()
    kept = np.bincount(part, weights=graph.memory, minlength=len(cluster.devices))
    return bool(allowed and (kept <= cluster.capacity).all())
