"""Trigonometric and hyperbolic functions and their inverses, a row each; see elementwise.py."""

from __future__ import annotations

import math

from raysym.graph import Entry, apply
from raysym.ops.elementwise import unary
from raysym.ops.maths import div, minus_from, mul, neg, plus, square, times


def _root(x: Entry) -> Entry:
    return apply("sqrt", x)


unary(
    "sin",
    lambda xp, x: xp.sin(x),
    lambda x, y, g: mul(g, apply("cos", x)),
    flops=12,
    doc="Sine of every element, in radians.",
)
unary(
    "cos",
    lambda xp, x: xp.cos(x),
    lambda x, y, g: neg(mul(g, apply("sin", x))),
    flops=12,
    doc="Cosine of every element, in radians.",
)
unary(
    "tan",
    lambda xp, x: xp.tan(x),
    lambda x, y, g: mul(g, plus(square(y), 1.0)),
    flops=16,
    doc="Tangent of every element, in radians.",
)
unary(
    "arcsin",
    lambda xp, x: xp.arcsin(x),
    lambda x, y, g: div(g, _root(minus_from(1.0, square(x)))),
    flops=16,
    doc="Inverse sine of every element, from -pi/2 to pi/2.",
)
unary(
    "arccos",
    lambda xp, x: xp.arccos(x),
    lambda x, y, g: neg(div(g, _root(minus_from(1.0, square(x))))),
    flops=16,
    doc="Inverse cosine of every element, from 0 to pi.",
)
unary(
    "arctan",
    lambda xp, x: xp.arctan(x),
    lambda x, y, g: div(g, plus(square(x), 1.0)),
    flops=16,
    doc="Inverse tangent of every element, from -pi/2 to pi/2.",
)
unary(
    "sinh",
    lambda xp, x: xp.sinh(x),
    lambda x, y, g: mul(g, apply("cosh", x)),
    flops=16,
    doc="Hyperbolic sine of every element.",
)
unary(
    "cosh",
    lambda xp, x: xp.cosh(x),
    lambda x, y, g: mul(g, apply("sinh", x)),
    flops=16,
    doc="Hyperbolic cosine of every element.",
)
unary(
    "arcsinh",
    lambda xp, x: xp.arcsinh(x),
    lambda x, y, g: div(g, _root(plus(square(x), 1.0))),
    flops=16,
    doc="Inverse hyperbolic sine of every element.",
)
unary(
    "arccosh",
    lambda xp, x: xp.arccosh(x),
    lambda x, y, g: div(g, _root(plus(square(x), -1.0))),
    flops=16,
    doc="Inverse hyperbolic cosine of every element; NaN below 1.",
)
unary(
    "arctanh",
    lambda xp, x: xp.arctanh(x),
    lambda x, y, g: div(g, minus_from(1.0, square(x))),
    flops=16,
    doc="Inverse hyperbolic tangent of every element; NaN outside [-1, 1].",
)
unary(
    "degrees",
    lambda xp, x: x * (180 / math.pi),
    lambda x, y, g: times(g, 180 / math.pi),
    doc="Every element from radians to degrees.",
)
unary(
    "radians",
    lambda xp, x: x * (math.pi / 180),
    lambda x, y, g: times(g, math.pi / 180),
    doc="Every element from degrees to radians.",
)
