"""Elementwise ops of one input and a number, a row each: arithmetic, comparison, logic.

Cast of characters in rows: x input, s the number as a scalar of the input's dtype (integers drop
its fraction), y output, g incoming gradient. In derivatives c is the number as it was given.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from raysym.graph import Entry, apply
from raysym.op import Entries, Grads, Op, register
from raysym.ops.arithmetic import both, divide, either, modulo, one_of
from raysym.ops.elementwise import Unary
from raysym.ops.maths import div, mul, neg, over, power, times
from raysym.ops.numeric import scalar_of, widen
from raysym.params import param

Kernel = Callable[[Any, Any, Any], Any]
Derivative = Callable[[float, Entry, Entry, Entry], Entry]


class Scalar(Unary):
    """An elementwise op of one input and a number."""

    scalar: float = param(1.0, doc="The number; for an integer input its fraction is dropped.")
    is_int: bool = param(True, doc="Whether the number was written as an integer; not used.")


@lru_cache(1 << 12)
def _number(dtype: Any, value: float, sign: float) -> Any:
    """As `scalar_of`, made once; 0 and -0 are equal, so the sign is part of what is looked up."""
    return scalar_of(dtype, value)


def scalar_op(
    name: str,
    kernel: Kernel,
    derivative: Derivative | None,
    *,
    aliases: tuple[str, ...],
    real: bool = False,
    kinds: str = "fiu",
    flops: int = 1,
    doc: str,
) -> type[Op]:
    """Register an op with a number; `real`: integers are computed in floating point."""

    def forward(self: Any, xp: Any, data: Any) -> Any:
        s = _number(data.dtype, self.scalar, math.copysign(1.0, self.scalar))
        y = kernel(xp, widen(data), widen(s)) if real else kernel(xp, data, s)
        return y.astype(data.dtype, copy=False)

    def gradient(self: Any, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        return [derivative(self.scalar, ins[0], outs[0], grads[0]) if derivative else None]

    facts: dict[str, Any] = {
        "__doc__": doc,
        "__module__": __name__,
        "aliases": aliases,
        "flops_each": flops,
        "kinds": kinds,
        "zero_gradient": derivative is None,
        "forward": forward,
        "gradient": gradient,
    }
    return register(type(name, (Scalar,), facts))


# ----- arithmetic


def _log(c: float) -> float:
    if c > 0:
        return math.log(c)
    return -math.inf if c == 0 else math.nan


def _grad_rmod(c: float, x: Entry, y: Entry, g: Entry) -> Entry:
    return neg(mul(g, apply("floor", apply("_rdiv_scalar", x, scalar=c))))


scalar_op(
    "_plus_scalar",
    lambda xp, x, s: x + s,
    lambda c, x, y, g: g,
    aliases=("_PlusScalar",),
    doc="x + scalar.",
)
scalar_op(
    "_minus_scalar",
    lambda xp, x, s: x - s,
    lambda c, x, y, g: g,
    aliases=("_MinusScalar",),
    doc="x - scalar.",
)
scalar_op(
    "_rminus_scalar",
    lambda xp, x, s: xp.subtract(s, x),
    lambda c, x, y, g: neg(g),
    aliases=("_RMinusScalar",),
    doc="scalar - x.",
)
scalar_op(
    "_mul_scalar",
    lambda xp, x, s: x * s,
    lambda c, x, y, g: times(g, c),
    aliases=("_MulScalar",),
    doc="x * scalar.",
)
scalar_op(
    "_div_scalar",
    divide,
    lambda c, x, y, g: over(g, c),
    aliases=("_DivScalar",),
    flops=4,
    doc="x / scalar; integers are divided toward zero.",
)
scalar_op(
    "_rdiv_scalar",
    lambda xp, x, s: divide(xp, s, x),
    lambda c, x, y, g: neg(mul(g, div(y, x))),
    aliases=("_RDivScalar",),
    flops=4,
    doc="scalar / x; integers are divided toward zero, and by zero give zero.",
)
scalar_op(
    "_power_scalar",
    lambda xp, x, s: xp.power(x, s),
    lambda c, x, y, g: mul(g, times(power(x, c - 1), c)),
    aliases=("_PowerScalar",),
    real=True,
    flops=16,
    doc="x ^ scalar.",
)
scalar_op(
    "_rpower_scalar",
    lambda xp, x, s: xp.power(s, x),
    lambda c, x, y, g: times(mul(g, y), _log(c)),
    aliases=("_RPowerScalar",),
    real=True,
    flops=16,
    doc="scalar ^ x.",
)
scalar_op(
    "_mod_scalar",
    modulo,
    lambda c, x, y, g: g,
    aliases=("_ModScalar",),
    flops=4,
    doc="x modulo scalar, with the sign of the scalar; 0 if the scalar is 0.",
)
scalar_op(
    "_rmod_scalar",
    lambda xp, x, s: modulo(xp, s, x),
    _grad_rmod,
    aliases=("_RModScalar",),
    flops=4,
    doc="scalar modulo x, with the sign of x; 0 where x is 0.",
)
scalar_op(
    "_maximum_scalar",
    lambda xp, x, s: xp.maximum(x, s),
    lambda c, x, y, g: mul(g, apply("_greater_equal_scalar", x, scalar=c)),
    aliases=("_MaximumScalar",),
    doc="The larger of x and scalar; a tie counts as x.",
)
scalar_op(
    "_minimum_scalar",
    lambda xp, x, s: xp.minimum(x, s),
    lambda c, x, y, g: mul(g, apply("_lesser_equal_scalar", x, scalar=c)),
    aliases=("_MinimumScalar",),
    doc="The smaller of x and scalar; a tie counts as x.",
)
scalar_op(
    "_hypot_scalar",
    lambda xp, x, s: xp.hypot(x, s),
    lambda c, x, y, g: mul(g, div(x, y)),
    aliases=("_HypotScalar",),
    real=True,
    flops=6,
    doc="sqrt(x^2 + scalar^2) without overflow.",
)

# ----- comparison and logic: 1 or 0 in the input's dtype, gradient zero

_CONDITIONS: dict[str, tuple[Kernel, str]] = {
    "equal": (lambda xp, x, s: x == s, "x == scalar"),
    "not_equal": (lambda xp, x, s: x != s, "x != scalar"),
    "greater": (lambda xp, x, s: x > s, "x > scalar"),
    "greater_equal": (lambda xp, x, s: x >= s, "x >= scalar"),
    "lesser": (lambda xp, x, s: x < s, "x < scalar"),
    "lesser_equal": (lambda xp, x, s: x <= s, "x <= scalar"),
    "logical_and": (both, "x and scalar are both nonzero"),
    "logical_or": (either, "x or scalar is nonzero"),
    "logical_xor": (one_of, "exactly one of x and scalar is nonzero"),
}

for _name, (_kernel, _words) in _CONDITIONS.items():
    scalar_op(
        f"_{_name}_scalar",
        _kernel,
        None,
        aliases=(f"_{_name.title().replace('_', '')}Scalar",),
        kinds="fiub",
        doc=f"1 where {_words}, 0 elsewhere.",
    )

# ----- spellings made for sparse arrays, which are dense here

scalar_op(
    "_scatter_plus_scalar",
    lambda xp, x, s: x + s,
    lambda c, x, y, g: g,
    aliases=(),
    doc="x + scalar (on sparse arrays of MXNet: of the stored rows only).",
)
scalar_op(
    "_scatter_minus_scalar",
    lambda xp, x, s: x - s,
    lambda c, x, y, g: g,
    aliases=(),
    doc="x - scalar (on sparse arrays of MXNet: of the stored rows only).",
)
