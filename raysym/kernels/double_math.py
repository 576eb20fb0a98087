"""exp, log, their relatives and the inverse circular functions for vectors of float64.

Their own error is a few units in the last place of float64, so a float32 value that is computed
here and rounded is the nearest one but for rare ties. NaN stays NaN.
Sources: Cody and Waite 1980 (ln 2 in two parts); K. C. Ng, fdlibm (1993): the logarithm's series,
the guess of a cube root.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from raysym.kernels.emit import F64, I64, Emit, Value
from raysym.kernels.typed import constant, intrinsic, like, root, vector_of

_LN2_HIGH, _LN2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10
_ROUND = 1.5 * 2.0**52  # adding it leaves the nearest integer in the low bits
_ROUND_BITS = 0x4338 << 48
_EXP = [1 / math.factorial(k) for k in range(13, 1, -1)]
_LOG = (1.479819860511658591e-01, 1.531383769920937332e-01, 1.818357216161805012e-01,
        2.222219843214978396e-01, 2.857142874366239149e-01, 3.999999999940941908e-01,
        6.666666666666735130e-01)  # fmt: skip
_ATAN = [(-1) ** k / (2 * k + 1) for k in range(11, 0, -1)]
_SQRT_HALF_BITS = 0x3FE6A09E << 32
_THIRD_BITS = 715094163  # two thirds of the exponent of 1, less what makes guesses even
_WHOLE = vector_of(I64)


def polynomial(e: Emit, coefficients: Sequence[float], x: Value) -> Value:
    """Horner's rule, highest power first."""
    total = like(e, x, coefficients[0])
    for coefficient in coefficients[1:]:
        total = intrinsic(e, "fma", total, x, like(e, x, coefficient))
    return total


def bounded(e: Emit, x: Value, low: float, high: float) -> Value:
    """x between two numbers; NaN stays."""
    b = e.b
    x = b.select(b.fcmp_ordered("<", x, like(e, x, low)), like(e, x, low), x)
    return b.select(b.fcmp_ordered(">", x, like(e, x, high)), like(e, x, high), x)


def _whole(e: Emit, n: int) -> Value:
    return constant(e, _WHOLE, n)


def _reduced(e: Emit, x: Value) -> tuple[Value, Value]:
    """``n, r`` with ``x = n ln 2 + r``, n an integer, |r| at most 0.35."""
    shifted = intrinsic(e, "fma", x, like(e, x, math.log2(math.e)), like(e, x, _ROUND))
    n = e.b.fsub(shifted, like(e, x, _ROUND))
    r = intrinsic(e, "fma", n, like(e, x, -_LN2_HIGH), x)
    r = intrinsic(e, "fma", n, like(e, x, -_LN2_LOW), r)
    return e.b.sub(e.b.bitcast(shifted, _WHOLE), _whole(e, _ROUND_BITS)), r


def _power_of_two(e: Emit, n: Value) -> Value:
    return e.b.bitcast(e.b.shl(e.b.add(n, _whole(e, 1023)), _whole(e, 52)), vector_of(F64))


def _exp_less_one(e: Emit, r: Value) -> Value:
    return intrinsic(e, "fma", polynomial(e, _EXP, r), e.b.fmul(r, r), r)


def exp(e: Emit, x: Value) -> Value:
    """e^x; infinity above 709.8, 0 below -745.2."""
    n, r = _reduced(e, bounded(e, x, -746.0, 710.0))
    value = e.b.fadd(_exp_less_one(e, r), like(e, x, 1.0))
    return times_power(e, value, n)


def times_power(e: Emit, x: Value, n: Value) -> Value:
    """``x 2^n`` for an integer n; 2^n itself may be out of range where the product is not."""
    half = e.b.ashr(n, _whole(e, 1))
    x = e.b.fmul(x, _power_of_two(e, half))
    return e.b.fmul(x, _power_of_two(e, e.b.sub(n, half)))


def expm1(e: Emit, x: Value) -> Value:
    """``e^x - 1``, exact also near 0."""
    b = e.b
    n, r = _reduced(e, bounded(e, x, -60.0, 709.0))
    scale = _power_of_two(e, n)
    value = intrinsic(e, "fma", scale, _exp_less_one(e, r), b.fsub(scale, like(e, x, 1.0)))
    value = b.select(b.fcmp_ordered("==", x, like(e, x, 0.0)), x, value)  # keeps -0
    return b.select(b.fcmp_ordered(">", x, like(e, x, 709.0)), exp(e, x), value)


def parted(e: Emit, x: Value) -> tuple[Value, Value]:
    """``m, k`` with ``x = m 2^k`` and m around 1, k a whole number (as float); x is above 0."""
    b = e.b
    tiny = b.fcmp_ordered("<", x, like(e, x, 2.0**-1022))
    scaled = b.select(tiny, b.fmul(x, like(e, x, 2.0**54)), x)
    bits = b.sub(b.bitcast(scaled, _WHOLE), _whole(e, _SQRT_HALF_BITS))
    k = b.sitofp(b.ashr(bits, _whole(e, 52)), x.type)
    k = b.fsub(k, b.select(tiny, like(e, x, 54.0), like(e, x, 0.0)))
    mantissa = b.add(b.and_(bits, _whole(e, (1 << 52) - 1)), _whole(e, _SQRT_HALF_BITS))
    return b.bitcast(mantissa, x.type), k


def log(e: Emit, x: Value) -> Value:
    """The natural logarithm; -inf at 0, NaN below."""
    b = e.b
    mantissa, k = parted(e, x)
    made = _near_one(e, b.fsub(mantissa, like(e, x, 1.0)), k)
    made = b.select(b.fcmp_ordered("==", x, like(e, x, math.inf)), x, made)
    made = b.select(b.fcmp_ordered("==", x, like(e, x, 0.0)), like(e, x, -math.inf), made)
    return b.select(b.fcmp_unordered("<", x, like(e, x, 0.0)), like(e, x, math.nan), made)


def _near_one(e: Emit, f: Value, k: Value) -> Value:
    """``log(1 + f) + k ln 2``."""
    b = e.b
    s = b.fdiv(f, b.fadd(f, like(e, f, 2.0)))
    z = b.fmul(s, s)
    series = b.fmul(polynomial(e, _LOG, z), z)
    half = b.fmul(b.fmul(f, f), like(e, f, 0.5))
    low = b.fmul(k, like(e, f, _LN2_LOW))
    tail = intrinsic(e, "fma", s, b.fadd(half, series), low)
    return intrinsic(e, "fma", k, like(e, f, _LN2_HIGH), b.fsub(f, b.fsub(half, tail)))


def log1p(e: Emit, x: Value) -> Value:
    """``log(1 + x)``, exact also near 0."""
    b = e.b
    u = b.fadd(x, like(e, x, 1.0))
    lost = b.fsub(x, b.fsub(u, like(e, x, 1.0)))
    made = b.fadd(log(e, u), b.fdiv(lost, u))
    made = b.select(b.fcmp_ordered("==", u, like(e, x, math.inf)), u, made)
    made = b.select(b.fcmp_ordered("==", u, like(e, x, 0.0)), like(e, x, -math.inf), made)
    return b.select(b.fcmp_ordered("==", u, like(e, x, 1.0)), x, made)


def signed(e: Emit, size: Value, x: Value) -> Value:
    """A size with the sign of x."""
    return intrinsic(e, "copysign", size, x)


def absolute(e: Emit, x: Value) -> Value:
    """|x|."""
    return intrinsic(e, "fabs", x)


def tanh(e: Emit, x: Value) -> Value:
    """``t / (t + 2)`` with ``t = e^(2|x|) - 1``."""
    size = bounded(e, absolute(e, x), 0.0, 30.0)
    t = expm1(e, e.b.fadd(size, size))
    return signed(e, e.b.fdiv(t, e.b.fadd(t, like(e, x, 2.0))), x)


def sinh(e: Emit, x: Value) -> Value:
    """``(t + t / (t + 1)) / 2`` with ``t = e^|x| - 1``; two factors where e^x is out of range."""
    b, size = e.b, absolute(e, x)
    t = expm1(e, size)
    near = b.fmul(b.fadd(t, b.fdiv(t, b.fadd(t, like(e, x, 1.0)))), like(e, x, 0.5))
    far = _half_power(e, size)
    return signed(e, b.select(b.fcmp_ordered(">", size, like(e, x, 40.0)), far, near), x)


def cosh(e: Emit, x: Value) -> Value:
    """``(e^|x| + e^-|x|) / 2``."""
    b, size = e.b, absolute(e, x)
    t = exp(e, size)
    near = b.fmul(b.fadd(t, b.fdiv(like(e, x, 1.0), t)), like(e, x, 0.5))
    return b.select(b.fcmp_ordered(">", size, like(e, x, 40.0)), _half_power(e, size), near)


def _half_power(e: Emit, size: Value) -> Value:
    t = exp(e, e.b.fmul(size, like(e, size, 0.5)))
    return e.b.fmul(e.b.fmul(t, like(e, size, 0.5)), t)


def arcsinh(e: Emit, x: Value) -> Value:
    """``log(|x| + sqrt(x^2 + 1))`` by way of log1p; where x^2 overflows, ``log(2 |x|)``."""
    b, size, one = e.b, absolute(e, x), like(e, x, 1.0)
    square = b.fmul(size, size)
    more = b.fdiv(square, b.fadd(one, root(e, b.fadd(square, one))))
    near = log1p(e, b.fadd(size, more))
    far = b.fadd(log(e, size), like(e, x, math.log(2)))
    return signed(e, b.select(b.fcmp_ordered(">", size, like(e, x, 1e100)), far, near), x)


def arccosh(e: Emit, x: Value) -> Value:
    """``log(x + sqrt(x^2 - 1))`` by way of log1p; NaN below 1."""
    b = e.b
    t = b.fsub(x, like(e, x, 1.0))
    near = log1p(e, b.fadd(t, root(e, b.fadd(b.fadd(t, t), b.fmul(t, t)))))
    far = b.fadd(log(e, x), like(e, x, math.log(2)))
    made = b.select(b.fcmp_ordered(">", x, like(e, x, 1e100)), far, near)
    return b.select(b.fcmp_ordered("<", x, like(e, x, 1.0)), like(e, x, math.nan), made)


def arctanh(e: Emit, x: Value) -> Value:
    """``log1p(2 |x| / (1 - |x|)) / 2``; infinite at 1, NaN beyond."""
    b, size = e.b, absolute(e, x)
    inner = b.fdiv(b.fadd(size, size), b.fsub(like(e, x, 1.0), size))
    return signed(e, b.fmul(log1p(e, inner), like(e, x, 0.5)), x)


def arctan(e: Emit, x: Value) -> Value:
    """Two halvings ``atan x = 2 atan(x / (1 + sqrt(1 + x^2)))``, then the series."""
    b, one = e.b, like(e, x, 1.0)
    size = absolute(e, x)
    big = b.fcmp_ordered(">", size, one)
    t = b.select(big, b.fdiv(one, size), size)
    for _ in range(2):
        t = b.fdiv(t, b.fadd(one, root(e, b.fadd(one, b.fmul(t, t)))))
    square = b.fmul(t, t)
    series = b.fmul(b.fmul(polynomial(e, _ATAN, square), square), t)
    angle = b.fmul(b.fadd(t, series), like(e, x, 4.0))
    return signed(e, b.select(big, b.fsub(like(e, x, math.pi / 2), angle), angle), x)


def arcsin(e: Emit, x: Value) -> Value:
    """``2 atan(x / (1 + sqrt(1 - x^2)))``; NaN beyond 1."""
    b, one = e.b, like(e, x, 1.0)
    rest = root(e, b.fmul(b.fsub(one, x), b.fadd(one, x)))
    angle = arctan(e, b.fdiv(x, b.fadd(one, rest)))
    return b.fadd(angle, angle)


def arccos(e: Emit, x: Value) -> Value:
    """``2 atan(sqrt((1 - x) / (1 + x)))``; NaN beyond 1."""
    b, one = e.b, like(e, x, 1.0)
    angle = arctan(e, root(e, b.fdiv(b.fsub(one, x), b.fadd(one, x))))
    return b.fadd(angle, angle)


def cbrt(e: Emit, x: Value) -> Value:
    """A third of the exponent for a guess within 4 %, and three of Halley's steps."""
    b, size = e.b, absolute(e, x)
    tiny = b.fcmp_ordered("<", size, like(e, x, 2.0**-1022))
    scaled = b.select(tiny, b.fmul(size, like(e, x, 2.0**54)), size)
    high = b.sitofp(b.lshr(b.bitcast(scaled, _WHOLE), _whole(e, 32)), x.type)
    third = b.fptosi(b.fmul(high, like(e, x, 1 / 3)), _WHOLE)
    guess = b.bitcast(b.shl(b.add(third, _whole(e, _THIRD_BITS)), _whole(e, 32)), x.type)
    for _ in range(3):
        cube = b.fmul(b.fmul(guess, guess), guess)
        ratio = b.fdiv(b.fsub(scaled, cube), b.fadd(b.fadd(cube, cube), scaled))
        guess = intrinsic(e, "fma", guess, ratio, guess)
    made = b.select(tiny, b.fmul(guess, like(e, x, 2.0**-18)), guess)
    plain = b.or_(b.fcmp_ordered("==", size, like(e, x, 0.0)),
                  b.fcmp_unordered("==", size, like(e, x, math.inf)))  # fmt: skip
    return signed(e, b.select(plain, size, made), x)
