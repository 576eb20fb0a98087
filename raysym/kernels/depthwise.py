"""Convolution with one filter for each channel: sums over taps of vectors of channels.

There is nothing to share between channels, so the taps of 16 channels stay in registers while a
row of pixels passes.
"""

from __future__ import annotations

from raysym.kernels.conv import (
    data_space,
    data_windows,
    first_cell,
    padded,
    padded_gradient,
    result_space,
    taps_of,
    windows_of,
)
from raysym.kernels.emit import Emit, Index, Value
from raysym.kernels.geometry import Geometry, margins_of, phases_of
from raysym.kernels.moving import fill, write_transpose
from raysym.kernels.shared import meet, shared_columns, shared_nest
from raysym.kernels.specs import shared_maker
from raysym.kernels.window import Windows

_TAPS = 25  # more would not stay in registers


def has_channels(g: Geometry) -> bool:
    """True for filters of single channels that are small enough."""
    return g.is_flat and g.groups == g.c == g.f > 1 and g.area <= _TAPS


def depthwise_space(g: Geometry) -> int:
    """Workspace in floats: data or gradient with zeros around, and taps with channels last."""
    return max(result_space(g), data_space(g)) + g.area * g.c


@shared_maker
def depthwise_forward(e: Emit, fields: tuple[int, ...], has_bias: bool) -> None:
    """Arguments: data, weight, [bias,] result, workspace."""
    g = Geometry(*fields)
    space, bias = e.arg(3 + has_bias), e.arg(2) if has_bias else None
    taps = _turned_taps(e, g, e.arg(1), space)
    x = padded(e, g, e.arg(0), e.at(space, g.area * g.c))
    numbers = list(range(g.area))
    meet(e)
    _slide(e, windows_of(g), g.c, x, taps, numbers, e.arg(2 + has_bias), bias)


@shared_maker
def depthwise_data(e: Emit, fields: tuple[int, ...]) -> None:
    """Arguments: gradient of the result, weight, gradient of the data, workspace."""
    g = Geometry(*fields)
    dx, space, margins, phases = e.arg(2), e.arg(3), margins_of(g), phases_of(g)
    taps = _turned_taps(e, g, e.arg(1), space)
    grad = padded_gradient(e, g, margins, e.arg(0), e.at(space, g.area * g.c))
    if not all(p.is_live for p in phases):
        fill(e, dx, g.cells * g.c)
    meet(e)
    for p in phases:
        if p.is_live:
            place = e.at(dx, first_cell(g, p) * g.c)
            windows = data_windows(g, margins, p)
            _slide(e, windows, g.c, grad, taps, taps_of(g, p), place, None)


def _turned_taps(e: Emit, g: Geometry, weight: Value, space: Value) -> Value:
    """Weight ``(C, R S)`` as ``(R S, C)``, in the workspace."""
    write_transpose(e, weight, g.area, space, g.c, g.c, g.area)
    return space


def _slide(
    e: Emit, w: Windows, channels: int, x: Value, taps: Value, numbers: list[int], y: Value,
    bias: Value | None,
) -> None:  # fmt: skip
    """``y[pixel, c] = sum of x[pixel + run, c] taps[number of the run, c] (+ bias)``."""
    images, rows, columns = w.pixels

    def row(i: Index, r: Index) -> None:
        source = e.at(x, e.times(i, w.x_steps[0]), e.times(r, w.x_steps[1]))
        target = e.at(y, e.times(i, w.y_steps[0]), e.times(r, w.y_steps[1]))

        def some(c: Index, n: int) -> None:
            factors = [e.load(taps, e.plus(c, t * channels), n) for t in numbers]
            start = e.zero if bias is None else e.load(bias, c, n)

            def pixel(q: Index) -> None:
                total = start
                for value, factor in zip(_cells(e, w, source, q, c, n), factors, strict=True):
                    total = e.fma(value, factor, total)
                e.store(total, target, e.plus(e.times(q, w.y_steps[2]), c), n)

            e.nest((columns,), pixel)

        e.columns(channels, some)

    shared_nest(e, (images, rows), row)


def _cells(e: Emit, w: Windows, row: Value, q: Index, c: Index, lanes: int) -> list[Value]:
    """The cells of the q-th window of a row, run after run."""
    corner = e.at(row, e.times(q, w.x_steps[2]), c)
    return [e.load(corner, w.start + w.offset(e, run), lanes) for run in range(w.runs)]


@shared_maker
def depthwise_weight(e: Emit, fields: tuple[int, ...]) -> None:
    """Arguments: gradient of the result, data, gradient of the weight, workspace."""
    g = Geometry(*fields)
    grad, space, area, w = e.arg(0), e.arg(3), g.area, windows_of(g)
    x = padded(e, g, e.arg(1), e.at(space, area * g.c))
    images, rows, columns = w.pixels
    meet(e)

    def some(c: Index, n: int) -> None:
        def row(i: Index, r: Index, *kept: Value) -> list[Value]:
            source = e.at(x, e.times(i, w.x_steps[0]), e.times(r, w.x_steps[1]))
            line = e.at(grad, e.times(i, w.y_steps[0]), e.times(r, w.y_steps[1]), c)

            def pixel(q: Index, *kept: Value) -> list[Value]:
                head = e.load(line, e.times(q, w.y_steps[2]), n)
                cells = _cells(e, w, source, q, c, n)
                return [e.fma(v, head, s) for v, s in zip(cells, kept, strict=True)]

            return e.loop(0, columns, pixel, kept)

        def image(i: Index, *kept: Value) -> list[Value]:
            return e.loop(0, rows, lambda r, *kept: row(i, r, *kept), kept)

        for t, total in enumerate(e.loop(0, images, image, [e.zero] * area)):
            e.store(total, space, e.plus(c, t * g.c), n)

    shared_columns(e, g.c, some)
    meet(e)
    write_transpose(e, space, g.c, e.arg(2), area, area, g.c)
