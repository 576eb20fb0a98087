"""Ops that show the same numbers under another shape: reshape, flatten, transpose, squeeze."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

from raysym.errors import RuleError
from raysym.graph import Entry, apply
from raysym.op import DTypes, Entries, Grads, Op, Shapes, Types, register
from raysym.ops import maths
from raysym.params import Dims, param
from raysym.types import PartialShape, is_known, normal_axis, unify, unify_dtypes


def known_size(shape: PartialShape) -> int:
    """Number of elements; 0 when it is not known."""
    return math.prod(shape) if shape is not None and is_known(shape) else 0


def fill_one(shape: PartialShape, size: int) -> PartialShape:
    """`shape` with its only unknown dimension filled in so that it has `size` elements."""
    if not shape or not size or shape.count(0) != 1:
        return shape
    rest = math.prod(dim for dim in shape if dim)
    if size % rest:
        raise RuleError("sizes do not match", got=shape, expected=f"{size} elements")
    return tuple(dim or size // rest for dim in shape)


def same_size(data: PartialShape, out: PartialShape) -> tuple[PartialShape, PartialShape]:
    """Both shapes with at most one unknown dimension each filled in; RuleError if sizes differ."""
    out = fill_one(out, known_size(data))
    data = fill_one(data, known_size(out))
    if is_known(data) and is_known(out) and known_size(data) != known_size(out):
        raise RuleError("sizes do not match", got=f"{data} as {out}", expected="equal sizes")
    return data, out


class _NewShape(Op):
    """Shared by ops whose output holds the input's numbers in the same order."""

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        return [maths.reshape_like(grads[0], ins[0]), *[None] * (len(ins) - 1)]


@register
class Reshape(_NewShape):
    """The same numbers in the same order under another shape.

    Each member of `shape` is a dimension or a code: 0 keeps the input's dimension at this place,
    -1 is inferred from the rest, -2 keeps all dimensions that are left, -3 merges two dimensions,
    -4 splits one into the next two members (of which one may be -1). With ``reverse`` the members
    are matched from the last one to the first.
    """

    aliases = ("reshape",)
    shape: Dims = param((), low=-4, doc="The target shape: dimensions and codes.")
    reverse: bool = param(False, doc="Match `shape` with the input from right to left.")
    target_shape: Dims = param((), low=0, doc="(Deprecated) target shape; one 0 is inferred.")
    keep_highest: bool = param(False, doc="(Deprecated) keep dimension 0 of the input.")

    def check(self) -> None:
        if not self.shape and not self.target_shape:
            raise RuleError("Required parameter shape is not presented", fix="Give shape=(...)")

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        if ins[0] is None:
            return ins, outs
        data, out = same_size(ins[0], unify(self._target(ins[0]), outs[0]))
        return [data], [out]

    def _target(self, data: Sequence[int]) -> tuple[int, ...]:
        if self.shape:
            step = -1 if self.reverse else 1
            return decode(self.shape[::step], tuple(data)[::step])[::step]
        return (*data[:1], *self.target_shape[1:]) if self.keep_highest else self.target_shape

    def forward(self, xp: Any, data: Any) -> Any:
        return data.reshape(fill_one(self._target(data.shape), data.size))


_NEEDED = {0: 1, -3: 2, -4: 1}  # input dimensions that a code reads


@lru_cache(1 << 12)
def decode(codes: tuple[int, ...], shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape that Reshape's codes describe for an input; what is to be inferred is 0."""
    left, dims, made = deque(codes), deque(shape), list[int]()
    while left:
        code = left.popleft()
        if len(dims) < _NEEDED.get(code, 0):
            raise RuleError("too many codes", got=tuple(codes), expected=f"those that fit {shape}")
        if code == -2:
            made += dims
            dims.clear()
        elif code == -3:
            made.append(dims.popleft() * dims.popleft())
        else:
            dim = dims.popleft() if dims else 0
            made += _split(dim, left) if code == -4 else [dim if code == 0 else code]
    if made.count(-1) > 1:
        raise RuleError("more than one dimension to infer", got=codes, expected="one -1")
    return tuple(max(dim, 0) for dim in made)


def _split(dim: int, codes: deque[int]) -> list[int]:
    if len(codes) < 2:
        raise RuleError(
            "shape code -4 ends too early", got=list(codes), expected="two members behind it"
        )
    parts = [codes.popleft(), codes.popleft()]
    if max(parts) < 1 or any(part < 1 and part != -1 for part in parts):
        raise RuleError(
            "a dimension cannot be split", got=parts, expected="positive parts or one -1"
        )
    if dim and -1 in parts:
        parts = [dim // max(parts) if part == -1 else part for part in parts]
    if dim and math.prod(parts) != dim:
        raise RuleError("a dimension cannot be split", got=dim, expected=f"{parts[0]} x {parts[1]}")
    return [max(part, 0) for part in parts]


@register
class reshape_like(_NewShape):
    """The first input in the shape of the second, or with a range of axes reshaped.

    Axes ``lhs_begin .. lhs_end - 1`` of `lhs` are replaced by axes ``rhs_begin .. rhs_end - 1`` of
    `rhs`; without bounds a range is the whole. Negative bounds count from the end.
    """

    inputs = ("lhs", "rhs")
    shape_only = ("rhs",)
    lhs_begin: int | None = param(None, doc="First axis of lhs that is replaced; None: 0.")
    lhs_end: int | None = param(None, doc="Axis of lhs behind the last; None: its rank.")
    rhs_begin: int | None = param(None, doc="First axis of rhs that is taken; None: 0.")
    rhs_end: int | None = param(None, doc="Axis of rhs behind the last; None: its rank.")

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        lhs, rhs = ins
        if rhs is None or (lhs is None and self.given()):
            return ins, outs
        made = self._target(lhs or (), rhs)
        lhs, out = same_size(lhs, unify(made, outs[0]))
        return [lhs, rhs if self.given() else unify(rhs, out)], [out]

    def _target(self, lhs: Sequence[int], rhs: Sequence[int]) -> tuple[int, ...]:
        if not self.given():
            return tuple(rhs)
        begin, end = _bounds(self.lhs_begin, self.lhs_end, len(lhs), "lhs")
        first, last = _bounds(self.rhs_begin, self.rhs_end, len(rhs), "rhs")
        return (*lhs[:begin], *rhs[first:last], *lhs[end:])

    def infer_dtype(self, ins: DTypes, outs: DTypes) -> tuple[DTypes, DTypes]:
        dtype = unify_dtypes([ins[0], outs[0]])
        return [dtype, ins[1]], [dtype]

    def forward(self, xp: Any, lhs: Any, rhs: Any) -> Any:
        return lhs.reshape(self._target(lhs.shape, rhs.shape))

    def specialize(self, ins: Entries, types: Types, outs: Types) -> Entry | None:
        if types[0].shape == outs[0].shape:
            return ins[0]
        return apply("Reshape", ins[0], shape=outs[0].shape) if outs[0].shape else None


def _bounds(begin: int | None, end: int | None, rank: int, side: str) -> tuple[int, int]:
    first = 0 if begin is None else begin + rank * (begin < 0)
    last = rank if end is None else end + rank * (end < 0)
    if not 0 <= first < last <= rank:
        raise RuleError(f"no range of axes of {side}", got=(begin, end), expected=f"rank {rank}")
    return first, last


@register
class Flatten(_NewShape):
    """All axes but the first collapsed into one: ``(n, a, b, ...) -> (n, a * b * ...)``."""

    aliases = ("flatten",)

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        if not ins[0]:
            return ins, outs
        return ins, [(ins[0][0], known_size(ins[0][1:]))]

    def forward(self, xp: Any, data: Any) -> Any:
        return data.reshape(data.shape[0], -1)


@register
class expand_dims(_NewShape):
    """The input with a new axis of length 1, which is the output's axis `axis`."""

    axis: int = param(doc="Where the new axis goes: -rank - 1 to rank.")

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        data = ins[0]
        if data is None:
            data = self._without(outs[0])
        if data is None:
            return ins, outs
        axis = normal_axis(self.axis, len(data) + 1)
        out = unify((*data[:axis], 1, *data[axis:]), outs[0])
        return [self._without(out)], [out]

    def _without(self, out: PartialShape) -> PartialShape:
        if not out:
            return None
        axis = normal_axis(self.axis, len(out))
        return (*out[:axis], *out[axis + 1 :])

    def forward(self, xp: Any, data: Any) -> Any:
        return xp.expand_dims(data, self.axis)


@register
class squeeze(_NewShape):
    """The input without its axes of length 1, or without those that `axis` lists.

    An array of ones only keeps one axis.
    """

    axis: Dims | None = param(None, doc="Axes of length 1 to drop; None: all of them.")

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        data = ins[0]
        # An unknown dimension may be a 1 that goes.
        if data is None or not is_known(data):
            return ins, outs
        return ins, [self._target(data)]

    def _target(self, data: Sequence[int]) -> tuple[int, ...]:
        gone = self._axes(data)
        for axis in gone:
            if data[axis] != 1:
                raise RuleError("axis cannot be dropped", got=f"axis {axis} of {data}", expected=1)
        return tuple(dim for i, dim in enumerate(data) if i not in gone) or (1,)

    def _axes(self, data: Sequence[int]) -> Iterable[int]:
        if self.axis is None:
            return [i for i, dim in enumerate(data) if dim == 1]
        return {normal_axis(axis, len(data)) for axis in self.axis}

    def forward(self, xp: Any, data: Any) -> Any:
        return data.reshape(self._target(data.shape))


# ----- axes in another order


def permuted(shape: PartialShape, axes: Sequence[int]) -> PartialShape:
    """The shape whose axis i is axis ``axes[i]`` of `shape`."""
    return None if shape is None else tuple(shape[axis] for axis in axes)


class _Permutation(Op):
    """Shared by ops that reorder axes; what they do is its own back-fill."""

    def order(self, rank: int) -> Sequence[int]:
        """Which input axis each output axis is."""
        raise NotImplementedError

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        some = ins[0] if ins[0] is not None else outs[0]
        if some is None:
            return ins, outs
        order = self.order(len(some))
        out = unify(permuted(ins[0], order), outs[0])
        back = sorted(range(len(order)), key=lambda axis: order[axis])
        return [permuted(out, back)], [out]

    def forward(self, xp: Any, data: Any) -> Any:
        return xp.transpose(data, tuple(self.order(data.ndim)))


@register
class transpose(_Permutation):
    """The axes in another order: output axis i is input axis ``axes[i]``; default: reversed."""

    axes: Dims = param((), low=0, doc="The new order of the axes; empty: the reverse order.")

    def check(self) -> None:
        if sorted(self.axes) != list(range(len(self.axes))):
            raise RuleError("axes is no order of the axes", got=self.axes, expected="each one once")

    def order(self, rank: int) -> Sequence[int]:
        if self.axes and len(self.axes) != rank:
            raise RuleError("axes does not fit the rank", got=self.axes, expected=f"{rank} axes")
        return self.axes or range(rank)[::-1]

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        back = tuple(sorted(range(len(self.axes)), key=lambda axis: self.axes[axis]))
        return [apply("transpose", grads[0], axes=back) if back else apply("transpose", grads[0])]


@register
class SwapAxis(_Permutation):
    """Two axes interchanged."""

    aliases = ("swapaxes",)
    dim1: int = param(0, doc="The first axis to be swapped.")
    dim2: int = param(0, doc="The second axis to be swapped.")

    def order(self, rank: int) -> Sequence[int]:
        order = list(range(rank))
        a, b = normal_axis(self.dim1, rank), normal_axis(self.dim2, rank)
        order[a], order[b] = b, a
        return order

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        return [apply("SwapAxis", grads[0], dim1=self.dim1, dim2=self.dim2)]
