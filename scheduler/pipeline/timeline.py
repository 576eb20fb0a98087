"""Exact times of a pipeline order: each action as early as its rank and its inputs allow."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from scheduler.errors import ScheduleError

from .action import Action, Order
from .stages import Stages


@dataclass(frozen=True)
class Timeline:
    """Start and finish of every action, in seconds; peak memory of every rank."""

    start: dict[Action, float]
    finish: dict[Action, float]
    order: Order
    peak_memory: tuple[float, ...]

    @property
    def makespan(self) -> float:
        """Seconds until the last action is done."""
        return max(self.finish.values(), default=0.0)

    @property
    def span(self) -> float:
        """Seconds of the rank that is held longest, from its first start to its last finish.

        This is the time per step when steps follow each other without a barrier.
        """
        return max(self.finish[row[-1]] - self.start[row[0]] for row in self.order if row)

    @property
    def bubble(self) -> float:
        """Idle share of the rank that is held longest, within its span: 0 is bubble-free."""
        row = max(
            (row for row in self.order if row),
            key=lambda row: self.finish[row[-1]] - self.start[row[0]],
        )
        busy = sum(self.finish[a] - self.start[a] for a in row)
        return 1.0 - busy / self.span if self.span > 0 else 0.0

    def __str__(self) -> str:
        """A row for each rank, or for each of its stages if it has several."""
        scale = 100 / self.makespan if self.makespan else 0.0
        lines = []
        for rank, row in enumerate(self.order):
            stages = sorted({action.stage for action in row})
            several = len(stages) > 1
            for stage in stages:
                name = f"rank {rank} stage {stage}" if several else f"rank {rank}"
                lines.append(_line(self, name, [a for a in row if a.stage == stage], scale))
        return "\n".join(lines)


def run(order: Order, stages: Stages) -> Timeline:
    """Times of `order`. Raises ScheduleError when ranks wait for each other forever."""
    start: dict[Action, float] = {}
    finish: dict[Action, float] = {}
    at = [0] * len(order)
    free = [0.0] * len(order)
    waiting: dict[Action, list[int]] = {}
    ready = list(range(len(order)))
    while ready:
        rank = ready.pop()
        while at[rank] < len(order[rank]):
            action = order[rank][at[rank]]
            missing, begin = _earliest(action, stages, finish, free[rank])
            if missing:
                for choice in missing:
                    waiting.setdefault(choice, []).append(rank)
                break
            start[action] = begin
            finish[action] = free[rank] = begin + stages.seconds(action.stage, action.kind)
            at[rank] += 1
            ready += waiting.pop(action, [])
    if any(n < len(row) for n, row in zip(at, order, strict=True)):
        raise ScheduleError(_deadlock(order, at, waiting))
    peaks = tuple(_peak(row, stages) for row in order)
    return Timeline(start, finish, order, peaks)


def needs(action: Action, stages: Stages) -> Iterator[tuple[tuple[Action, ...], float]]:
    """What an action waits for: alternatives that count as one, and seconds of transfer."""
    stage, kind, batch = action
    if kind == "F":
        for before, transfer in stages.before[stage]:
            yield (Action(before, "F", batch),), transfer
    elif kind == "W":
        yield (Action(stage, "I", batch),), 0.0
    else:
        yield (Action(stage, "F", batch),), 0.0
        for after, transfer in stages.after[stage]:
            yield (Action(after, "B", batch), Action(after, "I", batch)), transfer


def _earliest(
    action: Action, stages: Stages, finish: dict[Action, float], free: float
) -> tuple[tuple[Action, ...], float]:
    """The alternatives that are still missing, or none and the earliest start."""
    begin = free
    for choices, transfer in needs(action, stages):
        done = [finish[choice] for choice in choices if choice in finish]
        if not done:
            return choices, 0.0
        begin = max(begin, done[0] + transfer)
    return (), begin


def _deadlock(order: Order, at: list[int], waiting: dict[Action, list[int]]) -> str:
    lines = [
        f"rank {r} waits at {order[r][at[r]]} for {a}" for a, rs in waiting.items() for r in rs
    ]
    return "\n".join(["pipeline: the ranks wait for each other:", *lines])


def _peak(row: tuple[Action, ...], stages: Stages) -> float:
    kept = peak = 0.0
    for action in row:
        kept += stages.kept(action.stage, action.kind)
        peak = max(peak, kept)
    return peak


def _line(timeline: Timeline, name: str, row: list[Action], scale: float) -> str:
    cells = ["."] * 100
    for action in row:
        first = round(timeline.start[action] * scale)
        last = max(first + 1, round(timeline.finish[action] * scale))
        cells[first:last] = action.kind * (min(last, 100) - first)
    return f"{name} |{''.join(cells[:100])}|"
