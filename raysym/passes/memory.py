"""Memory planning: buffers that never live at the same time share a place in one arena.

Time is counted in steps of a worker's programs, all phases one behind the other. Large buffers are
placed first (Pisarchyk and Lee 2020, greedy by size).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

ALIGNMENT = 64  # bytes: a cache line, and the widest vector


class Lifetime(NamedTuple):
    """A buffer of `nbytes` that is written first at step `first` and read last at step `last`."""

    nbytes: int
    first: int
    last: int


class Arena(NamedTuple):
    """Where each buffer lies, in bytes from the start, and how large the arena is."""

    offsets: tuple[int, ...]
    nbytes: int


def plan_memory(buffers: Sequence[Lifetime]) -> Arena:
    """Places for all buffers: large ones first, each at the lowest gap that is free in its time."""
    offsets = [0] * len(buffers)
    placed: list[int] = []
    total = 0
    for i in sorted(range(len(buffers)), key=lambda i: (-buffers[i].nbytes, buffers[i].first, i)):
        size = aligned(buffers[i].nbytes)
        neighbours = [j for j in placed if _meet(buffers[i], buffers[j])]
        taken = sorted((offsets[j], offsets[j] + aligned(buffers[j].nbytes)) for j in neighbours)
        offsets[i] = _lowest_gap(taken, size)
        total = max(total, offsets[i] + size)
        placed.append(i)
    return Arena(tuple(offsets), total)


def lower_bound(buffers: Sequence[Lifetime]) -> int:
    """Bytes that live at the busiest step: no plan can do with less."""
    change: dict[int, int] = {}
    for buffer in buffers:
        size = aligned(buffer.nbytes)
        change[buffer.first] = change.get(buffer.first, 0) + size
        change[buffer.last + 1] = change.get(buffer.last + 1, 0) - size
    live = peak = 0
    for step in sorted(change):
        live += change[step]
        peak = max(peak, live)
    return peak


def aligned(nbytes: int) -> int:
    """`nbytes` rounded up to whole cache lines, at least one."""
    return max(ALIGNMENT, -(-nbytes // ALIGNMENT) * ALIGNMENT)


def _meet(a: Lifetime, b: Lifetime) -> bool:
    return a.first <= b.last and b.first <= a.last


def _lowest_gap(taken: Sequence[tuple[int, int]], size: int) -> int:
    position = 0
    for start, end in taken:
        if start - position >= size:
            break
        position = max(position, end)
    return position
