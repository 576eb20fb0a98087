"""Slices assigned: an array with one of its parts replaced."""

from __future__ import annotations

from typing import Any

from raysym.graph import apply
from raysym.op import Cost, Entries, Grads, Shapes, Types, register, total_bytes
from raysym.ops.numeric import scalar_of
from raysym.ops.slicing import Ranges
from raysym.params import Param
from raysym.types import unify

_NUMBER = Param(0.0, "What the part is set to.")


class _Assign(Ranges):
    """Shared by ops that replace the part ``begin:end:step`` of their first input."""

    def place(self) -> dict[str, Any]:
        """The parameters that say where."""
        return {"begin": self.begin, "end": self.end, "step": self.step}

    def cost(self, ins: Types, outs: Types) -> Cost:
        return Cost(0.0, total_bytes(ins, outs))


@register
class _slice_assign(_Assign):
    """`lhs` with its part ``begin:end:step`` replaced by `rhs`."""

    aliases = ("_crop_assign",)
    inputs = ("lhs", "rhs")

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        whole = unify(ins[0], outs[0])
        _, (part,) = super().infer_shape([whole], [None])
        return [whole, unify(ins[1], part, "shape of rhs")], [whole]

    def forward(self, xp: Any, *arrays: Any) -> Any:
        made = arrays[0].copy()
        made[self.cut(made.shape, ())] = arrays[1]
        return made

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        kept = apply("_slice_assign_scalar", grads[0], scalar=0.0, **self.place())
        return [kept, apply("slice", grads[0], **self.place())]


@register
class _slice_assign_scalar(_Assign):
    """The input with its part ``begin:end:step`` set to one number."""

    aliases = ("_crop_assign_scalar",)
    params = {"scalar": _NUMBER.bind("scalar", float), **Ranges.params}
    scalar: float

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        whole = unify(ins[0], outs[0])
        super().infer_shape([whole], [None])
        return [whole], [whole]

    def forward(self, xp: Any, *arrays: Any) -> Any:
        made = arrays[0].copy()
        made[self.cut(made.shape, ())] = scalar_of(made.dtype, self.scalar)
        return made

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        return [apply("_slice_assign_scalar", grads[0], scalar=0.0, **self.place())]
