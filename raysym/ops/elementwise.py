"""Elementwise ops of one input, a row each: powers, exponentials, rounding, signs.

Cast of characters in rows: x input, y output, g incoming gradient. A kernel sees float32 for
float16 and float64 for integers, unless the row says ``exact``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from raysym.graph import Entry, apply
from raysym.op import Cost, Entries, Grads, Op, Types, register, total_bytes
from raysym.ops.maths import (
    above,
    div,
    exp,
    minus_from,
    mul,
    neg,
    plus,
    square,
    times,
)
from raysym.ops.numeric import widen

Derivative = Callable[[Entry, Entry, Entry], Entry]


class Unary(Op):
    """An elementwise op of one input."""

    flops_each = 1
    kinds = "fiu"

    def cost(self, ins: Types, outs: Types) -> Cost:
        return Cost(self.flops_each * outs[0].size, total_bytes(ins, outs))


def unary(
    name: str,
    kernel: Callable[[Any, Any], Any],
    derivative: Derivative | None,
    *,
    flops: int = 1,
    exact: bool = False,
    kinds: str = "fiu",
    internal: bool = False,
    doc: str,
) -> type[Op]:
    """Register a one-input elementwise op; a derivative of None means zero everywhere."""

    def forward(self: Op, xp: Any, data: Any) -> Any:
        y = kernel(xp, data if exact else widen(data))
        return y.astype(data.dtype, copy=False)

    def gradient(self: Op, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        return [derivative(ins[0], outs[0], grads[0]) if derivative else None]

    facts: dict[str, Any] = {
        "__doc__": doc,
        "__module__": __name__,
        "internal": internal,
        "flops_each": flops,
        "kinds": kinds,
        "zero_gradient": derivative is None,
        "forward": forward,
        "gradient": gradient,
    }
    return register(type(name, (Unary,), facts))


# ----- sign and size


def sign(xp: Any, x: Any) -> Any:
    """-1, 0 or 1; a NaN has sign 0, as in MXNet."""
    return (x > 0).astype(x.dtype) - (x < 0).astype(x.dtype)


unary(
    "negative",
    lambda xp, x: xp.negative(x),
    lambda x, y, g: neg(g),
    exact=True,
    doc="Every element with the other sign.",
)
unary(
    "abs",
    lambda xp, x: xp.abs(x),
    lambda x, y, g: mul(g, apply("sign", x)),
    exact=True,
    doc="Absolute value of every element; the gradient at 0 is 0.",
)
unary("sign", sign, None, exact=True, doc="Sign of every element: -1, 0 or 1; 0 for NaN.")
unary(
    "logical_not",
    lambda xp, x: x == 0,
    None,
    exact=True,
    kinds="fiub",
    doc="1 where the element is zero, 0 elsewhere.",
)

# ----- powers and roots

unary(
    "square",
    lambda xp, x: xp.square(x),
    lambda x, y, g: mul(g, times(x, 2.0)),
    exact=True,
    doc="Square x^2 of every element.",
)
unary(
    "sqrt",
    lambda xp, x: xp.sqrt(x),
    lambda x, y, g: div(times(g, 0.5), y),
    flops=4,
    doc="Square root of every element; NaN below 0.",
)
unary(
    "rsqrt",
    lambda xp, x: 1 / xp.sqrt(x),
    lambda x, y, g: mul(g, times(div(y, x), -0.5)),
    flops=5,
    doc="Reciprocal square root 1/sqrt(x) of every element.",
)
unary(
    "cbrt",
    lambda xp, x: xp.cbrt(x),
    lambda x, y, g: div(g, times(square(y), 3.0)),
    flops=10,
    doc="Cube root of every element; negative numbers have one.",
)
unary(
    "rcbrt",
    lambda xp, x: 1 / xp.cbrt(x),
    lambda x, y, g: mul(g, times(div(y, x), -1 / 3)),
    flops=11,
    doc="Reciprocal cube root of every element.",
)
unary(
    "reciprocal",
    lambda xp, x: 1 / x,
    lambda x, y, g: neg(mul(g, square(y))),
    flops=4,
    doc="1/x of every element.",
)

# ----- exponentials and logarithms

unary(
    "exp",
    lambda xp, x: xp.exp(x),
    lambda x, y, g: mul(g, y),
    flops=8,
    doc="Exponential e^x of every element.",
)
unary(
    "expm1",
    lambda xp, x: xp.expm1(x),
    lambda x, y, g: mul(g, exp(x)),
    flops=10,
    doc="e^x - 1 of every element, exact also near 0.",
)
unary(
    "log",
    lambda xp, x: xp.log(x),
    lambda x, y, g: div(g, x),
    flops=8,
    doc="Natural logarithm of every element.",
)
unary(
    "log2",
    lambda xp, x: xp.log2(x),
    lambda x, y, g: div(g, times(x, math.log(2))),
    flops=8,
    doc="Logarithm to base 2 of every element.",
)
unary(
    "log10",
    lambda xp, x: xp.log10(x),
    lambda x, y, g: div(g, times(x, math.log(10))),
    flops=8,
    doc="Logarithm to base 10 of every element.",
)
unary(
    "log1p",
    lambda xp, x: xp.log1p(x),
    lambda x, y, g: div(g, plus(x, 1.0)),
    flops=10,
    doc="log(1 + x) of every element, exact also near 0.",
)

# ----- rounding, all with gradient zero


def round_half_away(xp: Any, x: Any) -> Any:
    """The nearest integer; .5 goes away from zero."""
    whole = xp.trunc(x)
    return whole + xp.where(xp.abs(x - whole) >= 0.5, sign(xp, x), x.dtype.type(0))


def round_half_down(xp: Any, x: Any) -> Any:
    """The nearest integer; .5 goes to the smaller one."""
    low, high = xp.floor(x), xp.ceil(x)
    return xp.where(x - low <= high - x, low, high)


unary("floor", lambda xp, x: xp.floor(x), None, doc="Largest integer not above each element.")
unary("ceil", lambda xp, x: xp.ceil(x), None, doc="Smallest integer not below each element.")
unary("trunc", lambda xp, x: xp.trunc(x), None, doc="Every element without its fraction.")
unary("fix", lambda xp, x: xp.trunc(x), None, doc="The nearest integer toward zero.")
unary("round", round_half_away, None, flops=4, doc="The nearest integer; .5 away from zero.")
unary("rint", round_half_down, None, flops=4, doc="The nearest integer; .5 to the smaller one.")

# ----- activations


def sigmoid(xp: Any, x: Any) -> Any:
    """1 / (1 + e^-x) without overflow."""
    small = xp.exp(-xp.abs(x))
    return xp.where(x >= 0, x.dtype.type(1), small) / (1 + small)


unary(
    "relu",
    lambda xp, x: xp.maximum(x, x.dtype.type(0)),
    lambda x, y, g: mul(g, above(y, 0.0)),
    exact=True,
    doc="max(x, 0) of every element; the gradient at 0 is 0.",
)
unary(
    "sigmoid",
    sigmoid,
    lambda x, y, g: mul(g, mul(y, minus_from(1.0, y))),
    flops=12,
    doc="1 / (1 + e^-x) of every element.",
)
unary(
    "softsign",
    lambda xp, x: x / (1 + xp.abs(x)),
    lambda x, y, g: div(g, square(plus(apply("abs", x), 1.0))),
    flops=6,
    doc="x / (1 + |x|) of every element.",
)
unary(
    "tanh",
    lambda xp, x: xp.tanh(x),
    lambda x, y, g: mul(g, minus_from(1.0, square(y))),
    flops=10,
    doc="Hyperbolic tangent of every element.",
)
