"""Room: what each task costs where it may still run, given pins, togetherness and memory left."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scheduler.cluster import Cluster
from scheduler.errors import ScheduleError
from scheduler.graph import TaskGraph
from scheduler.text import nbytes
from scheduler.units import Units, condense, largest

_INF = float("inf")


@dataclass
class Room:
    """`costs(i)` before a choice, `take(i, device)` after it, in any order of tasks."""

    graph: TaskGraph
    cluster: Cluster
    units: Units
    table: list[list[float]]
    unit_of: list[int]
    memory: list[float]
    left: list[float]
    homes: dict[int, int]
    bounded: bool
    grouped: bool

    @classmethod
    def of(cls, graph: TaskGraph, cluster: Cluster) -> Room:
        """Raises ScheduleError for contradictory pins and hopeless memory."""
        units = condense(graph, cluster)
        table = cluster.seconds(graph)
        allowed = np.isfinite(units.seconds)
        if not allowed.all():
            table = np.where(allowed[units.of], table, np.inf)
        total = float(units.memory.sum())
        room = cls(
            graph=graph,
            cluster=cluster,
            units=units,
            table=table.tolist(),
            unit_of=units.of.tolist(),
            memory=units.memory.tolist(),
            left=cluster.capacity.tolist(),
            homes={},
            bounded=bool((cluster.capacity < total).any()),
            grouped=len(units) < len(graph),
        )
        room._reserve(allowed)
        return room

    @property
    def free(self) -> bool:
        """Whether no choice ever limits another: memory is plenty and no tasks stay together."""
        return not self.bounded and not self.grouped

    def costs(self, i: int) -> list[float]:
        """Seconds of task i per device; infinite where it may not or cannot go."""
        row = self.table[i]
        if self.free:
            return row
        unit = self.unit_of[i]
        home = self.homes.get(unit)
        if home is not None:
            return [row[d] if d == home else _INF for d in range(len(row))]
        if not self.bounded:
            return row
        need = self.memory[unit]
        return [cost if need <= left else _INF for cost, left in zip(row, self.left, strict=True)]

    def take(self, i: int, device: int) -> None:
        """Task i goes to `device`, and so does its whole unit. -1 raises the refusal."""
        if device < 0:
            raise self.refusal(i)
        if self.bounded or self.grouped:
            unit = self.unit_of[i]
            if unit not in self.homes:
                self.homes[unit] = device
                self.left[device] -= self.memory[unit]

    def refusal(self, i: int) -> ScheduleError:
        """Nobody has room for the unit of task i."""
        need = self.memory[self.unit_of[i]]
        device = max(range(len(self.left)), key=lambda d: (self.table[i][d] < _INF, self.left[d]))
        name, left = self.cluster.devices[device].name, self.left[device]
        taken = [j for j, unit in enumerate(self.unit_of) if self.homes.get(unit) == device]
        return ScheduleError(
            f"no device has memory left for task '{self.graph.tasks[i].id}': it needs "
            f"{nbytes(need)}, {name} has {nbytes(left)} left: {nbytes(need - left)} too little. "
            f"Largest kept: {largest(self.graph, taken)}"
        )

    def _reserve(self, allowed: np.ndarray[tuple[int, int], np.dtype[np.bool_]]) -> None:
        # units with one possible device keep their memory there from the start
        if self.bounded:
            for unit in np.flatnonzero(allowed.sum(axis=1) == 1).tolist():
                self.homes[unit] = int(allowed[unit].argmax())
                self.left[self.homes[unit]] -= self.memory[unit]
