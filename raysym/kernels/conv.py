"""Convolution and its two gradients on channels-last images, from one micro-kernel.

Weights come and go as users see them, ``(F, C, R, S)``, and are packed on the way. The data
gradient of a strided convolution is computed phase by phase: cells of the data whose position has
one remainder by the stride see the same taps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from raysym.kernels.emit import LANES, Emit, Index, Value
from raysym.kernels.moving import PANEL, each_panel, fill, pad_images
from raysym.kernels.specs import maker
from raysym.kernels.window import Windows, window_correlation, window_product


class Geometry(NamedTuple):
    """Images ``(n, c, h, w)``, filters ``(f, c, r, s)``, strides and padding."""

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

    @property
    def out(self) -> tuple[int, int]:
        """Rows and columns of the result."""
        high, wide = self.padded
        return (high - self.r) // self.stride_h + 1, (wide - self.s) // self.stride_w + 1

    @property
    def padded(self) -> tuple[int, int]:
        """Rows and columns of the data with its padding."""
        return self.h + 2 * self.pad_h, self.w + 2 * self.pad_w

    @property
    def is_padded(self) -> bool:
        """True when the data is copied into zeros first."""
        return bool(self.pad_h or self.pad_w)

    def windows(self) -> Windows:
        """How results walk over the padded data."""
        high, wide = self.padded
        rows, columns = self.out
        x = (high * wide * self.c, self.stride_h * wide * self.c, self.stride_w * self.c)
        y = (rows * columns * self.f, columns * self.f, self.f)
        pixels = (self.n, rows, columns)
        return Windows(pixels, x, y, self.r, 0, wide * self.c, self.s * self.c, self.f)

    def padded_floats(self) -> int:
        """Floats of the padded data, 0 if there is no padding."""
        high, wide = self.padded
        return self.n * high * wide * self.c if self.is_padded else 0

    def space(self) -> int:
        """Workspace of the forward and the weight kernel, in floats."""
        return self.padded_floats() + self.windows().panel_floats()


def _padded(e: Emit, g: Geometry, x: Value, space: Value) -> Value:
    if not g.is_padded:
        return x
    pad_images(e, x, space, (g.n, g.h, g.w, g.c), (g.pad_h, g.pad_w), g.padded)
    return space


@maker
def conv_forward(e: Emit, fields: tuple[int, ...], has_bias: bool) -> None:
    """Arguments: data, weight, [bias,] result, workspace."""
    g = Geometry(*fields)
    x, weight, bias = e.arg(0), e.arg(1), e.arg(2) if has_bias else None
    y, space = e.arg(2 + has_bias), e.arg(3 + has_bias)
    x = _padded(e, g, x, space)
    panels = e.at(space, g.padded_floats())
    taps = [(r, s) for r in range(g.r) for s in range(g.s)]
    pack_filters(e, g, weight, panels, taps)
    window_product(e, g.windows(), x, panels, y, bias)


def pack_filters(
    e: Emit, g: Geometry, weight: Value, panels: Value, taps: Sequence[tuple[int, int]]
) -> None:
    """Weight ``(F, C, R, S)`` -> panels of filters, each ``[tap][C][32]``."""
    step = g.c * g.r * g.s

    def panel(start: Index, lanes: Sequence[int]) -> None:
        place = e.at(panels, e.times(start, len(taps) * g.c))
        for t, (r, s) in enumerate(taps):

            def channel(c: Index, t: int = t, at: int = r * g.s + s) -> None:
                for j, n in enumerate(lanes):
                    first = e.plus(
                        e.times(start, step), e.times(c, g.r * g.s), at, j * LANES * step
                    )
                    value = e.gather(weight, first, step, n) if n else e.zero
                    e.store(value, place, e.plus(e.times(e.plus(c, t * g.c), PANEL), j * LANES))

            e.nest((g.c,), channel)

    each_panel(e, g.f, panel)


@maker
def conv_weight(e: Emit, fields: tuple[int, ...]) -> None:
    """Arguments: gradient of the result, data, gradient of the weight, workspace."""
    g = Geometry(*fields)
    grad, x, weight, space = (e.arg(i) for i in range(4))
    x = _padded(e, g, x, space)
    packed = e.at(space, g.padded_floats())
    window_correlation(e, g.windows(), x, grad, packed)
    step = g.c * g.r * g.s

    def panel(start: Index, lanes: Sequence[int]) -> None:
        source = e.at(packed, e.times(start, step))
        for t in range(g.r * g.s):

            def channel(c: Index, t: int = t) -> None:
                for j, n in enumerate(lanes):
                    if n:
                        row = e.plus(e.times(e.plus(c, t * g.c), PANEL), j * LANES)
                        value = e.load(source, row)
                        first = e.plus(e.times(start, step), e.times(c, g.r * g.s), t,
                                       j * LANES * step)  # fmt: skip
                        e.scatter(value, weight, first, step, n)

            e.nest((g.c,), channel)

    each_panel(e, g.f, panel)


# ----- the data gradient


class Phase(NamedTuple):
    """Cells of the data with one remainder by the strides, and the taps that they see."""

    taps_h: tuple[int, ...]
    taps_w: tuple[int, ...]
    first: tuple[int, int]  # the first cell
    cells: tuple[int, int]  # so many along both axes
    low: tuple[int, int]  # gradient row and column that the first cell's first tap reads


def phases_of(g: Geometry) -> list[Phase]:
    """All phases, those without taps as well."""
    return [_phase(g, a, b) for a in range(g.stride_h) for b in range(g.stride_w)]


def _phase(g: Geometry, a: int, b: int) -> Phase:
    taps_h = tuple(range(a, g.r, g.stride_h))[::-1]
    taps_w = tuple(range(b, g.s, g.stride_w))[::-1]
    first = (a - g.pad_h) % g.stride_h, (b - g.pad_w) % g.stride_w
    cells = len(range(first[0], g.h, g.stride_h)), len(range(first[1], g.w, g.stride_w))
    if not taps_h or not taps_w or 0 in cells:
        return Phase((), (), first, cells, (0, 0))
    low = (
        (first[0] + g.pad_h - taps_h[0]) // g.stride_h,
        (first[1] + g.pad_w - taps_w[0]) // g.stride_w,
    )
    return Phase(taps_h, taps_w, first, cells, low)


class Margins(NamedTuple):
    """Zeros around the gradient so that every phase reads inside."""

    before: tuple[int, int]
    size: tuple[int, int]


def margins_of(g: Geometry) -> Margins:
    """The margins that all phases need together."""
    live = [p for p in phases_of(g) if p.taps_h]
    out = g.out
    before = tuple(max(0, *(-p.low[i] for p in live)) for i in (0, 1))
    ends = [
        [p.low[i] + p.cells[i] + len((p.taps_h, p.taps_w)[i]) - 1 for p in live] for i in (0, 1)
    ]
    size = tuple(before[i] + max(out[i], *ends[i]) for i in (0, 1))
    return Margins((before[0], before[1]), (size[0], size[1]))


def data_space(g: Geometry) -> int:
    """Workspace of the data kernel, in floats."""
    live = [len(p.taps_h) * len(p.taps_w) for p in phases_of(g)]
    return _grad_floats(g) + -(-g.c // PANEL) * PANEL * g.f * max(live)


def _grad_floats(g: Geometry) -> int:
    margins = margins_of(g)
    return 0 if margins.size == g.out else g.n * margins.size[0] * margins.size[1] * g.f


@maker
def conv_data(e: Emit, fields: tuple[int, ...]) -> None:
    """Arguments: gradient of the result, weight, gradient of the data, workspace."""
    g = Geometry(*fields)
    grad, weight, dx, space = (e.arg(i) for i in range(4))
    margins = margins_of(g)
    if _grad_floats(g):
        pad_images(e, grad, space, (g.n, *g.out, g.f), margins.before, margins.size)
        grad = space
    panels = e.at(space, _grad_floats(g))
    phases = phases_of(g)
    if not all(p.taps_h for p in phases):
        fill(e, dx, g.n * g.h * g.w * g.c)
    for phase in phases:
        if phase.taps_h:
            pack_turned(e, g, weight, panels, phase)
            place = e.at(dx, (phase.first[0] * g.w + phase.first[1]) * g.c)
            window_product(e, _phase_windows(g, margins, phase), grad, panels, place)


def _phase_windows(g: Geometry, margins: Margins, p: Phase) -> Windows:
    high, wide = margins.size
    x = (high * wide * g.f, wide * g.f, g.f)
    y = (g.h * g.w * g.c, g.stride_h * g.w * g.c, g.stride_w * g.c)
    start = ((p.low[0] + margins.before[0]) * wide + p.low[1] + margins.before[1]) * g.f
    length = len(p.taps_w) * g.f
    return Windows((g.n, *p.cells), x, y, len(p.taps_h), start, wide * g.f, length, g.c)


def pack_turned(e: Emit, g: Geometry, weight: Value, panels: Value, phase: Phase) -> None:
    """Weight ``(F, C, R, S)`` -> panels of channels, each ``[tap][F][32]``."""
    taps = [(r, s) for r in phase.taps_h for s in phase.taps_w]
    step = g.r * g.s

    def panel(start: Index, lanes: Sequence[int]) -> None:
        place = e.at(panels, e.times(start, len(taps) * g.f))

        def one(f: Index) -> None:
            source = e.at(weight, e.times(f, g.c * step), e.times(start, step))
            for t, (r, s) in enumerate(taps):
                for j, n in enumerate(lanes):
                    first = r * g.s + s + j * LANES * step
                    value = e.gather(source, first, step, n) if n else e.zero
                    e.store(value, place, e.plus(e.times(e.plus(f, t * g.f), PANEL), j * LANES))

        e.nest((g.f,), one)

    each_panel(e, g.c, panel)
