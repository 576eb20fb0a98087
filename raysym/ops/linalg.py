"""Linear algebra: products of (triangular) matrices, diagonals and packed triangles.

All ops work on the last two axes, for every index of the axes before them. Gradients follow
Seeger, Hetzel, Dai, Lawrence: Auto-Differentiating Linear Algebra, arXiv:1710.08717 (2017).
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from raysym.errors import RuleError
from raysym.graph import Entry, apply
from raysym.op import Cost, DTypes, Entries, Grads, Op, Shapes, Types, register, total_bytes
from raysym.ops.maths import add, times
from raysym.ops.matrix import contract, product_gradients, product_shapes
from raysym.params import param
from raysym.types import PartialShape, unify, unify_dtypes

_LOWER = "Whether the lower triangle is used, otherwise the upper one."


class Linalg(Op):
    """Shared by ops that need float32 or float64 matrices."""

    kinds = "f"
    inputs: ClassVar[tuple[str, ...]] = ("A",)

    def infer_dtype(self, ins: DTypes, outs: DTypes) -> tuple[DTypes, DTypes]:
        dtype = unify_dtypes([*ins, *outs])
        if dtype not in (None, "float32", "float64"):
            raise RuleError("dtype is not supported", got=dtype, expected="float32 or float64")
        return [dtype] * len(ins), [dtype] * len(outs)


def matrix_axes(shape: PartialShape) -> tuple[tuple[int, ...], int, int]:
    """Leading axes, rows and columns; RuleError if it is no matrix."""
    if shape is None or len(shape) < 2:
        raise RuleError(
            "a matrix has at least two axes", got=shape, expected="(..., rows, columns)"
        )
    return tuple(shape[:-2]), shape[-2], shape[-1]


def square_shape(shape: PartialShape) -> PartialShape:
    """The shape of square matrices, both sides filled in; RuleError if they are not square."""
    if shape is None:
        return None
    lead, rows, columns = matrix_axes(shape)
    if rows and columns and rows != columns:
        raise RuleError("matrices are not square", got=shape, expected="(..., n, n)")
    side = rows or columns
    return (*lead, side, side)


def turned(a: Entry) -> Entry:
    """Graph maths: all matrices transposed."""
    return apply("SwapAxis", a, dim1=-1, dim2=-2)


def product(a: Entry, b: Entry, turn_a: bool = False, turn_b: bool = False) -> Entry:
    """Graph maths: matrix product, factors transposed on demand."""
    return apply("_linalg_gemm2", a, b, transpose_a=turn_a, transpose_b=turn_b)


def triangle(a: Entry, lower: bool = True, offset: int = 0) -> Entry:
    """Graph maths: `a` with zeros beyond the diagonal of this offset."""
    return apply("_triangle", a, lower=lower, offset=offset)


@register
class _triangle(Op):
    """The lower (upper) triangle of every matrix, zeros elsewhere."""

    internal = True
    lower: bool = param(True, doc=_LOWER)
    offset: int = param(0, doc="The last diagonal that is kept.")

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        shape = unify(ins[0], outs[0])
        if shape is not None:
            matrix_axes(shape)
        return [shape], [shape]

    def forward(self, xp: Any, data: Any) -> Any:
        return (xp.tril if self.lower else xp.triu)(data, self.offset)

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        return [triangle(grads[0], self.lower, self.offset)]


# ----- products


class _Product(Op):
    """Shared by gemm and gemm2: ``alpha * op(A) x op(B)`` with rows along `axis`."""

    kinds = "f"
    work = "matmul"
    transpose_a: bool
    transpose_b: bool
    alpha: float
    axis: int

    def swapped(self, shape: PartialShape) -> PartialShape:
        """The shape with the rows' axis exchanged with the last but one."""
        if shape is None or self.axis == -2:
            return shape
        if not -len(shape) <= self.axis < len(shape) - 1 or self.axis == -1:
            raise RuleError("axis is not one of rows", got=self.axis, expected=f"axes of {shape}")
        dims = list(shape)
        dims[self.axis], dims[-2] = dims[-2], dims[self.axis]
        return tuple(dims)

    def product_shapes(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        """Shape rule of the two factors and their product."""
        inner = [self.swapped(shape) for shape in ins]
        flags = (self.transpose_a, self.transpose_b)
        made, out = product_shapes(inner, [self.swapped(outs[0])], *flags, min_rank=2)
        return [self.swapped(shape) for shape in made], [self.swapped(out[0])]

    def multiply(self, xp: Any, a: Any, b: Any) -> Any:
        """The scaled product."""
        a, b = a.swapaxes(self.axis, -2), b.swapaxes(self.axis, -2)
        a = a.swapaxes(-1, -2) if self.transpose_a else a
        b = b.swapaxes(-1, -2) if self.transpose_b else b
        made = contract(xp, a, b).swapaxes(self.axis, -2)
        return made if self.alpha == 1 else made * made.dtype.type(self.alpha)

    def factor_gradients(self, a: Entry, b: Entry, g: Entry) -> list[Entry]:
        """Gradients of both factors."""
        scaled = times(g, self.alpha) if self.alpha != 1 else g
        flags = (self.transpose_a, self.transpose_b)
        return product_gradients("_linalg_gemm2", a, b, scaled, *flags, axis=self.axis)

    def cost(self, ins: Types, outs: Types) -> Cost:
        shape = self.swapped(ins[0].shape) or (1, 1)
        inner = shape[-2 if self.transpose_a else -1]
        return Cost(2 * outs[0].size * inner, total_bytes(ins, outs))


_TURN = "Multiply with the transposed of"


@register
class _linalg_gemm(_Product):
    """``alpha * op(A) x op(B) + beta * C``, where op may transpose."""

    aliases = ("linalg_gemm",)
    inputs = ("A", "B", "C")
    transpose_a: bool = param(False, doc=f"{_TURN} A.")
    transpose_b: bool = param(False, doc=f"{_TURN} B.")
    alpha: float = param(1.0, doc="Factor of the product.")
    beta: float = param(1.0, doc="Factor of C.")
    axis: int = param(-2, doc="The axis of the rows; columns are the last axis.")

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        out = unify(ins[2], outs[0], "shape of C")
        factors, made = self.product_shapes(ins[:2], [out])
        out = unify(made[0], out, "shape of C")
        return [*factors, out], [out]

    def forward(self, xp: Any, a: Any, b: Any, c: Any) -> Any:
        return self.multiply(xp, a, b) + c * c.dtype.type(self.beta)

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        return [*self.factor_gradients(ins[0], ins[1], grads[0]), times(grads[0], self.beta)]


@register
class _linalg_gemm2(_Product):
    """``alpha * op(A) x op(B)``, where op may transpose."""

    aliases = ("linalg_gemm2",)
    inputs = ("A", "B")
    transpose_a: bool = param(False, doc=f"{_TURN} A.")
    transpose_b: bool = param(False, doc=f"{_TURN} B.")
    alpha: float = param(1.0, doc="Factor of the product.")
    axis: int = param(-2, doc="The axis of the rows; columns are the last axis.")

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        return self.product_shapes(ins, outs)

    def forward(self, xp: Any, a: Any, b: Any) -> Any:
        return self.multiply(xp, a, b)

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        return self.factor_gradients(ins[0], ins[1], grads[0])


@register
class _linalg_syrk(Linalg):
    """``alpha * A x A^T``, or ``alpha * A^T x A``."""

    work = "matmul"
    aliases = ("linalg_syrk",)
    transpose: bool = param(False, doc="Put the transposed first.")
    alpha: float = param(1.0, doc="Factor of the product.")

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        if ins[0] is None:
            return ins, outs
        lead, rows, columns = matrix_axes(ins[0])
        side = columns if self.transpose else rows
        return ins, [(*lead, side, side)]

    def forward(self, xp: Any, a: Any) -> Any:
        t = a.swapaxes(-1, -2)
        made = xp.matmul(t, a) if self.transpose else xp.matmul(a, t)
        return made * made.dtype.type(self.alpha)

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        g = times(add(grads[0], turned(grads[0])), self.alpha)
        return [product(ins[0], g) if self.transpose else product(g, ins[0])]

    def cost(self, ins: Types, outs: Types) -> Cost:
        inner = ins[0].shape[-2 if self.transpose else -1]
        return Cost(2 * outs[0].size * inner, total_bytes(ins, outs))


class _Triangular(Linalg):
    """Shared by trmm and trsm: one factor is triangular, on either side, perhaps transposed."""

    work = "matmul"
    inputs = ("A", "B")
    transpose: bool = param(False, doc="Use the transposed of the triangular matrix.")
    rightside: bool = param(False, doc="The triangular matrix stands on the right.")
    lower: bool = param(True, doc="A is lower triangular, otherwise upper; the rest is not read.")
    alpha: float = param(1.0, doc="Factor of the result.")

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        a, b = square_shape(ins[0]), unify(ins[1], outs[0])
        if a is None or b is None:
            return [a, b], [b]
        lead, rows, columns = matrix_axes(b)
        side = columns if self.rightside else rows
        a = unify(a, (*lead, side, side), "shape of A")
        return [a, b], [b]

    def factor(self, xp: Any, a: Any) -> Any:
        """op(A): the triangle, transposed on demand."""
        t = xp.tril(a) if self.lower else xp.triu(a)
        return t.swapaxes(-1, -2) if self.transpose else t

    def masked(self, grad: Entry) -> Entry:
        """Graph maths: the gradient of op(A) as one of A."""
        return triangle(turned(grad) if self.transpose else grad, self.lower)

    def turned_op(self, a: Entry, g: Entry, alpha: float) -> Entry:
        """Graph maths: the same op with the transposed triangle."""
        flags = {"rightside": self.rightside, "lower": self.lower}
        return apply(self.name, a, g, transpose=not self.transpose, alpha=alpha, **flags)

    def cost(self, ins: Types, outs: Types) -> Cost:
        return Cost(outs[0].size * ins[0].shape[-1], total_bytes(ins, outs))


@register
class _linalg_trmm(_Triangular):
    """``alpha * op(A) x B`` or ``alpha * B x op(A)`` with a triangular A."""

    aliases = ("linalg_trmm",)

    def forward(self, xp: Any, a: Any, b: Any) -> Any:
        t = self.factor(xp, a)
        made = xp.matmul(b, t) if self.rightside else xp.matmul(t, b)
        return made * made.dtype.type(self.alpha)

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        (a, b), g = ins, times(grads[0], self.alpha)
        da = product(b, g, turn_a=True) if self.rightside else product(g, b, turn_b=True)
        return [self.masked(da), self.turned_op(a, grads[0], self.alpha)]


@register
class _linalg_trsm(_Triangular):
    """X with ``op(A) x X = alpha * B`` or ``X x op(A) = alpha * B``, for a triangular A."""

    aliases = ("linalg_trsm",)

    def forward(self, xp: Any, a: Any, b: Any) -> Any:
        # Neither numpy nor cupy has a batched triangular solver.
        t, right = self.factor(xp, a), b * b.dtype.type(self.alpha)
        if not self.rightside:
            return solved(xp, t, right)
        return solved(xp, t.swapaxes(-1, -2), right.swapaxes(-1, -2)).swapaxes(-1, -2)

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        (a, _), (x,) = ins, outs
        s = self.turned_op(a, grads[0], 1.0)
        da = product(x, s, turn_a=True) if self.rightside else product(s, x, turn_b=True)
        return [self.masked(times(da, -1.0)), times(s, self.alpha)]


def solved(xp: Any, a: Any, b: Any) -> Any:
    """X with ``a x X = b``; RuleError for a singular matrix (where the library finds out)."""
    try:
        return xp.linalg.solve(a, b)
    except np.linalg.LinAlgError as error:
        raise RuleError("the matrix cannot be inverted", got=str(error)) from None
