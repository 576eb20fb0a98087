"""Sine, cosine and tangent of vectors of float32, of any size, and their inverse functions.

A quarter turn is subtracted so often that less than half of one is left: in float64, by two numbers
of 53 bits that are a quarter turn together; of numbers from 2^28 on by a table of turns modulo four
quarters, in pieces whose products with 24 bits are exact (as Payne and Hanek 1983 do it).
Polynomials: S. Moshier, Cephes (sinf, cosf); for tangents, Taylor's in float64. Those of
inverse functions interpolate at Chebyshev's points.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache

from raysym.kernels.double_math import absolute, polynomial, signed
from raysym.kernels.emit import F64, I64, IVEC, LANES, VEC, Emit, Value
from raysym.kernels.llvm import ir
from raysym.kernels.typed import constant, constants_of, intrinsic, like, load_at, root, vector_of
from raysym.kernels.vector_math import at_most

_QUARTER, _QUARTER_LOW = math.pi / 2, 6.123233995736766e-17
_ROUND = 1.5 * 2.0**52  # adding it leaves the nearest integer in the low bits
_WIDE, _WHOLE = vector_of(F64), vector_of(I64)
_LARGE_EXPONENT = 28
_PIECES, _PIECE_BITS = 3, 29
_SIN = (-1.9515295891e-4, 8.3321608736e-3, -1.6666654611e-1)
_COS = (2.443315711809948e-5, -1.388731625493765e-3, 4.166664568298827e-2)
# (atan(x) / x - 1) / x^2 up to tan(pi / 8), the same of asin up to 1/2, in x^2.
_ATAN = (0.05046648904681206, -0.0862409844994545, 0.11071287840604782, -0.14284147322177887,
         0.19999976456165314, -0.3333333432674408)  # fmt: skip
_ASIN = (0.030985459685325623, 0.010566947981715202, 0.023613713681697845, 0.030268918722867966,
         0.04464767500758171, 0.07499992102384567, 0.1666666716337204)  # fmt: skip
_HALF_PI, _HALF_PI_LOW = 1.5707963705062866, -4.371138828673793e-08  # in float32
_WIDE_SIN = [(-1) ** k / math.factorial(2 * k + 1) for k in range(6, -1, -1)]
_WIDE_COS = [(-1) ** k / math.factorial(2 * k) for k in range(7, -1, -1)]
# pi: what is left of 2^127 has more than 100 bits.
_PI = Fraction(0x3243F6A8885A308D313198A2E03707344A4093822299F31D0082EFA98EC4E6C89, 1 << 256)


def sin(e: Emit, x: Value) -> Value:
    """The sine; NaN of what is not finite."""
    count, rest = _reduced(e, x)
    made = _by_quarter(e, count, e.b.fptrunc(rest, VEC))
    return e.b.select(e.b.fcmp_ordered("==", x, e.zero), x, made)  # keeps -0


def cos(e: Emit, x: Value) -> Value:
    """The cosine; NaN of what is not finite."""
    count, rest = _reduced(e, x)
    return _by_quarter(e, e.b.add(count, like(e, count, 1)), e.b.fptrunc(rest, VEC))


def tan(e: Emit, x: Value) -> Value:
    """The tangent; NaN of what is not finite."""
    b = e.b
    count, rest = _reduced(e, x)
    z = b.fmul(rest, rest)
    s, c = b.fmul(rest, polynomial(e, _WIDE_SIN, z)), polynomial(e, _WIDE_COS, z)
    is_odd = b.trunc(count, vector_of(ir.IntType(1)))
    made = b.fdiv(b.select(is_odd, b.fneg(c), s), b.select(is_odd, s, c))
    return b.select(b.fcmp_ordered("==", x, e.zero), x, b.fptrunc(made, VEC))


def _by_quarter(e: Emit, count: Value, r: Value) -> Value:
    """The sine of so many quarter turns and r."""
    b, z = e.b, e.b.fmul(r, r)
    narrow = b.trunc(count, IVEC)
    near = e.fma(b.fmul(polynomial(e, _SIN, z), z), r, r)
    half = b.fmul(z, e.number(0.5))
    most = b.fsub(e.number(1.0), half)
    lost = b.fsub(b.fsub(e.number(1.0), most), half)
    far = b.fadd(most, e.fma(polynomial(e, _COS, z), b.fmul(z, z), lost))
    is_odd = b.icmp_signed("!=", b.and_(narrow, e.integer(1)), e.integer(0))
    made = b.bitcast(b.select(is_odd, far, near), IVEC)
    sign = b.shl(b.and_(narrow, e.integer(2)), e.integer(30))
    return b.bitcast(b.xor(made, sign), VEC)


# ----- reduction


def _reduced(e: Emit, x: Value) -> tuple[Value, Value]:
    """How many quarter turns x is, modulo 4, and what is left of it."""
    b, wide = e.b, e.b.fpext(x, _WIDE)
    count, turns = _nearest(e, b.fmul(wide, like(e, wide, 1 / _QUARTER)))
    rest = intrinsic(e, "fma", turns, like(e, wide, -_QUARTER), wide)
    rest = intrinsic(e, "fma", turns, like(e, wide, -_QUARTER_LOW), rest)
    is_large = b.fcmp_unordered(">=", absolute(e, x), e.number(2.0**_LARGE_EXPONENT))
    some = b.icmp_unsigned("!=", b.bitcast(is_large, ir.IntType(LANES)), ir.IntType(LANES)(0))
    before = b.block
    with b.if_then(some, likely=False):
        large_count, large_rest = _reduced_by_table(e, x)
        pairs = (is_large, large_count, count), (is_large, large_rest, rest)
        both = [b.select(*pair) for pair in pairs]
        inside = b.block
    made = []
    for there, here in zip(both, (count, rest), strict=True):
        phi = b.phi(here.type)
        phi.add_incoming(there, inside)
        phi.add_incoming(here, before)
        made.append(phi)
    return made[0], made[1]


def _nearest(e: Emit, x: Value) -> tuple[Value, Value]:
    """The nearest integer: in the low bits of an integer, and as a float."""
    shifted = e.b.fadd(x, like(e, x, _ROUND))
    return e.b.bitcast(shifted, _WHOLE), e.b.fsub(shifted, like(e, x, _ROUND))


def _reduced_by_table(e: Emit, x: Value) -> tuple[Value, Value]:
    b = e.b
    bits = b.bitcast(absolute(e, x), IVEC)
    exponent = b.sub(b.lshr(bits, e.integer(23)), e.integer(127 + _LARGE_EXPONENT))
    inside = b.and_(exponent, e.integer(127))  # also of lanes that are not large
    mantissa = b.or_(b.and_(bits, e.integer((1 << 23) - 1)), e.integer(1 << 23))
    m = b.sitofp(mantissa, _WIDE)
    count, rest = constant(e, _WHOLE, 0), like(e, m, 0.0)
    place = b.zext(b.mul(inside, e.integer(_PIECES)), _WHOLE)
    pointer = constants_of(e, _table())
    for i in range(_PIECES):
        at = b.add(place, constant(e, _WHOLE, i))
        piece = load_at(e, "float64", pointer, at, LANES)
        some, turns = _nearest(e, b.fmul(m, piece))
        rest = b.fadd(rest, b.fsub(b.fmul(m, piece), turns))
        count = b.add(count, some)
    more, turns = _nearest(e, rest)
    count, rest = b.add(count, more), b.fsub(rest, turns)
    radians = b.fmul(rest, like(e, rest, _QUARTER))
    is_negative = b.fcmp_ordered("<", x, e.zero)
    turned = b.select(is_negative, b.sub(constant(e, _WHOLE, 0), count), count)
    made = b.select(is_negative, b.fneg(radians), radians)
    is_finite = b.fcmp_ordered("<", absolute(e, x), e.number(math.inf))
    return turned, b.select(is_finite, made, like(e, made, math.nan))


@lru_cache(maxsize=1)
def _table() -> bytes:
    """For each exponent from 28 on: quarter turns in 2^(exponent - 23), modulo 4, in pieces."""
    rows: list[float] = []
    for exponent in range(_LARGE_EXPONENT, _LARGE_EXPONENT + 128):
        rows += _pieces(Fraction(2) ** (exponent - 23) * 2 / _PI % 4)
    return struct.pack(f"{len(rows)}d", *rows)


def _pieces(x: Fraction) -> Sequence[float]:
    made = []
    for i in range(_PIECES):
        unit = Fraction(4, 1 << (_PIECE_BITS * (i + 1)))
        piece = x // unit * unit
        made.append(float(piece))
        x -= piece
    return made


# ----- inverse functions


def arctan(e: Emit, x: Value) -> Value:
    """Arguments beyond tan(pi/8) as differences from pi/4, beyond tan(3 pi/8) from pi/2."""
    b, one = e.b, e.number(1.0)
    size = at_most(e, absolute(e, x), 1e30)
    is_far = b.fcmp_ordered(">", size, e.number(2.414213562373095))
    is_near = b.fcmp_ordered("<", size, e.number(0.4142135623730950))
    less, more = b.fsub(size, one), b.fadd(size, one)
    above = b.select(is_far, e.number(-1.0), b.select(is_near, size, less))
    below = b.select(is_far, size, b.select(is_near, one, more))
    part = b.fdiv(above, below)
    # What the sums and the quotient have lost.
    sums = e.fma(b.fneg(part), b.fsub(size, b.fsub(more, one)), b.fsub(size, b.fadd(less, one)))
    sums = b.select(b.or_(is_far, is_near), e.zero, sums)
    lost = b.fdiv(b.fadd(e.fma(b.fneg(part), below, above), sums), below)
    turns = b.select(is_far, one, b.select(is_near, e.zero, e.number(0.5)))
    z = b.fmul(part, part)
    tail = e.fma(turns, e.number(_HALF_PI_LOW), lost)
    tail = e.fma(b.fmul(polynomial(e, _ATAN, z), z), part, tail)
    start = b.fmul(turns, e.number(_HALF_PI))
    made = b.fadd(start, part)
    tail = b.fadd(tail, b.fsub(part, b.fsub(made, start)))
    return signed(e, b.select(is_near, b.fadd(part, tail), b.fadd(made, tail)), x)


def arcsin(e: Emit, x: Value) -> Value:
    """NaN beyond 1; from 1/2 on what is lacking to pi/2."""
    b, size = e.b, absolute(e, x)
    part, tail, is_far = _arc(e, size)
    double, tails = b.fadd(part, part), b.fadd(tail, tail)
    far = b.fadd(b.fsub(e.number(_HALF_PI), double), b.fsub(e.number(_HALF_PI_LOW), tails))
    return signed(e, b.select(is_far, far, b.fadd(part, tail)), x)


def arccos(e: Emit, x: Value) -> Value:
    """NaN beyond 1; beyond 1/2 twice the arc of half the distance from 1."""
    b, size = e.b, absolute(e, x)
    part, tail, is_far = _arc(e, size)
    double = b.fadd(b.fadd(part, tail), b.fadd(part, tail))
    is_negative = b.fcmp_ordered("<", x, e.zero)
    pi, pi_low = e.number(2 * _HALF_PI), e.number(2 * _HALF_PI_LOW)
    back = b.fadd(b.fsub(pi, double), pi_low)
    far = b.select(is_negative, back, double)
    part, tail = signed(e, part, x), b.fsub(e.number(_HALF_PI_LOW), signed(e, tail, x))
    near = b.fadd(b.fsub(e.number(_HALF_PI), part), tail)
    return b.select(is_far, far, near)


def _arc(e: Emit, size: Value) -> tuple[Value, Value, Value]:
    """The arc sine of |x|, or from 1/2 on of ``sqrt((1 - |x|) / 2)``, in two parts; whether so."""
    b = e.b
    is_far = b.fcmp_unordered(">=", size, e.number(0.5))
    half = b.fmul(b.fsub(e.number(1.0), size), e.number(0.5))
    z = b.select(is_far, half, b.fmul(size, size))
    side = root(e, half)
    part = b.select(is_far, side, size)
    tail = b.fmul(b.fmul(polynomial(e, _ASIN, z), z), part)
    lost = b.fdiv(e.fma(b.fneg(side), side, half), b.fadd(side, side))  # by the root
    has_lost = b.and_(is_far, b.fcmp_unordered("!=", side, e.zero))
    return part, b.fadd(tail, b.select(has_lost, lost, e.zero)), is_far
