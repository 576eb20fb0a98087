"""Sine, cosine and tangent of vectors of float64, of any size: within 0.8, 0.8 and 2.3 last places.

A quarter turn is subtracted so often that less than half of one is left, as two numbers: below
2^28 by three numbers of 53 bits that are a quarter turn together (Cody and Waite 1980), beyond by
the bits of 2 / pi that matter, one lane at a time (Payne and Hanek 1983). Polynomials: K. C. Ng,
fdlibm (1993).
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

from raysym.kernels.double_math import absolute, polynomial
from raysym.kernels.emit import F64, I32, I64, LANES, Emit, Index, Value
from raysym.kernels.llvm import ir
from raysym.kernels.typed import constants_of, intrinsic, like, vector_of

_QUARTERS = (1.5707963267948966, 6.123233995736766e-17, -1.4973849048591833e-33)
_ROUND = 1.5 * 2.0**52  # adding it leaves the nearest integer in the low bits
_LARGE = 2.0**28
_SIN = (1.58969099521155010221e-10, -2.50507602534068634195e-08, 2.75573137070700676789e-06,
        -1.98412698298579493134e-04, 8.33333333332248946124e-03)  # fmt: skip
_SIN_FIRST = -1.66666666666666324348e-01
_COS = (
    -1.13596475577881948265e-11, 2.08757232129817482790e-09, -2.75573143513906633035e-07,
    2.48015872894767294178e-05, -1.38888888888741095749e-03, 4.16666666666666019037e-02,
)  # fmt: skip
_WHOLE, _BIT, _WIDE = vector_of(I64), vector_of(ir.IntType(1)), ir.IntType(128)
_BITS = 1216  # of 2 / pi: the largest number has its first digit at 2^1023
_WORDS = 3  # of 64 bits: what is left of a turn has a relative error of 2^-60, whatever it is


class _Rest(NamedTuple):
    """Quarter turns, modulo 4, what is left of the angle, and what that lacks."""

    count: Value
    angle: Value
    low: Value


def sin(e: Emit, x: Value) -> Value:
    """The sine; NaN of what is not finite."""
    rest = _reduced(e, x)
    made = _by_quarter(e, rest.count, *_sin_cos(e, rest))
    return e.b.select(e.b.fcmp_ordered("==", x, like(e, x, 0.0)), x, made)  # keeps -0


def cos(e: Emit, x: Value) -> Value:
    """The cosine; NaN of what is not finite."""
    rest = _reduced(e, x)
    return _by_quarter(e, e.b.add(rest.count, like(e, rest.count, 1)), *_sin_cos(e, rest))


def tan(e: Emit, x: Value) -> Value:
    """The tangent; NaN of what is not finite."""
    b, rest = e.b, _reduced(e, x)
    s, c = _sin_cos(e, rest)
    is_odd = b.trunc(rest.count, _BIT)
    made = b.fdiv(b.select(is_odd, b.fneg(c), s), b.select(is_odd, s, c))
    return b.select(b.fcmp_ordered("==", x, like(e, x, 0.0)), x, made)


def _sin_cos(e: Emit, rest: _Rest) -> tuple[Value, Value]:
    """Both of an angle below an eighth of a turn."""
    b, r, low = e.b, rest.angle, rest.low
    z = b.fmul(r, r)
    cube, half = b.fmul(z, r), like(e, r, 0.5)
    tail = polynomial(e, _SIN, z)
    more = b.fsub(b.fmul(z, b.fsub(b.fmul(half, low), b.fmul(cube, tail))), low)
    s = b.fsub(r, b.fsub(more, b.fmul(cube, like(e, r, _SIN_FIRST))))
    most = b.fsub(like(e, r, 1.0), b.fmul(half, z))
    lost = b.fsub(b.fsub(like(e, r, 1.0), most), b.fmul(half, z))
    tail = b.fmul(b.fmul(z, z), polynomial(e, _COS, z))
    c = b.fadd(most, b.fadd(lost, b.fsub(tail, b.fmul(r, low))))
    return s, c


def _by_quarter(e: Emit, count: Value, s: Value, c: Value) -> Value:
    """The sine of so many quarter turns and an angle, of which there are sine and cosine."""
    b = e.b
    made = b.bitcast(b.select(b.trunc(count, _BIT), c, s), _WHOLE)
    sign = b.shl(b.and_(count, like(e, count, 2)), like(e, count, 62))
    return b.bitcast(b.xor(made, sign), s.type)


# ----- reduction


def _reduced(e: Emit, x: Value) -> _Rest:
    b, small = e.b, _less_quarters(e, x)
    is_large = b.fcmp_unordered(">=", absolute(e, x), like(e, x, _LARGE))
    some = b.icmp_unsigned("!=", b.bitcast(is_large, ir.IntType(LANES)), ir.IntType(LANES)(0))
    before, merged = b.block, []
    with b.if_then(some, likely=False):
        large = _each_reduced(e, x)
        both = [b.select(is_large, p, q) for p, q in zip(large, small, strict=True)]
        inside = b.block
    for there, here in zip(both, small, strict=True):
        phi = b.phi(here.type)
        phi.add_incoming(there, inside)
        phi.add_incoming(here, before)
        merged.append(phi)
    return _Rest(*merged)


def _less_quarters(e: Emit, x: Value) -> _Rest:
    """The first difference is exact: it has no digit below 2^-52 and is less than 2."""
    b = e.b
    shifted = intrinsic(e, "fma", x, like(e, x, 2 / math.pi), like(e, x, _ROUND))
    turns = b.fsub(shifted, like(e, x, _ROUND))
    first, second, third = (like(e, x, quarter) for quarter in _QUARTERS)
    rest = intrinsic(e, "fma", b.fneg(turns), first, x)
    less = b.fmul(turns, second)
    less_low = intrinsic(e, "fma", turns, second, b.fneg(less))
    angle, low = _sum(e, rest, b.fneg(less))
    low = b.fsub(low, intrinsic(e, "fma", turns, third, less_low))
    return _Rest(b.bitcast(shifted, _WHOLE), angle, low)


def _sum(e: Emit, x: Value, y: Value) -> tuple[Value, Value]:
    """``x + y`` and what it lacks."""
    b, made = e.b, e.b.fadd(x, y)
    part = b.fsub(made, x)
    return made, b.fadd(b.fsub(x, b.fsub(made, part)), b.fsub(y, part))


def _each_reduced(e: Emit, x: Value) -> _Rest:
    """Lane after lane, as few numbers are that large."""
    b, bits = e.b, e.b.bitcast(x, _WHOLE)
    table = constants_of(e, _two_over_pi())

    def lane(i: Index, *made: Value) -> list[Value]:
        at = b.trunc(i, I32)
        found = _one_reduced(e, b.extract_element(bits, at), table)
        return [b.insert_element(v, part, at) for v, part in zip(made, found, strict=True)]

    nothing = [ir.Constant(_WHOLE, None), *[ir.Constant(x.type, None)] * 2]
    count, angle, low = e.loop(0, LANES, lane, nothing)
    is_negative = b.fcmp_ordered("<", x, like(e, x, 0.0))
    count = b.select(is_negative, b.neg(count), count)
    angle, low = (b.select(is_negative, b.fneg(part), part) for part in (angle, low))
    is_finite = b.fcmp_ordered("<", absolute(e, x), like(e, x, math.inf))
    return _Rest(count, b.select(is_finite, angle, like(e, x, math.nan)), low)


def _one_reduced(e: Emit, bits: Value, table: Value) -> tuple[Value, Value, Value]:
    """The same of ``|x| = m 2^k``, by its bits: m times the bits of 2 / pi from 2^(2 - k) on."""
    b = e.b
    k = b.and_(b.lshr(bits, e.const(52)), e.const(2047))
    k = b.sub(e.smaller(e.larger(k, 1023), 2046), e.const(1023 + 52))
    m = b.or_(b.and_(bits, e.const((1 << 52) - 1)), e.const(1 << 52))
    skipped = b.sub(e.const(_BITS - 64 * _WORDS + 2), k)  # bits below the words
    start = b.lshr(b.add(skipped, e.const(7)), e.const(3))
    m = b.shl(m, b.sub(b.shl(start, e.const(3)), skipped))
    words = [_word(e, table, b.add(start, e.const(8 * i))) for i in range(_WORDS)]
    turn = _fraction(e, m, words)
    count = b.trunc(b.lshr(b.add(turn, _WIDE(1 << 125)), _WIDE(126)), I64)
    rest = b.sub(turn, b.shl(b.zext(count, _WIDE), _WIDE(126)))
    return count, *_radians(e, rest)


def _word(e: Emit, table: Value, at: Value) -> Value:
    place = e.b.gep(table, [at], source_etype=ir.IntType(8))
    return e.b.load(place, typ=I64, align=1)


def _fraction(e: Emit, m: Value, words: list[Value]) -> Value:
    """``m (words[2], words[1], words[0]) / 2^64`` modulo 2^128."""
    b, m = e.b, e.b.zext(m, _WIDE)
    low, middle, high = (b.mul(m, b.zext(word, _WIDE)) for word in words)
    return b.add(b.add(b.lshr(low, _WIDE(64)), middle), b.shl(high, _WIDE(64)))


def _radians(e: Emit, rest: Value) -> tuple[Value, Value]:
    """A signed part of a quarter turn, in units of 2^-126, as an angle and what it lacks."""
    b, parts = e.b, []
    for first, count in ((86, 42), (43, 43), (0, 43)):
        part = b.trunc(b.ashr(rest, _WIDE(first)), I64)
        if first < 86:
            part = b.and_(part, e.const((1 << count) - 1))
        parts.append(b.fmul(b.sitofp(part, F64), F64(2.0 ** (first - 126))))
    turn, lost = _sum(e, parts[0], parts[1])
    lost = b.fadd(lost, parts[2])
    quarter, quarter_low = F64(_QUARTERS[0]), F64(_QUARTERS[1])
    angle = b.fmul(turn, quarter)
    low = e.call("llvm.fma.f64", F64, [turn, quarter, b.fneg(angle)])
    return angle, b.fadd(low, b.fadd(b.fmul(turn, quarter_low), b.fmul(lost, quarter)))


@lru_cache(maxsize=1)
def _two_over_pi() -> bytes:
    """The first bits of 2 / pi, lowest byte first, and zeros above them."""
    spare = 64
    number = (2 << (2 * (_BITS + spare))) // _pi(_BITS + spare) >> spare
    return number.to_bytes(_BITS // 8 + 8 * _WORDS, "little")


def _pi(bits: int) -> int:
    """``pi 2^bits`` by J. Machin's formula, 1706."""
    return (16 * _inverse_tangent(5, bits + 16) - 4 * _inverse_tangent(239, bits + 16)) >> 16


def _inverse_tangent(n: int, bits: int) -> int:
    """``atan(1 / n) 2^bits``."""
    term, total, k = (1 << bits) // n, 0, 0
    while term:
        total += (-1) ** k * (term // (2 * k + 1))
        term, k = term // (n * n), k + 1
    return total
