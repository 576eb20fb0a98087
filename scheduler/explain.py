"""A schedule in words: what binds, why a task sits where it sits, and clusters changed by
factors."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from .cluster import Cluster
from .errors import ScheduleError
from .graph import Array
from .loads import kept, loads
from .text import nbytes, seconds

if TYPE_CHECKING:
    from .schedule import Schedule, Slot


def explain(schedule: Schedule) -> str:
    """Value, bound and gap; per device its load and memory; the chain of waits that ends last."""
    graph, cluster, where = schedule.graph, schedule.cluster, schedule.positions
    compute = np.bincount(
        where,
        weights=cluster.seconds(graph)[np.arange(len(graph)), where],
        minlength=len(cluster.devices),
    )
    lines = [
        f"{schedule.policy}: {schedule.objective} {seconds(schedule.value)}; no schedule beats "
        f"{seconds(schedule.lower_bound)} ({schedule.bound.reason}); gap {schedule.gap:.1%}"
    ]
    for d, (name, load) in enumerate(schedule.loads.items()):
        mark = "  <-- most loaded" if load == schedule.load else ""
        lines.append(
            f"  {name}: load {seconds(load)} (compute {seconds(float(compute[d]))}, transfers "
            f"{seconds(load - float(compute[d]))}), memory {nbytes(schedule.peak_memory[name])} of "
            f"{nbytes(float(cluster.capacity[d]))}{mark}"
        )
    return "\n".join([*lines, "the last task waited for:", *(f"  {w}" for w in _waits(schedule))])


def why(schedule: Schedule, task: str) -> str:
    """Place and start of `task`, what it waited for, and the objective's load on every device."""
    slots = {slot.task: slot for slot in schedule.slots}
    if task not in slots:
        raise ScheduleError(f"why: no task '{task}' in the schedule")
    slot, own = slots[task], schedule.graph.tasks[schedule.graph.index[task]]
    lines = [f"{task} runs on {slot.device} from {seconds(slot.start)} to {seconds(slot.finish)}"]
    lines.append(f"it starts then because of {_wait(schedule, slots, slot)[0]}")
    if own.pin is not None:
        lines.append(f"it is pinned to {own.pin}")
    if own.together is not None:
        lines.append(f"it stays together with {own.together}")
    return "\n".join([*lines, *_alternatives(schedule, task)])


def changed(
    cluster: Cluster,
    bandwidth: float = 1.0,
    latency: float = 1.0,
    flops: float = 1.0,
    memory: float = 1.0,
    devices: int = 0,
) -> Cluster:
    """The cluster with factors applied, and `devices` copies of its last device more or fewer."""
    links = tuple(
        replace(k, bytes_per_s=k.bytes_per_s * bandwidth, latency_s=k.latency_s * latency)
        for k in cluster.links
    )
    kept_devices = cluster.devices[: len(cluster.devices) + min(devices, 0)]
    if not kept_devices:
        raise ScheduleError(f"whatif: devices={devices} leaves no device")
    last = cluster.devices[-1]
    more = tuple(replace(last, name=f"{last.name}+{i + 1}") for i in range(max(devices, 0)))
    scaled = tuple(
        replace(
            device,
            flops_per_s=device.flops_per_s * flops,
            rates={kind: rate * flops for kind, rate in device.rates.items()},
            memory=device.memory * memory,
        )
        for device in kept_devices + more
    )
    return replace(cluster, devices=scaled, links=links)


def _waits(schedule: Schedule, most: int = 12) -> list[str]:
    slots = {slot.task: slot for slot in schedule.slots}
    at: Slot | None = max(schedule.slots, key=lambda slot: slot.finish, default=None)
    lines: list[str] = []
    while at is not None and len(lines) < most:
        reason, before = _wait(schedule, slots, at)
        lines.append(f"{at.task} on {at.device} at {seconds(at.start)}: {reason}")
        at = before
    return lines


def _wait(schedule: Schedule, slots: dict[str, Slot], slot: Slot) -> tuple[str, Slot | None]:
    """What set the start of `slot`: the input or the task of its device that was done last."""
    options: list[tuple[float, str, Slot]] = []
    graph, cluster = schedule.graph, schedule.cluster
    for source, nbytes_ in _inputs(schedule, slot.task):
        came = slots[source]
        arrival = came.finish + cluster.transfer_s(nbytes_, came.device, slot.device)
        how = "" if came.device == slot.device else f" over {came.device} -> {slot.device}"
        options.append((arrival, f"its input from {source}{how}", came))
    for other in schedule.slots:
        if other.device == slot.device and other.finish <= slot.start and other is not slot:
            if graph.index[other.task] != graph.index[slot.task]:
                options.append((other.finish, f"{other.task} held the device", other))
    options = [option for option in options if option[0] >= slot.start * (1 - 1e-9)]
    if slot.start <= 0 or not options:
        return ("nothing: it is among the first" if slot.start <= 0 else "its policy's order"), None
    _, reason, before = max(options, key=lambda option: (option[0], -option[2].start))
    return reason, before


def _inputs(schedule: Schedule, task: str) -> list[tuple[str, float]]:
    graph = schedule.graph
    at = np.flatnonzero(graph.dst == graph.index[task]).tolist()
    return [(graph.edges[e][0], graph.edges[e][2]) for e in at]


def _alternatives(schedule: Schedule, task: str) -> list[str]:
    graph, cluster = schedule.graph, schedule.cluster
    group = graph.units == graph.units[graph.index[task]]
    lines = []
    for d, device in enumerate(cluster.devices):
        where: Array = np.where(group, d, schedule.positions)
        largest = float(loads(graph, cluster, where).max())
        full = kept(graph, cluster, where)[d] > device.memory
        note = ", more than its memory" if full else ""
        here = ", as it is" if device.name == schedule.placement[task] else ""
        lines.append(f"  on {device.name}: largest load {seconds(largest)}{note}{here}")
    return lines
