"""Norms, moments, running sums and histograms."""

from __future__ import annotations

import math
from typing import Any

from raysym.errors import RuleError
from raysym.graph import Entry, apply
from raysym.op import Cost, DTypes, Entries, Grads, Op, Shapes, Types, register, total_bytes
from raysym.ops.maths import add, div, mul, reshape_like, spread, spread_mean, sub, times
from raysym.ops.numeric import widen
from raysym.ops.reduce import Reduction, reduced_axes, reduced_shape
from raysym.params import Dims, DType, Floats, param
from raysym.types import normal_axis, unify


@register
class norm(Op):
    """The L2 norm sqrt(sum x^2), or the L1 norm sum |x|, over axes.

    Shapes as for `sum`. The gradient of the L2 norm is x/norm: NaN where the norm is 0.
    """

    ord: int = param(2, low=1, high=2, doc="Order of the norm: 1 or 2.")
    axis: Dims | None = param(None, doc="Axis or axes to reduce; None or () for all of them.")
    out_dtype: DType | None = param(None, doc="Data type of the result; None: as the input.")
    keepdims: bool = param(False, doc="Keep the reduced axes with length 1.")

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        shape = ins[0]
        if shape is None:
            return ins, outs
        return ins, [reduced_shape(shape, reduced_axes(self.axis, len(shape)), self.keepdims)]

    def infer_dtype(self, ins: DTypes, outs: DTypes) -> tuple[DTypes, DTypes]:
        return ins, [self.out_dtype or ins[0]]

    def forward(self, xp: Any, data: Any) -> Any:
        x, axes = widen(data), reduced_axes(self.axis, data.ndim)
        if self.ord == 1:
            y = xp.abs(x).sum(axis=axes)
        else:
            y = xp.sqrt(xp.square(x).sum(axis=axes))
        shape = reduced_shape(data.shape, axes, self.keepdims)
        return xp.asarray(y).reshape(shape).astype(self.out_dtype or data.dtype, copy=False)

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        (x,), y, g = ins, outs[0], grads[0]
        if self.out_dtype:
            y, g = (apply("_cast_like", entry, x) for entry in (y, g))
        if self.ord == 1:
            return [mul(spread(g, x, self.axis), apply("sign", x))]
        return [mul(spread(g, x, self.axis), div(x, spread(y, x, self.axis)))]

    def cost(self, ins: Types, outs: Types) -> Cost:
        return Cost(2 * ins[0].size, total_bytes(ins, outs))


@register
class _square_sum(Reduction):
    """The sum of squares over axes."""

    def forward(self, xp: Any, data: Any) -> Any:
        y = xp.square(widen(data)).sum(axis=self.axes(data.ndim))
        return self.reshape(xp.asarray(y), data.shape).astype(data.dtype, copy=False)

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        return [mul(self.spread(grads[0], ins[0]), times(ins[0], 2.0))]


@register
class moments(Op):
    """Mean and (biased) variance over axes, two outputs; shapes as for `sum`."""

    outputs = ("output0", "output1")
    axes: Dims | None = param(None, doc="Axis or axes to reduce; None or () for all of them.")
    keepdims: bool = param(False, doc="Keep the reduced axes with length 1.")

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        shape = ins[0]
        if shape is None:
            return ins, outs
        return ins, [reduced_shape(shape, reduced_axes(self.axes, len(shape)), self.keepdims)] * 2

    def forward(self, xp: Any, data: Any) -> Any:
        x, axes = widen(data), reduced_axes(self.axes, data.ndim)
        shape = reduced_shape(data.shape, axes, self.keepdims)
        mean = x.mean(axis=axes, keepdims=True)
        variance = xp.square(x - mean).mean(axis=axes)
        made = (mean, xp.asarray(variance))
        return tuple(y.reshape(shape).astype(data.dtype, copy=False) for y in made)

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        (x,), (mean, _), (g_mean, g_variance) = ins, outs, grads
        centred = sub(x, spread(mean, x, self.axes))
        slope = mul(spread_mean(g_variance, x, self.axes), times(centred, 2.0))
        return [add(spread_mean(g_mean, x, self.axes), slope)]

    def cost(self, ins: Types, outs: Types) -> Cost:
        return Cost(4 * ins[0].size, total_bytes(ins, outs))


class _Running(Op):
    """Shared by sums that run along an axis: `axis`, or all elements in row order."""

    axis: int | None = param(None, doc="The axis to add along; None: all elements in row order.")

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        shape = ins[0]
        if shape is None:
            return ins, outs
        if self.axis is not None:
            normal_axis(self.axis, len(shape))
            shape = unify(shape, outs[0])
            return [shape], [shape]
        return ins, [(math.prod(shape),)]


@register
class _np_cumsum(_Running):
    """Running sum along an axis: ``y[i] = x[0] + ... + x[i]``.

    Shape: that of the input; with axis None the input is flattened to ``(size,)`` first.
    """

    aliases = ("cumsum",)
    inputs = ("a",)
    dtype: DType | None = param(None, doc="Data type of the result; None: as the input.")

    def infer_dtype(self, ins: DTypes, outs: DTypes) -> tuple[DTypes, DTypes]:
        return ins, [self.dtype or ins[0]]

    def forward(self, xp: Any, a: Any) -> Any:
        dtype = self.dtype or a.dtype
        x = widen(a) if dtype == "float16" else a.astype(dtype, copy=False)
        return x.cumsum(axis=self.axis, dtype=x.dtype).astype(dtype, copy=False)

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        return [_fitted(apply("_cumsum_back", grads[0], axis=self.axis), ins[0], self)]


def _fitted(grad: Entry, x: Entry, op: _np_cumsum) -> Entry:
    typed = apply("_cast_like", grad, x) if op.dtype else grad
    return reshape_like(typed, x) if op.axis is None else typed


@register
class _cumsum_back(_Running):
    """Running sum from the end: ``y[i] = x[i] + ... + x[n - 1]``."""

    internal = True

    def forward(self, xp: Any, data: Any) -> Any:
        x = data.reshape(-1) if self.axis is None else data
        axis = self.axis or 0
        y = xp.flip(xp.flip(widen(x), axis).cumsum(axis=axis), axis)
        return y.astype(data.dtype, copy=False)

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        total = apply("_np_cumsum", grads[0], axis=self.axis)
        return [reshape_like(total, ins[0]) if self.axis is None else total]


@register
class _histogram(Op):
    """How many elements fall into each bin; elements outside all bins are not counted.

    Outputs: counts int64 ``(bins,)`` and edges ``(bins + 1,)`` in the dtype of the data. A bin
    includes its lower edge, the last one its upper edge too. Edges come from `bin_cnt` and
    `range`, or else are the second input.
    """

    inputs = ("data", "bins")
    outputs = ("output0", "output1")
    zero_gradient = True
    bin_cnt: int | None = param(None, low=1, doc="Number of bins; None: edges are an input.")
    range: Floats | None = param(None, doc="Lowest and highest edge, needed with `bin_cnt`.")

    def check(self) -> None:
        if self.bin_cnt is not None and (self.range is None or len(self.range) != 2):
            raise RuleError("bins without a range", got=self.range, expected="two numbers")

    def input_names(self) -> tuple[str, ...]:
        return self.inputs if self.bin_cnt is None else self.inputs[:1]

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        if self.bin_cnt is not None:
            return ins, [(self.bin_cnt,), (self.bin_cnt + 1,)]
        edges = ins[1]
        if edges is None:
            return ins, outs
        if len(edges) != 1 or edges[0] == 1:
            raise RuleError("wrong shape of bins", got=edges, expected="(number of bins + 1,)")
        return ins, [(max(edges[0] - 1, 0),), edges]

    def infer_dtype(self, ins: DTypes, outs: DTypes) -> tuple[DTypes, DTypes]:
        return ins, ["int64", ins[-1]]

    def forward(self, xp: Any, data: Any, bins: Any = None) -> Any:
        edges = bins if bins is not None else self._edges(xp, data.dtype)
        ordered = xp.sort(data.reshape(-1))
        below = xp.searchsorted(ordered, edges, side="left")
        up_to = xp.searchsorted(ordered, edges[-1:], side="right")
        counts = xp.diff(xp.concatenate([below[:-1], up_to]))
        return counts.astype("int64"), edges

    def _edges(self, xp: Any, dtype: Any) -> Any:
        assert self.range is not None
        assert self.bin_cnt is not None
        return xp.linspace(*self.range, self.bin_cnt + 1).astype(dtype)
