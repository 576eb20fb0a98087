"""Tensor types and the arithmetic of partly known shapes.

A shape is a tuple of ints in which 0 stands for an unknown dimension; ``None`` is a shape of
unknown rank. A dtype is a numpy name such as ``"float32"``; ``None`` is an unknown dtype.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from raysym.errors import RuleError

Shape: TypeAlias = tuple[int, ...]
PartialShape: TypeAlias = tuple[int, ...] | None
PartialDType: TypeAlias = str | None

# MXNet's codes; they appear in JSON attributes and in .params files.
DTYPE_CODES = {
    "float32": 0,
    "float64": 1,
    "float16": 2,
    "uint8": 3,
    "int32": 4,
    "int8": 5,
    "int64": 6,
    "bool": 7,
}
DTYPE_OF_CODE = {code: name for name, code in DTYPE_CODES.items()}
_SHORT = {"float": "f", "int": "i", "uint": "u", "bool": "b"}


class TensorType(NamedTuple):
    """Shape and dtype of one array; prints as ``f32[32,784]``."""

    shape: Shape
    dtype: str

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Size of the array in bytes."""
        return self.size * np.dtype(self.dtype).itemsize

    def __str__(self) -> str:
        return f"{short_dtype(self.dtype)}[{','.join(map(str, self.shape))}]"


def short_dtype(dtype: str) -> str:
    """``float32`` -> ``f32``."""
    kind = dtype.rstrip("0123456789")
    return _SHORT[kind] + dtype[len(kind) :]


def partial_text(shape: PartialShape, dtype: PartialDType) -> str:
    """A partly known type as ``f32[2,?]``; question marks for what is unknown."""
    kind = short_dtype(dtype) if dtype else "?"
    dims = "?" if shape is None else ",".join(str(dim or "?") for dim in shape)
    return f"{kind}[{dims}]"


def dtype_name(dtype: Any) -> str:
    """The numpy name of anything that numpy takes for a dtype; TypeError if it is none."""
    name: str = np.dtype(dtype).name
    return name


def is_known(shape: PartialShape) -> bool:
    """True when rank and every dimension are known."""
    return shape is not None and 0 not in shape


def unify(a: PartialShape, b: PartialShape, what: str = "shape") -> PartialShape:
    """The shape that both describe; RuleError when they contradict each other."""
    if a is None or a == b:
        return b
    if b is None:
        return a
    if len(a) != len(b) or any(x and y and x != y for x, y in zip(a, b, strict=True)):
        raise RuleError(f"{what} does not match", got=a, expected=b)
    return tuple(x or y for x, y in zip(a, b, strict=True))


def unify_all(shapes: Sequence[PartialShape]) -> PartialShape:
    """`unify` over many shapes."""
    result: PartialShape = None
    for shape in shapes:
        result = unify(result, shape)
    return result


def unify_dtypes(dtypes: Sequence[PartialDType], what: str = "dtype") -> PartialDType:
    """The one dtype that all known ones agree on; RuleError when they do not."""
    known = {dtype for dtype in dtypes if dtype is not None}
    if len(known) > 1:
        raise RuleError(f"{what} does not match", got=", ".join(map(str, dtypes)), expected="one")
    return known.pop() if known else None


def normal_axis(axis: int, rank: int) -> int:
    """An axis counted from the front; RuleError when it lies outside the rank."""
    if not -rank <= axis < rank:
        raise RuleError("axis out of range", got=axis, expected=f"{-rank} to {rank - 1}")
    return axis % rank
