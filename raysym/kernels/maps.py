"""Elementwise groups of a program as chains: which runs qualify, what they read, their spec."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from raysym.kernels.elementwise import Chain, ChainStep, collapsed, dense_strides
from raysym.kernels.formulas import has_formula
from raysym.kernels.lowering import all_float32
from raysym.kernels.specs import Spec
from raysym.planning.plan import Run
from raysym.types import Shape, TensorType

# Ops whose result is their first input in another shape: they move nothing.
FUSIBLE_VIEWS = frozenset({"Reshape", "Flatten", "reshape_like", "expand_dims", "squeeze", "_rows"})


class Group(NamedTuple):
    """A chain with the names of its inputs and results."""

    chain: Chain
    reads: tuple[str, ...]
    made: tuple[str, ...]


def is_view(run: Run, types: Mapping[str, TensorType]) -> bool:
    """True when the run only gives its first input another shape."""
    if run.op.name not in FUSIBLE_VIEWS:
        return False
    source, target = types[run.args[0]], types[run.outs[0]]
    return source.size == target.size and source.dtype == target.dtype


def is_elementwise(run: Run, types: Mapping[str, TensorType]) -> bool:
    """True when the run is float32 throughout, has a formula, and its inputs broadcast to it."""
    if len(run.outs) != 1 or not has_formula(run.op) or run.outs[0] not in types:
        return False
    made = types[run.outs[0]]
    used = [types[arg] for arg in run.args]
    if not all_float32([made, *used]) or not made.shape:
        return False
    return all(_broadcasts(t.shape, made.shape) for t in used)


def _broadcasts(shape: Shape, target: Shape) -> bool:
    tail = target[len(target) - len(shape) :]
    return len(shape) <= len(target) and all(n in (1, m) for n, m in zip(shape, tail, strict=True))


def chain_of(runs: Sequence[Any]) -> Group:
    """The chain of elementwise runs in program order."""
    reads: dict[str, int] = {}
    made: set[str] = set()
    for run in runs:
        for arg in run.args:
            if arg not in made:
                reads.setdefault(arg, len(reads))
        made.add(run.outs[0])
    number = dict(reads)
    steps = []
    for i, run in enumerate(runs):
        steps.append(ChainStep.of(run.op, [number[arg] for arg in run.args]))
        number[run.outs[0]] = len(reads) + i
    return Group(tuple(steps), tuple(reads), tuple(run.outs[0] for run in runs))


def map_spec(
    group: Group, stored: Sequence[str], shape: Shape, last: bool, shapes: Sequence[Shape]
) -> tuple[Spec, tuple[int, ...]]:
    """The kernel of a group and its integer arguments."""
    final = {name: i for i, name in enumerate(group.made)}  # a name may be written twice
    kept = tuple(len(group.reads) + final[name] for name in stored)
    if all(given == shape for given in shapes):
        return Spec("flat_map", (len(group.reads), group.chain, kept)), (math.prod(shape),)
    order = (0, *range(2, len(shape)), 1) if last else tuple(range(len(shape)))
    strides = [_strides(given, shape, order) for given in shapes]
    sizes, steps = collapsed([shape[axis] for axis in order], strides)
    return Spec("strided_map", (sizes, steps, group.chain, kept)), ()


def _strides(given: Shape, shape: Shape, order: Sequence[int]) -> tuple[int, ...]:
    """Steps of an input on the axes of the walk; 0 where it is repeated."""
    full = (1,) * (len(shape) - len(given)) + given
    if given == shape:  # it lies in the order of the walk
        return dense_strides([shape[axis] for axis in order])
    steps = dense_strides(full)
    return tuple(0 if full[axis] == 1 else steps[axis] for axis in order)
