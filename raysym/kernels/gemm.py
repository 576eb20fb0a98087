"""Matrix products: one register-tiled micro-kernel (micro.py), specialised per shape.

A tile of up to 14 rows and 32 columns stays in registers while products are added; blocks of rows
stay in the second cache while all columns pass. Right sides that lie badly are packed into panels
of 32 columns, transposed left sides that many panels read into strips of one tile's rows; what the
next panel or tile reads is asked for meanwhile. The order of additions depends on the shape alone.
Source: Goto and van de Geijn, Anatomy of high-performance matrix multiplication (2008).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

from raysym.kernels.emit import LANES, Emit, Index, Value, even_parts
from raysym.kernels.epilogue import ALONE, Results, Tail, are_at
from raysym.kernels.micro import UNROLL, nothing, prefetch_rows, register_groups, tile
from raysym.kernels.moving import PANEL, each_panel, pack_columns, pack_rows
from raysym.kernels.product import ROWS, STRIP, Product, row_groups
from raysym.kernels.shared import own, parts_here, shared, shared_nest
from raysym.kernels.specs import shared_maker


@shared_maker
def gemm(e: Emit, fields: tuple[Any, ...], tail: Tail = ALONE) -> None:
    """Arguments: A, B, [bias,] those of the tail with C, [workspace]."""
    shape = Product(*fields)
    a, b, bias = e.arg(0), e.arg(1), e.arg(2) if shape.bias else None
    c = Results.of(e, 2 + shape.bias, tail)
    given = e.arg(2 + shape.bias + c.count) if shape.workspace() else a
    products_into(e, shape, a, b, bias, c, own(e, given, shape.workspace()))


def products_into(
    e: Emit, shape: Product, a: Value, b: Value, bias: Value | None, c: Results, space: Value
) -> None:
    """All products of a shape, one behind the other; `space` is this thread's workspace."""

    def one(i: Index) -> None:
        left, right = e.at(a, e.times(i, shape.m * shape.k)), e.at(b, e.times(i, shape.k * shape.n))
        _product(e, shape, left, right, bias, c.moved(e.times(i, shape.m * shape.n)), space)

    shared_nest(e, (shape.repeats,), one, inner=True)


class Part(NamedTuple):
    """Part of the depth of a product: where it begins, and its size.

    ``starts``: C holds nothing yet; ``ends``: nothing is added afterwards, a truth or an IR truth.
    """

    k: Index
    depth: int
    starts: bool
    ends: Value


class Rows(NamedTuple):
    """Tiles of one height: those from `first` to `end` of a run that begins at row `start`."""

    start: int
    height: int
    first: Index
    end: Index


class Block(NamedTuple):
    """Rows that stay near while all panels of B pass; `packs`: that is when B is packed.

    `packs` is an IR truth where a loop runs over blocks, and only the first of them packs.
    """

    rows: Sequence[Rows]
    packs: Value

    def counted(self) -> list[tuple[Rows, int]]:
        """The tiles of each height with the number of tiles before them."""
        before = [sum(rows.end for rows in self.rows[:i]) for i in range(len(self.rows))]
        return list(zip(self.rows, before, strict=True))


class Multiplication(NamedTuple):
    """A product while it is written.

    Sums gather in the first array of what is kept of C. ``packed``: B lies in panels of the whole
    depth already. ``onto``: added to what C holds.
    """

    e: Emit
    shape: Product
    a: Value
    b: Value
    bias: Value | None
    c: Results
    space: Value
    packed: bool = False
    onto: bool = False

    @property
    def reads_panels(self) -> bool:
        """True when tiles read B from panels, which are filled up with zeros."""
        return self.packed or self.shape.packs_b

    def source(self, part: Part, column: Index) -> tuple[Value, int]:
        """Where columns of B come from, and the floats between two rows of the stored B."""
        e, shape = self.e, self.shape
        if shape.turned_b:
            return e.at(self.b, e.times(column, shape.k), part.k), shape.k
        return e.at(self.b, e.times(part.k, shape.n), column), shape.n

    def right(self, part: Part, column: Index) -> Value:
        """Where tiles read a panel of B."""
        e, shape = self.e, self.shape
        if self.packed:
            return e.at(self.b, e.times(column, shape.k), e.times(part.k, PANEL))
        if not shape.packs_b:
            return self.source(part, column)[0]
        return self.space if shape.is_one_block else e.at(self.space, e.times(column, part.depth))

    def pack(self, part: Part, column: Index, width: int) -> None:
        """Columns of B into their panel."""
        source, step = self.source(part, column)
        pack = pack_rows if self.shape.turned_b else pack_columns
        pack(self.e, source, step, self.right(part, column), part.depth, width)

    def following(self, part: Part, block: Block, column: Index) -> tuple[Value, Index] | None:
        """What the panel after this one will be read from, and the step between two lines pairs."""
        e, shape = self.e, self.shape
        if self.packed or shape.n <= PANEL:
            return None
        source, step = self.source(part, e.plus(column, PANEL))
        step = PANEL if shape.turned_b else step  # rows of the stored B follow each other
        if block.packs is True or not shape.packs_b:
            return source, step
        panel = self.right(part, e.plus(column, PANEL))
        if block.packs is False:
            return panel, PANEL
        b = e.b
        return b.select(block.packs, source, panel), b.select(
            block.packs, e.const(step), e.const(PANEL)
        )


def product_into(
    e: Emit,
    shape: Product,
    a: Value,
    b: Value,
    bias: Value | None,
    c: Value,
    space: Value,
    onto: bool = False,
) -> None:
    """One product, shared by rows or columns; `space` is this thread's workspace.

    `onto` adds it to what C holds.
    """
    _product(e, shape, a, b, bias, Results.plain(e, c), space, onto)


def _product(
    e: Emit, shape: Product, a: Value, b: Value, bias: Value | None, c: Results, space: Value,
    onto: bool = False,
) -> None:  # fmt: skip
    groups = row_groups(shape, parts_here(e))
    part = shape._replace(m=shape.m // groups)

    def rows(i: Index) -> None:
        left, made = e.at(a, e.times(i, part.m * shape.k)), c.moved(e.times(i, part.m * shape.n))
        _write(Multiplication(e, part, left, b, bias, made, space, onto=onto))

    if groups > 1:
        shared(e, groups, rows)
    else:
        rows(0)


def multiply(
    e: Emit,
    shape: Product,
    a: Value,
    panels: Value,
    c: Value,
    onto: bool,
    bias: Value | None = None,
) -> None:
    """A product with B in panels; `onto` adds it to what C holds, `bias` to every row."""
    made = Results.plain(e, c)
    _write(Multiplication(e, shape, a, panels, bias, made, panels, packed=True, onto=onto))


def _write(p: Multiplication) -> None:
    """All parts of the depth: the first, equal ones, a shorter last."""
    size, depth = p.shape.k, p.shape.depth
    full = size // depth * depth

    def equal(k: Index) -> None:
        ends = p.c.goes_on and are_at(p.e, (k, size - depth))
        _part(p, Part(k, depth, False, ends))

    _part(p, Part(0, depth, not p.onto, size == depth))
    if full > depth:
        p.e.loop(depth, full, equal, step=depth)
    if full < size:
        _part(p, Part(full, size - full, False, True))


def _part(p: Multiplication, part: Part) -> None:
    """Blocks of rows: all at once, or as many tiles of one height as fit."""
    e, shape = p.e, p.shape
    runs = [Rows(start, height, 0, count) for start, height, count in shape.runs]
    if shape.is_one_block:
        _block(p, part, Block(runs, True))
        return
    for run in runs:
        step = even_parts(run.end, shape.block)[0]

        def some(first: Index, run: Rows = run, step: int = step) -> None:
            rows = run._replace(first=first, end=e.smaller(e.plus(first, step), run.end))
            begins = isinstance(first, int) or e.b.icmp_signed("==", first, e.const(0))
            _block(p, part, Block([rows], run.start == 0 and begins))

        if step == run.end:
            some(0)
        else:
            e.loop(0, run.end, some, step=step)


def _block(p: Multiplication, part: Part, block: Block) -> None:
    e, shape = p.e, p.shape
    if shape.strips_a:
        _pack_strips(p, part, block)

    def panel(column: Index, lanes: Sequence[int]) -> None:
        kept = [n for n in lanes if n]
        if shape.packs_b and not p.packed and block.packs is not False:
            with nullcontext() if block.packs is True else e.b.if_then(block.packs):
                p.pack(part, column, sum(kept))
        following = p.following(part, block, column)
        for rows, before in block.counted():

            def one(t: Index, rows: Rows = rows, before: int = before) -> None:
                number = e.plus(t, e.times(rows.first, -1), before)
                row = e.plus(e.times(t, rows.height), rows.start)
                left = _left(p, part, row, number)
                ahead = _ahead(p, part, number, following)
                for skipped, group in register_groups(e, kept):
                    _tile(p, part, left, (row, column), skipped, rows.height, group, ahead)

            e.loop(rows.first, rows.end, one)

    each_panel(e, shape.n, panel)


def _ahead(
    p: Multiplication, part: Part, number: Index, following: tuple[Value, Index] | None
) -> Callable[[Index], None]:
    """Each tile of a block asks for its share of the panel that comes next."""
    e, shape = p.e, p.shape
    tiles = min(-(-shape.m // ROWS), shape.block)
    if following is None or tiles < UNROLL:  # too few to reach all lines
        return nothing
    start, step = following

    def ahead(k: Index) -> None:
        line = e.share(e.plus(e.times(number, part.depth), k), tiles)
        place = e.at(start, e.product(line, step))
        for j in range(PANEL // LANES):
            e.prefetch(place, j * LANES)

    return ahead


class Left(NamedTuple):
    """Where a tile's rows of A lie, and the floats between two rows and two columns."""

    at: Value
    row_step: int
    step: int


def _left(p: Multiplication, part: Part, row: Index, number: Index) -> Left:
    e, shape = p.e, p.shape
    if shape.strips_a:
        strips = e.at(p.space, shape.panels)
        return Left(e.at(strips, e.times(number, shape.strip)), 1, STRIP)
    row_step, step = shape.a_steps
    return Left(e.at(p.a, e.times(row, row_step), e.times(part.k, step)), row_step, step)


def _next_left(p: Multiplication, left: Left, height: int, k: Index) -> None:
    """Ask for what this tile of the next product reads of a transposed A, or a tile after this."""
    ahead = p.shape.m * p.shape.k if p.shape.repeats > 1 else 2 * height
    for u in range(UNROLL):
        p.e.prefetch(left.at, p.e.plus(p.e.times(k, left.step), u * left.step + ahead), near=2)


def _pack_strips(p: Multiplication, part: Part, block: Block) -> None:
    """Rows of the stored A, cut where tiles begin: every piece takes a line of its tile's strip."""
    e, shape = p.e, p.shape
    strips = e.at(p.space, shape.panels)

    def line(k: Index) -> None:
        source, target = (
            e.at(p.a, e.times(e.plus(k, part.k), shape.m)),
            e.at(strips, e.times(k, STRIP)),
        )
        for rows, before in block.counted():

            def piece(t: Index, rows: Rows = rows, before: int = before) -> None:
                value = e.load(source, e.plus(e.times(t, rows.height), rows.start), rows.height)
                number = e.plus(t, e.times(rows.first, -1), before)
                e.store(value, target, e.times(number, shape.strip))

            e.loop(rows.first, rows.end, piece)

    e.loop(0, part.depth, line)


def _tile(
    p: Multiplication,
    part: Part,
    left: Left,
    corner: tuple[Index, Index],
    skipped: int,
    height: int,
    lanes: Sequence[int],
    ahead: Callable[[Index], None],
) -> None:
    """Rows by some vectors of a panel that begins at the corner, after `skipped` columns."""
    e, n, (row, column) = p.e, p.shape.n, corner
    place = e.at(p.c.first, e.times(row, n), column, skipped)
    cells = [(r * n + j * LANES, count) for r in range(height) for j, count in enumerate(lanes)]
    if not part.starts:
        sums = [e.load(place, offset, count) for offset, count in cells]
    elif p.bias is not None:
        first = e.at(p.bias, column, skipped)
        sums = [e.load(first, j * LANES, count) for j, count in enumerate(lanes)] * height
    else:
        sums = [e.zero] * len(cells)
    right, step = e.at(p.right(part, column), skipped), PANEL if p.reads_panels else n
    read = [LANES if p.reads_panels else count for count in lanes]
    starts = [r * left.row_step for r in range(height)]
    lines = [place if part.starts else e.at(place, height * n)]  # sums were loaded: on to the next
    if part.ends is not False:
        lines += p.c.moved(e.plus(e.times(row, n), column, skipped)).places[1:]

    def both(k: Index) -> None:
        ahead(k)
        if p.shape.turned_a and not p.shape.strips_a:
            _next_left(p, left, height, k)
        for line in lines:
            prefetch_rows(e, line, n, height, len(lanes), k, part.depth)

    sums = tile(e, left.at, starts, left.step, right, step, part.depth, sums, read, both)
    made = p.c.moved(e.plus(e.times(row, n), column, skipped), e.plus(column, skipped))
    made.finish(lambda: part.ends, sums, cells, [offset % n for offset, _ in cells])
