"""Orders that are greedy in time: for any DAG of stages, with any number of them per rank."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from heapq import heappop, heappush

from .action import Action, Order
from .stages import Stages


def one_f_one_b_of(stages: Stages, batches: int) -> Order:
    """1F1B where ranks have several stages: a gradient as soon as it is ready, else a forward.

    A rank holds no more micro-batches than in 1F1B unless they wait for each other.
    """
    return _roomy(stages, batches, lambda ahead: ahead, split=False)


def zero_bubble_h1_of(stages: Stages, batches: int) -> Order:
    """ZB-H1 where ranks have several stages: as 1F1B, with weight gradients in the gaps."""
    return _roomy(stages, batches, lambda ahead: ahead, split=True)


def zero_bubble_free_of(stages: Stages, batches: int) -> Order:
    """ZB-H2 where ranks have several stages: as ZB-H1, with a longer warm-up."""
    return _roomy(stages, batches, lambda ahead: 2 * ahead - 1, split=True)


# What a schedule of one stage per rank becomes where ranks have several.
GREEDY: dict[str, Callable[[Stages, int], Order]] = {
    "1f1b": one_f_one_b_of,
    "zero_bubble_free": zero_bubble_free_of,
    "zero_bubble_h1": zero_bubble_h1_of,
}


def _roomy(stages: Stages, batches: int, warm: Callable[[int], int], split: bool) -> Order:
    """The order with the smallest caps, from those of the schedule on, that leave nobody stuck."""
    for more in range(batches):
        caps = [min(warm(stages.ranks - rank) + more, batches) for rank in range(stages.ranks)]
        order = as_ready(stages, batches, caps, split)
        if order is not None:
            return order
    raise AssertionError("a rank that may hold every micro-batch is never stuck")


def as_ready(stages: Stages, batches: int, caps: Sequence[int], split: bool) -> Order | None:
    """Each rank always runs what is ready, with at most `caps[rank]` micro-batches in its memory.

    `split`: input and weight gradients apart. None if the caps leave it stuck.
    """
    return _Ready(stages, batches, caps, split).order()


def per_rank(stages: Stages) -> list[float]:
    """Bytes that one micro-batch keeps on each rank."""
    held = [0.0] * stages.ranks
    for stage, rank in enumerate(stages.rank_of):
        held[rank] += stages.memory[stage]
    return held


class _Ready:
    """Greedy in time: a free rank runs a ready gradient first, then a forward, then a weight
    gradient."""

    def __init__(self, stages: Stages, batches: int, caps: Sequence[int], split: bool) -> None:
        self.stages, self.batches, self.split = stages, batches, split
        self.limit = [cap * need for cap, need in zip(caps, per_rank(stages), strict=True)]
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
