"""Large messages are read where they arrived: kernels get the address of the message itself.

The buffer of such a message keeps its place in the arena for what cannot be read in place. The
array is held until the last kernel that reads it has run, and no longer: it may be a slot of a
ring that the sender waits for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from raysym.kernels.steps import (
    Buffer,
    Incoming,
    Native,
    Step,
    buffers_of,
    read_buffers,
    written_buffers,
)

LEAST_NBYTES = 32 * 1024  # less is copied faster than addresses are changed and changed back


class Loan:
    """One buffer whose content is a message's: the arguments of kernels that point to it."""

    def __init__(self, address: int) -> None:
        self._home, self._now = address, address
        self._arguments: list[tuple[Any, int]] = []
        self._array: Any = None

    def add(self, pointers: Any, i: int) -> None:
        """Argument `i` of a call reads the buffer."""
        self._arguments.append((pointers, i))

    def take(self, array: Any, target: Any) -> None:
        """Let kernels read the array; from the buffer, `target`, if it cannot be read as it is."""
        if array.flags.c_contiguous and array.flags.aligned and array.dtype == target.dtype:
            self._array = array
            self._point(int(array.ctypes.data))
        else:
            target[...] = array
            self._point(self._home)

    def end(self, key: Any) -> bool:
        """The last reader has run; an action of a linked program."""
        self._array = None
        return True

    def _point(self, address: int) -> None:
        if address != self._now:
            self._now = address
            for pointers, i in self._arguments:
                pointers[i] = address


def lendable(steps: Sequence[Step]) -> set[Buffer]:
    """Buffers of messages that nothing but kernels of the same phase reads.

    Not those whose memory another value takes over: its kernel may rely on what is there.
    """
    found = {step.place.buffer for step in steps if isinstance(step, Incoming) and _is_large(step)}
    for step in steps:
        if not isinstance(step, Native):
            found.difference_update(read_buffers(step))
        if not isinstance(step, Incoming):
            found.difference_update(written_buffers(step))
    return found - {b.shares for step in steps for b in buffers_of(step) if b.shares is not None}


def _is_large(step: Incoming) -> bool:
    buffer = step.place.buffer
    return buffer.nbytes > LEAST_NBYTES and not buffer.home and not buffer.crosses


def lend(step: Native, pointers: Any, loans: Mapping[Buffer, Loan]) -> None:
    """Note which arguments of a call read messages."""
    for i, arg in enumerate(step.args[: step.n_reads]):
        if isinstance(arg, Buffer) and arg in loans:
            loans[arg].add(pointers, i)


def copied(array: Any, target: Any) -> None:
    """What is done with any other message."""
    target[...] = array
