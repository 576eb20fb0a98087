"""Units: tasks that must share a device, as one; and the refusals that are known before placing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .bounds import allowed_seconds
from .cluster import Cluster
from .errors import ScheduleError
from .graph import Array, TaskGraph
from .text import nbytes


@dataclass(frozen=True)
class Units:
    """`of` is the unit of each task [N]; `seconds` [U, D] is infinite where a unit may not run."""

    of: Array
    seconds: Array
    memory: Array

    def __len__(self) -> int:
        return len(self.memory)

    def members(self, unit: int) -> list[int]:
        """Positions of the tasks of one unit."""
        found: list[int] = np.flatnonzero(self.of == unit).tolist()
        return found


def condense(graph: TaskGraph, cluster: Cluster) -> Units:
    """Group the tasks. Raises ScheduleError for contradictory pins and for hopeless memory."""
    of = graph.units
    n = int(of.max()) + 1 if of.size else 0
    seconds = np.zeros((n, len(cluster.devices)))
    allowed = allowed_seconds(graph, cluster)
    if n == len(graph):
        seconds = allowed
    else:
        np.add.at(seconds, of, allowed)
    units = Units(of, seconds, np.bincount(of, weights=graph.memory, minlength=n))
    _check_pins(graph, cluster, units)
    _check_memory(graph, cluster, units)
    return units


def over_memory(graph: TaskGraph, cluster: Cluster, device: int, tasks: list[int]) -> ScheduleError:
    """The refusal for `tasks` (positions) that do not fit on `device` together."""
    need = float(graph.memory[tasks].sum())
    have = float(cluster.capacity[device])
    return ScheduleError(
        f"{cluster.devices[device].name} needs {nbytes(need)} of memory, has {nbytes(have)}: "
        f"{nbytes(need - have)} too much. Largest kept: {largest(graph, tasks)}"
    )


def largest(graph: TaskGraph, tasks: list[int], count: int = 3) -> str:
    """The `count` largest holders of memory among `tasks`, with their bytes."""
    top = sorted(tasks, key=lambda i: -graph.memory[i])[:count]
    return ", ".join(f"{graph.tasks[i].id} ({nbytes(float(graph.memory[i]))})" for i in top)


def _check_pins(graph: TaskGraph, cluster: Cluster, units: Units) -> None:
    for task in [task for task in graph.tasks if task.pin is not None]:
        if task.pin not in cluster.index:
            known = ", ".join(cluster.index)
            raise ScheduleError(
                f"task '{task.id}' is pinned to {task.pin}, the cluster has {known}"
            )
    stuck = np.flatnonzero(~np.isfinite(units.seconds).any(axis=1))
    if stuck.size:
        raise ScheduleError(_contradiction(graph, units.members(int(stuck[0]))))


def _contradiction(graph: TaskGraph, members: list[int]) -> str:
    tasks = [graph.tasks[i] for i in members]
    pins = {task.pin: task.id for task in tasks if task.pin is not None}
    if len(pins) > 1:
        said = " and ".join(f"{id} to {pin}" for pin, id in list(pins.items())[:3])
        return f"contradictory pins: {said}, but they must stay together"
    forbidden = sorted({name for task in tasks for name in task.forbidden})
    where = f"pinned to {next(iter(pins))}" if pins else "left with no device"
    return f"task '{tasks[0].id}' is {where}, but forbidden on {', '.join(forbidden)}"


def _check_memory(graph: TaskGraph, cluster: Cluster, units: Units) -> None:
    allowed = np.isfinite(units.seconds)
    room = np.where(allowed, cluster.capacity, -np.inf)
    tight = np.flatnonzero(units.memory > room.max(axis=1, initial=-np.inf))
    if tight.size:
        unit = int(tight[0])
        raise over_memory(graph, cluster, int(room[unit].argmax()), units.members(unit))
    only = allowed & (allowed.sum(axis=1) == 1)[:, None]
    for device in np.flatnonzero(units.memory @ only > cluster.capacity).tolist():
        tasks = np.flatnonzero(only[units.of, device]).tolist()
        raise over_memory(graph, cluster, device, tasks)
    total, have = float(units.memory.sum()), float(cluster.capacity.sum())
    if total > have:
        raise ScheduleError(
            f"all devices together need {nbytes(total)} of memory, have {nbytes(have)}: "
            f"{nbytes(total - have)} too much. "
            f"Largest kept: {largest(graph, list(range(len(graph))))}"
        )
