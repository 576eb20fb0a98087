"""Kernels of traced pages: loop nests that evaluate programs (walks.py) and store or fold them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from raysym.kernels.emit import Emit, Index, Value
from raysym.kernels.epilogue import Results
from raysym.kernels.expressions import IOTA, Stage, Target
from raysym.kernels.folds import fold
from raysym.kernels.gemm import products_into
from raysym.kernels.lazy_matrices import MATMUL, product_of
from raysym.kernels.lazy_random import DRAW
from raysym.kernels.llvm import ir
from raysym.kernels.moving import write_transpose
from raysym.kernels.philox import draw
from raysym.kernels.shared import meet, own_floats, shared_columns, shared_nest
from raysym.kernels.specs import shared_maker
from raysym.kernels.typed import constants_of, place, store
from raysym.kernels.walks import Head, Walk, evaluate, walk_of_stage


@shared_maker
def staged(
    e: Emit,
    n_outer: int,
    inner: tuple[int | bytes, ...],
    stages: tuple[Any, ...],
    nbytes: int = 0,
    head: tuple[Any, ...] = (),
) -> None:
    """Stages over buffers; arguments: `n_outer` of them, then `nbytes` of memory, if any.

    The key of a random stream comes last if a stage draws.
    `inner`: where each further buffer begins in that memory, in bytes, or the numbers in it.
    Arguments of a head (see walks.py) stand in place of the first buffer.
    """
    before = Head(*head) if head else None
    n_given = before.n_arguments if before else 0
    given = [e.arg(i) for i in range(n_given)]
    pointers = [None] * bool(head)
    pointers += [e.arg(n_given + i) for i in range(n_outer - len(pointers))]
    space = e.arg(n_given + n_outer - bool(head)) if nbytes else None
    for at in inner:
        pointers.append(constants_of(e, at) if isinstance(at, bytes) else _bytes_on(e, space, at))
    for shape, kind, targets, program in stages:
        stage = Stage(shape, kind, tuple(Target(*t) for t in targets), program)
        if kind == MATMUL:
            _multiply(e, pointers, stage, nbytes)
        elif kind == DRAW:
            (target,), key = stage.targets, e.arg(n_outer + (nbytes > 0))
            draw(e, target.dtype, pointers[target.buffer], key, *stage.shape)
        else:
            (fold if kind else _store)(e, walk_of_stage(pointers, stage, before, given))
        meet(e)
        before, given = None, []


def _bytes_on(e: Emit, pointer: Value, count: Index) -> Value:
    return e.b.gep(pointer, [e.const(count)], source_etype=ir.IntType(8))


def _multiply(e: Emit, pointers: Sequence[Value], stage: Stage, nbytes: int) -> None:
    """A matrix product; each thread has as much memory as the first, behind that."""
    (target,), dtype = stage.targets, stage.targets[0].dtype
    a, b, space = (place(e, pointers[line[2]], line[3], dtype) for line in stage.program)
    apart = 4 * own_floats(-(-nbytes // 4))
    with e.numbers(dtype):
        own = _bytes_on(e, space, e.times(e.part, apart))
        made = Results.plain(e, pointers[target.buffer])
        products_into(e, product_of(stage), a, b, None, made, own)


# ----- stores


def _store(e: Emit, walk: Walk) -> None:
    if _turned(e, walk):
        return

    def row(*index: Index) -> None:
        def cells(column: Index, lanes: int) -> None:
            (values,) = evaluate(e, walk, index, [column], lanes)
            for target, steps in zip(walk.stage.targets, walk.targets, strict=True):
                at = e.plus(target.offset, *map(e.times, index, steps), e.times(column, steps[-1]))
                pointer, value = walk.pointers[target.buffer], values[target.result]
                store(e, target.dtype, value, pointer, at, steps[-1], lanes)

        shared_columns(e, walk.sizes[-1], cells)

    shared_nest(e, walk.sizes[:-1], row, inner=True)


def _turned(e: Emit, walk: Walk) -> bool:
    """Matrices that only change places go 16 by 16; False if this is something else."""
    stage = walk.stage
    if len(stage.program) > 1 or len(walk.sizes) < 2 or stage.program[0][0] != "load":
        return False
    dtype, buffer, offset = stage.program[0][1:4]
    (read,), (wrote,), (target,) = walk.loads, walk.targets, stage.targets
    axis = next((i for i, step in enumerate(read[:-1]) if step == 1), None)
    if dtype not in ("float32", "int32") or axis is None or wrote[-1] != 1 or buffer == IOTA:
        return False
    if min(read[-1], wrote[axis]) < 1:
        return False
    outer = [i for i in range(len(walk.sizes) - 1) if i != axis]

    def start(number: int, first: int, steps: Sequence[int], index: Sequence[Index]) -> Value:
        inside = (e.times(at, steps[i]) for at, i in zip(index, outer, strict=True))
        return place(e, walk.pointers[number], e.plus(first, *inside), dtype)

    def matrix(*index: Index) -> None:
        source = start(buffer, offset, read, index)
        made = start(target.buffer, target.offset, wrote, index)
        # Rows of the source are cells of the last axis; its columns lie along `axis`.
        write_transpose(e, source, read[-1], made, wrote[axis], walk.sizes[-1], walk.sizes[axis])

    shared_nest(e, [walk.sizes[i] for i in outer], matrix, inner=True)
    return True
