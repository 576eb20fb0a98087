"""Kernels of multi-head attention on interleaved projections ``(time, batch, heads, parts, d)``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from raysym.kernels.emit import LANES, Emit, Index, Value, even_parts, runs_of
from raysym.kernels.epilogue import ALONE, Results, Tail
from raysym.kernels.micro import prefetch_rows, register_groups, tile
from raysym.kernels.moving import PANEL, each_panel, pack_columns, pack_rows
from raysym.kernels.product import ROWS
from raysym.kernels.shared import own, shared_nest
from raysym.kernels.specs import shared_maker


class Heads(NamedTuple):
    """Sizes of one array of projections."""

    time: int
    batch: int
    heads: int
    parts: int
    depth: int

    @property
    def row(self) -> int:
        """Floats between two times."""
        return self.batch * self.heads * self.parts * self.depth

    def key_floats(self) -> int:
        """Size of one head's packed keys."""
        return -(-self.time // PANEL) * PANEL * self.depth

    def value_floats(self) -> int:
        """Size of one head's packed values."""
        return -(-self.depth // PANEL) * PANEL * self.time

    def start(self, e: Emit, i: Index, part: int) -> Index:
        """Where a kind of projections of the i-th (batch, head) starts."""
        return e.plus(e.times(i, self.parts * self.depth), part * self.depth)


def _product(
    e: Emit,
    sizes: tuple[int, int, int],
    a: tuple[Value, int],
    panels: Value,
    c: tuple[Value, int],
    scale: float,
) -> None:
    """``C = scale A B``: A and C by pointer and row step, B in panels."""
    m, n, k = sizes

    def panel(column: Index, lanes: list[int]) -> None:
        kept = [count for count in lanes if count]
        for skipped, group in register_groups(e, kept):
            vectors(e.plus(column, skipped), group, e.at(panels, e.times(column, k), skipped))

    def vectors(column: Index, kept: Sequence[int], right: Value) -> None:
        def rows(i: Index, height: int) -> None:
            left, place = e.at(a[0], e.times(i, a[1])), e.at(c[0], e.times(i, c[1]), column)
            starts = [r * a[1] for r in range(height)]
            sums = [e.zero] * (height * len(kept))

            def ahead(at: Index) -> None:
                prefetch_rows(e, place, c[1], height, len(kept), at, k)

            sums = tile(e, left, starts, 1, right, PANEL, k, sums, [LANES] * len(kept), ahead)
            for at, value in enumerate(sums):
                r, j = divmod(at, len(kept))
                made = value if scale == 1.0 else e.b.fmul(value, e.number(scale))
                e.store(made, place, r * c[1] + j * LANES, kept[j])

        for start, height, end in runs_of(even_parts(m, ROWS)):
            e.loop(start, end, lambda i, height=height: rows(i, height), step=height)

    each_panel(e, n, panel)


@shared_maker
def attention_scores(e: Emit, fields: tuple[int, ...], scale: float) -> None:
    """Queries times keys; arguments: projections, result ``(batch heads, time, time)``, space."""
    h = Heads(*fields)
    data, scores, space = (e.arg(i) for i in range(3))
    panels = own(e, space, h.key_floats())

    def one(i: Index) -> None:
        queries, keys = e.at(data, h.start(e, i, 0)), e.at(data, h.start(e, i, 1))
        pack_rows(e, keys, h.row, panels, h.depth, h.time)
        place = e.at(scores, e.times(i, h.time * h.time))
        _product(e, (h.time, h.time, h.depth), (queries, h.row), panels, (place, h.time), scale)

    shared_nest(e, (h.batch * h.heads,), one)


@shared_maker
def attention_values(e: Emit, fields: tuple[int, ...]) -> None:
    """Weights times values; arguments: projections, weights, result, space."""
    h = Heads(*fields)
    data, weights, result, space = (e.arg(i) for i in range(4))
    panels = own(e, space, h.value_floats())
    out = h.batch * h.heads * h.depth

    def one(i: Index) -> None:
        values = e.at(data, h.start(e, i, 2))
        pack_columns(e, values, h.row, panels, h.time, h.depth)
        left = e.at(weights, e.times(i, h.time * h.time))
        place = e.at(result, e.times(i, h.depth))
        _product(e, (h.time, h.depth, h.time), (left, h.time), panels, (place, out), 1.0)

    shared_nest(e, (h.batch * h.heads,), one)


@shared_maker
def interleave(e: Emit, fields: tuple[int, ...], tail: Tail = ALONE) -> None:
    """Arguments: every kind, those of the tail with the projections."""
    h = Heads(*fields)
    kinds, result = [e.arg(i) for i in range(h.parts)], Results.of(e, h.parts, tail)

    def one(i: Index, t: Index) -> None:
        at = e.times(e.plus(e.times(i, h.time), t), h.depth)
        for part, kind in enumerate(kinds):
            column = h.start(e, i, part)
            target = result.moved(e.plus(column, e.times(t, h.row)), column)
            _put_row(e, h.depth, e.at(kind, at), target)

    shared_nest(e, (h.batch * h.heads, h.time), one)


def _put_row(e: Emit, count: int, source: Value, target: Results) -> None:
    e.columns(count, lambda c, n: target.put(e.load(source, c, n), c, c, n))
