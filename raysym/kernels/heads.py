"""Which kernels take elementwise steps before them along, and the kernel that does (see walks.py).

A reduction sees the same numbers in the same order as without, so no bit changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from raysym.kernels.elementwise import collapsed
from raysym.kernels.epilogue import EACH, Tail, is_light
from raysym.kernels.expressions import READS, Stage, dense, regrouped
from raysym.kernels.lazy_matrices import MATMUL
from raysym.kernels.lowering import Kernel, Types, lower
from raysym.kernels.maps import Group, stepped
from raysym.kernels.specs import Spec
from raysym.kernels.walks import Head
from raysym.op import Op
from raysym.types import Shape

_FEW = 64  # results: fewer keep no more than one thread busy


def takes_head(op: Op, ins: Types, outs: Types) -> bool:
    """True when the kernel of an op may compute the numbers that it reduces."""
    kernel = lower(op, ins, outs)
    return kernel is not None and reduced_by(kernel) is not None


def reduced_by(kernel: Kernel) -> Stage | None:
    """The stage in which a kernel reads its input, if it reduces each number once; or None."""
    if kernel.spec.maker != "staged" or len(kernel.reads) != 1 or kernel.draws:
        return None
    first, *rest = kernel.spec.args[2]
    reads = [line for line in first.program if line[0] in READS]
    if first.fold in ("", MATMUL) or len(reads) != 1 or reads[0][:1] != ("load",):
        return None
    again = any(line[0] in READS and line[2] == 0 for stage in rest for line in stage.program)
    return None if again or not _is_all(reads[0], first.shape) else first


def _is_all(line: Sequence[Any], shape: Shape) -> bool:
    """True when a line loads all of the first buffer in its order."""
    _, _, buffer, offset, steps = line
    pairs = zip(shape, steps, dense(shape), strict=True)
    return buffer == offset == 0 and all(n == 1 or a == b for n, a, b in pairs)


def headed(
    kernel: Kernel, group: Group, fed: str, stored: Sequence[str], shapes: Sequence[Shape],
    shape: Shape,
) -> Spec | None:  # fmt: skip
    """The kernel's spec with a group as its head, or None if its sums would lose their order.

    It reads `fed`; `shapes` are those of what the group reads in its walk over `shape`.
    """
    stage = reduced_by(kernel)
    assert stage is not None
    sizes, strides = stepped(shapes, shape, ("in", 0) in kernel.last)
    lined_up = [regrouped(sizes, each, stage.shape) for each in strides]
    known = tuple(each for each in lined_up if each is not None)
    if len(known) < len(lined_up) or _innermost(stage, ()) != _innermost(stage, known):
        return None
    final = {name: group.n_inputs + i for i, name in enumerate(group.made)}
    head = Head(group.chain, final[fed], tuple(final[n] for n in stored), known, group.dtype)
    return kernel.spec._replace(args=(*kernel.spec.args, tuple(head)))


def _innermost(stage: Stage, more: Sequence[Sequence[int]]) -> tuple[int, int]:
    """Size of the innermost axis of a fold and its steps there, if inputs have further strides.

    Its vectors are combined in an order of their own; outer axes are reduced one after the other,
    in as many loops as may be.
    """
    (target,) = stage.targets
    sizes, steps = collapsed(stage.shape, [dense(stage.shape), target.strides, *more])
    return sizes[-1], steps[1][-1]


def keeps_threads_busy(kernel: Kernel, group: Group, stored: Sequence[str]) -> bool:
    """True when threads can share the reduction, or the group takes next to nothing."""
    stage = reduced_by(kernel)
    assert stage is not None
    (target,) = stage.targets
    results = prod(n for n, step in zip(stage.shape, target.strides, strict=True) if step)
    tail = Tail(0, group.chain, (0,), (EACH,) * (group.n_inputs - 1), group.dtype)
    return results >= _FEW or (not stored and is_light(tail))
