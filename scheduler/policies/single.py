"""Everything on one device: the schedule that parallel ones have to beat."""

from __future__ import annotations

import numpy as np

from scheduler.cluster import Cluster
from scheduler.errors import ScheduleError
from scheduler.graph import Array, TaskGraph
from scheduler.units import condense, over_memory


def single(graph: TaskGraph, cluster: Cluster) -> Array:
    """All tasks on the device that finishes them first. Raises ScheduleError if none may run
    all."""
    units = condense(graph, cluster)
    total = units.seconds.sum(axis=0)
    fits = graph.memory.sum() <= cluster.capacity
    best = int(np.where(fits, total, np.inf).argmin())
    if not np.isfinite(total).any():
        raise ScheduleError("single: the pins leave no device that may run every task")
    if not (fits[best] and np.isfinite(total[best])):
        raise over_memory(graph, cluster, int(cluster.capacity.argmax()), list(range(len(graph))))
    return np.full(len(graph), best, dtype=np.int64)
