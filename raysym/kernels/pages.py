"""Generated kernels straight from op pages: the reference kernel runs once on lazy arrays.

What it does becomes stages of one kernel (see lazy.py); an elementwise page becomes a program that
joins the loops of others. A page that asks for more than there is code for runs as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from raysym.kernels import llvm
from raysym.kernels.expressions import (
    IOTA,
    READS,
    Leaf,
    Lines,
    Program,
    Stage,
    Untraceable,
    dense,
    laid,
)
from raysym.kernels.innermost import in_memory_order, is_made_along, runs_along
from raysym.kernels.lazy import Lazy, Recorder, is_whole
from raysym.kernels.lazy_matrices import MATMUL
from raysym.kernels.lazy_numpy import LazyNumpy
from raysym.kernels.lazy_random import DRAW, LazyRandom
from raysym.kernels.specs import Spec
from raysym.kernels.typed import DTYPES, NBYTES
from raysym.kernels.vector_ops import is_known
from raysym.op import Op
from raysym.passes.memory import aligned
from raysym.types import Shape, TensorType


class Traced(NamedTuple):
    """A page's kernel: a spec, the inputs that it reads, and its memory besides arguments.

    `draws`: the key of a random stream is its last argument.
    ``last``: positions of inputs and outputs that lie channels-last, ``("in", 0), ("out", 0)``.
    ``moves``: it adds nothing up, so that no bit depends on where numbers lie.
    """

    spec: Spec
    reads: tuple[int, ...]
    nbytes: int
    draws: bool
    last: frozenset[tuple[str, int]] = frozenset()
    moves: bool = False


@lru_cache(maxsize=4096)
def traced(
    op: Op, ins: tuple[TensorType, ...], outs: tuple[TensorType, ...], last: bool = False
) -> Traced | None:
    """The kernel of an op on these types, or None; arguments: inputs, results, memory, key.

    With `last` all inputs of more than two axes lie channels-last, and the results that are made
    along them; None where some would be made across.
    """
    found = _run(op, ins, outs, last)
    if found is None:
        return None
    recorder, results = found
    try:
        made, along = _outputs(recorder, results, len(ins))
    except Untraceable:
        return None
    if not all(_has_code(s) for s in recorder.stages):
        return None
    used = {line[2] for stage in recorder.stages for line in stage.program if line[0] in READS}
    outer = [*(i for i in range(len(ins)) if i in used), *made]
    rest = [i for i in range(len(ins), len(recorder.buffers)) if i not in outer]
    walked = map(in_memory_order, recorder.stages) if last else recorder.stages
    stages = tuple(_renumbered(stage, [*outer, *rest]) for stage in walked)
    inner, nbytes = _layout(recorder, rest)
    reads = tuple(outer[: len(outer) - len(made)])
    draws = any(stage.fold == DRAW for stage in stages)
    seen = {("in", i) for i in reads if last and len(ins[i].shape) > 2}
    lies = frozenset(seen | {("out", i) for i in along})
    moves = all(stage.fold in ("", DRAW) for stage in stages)
    spec = Spec("staged", (len(outer), inner, stages, nbytes))
    return Traced(spec, reads, nbytes, draws, lies, moves)


@lru_cache(maxsize=4096)
def formula(op: Op, ins: tuple[TensorType, ...], outs: tuple[TensorType, ...]) -> Formula | None:
    """The elementwise program of an op whose inputs only broadcast to its results, or None."""
    found = _run(op, ins, outs)
    if found is None or found[0].stages:
        return None
    lines = Lines(apart=op.tuned)
    try:
        results = tuple(lines.add(lazy.node) for lazy in found[1])
    except Untraceable:
        return None
    program = tuple(lines.made)
    if not all(lazy.shape == outs[0].shape for lazy in found[1]) or not _is_known(program):
        return None
    loads = [line for line in program if line[0] == "load"]
    if not all(_is_spread(line, ins, outs[0].shape) for line in loads):
        return None
    if any(line[0] == "fetch" for line in program):
        return None
    reads = tuple(sorted({line[2] for line in loads}))
    short = tuple(
        (*line[:2], reads.index(line[2])) if line[0] == "load" else line for line in program
    )
    if op.tuned:
        return _loading_numbers(Formula(short, results, reads))
    return Formula(short, results, reads)


class Formula(NamedTuple):
    """A program, which of its values are results, and the inputs that its loads number.

    `numbers`, with their dtypes, are loaded as if they were inputs behind these.
    """

    program: Program
    results: tuple[int, ...]
    reads: tuple[int, ...]
    numbers: tuple[tuple[str, float], ...] = ()


def _loading_numbers(found: Formula) -> Formula:
    """The formula with its numbers as data: for others the code is the same."""
    program: list[tuple[Any, ...]] = []
    numbers: list[tuple[str, float]] = []
    for line in found.program:
        name, dtype, *rest = line
        if name == "const" and dtype.startswith("float"):
            program.append(("load", dtype, len(found.reads) + len(numbers)))
            numbers.append((dtype, float(rest[0])))
        else:
            program.append(line)
    return found._replace(program=tuple(program), numbers=tuple(numbers))


def _is_spread(line: Sequence[Any], ins: Sequence[TensorType], target: Shape) -> bool:
    """True when a load reads an input as NumPy broadcasts it."""
    _, _, buffer, offset, steps = line
    if buffer == IOTA or offset or buffer >= len(ins):
        return False
    shape = ins[buffer].shape
    missing = len(target) - len(shape)
    if missing < 0:
        return False
    wanted = (0,) * missing + tuple(
        0 if n != m else step
        for n, m, step in zip(shape, target[missing:], dense(shape), strict=True)
    )
    return all(n == 1 or a == b for n, a, b in zip(target, steps, wanted, strict=True))


# ----- the trace


def _run(
    op: Op, ins: Sequence[TensorType], outs: Sequence[TensorType], last: bool = False
) -> tuple[Recorder, list[Lazy]] | None:
    """What the page's kernel makes of lazy inputs; None if it cannot be followed."""
    if op.stateful or not _is_plain([*ins, *outs]):
        return None
    recorder = Recorder(last=last)
    arrays = [recorder.input(t.shape, t.dtype) for t in ins]
    stream = [LazyRandom(recorder)] if op.random else []
    try:
        made = op.forward(LazyNumpy(recorder), *stream, *arrays)
        results = list(made) if isinstance(made, tuple) else [made]
        if len(results) != len(outs) or not all(isinstance(r, Lazy) for r in results):
            return None
        kinds = [TensorType(r.shape, r.node.dtype) for r in results]
    except Exception:  # whatever a page does that lazy arrays cannot: it runs its reference kernel
        return None
    return (recorder, results) if kinds == list(outs) else None


def _is_plain(types: Sequence[TensorType]) -> bool:
    if any(t.dtype == "float16" for t in types) and not llvm.has_half():
        return False
    return all(t.dtype in DTYPES and t.size for t in types)


def _outputs(
    recorder: Recorder, results: Sequence[Lazy], n_inputs: int
) -> tuple[list[int], list[int]]:
    """The buffers of the results, and which results lie channels-last.

    Those that are no buffer of their own yet are stored in one.
    """
    taken: list[int] = []
    along: list[int] = []
    pending: list[tuple[Leaf, Lazy]] = []
    shapes = {lazy.shape for lazy in results if runs_along(lazy)}  # one loop stores all of a shape
    for i, lazy in enumerate(results):
        leaf, last = lazy.node, recorder.last and lazy.ndim > 2
        if is_whole(lazy) and isinstance(leaf, Leaf) and leaf.buffer >= n_inputs:
            if leaf.buffer not in (*taken, *recorder.tables):
                if last and not is_made_along(recorder.stages, leaf.buffer):
                    raise Untraceable("across the channels")
                taken.append(leaf.buffer)
                along += [i] * last
                continue
        last = last and lazy.shape in shapes
        made = Leaf(len(recorder.buffers), leaf.dtype, 0, laid(lazy.shape, last))
        recorder.buffers.append((lazy.size, leaf.dtype))
        taken.append(made.buffer)
        along += [i] * last
        pending.append((made, lazy))
    for shape in dict.fromkeys(lazy.shape for _, lazy in pending):
        recorder.store([pair for pair in pending if pair[1].shape == shape])
    return taken, along


def _renumbered(stage: Stage, order: Sequence[int]) -> Stage:
    number = {old: new for new, old in enumerate(order)} | {-1: -1}
    program = tuple(
        (*line[:2], number[line[2]], *line[3:]) if line[0] in READS else line
        for line in stage.program
    )
    targets = tuple(t._replace(buffer=number[t.buffer]) for t in stage.targets)
    return stage._replace(targets=targets, program=program)


def _has_code(stage: Stage) -> bool:
    return _is_known(stage.program) and (
        stage.fold in ("", MATMUL, DRAW) or _folds(stage.fold, stage.targets[0].dtype)
    )


def _folds(fold: str, dtype: str) -> bool:
    # Of sums and products of bytes, what the bytes lose does not matter before the last.
    wide = "int32" if dtype in ("int8", "uint8") and fold in ("add", "multiply") else dtype
    return is_known(fold, wide)


def _is_known(program: Program) -> bool:
    return all(
        line[0] in (*READS, "const") or is_known(line[0], program[line[-1]][1]) for line in program
    )


def _layout(recorder: Recorder, buffers: Sequence[int]) -> tuple[tuple[int | bytes, ...], int]:
    """Where buffers begin in one piece of memory, or their numbers, and its size."""
    starts: list[int | bytes] = []
    end = 0
    for i in buffers:
        size, dtype = recorder.buffers[i]
        starts.append(recorder.tables.get(i, end))
        end += 0 if i in recorder.tables else aligned(size * NBYTES[dtype])
    return tuple(starts), end
