"""Ops that put arrays together or repeat them: Concat, stack, tile, repeat, reverse."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

from raysym.errors import RuleError
from raysym.graph import Entry, apply, apply_all
from raysym.op import Cost, Entries, Grads, Op, Shapes, Types, register, total_bytes
from raysym.ops import maths
from raysym.ops.numeric import sum_axes
from raysym.params import Dims, param
from raysym.types import PartialShape, normal_axis, unify


class _Move(Op):
    """Shared by ops that only move numbers: no arithmetic."""

    def cost(self, ins: Types, outs: Types) -> Cost:
        return Cost(0.0, total_bytes(ins, outs))


class _Joined(_Move):
    """Shared by `Concat` and its twin for the weights of recurrent networks."""

    inputs = ("data",)
    variadic = "num_args"
    num_args: int = param(low=1, doc="Number of inputs to be concatenated.")
    dim: int = param(1, doc="The axis along which they are put; negative: from the end.")

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        return joined_shapes(ins, outs, self.dim)

    def forward(self, xp: Any, *arrays: Any) -> Any:
        return xp.concatenate(arrays, axis=self.dim)

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        if len(ins) == 1:
            return grads
        return apply_all("_backward_Concat", grads[0], *ins, num_args=len(ins), dim=self.dim)


@register
class Concat(_Joined):
    """All inputs one behind the other along one axis; their other axes agree."""

    aliases = ("concat",)


@register
class _rnn_param_concat(_Joined):
    """`Concat` of the flattened weights of a recurrent network."""


def joined_shapes(ins: Shapes, outs: Shapes, dim: int) -> tuple[Shapes, Shapes]:
    """Shape rule of a concatenation: other axes agree, one unknown length is the difference."""
    known = next((shape for shape in (*ins, *outs) if shape is not None), None)
    if known is None:
        return ins, outs
    if any(shape is not None and len(shape) != len(known) for shape in (*ins, *outs)):
        raise RuleError("ranks differ", got=tuple(ins), expected=f"{len(known)} axes")
    axis = normal_axis(dim, len(known))
    common: PartialShape = None
    for shape in (*ins, *outs):
        common = unify(common, _without(shape, axis), f"shape besides axis {axis}")
    lengths = [shape[axis] if shape is not None else 0 for shape in ins]
    total = outs[0][axis] if outs[0] is not None else 0
    if 0 not in lengths:
        total = sum(lengths)
    elif total and lengths.count(0) == 1:
        # The one unknown part is what the others leave over.
        rest = total - sum(lengths)
        if rest < 1:
            raise RuleError("the parts are longer than the whole", got=lengths, expected=total)
        lengths[lengths.index(0)] = rest
    return [_with(common, axis, n) for n in lengths], [_with(common, axis, total)]


def _without(shape: PartialShape, axis: int) -> PartialShape:
    return None if shape is None else _with(shape, axis, 0)


def _with(shape: PartialShape, axis: int, length: int) -> tuple[int, ...]:
    dims = tuple(shape or ())
    return (*dims[:axis], length, *dims[axis + 1 :])


@register
class _backward_Concat(_Move):
    """The head gradient of a concatenation cut into the parts of the inputs."""

    internal = True
    inputs = ("grad", "like")
    shape_only = ("like",)
    num_args: int = param(low=1, doc="Number of parts.")
    dim: int = param(1, doc="The axis along which they are cut.")

    def input_names(self) -> tuple[str, ...]:
        return ("grad", *["like"] * self.num_args)

    def output_names(self) -> tuple[str, ...]:
        return tuple(f"output{i}" for i in range(self.num_args))

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        parts = [unify(like, out) for like, out in zip(ins[1:], outs, strict=True)]
        found, whole = joined_shapes(parts, ins[:1], self.dim)
        return [*whole, *found], found

    def forward(self, xp: Any, grad: Any, *likes: Any) -> Any:
        axis = self.dim % grad.ndim
        parts, begin = [], 0
        for like in likes:
            end = begin + like.shape[axis]
            parts.append(grad[(*[slice(None)] * axis, slice(begin, end))])
            begin = end
        return tuple(parts)

    def specialize(self, ins: Entries, types: Types, outs: Types) -> Entry | None:
        axis = self.dim % len(types[0].shape)
        sizes = [part.shape[axis] for part in outs]
        starts = tuple(itertools.accumulate([0, *sizes[:-1]]))
        return apply("_split_v2", ins[0], indices=starts, axis=axis)

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        whole = apply("Concat", *grads, num_args=self.num_args, dim=self.dim)
        return [whole, *[None] * self.num_args]


@register
class stack(_Move):
    """Inputs of one shape put along a new axis."""

    inputs = ("data",)
    variadic = "num_args"
    axis: int = param(0, doc="Where the new axis goes in the output; negative: from the end.")
    num_args: int = param(low=1, doc="Number of inputs to be stacked.")

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        common: PartialShape = None
        for shape in ins:
            common = unify(common, shape)
        if common is None:
            return ins, outs
        axis = normal_axis(self.axis, len(common) + 1)
        return [common] * len(ins), [(*common[:axis], len(ins), *common[axis:])]

    def forward(self, xp: Any, *arrays: Any) -> Any:
        return xp.stack(arrays, axis=self.axis)

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        if len(ins) == 1:
            return [maths.reshape_like(grads[0], ins[0])]
        return apply_all(
            "SliceChannel", grads[0], num_outputs=len(ins), axis=self.axis, squeeze_axis=True
        )


class _Tiled(_Move):
    """Shared by `tile` and its gradient."""

    reps: Dims = param(low=1, doc="How often along each axis.")

    def tiled(self, shape: PartialShape) -> PartialShape:
        """The shape after repetition."""
        if shape is None:
            return None
        dims, reps = self.aligned(shape)
        return tuple(dim * rep for dim, rep in zip(dims, reps, strict=True))

    def aligned(self, shape: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The shape and `reps`, the shorter one filled up with ones in front."""
        ones = (1,) * max(len(shape), len(self.reps))
        return (*ones[len(shape) :], *shape), (*ones[len(self.reps) :], *self.reps)


@register
class tile(_Tiled):
    """The whole array repeated `reps` times along every axis, as numpy.tile does it.

    A shorter `reps` is filled up with ones in front, a longer one gives new leading axes.
    """

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        return ins, [self.tiled(ins[0])]

    def forward(self, xp: Any, data: Any) -> Any:
        return xp.tile(data, self.reps)

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        return [apply("_backward_tile", grads[0], ins[0], reps=self.reps)]


@register
class _backward_tile(_Tiled):
    """The sum over all copies that `tile` made."""

    internal = True
    inputs = ("grad", "like")
    shape_only = ("like",)

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        like = unify(ins[1], outs[0])
        return [self.tiled(like), like], [like]

    def forward(self, xp: Any, grad: Any, like: Any) -> Any:
        dims, reps = self.aligned(like.shape)
        # Every axis becomes (copies, length).
        pairs = [n for pair in zip(reps, dims, strict=True) for n in pair]
        axes = tuple(range(0, len(pairs), 2))
        return sum_axes(grad.reshape(pairs), axes).reshape(like.shape)

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        return [apply("tile", grads[0], reps=self.reps), None]

    def cost(self, ins: Types, outs: Types) -> Cost:
        return Cost(ins[0].size, total_bytes(ins[:1], outs))


class _Repeated(_Move):
    """Shared by `repeat` and its gradient."""

    repeats: int = param(low=1, doc="How often each element is repeated.")
    axis: int | None = param(None, doc="The axis; None: the flattened array.")

    def repeated(self, shape: PartialShape) -> PartialShape:
        """The shape after repetition."""
        if shape is None:
            return None
        if self.axis is None:
            return (0 if 0 in shape else math.prod(shape) * self.repeats,)
        axis = normal_axis(self.axis, len(shape))
        return (*shape[:axis], shape[axis] * self.repeats, *shape[axis + 1 :])


@register
class repeat(_Repeated):
    """Every element repeated `repeats` times along an axis, or of the flattened array."""

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        return ins, [self.repeated(ins[0])]

    def forward(self, xp: Any, data: Any) -> Any:
        return xp.repeat(data, self.repeats, axis=self.axis)

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        return [apply("_backward_repeat", grads[0], ins[0], **self.given())]


@register
class _backward_repeat(_Repeated):
    """The sum over all copies that `repeat` made."""

    internal = True
    inputs = ("grad", "like")
    shape_only = ("like",)

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        like = unify(ins[1], outs[0])
        return [self.repeated(like), like], [like]

    def forward(self, xp: Any, grad: Any, like: Any) -> Any:
        axis = like.ndim - 1 if self.axis is None else self.axis % like.ndim
        split = (*like.shape[: axis + 1], self.repeats, *like.shape[axis + 1 :])
        return sum_axes(grad.reshape(split), axis + 1)

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        return [apply("repeat", grads[0], **self.given()), None]

    def cost(self, ins: Types, outs: Types) -> Cost:
        return Cost(ins[0].size, total_bytes(ins[:1], outs))


@register
class reverse(_Move):
    """The order of the elements turned round along one or more axes."""

    aliases = ("flip",)
    axis: Dims = param(doc="The axes to reverse; negative: from the end.")

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        shape = unify(ins[0], outs[0])
        if shape is not None:
            axes = [normal_axis(axis, len(shape)) for axis in self.axis]
            if len(set(axes)) < len(axes):
                raise RuleError("an axis is named twice", got=self.axis, expected="each axis once")
        return [shape], [shape]

    def forward(self, xp: Any, data: Any) -> Any:
        return xp.flip(data, self.axis)

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        return [apply("reverse", grads[0], axis=self.axis)]
