"""search(): an order for any DAG of stages under a memory cap, never worse than the named ones."""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heappop, heappush

from scheduler.errors import ScheduleError

from .action import Action, Order
from .named import gpipe, interleaved, one_f_one_b, zero_bubble_free, zero_bubble_h1
from .stages import Stages
from .timeline import Timeline, run


def search(stages: Stages, batches: int, memory: float = float("inf")) -> Timeline:
    """The order with the smallest span found, with no rank above `memory`.

    Candidates are the named orders that fit the stages, and list schedules that differ in how many
    micro-batches each rank may hold and in when weight gradients run. Ties go to less memory.
    Raises ScheduleError when not even one micro-batch fits.
    """
    found = [run(order, stages) for order in _candidates(stages, batches, memory)]
    fitting = [t for t in found if max(t.peak_memory) <= memory * (1 + 1e-12)]
    if not fitting:
        need = max(_per_rank(stages))
        raise ScheduleError(f"pipeline: one micro-batch keeps {need:g} on a rank, cap {memory:g}")
    return min(fitting, key=lambda t: (t.span, t.makespan, max(t.peak_memory)))


def _candidates(stages: Stages, batches: int, memory: float) -> Iterator[Order]:
    yield from _named(stages, batches)
    held = _per_rank(stages)
    most = [int(min(memory / need * (1 + 1e-12), batches)) if need else batches for need in held]
    if min(most) < 1:
        return
    ranks = stages.ranks
    shapes = [
        most,
        *([min(m, ranks - r + extra) for r, m in enumerate(most)] for extra in range(ranks)),
        *([min(m, 2 * (ranks - r) - 1) for r, m in enumerate(most)] for _ in range(1)),
        *([min(m, level) for m in most] for level in range(1, 2 * ranks + 1)),
    ]
    for caps in dict.fromkeys(tuple(max(1, c) for c in shape) for shape in shapes):
        for split in (True, False):
            order = _List(stages, batches, caps, memory, split).order()
            if order is not None:
                yield order


def _named(stages: Stages, batches: int) -> Iterator[Order]:
    ranks, n = stages.ranks, len(stages.forward)
    chunks = n // ranks
    if stages.rank_of != tuple(s % ranks for s in range(n)) or n % ranks:
        return
    if chunks > 1:
        if batches % ranks == 0:
            yield interleaved(ranks, batches, chunks)
        return
    yield from (gpipe(ranks, batches), one_f_one_b(ranks, batches), zero_bubble_h1(ranks, batches))
    for cap in range(ranks, 2 * ranks):
        yield zero_bubble_free(ranks, batches, cap)


def _per_rank(stages: Stages) -> list[float]:
    held = [0.0] * stages.ranks
    for stage, rank in enumerate(stages.rank_of):
        held[rank] += stages.memory[stage]
    return held


class _List:
    """Greedy in time: a free rank runs a ready gradient first, then a forward, then a weight
    gradient."""

    def __init__(
        self, stages: Stages, batches: int, caps: tuple[int, ...], memory: float, split: bool
    ) -> None:
        self.stages, self.batches, self.split, self.memory = stages, batches, split, memory
        self.limit = [cap * need for cap, need in zip(caps, _per_rank(stages), strict=True)]
        self.finish: dict[Action, float] = {}
        self.rows: list[list[Action]] = [[] for _ in range(stages.ranks)]
        self.kept = [0.0] * stages.ranks
        self.next_forward = [0] * len(stages.forward)
        self.next_back = [0] * len(stages.forward)
        self.owed: list[list[Action]] = [[] for _ in range(stages.ranks)]
        self.own = [
            [s for s, r in enumerate(stages.rank_of) if r == k] for k in range(stages.ranks)
        ]

    def order(self) -> Order | None:
        """The order, or None if the caps leave it stuck."""
        events = [(0.0, rank) for rank in range(self.stages.ranks)]
        free = [0.0] * self.stages.ranks
        while events:
            now, rank = heappop(events)
            if now < free[rank]:
                continue
            action = self.pick(rank, now)
            if action is None:
                continue
            done = now + self.stages.seconds(action.stage, action.kind)
            self.note(rank, action, done)
            free[rank] = done
            for time in {done, *self.wakes(done)}:
                for other in range(self.stages.ranks):
                    heappush(events, (time, other))
        total = len(self.stages.forward) * self.batches * (3 if self.split else 2)
        complete = sum(map(len, self.rows)) == total
        return tuple(map(tuple, self.rows)) if complete else None

    def wakes(self, done: float) -> set[float]:
        """Times at which a transfer that starts at `done` arrives."""
        return {done + transfer for _, _, transfer in self.stages.edges}

    def pick(self, rank: int, now: float) -> Action | None:
        """The action to run now, if any."""
        kind = "I" if self.split else "B"
        for stage in reversed(self.own[rank]):
            action = Action(stage, kind, self.next_back[stage])
            if self.next_back[stage] < self.batches and self.ready(action, now):
                return action
        for stage in reversed(self.own[rank]):
            action = Action(stage, "F", self.next_forward[stage])
            grown = self.kept[rank] + self.stages.memory[stage]
            fits = grown <= self.limit[rank] * (1 + 1e-12)
            if fits and self.next_forward[stage] < self.batches and self.ready(action, now):
                return action
        return self.owed[rank][0] if self.owed[rank] else None

    def ready(self, action: Action, now: float) -> bool:
        """Whether all inputs of `action` are on its rank by now."""
        stage, kind, batch = action
        if kind == "F":
            inputs = [(Action(a, "F", batch), t) for a, t in self.stages.before[stage]]
        else:
            inputs = [(Action(a, kind, batch), t) for a, t in self.stages.after[stage]]
            inputs.append((Action(stage, "F", batch), 0.0))
        return all(self.finish.get(need, float("inf")) + t <= now for need, t in inputs)

    def note(self, rank: int, action: Action, done: float) -> None:
        """Write the action down."""
        self.rows[rank].append(action)
        self.finish[action] = done
        self.kept[rank] += self.stages.kept(action.stage, action.kind)
        if action.kind == "F":
            self.next_forward[action.stage] += 1
        elif action.kind == "W":
            self.owed[rank].pop(0)
        else:
            self.next_back[action.stage] += 1
            if self.split:
                self.owed[rank].append(Action(action.stage, "W", action.batch))
