"""Ops that cut arrays: slice, slice_axis, slice_like, SliceChannel, split_v2."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, ClassVar, TypeVar

from raysym.errors import RuleError
from raysym.graph import Entry, apply
from raysym.op import (
    Cost,
    DTypes,
    Entries,
    Grads,
    Op,
    Shapes,
    Types,
    make_op,
    register,
    total_bytes,
)
from raysym.params import Dims, OptDims, param
from raysym.types import PartialShape, normal_axis, unify, unify_dtypes

Cut = tuple[slice, ...]
_T = TypeVar("_T")


class _Cut(Op):
    """Shared by ops that take one rectangular (perhaps strided) part of their first input."""

    def cut(self, shape: Sequence[int], like: Sequence[int]) -> Cut:
        """The slices of an input of this shape; RuleError where they lie outside."""
        raise NotImplementedError

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        data = ins[0]
        if data is None:
            return ins, outs
        made = [_length(dim, cut) for dim, cut in zip(data, self.cut(data, ()), strict=False)]
        return ins, [(*made, *data[len(made) :])]

    def forward(self, xp: Any, data: Any, like: Any = None) -> Any:
        return data[self.cut(data.shape, () if like is None else like.shape)]

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        grad = apply(f"_backward_{self.name}", grads[0], ins[0], **self.given())
        return [grad, *[None] * (len(ins) - 1)]

    def cost(self, ins: Types, outs: Types) -> Cost:
        return Cost(0.0, 2 * total_bytes((), outs))


def _length(dim: int, cut: slice) -> int:
    if not dim or cut == slice(None):
        return dim
    # 0 stands for an unknown dimension, so there are no arrays of size 0.
    made = len(range(*cut.indices(dim)))
    if not made:
        raise RuleError(
            "the slice is empty",
            got=f"{cut.start}:{cut.stop}:{cut.step}",
            expected=f"a part of {dim}",
        )
    return made


class IntoZeros(Op):
    """Shared by gradients that put numbers into zeros of the shape of their last input, `like`.

    Each is linear, and the op of which it is the gradient is its own gradient. `like` is dropped
    for the parameter `shape` once its shape is known.
    """

    internal = True
    page: ClassVar[str]  # the op of which this is the gradient
    inputs: ClassVar[tuple[str, ...]] = ("grad", "like")
    shape_only = ("like",)
    shape: Dims = param((), doc="Shape of the result; empty: that of the input `like`.")

    def input_names(self) -> tuple[str, ...]:
        return self.inputs[:-1] if self.shape else self.inputs

    def place(self) -> dict[str, Any]:
        """The parameters of the op of which this is the gradient."""
        return {key: value for key, value in self.given().items() if key != "shape"}

    def forward_op(self) -> Any:
        """The op of which this is the gradient."""
        return make_op(self.page, self.place())

    def others(self, ins: Sequence[_T]) -> Sequence[_T]:
        """Which of the inputs are those of the forward op behind its first one."""
        return ins[1 : len(self.inputs) - 1]

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        shape = unify(self.shape or ins[-1], outs[0])
        grad = self.grad_shape([shape, *self.others(ins)], ins[0])
        rest = ins[1:] if self.shape else [*ins[1:-1], shape]
        return [grad, *rest], [shape]

    def grad_shape(self, ins: Shapes, grad: PartialShape) -> PartialShape:
        """What the forward op makes of inputs of these shapes."""
        _, (made,) = self.forward_op().infer_shape(ins, [grad])
        return unify(grad, made, "shape of the head gradient")

    def forward(self, xp: Any, *arrays: Any) -> Any:
        made = xp.zeros(self.shape or arrays[-1].shape, arrays[0].dtype)
        return self.fill(xp, made, *arrays[: len(self.inputs) - 1])

    def fill(self, xp: Any, zeros: Any, *arrays: Any) -> Any:
        """The result: fresh zeros, which may be written, with the arrays put into them."""
        zeros[self.forward_op().cut(zeros.shape, arrays[0].shape)] = arrays[0]
        return zeros

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        grad = apply(self.page, grads[0], *self.others(ins), **self.place())
        return [grad, *[None] * (len(ins) - 1)]

    def specialize(self, ins: Entries, types: Types, outs: Types) -> Entry | None:
        if self.shape or not outs[0].shape:
            return None
        return apply(self.name, *ins[:-1], **{**self.given(), "shape": outs[0].shape})

    def cost(self, ins: Types, outs: Types) -> Cost:
        return Cost(0.0, total_bytes(ins[: len(self.inputs) - 1], outs))


class Ranges(_Cut):
    """Shared by ops on the part ``begin:end:step`` along the leading axes."""

    begin: OptDims = param(doc="First index along each axis; None: from the start.")
    end: OptDims = param(doc="Index behind the last along each axis; None: to the end.")
    step: OptDims = param((), doc="Step along each axis, may be negative; None: 1.")

    def check(self) -> None:
        if len(self.begin) != len(self.end) or len(self.step) not in (0, len(self.begin)):
            raise RuleError(
                "begin, end and step differ in length",
                got=(self.begin, self.end, self.step),
                expected="one length",
            )
        if 0 in self.step:
            raise RuleError("step is 0", got=self.step, expected="numbers but 0")

    def cut(self, shape: Sequence[int], like: Sequence[int]) -> Cut:
        if len(self.begin) > len(shape):
            raise RuleError("more slices than axes", got=self.begin, expected=f"{len(shape)} axes")
        steps = self.step or [None] * len(self.begin)
        return tuple(map(slice, self.begin, self.end, steps))


@register
class slice_(Ranges):
    """The part ``begin:end:step`` along the leading axes, with Python's rules.

    None stands for a bound left out; bounds outside are clipped, negative ones count from the end.
    """

    name = "slice"
    aliases = ("crop",)


@register
class _backward_slice(IntoZeros):
    """Zeros with the head gradient in the places that `slice` took."""

    page = "slice"
    params = {**slice_.params, **IntoZeros.params}


@register
class slice_axis(_Cut):
    """The part ``begin:end`` along one axis; bounds must lie inside."""

    axis: int = param(doc="The axis to cut; negative: from the end.")
    begin: int = param(doc="First index; negative: from the end.")
    end: int | None = param(doc="Index behind the last; negative: from the end; None: to the end.")

    def cut(self, shape: Sequence[int], like: Sequence[int]) -> Cut:
        axis = normal_axis(self.axis, len(shape))
        dim = shape[axis]
        begin = self.begin + dim * (self.begin < 0)
        end = dim if self.end is None else self.end + dim * (self.end < 0)
        if dim and not 0 <= begin < end <= dim:
            raise RuleError(
                "no range of the axis", got=f"{self.begin}:{self.end}", expected=f"a part of {dim}"
            )
        return (*[slice(None)] * axis, slice(begin, end))


@register
class _backward_slice_axis(IntoZeros):
    """Zeros with the head gradient in the places that `slice_axis` took."""

    page = "slice_axis"
    params = {**slice_axis.params, **IntoZeros.params}


@register
class slice_like(_Cut):
    """The leading part of the first input that has the lengths of the second along `axes`."""

    inputs = ("data", "shape_like")
    shape_only = ("shape_like",)
    axes: Dims = param((), doc="Axes to be cut; empty: all; negative: from the end.")

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        data, like = ins
        if data is None or like is None:
            return ins, outs
        axes = self._axes(data, like)
        return ins, [tuple(like[i] if i in axes else dim for i, dim in enumerate(data))]

    def _axes(self, shape: Sequence[int], like: Sequence[int]) -> set[int]:
        if not self.axes and len(shape) != len(like):
            raise RuleError("ranks differ", got=f"{shape} cut like {like}", expected="axes")
        axes = {normal_axis(axis, len(shape)) for axis in self.axes or range(len(shape))}
        if any(axis >= len(like) or (shape[axis] and like[axis] > shape[axis]) for axis in axes):
            raise RuleError("shape_like does not fit", got=like, expected=f"at most {shape}")
        return axes

    def cut(self, shape: Sequence[int], like: Sequence[int]) -> Cut:
        axes = self._axes(shape, like)
        return tuple(slice(like[i] if i in axes else dim) for i, dim in enumerate(shape))

    def infer_dtype(self, ins: DTypes, outs: DTypes) -> tuple[DTypes, DTypes]:
        dtype = unify_dtypes([ins[0], outs[0]])
        return [dtype, ins[1]], [dtype]

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        return [apply("_backward_slice_like", grads[0], ins[0]), None]

    def specialize(self, ins: Entries, types: Types, outs: Types) -> Entry | None:
        shape = outs[0].shape
        if types[0].shape == shape:
            return ins[0]
        return apply("slice", ins[0], begin=(0,) * len(shape), end=shape)


@register
class _backward_slice_like(IntoZeros):
    """Zeros with the head gradient in the leading corner."""

    page = "slice_like"

    def others(self, ins: Sequence[_T]) -> Sequence[_T]:
        return ins[:1]


# ----- cuts into several parts


class _Split(Op):
    """Shared by ops that cut an axis into consecutive parts."""

    axis: int
    squeeze_axis: bool

    def bounds(self, length: int) -> Sequence[int]:
        """Begin of every part and the end of the last; RuleError if the axis cannot be cut so."""
        raise NotImplementedError

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        data = ins[0]
        if data is None:
            return ins, outs
        axis = normal_axis(self.axis, len(data))
        # Of an axis of unknown length all parts are unknown.
        edges = self.bounds(data[axis]) if data[axis] else [0] * (len(outs) + 1)
        lengths = [end - begin for begin, end in pairwise(edges)]
        return ins, [self._part(data, axis, length) for length in lengths]

    def _part(self, data: Sequence[int], axis: int, length: int) -> PartialShape:
        if self.squeeze_axis and length > 1:
            raise RuleError(
                "squeeze_axis cannot drop the axis", got=length, expected="parts of length 1"
            )
        kept = () if self.squeeze_axis else (length,)
        return (*data[:axis], *kept, *data[axis + 1 :])

    def forward(self, xp: Any, data: Any) -> Any:
        axis = self.axis % data.ndim
        lead = [slice(None)] * axis
        edges = self.bounds(data.shape[axis])
        parts = [data[(*lead, slice(begin, end))] for begin, end in pairwise(edges)]
        return tuple(xp.squeeze(p, axis) for p in parts) if self.squeeze_axis else tuple(parts)

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        if self.squeeze_axis:
            return [apply("stack", *grads, num_args=len(grads), axis=self.axis)]
        return [apply("Concat", *grads, num_args=len(grads), dim=self.axis)]

    def cost(self, ins: Types, outs: Types) -> Cost:
        return Cost(0.0, total_bytes(ins, outs))


@register
class SliceChannel(_Split):
    """One axis cut into `num_outputs` equal parts."""

    aliases = ("split",)
    num_outputs: int = param(low=1, doc="Number of parts; must divide the axis.")
    axis: int = param(1, doc="The axis to cut; negative: from the end.")
    squeeze_axis: bool = param(False, doc="Drop the axis from the parts, which have length 1.")

    def output_names(self) -> tuple[str, ...]:
        return tuple(f"output{i}" for i in range(self.num_outputs))

    def bounds(self, length: int) -> Sequence[int]:
        if length % self.num_outputs:
            raise RuleError(
                f"axis {self.axis} cannot be cut into equal parts",
                got=f"length {length}",
                expected=f"a multiple of {self.num_outputs}",
            )
        return range(0, length + 1, length // self.num_outputs)


@register
class _split_v2(_Split):
    """One axis cut at the given indices, or into sections that differ by at most one."""

    indices: Dims = param(low=0, doc="Where parts begin, 0 first; ignored if sections is given.")
    axis: int = param(1, doc="The axis to cut; negative: from the end.")
    squeeze_axis: bool = param(False, doc="Drop the axis from the parts, which have length 1.")
    sections: int = param(0, low=0, doc="Number of parts; 0: cut at the indices.")

    def check(self) -> None:
        if not self.sections and not self.indices:
            raise RuleError(
                "nowhere to cut", got=f"indices {self.indices}", expected="indices or sections"
            )

    def output_names(self) -> tuple[str, ...]:
        number = self.sections or len(self.indices)
        return ("output",) if number == 1 else tuple(f"output{i}" for i in range(number))

    def bounds(self, length: int) -> Sequence[int]:
        edges = self._equal(length) if self.sections else [*self.indices, length]
        if edges[0] or any(begin >= end for begin, end in pairwise(edges)):
            raise RuleError("the axis cannot be cut there", got=edges, expected="0 < ... < length")
        return edges

    def _equal(self, length: int) -> list[int]:
        # What is left over goes to the first sections, one each.
        each, more = divmod(length, self.sections)
        return [i * each + min(i, more) for i in range(self.sections + 1)]
