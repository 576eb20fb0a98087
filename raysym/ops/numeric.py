"""Dtype rules that kernels share: wider arithmetic for narrow types, scalars as C casts them.

Integers take part in real functions as float64 and float16 as float32; results are cast back,
toward zero. Sums of float16 are accumulated in float32.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np


def wide_dtype(dtype: Any) -> Any:
    """The floating dtype in which real functions of `dtype` are evaluated."""
    if dtype == np.float16:
        return np.float32
    return dtype if dtype.kind == "f" else np.float64


def widen(x: Any) -> Any:
    """`x` in the dtype in which real functions are evaluated."""
    return x.astype(wide_dtype(x.dtype), copy=False)


def wide(x: Any) -> Any:
    """`x`, float16 as float32; unlike with `widen`, integers stay what they are."""
    return x.astype(np.float32) if x.dtype == np.float16 else x


def sum_dtype(dtype: Any) -> Any:
    """The dtype in which values of `dtype` are accumulated."""
    return np.float32 if dtype == np.float16 else dtype


def sum_axes(data: Any, axes: tuple[int, ...] | int) -> Any:
    """Sum over axes in the array's own dtype; float16 is added up in float32."""
    return data.sum(axis=axes, dtype=sum_dtype(data.dtype)).astype(data.dtype, copy=False)


def scalar_of(dtype: Any, value: float) -> Any:
    """`value` as a scalar of `dtype`; integers drop the fraction and wrap around, as in C."""
    dtype = np.dtype(dtype)
    if dtype.kind == "f" or dtype == np.bool_:
        return dtype.type(value)
    whole = int(value) if math.isfinite(value) else np.iinfo(dtype).min
    return np.int64(whole % 2**64 - 2**64 * (whole % 2**64 >= 2**63)).astype(dtype)
