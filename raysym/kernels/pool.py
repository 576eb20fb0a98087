"""Pooling over windows of channels-last images, forward and backward.

Windows are clipped to the data, so padding is never read. A maximum's gradient goes to the first
maximum of its window in row-major order, found again from the data.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from raysym.kernels.emit import Emit, Index, Value
from raysym.kernels.moving import fill
from raysym.kernels.shared import meet, shared_nest
from raysym.kernels.specs import shared_maker
from raysym.kernels.vector_ops import larger


class Pools(NamedTuple):
    """Images ``(n, h, w, c)``, results ``(n, rows, columns, c)``, window, stride and padding."""

    n: int
    h: int
    w: int
    c: int
    rows: int
    columns: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    pad: tuple[int, int]

    def is_exact(self) -> bool:
        """True when windows tile the data: every cell belongs to exactly one."""
        covered = (self.rows * self.kernel[0], self.columns * self.kernel[1])
        return self.kernel == self.stride and self.pad == (0, 0) and covered == (self.h, self.w)


class _Walk(NamedTuple):
    """One window during the walk: its result's offset and the taps inside the data."""

    image: Index
    target: Index
    low: tuple[Index, Index]
    high: tuple[Index, Index]


def _each_window(e: Emit, g: Pools, body: Callable[[_Walk], None], adds: bool = False) -> None:
    """All windows; if `body` adds to the data, those of an image are one thread's work."""

    def window(i: Index, r: Index, q: Index) -> None:
        place = e.plus(e.times(i, g.rows * g.columns), e.times(r, g.columns), q)
        ends = [_span(e, g, axis, at) for axis, at in enumerate((r, q))]
        low, high = (ends[0][0], ends[1][0]), (ends[0][1], ends[1][1])
        body(_Walk(e.times(i, g.h * g.w * g.c), e.times(place, g.c), low, high))

    if adds:
        shared_nest(e, (g.n,), lambda i: e.nest((g.rows, g.columns), lambda r, q: window(i, r, q)))
    else:
        shared_nest(e, (g.n, g.rows, g.columns), window)


def _span(e: Emit, g: Pools, axis: int, at: Index) -> tuple[Index, Index]:
    """First cell and end of a window along one axis, clipped where that can be needed."""
    size, count = (g.h, g.w)[axis], (g.rows, g.columns)[axis]
    kernel, stride, pad = g.kernel[axis], g.stride[axis], g.pad[axis]
    low = e.plus(e.times(at, stride), -pad)
    high = e.plus(low, kernel)
    if (count - 1) * stride - pad + kernel > size:
        high = e.smaller(high, size)
    return (e.larger(low, 0) if pad else low), high


def _taps(
    e: Emit, g: Pools, walk: _Walk, body: Callable[..., Sequence[Value]], init: Sequence[Value]
) -> list[Value]:
    """``body(offset of the cell, *carried)`` for all cells of a window in row-major order."""

    def row(r: Index, *carried: Value) -> list[Value]:
        line = e.plus(walk.image, e.times(r, g.w * g.c))

        def cell(q: Index, *carried: Value) -> Sequence[Value]:
            return body(e.plus(line, e.times(q, g.c)), *carried)

        return e.loop(walk.low[1], walk.high[1], cell, carried)

    return e.loop(walk.low[0], walk.high[0], row, init)


def _maximum(e: Emit, g: Pools, walk: _Walk, x: Value, c: Index, n: int) -> Value:
    def tap(at: Index, best: Value) -> list[Value]:
        return [larger(e, e.load(x, e.plus(at, c), n), best)]

    return _taps(e, g, walk, tap, [e.number(-math.inf)])[0]


@shared_maker
def pool_max(e: Emit, fields: tuple[int, ...]) -> None:
    """Arguments: data, result."""
    g = Pools(*fields)  # type: ignore[arg-type]
    x, y = e.arg(0), e.arg(1)

    def window(walk: _Walk) -> None:
        def cells(c: Index, n: int) -> None:
            e.store(_maximum(e, g, walk, x, c, n), y, e.plus(walk.target, c), n)

        e.columns(g.c, cells)

    _each_window(e, g, window)


@shared_maker
def pool_sum(e: Emit, fields: tuple[int, ...], scale: float) -> None:
    """``scale`` times the sum of every window; arguments: data, result."""
    g = Pools(*fields)  # type: ignore[arg-type]
    x, y = e.arg(0), e.arg(1)

    def window(walk: _Walk) -> None:
        def cells(c: Index, n: int) -> None:
            def tap(at: Index, total: Value) -> list[Value]:
                return [e.b.fadd(total, e.load(x, e.plus(at, c), n))]

            total = _taps(e, g, walk, tap, [e.zero])[0]
            e.store(e.b.fmul(total, e.number(scale)), y, e.plus(walk.target, c), n)

        e.columns(g.c, cells)

    _each_window(e, g, window)


@shared_maker
def pool_max_gradient(e: Emit, fields: tuple[int, ...]) -> None:
    """Arguments: gradient of the result, data, gradient of the data."""
    g = Pools(*fields)  # type: ignore[arg-type]
    grad, x, dx = (e.arg(i) for i in range(3))
    exact = g.is_exact()
    if not exact:
        fill(e, dx, g.n * g.h * g.w * g.c)
        meet(e)

    def window(walk: _Walk) -> None:
        def cells(c: Index, n: int) -> None:
            best = _maximum(e, g, walk, x, c, n)
            head = e.load(grad, e.plus(walk.target, c), n)

            def tap(at: Index, left: Value) -> list[Value]:
                here = e.plus(at, c)
                same = e.b.fcmp_ordered("==", e.load(x, here, n), best)
                given = e.b.select(same, left, e.zero)
                added = given if exact else e.b.fadd(e.load(dx, here, n), given)
                e.store(added, dx, here, n)
                return [e.b.select(same, e.zero, left)]  # later maxima get nothing

            _taps(e, g, walk, tap, [head])

        e.columns(g.c, cells)

    _each_window(e, g, window, adds=not exact)


@shared_maker
def pool_sum_gradient(e: Emit, fields: tuple[int, ...], scale: float) -> None:
    """Arguments: gradient of the result, gradient of the data."""
    g = Pools(*fields)  # type: ignore[arg-type]
    grad, dx = e.arg(0), e.arg(1)
    exact = g.is_exact()
    if not exact:
        fill(e, dx, g.n * g.h * g.w * g.c)
        meet(e)

    def window(walk: _Walk) -> None:
        def cells(c: Index, n: int) -> None:
            head = e.b.fmul(e.load(grad, e.plus(walk.target, c), n), e.number(scale))

            def tap(at: Index) -> list[Value]:
                here = e.plus(at, c)
                e.store(head if exact else e.b.fadd(e.load(dx, here, n), head), dx, here, n)
                return []

            _taps(e, g, walk, tap, [])

        e.columns(g.c, cells)

    _each_window(e, g, window, adds=not exact)
