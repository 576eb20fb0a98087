"""Idle intervals of one device, in blocks that know their widest gap: a search skips most of
them."""

from __future__ import annotations

from bisect import bisect_right

_BLOCK = 48


class Gaps:
    """Disjoint gaps in order of time. Blocks of up to twice _BLOCK gaps; none is empty."""

    def __init__(self) -> None:
        self.starts: list[list[float]] = []
        self.ends: list[list[float]] = []
        self.lasts: list[float] = []
        self.widest: list[float] = []

    def first_fit(self, ready: float, cost: float, limit: float) -> float:
        """The earliest start inside one gap, from `ready` on, that finishes before `limit`; else
        -1."""
        first = bisect_right(self.lasts, ready)
        latest = limit - cost
        for block in range(first, len(self.lasts)):
            starts = self.starts[block]
            if starts[0] >= latest:
                break
            # a width is a difference and may be one rounding short of what the sums below accept
            if self.widest[block] >= cost * (1 - 1e-12):
                ends = self.ends[block]
                low = bisect_right(ends, ready) if block == first else 0
                for at in range(low, len(ends)):
                    start = starts[at] if starts[at] > ready else ready
                    if start + cost <= ends[at]:
                        return start if start + cost < limit else -1.0
        return -1.0

    def append(self, start: float, end: float) -> None:
        """Add a gap behind all others."""
        if self.lasts and len(self.starts[-1]) < _BLOCK:
            self.starts[-1].append(start)
            self.ends[-1].append(end)
            self.lasts[-1] = end
            self.widest[-1] = max(self.widest[-1], end - start)
            return
        self.starts.append([start])
        self.ends.append([end])
        self.lasts.append(end)
        self.widest.append(end - start)

    def fill(self, start: float, finish: float) -> None:
        """Take [start, finish] out of the gap that holds it."""
        block = bisect_right(self.lasts, start)
        starts, ends = self.starts[block], self.ends[block]
        at = bisect_right(ends, start)
        first, last = starts[at], ends[at]
        pieces = [(a, b) for a, b in ((first, start), (finish, last)) if b > a]
        starts[at : at + 1] = [a for a, _ in pieces]
        ends[at : at + 1] = [b for _, b in pieces]
        self._refresh(block, last - first)

    def _refresh(self, block: int, gone: float) -> None:
        starts, ends = self.starts[block], self.ends[block]
        if not starts:
            for column in (self.starts, self.ends, self.lasts, self.widest):
                del column[block]
            return
        self.lasts[block] = ends[-1]
        if len(starts) > 2 * _BLOCK:
            self._halve(block)
        elif gone >= self.widest[block]:
            self.widest[block] = _widest(starts, ends)

    def _halve(self, block: int) -> None:
        for column in (self.starts, self.ends):
            whole = column[block]
            column[block : block + 1] = [whole[:_BLOCK], whole[_BLOCK:]]
        halves = (block, block + 1)
        self.lasts[block : block + 1] = [self.ends[b][-1] for b in halves]
        self.widest[block : block + 1] = [_widest(self.starts[b], self.ends[b]) for b in halves]


def _widest(starts: list[float], ends: list[float]) -> float:
    return max([b - a for a, b in zip(starts, ends, strict=True)])
