"""Order along an axis: argmax, argmin, sort, argsort, topk, and how values go back to places.

Ties keep the order of the input, ascending and descending alike.
"""

from __future__ import annotations

import math
from typing import Any

from raysym.errors import RuleError
from raysym.graph import Entry, apply
from raysym.op import Cost, DTypes, Entries, Grads, Op, Shapes, Types, register, total_bytes
from raysym.ops.reduce import reduced_shape
from raysym.params import Dims, DType, param
from raysym.types import normal_axis, unify_dtypes


class _Arg(Op):
    """Shared by ops that find the place of an extremum."""

    zero_gradient = True
    axis: int | None = param(None, doc="The axis to search along; None: all elements in row order.")
    keepdims: bool = param(False, doc="Keep the axis with length 1.")

    def _axes(self, rank: int) -> Dims:
        return tuple(range(rank)) if self.axis is None else (normal_axis(self.axis, rank),)

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        shape = ins[0]
        if shape is None:
            return ins, outs
        return ins, [reduced_shape(shape, self._axes(len(shape)), self.keepdims)]

    def _finish(self, xp: Any, found: Any, data: Any) -> Any:
        shape = reduced_shape(data.shape, self._axes(data.ndim), self.keepdims)
        return xp.asarray(found).reshape(shape).astype(data.dtype)

    def cost(self, ins: Types, outs: Types) -> Cost:
        return Cost(ins[0].size, total_bytes(ins, outs))


@register
class argmax(_Arg):
    """Index of the largest element along an axis, the first of equals, in the input's dtype."""

    def forward(self, xp: Any, data: Any) -> Any:
        return self._finish(xp, data.argmax(axis=self.axis), data)


@register
class argmin(_Arg):
    """Index of the smallest element along an axis, the first of equals, in the input's dtype."""

    def forward(self, xp: Any, data: Any) -> Any:
        return self._finish(xp, data.argmin(axis=self.axis), data)


@register
class argmax_channel(Op):
    """Index of the largest element along axis 1, in the input's dtype. Not differentiable."""

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        shape = ins[0]
        if shape is None:
            return ins, outs
        return ins, [reduced_shape(shape, (normal_axis(1, len(shape)),), False)]

    def forward(self, xp: Any, data: Any) -> Any:
        return data.argmax(axis=1).astype(data.dtype)

    def cost(self, ins: Types, outs: Types) -> Cost:
        return Cost(ins[0].size, total_bytes(ins, outs))


def order(xp: Any, x: Any, axis: int, ascending: bool) -> Any:
    """Indices that sort `x` along `axis`; equal elements keep their order."""
    if ascending:
        return xp.argsort(x, axis=axis, kind="stable")
    # Sorting the reversed axis and reversing the result keeps ties in order.
    backward = xp.argsort(xp.flip(x, axis), axis=axis, kind="stable")
    return x.shape[axis] - 1 - xp.flip(backward, axis)


class _Ordering(Op):
    """Shared by ops that sort along an axis."""

    axis: int | None = param(-1, doc="The axis to sort along; None: all elements in row order.")

    def _flat(self, data: Any) -> Any:
        return data.reshape(-1) if self.axis is None else data

    def _axis(self) -> int:
        return 0 if self.axis is None else self.axis

    def _sorted_shape(self, shape: Dims, k: int | None = None) -> Dims:
        """The shape of the result; `k` of the elements along the axis stay."""
        flat = (math.prod(shape),) if self.axis is None else shape
        axis = normal_axis(self._axis(), len(flat))
        return (*flat[:axis], flat[axis] if k is None else k, *flat[axis + 1 :])

    def _place(self, grad: Entry, indices: Entry, like: Entry) -> Entry:
        """`grad` back at the places in `like` from which its values were taken."""
        return apply("_put_along", grad, indices, like, axis=self.axis)

    def cost(self, ins: Types, outs: Types) -> Cost:
        size = ins[0].size
        return Cost(size * max(1.0, math.log2(max(size, 1))), total_bytes(ins, outs))


@register
class sort(_Ordering):
    """The elements in order along an axis; a hidden second output holds where they came from.

    Shape: that of the input; with axis None ``(size,)``.
    """

    outputs = ("output0", "output1")
    hidden = 1
    is_ascend: bool = param(True, doc="Whether the smallest element comes first.")

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        return ins, outs if ins[0] is None else [self._sorted_shape(ins[0])] * 2

    def infer_dtype(self, ins: DTypes, outs: DTypes) -> tuple[DTypes, DTypes]:
        dtype = unify_dtypes([ins[0], outs[0]])
        return [dtype], [dtype, "int32"]

    def forward(self, xp: Any, data: Any) -> Any:
        x = self._flat(data)
        indices = order(xp, x, self._axis(), self.is_ascend)
        return xp.take_along_axis(x, indices, self._axis()), indices.astype("int32")

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        return [self._place(grads[0], outs[1], ins[0])]


@register
class argsort(_Ordering):
    """Indices that would sort the input along an axis; shape as for `sort`."""

    zero_gradient = True
    is_ascend: bool = param(True, doc="Whether the smallest element comes first.")
    dtype: DType = param("float32", doc="Data type of the indices.")

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        return ins, outs if ins[0] is None else [self._sorted_shape(ins[0])]

    def infer_dtype(self, ins: DTypes, outs: DTypes) -> tuple[DTypes, DTypes]:
        return ins, [self.dtype]

    def forward(self, xp: Any, data: Any) -> Any:
        return order(xp, self._flat(data), self._axis(), self.is_ascend).astype(self.dtype)


@register
class topk(_Ordering):
    """The k largest (or smallest) elements along an axis, in order.

    `ret_typ`: their ``value``, their ``indices``, ``both``, or a ``mask`` in the input's shape
    with 1 where they are. k below 1 means all. Values and mask have the input's dtype.
    """

    k: int = param(1, doc="How many elements; below 1: all of the axis.")
    ret_typ: str = param(
        "indices", choices=("both", "indices", "mask", "value"), doc="What to return."
    )
    is_ascend: bool = param(False, doc="Whether to look for the smallest elements.")
    dtype: DType = param("float32", doc="Data type of the indices.")

    def output_names(self) -> tuple[str, ...]:
        two = self.ret_typ in ("both", "value")
        return ("output0", "output1") if two else ("output",)

    def n_visible(self) -> int:
        return 2 if self.ret_typ == "both" else 1

    def _taken(self, length: int) -> int:
        if self.k > length > 0:
            raise RuleError("k is larger than the axis", got=self.k, expected=f"at most {length}")
        return self.k if self.k > 0 else length

    def _length(self, shape: Dims) -> int:
        flat = self._sorted_shape(shape)
        return flat[normal_axis(self._axis(), len(flat))]

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        shape = ins[0]
        if shape is None:
            return ins, outs
        taken = self._taken(self._length(shape))
        if self.ret_typ == "mask":
            return ins, [shape]
        return ins, [self._sorted_shape(shape, taken)] * len(outs)

    def infer_dtype(self, ins: DTypes, outs: DTypes) -> tuple[DTypes, DTypes]:
        if self.ret_typ == "indices":
            return ins, [self.dtype]
        dtype = unify_dtypes([ins[0], outs[0]])
        return [dtype], [dtype, self.dtype][: len(outs)]

    def forward(self, xp: Any, data: Any) -> Any:
        x, axis = self._flat(data), normal_axis(self._axis(), self._flat(data).ndim)
        places = order(xp, x, axis, self.is_ascend)
        first = places[(slice(None),) * axis + (slice(0, self._taken(x.shape[axis])),)]
        if self.ret_typ == "indices":
            return first.astype(self.dtype)
        if self.ret_typ == "mask":
            mask = xp.zeros_like(x)
            xp.put_along_axis(mask, first, x.dtype.type(1), axis)
            return mask.reshape(data.shape)
        return xp.take_along_axis(x, first, axis), first.astype(self.dtype)

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        if self.ret_typ in ("indices", "mask"):
            return [None]
        return [self._place(grads[0], outs[1], ins[0])]


class _Along(Op):
    """Shared by the two ops that move values along an axis by index."""

    internal = True
    axis: int | None = param(-1, doc="The axis along which indices count; None: in row order.")

    def _view(self, data: Any) -> tuple[Any, int]:
        return (data.reshape(-1), 0) if self.axis is None else (data, self.axis)


@register
class _put_along(_Along):
    """Zeros in the shape of `like` with the values of `data` at `indices` along an axis."""

    inputs = ("data", "indices", "like")
    shape_only = ("like",)

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        return ins, [ins[2]]

    def infer_dtype(self, ins: DTypes, outs: DTypes) -> tuple[DTypes, DTypes]:
        return ins, [ins[0]]

    def forward(self, xp: Any, data: Any, indices: Any, like: Any) -> Any:
        flat, axis = self._view(xp.zeros(like.shape, data.dtype))
        xp.put_along_axis(flat, indices.astype("int64"), data, axis)
        return flat.reshape(like.shape)

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        return [apply("_take_along", grads[0], ins[1], axis=self.axis), None, None]


@register
class _take_along(_Along):
    """The values of `data` at `indices` along an axis."""

    inputs = ("data", "indices")

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        return ins, [ins[1]]

    def infer_dtype(self, ins: DTypes, outs: DTypes) -> tuple[DTypes, DTypes]:
        return ins, [ins[0]]

    def forward(self, xp: Any, data: Any, indices: Any) -> Any:
        flat, axis = self._view(data)
        return xp.take_along_axis(flat, indices.astype("int64"), axis)

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        return [apply("_put_along", grads[0], ins[1], ins[0], axis=self.axis), None]
