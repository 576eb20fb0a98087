"""Vectorised exp, expm1, log, log1p, tanh, sigmoid and erf for float32.

Within 2 units in the last place of float64 code, for every float32 there is: at most exp 1.010,
expm1 1.443, log 0.827, log1p 1.437, tanh 1.498, sigmoid 1.967 and erf 1.028, measured over all 2^32
patterns with AVX-512 (tests/test_kernels_math.py, ``-m sweep``). NaN stays NaN.
Sources: Cody and Waite 1980 (ln 2 in two parts); S. Moshier, Cephes (expf, logf, tanhf); N. Juffa
(erff).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from raysym.kernels.emit import IVEC, VEC, Emit, Value

_LN2_HIGH, _LN2_LOW = 0.693359375, -2.12194440e-4  # the high part has few bits: n times it is exact
_ROUND = 12582912.0  # 1.5 * 2^23: adding it leaves the nearest integer in the low bits
_ROUND_BITS = 0x4B400000
_SQRT_HALF_BITS = 0x3F3504F3
_EXP = (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1,
        5.0000001201e-1)  # fmt: skip
_LOG = (7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1,
        -1.6668057665e-1, 2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1)  # fmt: skip
_TANH_NEAR = (-5.70498872745e-3, 2.06390887954e-2, -5.37397155531e-2, 1.33314422036e-1,
              -3.33332819422e-1)  # fmt: skip
_ERF_NEAR = (-5.96761703e-4, 4.99119423e-3, -2.67681349e-2, 1.12819925e-1, -3.76125336e-1,
             1.28379166e-1)  # fmt: skip
_ERF_FAR = (-1.72853470e-5, 3.83197126e-4, -3.88396438e-3, 2.42546219e-2, -1.06777877e-1,
            -6.34846687e-1, -1.28717512e-1)  # fmt: skip


def polynomial(e: Emit, coefficients: Sequence[float], x: Value) -> Value:
    """Horner's rule, highest power first."""
    total = e.number(coefficients[0])
    for coefficient in coefficients[1:]:
        total = e.fma(total, x, e.number(coefficient))
    return total


def absolute(e: Emit, x: Value) -> Value:
    """|x|."""
    return e.call("llvm.fabs.v16f32", VEC, [x])


def copysign(e: Emit, x: Value, sign: Value) -> Value:
    """|x| with the sign of another."""
    return e.call("llvm.copysign.v16f32", VEC, [x, sign])


def at_least(e: Emit, x: Value, low: float) -> Value:
    """``max(x, low)``; NaN stays."""
    return e.b.select(e.b.fcmp_ordered("<", x, e.number(low)), e.number(low), x)


def at_most(e: Emit, x: Value, high: float) -> Value:
    """``min(x, high)``; NaN stays."""
    return e.b.select(e.b.fcmp_ordered(">", x, e.number(high)), e.number(high), x)


def rounded(e: Emit, x: Value, factor: float) -> tuple[Value, Value]:
    """The integer nearest to ``x factor``: in the low bits of a float, and as a float."""
    shifted = e.fma(x, e.number(factor), e.number(_ROUND))
    return shifted, e.b.fsub(shifted, e.number(_ROUND))


def less_ln2(e: Emit, n: Value, x: Value) -> Value:
    """``x - n ln 2`` for an integer n."""
    return e.fma(n, e.number(-_LN2_LOW), e.fma(n, e.number(-_LN2_HIGH), x))


def _reduced(e: Emit, x: Value) -> tuple[Value, Value]:
    """``n, r`` with ``x = n ln 2 + r``, n an integer (as int32), |r| at most 0.35."""
    shifted, n = rounded(e, x, math.log2(math.e))
    return e.b.sub(e.b.bitcast(shifted, IVEC), e.integer(_ROUND_BITS)), less_ln2(e, n, x)


def _power_of_two(e: Emit, n: Value) -> Value:
    return e.b.bitcast(e.b.shl(e.b.add(n, e.integer(127)), e.integer(23)), VEC)


def power_of_rounded(e: Emit, shifted: Value, more: int = 0) -> Value:
    """2 to an integer as `rounded` shifts it, and to `more`."""
    exponent = e.b.shl(e.b.bitcast(shifted, IVEC), e.integer(23))  # of _ROUND nothing is left
    return e.b.bitcast(e.b.add(exponent, e.integer(127 + more << 23)), VEC)


def exp_less_one(e: Emit, r: Value) -> Value:
    """``e^r - 1`` for small r."""
    return e.fma(polynomial(e, _EXP, r), e.b.fmul(r, r), r)


def exp(e: Emit, x: Value) -> Value:
    """e^x; infinity above 88.73, denormal numbers and 0 below -87.34."""
    n, r = _reduced(e, at_most(e, at_least(e, x, -105.0), 90.0))
    value = e.b.fadd(exp_less_one(e, r), e.number(1.0))
    # Two factors: 2^n itself may be out of range where the product is not.
    half = e.b.ashr(n, e.integer(1))
    value = e.b.fmul(value, _power_of_two(e, half))
    return e.b.fmul(value, _power_of_two(e, e.b.sub(n, half)))


def _exp_below_zero(e: Emit, x: Value) -> Value:
    """The bits of `exp` for x up to 0: powers of two 2^64 too large are none out of range."""
    x = at_least(e, x, -105.0)
    shifted, n = rounded(e, x, math.log2(math.e))
    value = e.b.fadd(exp_less_one(e, less_ln2(e, n, x)), e.number(1.0))
    return e.b.fmul(e.b.fmul(value, power_of_rounded(e, shifted, 64)), e.number(2.0**-64))


def expm1(e: Emit, x: Value) -> Value:
    """``e^x - 1``, exact also near 0."""
    n, r = _reduced(e, at_most(e, at_least(e, x, -30.0), 87.0))
    scale = _power_of_two(e, n)
    value = e.fma(scale, exp_less_one(e, r), e.b.fsub(scale, e.number(1.0)))
    value = e.b.select(e.b.fcmp_ordered("==", x, e.zero), x, value)  # keeps -0
    return e.b.select(e.b.fcmp_ordered(">", x, e.number(87.0)), exp(e, x), value)


def parted(e: Emit, x: Value) -> tuple[Value, Value]:
    """``m, n`` with ``x = m 2^n`` and m around 1, n an integer (as int32); x is above 0."""
    b = e.b
    tiny = b.fcmp_ordered("<", x, e.number(2.0**-126))
    scaled = b.select(tiny, b.fmul(x, e.number(2.0**23)), x)
    bits = b.sub(b.bitcast(scaled, IVEC), e.integer(_SQRT_HALF_BITS))
    n = b.sub(b.ashr(bits, e.integer(23)), b.select(tiny, e.integer(23), e.integer(0)))
    mantissa = b.add(b.and_(bits, e.integer(0x7FFFFF)), e.integer(_SQRT_HALF_BITS))
    return b.bitcast(mantissa, VEC), n


def log(e: Emit, x: Value) -> Value:
    """The natural logarithm; -inf at 0, NaN below."""
    b = e.b
    mantissa, n = parted(e, x)
    exponent = b.sitofp(n, VEC)
    f = b.fsub(mantissa, e.number(1.0))
    z = b.fmul(f, f)
    tail = b.fmul(b.fmul(polynomial(e, _LOG, f), f), z)
    tail = e.fma(exponent, e.number(_LN2_LOW), tail)
    tail = e.fma(z, e.number(-0.5), tail)
    made = e.fma(exponent, e.number(_LN2_HIGH), b.fadd(f, tail))
    return _log_edges(e, x, made)


def _log_edges(e: Emit, x: Value, made: Value) -> Value:
    b = e.b
    made = b.select(b.fcmp_ordered("==", x, e.number(math.inf)), x, made)
    made = b.select(b.fcmp_ordered("==", x, e.zero), e.number(-math.inf), made)
    return b.select(b.fcmp_unordered("<", x, e.zero), e.number(math.nan), made)


def log1p(e: Emit, x: Value) -> Value:
    """``log(1 + x)``, exact also near 0."""
    b = e.b
    u = b.fadd(x, e.number(1.0))
    lost = b.fsub(x, b.fsub(u, e.number(1.0)))
    made = b.fadd(log(e, u), b.fdiv(lost, u))
    made = b.select(b.fcmp_ordered("==", u, e.number(math.inf)), u, made)
    made = b.select(b.fcmp_ordered("==", u, e.zero), e.number(-math.inf), made)
    return b.select(b.fcmp_ordered("==", u, e.number(1.0)), x, made)


def tanh(e: Emit, x: Value) -> Value:
    """``t / (t + 2)`` with ``t = e^(2|x|) - 1`` and the sign of x; near 0 a polynomial."""
    size = at_most(e, absolute(e, x), 10.0)  # beyond 9.02 it is 1
    n, r = _reduced(e, e.b.fadd(size, size))
    scale = _power_of_two(e, n)
    t = e.fma(scale, exp_less_one(e, r), e.b.fsub(scale, e.number(1.0)))
    far = e.b.fdiv(t, e.b.fadd(t, e.number(2.0)))
    square = e.b.fmul(x, x)
    near = e.fma(polynomial(e, _TANH_NEAR, square), e.b.fmul(square, x), x)
    made = e.b.select(e.b.fcmp_ordered("<", size, e.number(0.625)), near, far)
    return copysign(e, made, x)


def sigmoid(e: Emit, x: Value) -> Value:
    """``1 / (1 + e^-x)`` above 0, ``e^x / (1 + e^x)`` below: nothing overflows."""
    b, one = e.b, e.number(1.0)
    small = _exp_below_zero(e, b.fneg(absolute(e, x)))
    below = b.fcmp_ordered("<", x, e.zero)
    whole = b.fadd(one, small)
    made = b.fdiv(b.select(below, small, one), whole)
    # What the addition has lost, divided by the sum: 1 / whole is the other side's value.
    lost = b.fmul(b.fsub(small, b.fsub(whole, one)), b.select(below, b.fsub(one, made), made))
    return e.fma(made, b.fneg(lost), made)


def erf(e: Emit, x: Value) -> Value:
    """The error function: a polynomial near 0, ``1 - e^p(|x|)`` beyond 0.93."""
    size = at_most(e, absolute(e, x), 4.0)  # beyond 3.92 it is 1
    square = e.b.fmul(x, x)
    near = e.fma(polynomial(e, _ERF_NEAR, square), x, x)
    power = e.fma(polynomial(e, _ERF_FAR, size), size, e.b.fneg(size))
    far = copysign(e, e.b.fsub(e.number(1.0), exp(e, power)), x)
    return e.b.select(e.b.fcmp_ordered(">", size, e.number(0.927734375)), far, near)
