"""Walks: a stage of a traced page over as few axes as can be, and its values on the way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from raysym.kernels.elementwise import collapsed, run_program
from raysym.kernels.emit import I32, LANES, Emit, Index, Value
from raysym.kernels.expressions import IOTA, READS, Stage
from raysym.kernels.llvm import ir
from raysym.kernels.typed import constant, load, load_at, register_type, splat


class Walk(NamedTuple):
    """A stage over as few axes as can be: sizes, steps of all loads, steps of all targets."""

    pointers: Sequence[Value]
    sizes: tuple[int, ...]
    loads: tuple[tuple[int, ...], ...]
    targets: tuple[tuple[int, ...], ...]
    stage: Stage


def walk_of_stage(pointers: Sequence[Value], stage: Stage) -> Walk:
    """A stage over buffers that begin at the pointers."""
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
