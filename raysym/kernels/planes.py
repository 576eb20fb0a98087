"""Planes of pixels in tiles, and which pixels the windows of each read (see depthwise.py).

Tiles are so large that their sums stay in registers with the taps of a window.
"""

from __future__ import annotations

from typing import NamedTuple

from raysym.kernels.emit import Emit, even_parts
from raysym.kernels.geometry import Geometry, Phase, Steps

_FEW_TAPS = 9  # so many leave room for sums of two rows
_SUMS, _SUMS_OF_MANY = 14, 8


class Axis(NamedTuple):
    """Rows or columns: tap t of cell i reads ``low + i stride + t step`` of `size` cells."""

    cells: int
    size: int
    low: int
    stride: int
    step: int
    taps: int
    apart: int  # cells of what is written between two of these
    total: int  # all that are written, by other phases too

    def offsets(self, count: int) -> list[int]:
        """What the taps of `count` cells read, from the first cell's first tap on."""
        return sorted({i * self.stride + t * self.step for i in range(count)
                       for t in range(self.taps)})  # fmt: skip

    def readers(self, count: int, offset: int) -> list[tuple[int, int]]:
        """Which of `count` cells read an offset, and by which tap."""
        return [(i, t) for i in range(count) for t in range(self.taps)
                if i * self.stride + t * self.step == offset]  # fmt: skip

    def is_inside(self, cell: int, offset: int) -> bool:
        """True when an offset from a cell's first tap is part of the data."""
        return 0 <= self.low + cell * self.stride + offset < self.size


class Tile(NamedTuple):
    """Cells of equal width, from `start` to `end`, and the offsets that are part of the data."""

    start: int
    width: int
    end: int
    seen: tuple[int, ...]


class Plane(NamedTuple):
    """Images of so many channels: which cells of x each cell of y has to do with."""

    images: int
    channels: int
    rows: Axis
    columns: Axis

    @property
    def area(self) -> int:
        return self.rows.taps * self.columns.taps

    def height(self, e: Emit) -> int:
        """Rows of a tile."""
        even = self.rows.cells % 2 == 0 and self.area <= _FEW_TAPS
        return 2 if even and e.nbytes == 4 else 1

    def groups(self, e: Emit) -> int:
        """Tiles below each other."""
        return self.rows.cells // self.height(e)

    def tiles(self, e: Emit) -> list[Tile]:
        """Along the columns, equal neighbours together."""
        most = (_SUMS if self.area <= _FEW_TAPS else _SUMS_OF_MANY) // self.height(e)
        found: list[Tile] = []
        start, axis = 0, self.columns
        for width in even_parts(axis.cells, most * 4 // e.nbytes):
            seen = tuple(b for b in axis.offsets(width) if axis.is_inside(start, b))
            if found and found[-1][1::2] == (width, seen):
                found[-1] = found[-1]._replace(end=start + width)
            else:
                found.append(Tile(start, width, start + width, seen))
            start += width
        return found


def forward_plane(g: Geometry) -> Plane:
    """How results read the data."""
    rows = Axis(g.out[0], g.h, -g.pad_h, g.stride_h, g.dilate_h, g.r, 1, g.out[0])
    columns = Axis(g.out[1], g.w, -g.pad_w, g.stride_w, g.dilate_w, g.s, 1, g.out[1])
    return Plane(g.n, g.c, rows, columns)


def data_plane(g: Geometry, p: Phase) -> Plane:
    """How the data of a phase reads the gradient of the result."""

    def axis(steps: Steps, size: int, apart: int, total: int) -> Axis:
        return Axis(steps.cells, size, steps.low, 1, steps.step, len(steps.taps), apart, total)

    rows = axis(p.h, g.out[0], g.stride_h, g.h)
    return Plane(g.n, g.c, rows, axis(p.w, g.out[1], g.stride_w, g.w))
