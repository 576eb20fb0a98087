"""The loops over rows and columns that statistics share.

Sums over rows keep one running vector for each group of columns; sums along a row keep four, so
that additions do not wait for each other. Their order depends on the shape alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from raysym.kernels.emit import LANES, Emit, Index, Value, lanes_of
from raysym.kernels.shared import first_only, parts_here, shared, unevenness

_WIDE = 4 * LANES  # columns that are summed in one pass over the rows


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

    wide = columns_at_once(columns, parts_here(e))
    full = columns // wide * wide
    if full:
        shared(e, full // wide, lambda c: block(c, [LANES] * (wide // LANES)), step=wide)
    if columns - full:
        with first_only(e):
            block(full, lanes_of(columns - full))


def columns_at_once(columns: int, parts: int) -> int:
    """Columns of one pass: fewer where that gives more threads a share."""
    widths = [w for w in (_WIDE, 2 * LANES, LANES) if w <= columns] if parts > 1 else []
    return min(widths or [_WIDE], key=lambda w: unevenness(max(1, columns // w), parts))


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
