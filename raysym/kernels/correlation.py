"""Convolution of stride 1 and both its gradients as matrix products at 36 points of tiles.

Lines of tiles pass in blocks that stay in the second cache. Where filters outweigh images, all
tiles are one block, and panels of filters are transformed as they are needed.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import NamedTuple

from raysym.kernels.emit import LANES, Emit, Index, Value, even_parts, runs_of
from raysym.kernels.epilogue import ALONE, Results, Tail
from raysym.kernels.geometry import Geometry
from raysym.kernels.micro import tile
from raysym.kernels.moving import PANEL, each_panel, fill
from raysym.kernels.product import ROWS
from raysym.kernels.shared import apart, meet, own, shared
from raysym.kernels.specs import shared_maker
from raysym.kernels.tiles import (
    Cube,
    Filters,
    Tiles,
    cube_floats,
    read_data,
    read_filters,
    read_results,
    write_filters,
    write_results,
)
from raysym.kernels.winograd import AREA

_BLOCK_BYTES = 640 * 1024  # of transformed data: with products and filters they fill the cache


class Plan(NamedTuple):
    """How a correlation runs: lines of a block, panels whose filters are kept, and the memory."""

    tiles: Tiles
    lines: int
    kept: int

    @property
    def is_whole(self) -> bool:
        """True when all tiles are one block."""
        return self.lines == self.tiles.lines

    @property
    def width(self) -> int:
        """Tiles of a block."""
        return self.lines * self.tiles.wide

    def places(self) -> tuple[int, ...]:
        """Floats up to: strip, data, filters, products, spare, the end."""
        t = self.tiles
        data, products = cube_floats(self.width, t.c), cube_floats(self.width, PANEL)
        sizes = (t.strip_floats(), data, self.kept * cube_floats(t.c, PANEL), products, PANEL)
        return tuple(sum(sizes[:i]) for i in range(len(sizes) + 1))

    @property
    def space(self) -> int:
        """Workspace in floats."""
        return self.places()[-1]


def _fitting(t: Tiles) -> int:
    """Lines of tiles that fit in a block: a divisor of all lines."""
    most = max(1, _BLOCK_BYTES // (4 * AREA * t.c * t.wide))
    return max(d for d in range(1, t.lines + 1) if t.lines % d == 0 and d <= most)


def product_plan(t: Tiles) -> Plan:
    """Filters pass once for each block, data once for each panel: whatever moves less."""
    some = _fitting(t)
    whole = t.lines * t.wide * (1 + t.panels) <= t.panels * PANEL * (1 + t.lines // some)
    return Plan(t, t.lines, 1) if whole else Plan(t, some, t.panels)


def gradient_plan(t: Tiles) -> Plan:
    """Sums of filters are read and written once for each block, data once for each panel."""
    some = _fitting(t)
    whole = some * t.wide * (1 + t.panels) <= 2 * t.panels * PANEL
    return Plan(t, t.lines, 1) if whole else Plan(t, some, t.panels)


class _Run(NamedTuple):
    """A correlation while it is written."""

    e: Emit
    plan: Plan
    x: Value
    filters: Filters
    space: Value
    adds: bool = False  # the filters are what is computed

    def part(self, i: int, offset: Index = 0) -> Value:
        """Memory of a kind: a thread's own, or that of all."""
        plan = self.plan
        # Each transforms all data that filters are made from: cheaper than what others have made.
        has_data = plan.is_whole and not self.adds
        has_filters = plan.kept > 1 or (self.adds and not plan.is_whole)
        together = (i == 1 and has_data) or (i == 2 and has_filters)
        space = self.space if together else own(self.e, self.space, plan.space)
        return self.e.at(space, plan.places()[i], offset)

    @property
    def data(self) -> Cube:
        return Cube(self.e, self.part(1), self.plan.width, self.plan.tiles.c)

    def panel(self, start: Index) -> Cube:
        """The filters of a panel."""
        size = cube_floats(self.plan.tiles.c, PANEL)
        kept = self.plan.kept > 1
        offset = self.e.times(self.e.share(start, PANEL), size) if kept else 0
        return Cube(self.e, self.part(2, offset), self.plan.tiles.c, PANEL)

    @property
    def products(self) -> Cube:
        return Cube(self.e, self.part(3), self.plan.width, PANEL)

    @property
    def spare(self) -> Value:
        return self.part(4)

    def start(self) -> None:
        """Zeros where they are read."""
        with apart(self.e):
            fill(self.e, self.part(0), self.plan.tiles.strip_floats())
            fill(self.e, self.spare, PANEL)

    def each_block(self, body: object) -> None:
        """``body(first line)`` with the data of a block transformed."""
        e, t, lines, run = self.e, self.plan.tiles, self.plan.lines, body

        def block(first: Index) -> None:
            with apart(e) if self.adds else nullcontext():
                read_data(e, t, self.x, self.part(0), self.data, first, lines)
            run(first)  # type: ignore[operator]

        if self.plan.is_whole:
            block(0)
        elif self.adds:
            e.loop(0, t.lines, block, step=lines)
        else:
            shared(e, t.lines // lines, block, step=lines)


def correlate(run: _Run, y: Results, bias: Value | None) -> None:
    """``y = x * filters (+ bias)``."""
    e, t, plan = run.e, run.plan.tiles, run.plan

    def transform(start: Index, lanes: list[int]) -> None:
        read_filters(e, run.filters, run.panel(start), start, lanes)

    def panel(first: Index, start: Index, lanes: list[int]) -> None:
        if plan.kept == 1:
            transform(start, lanes)
        multiply(run.data, run.panel(start), run.products)
        shift, kept = None if bias is None else e.at(bias, start), [n for n in lanes if n]
        write_results(e, t, run.products, y.moved(start, start), first, plan.lines, kept,
                      run.spare, shift)  # fmt: skip

    run.start()
    if plan.kept > 1:
        each_panel(e, t.f, transform)
        meet(e)

    def block(first: Index) -> None:
        meet(e)
        each_panel(e, t.f, lambda s, lanes: panel(first, s, lanes))

    run.each_block(block)


def multiply(data: Cube, filters: Cube, made: Cube) -> None:
    """``made = data . filters`` at every point."""
    e, depth = data.e, data.width

    def rows(p: Index, i: Index, height: int) -> None:
        left = e.at(data.matrix(p), e.times(i, depth))
        place = e.at(made.matrix(p), e.times(i, PANEL))
        starts, lanes = [r * depth for r in range(height)], [LANES, LANES]
        zeros = [e.zero] * (2 * height)
        sums = tile(e, left, starts, 1, filters.matrix(p), PANEL, depth, zeros, lanes)
        for at, value in enumerate(sums):
            e.store(value, place, at * LANES)

    def point(p: Index) -> None:
        for start, height, end in runs_of(even_parts(data.rows, ROWS)):
            e.loop(start, end, lambda i, height=height: rows(p, i, height), step=height)

    e.loop(0, AREA, point)


def correlate_filters(run: _Run, grad: Value) -> None:
    """The gradient of the filters: sums over all tiles of data and result, transformed back."""
    e, t, plan = run.e, run.plan.tiles, run.plan

    def panel(first: Index, start: Index, lanes: list[int]) -> None:
        kept = [n for n in lanes if n]
        read_results(e, t, e.at(grad, start), run.products, first, plan.lines, kept, run.spare)
        add_products(run.data, run.products, run.panel(start), starts=plan.is_whole)
        if plan.is_whole:
            finish(start, lanes)

    def finish(start: Index, lanes: list[int]) -> None:
        write_filters(e, run.filters, run.panel(start), start, lanes)

    run.start()
    if not plan.is_whole:
        fill(e, run.part(2), plan.places()[3] - plan.places()[2])
        meet(e)
    run.each_block(lambda first: each_panel(e, t.f, lambda s, lanes: panel(first, s, lanes)))
    if not plan.is_whole:
        each_panel(e, t.f, finish)


def add_products(data: Cube, results: Cube, made: Cube, starts: bool) -> None:
    """``made (+)= data' . results`` at every point."""
    e, width = data.e, data.width

    def rows(p: Index, i: Index, height: int) -> None:
        place = e.at(made.matrix(p), e.times(i, PANEL))
        cells = range(0, 2 * height * LANES, LANES)
        sums = [e.zero if starts else e.load(place, at) for at in cells]
        sums = tile(e, e.at(data.matrix(p), i), range(height), width, results.matrix(p), PANEL,
                    data.rows, sums, [LANES, LANES])  # fmt: skip
        for at, value in zip(cells, sums, strict=True):
            e.store(value, place, at)

    def point(p: Index) -> None:
        for start, height, end in runs_of(even_parts(width, ROWS)):
            e.loop(start, end, lambda i, height=height: rows(p, i, height), step=height)

    e.loop(0, AREA, point)


# ----- kernels


def has_tiles(g: Geometry) -> bool:
    """True when the transforms cost less than the products they save (measured)."""
    square = g.r == g.s and g.r in (3, 5) and g.stride_h == g.stride_w == 1
    if not (square and g.is_plain) or max(g.pad_h, g.pad_w) >= g.r or min(g.c, g.f) < LANES:
        return False
    return all(_saves(t) for t in (forward_tiles(g), data_tiles(g)))


def _saves(t: Tiles) -> bool:
    images = 2 * t.rows * t.columns * t.r**2 >= 3 * AREA * t.high * t.wide
    return images and t.lines * t.wide >= 4


def forward_tiles(g: Geometry) -> Tiles:
    """The convolution as a correlation."""
    return Tiles(g.n, g.h, g.w, g.c, *g.out, g.f, g.r, (g.pad_h, g.pad_w))


def data_tiles(g: Geometry) -> Tiles:
    """The data gradient as a correlation with turned filters."""
    pad = g.r - 1 - g.pad_h, g.r - 1 - g.pad_w
    return Tiles(g.n, *g.out, g.f, g.h, g.w, g.c, g.r, pad)


def _filters(g: Geometry, weight: Value) -> Filters:
    return Filters(weight, g.c * g.r * g.s, g.r * g.s, g.r)


@shared_maker
def tiled_forward(e: Emit, fields: tuple[int, ...], has_bias: bool, tail: Tail = ALONE) -> None:
    """Arguments: data, weight, [bias,] those of the tail with the result, workspace."""
    g, y = Geometry(*fields), Results.of(e, 2 + has_bias, tail)
    run = _Run(e, product_plan(forward_tiles(g)), e.arg(0), _filters(g, e.arg(1)),
               e.arg(2 + has_bias + y.count))  # fmt: skip
    correlate(run, y, e.arg(2) if has_bias else None)


@shared_maker
def tiled_data(e: Emit, fields: tuple[int, ...], tail: Tail = ALONE) -> None:
    """Arguments: gradient of the result, weight, the tail's with that of the data, workspace."""
    g, dx = Geometry(*fields), Results.of(e, 2, tail)
    filters = Filters(e.arg(1), g.r * g.s, g.c * g.r * g.s, g.r, turned=True)
    run = _Run(e, product_plan(data_tiles(g)), e.arg(0), filters, e.arg(2 + dx.count))
    correlate(run, dx, None)


@shared_maker
def tiled_weight(e: Emit, fields: tuple[int, ...]) -> None:
    """Arguments: gradient of the result, data, gradient of the weight, workspace."""
    g = Geometry(*fields)
    run = _Run(e, gradient_plan(forward_tiles(g)), e.arg(1), _filters(g, e.arg(2)), e.arg(3),
               adds=True)  # fmt: skip
    correlate_filters(run, e.arg(0))
