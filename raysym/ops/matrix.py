"""Products of matrices: dot, batch_dot, and the column-wise Khatri-Rao product."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from raysym.errors import RuleError
from raysym.graph import Entry, apply
from raysym.op import Cost, Entries, Grads, Op, Shapes, Types, make_op, register, total_bytes
from raysym.params import param
from raysym.types import PartialShape, unify

_STYPES = ("None", "default", "csr", "row_sparse")


def contract(xp: Any, a: Any, b: Any) -> Any:
    """``a @ b``; numpy and cupy add up float16 products in float16 or wider: here in float32."""
    if a.dtype == "float16":
        return xp.matmul(a.astype("float32"), b.astype("float32")).astype("float16")
    return xp.matmul(a, b)


@register
class dot(Op):
    """Matrix product: the last axis of `lhs` against the first axis of `rhs`.

    Shapes: ``(..., k) x (k, ...) -> (..., ...)``; two vectors give ``(1,)``. A transposed `lhs` of
    rank above 2 has its first axis moved to the end, a transposed `rhs` its last one to the front.
    """

    kinds = "fiu"
    work = "matmul"
    inputs = ("lhs", "rhs")
    transpose_a: bool = param(False, doc="Contract the first axis of lhs instead of the last.")
    transpose_b: bool = param(False, doc="Contract the last axis of rhs instead of the first.")
    forward_stype: str = param("None", choices=_STYPES, doc="Accepted; all storage is dense.")

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        lhs, rhs = ins
        if lhs is None or rhs is None:
            return ins, outs
        if not lhs or not rhs:
            raise RuleError(
                "scalars have no product", got=f"{lhs} and {rhs}", expected="an axis each"
            )
        if len(lhs) == len(rhs) == 1 and (self.transpose_a or self.transpose_b):
            raise RuleError(
                "vectors cannot be transposed", got=f"{lhs} x {rhs}", expected="matrices"
            )
        rest_a, k_a = _off_end(lhs, self.transpose_a)
        k_b, rest_b = _off_front(rhs, self.transpose_b)
        if k_a and k_b and k_a != k_b:
            raise RuleError("contracted dimensions differ", got=f"{lhs} x {rhs}", expected="equal")
        return ins, [(*rest_a, *rest_b) or (1,)]

    def forward(self, xp: Any, lhs: Any, rhs: Any) -> Any:
        rest_a, k = _off_end(lhs.shape, self.transpose_a)
        _, rest_b = _off_front(rhs.shape, self.transpose_b)
        a = lhs.reshape(k, -1).T if self.transpose_a else lhs.reshape(-1, k)
        b = rhs.reshape(-1, k).T if self.transpose_b else rhs.reshape(k, -1)
        return contract(xp, a, b).reshape((*rest_a, *rest_b) or (1,))

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        flags = {"transpose_a": self.transpose_a, "transpose_b": self.transpose_b}
        return [
            apply("_backward_dot", grads[0], ins[1], ins[0], side="lhs", **flags),
            apply("_backward_dot", grads[0], ins[0], ins[1], side="rhs", **flags),
        ]

    def cost(self, ins: Types, outs: Types) -> Cost:
        k = ins[0].shape[0 if self.transpose_a else -1]
        return Cost(2 * outs[0].size * k, total_bytes(ins, outs))


def _off_end(shape: Sequence[int], transposed: bool) -> tuple[Sequence[int], int]:
    """The free dimensions of a left factor and the contracted one."""
    return (shape[1:], shape[0]) if transposed else (shape[:-1], shape[-1])


def _off_front(shape: Sequence[int], transposed: bool) -> tuple[int, Sequence[int]]:
    """The contracted dimension of a right factor and its free ones."""
    return (shape[-1], shape[:-1]) if transposed else (shape[0], shape[1:])


def product_gradients(
    op: str, a: Entry, b: Entry, g: Entry, transpose_a: bool, transpose_b: bool, **params: Any
) -> list[Entry]:
    """Gradients of both matrix factors of ``op(a, b)``, through the same op."""

    def product(x: Entry, y: Entry, turn_x: bool, turn_y: bool) -> Entry:
        return apply(op, x, y, transpose_a=turn_x, transpose_b=turn_y, **params)

    return [
        product(b, g, transpose_b, True) if transpose_a else product(g, b, False, not transpose_b),
        product(g, a, True, transpose_a) if transpose_b else product(a, g, not transpose_a, False),
    ]


@register
class _backward_dot(Op):
    """The gradient of one factor of `dot` from the head gradient and the other factor.

    Bilinear in both, for any ranks; two matrices specialize into plain `dot`.
    """

    work = "matmul"
    internal = True
    inputs = ("grad", "other", "like")
    shape_only = ("like",)
    side: str = param(choices=("lhs", "rhs"), doc="Which factor's gradient this is.")
    transpose_a: bool = param(False, doc="As in dot.")
    transpose_b: bool = param(False, doc="As in dot.")

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        shape = unify(ins[2], outs[0])
        pair = [shape, ins[1]] if self.side == "lhs" else [ins[1], shape]
        _, (grad,) = make_op("dot", self._flags()).infer_shape(pair, [None])
        return [unify(ins[0], grad, "shape of the head gradient"), ins[1], shape], [shape]

    def _flags(self) -> dict[str, bool]:
        return {"transpose_a": self.transpose_a, "transpose_b": self.transpose_b}

    def forward(self, xp: Any, grad: Any, other: Any, like: Any) -> Any:
        if self.side == "lhs":
            k, rest = _off_front(other.shape, self.transpose_b)
            b = other.reshape(-1, k) if self.transpose_b else other.reshape(k, -1).T
            made = contract(xp, grad.reshape(-1, math.prod(rest)), b)
            return (made.T if self.transpose_a else made).reshape(like.shape)
        rest, k = _off_end(other.shape, self.transpose_a)
        a = other.reshape(k, -1) if self.transpose_a else other.reshape(-1, k).T
        made = contract(xp, a, grad.reshape(math.prod(rest), -1))
        return (made.T if self.transpose_b else made).reshape(like.shape)

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        (g, other, _), (h,), flags = ins, grads, self._flags()
        pair = (h, other) if self.side == "lhs" else (other, h)
        turned = "rhs" if self.side == "lhs" else "lhs"
        dg = apply("dot", *pair, **flags)
        return [dg, apply("_backward_dot", g, h, other, side=turned, **flags), None]

    def specialize(self, ins: Entries, types: Types, outs: Types) -> Entry | None:
        if any(len(t.shape) != 2 for t in types):
            return None
        flags = (self.transpose_a, self.transpose_b)
        if self.side == "lhs":
            return product_gradients("dot", ins[2], ins[1], ins[0], *flags)[0]
        return product_gradients("dot", ins[1], ins[2], ins[0], *flags)[1]

    def cost(self, ins: Types, outs: Types) -> Cost:
        # The three arrays have m n, k n and m k elements.
        work = (ins[0].size * ins[1].size * outs[0].size) ** 0.5
        return Cost(2 * work, total_bytes(ins[:2], outs))


@register
class batch_dot(Op):
    """Matrix product of the last two axes, for every index of the axes before them.

    Shapes: ``(..., m, k) x (..., k, n) -> (..., m, n)`` with equal leading axes, at least one.
    """

    kinds = "fiu"
    work = "matmul"
    inputs = ("lhs", "rhs")
    transpose_a: bool = param(False, doc="Transpose the matrices of lhs.")
    transpose_b: bool = param(False, doc="Transpose the matrices of rhs.")
    forward_stype: str = param("None", choices=_STYPES, doc="Accepted; all storage is dense.")

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        return product_shapes(ins, outs, self.transpose_a, self.transpose_b, min_rank=3)

    def forward(self, xp: Any, lhs: Any, rhs: Any) -> Any:
        a = lhs.swapaxes(-1, -2) if self.transpose_a else lhs
        b = rhs.swapaxes(-1, -2) if self.transpose_b else rhs
        return contract(xp, a, b)

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        flags = (self.transpose_a, self.transpose_b)
        return product_gradients("batch_dot", ins[0], ins[1], grads[0], *flags)

    def cost(self, ins: Types, outs: Types) -> Cost:
        k = ins[0].shape[-2 if self.transpose_a else -1]
        return Cost(2 * outs[0].size * k, total_bytes(ins, outs))


def product_shapes(
    ins: Shapes, outs: Shapes, transpose_a: bool, transpose_b: bool, min_rank: int
) -> tuple[Shapes, Shapes]:
    """Shape rule of a batched matrix product ``(..., m, k) x (..., k, n)``."""
    a, b = ins
    if a is None or b is None:
        return ins, outs
    if len(a) != len(b) or len(a) < min_rank:
        raise RuleError("ranks do not fit", got=f"{a} x {b}", expected=f"equal, >= {min_rank}")
    lead = unify(a[:-2], b[:-2], "leading axes")
    m, k = a[-2:][:: -1 if transpose_a else 1]
    j, n = b[-2:][:: -1 if transpose_b else 1]
    if k and j and k != j:
        raise RuleError("contracted dimensions differ", got=f"{a} x {b}", expected="equal")
    return [a, b], [(*(lead or ()), m, n)]


@register
class khatri_rao(Op):
    """Column-wise Khatri-Rao product: column j is the Kronecker product of all columns j.

    Shapes: ``(m_i, k)`` for every input, output ``(m_1 * m_2 * ..., k)``.
    """

    inputs = ("args",)
    variadic = "num_args"
    num_args: int = param(low=1, doc="Number of matrices.")

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        columns: PartialShape = None
        for shape in ins:
            if shape is not None and len(shape) != 2:
                raise RuleError("all inputs are matrices", got=shape, expected="two axes")
            columns = unify(columns, shape[1:] if shape else None, "number of columns")
        known = [shape for shape in ins if shape is not None]
        if len(known) < len(ins) or columns is None:
            return ins, outs
        rows = [shape[0] for shape in known]
        return [(r, *columns) for r in rows], [(math.prod(rows), *columns)]

    def forward(self, xp: Any, *matrices: Any) -> Any:
        made = matrices[0]
        for matrix in matrices[1:]:
            made = (made[:, None, :] * matrix[None, :, :]).reshape(-1, made.shape[1])
        return made
