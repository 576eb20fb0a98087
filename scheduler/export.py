"""Schedules as files: JSON that reads back, and the Chrome trace that chrome://tracing and Perfetto
show."""

from __future__ import annotations

import json
from typing import Any

from .bounds import Bound
from .cluster import Cluster
from .errors import ScheduleError
from .graph import TaskGraph
from .schedule import Schedule, Slot


def to_json(schedule: Schedule) -> str:
    """One JSON object: policy, objective, slots, and the derived numbers for readers."""
    return json.dumps(
        {
            "policy": schedule.policy,
            "objective": schedule.objective,
            "makespan_s": schedule.makespan,
            "loads_s": schedule.loads,
            "peak_memory_bytes": schedule.peak_memory,
            "bound_s": schedule.lower_bound,
            "bound_reason": schedule.bound.reason,
            "gap": schedule.gap,
            "slots": [list(slot) for slot in schedule.slots],
        },
        indent=1,
    )


def from_json(text: str, graph: TaskGraph, cluster: Cluster) -> Schedule:
    """Read `to_json` back; loads and memory are computed from the slots again, not believed."""
    try:
        table: dict[str, Any] = json.loads(text)
        slots = tuple(Slot(*row) for row in table["slots"])
        known = Bound(table["bound_s"], table["bound_reason"])
        return Schedule(slots, table["policy"], table["objective"], graph, cluster, known)
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise ScheduleError(f"not a schedule in JSON: {error!r}") from None


def to_chrome_trace(schedule: Schedule) -> str:
    """Trace events in microseconds: one row per device, one bar per task, one arrow per
    transfer."""
    rows = {name: number for number, name in enumerate(schedule.cluster.index)}
    events: list[dict[str, Any]] = [
        {"ph": "M", "name": "thread_name", "pid": 0, "tid": row, "args": {"name": name}}
        for name, row in rows.items()
    ]
    for slot in schedule.slots:
        events.append(
            {"ph": "X", "name": slot.task, "pid": 0, "tid": rows[slot.device]}
            | {"ts": slot.start * 1e6, "dur": (slot.finish - slot.start) * 1e6}
        )
    slots = {slot.task: slot for slot in schedule.slots}
    for number, (source, target, nbytes) in enumerate(schedule.graph.edges):
        a, b = slots[source], slots[target]
        if a.device != b.device:
            arrow = {"name": f"{source} -> {target}", "cat": "transfer", "id": number, "pid": 0}
            sent = {"ph": "s", "tid": rows[a.device], "ts": a.finish * 1e6}
            came = {"ph": "f", "bp": "e", "tid": rows[b.device], "ts": b.start * 1e6}
            events += [arrow | sent | {"args": {"bytes": nbytes}}, arrow | came]
    return json.dumps({"traceEvents": events, "displayTimeUnit": "ms"})
