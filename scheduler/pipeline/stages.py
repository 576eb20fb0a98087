"""Stages of a pipeline: seconds and bytes per micro-batch, and the edges between them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from scheduler.errors import ScheduleError


@dataclass(frozen=True)
class Stages:
    """Seconds of F, I and W per stage; `rank_of` the rank of each stage; edges (a, b, seconds).

    `memory` is kept from F on; I frees the share that W does not need (1 - `weight_share`), W or B
    the rest. Edges go from lower to higher stages; without any, the stages are a chain.
    """

    forward: tuple[float, ...]
    input_grad: tuple[float, ...]
    weight_grad: tuple[float, ...]
    rank_of: tuple[int, ...] = ()
    edges: tuple[tuple[int, int, float], ...] = ()
    memory: tuple[float, ...] = ()
    weight_share: float = 1.0

    def __post_init__(self) -> None:
        n = len(self.forward)
        if not self.rank_of:
            object.__setattr__(self, "rank_of", tuple(range(n)))
        if not self.edges:
            object.__setattr__(self, "edges", tuple((i, i + 1, 0.0) for i in range(n - 1)))
        if not self.memory:
            object.__setattr__(self, "memory", (1.0,) * n)
        columns = (self.input_grad, self.weight_grad, self.rank_of, self.memory)
        if any(len(column) != n for column in columns):
            raise ScheduleError(f"stages: every column needs {n} numbers: got {columns}")
        if any(a >= b for a, b, _ in self.edges):
            raise ScheduleError(f"stages: edges must go to later stages: got {self.edges}")

    @classmethod
    def even(
        cls, ranks: int, f: float, i: float, w: float, chunks: int = 1, transfer_s: float = 0.0
    ) -> Stages:
        """`chunks` stages per rank, dealt round; f, i, w are seconds of a whole rank's share."""
        n = ranks * chunks
        forward, input_grad, weight_grad = ((x / chunks,) * n for x in (f, i, w))
        return cls(
            forward,
            input_grad,
            weight_grad,
            rank_of=tuple(s % ranks for s in range(n)),
            edges=tuple((s, s + 1, transfer_s) for s in range(n - 1)),
            memory=(1.0 / chunks,) * n,
        )

    @property
    def ranks(self) -> int:
        """Number of ranks."""
        return max(self.rank_of) + 1

    def seconds(self, stage: int, kind: str) -> float:
        """Seconds of one action."""
        parts = {"F": self.forward, "I": self.input_grad, "W": self.weight_grad}
        if kind == "B":
            return self.input_grad[stage] + self.weight_grad[stage]
        return parts[kind][stage]

    @cached_property
    def before(self) -> tuple[tuple[tuple[int, float], ...], ...]:
        """Stages that each stage's forward waits for, with the transfer in seconds."""
        n = len(self.forward)
        return tuple(tuple((a, s) for a, b, s in self.edges if b == at) for at in range(n))

    @cached_property
    def after(self) -> tuple[tuple[tuple[int, float], ...], ...]:
        """Stages that each stage's input gradient waits for, with the transfer in seconds."""
        n = len(self.forward)
        return tuple(tuple((b, s) for a, b, s in self.edges if a == at) for at in range(n))

    def kept(self, stage: int, kind: str) -> float:
        """Change of memory when an action is done (F: when it starts)."""
        size = self.memory[stage]
        share = {"F": 1.0, "B": -1.0, "I": self.weight_share - 1.0, "W": -self.weight_share}
        return size * share[kind]
