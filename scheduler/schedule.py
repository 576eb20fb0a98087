"""Slot and Schedule: who runs what and when, with memory, loads and a proven bound."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from .cluster import Cluster
from .graph import TaskGraph


class Slot(NamedTuple):
    """One task on one device, from `start` to `finish` in seconds."""

    task: str
    device: str
    start: float
    finish: float


class Bound(NamedTuple):
    """No schedule has a smaller objective than `value` seconds, and why."""

    value: float
    reason: str


@dataclass(frozen=True)
class Schedule:
    """Slots in order of start. `loads` and `peak_memory` are per device name (seconds, bytes).

    A load is what a device spends computing, plus moving each of its values out once and each
    foreign value in once. `bound` is a lower bound on `objective` over all placements.
    """

    slots: tuple[Slot, ...]
    loads: Mapping[str, float]
    peak_memory: Mapping[str, float]
    bound: Bound
    policy: str
    objective: str
    graph: TaskGraph = field(repr=False, compare=False)
    cluster: Cluster = field(repr=False, compare=False)

    @cached_property
    def placement(self) -> dict[str, str]:
        """Device name of each task id, in the order of the graph."""
        where = {slot.task: slot.device for slot in self.slots}
        return {task.id: where[task.id] for task in self.graph.tasks}

    @cached_property
    def makespan(self) -> float:
        """Seconds from the first start to the last finish (starts begin at 0)."""
        return max((slot.finish for slot in self.slots), default=0.0)

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

    def on(self, device: str) -> tuple[Slot, ...]:
        """The slots of one device in order of start."""
        return tuple(slot for slot in self.slots if slot.device == device)

    def __str__(self) -> str:
        return "\n".join([*gantt(self), summary(self)])


def summary(schedule: Schedule) -> str:
    """One line: policy, objective, value, bound, gap and what binds."""
    return (
        f"{schedule.policy}: {schedule.objective} {seconds(schedule.value)}, "
        f"bound {seconds(schedule.lower_bound)} ({schedule.bound.reason}), gap {schedule.gap:.1%}"
    )


def gantt(schedule: Schedule, width: int = 64) -> list[str]:
    """One line per device: a letter per task (`a` to `z`, repeating), `.` where it waits."""
    scale = width / schedule.makespan if schedule.makespan > 0 else 0.0
    names = max(len(device.name) for device in schedule.cluster.devices)
    rows = {device.name: ["."] * width for device in schedule.cluster.devices}
    for number, slot in enumerate(sorted(schedule.slots, key=lambda slot: slot.start)):
        first = min(int(slot.start * scale), width - 1)
        last = max(first + 1, round(slot.finish * scale))
        for column in range(first, min(last, width)):
            rows[slot.device][column] = "abcdefghijklmnopqrstuvwxyz"[number % 26]
    return [
        f"{name:{names}} |{''.join(row)}| load {seconds(schedule.loads[name])}"
        f" memory {nbytes(schedule.peak_memory[name])}"
        for name, row in rows.items()
    ]


def seconds(value: float) -> str:
    """`0.00123` -> `1.23 ms`."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if value >= size:
            return f"{value / size:.4g} {unit}"
    return f"{value / 1e-9:.4g} ns"


def nbytes(value: float) -> str:
    """`2_000_000` -> `2 MB`."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= size:
            return f"{value / size:.4g} {unit}"
    return f"{value:.0f} B"
