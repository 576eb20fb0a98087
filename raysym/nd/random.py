"""Random arrays. Parameters are numbers (``shape`` draws) or arrays (``shape`` draws for each)."""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from typing import Any, TypeAlias

from raysym.context import Context
from raysym.nd.generate import lazy_functions
from raysym.ndarray import NDArray, invoke
from raysym.random_state import seed

Shape: TypeAlias = int | Sequence[int] | None
Values: TypeAlias = float | NDArray


def _draw(
    name: str,
    values: dict[str, Any],
    shape: Shape,
    dtype: Any,
    ctx: Context | None,
    out: NDArray | None,
) -> NDArray:
    """Draw from ``_random_<name>`` if the values are numbers, from ``_sample_<name>`` if arrays.

    ValueError if the first is neither, AssertionError if the others are not like it.
    """
    params: dict[str, Any] = {} if dtype is None else {"dtype": dtype}
    if shape is not None:
        params["shape"] = shape
    made: NDArray
    if all(isinstance(value, NDArray) for value in values.values()):
        made = invoke(f"_sample_{name}", list(values.values()), params, out=out)
        return made
    if not all(isinstance(value, numbers.Real) for value in values.values()):
        kinds = ", ".join(type(value).__name__ for value in values.values())
        first_is_fine = isinstance(next(iter(values.values())), numbers.Real | NDArray)
        refusal = AssertionError if first_is_fine else ValueError  # as MXNet
        raise refusal(f"random.{name}: got {kinds}, expected only numbers or only NDArrays")
    if shape is None and out is None:
        params["shape"] = 1
    made = invoke(f"_random_{name}", [], {**params, **values}, out=out, ctx=ctx)
    return made


def uniform(
    low: Values = 0,
    high: Values = 1,
    shape: Shape = None,
    dtype: Any = None,
    ctx: Context | None = None,
    out: NDArray | None = None,
) -> NDArray:
    """Uniform over [low, high)."""
    return _draw("uniform", {"low": low, "high": high}, shape, dtype, ctx, out)


def normal(
    loc: Values = 0,
    scale: Values = 1,
    shape: Shape = None,
    dtype: Any = None,
    ctx: Context | None = None,
    out: NDArray | None = None,
) -> NDArray:
    """Normal with mean `loc` and standard deviation `scale`."""
    return _draw("normal", {"loc": loc, "scale": scale}, shape, dtype, ctx, out)


def randn(
    *shape: int,
    loc: Values = 0,
    scale: Values = 1,
    dtype: Any = None,
    ctx: Context | None = None,
    out: NDArray | None = None,
) -> NDArray:
    """Normal, the shape given as separate arguments."""
    return normal(loc, scale, shape or None, dtype, ctx, out)


def poisson(
    lam: Values = 1,
    shape: Shape = None,
    dtype: Any = None,
    ctx: Context | None = None,
    out: NDArray | None = None,
) -> NDArray:
    """Poisson with mean `lam`; floating point numbers."""
    return _draw("poisson", {"lam": lam}, shape, dtype, ctx, out)


def exponential(
    scale: Values = 1,
    shape: Shape = None,
    dtype: Any = None,
    ctx: Context | None = None,
    out: NDArray | None = None,
) -> NDArray:
    """Exponential with mean `scale`."""
    return _draw("exponential", {"lam": 1.0 / scale}, shape, dtype, ctx, out)


def gamma(
    alpha: Values = 1,
    beta: Values = 1,
    shape: Shape = None,
    dtype: Any = None,
    ctx: Context | None = None,
    out: NDArray | None = None,
) -> NDArray:
    """Gamma with shape `alpha` and scale `beta`."""
    return _draw("gamma", {"alpha": alpha, "beta": beta}, shape, dtype, ctx, out)


def negative_binomial(
    k: Values = 1,
    p: Values = 1,
    shape: Shape = None,
    dtype: Any = None,
    ctx: Context | None = None,
    out: NDArray | None = None,
) -> NDArray:
    """Negative binomial: failures before `k` successes of probability `p`."""
    return _draw("negative_binomial", {"k": k, "p": p}, shape, dtype, ctx, out)


def generalized_negative_binomial(
    mu: Values = 1,
    alpha: Values = 1,
    shape: Shape = None,
    dtype: Any = None,
    ctx: Context | None = None,
    out: NDArray | None = None,
) -> NDArray:
    """Negative binomial with mean `mu` and dispersion `alpha`."""
    values = {"mu": mu, "alpha": alpha}
    return _draw("generalized_negative_binomial", values, shape, dtype, ctx, out)


def randint(
    low: int,
    high: int,
    shape: Shape = None,
    dtype: Any = None,
    ctx: Context | None = None,
    out: NDArray | None = None,
) -> NDArray:
    """Integers, uniform over [low, high); int32 unless `dtype` is given."""
    return _draw("randint", {"low": low, "high": high}, shape, dtype, ctx, out)


def multinomial(
    data: NDArray,
    shape: Shape = None,
    get_prob: bool = False,
    out: NDArray | None = None,
    dtype: Any = "int32",
) -> Any:
    """Indices drawn with the probabilities in the last axis of `data`.

    With `get_prob` a list: the indices and the logarithms of their probabilities.
    """
    params: dict[str, Any] = {"get_prob": get_prob, "dtype": dtype}
    if shape is not None:
        params["shape"] = shape
    return invoke("_sample_multinomial", [data], params, out=out)


def shuffle(data: NDArray, out: NDArray | None = None) -> NDArray:
    """The rows of `data` in random order."""
    made: NDArray = invoke("_shuffle", [data], out=out)
    return made


__all__ = [
    "exponential",
    "gamma",
    "generalized_negative_binomial",
    "multinomial",
    "negative_binomial",
    "normal",
    "poisson",
    "randint",
    "randn",
    "seed",
    "shuffle",
    "uniform",
]

__getattr__, __dir__ = lazy_functions(globals(), "random")
