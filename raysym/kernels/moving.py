"""Kernels that only move numbers: matrices transposed, images padded, weights packed in panels.

A panel is `PANEL` neighbouring columns of a matrix, stored row after row, zeros where the matrix
has ended: the order in which the micro-kernel reads.
"""

from __future__ import annotations

from contextlib import nullcontext

from raysym.kernels.emit import LANES, Emit, Index, Value
from raysym.kernels.shared import first_only, shared, shared_columns, shared_nest
from raysym.kernels.specs import shared_maker

PANEL = 2 * LANES


@shared_maker
def transpose(e: Emit, count: int, rows: int, columns: int) -> None:
    """`count` matrices ``(rows, columns)`` -> ``(columns, rows)``; arguments: data, result."""
    source, target = e.arg(0), e.arg(1)

    def matrix(i: Index) -> None:
        offset = e.times(i, rows * columns)
        write_transpose(e, e.at(source, offset), columns, e.at(target, offset), rows, rows, columns)

    shared_nest(e, (count,), matrix, inner=True)


def write_transpose(
    e: Emit, source: Value, source_step: int, target: Value, target_step: int, rows: int, cols: int
) -> None:
    """One matrix transposed, 16 by 16; steps lie between rows of source and target."""

    def tile(r: Index, c: Index, n_rows: int, n_cols: int) -> None:
        start = e.at(source, e.times(r, source_step), c)
        lines = [e.load(start, i * source_step, n_cols) for i in range(n_rows)]
        lines += [e.zero] * (LANES - n_rows)
        place = e.at(target, e.times(c, target_step), r)
        for i, line in enumerate(e.transposed(lines)[:n_cols]):
            e.store(line, place, i * target_step, n_rows)

    shared_columns(e, rows, lambda r, n: e.columns(cols, lambda c, m: tile(r, c, n, m)))


def pack_columns(e: Emit, source: Value, step: int, target: Value, depth: int, width: int) -> None:
    """Matrix ``(depth, width)`` with rows `step` apart -> panels of its columns."""

    def panel(start: Index, lanes: list[int]) -> None:
        place = e.at(target, e.times(start, depth))

        def line(k: Index) -> None:
            for j, n in enumerate(lanes):
                value = e.load(source, e.plus(e.times(k, step), start, j * LANES), n)
                e.store(value, place, e.plus(e.times(k, PANEL), j * LANES))

        e.loop(0, depth, line)

    each_panel(e, width, panel)


def pack_rows(e: Emit, source: Value, step: int, target: Value, depth: int, width: int) -> None:
    """Matrix ``(width, depth)`` with rows `step` apart -> panels of its rows."""

    def panel(start: Index, lanes: list[int]) -> None:
        first, place = e.at(source, e.times(start, step)), e.at(target, e.times(start, depth))
        for j, n in enumerate(lanes):
            rows = e.at(first, j * LANES * step)
            _pack_block(e, rows, step, e.at(place, j * LANES), depth, n)

    each_panel(e, width, panel)


def _pack_block(e: Emit, rows: Value, step: int, place: Value, depth: int, n: int) -> None:
    def tile(k: Index, m: int) -> None:
        lines = [e.load(rows, e.plus(k, i * step), m) for i in range(n)]
        made = e.transposed(lines + [e.zero] * (LANES - n))
        for i, line in enumerate(made[:m]):
            e.store(line, place, e.times(e.plus(k, i), PANEL))

    if n == 0:
        e.loop(0, depth, lambda k: e.store(e.zero, place, e.times(k, PANEL)))
    else:
        e.columns(depth, tile)


def each_panel(e: Emit, width: int, body: object, inner: bool = False) -> None:
    """``body(first column, lanes of both vectors)`` for every panel of a matrix; shared.

    ``inner``: `body` itself shares what it does.
    """
    run: Value = body
    full = width // PANEL * PANEL
    if full and inner:
        e.loop(0, full, lambda start: run(start, [LANES, LANES]), step=PANEL)
    elif full:
        shared(e, full // PANEL, lambda start: run(start, [LANES, LANES]), step=PANEL)
    if width - full:
        rest = width - full
        with nullcontext() if inner else first_only(e):
            run(full, [min(LANES, rest), max(0, rest - LANES)])


def fill(e: Emit, target: Value, count: int) -> None:
    """Write `count` zeros; shared."""
    shared_columns(e, count, lambda i, n: e.store(e.zero, target, i, n))


def copy(e: Emit, source: Value, target: Value, count: int) -> None:
    """Copy `count` floats; shared."""
    shared_columns(e, count, lambda i, n: e.store(e.load(source, i, n), target, i, n))


def pad_volumes(
    e: Emit,
    source: Value,
    target: Value,
    shape: tuple[int, int, int, int, int],
    before: tuple[int, int, int],
    padded: tuple[int, int, int],
) -> None:
    """Volumes ``(N, D, H, W, C)`` into the middle of zeros, ``(N, *padded, C)``."""
    n, d, h, w, c = shape
    (front, top, left), (deep, high, wide) = before, padded
    plane = high * wide * c

    def volume(i: Index) -> None:
        place = e.at(target, e.times(i, deep * plane))
        _fill_some(e, place, 0, front * plane)
        e.nest((d,), lambda p: image(e.plus(e.times(i, d), p),
                                     e.at(place, e.times(e.plus(p, front), plane))))  # fmt: skip
        _fill_some(e, place, (front + d) * plane, (deep - front - d) * plane)

    def image(i: Index, place: Value) -> None:
        _fill_some(e, place, 0, top * wide * c)
        e.nest((h,), lambda r: row(i, r, e.at(place, e.times(e.plus(r, top), wide * c))))
        _fill_some(e, place, (top + h) * wide * c, (high - top - h) * wide * c)

    def row(i: Index, r: Index, place: Value) -> None:
        _fill_some(e, place, 0, left * c)
        line = e.at(source, e.times(i, h * w * c), e.times(r, w * c))
        copy(e, line, e.at(place, left * c), w * c)
        _fill_some(e, place, (left + w) * c, (wide - left - w) * c)

    shared_nest(e, (n,), volume)


def _fill_some(e: Emit, place: Value, offset: int, count: int) -> None:
    if count:
        fill(e, e.at(place, offset), count)
