"""Ops whose indices are coordinates: gather_nd, scatter_nd, (un)ravel_index, index_copy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from raysym.errors import RuleError
from raysym.graph import apply
from raysym.op import Cost, DTypes, Entries, Grads, Op, Shapes, Types, register, total_bytes
from raysym.ops.index import IntoZerosByIndex
from raysym.ops.rows import add_rows, in_range, set_rows
from raysym.params import Dims, param
from raysym.types import PartialShape, normal_axis, unify, unify_dtypes


def linear_index(xp: Any, indices: Any, dims: Sequence[int]) -> Any:
    """Positions in the flattened array for coordinates along axis 0; negative ones wrap around."""
    flat: Any = 0
    for coordinate, dim in zip(indices, dims, strict=False):
        flat = flat * dim + in_range(xp, coordinate, dim, "wrap")
    return flat.reshape(-1)


def _depth(indices: PartialShape, data: Sequence[int]) -> int:
    """How many axes the coordinates fix; 0 when unknown."""
    if indices is None or not indices:
        return 0
    if indices[0] > len(data):
        raise RuleError("more coordinates than axes", got=indices[0], expected=f"{len(data)} axes")
    return indices[0]


def _gathered(indices: PartialShape, data: PartialShape) -> PartialShape:
    if data is None or indices is None or not _depth(indices, data):
        return None
    return (*indices[1:], *data[indices[0] :]) or (1,)


@register
class gather_nd(Op):
    """Parts of the data at coordinates: ``out[k] = data[indices[0, k], indices[1, k], ...]``.

    Shapes: indices ``(m, k...)``, output ``(k...) + data.shape[m:]``. Negative coordinates count
    from the end; those outside wrap around.
    """

    inputs = ("data", "indices")

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        return ins, [_gathered(ins[1], ins[0])]

    def infer_dtype(self, ins: DTypes, outs: DTypes) -> tuple[DTypes, DTypes]:
        dtype = unify_dtypes([ins[0], outs[0]])
        return [dtype, ins[1]], [dtype]

    def forward(self, xp: Any, data: Any, indices: Any) -> Any:
        depth = indices.shape[0]
        rows = data.reshape(math.prod(data.shape[:depth]), *data.shape[depth:])
        made = rows[linear_index(xp, indices, data.shape)]
        return made.reshape(_gathered(indices.shape, data.shape))

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        return [apply("_backward_gather_nd", grads[0], ins[1], ins[0]), None]

    def cost(self, ins: Types, outs: Types) -> Cost:
        return Cost(0.0, 2 * total_bytes((), outs) + ins[1].nbytes)


@register
class _backward_gather_nd(IntoZerosByIndex):
    """The head gradient added up at the coordinates that `gather_nd` read."""

    page = "gather_nd"

    def fill(self, xp: Any, zeros: Any, *arrays: Any) -> Any:
        grad, indices = arrays
        depth, shape = indices.shape[0], zeros.shape
        flat = linear_index(xp, indices, shape)
        rows = grad.reshape(flat.size, math.prod(shape[depth:]))
        return add_rows(xp, rows, flat, math.prod(shape[:depth])).reshape(shape)


@register
class scatter_nd(Op):
    """Zeros of the given shape with the data at coordinates; of duplicates the last one stays.

    Shapes: indices ``(m, k...)``, data ``(k...) + shape[m:]``. The gradient of every datum is the
    head gradient at its place, also of those that a duplicate covered.
    """

    inputs = ("data", "indices")
    shape: Dims = param(low=1, doc="Shape of the output.")

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        data = unify(ins[0], _gathered(ins[1], self.shape), "shape of data")
        return [data, ins[1]], [self.shape]

    def infer_dtype(self, ins: DTypes, outs: DTypes) -> tuple[DTypes, DTypes]:
        dtype = unify_dtypes([ins[0], outs[0]])
        return [dtype, ins[1]], [dtype]

    def forward(self, xp: Any, data: Any, indices: Any) -> Any:
        return _scattered(xp, xp.zeros(self.shape, data.dtype), data, indices)

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        # As in MXNet, also for data that a duplicate covered.
        return [apply("gather_nd", grads[0], ins[1]), None]

    def cost(self, ins: Types, outs: Types) -> Cost:
        return Cost(0.0, total_bytes(ins, outs))


def _scattered(xp: Any, base: Any, data: Any, indices: Any) -> Any:
    depth, shape = indices.shape[0], base.shape
    flat = linear_index(xp, indices, shape)
    tail = math.prod(shape[depth:])
    rows = base.reshape(math.prod(shape[:depth]), tail)
    return set_rows(xp, rows, data.reshape(flat.size, tail), flat).reshape(shape)


@register
class _scatter_set_nd(Op):
    """`lhs` with `rhs` at coordinates; of duplicates the last one stays."""

    inputs = ("lhs", "rhs", "indices")
    shape: Dims = param(low=1, doc="Shape of lhs and of the output.")

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        rhs = unify(ins[1], _gathered(ins[2], self.shape), "shape of rhs")
        return [self.shape, rhs, ins[2]], [self.shape]

    def infer_dtype(self, ins: DTypes, outs: DTypes) -> tuple[DTypes, DTypes]:
        dtype = unify_dtypes([*ins[:2], outs[0]])
        return [dtype, dtype, ins[2]], [dtype]

    def forward(self, xp: Any, lhs: Any, rhs: Any, indices: Any) -> Any:
        return _scattered(xp, lhs, rhs, indices)

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        kept = apply(
            "_scatter_set_nd", grads[0], apply("zeros_like", ins[1]), ins[2], shape=self.shape
        )
        return [kept, apply("gather_nd", grads[0], ins[2]), None]


@register
class _contrib_index_copy(Op):
    """`old_tensor` with row ``index_vector[k]`` replaced by row k of `new_tensor`.

    Shapes: ``(n, ...)``, ``(k,)``, ``(k, ...)``; of duplicate indices the last one stays.
    """

    inputs = ("old_tensor", "index_vector", "new_tensor")

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        old, index, new = unify(ins[0], outs[0]), ins[1], ins[2]
        if index is not None and len(index) != 1:
            raise RuleError("index_vector is a vector", got=index, expected="one axis")
        if old is not None and index is not None:
            new = unify(new, (index[0], *old[1:]), "shape of new_tensor")
        return [old, index, new], [old]

    def infer_dtype(self, ins: DTypes, outs: DTypes) -> tuple[DTypes, DTypes]:
        dtype = unify_dtypes([ins[0], ins[2], outs[0]])
        return [dtype, ins[1], dtype], [dtype]

    def forward(self, xp: Any, old: Any, index: Any, new: Any) -> Any:
        rows, length = math.prod(old.shape[1:]), old.shape[0]
        flat = in_range(xp, index, length)
        made = set_rows(xp, old.reshape(length, rows), new.reshape(flat.size, rows), flat)
        return made.reshape(old.shape)

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        nothing = apply("zeros_like", ins[2])
        kept = apply("_contrib_index_copy", grads[0], ins[1], nothing)
        return [kept, None, apply("take", grads[0], ins[1])]


@register
class _contrib_index_array(Op):
    """The coordinates of every element, along a new last axis, as int64."""

    zero_gradient = True
    shape_only = ("data",)
    axes: Dims | None = param(None, doc="Which coordinates to give; None: all of them.")

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        data = ins[0]
        return ins, [None if data is None else (*data, len(self._axes(len(data))))]

    def _axes(self, rank: int) -> Sequence[int]:
        return range(rank) if self.axes is None else [normal_axis(a, rank) for a in self.axes]

    def infer_dtype(self, ins: DTypes, outs: DTypes) -> tuple[DTypes, DTypes]:
        return ins, ["int64"]

    def forward(self, xp: Any, data: Any) -> Any:
        grids = [
            xp.broadcast_to(xp.arange(n).reshape(n, *[1] * (data.ndim - axis - 1)), data.shape)
            for axis, n in enumerate(data.shape)
        ]
        return xp.stack([grids[axis] for axis in self._axes(data.ndim)], axis=-1)


@register
class _ravel_multi_index(Op):
    """Positions in the flattened array for coordinates along axis 0: ``(m, k) -> (k,)``."""

    kinds = "fiu"
    aliases = ("ravel_multi_index",)
    shape: Dims | None = param(None, doc="Shape of the array; its first member does not matter.")

    def check(self) -> None:
        if not self.shape:
            raise RuleError("Required parameter shape is not presented", fix="Give shape=(...)")

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        data = ins[0]
        if data is None:
            return ins, outs
        if len(data) != 2:
            raise RuleError("coordinates are a matrix", got=data, expected="two axes")
        rank = len(self.shape or ())
        if data[0] and data[0] != rank:
            raise RuleError("coordinates do not fit", got=data[0], expected=f"{rank} rows")
        return [(rank, data[1])], [data[1:]]

    def forward(self, xp: Any, data: Any) -> Any:
        flat = data[0]
        for coordinate, dim in zip(data[1:], (self.shape or ())[1:], strict=True):
            flat = flat * dim + coordinate
        return flat


@register
class _unravel_index(Op):
    """Coordinates, along a new axis 0, of positions in a flattened array: ``(k) -> (m, k)``."""

    aliases = ("unravel_index",)
    shape: Dims | None = param(None, doc="Shape of the array; its first member does not matter.")

    def check(self) -> None:
        if not self.shape:
            raise RuleError("Required parameter shape is not presented", fix="Give shape=(...)")

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        return ins, [None if ins[0] is None else (len(self.shape or ()), *ins[0])]

    def forward(self, xp: Any, data: Any) -> Any:
        # Whatever the last axes leave over belongs to the first one, whose length may be unknown.
        left, coordinates = data.astype("int64"), []
        for dim in (self.shape or ())[:0:-1]:
            coordinates.append(left % dim)
            left = left // dim
        return xp.stack([left, *coordinates[::-1]]).astype(data.dtype)


@register
class _contrib_boolean_mask(Op):
    """Refused: the rows whose mask is not zero; how many there are depends on numbers."""

    inputs = ("data", "index")
    axis: int = param(0, doc="The axis along which rows are kept.")

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        raise RuleError(
            "the shape of the output would depend on numbers",
            expected="static shapes",
            fix="Multiply with the mask, or use where or SequenceMask",
        )

    def forward(self, xp: Any, data: Any, index: Any) -> Any:
        keep = [slice(None)] * (self.axis % data.ndim)
        return data[(*keep, index != 0)]
