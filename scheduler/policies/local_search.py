"""Local search: move one unit at a time while the objective falls. Deterministic, bounded by
evaluations."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scheduler.cluster import Cluster
from scheduler.graph import Array, TaskGraph
from scheduler.loads import loads
from scheduler.timeline import earliest
from scheduler.units import Units, condense


def improve(
    graph: TaskGraph, cluster: Cluster, where: Array, objective: str, evaluations: int = 400
) -> Array:
    """A placement at least as good as `where`, which must be feasible."""
    search = _Search(graph, cluster, objective, condense(graph, cluster), where.copy(), evaluations)
    search.value = search.measure(search.where)
    while search.left > 0 and search.step():
        pass
    return search.where


@dataclass
class _Search:
    graph: TaskGraph
    cluster: Cluster
    objective: str
    units: Units
    where: Array
    left: int
    value: float = 0.0

    def measure(self, where: Array) -> float:
        """The objective in seconds, and a little of the sum of loads to leave plateaus."""
        self.left -= 1
        busy = loads(self.graph, self.cluster, where)
        top = float(busy.max())
        if self.objective == "makespan":
            top = max(earliest(self.graph, self.cluster, where)[1], default=0.0)
        return top + 1e-6 * float(busy.mean())

    def step(self) -> bool:
        """Take the first improving move of a unit on the most loaded device; false if none."""
        busy = loads(self.graph, self.cluster, self.where)
        order = np.argsort(-busy, kind="stable")
        for unit in self.candidates(int(order[0])):
            for device in order[::-1].tolist():
                if self.left <= 0:
                    return False
                if device != order[0] and self.try_move(unit, device):
                    return True
        return False

    def candidates(self, device: int) -> list[int]:
        """Units of `device`, those with neighbours elsewhere first, then by size."""
        own = self.units.of
        unit_device = np.zeros(len(self.units), dtype=np.int64)
        unit_device[own] = self.where
        cross = self.where[self.graph.src] != self.where[self.graph.dst]
        edge = np.zeros(len(self.units), dtype=bool)
        edge[own[self.graph.src[cross]]] = edge[own[self.graph.dst[cross]]] = True
        there = np.flatnonzero(unit_device == device)
        size = self.units.seconds[there, device]
        found: list[int] = there[np.lexsort((-size, ~edge[there]))].tolist()
        return found

    def try_move(self, unit: int, device: int) -> bool:
        """Move `unit` if it may go there, fits, and lowers the objective."""
        if not np.isfinite(self.units.seconds[unit, device]):
            return False
        where = np.where(self.units.of == unit, device, self.where)
        kept = float(self.graph.memory[where == device].sum())
        if kept > self.cluster.capacity[device]:
            return False
        value = self.measure(where)
        if value >= self.value * (1 - 1e-12):
            return False
        self.where, self.value = where, value
        return True
