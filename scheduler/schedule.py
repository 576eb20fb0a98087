"""Slot and Schedule: who runs what and when, with memory, loads and a proven bound."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from .bounds import Bound, best_bound
from .cluster import Cluster
from .errors import ScheduleError
from .explain import changed, explain, why
from .graph import Array, TaskGraph
from .loads import kept, loads
from .text import nbytes, seconds


class Slot(NamedTuple):
    """One task on one device, from `start` to `finish` in seconds."""

    task: str
    device: str
    start: float
    finish: float


@dataclass(frozen=True)
class Schedule:
    """Slots in order of start, over the graph and the cluster that they were made for.

    `known` is a bound that the policy proved, over the schedules of its kind (for `ideals`: the
    contiguous splits). Everything else is computed from these fields when asked for.
    """

    slots: tuple[Slot, ...]
    policy: str
    objective: str
    graph: TaskGraph = field(repr=False, compare=False)
    cluster: Cluster = field(repr=False, compare=False)
    known: Bound | None = None
    remake: Callable[[TaskGraph, Cluster], Schedule] | None = field(
        default=None, repr=False, compare=False
    )

    @cached_property
    def placement(self) -> dict[str, str]:
        """Device name of each task id, in the order of the graph."""
        where = {slot.task: slot.device for slot in self.slots}
        return {task.id: where[task.id] for task in self.graph.tasks}

    @cached_property
    def positions(self) -> Array:
        """Device position of each task, int64[N]."""
        index = self.cluster.index
        return np.array([index[name] for name in self.placement.values()], dtype=np.int64)

    @cached_property
    def makespan(self) -> float:
        """Seconds from the first start to the last finish (starts begin at 0)."""
        return max((slot.finish for slot in self.slots), default=0.0)

    @cached_property
    def loads(self) -> dict[str, float]:
        """Seconds per device: compute, plus each of its values out and each foreign value in,
        once."""
        return self._per_device(loads(self.graph, self.cluster, self.positions))

    @cached_property
    def peak_memory(self) -> dict[str, float]:
        """Bytes kept on each device."""
        return self._per_device(kept(self.graph, self.cluster, self.positions))

    @cached_property
    def bound(self) -> Bound:
        """The largest known lower bound on `value`, and what binds."""
        general = best_bound(self.graph, self.cluster, self.objective)
        if self.known is None or self.known.value < general.value:
            return general
        return self.known

    @property
    def load(self) -> float:
        """Seconds of the most loaded device: the inverse of the throughput."""
        return max(self.loads.values())

    @property
    def value(self) -> float:
        """The objective that was asked for: the makespan or the largest load, in seconds."""
        return self.makespan if self.objective == "makespan" else self.load

    @property
    def lower_bound(self) -> float:
        """Seconds that no schedule can beat."""
        return self.bound.value

    @property
    def gap(self) -> float:
        """`value / lower_bound - 1`: 0 is proved optimal."""
        return max(0.0, self.value / self.lower_bound - 1) if self.lower_bound > 0 else 0.0

    def whatif(self, **changes: Any) -> Schedule:
        """The schedule of the same policy on a changed cluster.

        `bandwidth`, `latency`, `flops`, `memory` are factors; `devices=+1` adds a copy of the last
        device, `devices=-1` takes the last one away.
        """
        if self.remake is None:
            raise ScheduleError(f"{self.policy}: only a schedule made by place() can be made again")
        return self.remake(self.graph, changed(self.cluster, **changes))

    def explain(self) -> str:
        """What binds: loads, memory, and the chain of waits that ends last."""
        return explain(self)

    def why(self, task: str) -> str:
        """Why `task` runs where and when it does, and what every other device would give."""
        return why(self, task)

    def on(self, device: str) -> tuple[Slot, ...]:
        """The slots of one device in order of start."""
        return tuple(slot for slot in self.slots if slot.device == device)

    def _per_device(self, numbers: Array) -> dict[str, float]:
        return dict(zip(self.cluster.index, numbers.tolist(), strict=True))

    def __str__(self) -> str:
        return "\n".join([*gantt(self), summary(self)])


def summary(schedule: Schedule) -> str:
    """One line: policy, objective, value, bound, gap and what binds."""
    return (
        f"{schedule.policy}: {schedule.objective} {seconds(schedule.value)}, "
        f"bound {seconds(schedule.lower_bound)} ({schedule.bound.reason}), gap {schedule.gap:.1%}"
    )


def gantt(schedule: Schedule, width: int = 64) -> list[str]:
    """One line per device: a letter per task (`a` to `z` in the order of the graph, repeating), `.`
    where it waits."""
    scale = width / schedule.makespan if schedule.makespan > 0 else 0.0
    names = max(len(device.name) for device in schedule.cluster.devices)
    rows = {device.name: ["."] * width for device in schedule.cluster.devices}
    for slot in schedule.slots:
        first = min(int(slot.start * scale), width - 1)
        last = max(first + 1, round(slot.finish * scale))
        for column in range(first, min(last, width)):
            rows[slot.device][column] = "abcdefghijklmnopqrstuvwxyz"[
                schedule.graph.index[slot.task] % 26
            ]
    return [
        f"{name:{names}} |{''.join(row)}| load {seconds(schedule.loads[name])}"
        f" memory {nbytes(schedule.peak_memory[name])}"
        for name, row in rows.items()
    ]
