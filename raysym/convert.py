"""From what users hand over to host arrays of dtypes that arrays can have."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np

from raysym.passes.memory import ALIGNMENT, aligned
from raysym.types import DTYPE_CODES, TensorType, dtype_name


def checked_dtype(dtype: Any) -> np.dtype[Any]:
    """The numpy dtype; TypeError if it is none, KeyError if arrays cannot have it."""
    name = dtype_name(dtype)
    if name not in DTYPE_CODES:
        raise KeyError(f"dtype: got {name}, expected one of {', '.join(DTYPE_CODES)}")
    return np.dtype(name)


def host_array(source: Any, dtype: Any, what: str) -> np.ndarray[Any, Any]:
    """A C-contiguous copy of anything array-like; TypeError, naming `what`, if it is not.

    Numbers are cast as in C: fractions are dropped and integers wrap around.
    """
    try:
        with np.errstate(all="ignore"):
            return host_copy(np.asarray(source), dtype)
    except (ValueError, TypeError):
        kind = type(source).__name__
        raise TypeError(f"{what} must be array like: got {kind} {short(source)}") from None


def host_view(source: Any, dtype: Any, what: str) -> np.ndarray[Any, Any]:
    """`source` itself if it is an array of that dtype, else a copy; errors as for `host_array`."""
    is_such = isinstance(source, np.ndarray) and source.dtype == dtype
    return source if is_such else host_array(source, dtype, what)


def host_zeros(shape: Sequence[int], dtype: Any) -> np.ndarray[Any, Any]:
    """Zeros from the start of a line of the cache on: kernels' vectors lie in one line each."""
    kind = np.dtype(dtype)
    nbytes = math.prod(shape) * kind.itemsize
    raw = np.zeros(nbytes + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    made: np.ndarray[Any, Any] = raw[start : start + nbytes].view(kind).reshape(shape)
    return made


def host_row(kinds: Sequence[TensorType]) -> list[np.ndarray[Any, Any]]:
    """Zeros that follow each other in one block, each from the start of a line of the cache on."""
    ends = list(accumulate(aligned(kind.nbytes) for kind in kinds))
    block = host_zeros((ends[-1] if ends else 0,), np.uint8)
    starts = [0, *ends]
    return [
        block[start : start + kind.nbytes].view(kind.dtype).reshape(kind.shape)
        for start, kind in zip(starts, kinds, strict=False)
    ]


def host_copy(array: np.ndarray[Any, Any], dtype: Any = None) -> np.ndarray[Any, Any]:
    """A C-contiguous copy where kernels find it best; numbers are cast as in C."""
    made = host_zeros(array.shape, array.dtype if dtype is None else dtype)
    np.copyto(made, array, casting="unsafe")
    return made


def short(value: Any) -> str:
    """A value as error messages show it: at most 40 characters."""
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
