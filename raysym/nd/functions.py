"""Functions of two operands, arrays or numbers, and the few others that are no single op."""

from __future__ import annotations

import numbers
import operator
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from raysym.chunk import wait_all
from raysym.ndarray import NDArray, array, invoke
from raysym.types import normal_axis


def _two_operands(
    name: str, op: str, numbers_op: Callable[[Any, Any], Any], scalar: str, reverse: str, doc: str
) -> Callable[[Any, Any], Any]:
    """``f(lhs, rhs)``: arrays broadcast, numbers go into scalar ops, two numbers give a number."""

    def run(lhs: Any, rhs: Any) -> Any:
        left, right = isinstance(lhs, NDArray), isinstance(rhs, NDArray)
        if left and right:
            return invoke(op, [lhs, rhs])
        if left and isinstance(rhs, numbers.Real):
            return invoke(scalar, [lhs], {"scalar": float(rhs)})
        if right and isinstance(lhs, numbers.Real):
            return invoke(reverse, [rhs], {"scalar": float(lhs)})
        if isinstance(lhs, numbers.Real) and isinstance(rhs, numbers.Real):
            return numbers_op(lhs, rhs)
        kinds = f"{type(lhs).__name__} and {type(rhs).__name__}"
        raise TypeError(f"nd.{name}: got {kinds}, expected NDArrays or numbers")

    run.__name__ = run.__qualname__ = name
    run.__doc__ = f"{doc}, with broadcasting; either operand may be a number."
    return run


def _plain(
    name: str, op: str, numbers_op: Callable[[Any, Any], Any], kind: str, swapped: str, doc: str
) -> Callable[[Any, Any], Any]:
    """An operation whose scalar op is ``_<kind>_scalar``, or ``_<swapped>_scalar`` reversed."""
    scalar, reverse = f"_{kind}_scalar", f"_{swapped}_scalar"
    return _two_operands(name, f"broadcast_{op}", numbers_op, scalar, reverse, doc)


def _compare(
    name: str, numbers_op: Callable[[Any, Any], Any], swapped: str, doc: str
) -> Callable[[Any, Any], Any]:
    def as_int(a: Any, b: Any) -> int:
        return int(bool(numbers_op(a, b)))

    return _plain(name, name, as_int, name, swapped, doc)


add = _plain("add", "add", operator.add, "plus", "plus", "a + b")
subtract = _plain("subtract", "sub", operator.sub, "minus", "rminus", "a - b")
multiply = _plain("multiply", "mul", operator.mul, "mul", "mul", "a * b")
divide = _plain("divide", "div", operator.truediv, "div", "rdiv", "a / b")
true_divide = _plain("true_divide", "div", operator.truediv, "div", "rdiv", "a / b")
modulo = _plain("modulo", "mod", operator.mod, "mod", "rmod", "a % b, with the sign of b")
power = _plain("power", "power", operator.pow, "power", "rpower", "a ** b")
maximum = _plain("maximum", "maximum", max, "maximum", "maximum", "The larger of a and b")
minimum = _plain("minimum", "minimum", min, "minimum", "minimum", "The smaller of a and b")

equal = _compare("equal", operator.eq, "equal", "1 where a == b, else 0")
not_equal = _compare("not_equal", operator.ne, "not_equal", "1 where a != b, else 0")
greater = _compare("greater", operator.gt, "lesser", "1 where a > b, else 0")
greater_equal = _compare("greater_equal", operator.ge, "lesser_equal", "1 where a >= b, else 0")
lesser = _compare("lesser", operator.lt, "greater", "1 where a < b, else 0")
lesser_equal = _compare("lesser_equal", operator.le, "greater_equal", "1 where a <= b, else 0")


def _xor(a: Any, b: Any) -> bool:
    return bool(a) != bool(b)


def _both(a: Any, b: Any) -> bool:
    return bool(a) and bool(b)


def _either(a: Any, b: Any) -> bool:
    return bool(a) or bool(b)


logical_and = _compare("logical_and", _both, "logical_and", "1 where a and b are not 0")
logical_or = _compare("logical_or", _either, "logical_or", "1 where a or b is not 0")
logical_xor = _compare("logical_xor", _xor, "logical_xor", "1 where one of a and b is not 0")


# ----- no single op


def waitall() -> None:
    """Return when all results are ready, also those of remote executors."""
    wait_all()


def concatenate(arrays: Sequence[NDArray], axis: int = 0, always_copy: bool = True) -> NDArray:
    """The arrays joined along `axis`; the old form of ``concat``.

    With `always_copy` False a single array is returned itself.
    """
    if not arrays:
        raise ValueError("concatenate: got no arrays, expected at least one")
    if len(arrays) == 1 and not always_copy:
        return arrays[0]
    made: NDArray = invoke("Concat", list(arrays), {"dim": axis, "num_args": len(arrays)})
    return made


def moveaxis(
    tensor: NDArray, source: int | Sequence[int], destination: int | Sequence[int]
) -> NDArray:
    """The axes `source` moved to the places `destination`; the others keep their order."""
    sources, targets = _axes(source, tensor.ndim), _axes(destination, tensor.ndim)
    if len(sources) != len(targets):
        raise ValueError(f"moveaxis: got {sources} and {targets}, expected as many axes in both")
    order = [axis for axis in range(tensor.ndim) if axis not in sources]
    for target, axis in sorted(zip(targets, sources, strict=True)):
        order.insert(target, axis)
    made: NDArray = invoke("transpose", [tensor], {"axes": tuple(order)})
    return made


def _axes(axes: int | Sequence[int], rank: int) -> list[int]:
    return [normal_axis(axis, rank) for axis in ((axes,) if isinstance(axes, int) else axes)]


def split_v2(
    ary: NDArray,
    indices_or_sections: int | tuple[int, ...],
    axis: int = 0,
    squeeze_axis: bool = False,
) -> Any:
    """Parts of `ary` along `axis`: so many equal ones, or cut before the given indices."""
    return ary.split_v2(indices_or_sections, axis, squeeze_axis)


def histogram(
    a: NDArray, bins: int | NDArray = 10, range: tuple[float, float] | None = None
) -> list[NDArray]:
    """Counts of the elements per bin, and the edges of the bins.

    `bins` is a number of equal bins over `range` (default: from the smallest to the largest
    element), or an array of edges.
    """
    if isinstance(bins, NDArray):
        made: list[NDArray] = invoke("_histogram", [a, bins])
        return made
    if not isinstance(bins, int):
        raise ValueError(f"histogram: bins: got {bins!r}, expected an int or an NDArray")
    if range is None:
        warnings.warn("histogram: range is not specified: using that of the data", stacklevel=2)
        counts, edges = np.histogram(a.asnumpy(), bins=bins)
        return [array(counts), array(edges)]
    made = invoke("_histogram", [a], {"bin_cnt": bins, "range": range})
    return made


def onehot_encode(indices: NDArray, out: NDArray) -> NDArray:
    """Rows of zeros with a one at the index, written into `out` of shape (n, depth)."""
    invoke("one_hot", [indices], {"depth": out.shape[1], "dtype": out.dtype}, out=out)
    return out


__all__ = [
    "add",
    "concatenate",
    "divide",
    "equal",
    "greater",
    "greater_equal",
    "histogram",
    "lesser",
    "lesser_equal",
    "logical_and",
    "logical_or",
    "logical_xor",
    "maximum",
    "minimum",
    "modulo",
    "moveaxis",
    "multiply",
    "not_equal",
    "onehot_encode",
    "power",
    "split_v2",
    "subtract",
    "true_divide",
    "waitall",
]
