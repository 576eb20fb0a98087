"""Kernels on other memory than they were written for: float16, turned weights, a bias afterwards.

An adapted kernel copies its inputs as the inner kernel wants them, lets that write its code
between, and copies the results back. Copies lie before the inner kernel's workspace.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any, TypeAlias

from raysym.kernels.emit import Emit, Index, Value
from raysym.kernels.moving import write_transpose
from raysym.kernels.shared import first_only, meet, own_floats, shared_columns, shared_nest
from raysym.kernels.specs import MAKERS, SHARED, shared_maker
from raysym.kernels.typed import load, store

# By argument of the inner kernel: what differs, () for nothing.
Half: TypeAlias = Sequence[int]  # (numbers,) of float16
Turn: TypeAlias = Sequence[int]  # (count, rows, columns): so many matrices, transposed
Copy: TypeAlias = Callable[[Emit, Sequence[int], Value, Value], None]


def copy_floats(change: Sequence[int]) -> int:
    """Workspace of an argument's copy, in floats."""
    return own_floats(math.prod(change)) if change else 0


# ----- makers


@shared_maker
def halves(
    e: Emit, inner: tuple[Any, ...], n_reads: int, changes: Sequence[Half], draws: bool = False
) -> None:
    """Arguments: those of the inner kernel; the key of a random stream as well if it `draws`."""
    _between(e, inner, n_reads, changes, (_widen, _narrow), draws)


@shared_maker
def turns(e: Emit, inner: tuple[Any, ...], n_reads: int, changes: Sequence[Turn]) -> None:
    """Arguments: those of the inner kernel."""
    _between(e, inner, n_reads, changes, (_turn, _turn_back))


@shared_maker
def shifts(e: Emit, inner: tuple[Any, ...], n_reads: int, rows: int, channels: int) -> None:
    """Arguments: inputs, bias, the result ``(rows, channels)``, workspace."""
    bias, result = e.arg(n_reads), e.arg(n_reads + 1)
    _write(e, inner, [*map(e.arg, range(n_reads)), result, e.arg(n_reads + 2)])
    meet(e)

    def row(r: Index) -> None:
        place = e.at(result, e.times(r, channels))

        def some(c: Index, n: int) -> None:
            e.store(e.b.fadd(e.load(place, c, n), e.load(bias, c, n)), place, c, n)

        e.columns(channels, some)

    shared_nest(e, (rows,), row)


def _between(
    e: Emit, inner: tuple[Any, ...], n_reads: int, changes: Sequence[Sequence[int]],
    copies: tuple[Copy, Copy], draws: bool = False,
) -> None:  # fmt: skip
    """Copies there, the inner kernel, copies back."""
    key = [e.arg(len(changes) + 1)] if draws else []
    outer, space = [e.arg(i) for i in range(len(changes))], e.arg(len(changes))
    given = []
    for pointer, change in zip(outer, changes, strict=True):
        given.append(space if change else pointer)
        space = e.at(space, copy_floats(change))
    rows = list(zip(changes, outer, given, strict=True))
    for change, there, here in rows[:n_reads]:
        if change:
            copies[0](e, change, there, here)
    meet(e)
    _write(e, inner, [*given, space, *key])
    meet(e)
    for change, there, here in rows[n_reads:]:
        if change:
            copies[1](e, change, here, there)


def _write(e: Emit, inner: tuple[Any, ...], arguments: list[Value]) -> None:
    """The inner kernel with arguments of its own."""
    maker, args = inner
    before, e.bound = e.bound, arguments
    with nullcontext() if maker in SHARED else first_only(e):
        MAKERS[maker](e, *args)
    e.bound = before


def _widen(e: Emit, change: Half, source: Value, target: Value) -> None:
    shared_columns(e, change[0], lambda i, n: e.store(
        load(e, "float16", source, i, 1, n), target, i, n))  # fmt: skip


def _narrow(e: Emit, change: Half, source: Value, target: Value) -> None:
    shared_columns(e, change[0], lambda i, n: store(
        e, "float16", e.load(source, i, n), target, i, 1, n))  # fmt: skip


def _turn(e: Emit, change: Turn, source: Value, target: Value) -> None:
    count, rows, columns = change

    def matrix(i: Index) -> None:
        at = e.times(i, rows * columns)
        write_transpose(e, e.at(source, at), columns, e.at(target, at), rows, rows, columns)

    shared_nest(e, (count,), matrix, inner=True)


def _turn_back(e: Emit, change: Turn, source: Value, target: Value) -> None:
    count, rows, columns = change
    _turn(e, (count, columns, rows), source, target)
