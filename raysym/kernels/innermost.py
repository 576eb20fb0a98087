"""Traced pages on images whose channels, axis 1, lie innermost: how their stages go along them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from raysym.kernels.expressions import IOTA, READS, Stage, leaves_of
from raysym.kernels.lazy import Lazy
from raysym.types import Shape


def runs_along(lazy: Lazy) -> bool:
    """True when neighbours on axis 1 of what an expression reads are neighbours in memory."""
    return any(_steps_by_one(lazy.shape, leaf.strides) for leaf in leaves_of(lazy.node))


def is_made_along(stages: Iterable[Stage], buffer: int) -> bool:
    """True when some stage that writes to the buffer reads numbers so."""
    writers = [s for s in stages if any(target.buffer == buffer for target in s.targets)]
    return any(_steps_by_one(s.shape, line[4]) for s in writers for line in _reads(s))


def _steps_by_one(shape: Shape, strides: Sequence[int]) -> bool:
    return len(shape) > 1 and shape[1] > 1 and strides[1] == 1


def _reads(stage: Stage) -> list[tuple[Any, ...]]:
    return [line for line in stage.program if line[0] in READS and line[2] != IOTA]


def in_memory_order(stage: Stage) -> Stage:
    """The same stage with axes as the numbers lie: outside those of the longest steps.

    A store walks as it writes, a fold as it reads; what else there is has no axes.
    """
    if not stage.program or not stage.targets[0].strides:
        return stage
    steps = [line[4] for line in _reads(stage)] if stage.fold else [stage.targets[0].strides]
    rank = len(stage.shape)
    longest = [max((abs(s[axis]) for s in steps), default=0) for axis in range(rank)]
    order = sorted(range(rank), key=lambda axis: -longest[axis])

    def turned(given: Sequence[int]) -> tuple[int, ...]:
        return tuple(given[axis] for axis in order)

    program = tuple(
        (*line[:4], turned(line[4]), *line[5:]) if line[0] in READS else line
        for line in stage.program
    )
    targets = tuple(t._replace(strides=turned(t.strides)) for t in stage.targets)
    return Stage(turned(stage.shape), stage.fold, targets, program)
