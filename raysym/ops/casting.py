"""Changes of dtype, by request or so that mixed precision fits together."""

from __future__ import annotations

from typing import Any

import numpy as np

from raysym.errors import RuleError
from raysym.graph import Entry, apply
from raysym.op import DTypes, Entries, Grads, Op, Shapes, Types, register
from raysym.params import DType, param
from raysym.types import PartialDType, unify


@register
class Cast(Op):
    """The input in another dtype; floats lose their fraction on the way to integers."""

    aliases = ("cast",)
    dtype: DType = param(doc="The dtype of the result.")

    def infer_dtype(self, ins: DTypes, outs: DTypes) -> tuple[DTypes, DTypes]:
        return ins, [self.dtype]

    def forward(self, xp: Any, data: Any) -> Any:
        return data.astype(self.dtype, copy=False)

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        return [apply("_cast_like", grads[0], ins[0])]


@register
class _cast_like(Op):
    """The first input in the dtype of the second."""

    internal = True
    inputs = ("data", "like")
    shape_only = ("like",)

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        shape = unify(ins[0], outs[0])
        return [shape, ins[1]], [shape]

    def infer_dtype(self, ins: DTypes, outs: DTypes) -> tuple[DTypes, DTypes]:
        return ins, [ins[1]]

    def forward(self, xp: Any, data: Any, like: Any) -> Any:
        return data.astype(like.dtype, copy=False)

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        return [apply("_cast_like", grads[0], ins[0]), None]

    def specialize(self, ins: Entries, types: Types, outs: Types) -> Entry | None:
        if types[0].dtype == types[1].dtype:
            return ins[0]
        return apply("Cast", ins[0], dtype=types[1].dtype)


@register
class amp_cast(Op):
    """A float16 or float32 input in another dtype; any other input as it is."""

    dtype: DType = param(doc="The dtype of the result.")

    def infer_dtype(self, ins: DTypes, outs: DTypes) -> tuple[DTypes, DTypes]:
        return ins, [self.dtype if ins[0] in ("float16", "float32") else ins[0]]

    def forward(self, xp: Any, data: Any) -> Any:
        casts = data.dtype.name in ("float16", "float32")
        return data.astype(self.dtype, copy=False) if casts else data

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        return [apply("_cast_like", grads[0], ins[0])]


def is_floating(dtype: PartialDType) -> bool:
    """True for a known floating dtype."""
    return dtype is not None and dtype.startswith("float")


@register
class amp_multicast(Op):
    """All inputs in the widest (or the narrowest) floating dtype among them; shapes stay."""

    variadic = "num_outputs"
    num_outputs: int = param(low=1, doc="Number of inputs, and of outputs.")
    cast_narrow: bool = param(False, doc="Cast to the narrowest dtype instead of the widest.")

    def output_names(self) -> tuple[str, ...]:
        return output_names(self.num_outputs)

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        shapes = [unify(a, b) for a, b in zip(ins, outs, strict=True)]
        return shapes, shapes

    def infer_dtype(self, ins: DTypes, outs: DTypes) -> tuple[DTypes, DTypes]:
        if None in ins:
            return ins, outs
        if not all(is_floating(dtype) for dtype in ins):
            raise RuleError(
                "inputs are not all floating",
                got=", ".join(map(str, ins)),
                expected="float16, float32 or float64",
            )
        pick = min if self.cast_narrow else max
        return ins, [pick(ins, key=lambda dtype: np.dtype(dtype).itemsize)] * len(outs)

    def forward(self, xp: Any, *arrays: Any) -> Any:
        pick = min if self.cast_narrow else max
        dtype = pick((array.dtype for array in arrays), key=lambda dtype: dtype.itemsize)
        return tuple(array.astype(dtype, copy=False) for array in arrays)

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        return [apply("_cast_like", g, x) for g, x in zip(grads, ins, strict=True)]


def output_names(n: int) -> tuple[str, ...]:
    """Labels of `n` outputs that have no names of their own."""
    return tuple(f"output{i}" for i in range(n)) if n > 1 else ("output",)
