"""Constants of kernels, kept: most of a kernel's text is theirs, written once for each object."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from raysym.kernels.llvm import ir


@lru_cache(maxsize=4096)
def whole(kind: Any, n: int) -> Any:
    """An integer."""
    return ir.Constant(kind, n)


@lru_cache(maxsize=4096)
def lanes_constant(kind: Any, *lanes: int) -> Any:
    """A vector of integers or truths."""
    return ir.Constant(kind, list(lanes))


@lru_cache(maxsize=4096)
def repeated(kind: Any, x: float, sign: float) -> Any:
    """A vector of `x`; the sign tells zeros apart, which are equal."""
    return ir.Constant(kind, [x] * kind.count)
