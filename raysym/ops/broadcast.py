"""Repeating an array along axes of length 1: broadcast_to, broadcast_axis, broadcast_like."""

from __future__ import annotations

from typing import Any

from raysym.errors import RuleError
from raysym.graph import Entry, apply
from raysym.op import DTypes, Entries, Grads, Op, Shapes, Types, register
from raysym.ops.maths import sum_like
from raysym.params import Dims, param
from raysym.types import PartialShape, normal_axis, unify_dtypes


def _stretch(old: int, new: int, shape: PartialShape, target: Any) -> int:
    if old in (0, 1) or new == old:
        return new
    if new == 0:
        return 0  # not known yet, and 1 stays possible only for a length of 1
    raise RuleError("cannot broadcast", got=shape, expected=f"1 or equal dimensions to {target}")


def _stretched(shape: PartialShape, target: PartialShape) -> PartialShape:
    """`target`, after a check that `shape` broadcasts to it axis by axis."""
    if shape is None or target is None:
        return target
    if len(shape) != len(target):
        raise RuleError("cannot broadcast to another rank", got=shape, expected=target)
    pairs = zip(shape, target, strict=True)
    return tuple(_stretch(old, new, shape, target) for old, new in pairs)


@register
class broadcast_to(Op):
    """The input repeated along its axes of length 1 until it has `shape`.

    The rank stays; a 0 in `shape` keeps the input's dimension.
    """

    shape: Dims = param((), doc="Shape of the result; 0 keeps the dimension of the input.")

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        data = ins[0]
        if data is None:
            return ins, outs
        if len(data) != len(self.shape):
            raise RuleError("shape has another rank", got=self.shape, expected=f"like {data}")
        target = tuple(new or old for old, new in zip(data, self.shape, strict=True))
        return ins, [_stretched(data, target)]

    def forward(self, xp: Any, data: Any) -> Any:
        target = tuple(new or old for old, new in zip(data.shape, self.shape, strict=True))
        return xp.broadcast_to(data, target)

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        return [sum_like(grads[0], ins[0])]

    def specialize(self, ins: Entries, types: Types, outs: Types) -> Entry | None:
        return ins[0] if types[0].shape == outs[0].shape else None


@register
class broadcast_axis(Op):
    """The input repeated along the axes `axis`, which have length 1, `size` times."""

    aliases = ("broadcast_axes",)
    axis: Dims = param((), doc="The axes to repeat along; each has length 1.")
    size: Dims = param((), doc="The new length of each of these axes.")

    def check(self) -> None:
        if len(self.axis) != len(self.size):
            raise RuleError("axis and size differ in length", got=self.size, expected=self.axis)

    def _target(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        new = list(shape)
        for axis, size in zip(self.axis, self.size, strict=True):
            new[normal_axis(axis, len(shape))] = size
        return tuple(new)

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        data = ins[0]
        if data is None:
            return ins, outs
        for axis in self.axis:
            if data[normal_axis(axis, len(data))] not in (0, 1):
                raise RuleError(f"axis {axis} cannot be repeated", got=data, expected="length 1")
        return ins, [self._target(data)]

    def forward(self, xp: Any, data: Any) -> Any:
        return xp.broadcast_to(data, self._target(data.shape))

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        return [sum_like(grads[0], ins[0])]

    def specialize(self, ins: Entries, types: Types, outs: Types) -> Entry | None:
        return ins[0] if types[0].shape == outs[0].shape else None


@register
class broadcast_like(Op):
    """The first input repeated until it has the shape of the second.

    With `lhs_axes` and `rhs_axes` only these axes take the length of their partners. Without
    them, a second input of higher rank adds axes in front (MXNet refuses that).
    """

    inputs = ("lhs", "rhs")
    shape_only = ("rhs",)
    lhs_axes: Dims | None = param(None, doc="Axes of the first input to repeat along; None: all.")
    rhs_axes: Dims | None = param(None, doc="The axes of the second input that they follow.")

    def check(self) -> None:
        lengths = {None if axes is None else len(axes) for axes in (self.lhs_axes, self.rhs_axes)}
        if len(lengths) > 1 or lengths == {0}:
            raise RuleError(
                "lhs_axes and rhs_axes do not match",
                got=self.lhs_axes,
                expected=f"as many as {self.rhs_axes}",
            )

    def _target(self, data: tuple[int, ...], like: tuple[int, ...]) -> tuple[int, ...]:
        if self.lhs_axes is None or self.rhs_axes is None:
            return like
        new = list(data)
        for to, source in zip(self.lhs_axes, self.rhs_axes, strict=True):
            new[normal_axis(to, len(data))] = like[normal_axis(source, len(like))]
        return tuple(new)

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        data, like = ins
        if data is None or like is None:
            return ins, outs
        target = self._target(data, like)
        extra = len(target) - len(data)
        return ins, [target[: max(extra, 0)] + (_stretched(data, target[max(extra, 0) :]) or ())]

    def infer_dtype(self, ins: DTypes, outs: DTypes) -> tuple[DTypes, DTypes]:
        dtype = unify_dtypes([ins[0], outs[0]])
        return [dtype, ins[1]], [dtype]

    def forward(self, xp: Any, lhs: Any, rhs: Any) -> Any:
        return xp.broadcast_to(lhs, self._target(lhs.shape, rhs.shape))

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        return [sum_like(grads[0], ins[0]), None]

    def specialize(self, ins: Entries, types: Types, outs: Types) -> Entry | None:
        if types[0].shape == outs[0].shape:
            return ins[0]
        if len(types[0].shape) < len(outs[0].shape):
            return None
        return apply("broadcast_to", ins[0], shape=outs[0].shape)
