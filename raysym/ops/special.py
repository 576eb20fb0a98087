"""Special functions that NumPy lacks, written in array maths: error functions and gamma functions.

Their kernels take floating arrays. Accuracy in float64: 1e-14 relative (gammaln and digamma:
absolute near their zeros; gamma: 1e-13 above 100). All but erf always compute
in float64.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from raysym.graph import Entry, apply
from raysym.op import register
from raysym.ops.elementwise import Unary, unary
from raysym.ops.maths import exp, mul, neg, square, times


def polynomial(coefficients: Sequence[float], x: Any) -> Any:
    """Horner's rule, highest power first."""
    total = x * 0 + coefficients[0]
    for coefficient in coefficients[1:]:
        total = total * x + coefficient
    return total


# ----- error functions: W. J. Cody, Rational Chebyshev approximations for the error function,
# Math. Comp. 23 (1969); M. J. Wichura, Algorithm AS 241, Applied Statistics 37 (1988)

_ERF_NEAR = (
    (1.85777706184603153e-1, 3.16112374387056560, 113.864154151050156, 377.485237685302021,
     3209.37758913846947),
    (1.0, 23.6012909523441209, 244.024637934444173, 1282.61652607737228, 2844.23683343917062),
)  # fmt: skip
_ERF_FAR = (
    (2.15311535474403846e-8, 0.564188496988670089, 8.88314979438837594, 66.1191906371416295,
     298.635138197400131, 881.952221241769090, 1712.04761263407058, 2051.07837782607147,
     1230.33935479799725),
    (1.0, 15.7449261107098347, 117.693950891312499, 537.181101862009858, 1621.38957456669019,
     3290.79923573345963, 4362.61909014324716, 3439.36767414372164, 1230.33935480374942),
)  # fmt: skip


def _rational(pair: tuple[Sequence[float], Sequence[float]], x: Any) -> Any:
    return polynomial(pair[0], x) / polynomial(pair[1], x)


def erf(xp: Any, x: Any) -> Any:
    """The error function, odd, from -1 to 1."""
    near = xp.clip(x, -0.5, 0.5)
    far = xp.clip(xp.abs(x), 0.4, 6.0)  # beyond 6 it is 1 to the last bit
    tail = 1 - _rational(_ERF_FAR, far) * xp.exp(-far * far)
    inner = near * _rational(_ERF_NEAR, near * near)
    return xp.where(xp.abs(x) <= 0.46875, inner, xp.copysign(tail, x))


_QUANTILE_CENTRE = (
    (2509.0809287301226727, 33430.575583588128105, 67265.770927008700853, 45921.953931549871457,
     13731.693765509461125, 1971.5909503065514427, 133.14166789178437745, 3.3871328727963666080),
    (5226.4952788528545610, 28729.085735721942674, 39307.895800092710610, 21213.794301586595867,
     5394.1960214247511077, 687.18700749205790830, 42.313330701600911252, 1.0),
)  # fmt: skip
_QUANTILE_SIDE = (
    (7.74545014278341407640e-4, 2.27238449892691845833e-2, 0.241780725177450611770,
     1.27045825245236838258, 3.64784832476320460504, 5.76949722146069140550,
     4.63033784615654529590, 1.42343711074968357734),
    (1.05075007164441684324e-9, 5.47593808499534494600e-4, 1.51986665636164571966e-2,
     0.148103976427480074590, 0.689767334985100004550, 1.67638483018380384940,
     2.05319162663775882187, 1.0),
)  # fmt: skip
_QUANTILE_TAIL = (
    (2.01033439929228813265e-7, 2.71155556874348757815e-5, 1.24266094738807843860e-3,
     2.65321895265761230930e-2, 0.296560571828504891230, 1.78482653991729133580,
     5.46378491116411436990, 6.65790464350110377720),
    (2.04426310338993978564e-15, 1.42151175831644588870e-7, 1.84631831751005468180e-5,
     7.86869131145613259100e-4, 1.48753612908506148525e-2, 0.136929880922735805310,
     0.599832206555887937690, 1.0),
)  # fmt: skip


def erfinv(xp: Any, x: Any) -> Any:
    """The inverse of erf on (-1, 1); infinite at the ends, NaN outside."""
    x = x.astype(np.float64, copy=False)
    half = x * 0.5
    centre = half * _rational(_QUANTILE_CENTRE, 0.180625 - half * half)
    depth = xp.sqrt(-xp.log(0.5 - xp.abs(half)))
    deep = xp.where(xp.isinf(depth), xp.asarray(6.0, x.dtype), depth)
    side = _rational(_QUANTILE_SIDE, deep - 1.6)
    tail = xp.where(deep <= 5, side, _rational(_QUANTILE_TAIL, deep - 5))
    outer = xp.copysign(xp.where(xp.isinf(depth), depth, tail), x)
    return xp.where(xp.abs(half) <= 0.425, centre, outer) * math.sqrt(0.5)


# ----- gamma functions: Lanczos' series with P. Godfrey's coefficients (2001) for the gamma
# function, the asymptotic series (Abramowitz and Stegun 6.3.18, 6.4.12) for its derivatives

_LANCZOS_SHIFT = 607 / 128 + 0.5
_LANCZOS = (
    0.99999999999999709182, 57.156235665862923517, -59.597960355475491248, 14.136097974741747174,
    -0.49191381609762019978, 0.33994649984811888699e-4, 0.46523628927048575665e-4,
    -0.98374475304879564677e-4, 0.15808870322491248884e-3, -0.21026444172410488319e-3,
    0.21743961811521264320e-3, -0.16431810653676389022e-3, 0.84418223983852743293e-4,
    -0.26190838401581408670e-4, 0.36899182659531622704e-5,
)  # fmt: skip


def _lanczos_sum(x: Any) -> Any:
    """The factor of gamma(x) that is neither a power nor an exponential, for x >= 0.5."""
    total = x * 0 + _LANCZOS[0]
    for i, coefficient in enumerate(_LANCZOS[1:], start=1):
        total = total + coefficient / (x + i)
    return total * (math.sqrt(2 * math.pi) / x)


def _sin_pi(xp: Any, x: Any) -> Any:
    """|sin(pi x)|, exactly 0 at integers."""
    return xp.sin(math.pi * xp.abs(x - xp.rint(x)))


def gamma(xp: Any, x: Any) -> Any:
    """The gamma function; infinite at 0, NaN at negative integers."""
    x = x.astype(np.float64, copy=False)
    z = xp.where(x < 0.5, 1 - x, x)
    base = z + _LANCZOS_SHIFT
    root = base ** ((z + 0.5) * 0.5)  # half the power: the whole overflows before gamma does
    upper = root * xp.exp(-base) * _lanczos_sum(z) * root
    odd = xp.remainder(xp.floor(x), 2)
    lower = math.pi / (_sin_pi(xp, x) * (1 - 2 * odd) * upper)
    lower = xp.where((x < 0) & (x == xp.floor(x)), math.nan, lower)
    upper = xp.where((x == xp.floor(x)) & (x < 18), xp.rint(upper), upper)  # factorials
    return xp.where(x < 0.5, lower, xp.where(x > 171.7, math.inf, upper))


def gammaln(xp: Any, x: Any) -> Any:
    """log |gamma(x)|, infinite at 0 and at negative integers."""
    x = x.astype(np.float64, copy=False)
    z = xp.where(x < 0.5, 1 - x, x)
    base = z + _LANCZOS_SHIFT
    upper = (z + 0.5) * xp.log(base) - base + xp.log(_lanczos_sum(z))
    upper = xp.where(xp.isinf(z), math.inf, upper)
    lower = xp.log(math.pi / _sin_pi(xp, x)) - upper
    lower = xp.where((x <= 0) & (x == xp.floor(x)), math.inf, lower)
    return xp.where(x < 0.5, lower, upper)


_DIGAMMA = (-1 / 12, 691 / 32760, -1 / 132, 1 / 240, -1 / 252, 1 / 120, -1 / 12)
_TRIGAMMA = (7 / 6, -691 / 2730, 5 / 66, -1 / 30, 1 / 42, -1 / 30, 1 / 6)
_SHIFTS = 10  # steps of x -> x + 1 until the asymptotic series is exact


def digamma(xp: Any, x: Any) -> Any:
    """The derivative of log gamma."""
    x = x.astype(np.float64, copy=False)
    z = xp.where(x < 0.5, 1 - x, x)
    below = 0.0
    for _ in range(_SHIFTS):
        small = z < _SHIFTS
        below = below + xp.where(small, 1 / z, 0.0)
        z = xp.where(small, z + 1, z)
    inverse = 1 / (z * z)
    upper = xp.log(z) - 0.5 / z + inverse * polynomial(_DIGAMMA, inverse) - below
    return xp.where(x < 0.5, upper - math.pi / xp.tan(math.pi * (x - xp.rint(x))), upper)


def trigamma(xp: Any, x: Any) -> Any:
    """The second derivative of log gamma."""
    x = x.astype(np.float64, copy=False)
    z = xp.where(x < 0.5, 1 - x, x)
    below = 0.0
    for _ in range(_SHIFTS):
        small = z < _SHIFTS
        below = below + xp.where(small, 1 / (z * z), 0.0)
        z = xp.where(small, z + 1, z)
    inverse = 1 / (z * z)
    upper = 1 / z + 0.5 * inverse + inverse / z * polynomial(_TRIGAMMA, inverse) + below
    return xp.where(x < 0.5, (math.pi / _sin_pi(xp, x)) ** 2 - upper, upper)


def _digamma(x: Entry) -> Entry:
    return apply("_digamma", x)


unary(
    "erf",
    erf,
    lambda x, y, g: mul(g, times(exp(neg(square(x))), 2 / math.sqrt(math.pi))),
    flops=40,
    doc="Error function of every element: the integral of 2/sqrt(pi) e^(-t^2) from 0 to x.",
)
unary(
    "erfinv",
    erfinv,
    lambda x, y, g: mul(g, times(exp(square(y)), math.sqrt(math.pi) / 2)),
    flops=60,
    doc="Inverse error function of every element; NaN outside [-1, 1].",
)
unary(
    "gamma",
    gamma,
    lambda x, y, g: mul(g, mul(y, _digamma(x))),
    flops=80,
    doc="Gamma function of every element: the integral of t^(x-1) e^(-t).",
)
unary(
    "gammaln",
    gammaln,
    lambda x, y, g: mul(g, _digamma(x)),
    flops=80,
    doc="Logarithm of the absolute value of the gamma function of every element.",
)
unary(
    "_digamma",
    digamma,
    lambda x, y, g: mul(g, apply("_trigamma", x)),
    internal=True,
    flops=60,
    doc="Logarithmic derivative of the gamma function of every element.",
)


@register
class _trigamma(Unary):
    """Derivative of the digamma function of every element. Not differentiable any further."""

    internal = True
    flops_each = 60

    def forward(self, xp: Any, data: Any) -> Any:
        return trigamma(xp, data).astype(data.dtype, copy=False)
