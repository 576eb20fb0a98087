"""Task and TaskGraph: a weighted DAG that has never heard of ops, arrays or machines."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np

from .errors import ScheduleError

Array = np.ndarray[Any, Any]


class Part(NamedTuple):
    """One kernel call of a task: its kernel class, operations and bytes touched."""

    kind: str
    flops: float
    nbytes: float


@dataclass(frozen=True, slots=True)
class Task:
    """One unit of work. `flops` and `nbytes` (bytes touched) set its time, `memory` is kept
    (bytes).

    `kind` is its kernel class, a key of `Device.rates`. A task of several kernel calls (a node with
    its gradients) lists them as `parts`: its time is the sum of theirs, and `flops`, `nbytes` and
    `kind` are for readers only. `pin` is a device name; `forbidden` lists device names or kinds;
    `together` is the id of another task, or any group key: tasks that share it share a device.
    """

    id: str
    flops: float = 0.0
    nbytes: float = 0.0
    memory: float = 0.0
    pin: str | None = None
    together: str | None = None
    forbidden: tuple[str, ...] = ()
    kind: str = ""
    parts: tuple[Part, ...] = ()

    @property
    def calls(self) -> tuple[Part, ...]:
        """The kernel calls that its time is made of."""
        return self.parts or (Part(self.kind, self.flops, self.nbytes),)


class Calls(NamedTuple):
    """All kernel calls of a graph, one row each: task, class (index into `kinds`), work."""

    task: Array
    kind: Array
    flops: Array
    nbytes: Array
    kinds: tuple[str, ...]


@dataclass(frozen=True)
class TaskGraph:
    """Tasks in topological order and edges (source id, target id, bytes).

    All edges out of a task carry the same value: it is moved once to each device that needs it, and
    the largest edge to that device counts. Raises ScheduleError for a repeated id, an unknown end
    of an edge, or an edge that runs against the order.
    """

    tasks: tuple[Task, ...]
    edges: tuple[tuple[str, str, float], ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "tasks", tuple(self.tasks))
        object.__setattr__(self, "edges", tuple(self.edges))
        if len(self.index) != len(self.tasks):
            raise ScheduleError(f"task '{_first_repeated(self.tasks)}' stands twice in the graph")
        backward = np.flatnonzero(self.src >= self.dst)
        if backward.size:
            a, b, _ = self.edges[int(backward[0])]
            raise ScheduleError(f"edge {a} -> {b} runs against the order of the tasks")

    def __len__(self) -> int:
        return len(self.tasks)

    @cached_property
    def index(self) -> dict[str, int]:
        """Position of each task by id."""
        return {task.id: i for i, task in enumerate(self.tasks)}

    @cached_property
    def src(self) -> Array:
        """Source position of each edge, int64[E]."""
        return self._ends(0)

    @cached_property
    def dst(self) -> Array:
        """Target position of each edge, int64[E]."""
        return self._ends(1)

    @cached_property
    def nbytes(self) -> Array:
        """Bytes of each edge, float64[E]."""
        return np.array([edge[2] for edge in self.edges], dtype=np.float64)

    @cached_property
    def memory(self) -> Array:
        """Bytes kept by each task, float64[N]."""
        return np.array([task.memory for task in self.tasks], dtype=np.float64)

    @cached_property
    def flops(self) -> Array:
        """Floating-point operations of each task, float64[N]."""
        return np.array([task.flops for task in self.tasks], dtype=np.float64)

    @cached_property
    def touched_nbytes(self) -> Array:
        """Bytes touched by each task, float64[N]."""
        return np.array([task.nbytes for task in self.tasks], dtype=np.float64)

    @cached_property
    def calls(self) -> Calls | None:
        """Every kernel call; None while each task is one call of no class (`flops` say it all)."""
        if not any(task.parts or task.kind for task in self.tasks):
            return None
        rows = [(i, *part) for i, task in enumerate(self.tasks) for part in task.calls]
        numbers = {kind: k for k, kind in enumerate(dict.fromkeys(row[1] for row in rows))}
        return Calls(
            task=np.array([row[0] for row in rows]),
            kind=np.array([numbers[row[1]] for row in rows]),
            flops=np.array([row[2] for row in rows], dtype=np.float64),
            nbytes=np.array([row[3] for row in rows], dtype=np.float64),
            kinds=tuple(numbers),
        )

    @cached_property
    def least_nbytes(self) -> Array:
        """Bytes on the smallest edge out of each task, float64[N]; 0 where nobody reads it."""
        least = np.full(len(self.tasks), np.inf)
        np.minimum.at(least, self.src, self.nbytes)
        return np.where(np.isfinite(least), least, 0.0)

    @cached_property
    def preds(self) -> list[list[int]]:
        """Positions that each task reads, without repeats."""
        return _neighbours(len(self.tasks), self.dst, self.src)

    @cached_property
    def succs(self) -> list[list[int]]:
        """Positions that read each task, without repeats."""
        return _neighbours(len(self.tasks), self.src, self.dst)

    @cached_property
    def units(self) -> Array:
        """Group number of each task, int64[N]: tasks of one `together` group share a number.

        Numbers follow the first member's position, so they are 0, 1, 2, ... in order.
        """
        ties = list(self._ties())
        if not ties:
            return np.arange(len(self.tasks))
        parent = list(range(len(self.tasks)))
        for i, other in ties:
            a, b = sorted((_root(parent, i), _root(parent, other)))
            parent[b] = a
        roots = [_root(parent, i) for i in range(len(parent))]
        return np.unique(np.array(roots, dtype=np.int64), return_inverse=True)[1].reshape(-1)

    def _ties(self) -> Iterator[tuple[int, int]]:
        leaders: dict[str, int] = {}
        for i, task in enumerate(self.tasks):
            if task.together is not None:
                yield i, leaders.setdefault(task.together, self.index.get(task.together, i))

    def _ends(self, side: Literal[0, 1]) -> Array:
        try:
            ends = [self.index[edge[side]] for edge in self.edges]
        except KeyError as error:
            raise ScheduleError(f"an edge names task {error}, which is not in the graph") from None
        return np.array(ends, dtype=np.int64)


def _first_repeated(tasks: tuple[Task, ...]) -> str:
    seen: set[str] = set()
    return next(t.id for t in tasks if t.id in seen or seen.add(t.id))  # type: ignore[func-returns-value]


def _root(parent: list[int], i: int) -> int:
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = parent[i]
    return i


def _neighbours(n: int, at: Array, other: Array) -> list[list[int]]:
    lists: list[list[int]] = [[] for _ in range(n)]
    if at.size:
        pairs = np.unique(at * n + other)
        for a, b in zip((pairs // n).tolist(), (pairs % n).tolist(), strict=True):
            lists[a].append(b)
    return lists
