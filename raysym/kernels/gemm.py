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
DEPTH = 384  # a panel of this depth about fills the first cache
SHORT = 192  # products of this depth read a transposed A where it lies
BLOCK_BYTES = 1 << 20  # of A: half of the second cache
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
        """True when parts of B are copied into a panel before they are read."""
        return self.turned_b or (self.m >= 4 * ROWS and self.n > PANEL)

    @property
    def moves_a(self) -> bool:
        """True when a transposed A is turned first: long columns would touch too many pages."""
        return self.turned_a and self.k > SHORT

    @property
    def a_steps(self) -> tuple[int, int]:
        """Floats between two rows of A, and between two of its columns."""
        return (1, self.m) if self.turned_a and not self.moves_a else (self.k, 1)

    @property
    def block(self) -> int:
        """Rows of A that stay in the second cache while all panels of B pass."""
        return min(self.m, max(1, BLOCK_BYTES // (4 * self.k * ROWS)) * ROWS)

    def workspace(self) -> int:
        """Floats of extra memory."""
        panel = PANEL * min(self.k, DEPTH) if self.packs_b else 0
        return panel + (self.block * self.k if self.moves_a else 0)


@maker
def gemm(e: Emit, fields: tuple[Any, ...]) -> None:
    """Arguments: A, B, [bias,] C, [workspace]."""
    shape = Product(*fields)
    arrays = [e.arg(i) for i in range(3 + shape.bias + bool(shape.workspace()))]
    bias = arrays[2] if shape.bias else None

    def one(i: Index) -> None:
        a = e.at(arrays[0], e.times(i, shape.m * shape.k))
        b = e.at(arrays[1], e.times(i, shape.k * shape.n))
        c = e.at(arrays[2 + shape.bias], e.times(i, shape.m * shape.n))
        product_into(e, shape, a, b, bias, c, arrays[-1])

    e.nest((shape.repeats,), one)


class Multiplication(NamedTuple):
    """A product while it is written: arrays, and where B is read from.

    ``packed``: B lies in panels of the whole depth already. ``onto``: added to what C holds.
    """

    e: Emit
    shape: Product
    a: Value
    b: Value
    bias: Value | None
    c: Value
    space: Value
    packed: bool = False
    onto: bool = False

    @property
    def is_single(self) -> bool:
        """True when the whole depth is one part: sums need not be stored in between."""
        return self.shape.k <= DEPTH

    @property
    def step(self) -> int:
        """Floats between two rows of B as the tiles read them."""
        return PANEL if self.packed or self.shape.packs_b else self.shape.n

    def right(self, column: Index, k: Index, depth: int) -> Value:
        """Rows k.. of a panel of B, brought there if need be."""
        e, shape = self.e, self.shape
        if self.packed:
            return e.at(self.b, e.times(column, shape.k), e.times(k, PANEL))
        if not shape.packs_b:
            return e.at(self.b, e.times(k, shape.n), column)
        width = PANEL if not isinstance(column, int) else shape.n - column
        if shape.turned_b:
            pack_rows(
                e, e.at(self.b, e.times(column, shape.k), k), shape.k, self.space, depth, width
            )
        else:
            pack_columns(
                e, e.at(self.b, e.times(k, shape.n), column), shape.n, self.space, depth, width
            )
        return self.space


def product_into(
    e: Emit, shape: Product, a: Value, b: Value, bias: Value | None, c: Value, space: Value
) -> None:
    """One product; `space` is the workspace."""
    rest = e.at(space, shape.block * shape.k) if shape.moves_a else space
    _write(Multiplication(e, shape, a, b, bias, c, rest), space)


def multiply(e: Emit, shape: Product, a: Value, panels: Value, c: Value, onto: bool) -> None:
    """A product with B in panels; `onto` adds it to what C holds."""
    _write(Multiplication(e, shape, a, panels, None, c, panels, packed=True, onto=onto), panels)


def _write(p: Multiplication, space: Value) -> None:
    """Blocks of rows, panels of B, parts of the depth, tiles of rows."""
    e, shape = p.e, p.shape
    if not p.is_single and not p.onto:
        _start(p)
    for start, height, end in runs_of(even_parts(shape.m, ROWS)):
        rows = max(1, shape.block // height) * height
        if shape.moves_a:
            _turned_blocks(p, start, end, rows, height, space)
        elif end - start > rows:
            e.loop(
                start,
                end,
                lambda i, h=height, n=rows, end=end: _panels(p, i, e.smaller(e.plus(i, n), end), h),
                step=rows,
            )
        else:
            _panels(p, start, end, height)


def _turned_blocks(
    p: Multiplication, start: int, end: int, rows: int, height: int, space: Value
) -> None:
    """Blocks of rows that are columns of the stored A: they are turned in the workspace."""
    e, shape = p.e, p.shape

    def block(first: Index, count: int) -> None:
        write_transpose(e, e.at(p.a, first), shape.m, space, shape.k, shape.k, count)
        moved = e.at(space, e.times(e.times(first, -1), shape.k))  # so that rows keep their numbers
        _panels(p._replace(a=moved), first, e.plus(first, count), height)

    full = (end - start) // rows * rows
    if full:
        e.loop(start, start + full, lambda i: block(i, rows), step=rows)
    if start + full < end:
        block(start + full, end - start - full)


def _start(p: Multiplication) -> None:
    e, shape = p.e, p.shape

    def cells(column: Index, lanes: int) -> None:
        value = e.zero if p.bias is None else e.load(p.bias, column, lanes)
        e.loop(
            0, shape.m, lambda i: e.store(value, p.c, e.plus(e.times(i, shape.n), column), lanes)
        )

    e.columns(shape.n, cells)


def _panels(p: Multiplication, first: Index, last: Index, height: int) -> None:
    e, shape = p.e, p.shape

    def panel(column: Index, lanes: Sequence[int]) -> None:
        kept = [n for n in lanes if n]

        def part(k: Index, depth: int) -> None:
            right = p.right(column, k, depth)

            def rows(i: Index) -> None:
                left = e.at(p.a, e.times(i, shape.a_steps[0]), e.times(k, shape.a_steps[1]))
                _tile(p, left, right, e.plus(e.times(i, shape.n), column), column, depth, height,
                      kept)  # fmt: skip

            e.loop(first, last, rows, step=height)

        for start, depth, end in runs_of(even_parts(shape.k, DEPTH)):
            if end - start > depth:
                e.loop(start, end, lambda k, depth=depth: part(k, depth), step=depth)
            else:
                part(start, depth)

    each_panel(e, shape.n, panel)


def _tile(
    p: Multiplication,
    left: Value,
    right: Value,
    target: Index,
    column: Index,
    depth: int,
    height: int,
    lanes: Sequence[int],
) -> None:
    e, shape, place = p.e, p.shape, p.e.at(p.c, target)
    cells = [(r * shape.n + j * LANES, n) for r in range(height) for j, n in enumerate(lanes)]
    if p.onto or not p.is_single:
        sums = [e.load(place, offset, n) for offset, n in cells]
    elif p.bias is not None:
        first = e.at(p.bias, column)
        sums = [e.load(first, j * LANES, n) for j, n in enumerate(lanes)] * height
    else:
        sums = [e.zero] * len(cells)
    starts = [r * shape.a_steps[0] for r in range(height)]
    read = [
        LANES if p.packed or shape.packs_b else n for n in lanes
    ]  # panels are filled up with zeros
    sums = tile(e, left, starts, shape.a_steps[1], right, p.step, depth, sums, read)
    for value, (offset, n) in zip(sums, cells, strict=True):
        e.store(value, place, offset, n)
