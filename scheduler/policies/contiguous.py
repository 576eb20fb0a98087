"""The balanced cut of the topological order: device 0 takes a first piece, device 1 the next, ...

Exact for the seconds of compute on the most loaded device; pinned units count where they are
pinned.
"""

from __future__ import annotations

import numpy as np

from scheduler.cluster import Cluster
from scheduler.errors import ScheduleError
from scheduler.graph import Array, TaskGraph
from scheduler.text import nbytes
from scheduler.units import Units, condense, largest


def contiguous(graph: TaskGraph, cluster: Cluster) -> Array:
    """Device position of each task, int64[N]. O(N D + D log N), no transfers considered."""
    units = condense(graph, cluster)
    fixed = np.isfinite(units.seconds).sum(axis=1) == 1
    home = np.where(fixed, np.isfinite(units.seconds).argmax(axis=1), -1)
    free = np.flatnonzero(~fixed)
    pieces = _Pieces(units, cluster, home, free)
    ends = pieces.best()
    if ends is None:
        raise _no_room(graph, cluster, units)
    home[free] = np.searchsorted(ends, np.arange(free.size), side="right")
    return home[units.of]


class _Pieces:
    """Prefix sums over the free units, and the greedy walk that fills device after device."""

    def __init__(self, units: Units, cluster: Cluster, home: Array, free: Array) -> None:
        k = len(cluster.devices)
        fixed = np.flatnonzero(home >= 0)
        seconds = units.seconds[fixed, home[fixed]]
        self.base_s = np.bincount(home[fixed], weights=seconds, minlength=k)
        memory = np.bincount(home[fixed], weights=units.memory[fixed], minlength=k)
        self.room = cluster.capacity - memory
        finite = np.isfinite(units.seconds[free])
        self.upto_s = _prefix(np.where(finite, units.seconds[free], 0.0))
        self.upto_memory = _prefix(units.memory[free][:, None])[:, 0]
        self.barriers = [np.flatnonzero(~finite[:, d]) for d in range(k)]
        self.n = int(free.size)

    def fill(self, limit_s: float) -> list[int] | None:
        """End of each device's piece when no device works longer than `limit_s`; None if too short.

        Taking as much as possible is never worse: a piece's subpieces are feasible too.
        """
        at, ends = 0, []
        for device, barrier in enumerate(self.barriers):
            column = self.upto_s[:, device]
            left = max(limit_s - self.base_s[device], 0.0)
            end = int(np.searchsorted(column, column[at] + left, side="right")) - 1
            most = self.upto_memory[at] + self.room[device]
            end = min(end, int(np.searchsorted(self.upto_memory, most, side="right")) - 1)
            stop = int(np.searchsorted(barrier, at))
            end = min(end, int(barrier[stop])) if stop < barrier.size else end
            at = max(at, end)
            ends.append(at)
        return ends if at == self.n else None

    def best(self) -> list[int] | None:
        """The ends with the smallest limit, by bisection down to the last bits of a float."""
        high = float(self.base_s.max() + self.upto_s[-1].max()) * (1 + 1e-12)
        low, ends = float(self.base_s.max()), self.fill(high)
        for _ in range(64):
            middle = (low + high) / 2
            found = self.fill(middle) if ends is not None else None
            if found is None:
                low = middle
            else:
                high, ends = middle, found
        return ends


def _prefix(rows: Array) -> Array:
    return np.concatenate([np.zeros((1, rows.shape[1])), np.cumsum(rows, axis=0)])


def _no_room(graph: TaskGraph, cluster: Cluster, units: Units) -> ScheduleError:
    have = ", ".join(f"{d.name} {nbytes(d.memory)}" for d in cluster.devices)
    everything = list(range(len(graph)))
    return ScheduleError(
        f"no contiguous cut fits: the tasks keep {nbytes(float(units.memory.sum()))}, "
        f"the devices have {have}. Largest kept: {largest(graph, everything)}"
    )
