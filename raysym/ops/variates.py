"""Random numbers whose parameters are arrays: uniform and normal draws, turned into others.

The generator draws on the host (counter-based, so every device gets the same numbers); the
rest is arithmetic on the device. Rejection methods run a fixed number of rounds instead of
looping until all elements are accepted, which would wait for the device.
"""

from __future__ import annotations

from typing import Any

from raysym.ops.special import gammaln

# Marsaglia-Tsang accepts at least 95 % per round: 10 rounds miss once in 1e13.
_GAMMA_ROUNDS = 10
# PTRS accepts at least 80 % per round for means from 10 on: 16 rounds miss once in 1e11.
_POISSON_ROUNDS = 16
# P(X > 48) < 1e-17 for a mean of 10, below which the distribution is inverted term by term.
_POISSON_TERMS = 48


def gamma_variates(xp: Any, rng: Any, alpha: Any) -> Any:
    """Draws from Gamma(alpha, 1), one for each element of the float64 array `alpha` > 0.

    Marsaglia & Tsang, "A simple method for generating gamma variables" (2000); a shape below 1
    is raised by one and paid back with a power of a uniform number.
    """
    d = xp.where(alpha < 1, alpha + 1, alpha) - 1 / 3
    c = 1 / xp.sqrt(9 * d)
    result = d
    accepted = xp.zeros(alpha.shape, "bool")
    for _ in range(_GAMMA_ROUNDS):
        x = xp.asarray(rng.standard_normal(alpha.shape))
        u = xp.asarray(1 - rng.random(alpha.shape))
        v = xp.maximum(1 + c * x, 1e-300) ** 3
        fits = xp.log(u) < 0.5 * x * x + d - d * v + d * xp.log(v)
        result = xp.where(fits & ~accepted, d * v, result)
        accepted = accepted | fits
    boost = xp.asarray(1 - rng.random(alpha.shape)) ** (1 / xp.minimum(alpha, 1))
    return xp.where(alpha < 1, result * boost, result)


def poisson_variates(xp: Any, rng: Any, mean: Any) -> Any:
    """Draws from Poisson(mean), one for each element of the float64 array `mean` >= 0."""
    small = _poisson_by_inversion(xp, rng, xp.minimum(mean, 10.0))
    large = _poisson_by_rejection(xp, rng, xp.maximum(mean, 10.0))
    return xp.where(mean < 10, small, large)


def _poisson_by_inversion(xp: Any, rng: Any, mean: Any) -> Any:
    u = xp.asarray(rng.random(mean.shape))
    term = xp.exp(-mean)
    total, count = term, xp.zeros_like(mean)
    for k in range(1, _POISSON_TERMS):
        count = count + (u >= total)
        term = term * mean / k
        total = total + term
    return count


def _poisson_by_rejection(xp: Any, rng: Any, mean: Any) -> Any:
    # Hoermann, "The transformed rejection method for generating Poisson random variables" (1993).
    b = 0.931 + 2.53 * xp.sqrt(mean)
    a = -0.059 + 0.02483 * b
    inverse_alpha = 1.1239 + 1.1328 / (b - 3.4)
    result = xp.floor(mean)
    accepted = xp.zeros(mean.shape, "bool")
    for _ in range(_POISSON_ROUNDS):
        u = xp.asarray(rng.random(mean.shape)) - 0.5
        v = xp.asarray(1 - rng.random(mean.shape))
        us = xp.maximum(0.5 - xp.abs(u), 1e-12)
        k = xp.floor((2 * a / us + b) * u + mean + 0.43)
        likely = k * xp.log(mean) - mean - gammaln(xp, xp.maximum(k, 0.0) + 1)
        fits = (k >= 0) & (xp.log(v * inverse_alpha / (a / (us * us) + b)) <= likely)
        result = xp.where(fits & ~accepted, k, result)
        accepted = accepted | fits
    return result
