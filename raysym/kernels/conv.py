"""Convolution and its two gradients on channels-last images, from one micro-kernel.

Weights come and go as users see them, ``(F, C/groups, R, S)``, and are packed on the way, group
after group. The data gradient of a strided convolution is computed phase by phase: cells of the
data whose position has one remainder by the stride see the same taps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from raysym.kernels.emit import LANES, Emit, Index, Value
from raysym.kernels.geometry import Geometry, Margins, Phase, margins_of, phases_of
from raysym.kernels.moving import PANEL, each_panel, fill, pad_images
from raysym.kernels.shared import meet
from raysym.kernels.specs import shared_maker
from raysym.kernels.window import Windows, window_correlation, window_product


def windows_of(g: Geometry) -> Windows:
    """How the results of a group walk over the padded data."""
    high, wide = g.padded
    rows, columns = g.out
    x = (high * wide * g.c, g.stride_h * wide * g.c, g.stride_w * g.c)
    y = (rows * columns * g.f, columns * g.f, g.f)
    channels, filters = g.part
    steps = (g.dilate_h * wide * g.c, g.dilate_w * g.c)
    taps, length = _runs(g.s, g.dilate_w == g.groups == 1, channels)
    return Windows((g.n, rows, columns), x, y, g.r * taps, 0, steps[0], length, filters, taps,
                   steps[1])  # fmt: skip


def _runs(taps: int, touch: bool, channels: int) -> tuple[int, int]:
    """Runs of neighbouring floats in a row of taps, and their length."""
    return (1, taps * channels) if touch else (taps, channels)


def result_space(g: Geometry) -> int:
    """Workspace of the forward and the weight kernel, in floats."""
    return g.padded_floats() + windows_of(g).panel_floats()


def each_group(e: Emit, g: Geometry, body: Callable[..., None], *arrays: tuple[Value, int]) -> None:
    """``body(*parts)`` for each group, of arrays with so many floats from one group to the next."""
    e.nest((g.groups,), lambda q: body(*(e.at(a, e.times(q, step)) for a, step in arrays)))


def padded(e: Emit, g: Geometry, x: Value, space: Value) -> Value:
    """The data, copied into zeros in the workspace if there is padding."""
    if not g.is_padded:
        return x
    pad_images(e, x, space, (g.n, g.h, g.w, g.c), (g.pad_h, g.pad_w), g.padded)
    return space


@shared_maker
def conv_forward(e: Emit, fields: tuple[int, ...], has_bias: bool) -> None:
    """Arguments: data, weight, [bias,] result, workspace."""
    g = Geometry(*fields)
    x, weight, bias = e.arg(0), e.arg(1), e.arg(2) if has_bias else None
    y, space = e.arg(2 + has_bias), e.arg(3 + has_bias)
    x = padded(e, g, x, space)
    panels = e.at(space, g.padded_floats())
    channels, filters = g.part

    def group(x: Value, weight: Value, y: Value, *bias: Value) -> None:
        pack_filters(e, g, weight, panels)
        meet(e)
        window_product(e, windows_of(g), x, panels, y, bias[0] if bias else None)
        meet(e)  # the next group packs where this one reads

    shifts = [] if bias is None else [(bias, filters)]
    size = filters * channels * g.r * g.s
    each_group(e, g, group, (x, channels), (weight, size), (y, filters), *shifts)


def pack_filters(e: Emit, g: Geometry, weight: Value, panels: Value) -> None:
    """Weight of a group ``(F, C, R, S)`` -> panels of filters, each ``[tap][C][32]``."""
    (channels, filters), area = g.part, g.r * g.s
    step = channels * area

    def panel(start: Index, lanes: Sequence[int]) -> None:
        place = e.at(panels, e.times(start, step))
        for t in range(area):

            def channel(c: Index, t: int = t) -> None:
                for j, n in enumerate(lanes):
                    first = e.plus(e.times(start, step), e.times(c, area), t, j * LANES * step)
                    value = e.gather(weight, first, step, n) if n else e.zero
                    e.store(
                        value, place, e.plus(e.times(e.plus(c, t * channels), PANEL), j * LANES)
                    )

            e.nest((channels,), channel)

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
        window_correlation(e, windows_of(g), x, grad, packed)
        meet(e)
        unpack_filters(e, g, packed, weight)
        meet(e)

    size = filters * channels * g.r * g.s
    each_group(e, g, group, (x, channels), (grad, filters), (weight, size))


def unpack_filters(e: Emit, g: Geometry, packed: Value, weight: Value) -> None:
    """The inverse of `pack_filters`."""
    (channels, filters), area = g.part, g.r * g.s
    step = channels * area

    def panel(start: Index, lanes: Sequence[int]) -> None:
        source = e.at(packed, e.times(start, step))
        for t in range(area):

            def channel(c: Index, t: int = t) -> None:
                for j, n in enumerate(lanes):
                    if n:
                        row = e.plus(e.times(e.plus(c, t * channels), PANEL), j * LANES)
                        first = e.plus(e.times(start, step), e.times(c, area), t, j * LANES * step)
                        e.scatter(e.load(source, row), weight, first, step, n)

            e.nest((channels,), channel)

    each_panel(e, filters, panel)


# ----- the data gradient


def data_space(g: Geometry) -> int:
    """Workspace of the data kernel, in floats."""
    margins = margins_of(g)
    live = [data_windows(g, margins, p) for p in phases_of(g) if p.is_live]
    return _grad_floats(g, margins) + max((w.panel_floats() for w in live), default=1)


def _grad_floats(g: Geometry, margins: Margins) -> int:
    return 0 if margins.size == g.out else g.n * margins.size[0] * margins.size[1] * g.f


def padded_gradient(e: Emit, g: Geometry, margins: Margins, grad: Value, space: Value) -> Value:
    """The gradient, copied into zeros in the workspace if there are margins."""
    if not _grad_floats(g, margins):
        return grad
    pad_images(e, grad, space, (g.n, *g.out, g.f), margins.before, margins.size)
    return space


@shared_maker
def conv_data(e: Emit, fields: tuple[int, ...]) -> None:
    """Arguments: gradient of the result, weight, gradient of the data, workspace."""
    g = Geometry(*fields)
    grad, weight, dx, space = (e.arg(i) for i in range(4))
    margins, phases = margins_of(g), phases_of(g)
    grad = padded_gradient(e, g, margins, grad, space)
    panels = e.at(space, _grad_floats(g, margins))
    if not all(p.is_live for p in phases):
        fill(e, dx, g.n * g.h * g.w * g.c)
    channels, filters = g.part

    def group(grad: Value, weight: Value, dx: Value) -> None:
        for phase in phases:
            if phase.is_live:
                pack_turned(e, g, weight, panels, phase)
                meet(e)
                place = e.at(dx, (phase.h.first * g.w + phase.w.first) * g.c)
                window_product(e, data_windows(g, margins, phase), grad, panels, place)
                meet(e)  # what comes next packs where this one reads

    size = filters * channels * g.r * g.s
    each_group(e, g, group, (grad, filters), (weight, size), (dx, channels))


def data_windows(g: Geometry, margins: Margins, p: Phase) -> Windows:
    """How the data of a phase and a group walks over the gradient with its margins."""
    high, wide = margins.size
    x = (high * wide * g.f, wide * g.f, g.f)
    y = (g.h * g.w * g.c, g.stride_h * g.w * g.c, g.stride_w * g.c)
    start = ((p.h.low + margins.before[0]) * wide + p.w.low + margins.before[1]) * g.f
    channels, filters = g.part
    taps, length = _runs(len(p.w.taps), p.w.step == g.groups == 1, filters)
    return Windows((g.n, p.h.cells, p.w.cells), x, y, len(p.h.taps) * taps, start,
                   p.h.step * wide * g.f, length, channels, taps, p.w.step * g.f)  # fmt: skip


def pack_turned(e: Emit, g: Geometry, weight: Value, panels: Value, phase: Phase) -> None:
    """Weight of a group ``(F, C, R, S)`` -> panels of channels, each ``[tap][F][32]``."""
    taps = [r * g.s + s for r in phase.h.taps for s in phase.w.taps]
    (channels, filters), step = g.part, g.r * g.s

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
