"""Convolution and its two gradients on channels-last images, from one micro-kernel.

Weights come and go as users see them, ``(F, C/groups, R, S)``, and are packed on the way, group
after group. The data gradient of a strided convolution is computed phase by phase: cells of the
data whose position has one remainder by the stride see the same taps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from raysym.kernels.emit import LANES, Emit, Index, Value
from raysym.kernels.epilogue import ALONE, Results, Tail
from raysym.kernels.geometry import Geometry, Margins, Phase, margins_of, phases_of
from raysym.kernels.moving import PANEL, each_panel, fill, pad_volumes
from raysym.kernels.shared import meet
from raysym.kernels.specs import shared_maker
from raysym.kernels.window import Windows, window_correlation, window_product


def windows_of(g: Geometry) -> Windows:
    """How the results of a group walk over the padded data."""
    high, wide = g.padded
    rows, columns = g.out
    x = (high * wide * g.c, g.stride_h * wide * g.c, g.stride_w * g.c)
    y = (rows * columns * g.f, columns * g.f, g.f)
    images, plane_step = g.n, 0
    if not g.is_flat:
        images, plane_step = g.planes, g.dilate_d * high * wide * g.c
        x = (g.stride_d * high * wide * g.c, *x[1:])
    channels, filters = g.part
    steps = (g.dilate_h * wide * g.c, g.dilate_w * g.c)
    taps, length = _runs(g.s, g.dilate_w == g.groups == 1, channels)
    return Windows((images, rows, columns), x, y, g.q * g.r * taps, 0, steps[0], length, filters,
                   taps, steps[1], g.r, plane_step)  # fmt: skip


def _runs(taps: int, touch: bool, channels: int) -> tuple[int, int]:
    """Runs of neighbouring floats in a row of taps, and their length."""
    return (1, taps * channels) if touch else (taps, channels)


def result_space(g: Geometry) -> int:
    """Workspace of the forward and the weight kernel, in floats."""
    return g.padded_floats() + windows_of(g).panel_floats()


def each(
    e: Emit, count: int, body: Callable[..., None], *arrays: tuple[Value | Results, int],
    columns: int = 0,
) -> None:  # fmt: skip
    """``body(*parts)`` so many times, of arrays with so many floats from one part to the next.

    So many `columns` lie between parts of results.
    """

    def part(array: Value | Results, i: Index, step: int) -> Value | Results:
        if isinstance(array, Results):
            return array.moved(e.times(i, step), e.times(i, columns))
        return e.at(array, e.times(i, step))

    e.nest((count,), lambda i: body(*(part(a, i, step) for a, step in arrays)))


def volume_floats(g: Geometry) -> tuple[int, int]:
    """Floats from one volume of the padded data to the next, and of the result."""
    high, wide = g.padded
    return g.deep * high * wide * g.c, g.planes * g.out[0] * g.out[1] * g.f


def padded(e: Emit, g: Geometry, x: Value, space: Value) -> Value:
    """The data, copied into zeros in the workspace if there is padding."""
    if not g.is_padded:
        return x
    before, size = (g.pad_d, g.pad_h, g.pad_w), (g.deep, *g.padded)
    pad_volumes(e, x, space, (g.n, g.d, g.h, g.w, g.c), before, size)
    return space


@shared_maker
def conv_forward(e: Emit, fields: tuple[int, ...], has_bias: bool, tail: Tail = ALONE) -> None:
    """Arguments: data, weight, [bias,] those of the tail with the result, workspace."""
    g = Geometry(*fields)
    x, weight, bias = e.arg(0), e.arg(1), e.arg(2) if has_bias else None
    y = Results.of(e, 2 + has_bias, tail)
    space = e.arg(2 + has_bias + y.count)
    x = padded(e, g, x, space)
    panels = e.at(space, g.padded_floats())
    channels, filters = g.part

    def group(x: Value, weight: Value, y: Results, *bias: Value) -> None:
        pack_filters(e, g, weight, panels)
        meet(e)
        each(e, g.volumes, lambda x, y: window_product(
            e, windows_of(g), x, panels, y, bias[0] if bias else None),
            *zip((x, y), volume_floats(g), strict=True))  # fmt: skip
        meet(e)  # the next group packs where this one reads

    shifts = [] if bias is None else [(bias, filters)]
    size = filters * channels * g.area
    arrays = (x, channels), (weight, size), (y, filters), *shifts
    each(e, g.groups, group, *arrays, columns=filters)


def pack_filters(e: Emit, g: Geometry, weight: Value, panels: Value) -> None:
    """Weight of a group ``(F, C, R, S)`` -> panels of filters, each ``[tap][C][32]``."""
    (channels, filters), area = g.part, g.area
    step = channels * area

    def panel(start: Index, lanes: Sequence[int]) -> None:
        place = e.at(panels, e.times(start, step))

        def one(t: Index, c: Index) -> None:
            for j, n in enumerate(lanes):
                first = e.plus(e.times(start, step), e.times(c, area), t, j * LANES * step)
                value = e.gather(weight, first, step, n) if n else e.zero
                row = e.plus(c, e.times(t, channels))
                e.store(value, place, e.plus(e.times(row, PANEL), j * LANES))

        e.nest((area, channels), one)

    each_panel(e, filters, panel)


@shared_maker
def conv_weight(e: Emit, fields: tuple[int, ...]) -> None:
    """Arguments: gradient of the result, data, gradient of the weight, workspace."""
    g = Geometry(*fields)
    grad, x, weight, space = (e.arg(i) for i in range(4))
    x = padded(e, g, x, space)
    packed = e.at(space, g.padded_floats())
    channels, filters = g.part

    def group(x: Value, grad: Value, weight: Value) -> None:
        fill(e, packed, windows_of(g).panel_floats())
        meet(e)
        each(e, g.volumes, lambda x, grad: window_correlation(e, windows_of(g), x, grad, packed),
             *zip((x, grad), volume_floats(g), strict=True))  # fmt: skip
        meet(e)
        unpack_filters(e, g, packed, weight)
        meet(e)

    size = filters * channels * g.area
    each(e, g.groups, group, (x, channels), (grad, filters), (weight, size))


def unpack_filters(e: Emit, g: Geometry, packed: Value, weight: Value) -> None:
    """The inverse of `pack_filters`."""
    (channels, filters), area = g.part, g.area
    step = channels * area

    def panel(start: Index, lanes: Sequence[int]) -> None:
        source = e.at(packed, e.times(start, step))

        def one(t: Index, c: Index) -> None:
            for j, n in enumerate(lanes):
                if n:
                    row = e.plus(e.times(e.plus(c, e.times(t, channels)), PANEL), j * LANES)
                    first = e.plus(e.times(start, step), e.times(c, area), t, j * LANES * step)
                    e.scatter(e.load(source, row), weight, first, step, n)

        e.nest((area, channels), one)

    each_panel(e, filters, panel)


# ----- the data gradient


def data_space(g: Geometry) -> int:
    """Workspace of the data kernel, in floats."""
    margins = margins_of(g)
    live = [data_windows(g, margins, p) for p in phases_of(g) if p.is_live]
    return _grad_floats(g, margins) + max((w.panel_floats() for w in live), default=1)


def _grad_floats(g: Geometry, margins: Margins) -> int:
    return 0 if margins.size == (g.planes, *g.out) else g.n * math.prod(margins.size) * g.f


def padded_gradient(e: Emit, g: Geometry, margins: Margins, grad: Value, space: Value) -> Value:
    """The gradient, copied into zeros in the workspace if there are margins."""
    if not _grad_floats(g, margins):
        return grad
    pad_volumes(e, grad, space, (g.n, g.planes, *g.out, g.f), margins.before, margins.size)
    return space


@shared_maker
def conv_data(e: Emit, fields: tuple[int, ...], tail: Tail = ALONE) -> None:
    """Arguments: gradient of the result, weight, the tail's with that of the data, workspace."""
    g = Geometry(*fields)
    grad, weight, dx = e.arg(0), e.arg(1), Results.of(e, 2, tail)
    space = e.arg(2 + dx.count)
    margins, phases = margins_of(g), phases_of(g)
    grad = padded_gradient(e, g, margins, grad, space)
    panels = e.at(space, _grad_floats(g, margins))
    if not all(p.is_live for p in phases):
        fill(e, dx.first, g.cells * g.c)
    channels, filters = g.part

    def group(grad: Value, weight: Value, dx: Results) -> None:
        for phase in phases:
            if phase.is_live:
                pack_turned(e, g, weight, panels, phase)
                meet(e)
                w = data_windows(g, margins, phase)
                each(e, g.volumes, lambda grad, dx, w=w: window_product(e, w, grad, panels, dx),
                     (grad, math.prod(margins.size) * g.f),
                     (dx.moved(first_cell(g, phase) * g.c), g.d * g.h * g.w * g.c))  # fmt: skip
                meet(e)  # what comes next packs where this one reads

    size = filters * channels * g.area
    arrays = (grad, filters), (weight, size), (dx, channels)
    each(e, g.groups, group, *arrays, columns=channels)


def first_cell(g: Geometry, p: Phase) -> int:
    """The first cell of the data that belongs to a phase."""
    return (p.d.first * g.h + p.h.first) * g.w + p.w.first


def data_windows(g: Geometry, margins: Margins, p: Phase) -> Windows:
    """How the data of a phase and a group walks over the gradient with its margins."""
    _, high, wide = margins.size
    lows = [s.low + before for s, before in zip(p, margins.before, strict=True)]
    start = ((lows[0] * high + lows[1]) * wide + lows[2]) * g.f
    x = (high * wide * g.f, wide * g.f, g.f)
    y = (g.stride_d * g.h * g.w * g.c, g.stride_h * g.w * g.c, g.stride_w * g.c)
    images, plane_step = (g.n, 0) if g.is_flat else (p.d.cells, p.d.step * x[0])
    channels, filters = g.part
    taps, length = _runs(len(p.w.taps), p.w.step == g.groups == 1, filters)
    runs = len(p.d.taps) * len(p.h.taps) * taps
    return Windows((images, p.h.cells, p.w.cells), x, y, runs, start, p.h.step * x[1], length,
                   channels, taps, p.w.step * g.f, len(p.h.taps), plane_step)  # fmt: skip


def taps_of(g: Geometry, p: Phase) -> list[int]:
    """Numbers of the taps that a phase reads, run after run."""
    return [(q * g.r + r) * g.s + s for q in p.d.taps for r in p.h.taps for s in p.w.taps]


def pack_turned(e: Emit, g: Geometry, weight: Value, panels: Value, phase: Phase) -> None:
    """Weight of a group ``(F, C, R, S)`` -> panels of channels, each ``[tap][F][32]``."""
    taps = taps_of(g, phase)
    (channels, filters), step = g.part, g.area

    def panel(start: Index, lanes: Sequence[int]) -> None:
        place = e.at(panels, e.times(start, len(taps) * filters))

        def one(f: Index) -> None:
            source = e.at(weight, e.times(f, channels * step), e.times(start, step))
            for t, tap in enumerate(taps):
                for j, n in enumerate(lanes):
                    first = tap + j * LANES * step
                    value = e.gather(source, first, step, n) if n else e.zero
                    e.store(value, place, e.plus(e.times(e.plus(f, t * filters), PANEL), j * LANES))

        e.nest((filters,), one)

    each_panel(e, channels, panel)
