"""verify(): an independent check of a schedule; of this package it shares the cost model only."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Iterator
from itertools import pairwise

from .cluster import Cluster
from .errors import ScheduleError
from .graph import TaskGraph
from .schedule import Schedule, Slot

_EPS = 1e-9  # relative: sums of seconds and bytes in another order differ by roundings


def verify(
    schedule: Schedule, graph: TaskGraph, cluster: Cluster, contiguous: bool = False
) -> None:
    """Raise ScheduleError with every law that `schedule` breaks (at most ten are named).

    Laws: each task runs once, on a device it may use, for as long as it costs there; inputs arrive
    before a task starts; no two tasks overlap on a device; the orders of the devices and the edges
    have no cycle; pins and togetherness hold; memory fits; the bound is not above the value. With
    `contiguous`, the devices' forward parts (tasks not tied to another's id) must form no cycle.
    """
    broken = list(_misplaced(schedule, graph, cluster))
    if not broken:
        slots = {slot.task: slot for slot in schedule.slots}
        broken += _mistimed(slots, graph, cluster)
        broken += _overlaps(slots)
        broken += _apart(slots, graph)
        broken += _too_full(slots, graph, cluster)
        broken += _cycles(slots, graph)
        broken += _unproved(schedule)
        broken += _not_contiguous(slots, graph) if contiguous else []
    if broken:
        more = [f"and {len(broken) - 10} more"] if len(broken) > 10 else []
        raise ScheduleError("\n".join(["the schedule is wrong:", *broken[:10], *more]))


def _misplaced(schedule: Schedule, graph: TaskGraph, cluster: Cluster) -> Iterator[str]:
    devices = {device.name: device for device in cluster.devices}
    tasks = {task.id: task for task in graph.tasks}
    times: dict[str, int] = defaultdict(int)
    for slot in schedule.slots:
        times[slot.task] += 1
        task, device = tasks.get(slot.task), devices.get(slot.device)
        if task is None:
            yield f"task {slot.task} is not in the graph"
        elif device is None:
            yield f"task {slot.task} runs on {slot.device}, which is not in the cluster"
        elif task.pin is not None and task.pin != device.name:
            yield f"task {task.id} runs on {device.name}, pinned to {task.pin}"
        elif device.name in task.forbidden or device.kind in task.forbidden:
            yield f"task {task.id} runs on {device.name}, where it is forbidden"
    for task in graph.tasks:
        if times[task.id] != 1:
            yield f"task {task.id} runs {times[task.id]} times, expected once"


def _mistimed(slots: dict[str, Slot], graph: TaskGraph, cluster: Cluster) -> Iterator[str]:
    devices = {device.name: device for device in cluster.devices}
    for task in graph.tasks:
        slot = slots[task.id]
        cost = cluster.compute_s(task, devices[slot.device])
        if not (math.isfinite(slot.start) and slot.start >= 0):
            yield f"task {task.id} starts at {slot.start}, expected a time from 0 on"
        elif not abs(slot.finish - slot.start - cost) <= _EPS * max(slot.finish, cost):
            yield f"task {task.id} takes {slot.finish - slot.start} s, expected {cost} s"
    for source, target, nbytes in graph.edges:
        a, b = slots[source], slots[target]
        arrival = a.finish + cluster.transfer_s(nbytes, a.device, b.device)
        if b.start < arrival - _EPS * max(1e-300, arrival):
            yield f"task {target} starts at {b.start}, its input from {source} comes at {arrival}"


def _overlaps(slots: dict[str, Slot]) -> Iterator[str]:
    for row in _rows(slots).values():
        busy = row[0]
        for slot in row[1:]:
            if slot.start < busy.finish - _EPS * busy.finish:
                yield f"tasks {busy.task} and {slot.task} overlap on {slot.device}"
            busy = max(busy, slot, key=lambda slot: slot.finish)


def _apart(slots: dict[str, Slot], graph: TaskGraph) -> Iterator[str]:
    homes: dict[Hashable, Slot] = {}
    for task in graph.tasks:
        if task.together is not None:
            slot = slots[task.id]
            first = homes.setdefault(task.together, slots.get(task.together, slot))
            if first.device != slot.device:
                yield f"task {task.id} is on {slot.device}, not with {first.task} on {first.device}"


def _too_full(slots: dict[str, Slot], graph: TaskGraph, cluster: Cluster) -> Iterator[str]:
    kept: dict[str, float] = defaultdict(float)
    for task in graph.tasks:
        kept[slots[task.id].device] += task.memory
    for device in cluster.devices:
        if kept[device.name] > device.memory * (1 + _EPS):
            yield f"{device.name} keeps {kept[device.name]} bytes, has {device.memory}"


def _cycles(slots: dict[str, Slot], graph: TaskGraph) -> Iterator[str]:
    """Edges plus the order of each device: a cycle would wait for itself."""
    pairs = [(a, b) for a, b, _ in graph.edges]
    for row in _rows(slots).values():
        pairs += [(a.task, b.task) for a, b in pairwise(row)]
    if stuck := _left_in_cycles(pairs):
        yield f"the order of the devices makes a cycle through task {stuck[0]}"


def _not_contiguous(slots: dict[str, Slot], graph: TaskGraph) -> Iterator[str]:
    ids = {task.id for task in graph.tasks}
    forward = {t.id for t in graph.tasks if t.together not in ids or t.together == t.id}
    pairs = [(slots[a].device, slots[b].device) for a, b, _ in graph.edges if {a, b} <= forward]
    if stuck := _left_in_cycles([(a, b) for a, b in pairs if a != b]):
        yield f"the split is not contiguous: {stuck[0]} comes before and after another device"


def _left_in_cycles(pairs: list[tuple[str, str]]) -> list[str]:
    """Nodes that cannot be sorted topologically."""
    waiting: dict[str, int] = defaultdict(int)
    after: dict[str, list[str]] = defaultdict(list)
    for a, b in pairs:
        waiting[b] += 1
        after[a].append(b)
    ready = [a for a in after if not waiting[a]]
    while ready:
        for b in after[ready.pop()]:
            waiting[b] -= 1
            if not waiting[b]:
                ready.append(b)
    return [node for node, count in waiting.items() if count]


def _unproved(schedule: Schedule) -> Iterator[str]:
    if schedule.lower_bound > schedule.value * (1 + _EPS):
        yield f"the bound {schedule.lower_bound} is above the value {schedule.value}"


def _rows(slots: dict[str, Slot]) -> dict[str, list[Slot]]:
    rows: dict[str, list[Slot]] = defaultdict(list)
    for slot in sorted(slots.values(), key=lambda slot: (slot.start, slot.finish)):
        rows[slot.device].append(slot)
    return rows
