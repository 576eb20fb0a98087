"""Specs name kernels: a maker and its arguments, hashable and with one text; code is made once.

A maker is a function that writes the kernel of its arguments into an `Emit`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

from raysym.kernels import llvm
from raysym.kernels.cache import DiskCache, source_digest
from raysym.kernels.emit import Emit

Maker: TypeAlias = Callable[..., None]
MAKERS: dict[str, Maker] = {}


class Spec(NamedTuple):
    """A kernel by the name of its maker and what that is given (ints, strings, tuples)."""

    maker: str
    args: tuple[Any, ...]


def maker(function: Maker) -> Maker:
    """Enter a maker under its own name."""
    MAKERS[function.__name__] = function
    return function


def ir_text(spec: Spec) -> str:
    """The LLVM IR of a kernel."""
    e = Emit()
    MAKERS[spec.maker](e, *spec.args)
    return e.text()


class Kernels:
    """Addresses of kernels, each made at most once in this process and once per disk cache."""

    def __init__(self, cache: DiskCache) -> None:
        self.cache = cache
        self._addresses: dict[Spec, int] = {}

    def address(self, spec: Spec) -> int:
        """The address of a kernel, compiled now if it has never been."""
        if spec not in self._addresses:
            key = f"{spec!r} {source_digest()} {llvm.host()}"
            code = self.cache.get(key, lambda: llvm.assemble(ir_text(spec)))
            self._addresses[spec] = llvm.load(code)
        return self._addresses[spec]
