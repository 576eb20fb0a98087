"""Python's in-place operators for arrays: which op each runs, with the array itself as target."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Self


class InPlace(ABC):
    """``+= -= *= /= %= **=`` in terms of `_binary`."""

    __slots__ = ()

    @abstractmethod
    def _binary(self, other: Any, op: str, scalar_op: str, out: Any) -> Self:
        """Run `op` with an array or `scalar_op` with a number and write the result into `out`."""

    def __iadd__(self, other: Any) -> Self:
        return self._binary(other, "elemwise_add", "_plus_scalar", self)

    def __isub__(self, other: Any) -> Self:
        return self._binary(other, "elemwise_sub", "_minus_scalar", self)

    def __imul__(self, other: Any) -> Self:
        return self._binary(other, "elemwise_mul", "_mul_scalar", self)

    def __itruediv__(self, other: Any) -> Self:
        return self._binary(other, "elemwise_div", "_div_scalar", self)

    def __imod__(self, other: Any) -> Self:
        return self._binary(other, "_mod", "_mod_scalar", self)

    def __ipow__(self, other: Any) -> Self:
        return self._binary(other, "_power", "_power_scalar", self)
