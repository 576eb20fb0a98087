"""Walks: a stage of a traced page over as few axes as can be, and its values on the way.

A head is a chain of elementwise steps that makes what the stage would read from the first buffer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from raysym.kernels.elementwise import Chain, collapsed, run_program, side_by_side
from raysym.kernels.emit import I32, LANES, Emit, Index, Value
from raysym.kernels.expressions import IOTA, READS, Stage
from raysym.kernels.llvm import ir
from raysym.kernels.typed import NBYTES, constant, load, load_at, place, register_type, splat, store

_AHEAD = 8  # turns
_FAR = 2048  # bytes from one turn to the next


class Head(NamedTuple):
    """A chain of which value `made` is what a stage reads; the values `stored` are kept as well.

    ``strides``: of its inputs, on the axes of the stage.
    """

    chain: Chain
    made: int
    stored: tuple[int, ...]
    strides: tuple[tuple[int, ...], ...]
    dtype: str

    @property
    def n_arguments(self) -> int:
        """Of the kernel: inputs, then arrays of what is kept."""
        return len(self.strides) + len(self.stored)


class Walk(NamedTuple):
    """A stage over as few axes as can be: sizes, steps of all loads, steps of all targets.

    With a head: its arguments, and the steps of its inputs.
    """

    pointers: Sequence[Value]
    sizes: tuple[int, ...]
    loads: tuple[tuple[int, ...], ...]
    targets: tuple[tuple[int, ...], ...]
    stage: Stage
    head: Head | None = None
    given: Sequence[Value] = ()
    inputs: tuple[tuple[int, ...], ...] = ()


def walk_of_stage(
    pointers: Sequence[Value],
    stage: Stage,
    head: Head | None = None,
    given: Sequence[Value] = (),
) -> Walk:
    """A stage over buffers that begin at the pointers, with the arguments of a head, if any."""
    loads = [line[4] for line in stage.program if line[0] in READS]
    targets = [target.strides for target in stage.targets]
    inputs = head.strides if head else ()
    sizes, steps = collapsed(stage.shape, [*loads, *targets, *inputs])
    first, end = len(loads), len(loads) + len(targets)
    each = steps[:first], steps[first:end], stage, head, given, steps[end:]
    return Walk(pointers, sizes, *each)


def evaluate(
    e: Emit, walk: Walk, index: Sequence[Index], columns: Sequence[Index], lanes: int
) -> list[list[Value]]:
    """All values of the program, for some vectors of neighbours on the last axis."""
    made = _headed(e, walk, index, columns, lanes)
    pairs = zip(columns, made, strict=True)
    return [_evaluate(e, walk, index, column, lanes, value) for column, value in pairs]


def _headed(
    e: Emit, walk: Walk, index: Sequence[Index], columns: Sequence[Index], lanes: int
) -> list[Value]:
    """What a head makes and the stage reads."""
    if walk.head is None:
        return [None] * len(columns)
    chain, made, stored, _, dtype = walk.head
    ins = list(zip(walk.given, walk.inputs, strict=False))
    loaded = [
        [load(e, dtype, p, _at(e, index, column, steps), steps[-1], lanes) for p, steps in ins]
        for column in columns
    ]
    values = side_by_side(e, chain, loaded)
    (steps,) = walk.loads
    for column, each in zip(columns, values, strict=True):
        for pointer, i in zip(walk.given[len(ins) :], stored, strict=True):
            at = _at(e, index, column, steps)
            store(e, dtype, each[i], pointer, at, steps[-1], lanes)
    return [each[made] for each in values]


def ask(e: Emit, walk: Walk, index: Sequence[Index], axis: int, columns: Sequence[Index]) -> None:
    """Prefetch neighbouring vectors some turns of an axis ahead, if these lie far apart.

    Processors see no further than a page, and reach few turns ahead where each computes much.
    """
    later = [e.plus(at, _AHEAD) if i == axis else at for i, at in enumerate(index)]
    for dtype, pointer, offset, steps in _sources(walk):
        if steps[axis] * NBYTES[dtype] >= _FAR:
            for column in (*columns, e.plus(columns[-1], LANES - 1)):
                at = e.plus(offset, _at(e, later, column, steps))
                e.prefetch(place(e, pointer, at, dtype))


def _sources(walk: Walk) -> list[tuple[str, Value, int, Sequence[int]]]:
    """Dtype, address, offset and steps of all that is loaded."""
    if walk.head is not None:
        pairs = zip(walk.given, walk.inputs, strict=False)
        return [(walk.head.dtype, pointer, 0, steps) for pointer, steps in pairs]
    reads = [line for line in walk.stage.program if line[0] in READS]
    return [
        (line[1], walk.pointers[line[2]], line[3], steps)
        for line, steps in zip(reads, walk.loads, strict=True)
        if line[0] == "load" and line[2] != IOTA
    ]


def _at(e: Emit, index: Sequence[Index], column: Index, steps: Sequence[int]) -> Index:
    return e.plus(*map(e.times, index, steps), e.times(column, steps[-1]))


def _evaluate(
    e: Emit, walk: Walk, index: Sequence[Index], column: Index, lanes: int, made: Value
) -> list[Value]:
    steps = iter(walk.loads)

    def read(line: Sequence[Any], values: Sequence[Value]) -> Value:
        name, dtype, *rest = line
        if made is not None:
            return made
        if name == "load":
            return _read(e, walk, dtype, rest, next(steps), index, column, lanes)
        return _fetch(e, walk, dtype, rest, next(steps), index, column, lanes, values)

    return run_program(e, walk.stage.program, read)


def _read(
    e: Emit, walk: Walk, dtype: str, leaf: Sequence[Any], steps: Sequence[int],
    index: Sequence[Index], column: Index, lanes: int,
) -> Value:  # fmt: skip
    buffer, offset, _ = leaf
    at = e.plus(offset, _at(e, index, column, steps))
    if buffer != IOTA:
        return load(e, dtype, walk.pointers[buffer], at, steps[-1], lanes)
    ramp = ir.Constant(register_type(dtype), [lane * steps[-1] for lane in range(LANES)])
    return e.b.add(splat(e, e.const(at)), ramp)


def _fetch(
    e: Emit, walk: Walk, dtype: str, leaf: Sequence[Any], steps: Sequence[int],
    index: Sequence[Index], column: Index, lanes: int, values: Sequence[Value],
) -> Value:  # fmt: skip
    buffer, offset, _, strides, operands = leaf
    at = e.plus(offset, _at(e, index, column, steps))
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
