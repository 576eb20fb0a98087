"""Ops that look numbers up by index along one axis: Embedding, take, pick, one_hot."""

from __future__ import annotations

import math
from typing import Any

from raysym.errors import RuleError
from raysym.graph import Entry, apply
from raysym.op import Cost, DTypes, Entries, Grads, Op, Shapes, Types, register, total_bytes
from raysym.ops.maths import reshape_like
from raysym.ops.numeric import scalar_of
from raysym.ops.reshape import same_size
from raysym.ops.rows import add_rows, in_range
from raysym.ops.slicing import IntoZeros
from raysym.params import DType, param
from raysym.types import PartialShape, normal_axis, unify, unify_dtypes


def no_index_gradient(op: str, index: Entry) -> Entry:
    """Stands for the gradient of an index; fails if it is computed."""
    reason = f"{op}: indices have no gradient: set their grad_req to 'null'"
    return apply("_no_gradient", index, reason=reason)


class _Lookup(Op):
    """Shared by ops that read from their first input at places that the second one gives."""

    def infer_dtype(self, ins: DTypes, outs: DTypes) -> tuple[DTypes, DTypes]:
        dtype = unify_dtypes([ins[0], outs[0]])
        return [dtype, ins[1]], [dtype]

    def cost(self, ins: Types, outs: Types) -> Cost:
        return Cost(0.0, 2 * total_bytes((), outs) + ins[1].nbytes)


class IntoZerosByIndex(IntoZeros):
    """Shared by gradients of lookups: of the inputs only `grad` has the result's dtype."""

    inputs = ("grad", "index", "like")

    def infer_dtype(self, ins: DTypes, outs: DTypes) -> tuple[DTypes, DTypes]:
        floats = [ins[0], *ins[2:], *outs]
        dtype = unify_dtypes(floats)
        return [dtype, ins[1], *[dtype] * (len(ins) - 2)], [dtype]

    def cost(self, ins: Types, outs: Types) -> Cost:
        return Cost(ins[0].size, total_bytes(ins[:2], outs))


@register
class Embedding(_Lookup):
    """Row ``data[...]`` of the weight matrix for every index.

    Shapes: data any, weight ``(input_dim, output_dim)``, output ``data.shape + (output_dim,)``.
    Fractions of indices are dropped, indices outside are clipped; the gradient of a row that was
    taken several times is the sum.
    """

    inputs = ("data", "weight")
    input_dim: int = param(low=1, doc="Number of rows: how many different indices there are.")
    output_dim: int = param(low=1, doc="Length of each row.")
    dtype: DType = param("float32", doc="Data type of weight, unless the weight's own is known.")
    sparse_grad: bool = param(False, doc="Accepted; gradients are dense.")

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        data = ins[0]
        out = None if data is None else (*data, self.output_dim)
        return [data, (self.input_dim, self.output_dim)], [out]

    def infer_dtype(self, ins: DTypes, outs: DTypes) -> tuple[DTypes, DTypes]:
        dtype = unify_dtypes([ins[1], outs[0]]) or self.dtype
        return [ins[0], dtype], [dtype]

    def forward(self, xp: Any, data: Any, weight: Any) -> Any:
        return xp.take(weight, in_range(xp, data, weight.shape[0]), axis=0)

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        weight = apply("_backward_take", grads[0], ins[0], ins[1])
        return [no_index_gradient(self.name, ins[0]), weight]

    def cost(self, ins: Types, outs: Types) -> Cost:
        return Cost(0.0, 2 * total_bytes((), outs) + ins[0].nbytes)


@register
class _contrib_SparseEmbedding(Embedding):
    """`Embedding` whose gradient MXNet keeps sparse; here it is dense."""


@register
class take(_Lookup):
    """Entries of `a` along one axis, at the given indices.

    Shapes: ``a[:axis] + indices.shape + a[axis + 1:]``. Fractions of indices are dropped.
    """

    inputs = ("a", "indices")
    axis: int = param(0, doc="The axis to take from; negative: from the end.")
    mode: str = param(
        "clip", choices=("clip", "wrap", "raise"), doc="What is done with indices outside."
    )

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        a, indices = ins
        if a is None:
            return ins, outs
        axis = normal_axis(self.axis, len(a))
        return ins, [None if indices is None else (*a[:axis], *indices, *a[axis + 1 :])]

    def forward(self, xp: Any, a: Any, indices: Any) -> Any:
        length = a.shape[self.axis]
        # Only this mode has to look at the numbers, which makes a GPU wait.
        if self.mode == "raise" and ((indices < 0) | (indices >= length)).any():
            raise RuleError("an index is outside of the axis", expected=f"0 to {length - 1}")
        return xp.take(a, in_range(xp, indices, length, self.mode), axis=self.axis)

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        grad = apply("_backward_take", grads[0], ins[1], ins[0], **self.given())
        return [grad, no_index_gradient(self.name, ins[1])]


@register
class _backward_take(IntoZerosByIndex):
    """The head gradient added up where `take` (or `Embedding`) read."""

    page = "take"
    params = {**take.params, **IntoZeros.params}
    axis: int
    mode: str

    def fill(self, xp: Any, zeros: Any, *arrays: Any) -> Any:
        grad, index = arrays
        shape, axis = zeros.shape, self.axis % zeros.ndim
        flat = in_range(xp, index, shape[axis], self.mode).reshape(-1)
        lead, tail = math.prod(shape[:axis]), math.prod(shape[axis + 1 :])
        rows = grad.reshape(lead, flat.size, tail).swapaxes(0, 1).reshape(flat.size, lead * tail)
        made = add_rows(xp, rows, flat, shape[axis]).reshape(shape[axis], lead, tail)
        return made.swapaxes(0, 1).reshape(shape)


@register
class pick(_Lookup):
    """One entry along an axis for every place of the other axes: ``data[i, index[i]]``.

    Shapes: index as data without the axis (or with length 1 there), output as index, with the axis
    of length 1 if `keepdims`. Fractions of indices are dropped.
    """

    aliases = ("choose_element_0index",)
    inputs = ("data", "index")
    axis: int | None = param(-1, doc="The axis to pick from; negative: from the end.")
    keepdims: bool = param(False, doc="Keep the axis with length 1.")
    mode: str = param("clip", choices=("clip", "wrap"), doc="What is done with indices outside.")

    def check(self) -> None:
        if self.axis is None:
            raise RuleError("an axis is needed", got="axis=None", expected="an int")

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        data, index = ins
        if data is None:
            return ins, outs
        axis = normal_axis(self.axis or 0, len(data))
        rest = (*data[:axis], *data[axis + 1 :])
        kept = (*data[:axis], 1, *data[axis + 1 :])
        wide = index is not None and len(index) == len(data)
        return [data, unify(index, kept if wide else rest)], [
            kept if self.keepdims else rest or (1,)
        ]

    def forward(self, xp: Any, data: Any, index: Any) -> Any:
        places = one_place(xp, data.shape, index, self.axis or 0, self.mode)
        made = xp.take_along_axis(data, places, self.axis)
        return made if self.keepdims else made.reshape(_dropped(data.shape, self.axis or 0))

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        given = {key: value for key, value in self.given().items() if key != "keepdims"}
        return [apply("_backward_pick", grads[0], ins[1], ins[0], **given), None]


def one_place(xp: Any, shape: tuple[int, ...], index: Any, axis: int, mode: str) -> Any:
    """The index in the rank of the data, inside the axis, for take_along_axis."""
    kept = list(shape)
    kept[axis] = 1
    return in_range(xp, index, shape[axis], mode).reshape(kept)


def _dropped(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    axis %= len(shape)
    return (*shape[:axis], *shape[axis + 1 :]) or (1,)


@register
class _backward_pick(IntoZerosByIndex):
    """The head gradient in the place that `pick` read."""

    page = "pick"
    params = {**pick.params, **IntoZeros.params}
    axis: int
    mode: str

    def grad_shape(self, ins: Shapes, grad: PartialShape) -> PartialShape:
        # With or without the axis of length 1.
        _, (made,) = self.forward_op().infer_shape(ins, [None])
        return same_size(grad, made)[0]

    def fill(self, xp: Any, zeros: Any, *arrays: Any) -> Any:
        grad, index = arrays
        places = one_place(xp, zeros.shape, index, self.axis, self.mode)
        xp.put_along_axis(zeros, places, grad.reshape(places.shape), self.axis)
        return zeros

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        picked = apply("pick", grads[0], ins[1], **self.place())
        return [reshape_like(picked, ins[0]), *[None] * (len(ins) - 1)]


@register
class batch_take(_Lookup):
    """One entry of every row: ``a[i, indices[i]]``; indices outside are clipped."""

    inputs = ("a", "indices")

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        a, indices = ins
        if a is not None and len(a) != 2:
            raise RuleError("a is a matrix", got=a, expected="two axes")
        rows: PartialShape = unify(indices, a[:1] if a is not None else None, "number of rows")
        return [a, rows], [rows]

    def infer_dtype(self, ins: DTypes, outs: DTypes) -> tuple[DTypes, DTypes]:
        dtype = unify_dtypes([ins[0], outs[0]])
        return [dtype, ins[1] or "int32"], [dtype]

    def forward(self, xp: Any, a: Any, indices: Any) -> Any:
        return xp.take_along_axis(a, one_place(xp, a.shape, indices, 1, "clip"), 1)[:, 0]

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        return [apply("_backward_pick", grads[0], ins[1], ins[0], axis=1), None]


@register
class one_hot(Op):
    """``on_value`` at the place that the index names along a new last axis, else ``off_value``.

    Shapes: indices any, output ``indices.shape + (depth,)``. Indices outside: all `off_value`.
    """

    inputs = ("indices",)
    zero_gradient = True
    depth: int = param(low=1, doc="Length of the new axis.")
    on_value: float = param(1.0, doc="Value at the place of the index.")
    off_value: float = param(0.0, doc="Value everywhere else.")
    dtype: DType = param("float32", doc="Data type of the output.")

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        return ins, [None if ins[0] is None else (*ins[0], self.depth)]

    def infer_dtype(self, ins: DTypes, outs: DTypes) -> tuple[DTypes, DTypes]:
        return ins, [self.dtype]

    def forward(self, xp: Any, indices: Any) -> Any:
        hit = indices.astype("int64")[..., None] == xp.arange(self.depth)
        on, off = (scalar_of(self.dtype, v) for v in (self.on_value, self.off_value))
        return xp.where(hit, on, off)


@register
class fill_element_0index(Op):
    """`lhs` with one entry of every row replaced: ``lhs[i, rhs[i]] = mhs[i]``."""

    inputs = ("lhs", "mhs", "rhs")

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        matrix = unify(ins[0], outs[0])
        if matrix is not None and len(matrix) != 2:
            raise RuleError("lhs is a matrix", got=matrix, expected="two axes")
        rows = matrix[:1] if matrix is not None else None
        return [matrix, rows, rows], [matrix]

    def forward(self, xp: Any, lhs: Any, mhs: Any, rhs: Any) -> Any:
        hit = rhs.astype("int64")[:, None] == xp.arange(lhs.shape[1])
        return xp.where(hit, mhs[:, None], lhs)
