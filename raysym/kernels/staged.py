"""Kernels of traced pages: loop nests that evaluate a program and store it, or fold it along axes.

Axes that step alike are walked as one. Folds along the innermost axis keep four running vectors,
all others one for each group of columns; their order depends on the shapes alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from raysym.kernels.elementwise import collapsed, run_program
from raysym.kernels.emit import I32, LANES, Emit, Index, Value, lanes_of
from raysym.kernels.epilogue import Results
from raysym.kernels.expressions import IOTA, READS, Stage, Target
from raysym.kernels.gemm import products_into
from raysym.kernels.lazy_matrices import MATMUL, product_of
from raysym.kernels.lazy_random import DRAW
from raysym.kernels.llvm import ir
from raysym.kernels.moving import write_transpose
from raysym.kernels.philox import draw
from raysym.kernels.shared import (
    first_only,
    meet,
    own_floats,
    shared,
    shared_columns,
    shared_nest,
)
from raysym.kernels.specs import shared_maker
from raysym.kernels.typed import (
    constant,
    constants_of,
    load,
    load_at,
    place,
    register_type,
    splat,
    store,
)
from raysym.kernels.vector_ops import compute, neutral

_WAYS = 4  # running vectors of a fold along a row


@shared_maker
def staged(
    e: Emit,
    n_outer: int,
    inner: tuple[int | bytes, ...],
    stages: tuple[Any, ...],
    nbytes: int = 0,
) -> None:
    """Stages over buffers; arguments: `n_outer` of them, then `nbytes` of memory, if any.

    The key of a random stream comes last if a stage draws.
    `inner`: where each further buffer begins in that memory, in bytes, or the numbers in it.
    """
    pointers = [e.arg(i) for i in range(n_outer)]
    space = e.arg(n_outer) if nbytes else None
    for at in inner:
        pointers.append(constants_of(e, at) if isinstance(at, bytes) else _bytes_on(e, space, at))
    for given in stages:
        stage = Stage(given[0], given[1], tuple(Target(*t) for t in given[2]), given[3])
        if stage.fold == MATMUL:
            _multiply(e, pointers, stage, nbytes)
        elif stage.fold == DRAW:
            (target,), key = stage.targets, e.arg(n_outer + (nbytes > 0))
            draw(e, target.dtype, pointers[target.buffer], key, *stage.shape)
        else:
            (_fold if stage.fold else _store)(e, _walk(pointers, stage))
        meet(e)


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


class Walk(NamedTuple):
    """A stage over as few axes as can be: sizes, steps of all loads, steps of all targets."""

    pointers: Sequence[Value]
    sizes: tuple[int, ...]
    loads: tuple[tuple[int, ...], ...]
    targets: tuple[tuple[int, ...], ...]
    stage: Stage


def _walk(pointers: Sequence[Value], stage: Stage) -> Walk:
    loads = [line[4] for line in stage.program if line[0] in READS]
    targets = [target.strides for target in stage.targets]
    sizes, steps = collapsed(stage.shape, [*loads, *targets])
    return Walk(pointers, sizes, steps[: len(loads)], steps[len(loads) :], stage)


def evaluate(e: Emit, walk: Walk, index: Sequence[Index], column: Index, lanes: int) -> list[Value]:
    """All values of the program, for a vector of neighbours on the last axis."""
    steps = iter(walk.loads)

    def read(line: Sequence[Any], values: Sequence[Value]) -> Value:
        name, dtype, *rest = line
        if name == "load":
            return _read(e, walk, dtype, rest, next(steps), index, column, lanes)
        return _fetch(e, walk, dtype, rest, next(steps), index, column, lanes, values)

    return run_program(e, walk.stage.program, read)


def _read(
    e: Emit, walk: Walk, dtype: str, leaf: Sequence[Any], steps: Sequence[int],
    index: Sequence[Index], column: Index, lanes: int,
) -> Value:  # fmt: skip
    buffer, offset, _ = leaf
    at = e.plus(offset, *map(e.times, index, steps), e.times(column, steps[-1]))
    if buffer != IOTA:
        return load(e, dtype, walk.pointers[buffer], at, steps[-1], lanes)
    ramp = ir.Constant(register_type(dtype), [lane * steps[-1] for lane in range(LANES)])
    return e.b.add(splat(e, e.const(at)), ramp)


def _fetch(
    e: Emit, walk: Walk, dtype: str, leaf: Sequence[Any], steps: Sequence[int],
    index: Sequence[Index], column: Index, lanes: int, values: Sequence[Value],
) -> Value:  # fmt: skip
    buffer, offset, _, strides, operands = leaf
    at = e.plus(offset, *map(e.times, index, steps), e.times(column, steps[-1]))
    pairs = list(zip(operands, strides, strict=True))
    if all(_is_constant(walk, i) for i in operands):
        # One place for the whole vector: its neighbours are read as they lie.
        firsts = [e.b.extract_element(values[i], ir.Constant(I32, 0)) for i in operands]
        at = e.plus(at, *(e.times(one, s) for one, s in zip(firsts, strides, strict=True)))
        return load(e, dtype, walk.pointers[buffer], at, steps[-1], lanes)
    kind = register_type("int64")
    ramp = ir.Constant(kind, [lane * steps[-1] for lane in range(LANES)])
    places = e.b.add(splat(e, e.const(at)), ramp)
    for operand, stride in pairs:
        places = e.b.add(places, e.b.mul(values[operand], constant(e, kind, stride)))
    return load_at(e, dtype, walk.pointers[buffer], places, lanes)


def _is_constant(walk: Walk, number: int) -> bool:
    """True when a value of the program is the same all along the last axis."""
    program, reads = walk.stage.program, iter(walk.loads)
    steps = {i: next(reads)[-1] for i, line in enumerate(program) if line[0] in READS}
    pending = [number]
    while pending:
        i = pending.pop()
        name, _, *rest = program[i]
        if steps.get(i):
            return False
        pending += rest[4] if name == "fetch" else () if name in ("load", "const") else rest
    return True


# ----- stores


def _store(e: Emit, walk: Walk) -> None:
    if _turned(e, walk):
        return

    def row(*index: Index) -> None:
        def cells(column: Index, lanes: int) -> None:
            values = evaluate(e, walk, index, column, lanes)
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


# ----- folds


def _fold(e: Emit, walk: Walk) -> None:
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

    def term(index: Sequence[Index], column: Index, lanes: int) -> Value:
        value = evaluate(e, walk, index, column, lanes)[target.result]
        if lanes == LANES:
            return value
        mask = ir.Constant(ir.VectorType(ir.IntType(1), LANES), [i < lanes for i in range(LANES)])
        return e.b.select(mask, value, start)

    def row(index: Sequence[Index], carried: list[Value]) -> list[Value]:
        def step(i: Index, *inside: Value) -> list[Value]:
            columns = [e.plus(i, j * LANES) for j in range(_WAYS)]
            terms = [term(index, c, LANES) for c in columns]
            return [_combine(e, walk, x, y) for x, y in zip(inside, terms, strict=True)]

        if full:
            carried = e.loop(0, full, step, carried, step=_WAYS * LANES)
        for j, lanes in enumerate(lanes_of(count - full)):
            carried[j] = _combine(e, walk, carried[j], term(index, full + j * LANES, lanes))
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
    start, wide = _start(e, walk), _WAYS * LANES

    def block(at: Sequence[Index], column: Index, lanes: Sequence[int]) -> None:
        def row(index: Sequence[Index], carried: list[Value]) -> list[Value]:
            made = []
            for j, (running, n) in enumerate(zip(carried, lanes, strict=True)):
                values = evaluate(e, walk, index, e.plus(column, j * LANES), n)
                made.append(_combine(e, walk, running, values[target.result]))
            return made

        sums = _loops(e, walk, kept, at, row, [start] * len(lanes))
        first = e.plus(target.offset, *(
            e.times(i, steps[axis]) for i, axis in zip(at, kept, strict=True)
        ), e.times(column, steps[-1]))  # fmt: skip
        for j, (n, value) in enumerate(zip(lanes, sums, strict=True)):
            where = e.plus(first, j * LANES * steps[-1])
            store(e, target.dtype, value, walk.pointers[target.buffer], where, steps[-1], n)

    def row_of(*at: Index) -> None:
        full = walk.sizes[-1] // wide * wide
        if full:
            shared(e, full // wide, lambda c: block(at, c, [LANES] * _WAYS), step=wide)
        if walk.sizes[-1] - full:
            with first_only(e):
                block(at, full, lanes_of(walk.sizes[-1] - full))

    shared_nest(e, [walk.sizes[i] for i in kept], row_of, inner=True)
