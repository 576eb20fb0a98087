"""Short names for the graph maths that gradients are written in: entries in, one entry out."""

from __future__ import annotations

from raysym.graph import Entry, apply


def add(a: Entry, b: Entry) -> Entry:
    """``a + b``, equal shapes."""
    return apply("elemwise_add", a, b)


def sub(a: Entry, b: Entry) -> Entry:
    """``a - b``, equal shapes."""
    return apply("elemwise_sub", a, b)


def mul(a: Entry, b: Entry) -> Entry:
    """``a * b``, equal shapes."""
    return apply("elemwise_mul", a, b)


def div(a: Entry, b: Entry) -> Entry:
    """``a / b``, equal shapes."""
    return apply("elemwise_div", a, b)


def neg(a: Entry) -> Entry:
    """``-a``."""
    return apply("negative", a)


def square(a: Entry) -> Entry:
    """``a * a``."""
    return apply("square", a)


def plus(a: Entry, scalar: float) -> Entry:
    """``a + scalar``."""
    return apply("_plus_scalar", a, scalar=scalar)


def times(a: Entry, scalar: float) -> Entry:
    """``a * scalar``."""
    return apply("_mul_scalar", a, scalar=scalar)


def over(a: Entry, scalar: float) -> Entry:
    """``a / scalar``."""
    return apply("_div_scalar", a, scalar=scalar)


def minus_from(scalar: float, a: Entry) -> Entry:
    """``scalar - a``."""
    return apply("_rminus_scalar", a, scalar=scalar)


def power(a: Entry, scalar: float) -> Entry:
    """``a ** scalar``."""
    return apply("_power_scalar", a, scalar=scalar)


def sum_like(a: Entry, like: Entry) -> Entry:
    """`a` summed over the axes along which `like` was broadcast to it."""
    return apply("_sum_like", a, like)


def reshape_like(a: Entry, like: Entry) -> Entry:
    """`a` in the shape of `like`, which has as many elements."""
    return apply("reshape_like", a, like)


def exp(a: Entry) -> Entry:
    """``e ** a``."""
    return apply("exp", a)


def log(a: Entry) -> Entry:
    """Natural logarithm of a."""
    return apply("log", a)


def above(a: Entry, scalar: float) -> Entry:
    """1 where a > scalar, 0 elsewhere."""
    return apply("_greater_scalar", a, scalar=scalar)


def zeros(a: Entry) -> Entry:
    """Zeros of the type of `a`."""
    return apply("zeros_like", a)


def where(condition: Entry, a: Entry, b: Entry) -> Entry:
    """`a` where the condition is not zero, else `b`; equal shapes."""
    return apply("where", condition, a, b)


def spread(grad: Entry, like: Entry, axis: tuple[int, ...] | None, exclude: bool = False) -> Entry:
    """`grad`, made by reducing `like` over `axis`, repeated along those axes."""
    return apply("_spread", grad, like, axis=axis, exclude=exclude)


def spread_mean(
    grad: Entry, like: Entry, axis: tuple[int, ...] | None, exclude: bool = False
) -> Entry:
    """`spread`, divided by the number of elements that were reduced into one."""
    return apply("_spread", grad, like, axis=axis, exclude=exclude, mean=True)
