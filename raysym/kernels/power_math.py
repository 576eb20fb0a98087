"""Powers of vectors: 2 to the product of the exponent with a logarithm of more bits.

Of float32 within 0.55 units in the last place: the logarithm's error is below 5e-12 of it, that of
the exponential below 2.6e-9. What does not need float64 is done in float32, in half the registers.
Of float64 within 1.2 units: the logarithm is a sum of two numbers (as in fdlibm's e_pow.c).
Polynomials interpolate at Chebyshev's points.
"""

from __future__ import annotations

import math

from raysym.kernels import vector_math as vm
from raysym.kernels.double_math import (
    absolute,
    bounded,
    parted,
    polynomial,
    signed,
    times_power,
)
from raysym.kernels.emit import F64, I64, VEC, Emit, Value
from raysym.kernels.typed import intrinsic, like, vector_of

# log2((1 + s) / (1 - s)) / s in s^2, up to 0.0295; 2^x up to 0.5.
_LOG = (0.34073272185704984, 0.4116727034897545, 0.5770835827017434, 0.9617966733701385,
        2.885390081790047)  # fmt: skip
_EXP = (1.5461444724808513e-4, 1.3400428177711937e-3, 9.61805667843204e-3, 5.550327226669895e-2,
        0.24022650922289554, 0.6931472067028329, 1.0)  # fmt: skip
_ROUND, _ROUND_BITS = (
    1.5 * 2.0**52,
    0x4338 << 48,
)  # adding it leaves the nearest integer in the low bits
_WIDE, _WHOLE = vector_of(F64), vector_of(I64)
_MOST = 1100.0  # 2^1100 is infinite, 2^-1100 is 0
# The same for float64: (log((1 + s) / (1 - s)) / 2 s - 1) / s^2 in s^2, and (2^x - 1) / x.
_LOG_TAIL = (
    0.06543726928198737, 0.0663434785392025, 0.07693121237490512, 0.09090897796474816,
    0.11111111196049112, 0.14285714285401133, 0.2000000000000044, 0.3333333333333333,
)  # fmt: skip
_THIRD_LOW = 1.850371707708594e-17  # what the last of them lacks
_EXP_TAIL = (
    2.572550704978495e-11, 4.455792337976096e-10, 7.054900487378181e-09, 1.0178057209928509e-07,
    1.3215486798508684e-06, 1.5252733841399037e-05, 0.00015403530393386385, 0.0013333558146406477,
    0.009618129107628468, 0.055504108664821625, 0.24022650695910072, 0.6931471805599453,
)  # fmt: skip
_SCALE, _SCALE_LOW = 2.8853900817779268, 4.0766001685454967e-17  # 2 / ln 2


def power(e: Emit, x: Value, y: Value) -> Value:
    """``x^y`` with signs and edges as in C."""
    size = absolute(e, x)
    if x.type.element == F64:
        return _edges(e, x, y, size, _wide_power(e, size, y))
    wide = e.b.fmul(e.b.fpext(y, _WIDE), _log2(e, size))
    made = e.b.fptrunc(_exp2(e, bounded(e, wide, -200.0, 200.0)), VEC)
    return _edges(e, x, y, size, made)


# ----- float32


def _log2(e: Emit, size: Value) -> Value:
    """The logarithm of what is neither 0 nor infinite, as float64."""
    b = e.b
    narrow, exponent = vm.parted(e, size)
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
    b = e.b
    shifted = b.fadd(x, like(e, x, _ROUND))
    rest = b.fsub(x, b.fsub(shifted, like(e, x, _ROUND)))
    value = b.bitcast(polynomial(e, _EXP, rest), _WHOLE)
    moved = b.shl(b.bitcast(shifted, _WHOLE), like(e, value, 52))
    return b.bitcast(b.add(value, moved), _WIDE)


# ----- float64


def _wide_power(e: Emit, size: Value, y: Value) -> Value:
    high, low = _log2_pair(e, size)
    b, product = e.b, e.b.fmul(y, high)
    lost = intrinsic(e, "fma", y, high, b.fneg(product))
    rest = intrinsic(e, "fma", y, low, lost)
    inside = b.fcmp_ordered("<", absolute(e, product), like(e, y, _MOST))
    rest = b.select(inside, rest, like(e, y, 0.0))
    return _exp2_pair(e, bounded(e, product, -_MOST, _MOST), rest)


def _log2_pair(e: Emit, size: Value) -> tuple[Value, Value]:
    """The logarithm of what is neither 0 nor infinite: a number, and what it lacks."""
    b = e.b
    mantissa, k = parted(e, size)
    s, lost = _quotient_pair(e, mantissa)
    high, low = _series_pair(e, s, lost)
    made = b.fmul(high, like(e, high, _SCALE))
    rest = intrinsic(e, "fma", high, like(e, high, _SCALE), b.fneg(made))
    rest = intrinsic(e, "fma", high, like(e, high, _SCALE_LOW), rest)
    rest = intrinsic(e, "fma", low, like(e, low, _SCALE), rest)
    total = b.fadd(k, made)
    return total, b.fadd(b.fsub(made, b.fsub(total, k)), rest)


def _series_pair(e: Emit, s: Value, lost: Value) -> tuple[Value, Value]:
    """``s + s^3 / 3 + s^5 / 5 + ...`` of a number and what it lacks."""
    b = e.b

    def times(x: Value, y: Value, rest: Value) -> tuple[Value, Value]:
        made = b.fmul(x, y)
        return made, b.fadd(intrinsic(e, "fma", x, y, b.fneg(made)), rest)

    square, square_low = times(s, s, b.fmul(b.fadd(s, s), lost))
    third = like(e, s, _LOG_TAIL[-1])
    tail = b.fmul(square, polynomial(e, _LOG_TAIL[:-1], square))
    factor = b.fadd(third, tail)
    factor_low = b.fadd(b.fsub(tail, b.fsub(factor, third)), like(e, s, _THIRD_LOW))
    both = b.fadd(b.fmul(square, factor_low), b.fmul(square_low, factor))
    cube, cube_low = times(square, factor, both)
    more, more_low = times(s, cube, b.fadd(b.fmul(s, cube_low), b.fmul(lost, cube)))
    high = b.fadd(s, more)
    return high, b.fadd(b.fsub(more, b.fsub(high, s)), b.fadd(more_low, lost))


def _quotient_pair(e: Emit, m: Value) -> tuple[Value, Value]:
    """``(m - 1) / (m + 1)``: a number, and what it lacks."""
    b, one = e.b, like(e, m, 1.0)
    f, d = b.fsub(m, one), b.fadd(m, one)
    lost = b.fsub(m, b.fsub(d, one))
    guess = b.fdiv(one, d)
    s = b.fmul(f, guess)
    rest = intrinsic(e, "fma", b.fneg(s), d, f)
    rest = intrinsic(e, "fma", b.fneg(s), lost, rest)
    return s, b.fmul(rest, guess)


def _exp2_pair(e: Emit, x: Value, rest: Value) -> Value:
    """2^(x + rest) for x between -1100 and 1100."""
    b = e.b
    shifted = b.fadd(x, like(e, x, _ROUND))
    near = b.fadd(b.fsub(x, b.fsub(shifted, like(e, x, _ROUND))), rest)
    value = intrinsic(e, "fma", near, polynomial(e, _EXP_TAIL, near), like(e, x, 1.0))
    n = b.sub(b.bitcast(shifted, _WHOLE), like(e, b.bitcast(shifted, _WHOLE), _ROUND_BITS))
    return times_power(e, value, n)


# ----- both


def _edges(e: Emit, x: Value, y: Value, size: Value, made: Value) -> Value:
    """What the formula gives, signed; and what it cannot give."""
    b = e.b
    zero, one, infinity = (like(e, x, n) for n in (0.0, 1.0, math.inf))

    def equal(p: Value, q: Value) -> Value:
        return b.fcmp_ordered("==", p, q)

    end = b.or_(equal(size, zero), equal(size, infinity))
    made = b.select(end, b.select(b.fcmp_ordered("<", y, zero), b.fdiv(one, size), size), made)
    halved = b.fmul(y, like(e, y, 0.5))
    is_whole = equal(intrinsic(e, "trunc", y), y)
    is_odd = b.and_(is_whole, b.not_(equal(intrinsic(e, "trunc", halved), halved)))
    made = b.select(is_odd, signed(e, made, x), made)
    below = b.and_(b.fcmp_ordered("<", x, zero), b.not_(equal(size, infinity)))
    lost = b.or_(b.and_(below, b.not_(is_whole)), b.fcmp_unordered("uno", x, y))
    made = b.select(lost, like(e, x, math.nan), made)
    both = b.and_(equal(x, like(e, x, -1.0)), equal(absolute(e, y), infinity))
    return b.select(b.or_(b.or_(equal(y, zero), equal(x, one)), both), one, made)
