"""Python's operators for symbols and arrays: which op each stands for, and how nodes are named."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Self


class Arithmetic(ABC):
    """``+ - * / % **``, comparisons, unary minus and abs, in terms of `_combine`.

    Two operands need equal shapes; ``broadcast_add`` and its kin broadcast.
    """

    __slots__ = ()

    @abstractmethod
    def _combine(self, other: Any, hint: str, op: str, scalar_hint: str, scalar_op: str) -> Self:
        """`op` of this and another of its kind, or `scalar_op` of this and a number.

        Symbols name the node after the hint that belongs to it.
        """

    def __add__(self, other: Any) -> Self:
        return self._combine(other, "_plus", "elemwise_add", "_plusscalar", "_plus_scalar")

    def __sub__(self, other: Any) -> Self:
        return self._combine(other, "_minus", "elemwise_sub", "_minusscalar", "_minus_scalar")

    def __rsub__(self, other: Any) -> Self:
        return self._combine(other, "_minus", "elemwise_sub", "_rminusscalar", "_rminus_scalar")

    def __mul__(self, other: Any) -> Self:
        return self._combine(other, "_mul", "elemwise_mul", "_mulscalar", "_mul_scalar")

    def __truediv__(self, other: Any) -> Self:
        return self._combine(other, "_div", "elemwise_div", "_divscalar", "_div_scalar")

    def __rtruediv__(self, other: Any) -> Self:
        return self._combine(other, "_div", "elemwise_div", "_rdivscalar", "_rdiv_scalar")

    def __mod__(self, other: Any) -> Self:
        return self._combine(other, "_mod", "_mod", "_modscalar", "_mod_scalar")

    def __rmod__(self, other: Any) -> Self:
        return self._combine(other, "_mod", "_mod", "_rmodscalar", "_rmod_scalar")

    def __pow__(self, other: Any) -> Self:
        return self._combine(other, "_power", "_power", "_powerscalar", "_power_scalar")

    def __rpow__(self, other: Any) -> Self:
        return self._combine(other, "_power", "_power", "_rpower_scalar", "_rpower_scalar")

    __radd__ = __add__
    __rmul__ = __mul__

    def __neg__(self) -> Self:
        return self * -1.0

    def _compare(self, other: Any, op: str) -> Self:
        return self._combine(other, op, op, f"{op}_scalar", f"{op}_scalar")

    def __eq__(self, other: object) -> Self:  # type: ignore[override]
        return self._compare(other, "_equal")

    def __ne__(self, other: object) -> Self:  # type: ignore[override]
        return self._compare(other, "_not_equal")

    def __gt__(self, other: Any) -> Self:
        return self._compare(other, "_greater")

    def __ge__(self, other: Any) -> Self:
        return self._compare(other, "_greater_equal")

    def __lt__(self, other: Any) -> Self:
        return self._compare(other, "_lesser")

    def __le__(self, other: Any) -> Self:
        return self._compare(other, "_lesser_equal")
