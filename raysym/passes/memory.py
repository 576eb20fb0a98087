"""Memory planning: buffers that never live at the same time share a place in one arena.

Time is counted in steps of a worker's programs, all phases one behind the other. Large buffers are
placed first (Pisarchyk and Lee 2020, greedy by size).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

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
    placed = _Placed(len(buffers))
    for i in sorted(range(len(buffers)), key=lambda i: (-buffers[i].nbytes, buffers[i].first, i)):
        offsets[i] = placed.add(buffers[i])
    return Arena(tuple(offsets), placed.nbytes)


class _Placed:
    """What has its place, from the lowest up: first and last step, start and end in bytes."""

    def __init__(self, most: int) -> None:
        self._all = np.zeros((4, most), np.int64)
        self._n = self.nbytes = 0

    def add(self, buffer: Lifetime) -> int:
        """The lowest place that is free in the buffer's time, now taken."""
        size = aligned(buffer.nbytes)
        first, last, starts, ends = self._all[:, : self._n]
        meet = np.flatnonzero((first <= buffer.last) & (last >= buffer.first))
        start = _lowest_gap(starts[meet], ends[meet], size)
        self._insert((buffer.first, buffer.last, start, start + size))
        self.nbytes = max(self.nbytes, start + size)
        return start

    def _insert(self, row: tuple[int, int, int, int]) -> None:
        at = int(np.searchsorted(self._all[2, : self._n], row[2]))
        self._all[:, at + 1 : self._n + 1] = self._all[:, at : self._n].copy()
        self._all[:, at] = row
        self._n += 1


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


def _lowest_gap(starts: Any, ends: Any, size: int) -> int:
    """The end of taken memory behind which `size` bytes are free; `starts` ascend."""
    taken = np.maximum.accumulate(np.concatenate([[0], ends]))
    wide = np.flatnonzero(starts - taken[:-1] >= size)
    return int(taken[wide[0] if wide.size else -1])
