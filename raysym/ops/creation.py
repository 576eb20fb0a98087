"""Ops that make arrays from parameters: constants, ranges, identity matrices, shapes as arrays."""

from __future__ import annotations

import math
from typing import Any

from raysym.errors import RuleError
from raysym.graph import Entry, apply
from raysym.op import DTypes, Entries, Op, Shapes, Types, register
from raysym.ops.basic import Fill
from raysym.params import Dims, DType, param
from raysym.types import DTYPE_OF_CODE, normal_axis


@register
class _ones(Fill):
    """An array of ones."""

    def forward(self, xp: Any) -> Any:
        return xp.ones(self.shape, self.dtype)


@register
class _full(Fill):
    """An array filled with one value."""

    value: float = param(doc="The value of every element.")

    def forward(self, xp: Any) -> Any:
        return xp.full(self.shape, self.value).astype(self.dtype)


@register
class _zeros_without_dtype(Fill):
    """An array of zeros whose dtype may be left open."""

    dtype: int = param(  # type: ignore[assignment]  # a code here, a name elsewhere
        -1, doc="Code of the data type; -1: float32 unless the users say more."
    )

    def _name(self) -> str:
        return DTYPE_OF_CODE.get(self.dtype, "float32")

    def infer_dtype(self, ins: DTypes, outs: DTypes) -> tuple[DTypes, DTypes]:
        return [], [self._name()]

    def forward(self, xp: Any) -> Any:
        return xp.zeros(self.shape, self._name())


@register
class _arange(Op):
    """start, start + step, ... below stop, every number `repeat` times.

    Without `stop` the numbers run from 0 to below `start`. With `infer_range` the length comes
    from the users of the result.
    """

    inputs = ()
    zero_gradient = True
    start: float = param(doc="The first number; the end of the range if `stop` is None.")
    stop: float | None = param(None, doc="The end of the range, which is not part of it.")
    step: float = param(1.0, doc="The difference of two numbers.")
    repeat: int = param(1, low=1, doc="How often each number is repeated.")
    infer_range: bool = param(False, doc="Take the length from the users of the result.")
    ctx: str = param("", doc="Accepted for compatibility; placement decides where it is made.")
    dtype: DType = param("float32", doc="Data type of the result.")

    def check(self) -> None:
        if self.step == 0:
            raise RuleError("step is 0", got=self.step, expected="a number but 0")

    def _first_and_count(self) -> tuple[float, int]:
        first, end = (0.0, self.start) if self.stop is None else (self.start, self.stop)
        return first, max(0, math.ceil((end - first) / self.step))

    def infer_dtype(self, ins: DTypes, outs: DTypes) -> tuple[DTypes, DTypes]:
        return [], [self.dtype]

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        if self.infer_range and self.stop is None:
            return [], outs
        return [], [(self._first_and_count()[1] * self.repeat,)]

    def specialize(self, ins: Entries, types: Types, outs: Types) -> Entry | None:
        if not self.infer_range or self.stop is not None:
            return None
        count = -(-outs[0].size // self.repeat)
        open_end = self.start + (count - 0.5) * self.step
        return apply(
            "_arange",
            start=self.start,
            stop=open_end,
            step=self.step,
            repeat=self.repeat,
            dtype=self.dtype,
        )

    def forward(self, xp: Any) -> Any:
        first, count = self._first_and_count()
        row = xp.arange(count) * self.step + first
        return xp.repeat(row, self.repeat).astype(self.dtype)


@register
class _linspace(Op):
    """`num` evenly spaced numbers from `start` to `stop`."""

    inputs = ()
    zero_gradient = True
    start: float = param(doc="The first number.")
    stop: float | None = param(None, doc="The last number, or the one after it.")
    step: float = param(1.0, doc="Accepted for compatibility; the numbers are evenly spaced.")
    repeat: int = param(1, doc="Accepted for compatibility; each number comes once.")
    infer_range: bool = param(False, doc="Accepted for compatibility; the length is `num`.")
    ctx: str = param("", doc="Accepted for compatibility; placement decides where it is made.")
    dtype: DType = param("float32", doc="Data type of the result.")
    num: int = param(low=0, doc="How many numbers.")
    endpoint: bool = param(True, doc="Whether `stop` is the last number.")

    def check(self) -> None:
        if self.stop is None:
            raise RuleError("Required parameter stop is not presented", fix="Give the last number")

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        return [], [(self.num,)]

    def infer_dtype(self, ins: DTypes, outs: DTypes) -> tuple[DTypes, DTypes]:
        return [], [self.dtype]

    def forward(self, xp: Any) -> Any:
        row = xp.linspace(self.start, self.stop, self.num, endpoint=self.endpoint)
        return row.astype(self.dtype)


@register
class _eye(Op):
    """A matrix ``(N, M)`` with ones on the k-th diagonal, zeros elsewhere."""

    inputs = ()
    zero_gradient = True
    N: int = param(low=1, doc="Number of rows.")
    M: int = param(0, low=0, doc="Number of columns; 0: as many as rows.")
    k: int = param(0, doc="The diagonal: 0 the main one, above it positive, below it negative.")
    ctx: str = param("", doc="Accepted for compatibility; placement decides where it is made.")
    dtype: DType = param("float32", doc="Data type of the result.")

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        return [], [(self.N, self.M or self.N)]

    def infer_dtype(self, ins: DTypes, outs: DTypes) -> tuple[DTypes, DTypes]:
        return [], [self.dtype]

    def forward(self, xp: Any) -> Any:
        return xp.eye(self.N, self.M or self.N, self.k, dtype=self.dtype)


@register
class _contrib_arange_like(Op):
    """start, start + step, ... in the shape of the input, or as long as one of its axes.

    With `repeat` every number comes that often before the next one.
    """

    zero_gradient = True
    shape_only = ("data",)
    start: float = param(0.0, doc="The first number.")
    step: float = param(1.0, doc="The difference of two numbers.")
    repeat: int = param(1, low=1, doc="How often each number is repeated.")
    ctx: str = param("", doc="Accepted for compatibility; placement decides where it is made.")
    axis: int | None = param(None, doc="The axis that gives the length; None: number in row order.")

    def _shape(self, data: Dims) -> Dims:
        return data if self.axis is None else (data[normal_axis(self.axis, len(data))],)

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        return ins, outs if ins[0] is None else [self._shape(ins[0])]

    def forward(self, xp: Any, data: Any) -> Any:
        shape = self._shape(data.shape)
        row = (xp.arange(math.prod(shape)) // self.repeat) * self.step + self.start
        return row.astype(data.dtype).reshape(shape)


@register
class shape_array(Op):
    """The shape of the input as an int64 array ``(rank,)``."""

    zero_gradient = True
    shape_only = ("data",)

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        return ins, outs if ins[0] is None else [(len(ins[0]),)]

    def infer_dtype(self, ins: DTypes, outs: DTypes) -> tuple[DTypes, DTypes]:
        return ins, ["int64"]

    def forward(self, xp: Any, data: Any) -> Any:
        return xp.asarray(data.shape, "int64")


@register
class size_array(Op):
    """The number of elements of the input as an int64 array ``(1,)``."""

    zero_gradient = True
    shape_only = ("data",)

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        return ins, [(1,)]

    def infer_dtype(self, ins: DTypes, outs: DTypes) -> tuple[DTypes, DTypes]:
        return ins, ["int64"]

    def forward(self, xp: Any, data: Any) -> Any:
        return xp.asarray([data.size], "int64")
