"""A convolution in numbers: sizes, padding, and which taps each cell of the data is read by."""

from __future__ import annotations

import math
from typing import NamedTuple


class Geometry(NamedTuple):
    """Images ``(n, c, h, w)``, filters ``(f, c/groups, r, s)``, stride, padding, dilation."""

    n: int
    c: int
    h: int
    w: int
    f: int
    r: int
    s: int
    stride_h: int = 1
    stride_w: int = 1
    pad_h: int = 0
    pad_w: int = 0
    dilate_h: int = 1
    dilate_w: int = 1
    groups: int = 1

    @property
    def out(self) -> tuple[int, int]:
        """Rows and columns of the result."""
        high, wide = self.padded
        rows = (high - self.dilate_h * (self.r - 1) - 1) // self.stride_h + 1
        return rows, (wide - self.dilate_w * (self.s - 1) - 1) // self.stride_w + 1

    @property
    def padded(self) -> tuple[int, int]:
        """Rows and columns of the data with its padding."""
        return self.h + 2 * self.pad_h, self.w + 2 * self.pad_w

    @property
    def is_padded(self) -> bool:
        """True when the data is copied into zeros first."""
        return bool(self.pad_h or self.pad_w)

    @property
    def is_plain(self) -> bool:
        """True when taps touch each other and all filters see all channels."""
        return (self.dilate_h, self.dilate_w, self.groups) == (1, 1, 1)

    @property
    def is_product(self) -> bool:
        """True when windows are single cells: the convolution is one matrix product."""
        strides = self.stride_h, self.stride_w
        return self.is_plain and (self.r, self.s, *strides, *self.pad) == (1, 1, 1, 1, 0, 0)

    @property
    def pad(self) -> tuple[int, int]:
        """Zeros before rows and columns, and behind."""
        return self.pad_h, self.pad_w

    @property
    def part(self) -> tuple[int, int]:
        """Channels and filters of a group."""
        return self.c // self.groups, self.f // self.groups

    def padded_floats(self) -> int:
        """Floats of the padded data, 0 if there is no padding."""
        high, wide = self.padded
        return self.n * high * wide * self.c if self.is_padded else 0


# ----- the data gradient


class Steps(NamedTuple):
    """Along one axis, cells of the data with one remainder by the stride and what they read."""

    taps: tuple[int, ...]
    step: int  # cells of the gradient between two taps
    first: int  # the first cell
    cells: int
    low: int  # cell of the gradient that the first cell's first tap reads


class Phase(NamedTuple):
    """Steps of rows and columns."""

    h: Steps
    w: Steps

    @property
    def is_live(self) -> bool:
        """True when there are cells, and taps that read them."""
        return all(steps.taps and steps.cells for steps in self)


def phases_of(g: Geometry) -> list[Phase]:
    """All phases, those without taps as well."""
    rows = [_steps(g.h, g.r, g.stride_h, g.pad_h, g.dilate_h, a) for a in range(g.stride_h)]
    columns = [_steps(g.w, g.s, g.stride_w, g.pad_w, g.dilate_w, a) for a in range(g.stride_w)]
    return [Phase(a, b) for a in rows for b in columns]


def _steps(size: int, kernel: int, stride: int, pad: int, dilate: int, rest: int) -> Steps:
    taps = tuple(t for t in range(kernel) if dilate * t % stride == rest)[::-1]
    first = (rest - pad) % stride
    low = (first + pad - dilate * taps[0]) // stride if taps else 0
    return Steps(taps, dilate // math.gcd(dilate, stride), first,
                 len(range(first, size, stride)), low)  # fmt: skip


class Margins(NamedTuple):
    """Zeros around the gradient so that every phase reads inside."""

    before: tuple[int, int]
    size: tuple[int, int]


def margins_of(g: Geometry) -> Margins:
    """The margins that all phases need together."""
    live = [p for p in phases_of(g) if p.is_live]
    rows, columns = (_margin([p[axis] for p in live], g.out[axis]) for axis in (0, 1))
    return Margins((rows[0], columns[0]), (rows[1], columns[1]))


def _margin(steps: list[Steps], out: int) -> tuple[int, int]:
    before = max([0, *(-s.low for s in steps)])
    ends = [s.low + s.cells + (len(s.taps) - 1) * s.step for s in steps]
    return before, before + max([out, *ends])
