"""Reductions over axes: sum, mean, products, extrema, and how their gradients spread back.

Shapes: the axes in `axis` disappear, or stay with length 1 if `keepdims`. Reducing all axes
without `keepdims` gives shape ``(1,)``. float16 is accumulated in float32.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from raysym.errors import RuleError
from raysym.graph import Entry, apply
from raysym.op import Cost, DTypes, Entries, Grads, Op, Shapes, Types, register, total_bytes
from raysym.ops.maths import div, mul, over, spread, spread_mean, where, zeros
from raysym.ops.numeric import sum_dtype, widen
from raysym.params import Dims, param
from raysym.types import normal_axis, unify_dtypes


def reduced_axes(axis: Dims | None, rank: int, exclude: bool = False) -> Dims:
    """The axes that a reduction runs over, sorted and counted from the front."""
    if not axis:
        return tuple(range(rank))
    axes = sorted(normal_axis(i, rank) for i in axis)
    if len(set(axes)) < len(axes):
        raise RuleError("an axis is named twice", got=axis, expected="different axes")
    return tuple(i for i in range(rank) if (i in axes) != exclude)


def kept_shape(shape: Dims, axes: Dims) -> Dims:
    """`shape` with length 1 along `axes`."""
    return tuple(1 if i in axes else n for i, n in enumerate(shape))


def reduced_shape(shape: Dims, axes: Dims, keepdims: bool) -> Dims:
    """`shape` after a reduction over `axes`."""
    if keepdims:
        return kept_shape(shape, axes)
    return tuple(n for i, n in enumerate(shape) if i not in axes) or (1,)


class Reduction(Op):
    """A reduction over axes."""

    axis: Dims | None = param(None, doc="Axis or axes to reduce; None or () for all of them.")
    keepdims: bool = param(False, doc="Keep the reduced axes with length 1.")
    exclude: bool = param(False, doc="Reduce all axes but those in `axis`.")

    def axes(self, rank: int) -> Dims:
        """The axes that are reduced in an input of that rank."""
        return reduced_axes(self.axis, rank, self.exclude)

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        shape = ins[0]
        if shape is None:
            return ins, outs
        return ins, [reduced_shape(shape, self.axes(len(shape)), self.keepdims)] * len(outs)

    def reshape(self, y: Any, shape: Dims) -> Any:
        """A result that was computed without `keepdims`, in the shape that is asked for."""
        return y.reshape(reduced_shape(shape, self.axes(len(shape)), self.keepdims))

    def spread(self, grad: Entry, like: Entry) -> Entry:
        """`grad` of the result repeated along the reduced axes."""
        return spread(grad, like, self.axis, self.exclude)

    def cost(self, ins: Types, outs: Types) -> Cost:
        return Cost(ins[0].size, total_bytes(ins, outs))


Kernel = Callable[[Any, Any, Dims], Any]
Derivative = Callable[[Any, Entry, Entry, Entry], Entry]


def reduction(
    name: str, kernel: Kernel, derivative: Derivative, *, aliases: tuple[str, ...] = (), doc: str
) -> type[Op]:
    """Register a reduction. In rows: x input, y output spread over x, g gradient spread over x."""

    def forward(self: Reduction, xp: Any, data: Any) -> Any:
        axes = self.axes(data.ndim)
        # Not every array library reduces over no axes: make one of length 1 for it.
        y = kernel(xp, data, axes) if axes else kernel(xp, data[None], (0,))
        return self.reshape(xp.asarray(y), data.shape).astype(data.dtype, copy=False)

    def gradient(self: Reduction, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        return [derivative(self, ins[0], outs[0], grads[0])]

    facts: dict[str, Any] = {
        "__doc__": doc,
        "__module__": __name__,
        "aliases": aliases,
        "forward": forward,
        "gradient": gradient,
    }
    return register(type(name, (Reduction,), facts))


def mean(xp: Any, x: Any, axes: Dims) -> Any:
    """Arithmetic mean; of integers rounded toward zero when it is cast back."""
    return widen(x).sum(axis=axes) / math.prod(x.shape[i] for i in axes)


def _grad_extremum(self: Reduction, x: Entry, y: Entry, g: Entry) -> Entry:
    return mul(self.spread(g, x), apply("_equal", x, self.spread(y, x)))


def _grad_prod(self: Reduction, x: Entry, y: Entry, g: Entry) -> Entry:
    return div(self.spread(mul(g, y), x), x)


def _where_number(x: Entry, grad: Entry) -> Entry:
    # A NaN is the only value that differs from itself.
    return where(apply("_equal", x, x), grad, zeros(x))


reduction(
    "sum",
    lambda xp, x, axes: x.sum(axis=axes, dtype=sum_dtype(x.dtype)),
    lambda self, x, y, g: self.spread(g, x),
    aliases=("sum_axis",),
    doc="Sum over axes.",
)
reduction(
    "mean",
    mean,
    lambda self, x, y, g: spread_mean(g, x, self.axis, self.exclude),
    doc="Arithmetic mean over axes.",
)
reduction(
    "prod",
    lambda xp, x, axes: x.prod(axis=axes, dtype=sum_dtype(x.dtype)),
    _grad_prod,
    doc="Product over axes. The gradient y/x is NaN at an element that is 0.",
)
reduction(
    "nansum",
    lambda xp, x, axes: xp.nansum(x, axis=axes, dtype=sum_dtype(x.dtype)),
    lambda self, x, y, g: _where_number(x, self.spread(g, x)),
    doc="Sum over axes in which a NaN counts as 0.",
)
reduction(
    "nanprod",
    lambda xp, x, axes: xp.nanprod(x, axis=axes, dtype=sum_dtype(x.dtype)),
    lambda self, x, y, g: _where_number(x, _grad_prod(self, x, y, g)),
    doc="Product over axes in which a NaN counts as 1.",
)
reduction(
    "max",
    lambda xp, x, axes: x.max(axis=axes),
    _grad_extremum,
    aliases=("max_axis",),
    doc="Largest element over axes; in the gradient every tied element counts in full.",
)
reduction(
    "min",
    lambda xp, x, axes: x.min(axis=axes),
    _grad_extremum,
    aliases=("min_axis",),
    doc="Smallest element over axes; in the gradient every tied element counts in full.",
)


@register
class _spread(Op):
    """The first input, made by reducing the second, repeated along the reduced axes.

    With `mean` it is divided by the number of elements that were reduced into one.
    """

    internal = True
    inputs = ("data", "like")
    shape_only = ("like",)
    axis: Dims | None = param(None, doc="The axes that were reduced; None for all.")
    exclude: bool = param(False, doc="Whether all axes but those were reduced.")
    mean: bool = param(False, doc="Whether to divide by the number of reduced elements.")

    def _axes(self, shape: Dims) -> Dims:
        return reduced_axes(self.axis, len(shape), self.exclude)

    def _count(self, shape: Dims) -> int:
        return math.prod(shape[i] for i in self._axes(shape))

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        return ins, [ins[1]]

    def infer_dtype(self, ins: DTypes, outs: DTypes) -> tuple[DTypes, DTypes]:
        dtype = unify_dtypes([ins[0], outs[0]])
        return [dtype, ins[1]], [dtype]

    def forward(self, xp: Any, data: Any, like: Any) -> Any:
        kept = data.reshape(kept_shape(like.shape, self._axes(like.shape)))
        full = xp.broadcast_to(kept, like.shape)
        return full / data.dtype.type(self._count(like.shape)) if self.mean else full

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        name = "mean" if self.mean else "sum"
        total = apply(name, grads[0], axis=self.axis, exclude=self.exclude)
        return [apply("reshape_like", total, ins[0]), None]

    def specialize(self, ins: Entries, types: Types, outs: Types) -> Entry | None:
        shape = types[1].shape
        kept = apply("Reshape", ins[0], shape=kept_shape(shape, self._axes(shape)))
        part = over(kept, float(self._count(shape))) if self.mean else kept
        return apply("broadcast_to", part, shape=shape)
