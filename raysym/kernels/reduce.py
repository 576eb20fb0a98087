"""Sums along an axis, and the loops over rows and columns that statistics share.

Sums over rows keep one running vector for each group of columns; sums along a row keep four, so
that additions do not wait for each other. Their order depends on the shape alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from raysym.kernels.emit import LANES, Emit, Index, Value, lanes_of
from raysym.kernels.shared import first_only, parts_here, shared, shared_nest, unevenness
from raysym.kernels.specs import shared_maker

_WIDE = 4 * LANES  # columns that are summed in one pass over the rows


@shared_maker
def sum_axis(e: Emit, lead: int, count: int, rest: int, mean: bool) -> None:
    """``(lead, count, rest) -> (lead, rest)``; arguments: data, result."""
    source, target = e.arg(0), e.arg(1)
    scale = 1.0 / count if mean else 1.0
    if rest > 1:
        shared_nest(
            e, (lead,), lambda i: _columns(e, source, target, i, count, rest, scale), inner=True
        )
        return

    def row(i: Index) -> None:
        total = sum_along(e, e.at(source, e.times(i, count)), count, lambda x: x)
        scaled = e.b.fmul(total, e.scalar(scale)) if mean else total
        e.store1(scaled, target, i)

    shared_nest(e, (lead,), row)


def _columns(
    e: Emit, source: Value, target: Value, i: Index, count: int, rest: int, scale: float
) -> None:
    block, place = e.at(source, e.times(i, count * rest)), e.at(target, e.times(i, rest))

    def finish(column: Index, lanes: Sequence[int], sums: Sequence[Value]) -> None:
        for j, (n, value) in enumerate(zip(lanes, sums, strict=True)):
            made = value if scale == 1.0 else e.b.fmul(value, e.number(scale))
            e.store(made, place, e.plus(column, j * LANES), n)

    def terms(row: Index, column: Index, n: int) -> list[Value]:
        return [e.load(block, e.plus(e.times(row, rest), column), n)]

    sum_rows(e, count, rest, 1, terms, finish)


def sum_rows(
    e: Emit,
    rows: int,
    columns: int,
    kinds: int,
    terms: Callable[[Index, Index, int], Sequence[Value]],
    finish: Callable[[Index, Sequence[int], Sequence[Value]], None],
) -> None:
    """Sums of `kinds` terms over all rows, a few columns at a time.

    ``terms(row, column, lanes)`` gives the vectors to add; ``finish(column, lanes, sums)`` gets,
    kind after kind, the sums of neighbouring vectors.
    """

    def block(column: Index, lanes: Sequence[int]) -> None:
        def row(r: Index, *sums: Value) -> list[Value]:
            made = list(sums)
            for j, n in enumerate(lanes):
                for kind, value in enumerate(terms(r, e.plus(column, j * LANES), n)):
                    at = kind * len(lanes) + j
                    made[at] = e.b.fadd(made[at], value)
            return made

        finish(column, lanes, e.loop(0, rows, row, [e.zero] * (kinds * len(lanes))))

    wide = _width(columns, parts_here(e))
    full = columns // wide * wide
    if full:
        shared(e, full // wide, lambda c: block(c, [LANES] * (wide // LANES)), step=wide)
    if columns - full:
        with first_only(e):
            block(full, lanes_of(columns - full))


def _width(columns: int, parts: int) -> int:
    """Columns of one pass: fewer where that gives more threads a share."""
    widths = [w for w in (_WIDE, 2 * LANES, LANES) if w <= columns] if parts > 1 else []
    return min(widths or [_WIDE], key=lambda w: unevenness(max(1, columns // w), parts))


def sum_along(e: Emit, row: Value, count: int, term: Callable[[Value], Value]) -> Value:
    """The sum of ``term(x)`` over `count` floats in a row, as a float.

    `term` must give 0 for the zeros behind the end; see `fold_along` for what does not.
    """
    return e.sum_lanes(fold_along(e, count, e.zero, lambda i, n: term(e.load(row, i, n)), e.b.fadd))


def fold_along(
    e: Emit,
    count: int,
    start: Value,
    term: Callable[[Index, int], Value],
    combine: Callable[[Value, Value], Value],
) -> Value:
    """The vector that is left of ``term(column, lanes)`` over `count` columns."""
    sums = [start] * 4
    full = count // _WIDE * _WIDE

    def step(i: Index, *sums: Value) -> list[Value]:
        return [combine(s, term(e.plus(i, j * LANES), LANES)) for j, s in enumerate(sums)]

    if full:
        sums = e.loop(0, full, step, sums, step=_WIDE)
    for j, n in enumerate(lanes_of(count - full)):
        sums[j] = combine(sums[j], term(full + j * LANES, n))
    return combine(combine(sums[0], sums[1]), combine(sums[2], sums[3]))
