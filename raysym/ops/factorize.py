"""Matrix decompositions, determinants and inverses, with the gradients of arXiv:1710.08717.

Matrices that cannot be factorized are refused where the library notices (on a GPU: NaN).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from raysym.errors import RuleError
from raysym.graph import Entry, apply
from raysym.op import Cost, Entries, Grads, Shapes, Types, register, total_bytes
from raysym.ops.linalg import Linalg, matrix_axes, product, square_shape, triangle, turned
from raysym.ops.maths import add, mul, neg, reshape_like, square, sub, times
from raysym.types import unify


def attempt(routine: Callable[..., Any], *matrices: Any) -> Any:
    """What the routine returns; a matrix that it cannot handle becomes a RuleError."""
    try:
        return routine(*matrices)
    except np.linalg.LinAlgError as error:
        raise RuleError(f"the matrix cannot be factorized ({error})") from None


def copy_lower(a: Entry) -> Entry:
    """Graph maths: the symmetric matrix that has the lower triangle of `a`."""
    return add(triangle(a), turned(triangle(a, offset=-1)))


def turned_solve(lower: Entry, b: Entry, rightside: bool = False, transpose: bool = True) -> Entry:
    """Graph maths: ``L^-T x b``, or ``b x L^-1``, for a lower triangular L."""
    return apply("_linalg_trsm", lower, b, transpose=transpose, rightside=rightside)


class _Square(Linalg):
    """Shared by ops from square matrices to square matrices."""

    work = "matmul"

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        shape = square_shape(unify(ins[0], outs[0]))
        return [shape], [shape]

    def cost(self, ins: Types, outs: Types) -> Cost:
        return Cost(ins[0].size * ins[0].shape[-1], total_bytes(ins, outs))


class _Number(Linalg):
    """Shared by ops that make one number of every matrix; a single matrix gives shape (1,)."""

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        shape = square_shape(ins[0])
        if shape is None:
            return ins, outs
        return [shape], [shape[:-2] or (1,)] * len(outs)

    def cost(self, ins: Types, outs: Types) -> Cost:
        return Cost(ins[0].size * ins[0].shape[-1], total_bytes(ins, outs))


def spread(number: Entry, axes: int) -> Entry:
    """Graph maths: one number a matrix with `axes` new last axes of length 1."""
    for _ in range(axes):
        number = apply("expand_dims", number, axis=-1)
    return number


@register
class _linalg_potrf(_Square):
    """Cholesky factor: the lower triangular L with ``A = L x L^T``; only A's lower half is read."""

    aliases = ("linalg_potrf",)

    def forward(self, xp: Any, a: Any) -> Any:
        return attempt(xp.linalg.cholesky, a)

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        lower = outs[0]
        middle = copy_lower(product(lower, grads[0], turn_a=True))
        left = turned_solve(lower, middle)
        return [times(turned_solve(lower, left, rightside=True, transpose=False), 0.5)]


@register
class _linalg_potri(_Square):
    """Inverse of ``L x L^T`` for a lower triangular L, as potrf makes it."""

    aliases = ("linalg_potri",)

    def forward(self, xp: Any, a: Any) -> Any:
        inverse = attempt(xp.linalg.inv, xp.tril(a))
        return xp.matmul(inverse.swapaxes(-1, -2), inverse)

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        # With P = (L L^T)^-1: dP = -P (dL L^T + L dL^T) P.
        both = add(grads[0], turned(grads[0]))
        right = product(product(outs[0], both), product(outs[0], triangle(ins[0])))
        return [neg(triangle(right))]


@register
class _linalg_inverse(_Square):
    """The inverse of every square matrix."""

    aliases = ("linalg_inverse",)

    def forward(self, xp: Any, a: Any) -> Any:
        return attempt(xp.linalg.inv, a)

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        inverse = outs[0]
        return [neg(product(product(inverse, grads[0], turn_a=True), inverse, turn_b=True))]


@register
class _linalg_sumlogdiag(_Number):
    """Sum of the logarithms of the diagonal of every matrix."""

    aliases = ("linalg_sumlogdiag",)

    def forward(self, xp: Any, a: Any) -> Any:
        made = xp.log(a.diagonal(0, -2, -1)).sum(axis=-1)
        return made.reshape(a.shape[:-2] or (1,))

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        diagonal = apply("_linalg_extractdiag", ins[0])
        each = apply("broadcast_div", spread(grads[0], 1), diagonal)
        return [reshape_like(apply("_linalg_makediag", each), ins[0])]


def times_inverse(number: Entry, a: Entry) -> Entry:
    """Graph maths: ``number * A^-T`` for every matrix."""
    inverse = turned(apply("_linalg_inverse", a))
    return reshape_like(apply("broadcast_mul", spread(number, 2), inverse), a)


@register
class _linalg_det(_Number):
    """Determinant of every square matrix."""

    aliases = ("linalg_det",)
    outputs = ("output0",)

    def n_stored(self) -> int:
        """MXNet keeps the LU factors and pivots as hidden outputs."""
        return 3

    def forward(self, xp: Any, a: Any) -> Any:
        return xp.linalg.det(a).reshape(a.shape[:-2] or (1,)).astype(a.dtype, copy=False)

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        return [times_inverse(mul(grads[0], outs[0]), ins[0])]


@register
class _linalg_slogdet(_Number):
    """Sign and logarithm of the absolute value of the determinant of every square matrix."""

    aliases = ("linalg_slogdet",)
    outputs = ("output0", "output1")

    def n_stored(self) -> int:
        """MXNet keeps the LU factors and pivots as hidden outputs."""
        return 4

    def forward(self, xp: Any, a: Any) -> Any:
        shape = a.shape[:-2] or (1,)
        return tuple(v.reshape(shape).astype(a.dtype, copy=False) for v in xp.linalg.slogdet(a))

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        return [times_inverse(grads[1], ins[0])]


@register
class _linalg_gelqf(Linalg):
    """LQ factorization ``A = L x Q``: rows of Q are orthonormal, L is lower triangular.

    Shapes: A ``(..., m, n)`` with m <= n, Q ``(..., m, n)``, L ``(..., m, m)``.
    """

    work = "matmul"
    aliases = ("linalg_gelqf",)
    outputs = ("output0", "output1")

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        a = unify(ins[0], outs[0])
        if a is None:
            return ins, outs
        lead, rows, columns = matrix_axes(a)
        if rows and columns and rows > columns:
            raise RuleError("A has more rows than columns", got=a, expected="rows <= columns")
        return [a], [a, (*lead, rows, rows)]

    def forward(self, xp: Any, a: Any) -> Any:
        q, r = xp.linalg.qr(a.swapaxes(-1, -2))
        return q.swapaxes(-1, -2), r.swapaxes(-1, -2)

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        (q, lower), (dq, dl) = outs, grads
        middle = sub(product(lower, dl, turn_a=True), product(dq, q, turn_b=True))
        return [turned_solve(lower, add(dq, product(copy_lower(middle), q)))]

    def cost(self, ins: Types, outs: Types) -> Cost:
        return Cost(2 * ins[0].size * ins[0].shape[-2], total_bytes(ins, outs))


@register
class _linalg_syevd(Linalg):
    """Eigenvectors (rows of U) and eigenvalues L, ascending: ``A = U^T x diag(L) x U``.

    Only the lower half of the symmetric A is read. The largest component of every eigenvector
    (the first one of equals) is positive.
    """

    work = "matmul"
    outputs = ("output0", "output1")

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        a = square_shape(unify(ins[0], outs[0]))
        return [a], [a, None if a is None else a[:-1]]

    def forward(self, xp: Any, a: Any) -> Any:
        values, vectors = attempt(xp.linalg.eigh, a)
        rows = vectors.swapaxes(-1, -2)
        # Libraries leave the sign of eigenvectors to chance.
        place = xp.expand_dims(xp.argmax(xp.abs(rows), axis=-1), -1)
        return rows * xp.sign(xp.take_along_axis(rows, place, -1)), values

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        (u, values), (du, dvalues) = outs, grads
        # Eigenvectors turn into each other, the faster the closer their values are.
        rotation = mul(apply("_eigen_gaps", values), product(u, du, turn_b=True))
        inner = add(apply("_linalg_makediag", dvalues), rotation)
        made = product(product(u, inner, turn_a=True), u)
        return [times(add(made, turned(made)), 0.5)]

    def cost(self, ins: Types, outs: Types) -> Cost:
        return Cost(9 * ins[0].size * ins[0].shape[-1], total_bytes(ins, outs))


@register
class _eigen_gaps(Linalg):
    """``1 / (values[j] - values[i])`` for all pairs; 0 for equal ones."""

    internal = True
    inputs = ("data",)

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        values = ins[0]
        return ins, [None if not values else (*values, values[-1])]

    def forward(self, xp: Any, values: Any) -> Any:
        gaps = values[..., None, :] - values[..., :, None]
        apart = gaps != 0
        return xp.where(apart, 1 / xp.where(apart, gaps, 1), 0)

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        pairs = mul(grads[0], square(outs[0]))
        return [sub(apply("sum", pairs, axis=-1), apply("sum", pairs, axis=-2))]
