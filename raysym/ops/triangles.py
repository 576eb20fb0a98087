"""Diagonals and triangles of square matrices taken out and put back, last axis packed."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from raysym.errors import RuleError
from raysym.graph import apply
from raysym.op import Entries, Grads, Shapes, register
from raysym.ops.diagonal import diagonal_length, diagonal_matrices
from raysym.ops.linalg import Linalg, square_shape
from raysym.params import param

_OFFSET = "Which diagonal: above the main one if positive, below if negative."


class _Diagonal(Linalg):
    """Shared by the two ops on one diagonal."""

    offset: int = param(0, doc=_OFFSET)


@register
class _linalg_extractdiag(_Diagonal):
    """One diagonal of every square matrix: ``(..., n, n) -> (..., n - |offset|)``."""

    aliases = ("linalg_extractdiag",)

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        a = square_shape(ins[0])
        if a is None:
            return ins, outs
        return [a], [(*a[:-2], a[-1] and diagonal_length(a[-1], a[-1], self.offset))]

    def forward(self, xp: Any, a: Any) -> Any:
        return a.diagonal(self.offset, -2, -1)

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        return [apply("_linalg_makediag", grads[0], offset=self.offset)]


@register
class _linalg_makediag(_Diagonal):
    """Matrices with one diagonal given: ``(..., n) -> (..., m, m)`` with m = n + |offset|."""

    aliases = ("linalg_makediag",)

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        a = ins[0]
        if not a:
            return ins, outs
        side = a[-1] and a[-1] + abs(self.offset)
        return ins, [(*a[:-1], side, side)]

    def forward(self, xp: Any, a: Any) -> Any:
        side = a.shape[-1] + abs(self.offset)
        return diagonal_matrices(xp, a, side, side, self.offset)

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        return [apply("_linalg_extractdiag", grads[0], offset=self.offset)]


class _Triangle(Linalg):
    """Shared by the two ops on triangles, which begin at a diagonal and are packed by rows.

    An upper triangle is packed as the lower one of the transposed matrix.
    """

    offset: int = param(0, doc=f"{_OFFSET} It decides the triangle, unless it is 0.")
    lower: bool = param(True, doc="The lower triangle, otherwise the upper; for offset 0 only.")

    def places(self, size: int) -> tuple[Any, Any]:
        """Rows and columns of the packed triangle of a matrix with a diagonal of this size."""
        rows, columns = np.tril_indices(size)
        shift = abs(self.offset)
        if self.offset > 0 or (self.offset == 0 and not self.lower):
            return columns, rows + shift
        return rows + shift, columns


@register
class _linalg_extracttrian(_Triangle):
    """A triangle of every square matrix, packed: ``(..., n, n) -> (..., m (m + 1) / 2)``.

    m is ``n - |offset|``.
    """

    aliases = ("linalg_extracttrian",)

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        a = square_shape(ins[0])
        if a is None:
            return ins, outs
        size = a[-1] and diagonal_length(a[-1], a[-1], self.offset)
        return [a], [(*a[:-2], size * (size + 1) // 2)]

    def forward(self, xp: Any, a: Any) -> Any:
        rows, columns = self.places(a.shape[-1] - abs(self.offset))
        flat = a.reshape(*a.shape[:-2], -1)
        return xp.take(flat, xp.asarray(rows * a.shape[-1] + columns), axis=-1)

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        return [apply("_linalg_maketrian", grads[0], **self.given())]


@register
class _linalg_maketrian(_Triangle):
    """Square matrices from a packed triangle, zeros elsewhere: inverse of extracttrian."""

    aliases = ("linalg_maketrian",)

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        a = ins[0]
        if not a:
            return ins, outs
        side = a[-1] and triangle_size(a[-1]) + abs(self.offset)
        return ins, [(*a[:-1], side, side)]

    def forward(self, xp: Any, a: Any) -> Any:
        size = triangle_size(a.shape[-1])
        rows, columns = self.places(size)
        side = size + abs(self.offset)
        made = xp.zeros((*a.shape[:-1], side, side), a.dtype)
        made[..., xp.asarray(rows), xp.asarray(columns)] = a
        return made

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        return [apply("_linalg_extracttrian", grads[0], **self.given())]


def triangle_size(length: int) -> int:
    """Side of the triangle that `length` numbers fill; RuleError if there is none."""
    size = (math.isqrt(8 * length + 1) - 1) // 2
    if size * (size + 1) // 2 != length:
        raise RuleError("the last axis is no packed triangle", got=length, expected="m (m + 1) / 2")
    return size
