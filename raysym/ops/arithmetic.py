"""Kernels of two numbers that ops with two inputs and ops with a number share.

Either operand may be a scalar of the other's dtype that lives on the host, so they are written
with functions of `xp`: an operator would ask the scalar first.
"""

from __future__ import annotations

from typing import Any


def divide(xp: Any, a: Any, b: Any) -> Any:
    """a / b; integers are divided toward zero, and by zero give zero."""
    if a.dtype.kind == "f":
        return xp.true_divide(a, b)
    safe = _without_zero(b)
    quotient = xp.floor_divide(a, safe)
    inexact = xp.multiply(quotient, safe) != a
    toward_zero = quotient + ((quotient < 0) & inexact).astype(quotient.dtype)
    return xp.where(b == 0, quotient.dtype.type(0), toward_zero)


def modulo(xp: Any, a: Any, b: Any) -> Any:
    """The remainder with the sign of the divisor; 0 where the divisor is 0."""
    rest = xp.remainder(a, _without_zero(b))
    return xp.where(b == 0, rest.dtype.type(0), rest)


def _without_zero(b: Any) -> Any:
    return b + (b == 0).astype(b.dtype)


def both(xp: Any, a: Any, b: Any) -> Any:
    """True where a and b are both nonzero."""
    return xp.logical_and(a != 0, b != 0)


def either(xp: Any, a: Any, b: Any) -> Any:
    """True where a or b is nonzero."""
    return xp.logical_or(a != 0, b != 0)


def one_of(xp: Any, a: Any, b: Any) -> Any:
    """True where exactly one of a and b is nonzero."""
    return xp.logical_xor(a != 0, b != 0)
