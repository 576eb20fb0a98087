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


def put_diagonal(xp: Any, matrices: Any, values: Any, k: int) -> Any:
    """`matrices (..., m, n)`, which is written, with `values` on the k-th diagonal."""
    steps = xp.arange(values.shape[-1])
    matrices[..., steps + max(-k, 0), steps + max(k, 0)] = values
    return matrices


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
        return xp.diag(data, self.k) if data.ndim == 1 else data.diagonal(*self._place())

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
        put_diagonal(xp, xp.moveaxis(zeros, (self.axis1, self.axis2), (-2, -1)), arrays[0], self.k)
        return zeros
