"""Powers of vectors of float32: the logarithm, the product and the exponential in float64.

Within 0.55 units in the last place: the logarithm's error is below 5e-12 of it, that of the
exponential below 2.6e-9. What does not need float64 is done in float32, in half the registers.
Polynomials interpolate at Chebyshev's points.
"""

from __future__ import annotations

import math

from raysym.kernels.double_math import bounded, polynomial
from raysym.kernels.emit import F64, I64, IVEC, VEC, Emit, Value
from raysym.kernels.typed import intrinsic, like, vector_of
from raysym.kernels.vector_math import absolute, copysign

_SQRT_HALF_BITS = 0x3F3504F3
# log2((1 + s) / (1 - s)) / s in s^2, up to 0.0295; 2^x up to 0.5.
_LOG = (0.34073272185704984, 0.4116727034897545, 0.5770835827017434, 0.9617966733701385,
        2.885390081790047)  # fmt: skip
_EXP = (1.5461444724808513e-4, 1.3400428177711937e-3, 9.61805667843204e-3, 5.550327226669895e-2,
        0.24022650922289554, 0.6931472067028329, 1.0)  # fmt: skip
_ROUND = 1.5 * 2.0**52  # adding it leaves the nearest integer in the low bits
_WIDE = vector_of(F64)


def power(e: Emit, x: Value, y: Value) -> Value:
    """``x^y`` with signs and edges as in C."""
    size = absolute(e, x)
    wide = e.b.fmul(e.b.fpext(y, _WIDE), _log2(e, size))
    made = e.b.fptrunc(_exp2(e, bounded(e, wide, -200.0, 200.0)), VEC)
    return _edges(e, x, y, size, made)


def _log2(e: Emit, size: Value) -> Value:
    """The logarithm of what is neither 0 nor infinite, as float64."""
    b = e.b
    tiny = b.fcmp_ordered("<", size, e.number(2.0**-126))
    scaled = b.select(tiny, b.fmul(size, e.number(2.0**23)), size)
    bits = b.sub(b.bitcast(scaled, IVEC), e.integer(_SQRT_HALF_BITS))
    exponent = b.sub(b.ashr(bits, e.integer(23)), b.select(tiny, e.integer(23), e.integer(0)))
    mantissa = b.add(b.and_(bits, e.integer(0x7FFFFF)), e.integer(_SQRT_HALF_BITS))
    narrow = b.bitcast(mantissa, VEC)
    f = b.fpext(b.fsub(narrow, e.number(1.0)), _WIDE)
    s = _quotient(e, f, b.fadd(f, like(e, f, 2.0)), b.fadd(narrow, e.number(1.0)))
    series = polynomial(e, _LOG, b.fmul(s, s))
    return intrinsic(e, "fma", s, series, b.sitofp(exponent, _WIDE))


def _quotient(e: Emit, x: Value, y: Value, rounded: Value) -> Value:
    """``x / y`` from the reciprocal in float32, which is less work than a division in float64."""
    guess = e.b.fpext(e.b.fdiv(e.number(1.0), rounded), _WIDE)
    near = e.b.fmul(x, guess)
    rest = intrinsic(e, "fma", e.b.fneg(near), y, x)
    return intrinsic(e, "fma", rest, guess, near)


def _exp2(e: Emit, x: Value) -> Value:
    """2^x for x between -1000 and 1000."""
    b, whole = e.b, vector_of(I64)
    shifted = b.fadd(x, like(e, x, _ROUND))
    rest = b.fsub(x, b.fsub(shifted, like(e, x, _ROUND)))
    value = b.bitcast(polynomial(e, _EXP, rest), whole)
    moved = b.shl(b.bitcast(shifted, whole), like(e, value, 52))
    return b.bitcast(b.add(value, moved), _WIDE)


def _edges(e: Emit, x: Value, y: Value, size: Value, made: Value) -> Value:
    """What the formula gives, signed; and what it cannot give."""
    b, zero, one, infinity = e.b, e.zero, e.number(1.0), e.number(math.inf)

    def equal(p: Value, q: Value) -> Value:
        return b.fcmp_ordered("==", p, q)

    end = b.or_(equal(size, zero), equal(size, infinity))
    made = b.select(end, b.select(b.fcmp_ordered("<", y, zero), b.fdiv(one, size), size), made)
    halved = b.fmul(y, e.number(0.5))
    is_whole = equal(intrinsic(e, "trunc", y), y)
    is_odd = b.and_(is_whole, b.not_(equal(intrinsic(e, "trunc", halved), halved)))
    made = b.select(is_odd, copysign(e, made, x), made)
    below = b.and_(b.fcmp_ordered("<", x, zero), b.not_(equal(size, infinity)))
    lost = b.or_(b.and_(below, b.not_(is_whole)), b.fcmp_unordered("uno", x, y))
    made = b.select(lost, e.number(math.nan), made)
    both = b.and_(equal(x, e.number(-1.0)), equal(absolute(e, y), infinity))
    return b.select(b.or_(b.or_(equal(y, zero), equal(x, one)), both), one, made)
