"""Symbolic functions that are more than one op: creation, and operands of either kind."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from numbers import Number
from typing import Any

from raysym.op import find_op
from raysym.symbol import Symbol, create


def _make(op: str, hint: str, name: str | None, attr: Any, **params: Any) -> Symbol:
    return create(find_op(op), hint, [], params, name, attr)


def zeros(shape: Any, dtype: Any = None, name: str | None = None, attr: Any = None) -> Symbol:
    """Zeros, float32 by default; a dimension of 0 is inferred from the users of the result."""
    return _make("_zeros", "_zeros", name, attr, shape=shape, dtype=dtype or "float32")


def ones(shape: Any, dtype: Any = None, name: str | None = None, attr: Any = None) -> Symbol:
    """Ones, float32 by default; a dimension of 0 is inferred from the users of the result."""
    return _make("_ones", "_ones", name, attr, shape=shape, dtype=dtype or "float32")


def full(
    shape: Any, val: float, dtype: Any = None, name: str | None = None, attr: Any = None
) -> Symbol:
    """An array filled with `val`, float32 by default."""
    given: dict[str, Any] = {"shape": shape, "value": float(val), "dtype": dtype or "float32"}
    return _make("_full", "_full", name, attr, **given)


def arange(
    start: float,
    stop: float | None = None,
    step: float = 1.0,
    repeat: int = 1,
    infer_range: bool = False,
    name: str | None = None,
    dtype: Any = None,
    attr: Any = None,
) -> Symbol:
    """Numbers from `start` below `stop` (from 0 below `start` without it), each `repeat` times."""
    given: dict[str, Any] = {"start": start, "stop": stop, "step": step, "repeat": repeat}
    given |= {"infer_range": infer_range, "dtype": dtype or "float32"}
    return _make("_arange", "_arange", name, attr, **given)


def linspace(
    start: float,
    stop: float,
    num: int,
    endpoint: bool = True,
    name: str | None = None,
    dtype: Any = None,
    attr: Any = None,
) -> Symbol:
    """`num` numbers evenly spaced from `start` to `stop`, which `endpoint` includes."""
    given = {"start": start, "stop": stop, "num": num, "endpoint": endpoint}
    return _make("_linspace", "_linspace", name, attr, dtype=dtype or "float32", **given)


def eye(
    N: int, M: int = 0, k: int = 0, dtype: Any = None, name: str | None = None, attr: Any = None
) -> Symbol:
    """Ones on the k-th diagonal of an N x M matrix (M 0: square)."""
    return _make("_eye", "_eye", name, attr, N=N, M=M, k=k, dtype=dtype or "float32")


def histogram(
    a: Symbol, bins: Any = 10, range: Any = None, name: str | None = None, attr: Any = None
) -> Symbol:
    """Counts and edges; `bins` is a symbol of edges, or a number that needs a `range`."""
    if isinstance(bins, Symbol):
        return create(find_op("_histogram"), "_histogram", [a, bins], {}, name, attr)
    if range is None:
        raise ValueError(f"histogram: null range is not supported with bins={bins!r}")
    given = {"bin_cnt": bins, "range": range}
    return create(find_op("_histogram"), "_histogram", [a], given, name, attr)


def split_v2(
    ary: Symbol,
    indices_or_sections: int | tuple[int, ...],
    axis: int = 0,
    squeeze_axis: bool = False,
    name: str | None = None,
    attr: Any = None,
) -> Symbol:
    """Cut along `axis` into equal sections (an int) or before each index (a tuple)."""
    if not isinstance(ary, Symbol):
        raise AssertionError(f"split_v2: ary: got {type(ary).__name__}, expected a Symbol")
    return ary.split_v2(indices_or_sections, axis, squeeze_axis, name=name, attr=attr)


# ----- operands that are symbols or numbers


def _either(
    left: Any,
    right: Any,
    hint: str,
    ops: Sequence[str],
    scalar: Callable[[Any, Any], Any],
) -> Any:
    """`ops`: for two symbols, for symbol and number, for number and symbol."""
    symbols = isinstance(left, Symbol), isinstance(right, Symbol)
    if symbols == (True, True):
        return create(find_op(ops[0]), f"_{hint}", [left, right], {})
    if symbols[0] and isinstance(right, Number):
        return create(find_op(ops[1]), f"_{hint}scalar", [left], {"scalar": right})
    if symbols[1] and isinstance(left, Number):
        reverse = f"_r{hint}scalar" if ops[1] != ops[2] else f"_{hint}scalar"
        return create(find_op(ops[2]), reverse, [right], {"scalar": left})
    if isinstance(left, Number) and isinstance(right, Number):
        return scalar(left, right)
    raise TypeError(
        f"{hint}: got {type(left).__name__} and {type(right).__name__}, expected symbols or numbers"
    )


def power(base: Any, exp: Any) -> Any:
    """``base ** exp`` of symbols of equal shape or numbers."""
    return _either(base, exp, "power", ("_power", "_power_scalar", "_rpower_scalar"), operator.pow)


pow = power


def maximum(left: Any, right: Any) -> Any:
    """The larger of symbols of equal shape or numbers, elementwise."""
    return _either(left, right, "maximum", ("_maximum", "_maximum_scalar", "_maximum_scalar"), max)


def minimum(left: Any, right: Any) -> Any:
    """The smaller of symbols of equal shape or numbers, elementwise."""
    return _either(left, right, "minimum", ("_minimum", "_minimum_scalar", "_minimum_scalar"), min)


def _hypotenuse(left: float, right: float) -> float:
    return float((left**2 + right**2) ** 0.5)


def hypot(left: Any, right: Any) -> Any:
    """``sqrt(left^2 + right^2)`` of symbols of equal shape or numbers, elementwise."""
    return _either(left, right, "hypot", ("_hypot", "_hypot_scalar", "_hypot_scalar"), _hypotenuse)
