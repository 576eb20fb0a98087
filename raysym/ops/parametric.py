"""Elementwise ops of one input with parameters of their own: clip, smooth_l1, hard_sigmoid."""

from __future__ import annotations

import math
from typing import Any

from raysym.graph import apply
from raysym.op import Entries, Grads, register
from raysym.ops.elementwise import Unary, sign
from raysym.ops.maths import above, mul, plus, times
from raysym.ops.numeric import scalar_of, widen
from raysym.params import param


@register
class clip(Unary):
    """Every element moved into the interval [a_min, a_max]; the gradient passes inside it."""

    a_min: float = param(doc="Smallest value of the result.")
    a_max: float = param(doc="Largest value of the result.")

    def forward(self, xp: Any, data: Any) -> Any:
        low, high = (scalar_of(data.dtype, bound) for bound in (self.a_min, self.a_max))
        # Compared as floats: a bound of -2.5 would wrap around in an unsigned dtype.
        raised = xp.where(data < self.a_min, low, data)
        return xp.where(data > self.a_max, high, raised)

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        high_enough = apply("_greater_equal_scalar", ins[0], scalar=self.a_min)
        low_enough = apply("_lesser_equal_scalar", ins[0], scalar=self.a_max)
        return [mul(grads[0], mul(high_enough, low_enough))]


def _edge(scale: float) -> float:
    return 1 / scale**2 if scale else math.inf


@register
class smooth_l1(Unary):
    """(s x)^2 / 2 where |x| < 1/s^2, else |x| - 1/(2 s^2): quadratic near 0, linear beyond.

    Source: Girshick, Fast R-CNN (2015).
    """

    flops_each = 6
    scalar: float = param(1.0, doc="The scale s: the smaller, the wider the quadratic part.")

    def forward(self, xp: Any, data: Any) -> Any:
        x, s2, edge = widen(data), self.scalar**2, _edge(self.scalar)
        size = xp.abs(x)
        y = xp.where(size > edge, size - 0.5 * edge, (0.5 * s2) * x * x)
        return y.astype(data.dtype, copy=False)

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        return [mul(grads[0], apply("_smooth_l1_slope", ins[0], scalar=self.scalar))]


@register
class _smooth_l1_slope(Unary):
    """The derivative of smooth_l1: s^2 x near 0, the sign of x beyond."""

    internal = True
    flops_each = 4
    scalar: float = param(1.0, doc="The scale s.")

    def forward(self, xp: Any, data: Any) -> Any:
        x, s2 = widen(data), self.scalar**2
        slope = xp.where(xp.abs(x) > _edge(self.scalar), sign(xp, x), s2 * x)
        return slope.astype(data.dtype, copy=False)

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        s2 = self.scalar**2
        near = apply("_lesser_equal_scalar", apply("abs", ins[0]), scalar=_edge(self.scalar))
        return [mul(grads[0], apply("_mul_scalar", near, scalar=s2))]


@register
class hard_sigmoid(Unary):
    """alpha x + beta, cut off below 0 and above 1; the gradient is 0 outside and at both ends."""

    flops_each = 4
    alpha: float = param(0.2, doc="Slope of the line.")
    beta: float = param(0.5, doc="Height of the line at 0.")

    def forward(self, xp: Any, data: Any) -> Any:
        y = xp.clip(widen(data) * self.alpha + self.beta, 0, 1)
        return y.astype(data.dtype, copy=False)

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        inside = mul(above(outs[0], 0.0), apply("_lesser_scalar", outs[0], scalar=1.0))
        return [mul(grads[0], times(inside, self.alpha))]


@register
class _contrib_quadratic(Unary):
    """a x^2 + b x + c of every element."""

    flops_each = 4
    a: float = param(0.0, doc="Coefficient of the square.")
    b: float = param(0.0, doc="Coefficient of the element.")
    c: float = param(0.0, doc="The constant.")

    def forward(self, xp: Any, data: Any) -> Any:
        x = widen(data)
        y = (x * self.a + self.b) * x + self.c
        return y.astype(data.dtype, copy=False)

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        return [mul(grads[0], plus(times(ins[0], 2 * self.a), self.b))]


@register
class _contrib_div_sqrt_dim(Unary):
    """x / sqrt(n), where n is the length of the last axis, as before the softmax of attention."""

    kinds = "f"

    def forward(self, xp: Any, data: Any) -> Any:
        return (widen(data) / math.sqrt(data.shape[-1])).astype(data.dtype, copy=False)

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        return [apply(self.name, grads[0])]
