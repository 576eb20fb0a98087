"""The diagonal of an array, and the matrix of a diagonal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from raysym.errors import RuleError
from raysym.graph import apply
from raysym.op import Cost, Entries, Grads, Op, Shapes, Types, register, total_bytes
from raysym.ops.slicing import IntoZeros
from raysym.params import param
from raysym.types import normal_axis


def diagonal_length(rows: int, columns: int, k: int) -> int:
    """Length of the k-th diagonal; RuleError if there is none."""
    length = min(rows + min(k, 0), columns - max(k, 0))
    if length < 1:
        raise RuleError(
            "the diagonal does not exist", got=f"k={k}", expected=f"one of {rows} x {columns}"
        )
    return length


def diagonal_matrices(xp: Any, values: Any, rows: int, columns: int, k: int) -> Any:
    """Zeros ``(..., rows, columns)`` with ``values (..., n)`` on the k-th diagonal."""
    *lead, n = values.shape
    first = max(k, 0) + max(-k, 0) * columns
    last = first + (n - 1) * (columns + 1)
    made = xp.zeros((*lead, rows * columns), values.dtype)
    made[..., first : last + 1 : columns + 1] = values
    return made.reshape(*lead, rows, columns)


@register
class diag(Op):
    """The k-th diagonal of two axes, put last; of a vector: the matrix that has it as diagonal."""

    k: int = param(0, doc="Which diagonal: above the main one if positive, below if negative.")
    axis1: int = param(0, doc="The axis of the rows, for data of two and more axes.")
    axis2: int = param(1, doc="The axis of the columns.")

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        data = ins[0]
        if not data:
            return ins, outs
        if len(data) == 1:
            side = data[0] and data[0] + abs(self.k)
            return ins, [(side, side)]
        rows, columns = self._axes(len(data))
        rest = [dim for axis, dim in enumerate(data) if axis not in (rows, columns)]
        known = data[rows] and data[columns]
        return ins, [(*rest, known and diagonal_length(data[rows], data[columns], self.k))]

    def _axes(self, rank: int) -> Sequence[int]:
        rows, columns = normal_axis(self.axis1, rank), normal_axis(self.axis2, rank)
        if rows == columns:
            raise RuleError("axis1 and axis2 are the same axis", got=rows, expected="two axes")
        return rows, columns

    def forward(self, xp: Any, data: Any) -> Any:
        if data.ndim > 1:
            return data.diagonal(*self._place())
        side = data.size + abs(self.k)
        return diagonal_matrices(xp, data, side, side, self.k)

    def _place(self) -> tuple[int, int, int]:
        return self.k, self.axis1, self.axis2

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        return [apply("_backward_diag", grads[0], ins[0], **self.given())]

    def cost(self, ins: Types, outs: Types) -> Cost:
        return Cost(0.0, 2 * total_bytes((), outs))


@register
class _backward_diag(IntoZeros):
    """Zeros with the head gradient on the diagonal; of a vector: the head gradient's diagonal."""

    page = "diag"
    params = {**diag.params, **IntoZeros.params}
    k: int
    axis1: int
    axis2: int

    def fill(self, xp: Any, zeros: Any, *arrays: Any) -> Any:
        if zeros.ndim == 1:
            return arrays[0].diagonal(self.k)
        sides = zeros.shape[self.axis1], zeros.shape[self.axis2]
        made = diagonal_matrices(xp, arrays[0], *sides, self.k)
        return xp.moveaxis(made, (-2, -1), (self.axis1, self.axis2))
