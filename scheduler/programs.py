"""Programs for the simulator, from the very schedules that the runtimes run."""

from __future__ import annotations

from collections import defaultdict

from .pipeline.action import Action, Order
from .pipeline.stages import Stages
from .pipeline.timeline import needs
from .schedule import Schedule
from .simulate import Program, Work


def from_schedule(schedule: Schedule) -> Program:
    """Each device runs its slots in order; every edge is a message. Memory is kept to the end."""
    sends: dict[str, list[tuple[str, float]]] = defaultdict(list)
    for source, target, nbytes in schedule.graph.edges:
        sends[source].append((target, nbytes))
    memory = {task.id: task.memory for task in schedule.graph.tasks}
    rows: dict[str, list[Work]] = {name: [] for name in schedule.cluster.index}
    for slot in schedule.slots:
        seconds = slot.finish - slot.start
        work = Work(slot.task, seconds, tuple(sends[slot.task]), grows=memory[slot.task])
        rows[slot.device].append(work)
    return {name: tuple(row) for name, row in rows.items()}


def from_pipeline(order: Order, stages: Stages, devices: tuple[str, ...], nbytes: float) -> Program:
    """Rank r runs on devices[r]; an activation or its gradient has `nbytes` on every edge."""
    there = {action for row in order for action in row}
    sends: dict[Action, list[tuple[str, float]]] = defaultdict(list)
    for action in there:
        for choices, _ in needs(action, stages):
            source = next(choice for choice in choices if choice in there)
            sends[source].append((str(action), nbytes))
    return {
        name: tuple(_work(action, stages, sends[action]) for action in row)
        for name, row in zip(devices, order, strict=True)
    }


def _work(action: Action, stages: Stages, sends: list[tuple[str, float]]) -> Work:
    change = stages.kept(action.stage, action.kind)
    seconds = stages.seconds(action.stage, action.kind)
    # sorted: a set of actions has no order of its own, and equal times must fall the same way
    return Work(str(action), seconds, tuple(sorted(sends)), max(change, 0.0), max(-change, 0.0))
