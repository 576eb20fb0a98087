"""Folds: reductions of what a stage evaluates, along any axes.

Those along the innermost axis keep four running vectors, all others one for each group of columns;
their order depends on the shapes alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from raysym.kernels.emit import LANES, Emit, Index, Value, lanes_of
from raysym.kernels.llvm import ir
from raysym.kernels.reduce import columns_at_once
from raysym.kernels.shared import first_only, parts_here, shared, shared_nest
from raysym.kernels.typed import constant, register_type, store
from raysym.kernels.vector_ops import compute, neutral
from raysym.kernels.walks import Walk, ask, evaluate

_WAYS = 4  # running vectors of a fold along a row


def fold(e: Emit, walk: Walk) -> None:
    """Reduce what a stage evaluates."""
    (steps,) = walk.targets
    kept = [i for i, step in enumerate(steps) if step]
    if steps[-1]:
        _fold_columns(e, walk, kept[:-1])
    else:
        _fold_rows(e, walk, kept)


def _combine(e: Emit, walk: Walk, x: Value, y: Value) -> Value:
    dtype = walk.stage.targets[0].dtype
    # float16 sums are float32 ones: pages ask for that dtype themselves.
    return compute(e, walk.stage.fold, dtype, dtype, (x, y))


def _start(e: Emit, walk: Walk) -> Value:
    dtype = walk.stage.targets[0].dtype
    return constant(e, register_type(dtype), neutral(walk.stage.fold, dtype))


def _loops(
    e: Emit, walk: Walk, kept: Sequence[int], at: Sequence[Index], body: Any, start: list[Value]
) -> list[Value]:
    """Loops over the reduced axes but a last one; `body` gets all indices and what is carried."""
    index: list[Index] = [0] * (len(walk.sizes) - 1)
    for axis, i in zip(kept, at, strict=True):
        index[axis] = i
    reduced = [i for i in range(len(walk.sizes) - 1) if i not in kept]

    def level(depth: int, carried: Sequence[Value]) -> list[Value]:
        if depth == len(reduced):
            made: list[Value] = body(list(index), list(carried))
            return made

        def turn(i: Index, *inside: Value) -> list[Value]:
            index[reduced[depth]] = i
            return level(depth + 1, inside)

        return e.loop(0, walk.sizes[reduced[depth]], turn, carried)

    return level(0, start)


def _fold_rows(e: Emit, walk: Walk, kept: Sequence[int]) -> None:
    count, (target,), (steps,) = walk.sizes[-1], walk.stage.targets, walk.targets
    start = _start(e, walk)
    full = count // (_WAYS * LANES) * _WAYS * LANES

    def rest(index: Sequence[Index], column: Index, lanes: int) -> Value:
        value = evaluate(e, walk, index, [column], lanes)[0][target.result]
        if lanes == LANES:
            return value
        mask = ir.Constant(ir.VectorType(ir.IntType(1), LANES), [i < lanes for i in range(LANES)])
        return e.b.select(mask, value, start)

    def row(index: Sequence[Index], carried: list[Value]) -> list[Value]:
        def step(i: Index, *inside: Value) -> list[Value]:
            columns = [e.plus(i, j * LANES) for j in range(_WAYS)]
            terms = [values[target.result] for values in evaluate(e, walk, index, columns, LANES)]
            return [_combine(e, walk, x, y) for x, y in zip(inside, terms, strict=True)]

        if full:
            carried = e.loop(0, full, step, carried, step=_WAYS * LANES)
        for j, lanes in enumerate(lanes_of(count - full)):
            carried[j] = _combine(e, walk, carried[j], rest(index, full + j * LANES, lanes))
        return carried

    def cell(*at: Index) -> None:
        a, b, c, d = _loops(e, walk, kept, at, row, [start] * _WAYS)
        whole = _combine(e, walk, _combine(e, walk, a, b), _combine(e, walk, c, d))
        for apart in (8, 4, 2, 1):
            moved = e.shuffle(whole, whole, [(lane + apart) % LANES for lane in range(LANES)])
            whole = _combine(e, walk, whole, moved)
        place_of = e.plus(target.offset, *(
            e.times(i, steps[axis]) for i, axis in zip(at, kept, strict=True)
        ))  # fmt: skip
        store(e, target.dtype, whole, walk.pointers[target.buffer], place_of, 1, 1)

    shared_nest(e, [walk.sizes[i] for i in kept], cell)


def _fold_columns(e: Emit, walk: Walk, kept: Sequence[int]) -> None:
    (target,), (steps,) = walk.stage.targets, walk.targets
    start = _start(e, walk)
    inner = max((i for i in range(len(walk.sizes) - 1) if i not in kept), default=None)

    def block(at: Sequence[Index], column: Index, lanes: Sequence[int]) -> None:
        def row(index: Sequence[Index], carried: list[Value]) -> list[Value]:
            columns = [e.plus(column, j * LANES) for j in range(len(lanes))]
            if inner is not None:
                ask(e, walk, index, inner, columns)
            full = sum(n == LANES for n in lanes)  # a shorter one may follow
            values = evaluate(e, walk, index, columns[:full], LANES)
            values += evaluate(e, walk, index, columns[full:], lanes[-1])
            made = [each[target.result] for each in values]
            return [_combine(e, walk, x, y) for x, y in zip(carried, made, strict=True)]

        sums = _loops(e, walk, kept, at, row, [start] * len(lanes))
        first = e.plus(target.offset, *(
            e.times(i, steps[axis]) for i, axis in zip(at, kept, strict=True)
        ), e.times(column, steps[-1]))  # fmt: skip
        for j, (n, value) in enumerate(zip(lanes, sums, strict=True)):
            where = e.plus(first, j * LANES * steps[-1])
            store(e, target.dtype, value, walk.pointers[target.buffer], where, steps[-1], n)

    def row_of(*at: Index) -> None:
        wide = columns_at_once(walk.sizes[-1], parts_here(e))
        full = walk.sizes[-1] // wide * wide
        if full:
            shared(e, full // wide, lambda c: block(at, c, [LANES] * (wide // LANES)), step=wide)
        if walk.sizes[-1] - full:
            with first_only(e):
                block(at, full, lanes_of(walk.sizes[-1] - full))

    shared_nest(e, [walk.sizes[i] for i in kept], row_of, inner=True)
