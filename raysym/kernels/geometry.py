"""A convolution in numbers: sizes, padding, and which taps each cell of the data is read by."""

from __future__ import annotations

import math
from typing import NamedTuple


class Geometry(NamedTuple):
    """Images ``(n, c, h, w)``, filters ``(f, c/groups, r, s)``, stride, padding, dilation.

    Volumes ``(n, c, d, h, w)`` have filters ``(f, c/groups, q, r, s)``.
    """

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
    d: int = 1
    q: int = 1
    stride_d: int = 1
    pad_d: int = 0
    dilate_d: int = 1

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
    def deep(self) -> int:
        """Planes of the data with its padding."""
        return self.d + 2 * self.pad_d

    @property
    def planes(self) -> int:
        """Planes of the result."""
        return (self.deep - self.dilate_d * (self.q - 1) - 1) // self.stride_d + 1

    @property
    def is_flat(self) -> bool:
        """True for images, which have one plane."""
        return (self.d, self.q, self.pad_d) == (1, 1, 0)

    @property
    def volumes(self) -> int:
        """Parts of the data whose planes pass as images do: all images together, or each volume."""
        return 1 if self.is_flat else self.n

    @property
    def is_padded(self) -> bool:
        """True when the data is copied into zeros first."""
        return bool(self.pad_d or self.pad_h or self.pad_w)

    @property
    def is_plain(self) -> bool:
        """True for images where taps touch each other and all filters see all channels."""
        return self.is_flat and (self.dilate_h, self.dilate_w, self.groups) == (1, 1, 1)

    @property
    def is_product(self) -> bool:
        """True when windows are single cells: the convolution is one matrix product."""
        strides = self.stride_d, self.stride_h, self.stride_w
        single = self.area == 1 and not self.is_padded
        return single and (*strides, self.groups) == (1, 1, 1, 1)

    @property
    def area(self) -> int:
        """Taps of a filter."""
        return self.q * self.r * self.s

    @property
    def cells(self) -> int:
        """Cells of the data, of all images."""
        return self.n * self.d * self.h * self.w

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
        return self.n * self.deep * high * wide * self.c if self.is_padded else 0


# ----- the data gradient


class Steps(NamedTuple):
    """Along one axis, cells of the data with one remainder by the stride and what they read."""

    taps: tuple[int, ...]
    step: int  # cells of the gradient between two taps
    first: int  # the first cell
    cells: int
    low: int  # cell of the gradient that the first cell's first tap reads


class Phase(NamedTuple):
    """Steps of planes, rows and columns."""

    d: Steps
    h: Steps
    w: Steps

    @property
    def is_live(self) -> bool:
        """True when there are cells, and taps that read them."""
        return all(steps.taps and steps.cells for steps in self)


def phases_of(g: Geometry) -> list[Phase]:
    """All phases, those without taps as well."""
    planes = [_steps(g.d, g.q, g.stride_d, g.pad_d, g.dilate_d, a) for a in range(g.stride_d)]
    rows = [_steps(g.h, g.r, g.stride_h, g.pad_h, g.dilate_h, a) for a in range(g.stride_h)]
    columns = [_steps(g.w, g.s, g.stride_w, g.pad_w, g.dilate_w, a) for a in range(g.stride_w)]
    return [Phase(a, b, c) for a in planes for b in rows for c in columns]


def _steps(size: int, kernel: int, stride: int, pad: int, dilate: int, rest: int) -> Steps:
    taps = tuple(t for t in range(kernel) if dilate * t % stride == rest)[::-1]
    first = (rest - pad) % stride
    low = (first + pad - dilate * taps[0]) // stride if taps else 0
    return Steps(taps, dilate // math.gcd(dilate, stride), first,
                 len(range(first, size, stride)), low)  # fmt: skip


class Margins(NamedTuple):
    """Planes, rows and columns of zeros before the gradient, and all of them.

    With so many, every phase reads inside.
    """

    before: tuple[int, int, int]
    size: tuple[int, int, int]


def margins_of(g: Geometry) -> Margins:
    """The margins that all phases need together."""
    live = [p for p in phases_of(g) if p.is_live]
    sides = (g.planes, *g.out)
    d, h, w = (_margin([p[axis] for p in live], side) for axis, side in enumerate(sides))
    return Margins((d[0], h[0], w[0]), (d[1], h[1], w[1]))


def _margin(steps: list[Steps], out: int) -> tuple[int, int]:
    before = max([0, *(-s.low for s in steps)])
    ends = [s.low + s.cells + (len(s.taps) - 1) * s.step for s in steps]
    return before, before + max([out, *ends])
