"""Large results of elementwise loops are written past the caches.

A cache reads a line of memory before a part of it is written: results that nobody reads before the
caches have lost them are moved twice. On a core of a Xeon with 2 MB of its own this made a copy of
64 MB take twice as long and a sum of two arrays half as long again, but what is not above 16 MB the
next kernel finds in the caches. In place of an operand, whose lines are there, caches are better.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from raysym.kernels.steps import Buffer, Native, Step, read_buffers, written_buffers

LARGE = 1 << 25  # bytes of a result


def streamed(steps: Sequence[Step]) -> list[Step]:
    """The steps, with kernels that write large results past the caches; buffers must be shared."""
    return [_streamed(step) if isinstance(step, Native) else step for step in steps]


def _streamed(step: Native) -> Native:
    made = written_buffers(step)
    if step.spec.maker != "flat_map" or len(made) != 1 or made[0].nbytes < LARGE:
        return step
    if _memory(made[0]) in map(_memory, read_buffers(step)):
        return step
    return replace(step, spec=step.spec._replace(maker="stream_map"))


def _memory(buffer: Buffer) -> Buffer | str:
    return buffer.home or buffer.owner()
