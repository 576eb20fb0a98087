"""Random symbols; parameters are numbers (``shape`` draws) or symbols (``shape`` draws of each)."""

from __future__ import annotations

from numbers import Real
from typing import Any

from raysym.op import find_op
from raysym.random_state import seed
from raysym.sym.generate import lazy_functions
from raysym.symbol import Symbol, create


def _draw(name: str, values: dict[str, Any], kwargs: dict[str, Any]) -> Symbol:
    """Compose ``_random_<name>`` for numbers, ``_sample_<name>`` for symbols.

    ValueError if the first is neither, AssertionError if the others are not like it.
    """
    label, attr = kwargs.pop("name", None), kwargs.pop("attr", None)
    for key in ("ctx", "out"):
        kwargs.pop(key, None)
    params = {key: value for key, value in kwargs.items() if value is not None}
    if all(isinstance(value, Symbol) for value in values.values()):
        op = f"_sample_{name}"
        return create(find_op(op), op, list(values.values()), params, label, attr)
    if not all(isinstance(value, Real) for value in values.values()):
        kinds = ", ".join(type(value).__name__ for value in values.values())
        first_is_fine = isinstance(next(iter(values.values())), Real | Symbol)
        refusal = AssertionError if first_is_fine else ValueError  # as MXNet
        raise refusal(f"random.{name}: got {kinds}, expected only numbers or only symbols")
    op = f"_random_{name}"
    return create(find_op(op), op, [], {**params, **values}, label, attr)


def uniform(
    low: Any = 0, high: Any = 1, shape: Any = None, dtype: Any = None, **kwargs: Any
) -> Symbol:
    """Uniform over [low, high)."""
    return _draw("uniform", {"low": low, "high": high}, {"shape": shape, "dtype": dtype, **kwargs})


def normal(
    loc: Any = 0, scale: Any = 1, shape: Any = None, dtype: Any = None, **kwargs: Any
) -> Symbol:
    """Normal with mean `loc` and standard deviation `scale`."""
    values = {"loc": loc, "scale": scale}
    return _draw("normal", values, {"shape": shape, "dtype": dtype, **kwargs})


def randn(*shape: int, loc: Any = 0, scale: Any = 1, dtype: Any = None, **kwargs: Any) -> Symbol:
    """Normal, the shape given as separate arguments."""
    return normal(loc, scale, shape or None, dtype, **kwargs)


def poisson(lam: Any = 1, shape: Any = None, dtype: Any = None, **kwargs: Any) -> Symbol:
    """Poisson with mean `lam`; floating point numbers."""
    return _draw("poisson", {"lam": lam}, {"shape": shape, "dtype": dtype, **kwargs})


def exponential(scale: Any = 1, shape: Any = None, dtype: Any = None, **kwargs: Any) -> Symbol:
    """Exponential with mean `scale`."""
    return _draw("exponential", {"lam": 1.0 / scale}, {"shape": shape, "dtype": dtype, **kwargs})


def gamma(
    alpha: Any = 1, beta: Any = 1, shape: Any = None, dtype: Any = None, **kwargs: Any
) -> Symbol:
    """Gamma with shape `alpha` and scale `beta`."""
    values = {"alpha": alpha, "beta": beta}
    return _draw("gamma", values, {"shape": shape, "dtype": dtype, **kwargs})


def negative_binomial(
    k: Any = 1, p: Any = 1, shape: Any = None, dtype: Any = None, **kwargs: Any
) -> Symbol:
    """Negative binomial: failures before `k` successes of probability `p`."""
    values = {"k": k, "p": p}
    return _draw("negative_binomial", values, {"shape": shape, "dtype": dtype, **kwargs})


def generalized_negative_binomial(
    mu: Any = 1, alpha: Any = 1, shape: Any = None, dtype: Any = None, **kwargs: Any
) -> Symbol:
    """Negative binomial with mean `mu` and dispersion `alpha`."""
    values, rest = {"mu": mu, "alpha": alpha}, {"shape": shape, "dtype": dtype, **kwargs}
    return _draw("generalized_negative_binomial", values, rest)


def randint(low: int, high: int, shape: Any = None, dtype: Any = None, **kwargs: Any) -> Symbol:
    """Integers, uniform over [low, high); int32 unless `dtype` is given."""
    values = {"low": low, "high": high}
    return _draw("randint", values, {"shape": shape, "dtype": dtype, **kwargs})


def multinomial(
    data: Symbol, shape: Any = None, get_prob: bool = True, dtype: Any = "int32", **kwargs: Any
) -> Symbol:
    """Indices drawn with the probabilities in the last axis of `data`; see `nd.random`.

    `get_prob`, with the logarithms of their probabilities as second output, is the default here
    and not there, as in MXNet.
    """
    op = "_sample_multinomial"
    label, attr = kwargs.pop("name", None), kwargs.pop("attr", None)
    params = {"get_prob": get_prob, "dtype": dtype} | ({} if shape is None else {"shape": shape})
    return create(find_op(op), op, [data], params, label, attr)


def shuffle(data: Symbol, **kwargs: Any) -> Symbol:
    """The rows of `data` in random order."""
    label, attr = kwargs.pop("name", None), kwargs.pop("attr", None)
    return create(find_op("_shuffle"), "_shuffle", [data], {}, label, attr)


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
