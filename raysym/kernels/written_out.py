"""Normalisation by given statistics, written out as elementwise steps before fusion sees it.

What depends on channels alone is computed once for each; three steps are left that the kernel
which makes the data takes along. They are those of the reference kernel.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from raysym.op import make_op
from raysym.planning.plan import Instruction, Program, Run
from raysym.types import TensorType, normal_axis

_FLOATS = ("float32", "float64")


def written_out(program: Program, types: dict[str, TensorType]) -> Program:
    """A program without such normalisations; enters the types of the values in between."""
    found: list[Instruction] = []
    for instruction in program:
        is_fixed = type(instruction) is Run and _is_fixed(instruction, types)
        found += _steps(cast(Run, instruction), types) if is_fixed else [instruction]
    return tuple(found)


def _is_fixed(run: Run, types: Mapping[str, TensorType]) -> bool:
    op: Any = run.op
    if op.name != "BatchNorm" or not op.use_global_stats:
        return False
    kinds = {types[name].dtype for name in run.args}
    return len(kinds) == 1 and kinds <= {*_FLOATS}


def _steps(run: Run, types: dict[str, TensorType]) -> list[Instruction]:
    data, gamma, beta, mean, variance = run.args
    made, shown_mean, shown_inv = run.outs
    op: Any = run.op
    rank = len(types[data].shape)
    ones = (1,) * (rank - normal_axis(op.axis, rank) - 1)
    steps = _Steps(made, types)
    plus = steps.add("", "_plus_scalar", variance, scalar=op.eps)
    inv = steps.add(shown_inv, "reciprocal", steps.add("", "sqrt", plus))
    scale = inv if op.fix_gamma else steps.add("", "elemwise_mul", inv, gamma)
    along = (steps.add("", "Reshape", n, shape=(-1, *ones)) if ones else n
             for n in (mean, scale, beta))  # fmt: skip
    mean_c, scale_c, beta_c = along
    centred = steps.add("", "broadcast_sub", data, mean_c)
    scaled = steps.add("", "broadcast_mul", centred, scale_c)
    steps.add(made, "broadcast_add", scaled, beta_c)
    if shown_mean != "_":
        steps.add(shown_mean, "_copy", mean)
    return steps.runs


class _Steps:
    """Runs that take the place of one, which made `name`."""

    def __init__(self, name: str, types: dict[str, TensorType]) -> None:
        self.name, self.types = name, types
        self.runs: list[Instruction] = []

    def add(self, out: str, op: str, *args: str, **params: Any) -> str:
        """A further run; its result gets a name if it has none."""
        page = make_op(op, params)
        if out in ("", "_"):
            out = f"{self.name} {len(self.runs)}"
            while out in self.types:
                out += "'"
        kinds = [self.types[arg] for arg in args]
        (shape,) = page.infer_shape([kind.shape for kind in kinds], [None])[1]
        self.types[out] = TensorType(tuple(shape or ()), kinds[0].dtype)
        self.runs.append(Run((out,), page, args))
        return out
