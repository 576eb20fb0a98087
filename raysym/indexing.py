"""Index keys and shapes of views: what a user may write, made plain for numpy or cupy.

MXNet has no arrays of rank 0, so integers for all axes give shape ``(1,)``.
"""

from __future__ import annotations

import math
import numbers
from typing import Any

import numpy as np

from raysym.convert import short
from raysym.errors import MXNetError, RuleError
from raysym.ops.reshape import Reshape
from raysym.types import Shape

_ALL = slice(None)


def plain_key(key: Any, shape: Shape) -> tuple[Any, ...]:
    """A tuple of ints, slices, None, Ellipsis and host index arrays (int64, or bool masks).

    IndexError for an int out of range or too many indices, ValueError for anything else.
    """
    if not shape and isinstance(key, slice) and key == _ALL:
        return ()
    parts = key if isinstance(key, tuple) else (key,)
    plain = [_plain(part) for part in parts]
    _check_ints(plain, shape)
    if shape and len(_used(plain)) == len(shape) and _only_ints(plain):
        # Keep the last axis, so that the result has rank 1 and stays a view.
        last = next(i for i in reversed(range(len(plain))) if plain[i] is not Ellipsis)
        plain[last] = slice(plain[last], plain[last] + 1)
    return tuple(plain)


def covers_all(key: tuple[Any, ...]) -> bool:
    """Whether a plain key, such as ``[:]`` or ``[...]``, means every element in place."""
    return all(part is Ellipsis or (isinstance(part, slice) and _ALL == part) for part in key)


def is_advanced(key: tuple[Any, ...]) -> bool:
    """Whether a plain key holds index arrays, so that indexing copies."""
    return any(isinstance(part, np.ndarray) for part in key)


def _plain(part: Any) -> Any:
    if part is None or part is Ellipsis or isinstance(part, slice):
        return part
    if isinstance(part, numbers.Integral):
        return int(part)
    if isinstance(part, list | tuple | range):
        part = np.asarray(list(part))
    elif hasattr(part, "asnumpy"):
        part = part.asnumpy()
    if not isinstance(part, np.ndarray) or part.dtype.kind not in "biuf":
        kind = type(part).__name__
        raise ValueError(f"NDArray does not support slicing with key {short(part)} of type {kind}")
    if part.dtype.kind == "b":
        return part
    return int(part) if part.ndim == 0 else part.astype(np.int64)


def _used(parts: list[Any]) -> list[Any]:
    """The parts that consume axes."""
    return [part for part in parts if part is not None and part is not Ellipsis]


def _only_ints(parts: list[Any]) -> bool:
    return all(isinstance(part, int) or part is Ellipsis for part in parts)


def _check_ints(parts: list[Any], shape: Shape) -> None:
    """Refuse ints out of range and make them nonnegative, in place."""
    if sum(part is Ellipsis for part in parts) > 1:
        raise IndexError("cannot use more than one ellipsis (`...`) for indexing")
    consumed = sum(_rank(part) for part in _used(parts))
    if consumed > len(shape):
        raise IndexError(f"too many indices ({consumed}) for array with {len(shape)} dimensions")
    axis = 0
    for i, part in enumerate(parts):
        if part is Ellipsis:
            axis += len(shape) - consumed
        elif part is not None:
            if isinstance(part, int):
                parts[i] = _checked(part, axis, shape[axis])
            axis += _rank(part)


def _rank(part: Any) -> int:
    return part.ndim if isinstance(part, np.ndarray) and part.dtype == np.bool_ else 1


def _checked(index: int, axis: int, size: int) -> int:
    if not -size <= index < size:
        raise IndexError(f"index {index} is out of bounds for axis {axis} with size {size}")
    return index % size


def new_shape(old: Shape, wanted: Shape, reverse: bool) -> Shape:
    """`wanted` with its codes resolved, by the rule of the Reshape op; MXNetError if impossible."""
    if not wanted:
        if math.prod(old) != 1:
            raise ValueError(f"Cannot reshape array of shape {old} into shape ()")
        return ()
    try:
        op = Reshape({"shape": wanted, "reverse": reverse})
        _, (made,) = op.infer_shape([old], [None])
    except RuleError as error:
        raise MXNetError(f"reshape of {old} to {wanted}: {error}") from None
    return tuple(made or ())


def shape_argument(shape: tuple[Any, ...], kwargs: dict[str, Any]) -> Shape:
    """The shape that ``x.reshape`` is asked for: ints, one tuple or ``shape=``."""
    wanted = shape or kwargs.pop("shape", None)
    if wanted is None or kwargs:
        raise TypeError(f"reshape: got {kwargs or 'nothing'}, expected a shape and reverse=")
    if (
        isinstance(wanted, tuple)
        and len(wanted) == 1
        and not isinstance(wanted[0], int | np.integer)
    ):
        wanted = wanted[0]
    return (int(wanted),) if isinstance(wanted, int | np.integer) else tuple(map(int, wanted))
