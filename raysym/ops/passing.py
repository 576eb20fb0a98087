"""Ops whose gradient is not their derivative: multiplied, or passed straight through."""

from __future__ import annotations

from typing import Any

from raysym.op import DTypes, Entries, Grads, Op, Shapes, register
from raysym.ops.elementwise import round_half_away, sign, unary
from raysym.ops.maths import times
from raysym.ops.scalar import Scalar
from raysym.types import unify, unify_dtypes

unary(
    "_contrib_round_ste",
    round_half_away,
    lambda x, y, g: g,
    flops=4,
    doc="The nearest integer, .5 away from zero; the gradient passes straight through.",
)
unary(
    "_contrib_sign_ste",
    sign,
    lambda x, y, g: g,
    exact=True,
    doc="Sign of every element; the gradient passes straight through.",
)


@register
class _contrib_gradientmultiplier(Scalar):
    """The input itself; the gradient is multiplied by `scalar` (below 0: reversed).

    Source: Ganin et al., Domain-Adversarial Training of Neural Networks (2016).
    """

    def forward(self, xp: Any, data: Any) -> Any:
        return data

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        return [times(grads[0], self.scalar)]


@register
class _identity_with_attr_like_rhs(Op):
    """The first input, whose shape is that of the second."""

    inputs = ("lhs", "rhs")
    shape_only = ("rhs",)

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        shape = unify(unify(ins[0], ins[1]), outs[0])
        return [shape, shape], [shape]

    def infer_dtype(self, ins: DTypes, outs: DTypes) -> tuple[DTypes, DTypes]:
        dtype = unify_dtypes([ins[0], outs[0]])
        return [dtype, ins[1]], [dtype]

    def forward(self, xp: Any, lhs: Any, rhs: Any) -> Any:
        return lhs

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        return [grads[0], None]
