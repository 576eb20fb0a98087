"""Matrix products: one register-tiled micro-kernel, specialised per shape.

Right sides are packed into panels of 32 columns unless few rows would read them; a tile of up to
14 rows and one panel stays in registers while `DEPTH` products are added. The order of additions
depends on the shape alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from raysym.kernels.emit import LANES, Emit, Index, Value, even_parts, runs_of
from raysym.kernels.moving import PANEL, each_panel, pack_columns, pack_rows, write_transpose
from raysym.kernels.specs import maker

ROWS = 14  # 14 x 2 sums, 2 columns and 1 factor: 31 of 32 registers
DEPTH = 256  # a panel of this depth fills two thirds of the first cache
BLOCK = 1024  # rows that are multiplied before the next panel is turned to
_UNROLL = 4


def tile(
    e: Emit,
    a: Value,
    rows: Sequence[int],
    a_step: int,
    b: Value,
    b_step: int,
    depth: int,
    sums: Sequence[Value],
    lanes: Sequence[int],
) -> list[Value]:
    """``sums[i][j] += sum_k a[rows[i] + k a_step] b[k b_step + 16 j]``, k from 0 in order."""
    width = len(lanes)

    def products(k: Index, count: int, *sums: Value) -> list[Value]:
        at_a, at_b, made = e.at(a, e.times(k, a_step)), e.at(b, e.times(k, b_step)), list(sums)
        for u in range(count):
            right = [e.load(at_b, u * b_step + j * LANES, n) for j, n in enumerate(lanes)]
            for i, row in enumerate(rows):
                left = e.splat(e.load1(at_a, row + u * a_step))
                for j in range(width):
                    made[i * width + j] = e.fma(left, right[j], made[i * width + j])
        return made

    full = depth // _UNROLL * _UNROLL
    made = list(sums)
    if full:
        made = e.loop(0, full, lambda k, *s: products(k, _UNROLL, *s), made, step=_UNROLL)
    return products(full, depth - full, *made) if depth - full else made


class Product(NamedTuple):
    """``C = A B`` (+ bias): sizes, and whether the factors are stored transposed."""

    m: int
    n: int
    k: int
    turned_a: bool = False
    turned_b: bool = False
    bias: bool = False
    repeats: int = 1  # so many products, one behind the other

    @property
    def packs_b(self) -> bool:
        """True when B is copied into panels first."""
        return self.turned_b or (self.m >= 4 * ROWS and self.n > PANEL)

    def workspace(self) -> int:
        """Floats of extra memory."""
        panels = -(-self.n // PANEL) * PANEL * self.k if self.packs_b else 0
        return panels + (self.m * self.k if self.turned_a else 0)


@maker
def gemm(e: Emit, fields: tuple[Any, ...]) -> None:
    """Arguments: A, B, [bias,] C, [workspace]."""
    shape = Product(*fields)
    arrays = [e.arg(i) for i in range(3 + shape.bias + bool(shape.workspace()))]

    def one(i: Index) -> None:
        a = e.at(arrays[0], e.times(i, shape.m * shape.k))
        b = e.at(arrays[1], e.times(i, shape.k * shape.n))
        c = e.at(arrays[2 + shape.bias], e.times(i, shape.m * shape.n))
        space = arrays[-1]
        if shape.turned_a:
            write_transpose(e, a, shape.m, space, shape.k, shape.k, shape.m)
            a, space = space, e.at(space, shape.m * shape.k)
        if shape.packs_b:
            pack = pack_rows if shape.turned_b else pack_columns
            pack(e, b, shape.k if shape.turned_b else shape.n, space, shape.k, shape.n)
            b = space
        multiply(e, shape, a, b, arrays[2] if shape.bias else None, c)

    e.nest((shape.repeats,), one)


def multiply(e: Emit, shape: Product, a: Value, b: Value, bias: Value | None, c: Value) -> None:
    """Rows of A in blocks, the depth in parts, panels of B, tiles of rows."""
    parts = runs_of(even_parts(shape.k, DEPTH))
    single = len(parts) == 1 and parts[0][1] == shape.k
    if not single:
        _start(e, shape, bias, c)
    for start, depth, end in parts:

        def part(k: Index, depth: int = depth) -> None:
            whole = _Part(k, depth, not single, bias if single else None)
            _panels(e, shape, a, b, c, whole)

        if end - start > depth:
            e.loop(start, end, part, step=depth)
        else:
            part(start)


def _start(e: Emit, shape: Product, bias: Value | None, c: Value) -> None:
    def cells(column: Index, lanes: int) -> None:
        value = e.zero if bias is None else e.load(bias, column, lanes)
        e.loop(0, shape.m, lambda i: e.store(value, c, e.plus(e.times(i, shape.n), column), lanes))

    e.columns(shape.n, cells)


class _Part(NamedTuple):
    """A part of the depth: where it starts, how deep it is, and whether sums go on."""

    k: Index
    depth: int
    adds: bool
    bias: Value | None


def _panels(e: Emit, shape: Product, a: Value, b: Value, c: Value, part: _Part) -> None:
    tiles = runs_of(even_parts(shape.m, ROWS))

    def panel(column: Index, lanes: Sequence[int]) -> None:
        kept = [n for n in lanes if n]
        if shape.packs_b:
            right = e.at(b, e.times(column, shape.k), e.times(part.k, PANEL))
        else:
            right = e.at(b, e.times(part.k, shape.n), column)
        for start, height, end in tiles:

            def rows(i: Index, height: int = height) -> None:
                left = e.at(a, e.times(i, shape.k), part.k)
                place = e.at(c, e.times(i, shape.n), column)
                first = None if part.bias is None else e.at(part.bias, column)
                _tile(e, shape, left, right, place, first, height, kept, part)

            if end - start > height:
                e.loop(start, end, rows, step=height)
            else:
                rows(start)

    each_panel(e, shape.n, panel)


def _tile(
    e: Emit,
    shape: Product,
    left: Value,
    right: Value,
    place: Value,
    bias: Value | None,
    height: int,
    lanes: Sequence[int],
    part: _Part,
) -> None:
    cells = [(r * shape.n + j * LANES, n) for r in range(height) for j, n in enumerate(lanes)]
    if part.adds:
        sums = [e.load(place, offset, n) for offset, n in cells]
    elif bias is not None:
        sums = [e.load(bias, j * LANES, n) for j, n in enumerate(lanes)] * height
    else:
        sums = [e.zero] * len(cells)
    starts = [r * shape.k for r in range(height)]
    step = PANEL if shape.packs_b else shape.n
    read = [LANES if shape.packs_b else n for n in lanes]  # panels are filled up with zeros
    sums = tile(e, left, starts, 1, right, step, part.depth, sums, read)
    for value, (offset, n) in zip(sums, cells, strict=True):
        e.store(value, place, offset, n)
