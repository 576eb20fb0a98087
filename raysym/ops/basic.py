"""The few ops that gradients and passes are written in: sums, copies, constants, "like" shapes.

"Like" ops take a reference input only for its shape or dtype; once types are known they
`specialize` into ops that do not keep that input alive.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np

from raysym.errors import RuleError
from raysym.graph import Entry, apply
from raysym.op import Cost, DTypes, Entries, Grads, Op, Shapes, Types, register, total_bytes
from raysym.ops.numeric import sum_axes, sum_dtype
from raysym.params import Dims, DType, param
from raysym.types import unify, unify_dtypes


@register
class add_n(Op):
    """Sum of all inputs, which have the same shape, added from left to right."""

    aliases = ("ElementWiseSum", "elementwise_sum", "_element_wise_sum")
    inputs = ("args",)
    variadic = "num_args"
    num_args: int = param(low=1, doc="Number of inputs to be summed.")

    def forward(self, xp: Any, *arrays: Any) -> Any:
        dtype = arrays[0].dtype
        total = arrays[0].astype(sum_dtype(dtype), copy=False)
        for array in arrays[1:]:
            total = xp.add(total, array)
        return total.astype(dtype, copy=False)

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        return list(grads) * len(ins)

    def cost(self, ins: Types, outs: Types) -> Cost:
        return Cost((len(ins) - 1) * outs[0].size, total_bytes(ins, outs))


@register
class _copy(Op):
    """The input itself."""

    aliases = ("identity",)

    def forward(self, xp: Any, data: Any) -> Any:
        return data

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        return grads


@register
class BlockGrad(Op):
    """The input itself; no gradient flows through."""

    aliases = ("stop_gradient",)
    zero_gradient = True

    def forward(self, xp: Any, data: Any) -> Any:
        return data


@register
class zeros_like(Op):
    """Zeros of the input's shape and dtype."""

    zero_gradient = True
    shape_only = ("data",)

    def forward(self, xp: Any, data: Any) -> Any:
        return xp.zeros_like(data)

    def specialize(self, ins: Entries, types: Types, outs: Types) -> Entry | None:
        return apply("_zeros", shape=types[0].shape, dtype=types[0].dtype)


@register
class ones_like(Op):
    """Ones of the input's shape and dtype."""

    zero_gradient = True
    shape_only = ("data",)

    def forward(self, xp: Any, data: Any) -> Any:
        return xp.ones_like(data)

    def specialize(self, ins: Entries, types: Types, outs: Types) -> Entry | None:
        return apply("_ones", shape=types[0].shape, dtype=types[0].dtype)


class Fill(Op):
    """Shared by ops that make an array from nothing but parameters."""

    inputs = ()
    zero_gradient = True
    shape: Dims = param((), doc="Shape of the result; dimensions of 0 are inferred from its users.")
    ctx: str = param("", doc="Accepted for compatibility; placement decides where it is made.")
    dtype: DType = param("float32", doc="Data type of the result.")

    def specialize(self, ins: Entries, types: Types, outs: Types) -> Entry | None:
        # Fill in a shape that was only known from the users of the result.
        if self.shape == outs[0].shape:
            return None
        return apply(self.name, **{**self.given(), "shape": outs[0].shape})

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        return [], [unify(self.shape or None, outs[0])]

    def infer_dtype(self, ins: DTypes, outs: DTypes) -> tuple[DTypes, DTypes]:
        return [], [self.dtype]


@register
class _zeros(Fill):
    """An array of zeros."""

    def forward(self, xp: Any) -> Any:
        return xp.zeros(self.shape, self.dtype)


@register
class _constant(Op):
    """A small array that was computed while the graph was compiled."""

    internal = True
    inputs = ()
    zero_gradient = True
    shape: Dims = param(doc="Shape of the array.")
    dtype: DType = param(doc="Data type of the array.")
    data: str = param(doc="The array's bytes in base64.")

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        return [], [self.shape]

    def infer_dtype(self, ins: DTypes, outs: DTypes) -> tuple[DTypes, DTypes]:
        return [], [self.dtype]

    def forward(self, xp: Any) -> Any:
        flat = np.frombuffer(base64.b64decode(self.data), self.dtype)
        return xp.asarray(flat.reshape(self.shape))


@register
class _sum_like(Op):
    """Sum the first input over the axes that were broadcast from the second's shape."""

    internal = True
    inputs = ("data", "like")
    shape_only = ("like",)

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        shape = unify(ins[1], outs[0])
        return [ins[0], shape], [shape]

    def infer_dtype(self, ins: DTypes, outs: DTypes) -> tuple[DTypes, DTypes]:
        dtype = unify_dtypes([ins[0], outs[0]])
        return [dtype, ins[1]], [dtype]

    def forward(self, xp: Any, data: Any, like: Any) -> Any:
        return sum_to(data, like.shape)

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        return [apply("broadcast_like", grads[0], ins[0]), None]

    def specialize(self, ins: Entries, types: Types, outs: Types) -> Entry | None:
        if types[0].shape == types[1].shape:
            return ins[0]
        return apply("_sum_to", ins[0], shape=types[1].shape)


@register
class _sum_to(Op):
    """Sum over the axes that would be broadcast from `shape`."""

    internal = True
    shape: Dims = param(doc="Shape of the result.")

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        return [ins[0]], [self.shape]

    def forward(self, xp: Any, data: Any) -> Any:
        return sum_to(data, self.shape)

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        return [apply("broadcast_like", grads[0], ins[0])]


def sum_to(data: Any, shape: Sequence[int]) -> Any:
    """`data` summed so that it has `shape`, from which it was broadcast (float16 in float32)."""
    extra = data.ndim - len(shape)
    ones = tuple(i + extra for i, n in enumerate(shape) if n == 1 and data.shape[i + extra] != 1)
    axes = (*range(extra), *ones)
    if not axes:
        return data.reshape(shape)
    return sum_axes(data, axes).reshape(shape)


@register
class _no_gradient(Op):
    """Stands for a gradient that does not exist; fails when it is computed."""

    internal = True
    reason: str = param(doc="Why there is no gradient.")

    def forward(self, xp: Any, data: Any) -> Any:
        raise RuleError(self.reason)
