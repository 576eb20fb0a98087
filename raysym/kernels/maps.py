"""Elementwise groups of a program as chains: which runs qualify, what they read, their spec."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain as chained
from typing import Any, NamedTuple

import numpy as np

from raysym.kernels.elementwise import Chain, ChainStep, collapsed
from raysym.kernels.epilogue import COLUMNS, EACH, ONE, Tail
from raysym.kernels.expressions import dense
from raysym.kernels.formulas import has_formula
from raysym.kernels.lowering import Kernel, all_float32
from raysym.kernels.members import source_of
from raysym.kernels.pages import Formula, formula
from raysym.kernels.specs import Spec
from raysym.planning.plan import Run
from raysym.types import Shape, TensorType

# Ops whose result is their first input in another shape: they move nothing.
FUSIBLE_VIEWS = frozenset({"Reshape", "Flatten", "reshape_like", "expand_dims", "squeeze", "_rows"})
FLOATS = ("float32", "float64", "float16")


class Group(NamedTuple):
    """A chain with the names of its inputs and results ("_": nobody wants it), and its dtype.

    `numbers`, with their dtypes, are inputs of the chain behind those that are read.
    """

    chain: Chain
    reads: tuple[str, ...]
    made: tuple[str, ...]
    dtype: str
    numbers: tuple[tuple[str, float], ...] = ()

    @property
    def n_inputs(self) -> int:
        """Inputs of the chain."""
        return len(self.reads) + len(self.numbers)


def is_view(run: Run, types: Mapping[str, TensorType]) -> bool:
    """True when the run only gives its first input another shape."""
    if run.op.name not in FUSIBLE_VIEWS:
        return False
    source, target = types[run.args[0]], types[run.outs[0]]
    return source.size == target.size and source.dtype == target.dtype


def is_elementwise(run: Run, types: Mapping[str, TensorType]) -> bool:
    """True when the run is of one dtype, and a formula of inputs that broadcast to its results."""
    return step_of(run, types) is not None


def step_of(run: Run, types: Mapping[str, TensorType]) -> ChainStep | None:
    """A run as a step of a chain whose operands are the run's arguments, or None."""
    if any(out != "_" and out not in types for out in run.outs):
        return None
    made = [types[out] for out in run.outs if out != "_"]
    ins = tuple(types[arg] for arg in run.args)
    if not made or not made[0].shape or {t.dtype for t in (*ins, *made)} != {made[0].dtype}:
        return None
    if has_formula(run.op) and len(run.outs) == 1 and all_float32([*made, *ins]):
        if all(_broadcasts(t.shape, made[0].shape) for t in ins):
            return ChainStep.of(run.op, range(len(ins)))
    found = _formula(run, types)
    return found and ChainStep("", (found.program, found.results), found.reads)


def _formula(run: Run, types: Mapping[str, TensorType]) -> Formula | None:
    made = next(types[out] for out in run.outs if out != "_")
    if made.dtype not in FLOATS:
        return None
    return formula(run.op, tuple(types[arg] for arg in run.args), (made,) * len(run.outs))


def _numbers(run: Run, types: Mapping[str, TensorType]) -> tuple[tuple[str, float], ...]:
    """Numbers that reach the code of a step as data."""
    found = _formula(run, types) if run.op.tuned else None
    return found.numbers if found else ()


def _broadcasts(shape: Shape, target: Shape) -> bool:
    tail = target[len(target) - len(shape) :]
    return len(shape) <= len(target) and all(n in (1, m) for n, m in zip(shape, tail, strict=True))


def walk_of(runs: Iterable[Run], types: Mapping[str, TensorType]) -> Shape | None:
    """The shape that a loop of elementwise runs must walk over; None if nothing broadcasts."""
    for run in runs:
        shape = next(types[out].shape for out in run.outs if out != "_")
        step = step_of(run, types)
        if step and any(types[run.args[i]].shape != shape for i in step.operands):
            return shape
    return None


def are_of_one_shape(names: Iterable[str], shape: Shape, types: Mapping[str, TensorType]) -> bool:
    """True when all that have as many numbers as a shape are of it: (1, C, H, W) or (C, H, W).

    A loop that walks channels-last would read and write those of the other in its own order.
    """
    return all(types[n].shape == shape for n in names if types[n].size == math.prod(shape))


def chain_of(
    runs: Sequence[Run], types: Mapping[str, TensorType], views: Mapping[str, str]
) -> Group:
    """The chain of elementwise runs in program order; it reads what their steps read.

    ``views``: by name, what each view is a view of.
    """
    steps = [step for run in runs if (step := step_of(run, types))]
    args = [
        [source_of(run.args[i], views) for i in step.operands]
        for run, step in zip(runs, steps, strict=True)
    ]
    reads: dict[str, int] = {}
    written: set[str] = set()
    for run, names in zip(runs, args, strict=True):
        for name in names:
            if name not in written:
                reads.setdefault(name, len(reads))
        written.update(run.outs)
    numbers = [_numbers(run, types) for run in runs]
    n_inputs = len(reads) + sum(map(len, numbers))
    number, chain, at = dict(reads), [], len(reads)
    made: list[str] = []
    for run, names, step, own in zip(runs, args, steps, numbers, strict=True):
        operands = (*(number[name] for name in names), *range(at, at + len(own)))
        chain.append(step._replace(operands=operands))
        at += len(own)
        for out in run.outs:
            number[out] = n_inputs + len(made)
            made.append(out)
    dtype = types[next(name for name in made if name != "_")].dtype
    return Group(tuple(chain), tuple(reads), tuple(made), dtype, tuple(chained(*numbers)))


class Following(NamedTuple):
    """A chain as the tail of a kernel: its other inputs, and what is kept, by name."""

    others: tuple[str, ...]
    kept: tuple[str, ...]
    tail: Tail
    label: str


def following(
    name: str, group: Group, kept: Sequence[str], spreads: Sequence[int | None], label: str
) -> Following:
    """The tail of the kernel that makes `name`, which the group reads."""
    final = {made: len(group.reads) + i for i, made in enumerate(group.made)}
    fed = group.reads.index(name)
    stored = tuple(final.get(n, fed) for n in kept)
    others = [i for i in range(len(group.reads)) if i != fed]
    along = tuple(spread for i in others if (spread := spreads[i]) is not None)
    tail = Tail(fed, group.chain, stored, along, group.dtype)
    return Following(tuple(group.reads[i] for i in others), tuple(kept), tail, label)


def spread_of(given: Shape, shape: Shape, last: bool, width: int) -> int | None:
    """How an operand goes along with results that are written in rows of `width`, if it does."""
    if lies_like(given, shape, last):
        return EACH
    if math.prod(given) == 1:
        return ONE
    order = walk_order(shape, last)
    found = collapsed([shape[axis] for axis in order], [_strides(given, shape, order, last)])
    is_row = found == ((math.prod(shape) // width, width), ((0, 1),))
    return COLUMNS if is_row else None


def lies_like(given: Shape, shape: Shape, last: bool) -> bool:
    """True when the numbers of both shapes lie in the same order; `last`: channels-last."""
    return given == shape or (not last and math.prod(given) == math.prod(shape))


def walk_order(shape: Shape, last: bool) -> tuple[int, ...]:
    """Axes as the numbers lie; `last`: channels-last."""
    return (0, *range(2, len(shape)), 1) if last else tuple(range(len(shape)))


def map_spec(
    group: Group, stored: Sequence[str], shape: Shape, last: bool, shapes: Sequence[Shape]
) -> tuple[Spec, tuple[int, ...]]:
    """The kernel of a group and its integer arguments."""
    final = {name: i for i, name in enumerate(group.made)}  # a name may be written twice
    kept = tuple(group.n_inputs + final[name] for name in stored)
    more = (tuple(dtype for dtype, _ in group.numbers),) if group.numbers else ()
    if all(lies_like(given, shape, last) for given in shapes):
        args = (len(group.reads), group.chain, kept, group.dtype, *more)
        return Spec("flat_map", args), (math.prod(shape),)
    sizes, steps = collapsed(*stepped(shapes, shape, last))
    return Spec("strided_map", (sizes, steps, group.chain, kept, group.dtype, *more)), ()


def stepped(
    shapes: Sequence[Shape], shape: Shape, last: bool
) -> tuple[Shape, list[tuple[int, ...]]]:
    """Sizes of the axes of a walk, and for each input its steps on them."""
    order = walk_order(shape, last)
    sizes = tuple(shape[axis] for axis in order)
    return sizes, [_strides(given, shape, order, last) for given in shapes]


def _strides(given: Shape, shape: Shape, order: Sequence[int], last: bool) -> tuple[int, ...]:
    """Steps of an input on the axes of the walk; 0 where it is repeated."""
    full = (1,) * (len(shape) - len(given)) + given
    if lies_like(given, shape, last):
        return dense([shape[axis] for axis in order])
    steps = dense(full)
    return tuple(0 if full[axis] == 1 else steps[axis] for axis in order)


def table_of(group: Group) -> Any:
    """The numbers of a group as its kernel reads them."""
    return np.array([value for _, value in group.numbers], np.float64)


def memory_pairs(kernel: Kernel, after: Following | None) -> list[tuple[int, int]]:
    """Operands and results that may share memory, as positions among the arguments."""
    slot = {i: position for position, i in enumerate(kernel.reads)}
    count = len(kernel.reads)
    if after is None:
        return [(slot[i], count + j) for i, j in kernel.inplace]
    sources = [slot[i] for i, j in kernel.inplace if j == 0]
    sources += [count + i for i, spread in enumerate(after.tail.spreads) if spread == EACH]
    first = count + len(after.others)
    targets = range(first + kernel.gathers, first + len(after.kept))
    return [(source, target) for target in targets for source in sources]
