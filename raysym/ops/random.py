"""Samplers: one row per distribution gives ``_random_X``, ``_random_X_like`` and ``_sample_X``.

Numbers come from the generator that the runtime keys by (seed, node, step), so neither the
device nor the placement changes them. Draws are made in float64 and rounded to the result's dtype.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from raysym.errors import RuleError
from raysym.graph import Entry, apply
from raysym.op import Cost, DTypes, Entries, Op, Shapes, Types, register, total_bytes
from raysym.ops.variates import gamma_variates, poisson_variates
from raysym.params import Dims, DType, Param, param
from raysym.types import unify, unify_all, unify_dtypes

_FLOATS = ("float16", "float32", "float64")
_SHAPE = param(None, doc="Shape of the result; None, or dimensions of 0: inferred from its users.")
EACH = param((), doc="Shape of the draws made for every element of the parameters.")
_CTX = param("", doc="Accepted for compatibility; placement decides where it is made.")
_DTYPE = param(None, choices=_FLOATS, doc="Data type of the result; None means float32.")
FLOPS_PER_DRAW = 30.0


class Sampler(Op):
    """What all samplers share: they draw, and no gradient passes through them."""

    random = True
    zero_gradient = True
    shape: Dims | None
    dtype: DType | None
    default_dtype = "float32"

    def cost(self, ins: Types, outs: Types) -> Cost:
        return Cost(FLOPS_PER_DRAW * sum(t.size for t in outs), total_bytes(ins, outs))

    def values_of(self, names: tuple[str, ...]) -> list[Any]:
        """The distribution's own parameters, in order."""
        return [getattr(self, name) for name in names]


class _Free(Sampler):
    """A sampler without inputs."""

    inputs = ()

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        return [], [unify(self.shape or None, outs[0])]

    def infer_dtype(self, ins: DTypes, outs: DTypes) -> tuple[DTypes, DTypes]:
        return [], [self.dtype or self.default_dtype]

    def specialize(self, ins: Entries, types: Types, outs: Types) -> Entry | None:
        # Fill in a shape that was only known from the users of the result.
        if self.shape == outs[0].shape:
            return None
        return apply(self.name, **{**self.given(), "shape": outs[0].shape})


class _Like(Sampler):
    """A sampler that takes shape and dtype of its result from its input."""

    shape_only = ("data",)


class _PerElement(Sampler):
    """A sampler whose parameters are arrays: ``out.shape = parameters.shape + shape``."""

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        lead = unify_all(ins)
        if lead is None:
            return ins, outs
        return [lead] * len(ins), [(*lead, *(self.shape or ()))]

    def infer_dtype(self, ins: DTypes, outs: DTypes) -> tuple[DTypes, DTypes]:
        return [unify_dtypes(ins)] * len(ins), [self.dtype or "float32"]

    def spread(self, xp: Any, arrays: tuple[Any, ...]) -> list[Any]:
        """The parameters in float64, each repeated for every draw."""
        each = tuple(self.shape or ())
        lead = arrays[0].shape
        columns = [a.astype("float64").reshape(*lead, *(1,) * len(each)) for a in arrays]
        return [xp.broadcast_to(column, (*lead, *each)) for column in columns]


def distribution(
    name: str,
    parameters: dict[str, tuple[Any, Param]],
    draw: Callable[..., Any],
    draw_each: Callable[..., Any],
    *,
    aliases: tuple[str, ...] = (),
    each_inputs: tuple[str, ...] = (),
    check: Callable[..., None] = lambda *values: None,
    bound: str = "",
    doc: str,
) -> None:
    """Register the three samplers of a distribution.

    `parameters`: name -> (type, Param). ``draw(rng, shape, *values)`` draws on the host from
    numbers, ``draw_each(xp, rng, *arrays)`` one number per element of equally shaped arrays.
    `bound` names the parameter that results stay below.
    """
    names = tuple(parameters)

    def refuse(self: Sampler) -> None:
        check(*self.values_of(names))

    def drawn(self: Sampler, xp: Any, rng: Any, shape: Any, dtype: Any) -> Any:
        made = xp.asarray(draw(rng, shape, *self.values_of(names)).astype(dtype))
        return _kept_below(xp, made, getattr(self, bound)) if bound else made

    def free(self: Sampler, xp: Any, rng: Any) -> Any:
        return drawn(self, xp, rng, self.shape, self.dtype or "float32")

    def like(self: Sampler, xp: Any, rng: Any, data: Any) -> Any:
        return drawn(self, xp, rng, data.shape, data.dtype)

    rest = {"shape": (Dims | None, _SHAPE), "ctx": (str, _CTX), "dtype": (DType | None, _DTYPE)}
    _page(f"_random_{name}", _Free, {**parameters, **rest}, doc=doc, check=refuse,
          aliases=(*aliases, f"random_{name}"), forward=free)  # fmt: skip
    _page(f"_random_{name}_like", _Like, parameters, doc=f"{doc} Shape and dtype are the input's.",
          check=refuse, forward=like)  # fmt: skip
    _sampler_of_arrays(name, each_inputs or names, draw_each, doc)


def _sampler_of_arrays(
    name: str, inputs: tuple[str, ...], draw_each: Callable[..., Any], doc: str
) -> None:
    def forward(self: _PerElement, xp: Any, rng: Any, *arrays: Any) -> Any:
        made = draw_each(xp, rng, *self.spread(xp, arrays))
        return made.astype(self.dtype or "float32")

    parameters = {"shape": (Dims, EACH), "dtype": (DType | None, _DTYPE)}
    _page(f"_sample_{name}", _PerElement, parameters, doc=f"{doc} The parameters are arrays.",
          aliases=(f"sample_{name}",), inputs=inputs, forward=forward)  # fmt: skip


def _page(
    name: str, kind: type[Op], parameters: dict[str, tuple[Any, Param]], *, doc: str, **facts: Any
) -> None:
    fields = {key: declared for key, (_, declared) in parameters.items()}
    types = {key: of for key, (of, _) in parameters.items()}
    made = {"__doc__": doc, "__module__": __name__, "__annotations__": types, **fields, **facts}
    register(type(name, (kind,), made))


def _kept_below(xp: Any, drawn: Any, bound: float) -> Any:
    # Rounding to a short dtype may have reached the bound, which the distribution excludes.
    if drawn.dtype.kind != "f":
        return drawn
    return xp.minimum(drawn, np.nextafter(drawn.dtype.type(bound), drawn.dtype.type(-np.inf)))


# ----- the rows


def _ordered(low: float, high: float) -> None:
    if low > high:
        raise RuleError("low exceeds high", got=low, expected=f"at most {high}")


def _positive(**values: float) -> None:
    for name, value in values.items():
        if not value > 0:
            raise RuleError(f"{name} is not positive", got=value, expected="above 0")


def _gamma_poisson(xp: Any, rng: Any, shape: Any, scale: Any) -> Any:
    # A negative binomial is a Poisson whose mean is Gamma(shape, scale); shape 0 gives zeros.
    mean = gamma_variates(xp, rng, xp.maximum(shape, 1e-30)) * scale
    return poisson_variates(xp, rng, xp.where(shape > 0, mean, 0.0))


def _generalized(rng: Any, shape: Dims, mu: float, alpha: float) -> Any:
    if alpha == 0:
        return rng.poisson(mu, shape)
    return rng.poisson(rng.gamma(1 / alpha, alpha * mu, shape))


def _generalized_each(xp: Any, rng: Any, mu: Any, alpha: Any) -> Any:
    # alpha 0 is the limit of a Poisson with mean mu.
    spread = xp.maximum(alpha, 1e-30)
    mean = gamma_variates(xp, rng, 1 / spread) * spread * mu
    return poisson_variates(xp, rng, xp.where(alpha > 0, mean, mu))


distribution(
    "uniform",
    {
        "low": (float, param(0.0, doc="Lower bound, included.")),
        "high": (float, param(1.0, doc="Upper bound, excluded.")),
    },
    lambda rng, shape, low, high: low + (high - low) * rng.random(shape),
    lambda xp, rng, low, high: low + (high - low) * xp.asarray(rng.random(low.shape)),
    aliases=("uniform",),
    check=_ordered,
    bound="high",
    doc="Uniform random numbers from [low, high).",
)
distribution(
    "normal",
    {
        "loc": (float, param(0.0, doc="Mean.")),
        "scale": (float, param(1.0, low=0, doc="Standard deviation.")),
    },
    lambda rng, shape, loc, scale: loc + scale * rng.standard_normal(shape),
    lambda xp, rng, mu, sigma: mu + sigma * xp.asarray(rng.standard_normal(mu.shape)),
    each_inputs=("mu", "sigma"),
    aliases=("normal",),
    doc="Normal (Gaussian) random numbers.",
)
distribution(
    "gamma",
    {
        "alpha": (float, param(1.0, doc="Shape of the distribution, above 0.")),
        "beta": (float, param(1.0, doc="Scale of the distribution, above 0.")),
    },
    lambda rng, shape, alpha, beta: rng.gamma(alpha, beta, shape),
    lambda xp, rng, alpha, beta: gamma_variates(xp, rng, alpha) * beta,
    check=lambda alpha, beta: _positive(alpha=alpha, beta=beta),
    doc="Gamma random numbers with shape alpha and scale beta.",
)
distribution(
    "exponential",
    {"lam": (float, param(1.0, doc="Rate of the distribution, above 0."))},
    lambda rng, shape, lam: rng.standard_exponential(shape) / lam,
    lambda xp, rng, lam: xp.asarray(rng.standard_exponential(lam.shape)) / lam,
    check=lambda lam: _positive(lam=lam),
    doc="Exponential random numbers with mean 1/lam.",
)
distribution(
    "poisson",
    {"lam": (float, param(1.0, low=0, doc="Mean of the distribution."))},
    lambda rng, shape, lam: rng.poisson(lam, shape),
    poisson_variates,
    doc="Poisson random numbers, as floating point numbers.",
)
distribution(
    "negative_binomial",
    {
        "k": (int, param(1, low=0, doc="Number of failures at which an experiment stops.")),
        "p": (float, param(1.0, low=0, high=1, doc="Probability of failure in each trial.")),
    },
    lambda rng, shape, k, p: rng.negative_binomial(k, p, shape) if k else np.zeros(shape),
    lambda xp, rng, k, p: _gamma_poisson(xp, rng, k, (1 - p) / p),
    check=lambda k, p: _positive(p=p),
    doc="Successes before the k-th failure, as floating point numbers; mean k (1-p)/p.",
)
distribution(
    "generalized_negative_binomial",
    {
        "mu": (float, param(1.0, low=0, doc="Mean of the distribution.")),
        "alpha": (float, param(1.0, low=0, doc="Dispersion; 0 gives a Poisson distribution.")),
    },
    _generalized,
    _generalized_each,
    doc="Negative binomial random numbers with mean mu and variance mu + alpha mu^2.",
)


@register
class _random_randint(_Free):
    """Random integers, uniform over low, low+1, ..., high-1."""

    aliases = ("random_randint",)
    default_dtype = "int32"
    low: int = param(doc="Lower bound, included.")
    high: int = param(doc="Upper bound, excluded.")
    shape: Dims | None = _SHAPE
    ctx: str = _CTX
    dtype: DType | None = param(
        None, choices=("int32", "int64"), doc="Data type of the result; None means int32."
    )

    def check(self) -> None:
        if self.low >= self.high:
            raise RuleError("low is not below high", got=self.low, expected=f"below {self.high}")

    def forward(self, xp: Any, rng: Any) -> Any:
        dtype = self.dtype or self.default_dtype
        return xp.asarray(rng.integers(self.low, self.high, self.shape).astype(dtype))
