"""Probability densities ``_random_pdf_X`` of samples under given parameters, a row each.

Cast of characters in rows: x sample; a, b parameters; each row gives the logarithm of the density
and its partial derivatives. Parameters' shapes are the leading axes of the sample's shape.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from raysym.errors import RuleError
from raysym.graph import apply_all
from raysym.op import Cost, Entries, Grads, Op, Shapes, Types, register, total_bytes
from raysym.ops.special import digamma, gammaln
from raysym.params import param
from raysym.types import PartialShape, unify, unify_all

_IS_LOG = param(False, doc="Whether to return the logarithm of the density instead.")
_FLOPS = 40.0


class _Density(Op):
    """Density of every sample: ``sample`` and result have one shape, parameters its lead."""

    kinds = "f"
    is_log: bool = _IS_LOG

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        sample = unify(ins[0], outs[0])
        lead = _lead(sample, unify_all(ins[1:]))
        return [sample, *[lead] * (len(ins) - 1)], [sample]

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        return apply_all(f"_backward{self.name}", grads[0], *ins, is_log=self.is_log)

    def cost(self, ins: Types, outs: Types) -> Cost:
        return Cost(_FLOPS * ins[0].size, total_bytes(ins, outs))


class _DensityGradient(Op):
    """Shared by the gradients: one for the sample and one for each parameter."""

    internal = True
    is_log: bool = _IS_LOG

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        wanted = [unify(a, b) for a, b in zip(ins[1:], outs, strict=True)]
        return [ins[0], *wanted], wanted

    def cost(self, ins: Types, outs: Types) -> Cost:
        return Cost(2 * _FLOPS * ins[1].size, total_bytes(ins, outs))


def _lead(sample: PartialShape, lead: PartialShape) -> PartialShape:
    if sample is None or lead is None:
        return lead
    if len(lead) > len(sample):
        raise RuleError("parameters have more axes than the sample", got=lead, expected=sample)
    return unify(lead, sample[: len(lead)], "shape of the parameters")


def density(
    name: str, parameters: tuple[str, ...], log_pdf: Any, partials: Callable[..., Any], doc: str
) -> None:
    """Register a density and its gradient.

    ``log_pdf(xp, x, *parameters)``; ``partials`` takes the same and returns the derivatives of the
    logarithm with respect to x (None: zero, the sample is discrete) and to each parameter.
    """

    def forward(self: _Density, xp: Any, sample: Any, *given: Any) -> Any:
        logs = log_pdf(xp, _wide(sample), *[_beside(a, sample) for a in given])
        return (logs if self.is_log else xp.exp(logs)).astype(sample.dtype, copy=False)

    def backward(self: _DensityGradient, xp: Any, g: Any, sample: Any, *given: Any) -> Any:
        x, columns = _wide(sample), [_beside(a, sample) for a in given]
        weight = _wide(g) if self.is_log else _wide(g) * xp.exp(log_pdf(xp, x, *columns))
        dx, *rest = partials(xp, x, *columns)
        made = xp.zeros_like(x) if dx is None else weight * dx
        grads = [_gathered(weight * d, a) for d, a in zip(rest, given, strict=True)]
        return made.astype(sample.dtype, copy=False), *grads

    _pages(name, parameters, doc, _Density, _DensityGradient, forward, backward)


def _pages(
    name: str, parameters: tuple[str, ...], doc: str, page: type[Op], gradient: type[Op],
    forward: Any, backward: Any,
) -> None:  # fmt: skip
    inputs = ("sample", *parameters)
    facts = {"__doc__": doc, "__module__": __name__, "inputs": inputs, "forward": forward}
    aliases = (f"random_pdf_{name}",)
    register(type(f"_random_pdf_{name}", (page,), {**facts, "aliases": aliases}))
    facts = {
        "__doc__": f"Gradient of _random_pdf_{name}.",
        "__module__": __name__,
        "inputs": ("out_grad", *inputs),
        "outputs": tuple(f"{slot}_grad" for slot in inputs),
        "forward": backward,
    }
    register(type(f"_backward_random_pdf_{name}", (gradient,), facts))


def _wide(array: Any) -> Any:
    return array.astype("float32") if array.dtype == "float16" else array


def _beside(parameter: Any, sample: Any) -> Any:
    return _wide(parameter).reshape(*parameter.shape, *(1,) * (sample.ndim - parameter.ndim))


def _gathered(parts: Any, like: Any) -> Any:
    axes = tuple(range(like.ndim, parts.ndim))
    return (parts.sum(axis=axes) if axes else parts).astype(like.dtype, copy=False)


# ----- the rows


def _negative_binomial(xp: Any, x: Any, k: Any, p: Any) -> Any:
    ways = gammaln(xp, x + k) - gammaln(xp, x + 1) - gammaln(xp, k)
    return ways + k * xp.log(p) + x * xp.log1p(-p)


def _negative_binomial_partials(xp: Any, x: Any, k: Any, p: Any) -> Any:
    return None, digamma(xp, x + k) - digamma(xp, k) + xp.log(p), k / p - x / (1 - p)


def _generalized(xp: Any, x: Any, mu: Any, alpha: Any) -> Any:
    return _negative_binomial(xp, x, 1 / alpha, 1 / (mu * alpha + 1))


def _generalized_partials(xp: Any, x: Any, mu: Any, alpha: Any) -> Any:
    k, p = 1 / alpha, 1 / (mu * alpha + 1)
    _, dk, dp = _negative_binomial_partials(xp, x, k, p)
    dp = -dp * p * p
    return None, dp * alpha, dp * mu - dk * k * k


density(
    "uniform",
    ("low", "high"),
    lambda xp, x, low, high: xp.zeros_like(x) - xp.log(high - low),
    lambda xp, x, low, high: (None, 1 / (high - low) + 0 * x, -1 / (high - low) + 0 * x),
    "Density 1/(high - low) of a uniform distribution, outside the interval as well.",
)
density(
    "normal",
    ("mu", "sigma"),
    lambda xp, x, mu, sigma: (
        -0.5 * xp.square((x - mu) / sigma) - xp.log(sigma) - 0.5 * math.log(2 * math.pi)
    ),
    lambda xp, x, mu, sigma: (
        (mu - x) / xp.square(sigma),
        (x - mu) / xp.square(sigma),
        (xp.square((x - mu) / sigma) - 1) / sigma,
    ),
    "Density of a normal distribution with mean mu and standard deviation sigma.",
)
density(
    "gamma",
    ("alpha", "beta"),
    lambda xp, x, a, b: a * xp.log(b) + (a - 1) * xp.log(x) - b * x - gammaln(xp, a),
    lambda xp, x, a, b: ((a - 1) / x - b, xp.log(b * x) - digamma(xp, a), a / b - x),
    "Density of a gamma distribution with shape alpha and rate (not scale) beta.",
)
density(
    "exponential",
    ("lam",),
    lambda xp, x, lam: xp.log(lam) - lam * x,
    lambda xp, x, lam: (-lam + 0 * x, 1 / lam - x),
    "Density of an exponential distribution with rate lam.",
)
density(
    "poisson",
    ("lam",),
    lambda xp, x, lam: x * xp.log(lam) - lam - gammaln(xp, x + 1),
    lambda xp, x, lam: (None, x / lam - 1),
    "Probability of a count under a Poisson distribution with mean lam.",
)
density(
    "negative_binomial",
    ("k", "p"),
    _negative_binomial,
    _negative_binomial_partials,
    "Probability of a count of successes before the k-th failure, which has probability p.",
)
density(
    "generalized_negative_binomial",
    ("mu", "alpha"),
    _generalized,
    _generalized_partials,
    "Probability of a count under a negative binomial with mean mu and dispersion alpha.",
)


# ----- Dirichlet: the sample is a vector


class _Dirichlet:
    """Shape rule of the two Dirichlet pages: the last axis holds one sample's components."""

    @staticmethod
    def shapes(sample: PartialShape, alpha: PartialShape) -> tuple[PartialShape, PartialShape]:
        """Shapes of the sample and of alpha, made to agree in lead and last axis."""
        if not sample or not alpha:
            return sample, alpha
        lead = _lead(sample[:-1], alpha[:-1]) or ()
        width = (unify(sample[-1:], alpha[-1:], "number of components") or ())[0]
        return (*sample[:-1], width), (*lead, width)


def _dirichlet_log(xp: Any, x: Any, alpha: Any) -> Any:
    powers = ((alpha - 1) * xp.log(x)).sum(axis=-1)
    return powers + gammaln(xp, alpha.sum(axis=-1)) - gammaln(xp, alpha).sum(axis=-1)


def _beside_vectors(alpha: Any, sample: Any) -> Any:
    between = (1,) * (sample.ndim - alpha.ndim)
    return _wide(alpha).reshape(*alpha.shape[:-1], *between, alpha.shape[-1])


@register
class _random_pdf_dirichlet(_Density):
    """Density of a Dirichlet distribution.

    Shapes: sample ``(*lead, ..., k)``, alpha ``(*lead, k)``, result ``(*lead, ...)``.
    """

    aliases = ("random_pdf_dirichlet",)
    inputs = ("sample", "alpha")

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        sample, alpha = _Dirichlet.shapes(ins[0], ins[1])
        return [sample, alpha], [sample[:-1] if sample else outs[0]]

    def forward(self, xp: Any, sample: Any, alpha: Any) -> Any:
        logs = _dirichlet_log(xp, _wide(sample), _beside_vectors(alpha, sample))
        return (logs if self.is_log else xp.exp(logs)).astype(sample.dtype, copy=False)


@register
class _backward_random_pdf_dirichlet(_DensityGradient):
    """Gradient of _random_pdf_dirichlet; every component is taken as free."""

    inputs = ("out_grad", "sample", "alpha")
    outputs = ("sample_grad", "alpha_grad")

    def forward(self, xp: Any, g: Any, sample: Any, alpha: Any) -> Any:
        x, a = _wide(sample), _beside_vectors(alpha, sample)
        weight = _wide(g) if self.is_log else _wide(g) * xp.exp(_dirichlet_log(xp, x, a))
        total = digamma(xp, a.sum(axis=-1, keepdims=True))
        da = weight[..., None] * (total - digamma(xp, a) + xp.log(x))
        axes = tuple(range(alpha.ndim - 1, sample.ndim - 1))
        da = da.sum(axis=axes) if axes else da
        dx = weight[..., None] * (a - 1) / x
        return dx.astype(sample.dtype, copy=False), da.astype(alpha.dtype, copy=False)
