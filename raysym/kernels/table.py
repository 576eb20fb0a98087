"""Flags of a table's rows: which kernels threads share, and before which rows they meet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from raysym.kernels.steps import Buffer, Native
from raysym.kernels.team_code import MEETS, SHARED_ROW


class _Touch(NamedTuple):
    """Memory that a row reads or writes, and whether the row is shared."""

    start: int
    end: int
    writes: bool
    shared: bool

    def disturbs(self, other: _Touch) -> bool:
        """True when two threads may want it at once, and one of them writes."""
        is_apart = self.end <= other.start or other.end <= self.start
        return not is_apart and (self.writes or other.writes) and (self.shared or other.shared)


def flags_of(steps: Sequence[Native], address: Callable[[Buffer], int]) -> list[int]:
    """One number for each row; 0 everywhere if one thread does it all."""
    if all(step.spec.parts == 1 for step in steps):
        return [0] * len(steps)
    flags: list[int] = []
    touched: list[_Touch] = []  # since the last meeting
    for step in steps:
        now = _touches(step, address)
        meets = any(one.disturbs(other) for one in now for other in touched)
        touched = now if meets else [*touched, *now]
        flags.append(SHARED_ROW * (step.spec.parts > 1) + MEETS * meets)
    return flags


def _touches(step: Native, address: Callable[[Buffer], int]) -> list[_Touch]:
    found = []
    for i, arg in enumerate(step.args):
        if isinstance(arg, Buffer):
            start = address(arg)
            end = start + max(1, arg.nbytes)
            found.append(_Touch(start, end, i >= step.n_reads, step.spec.parts > 1))
    return found
