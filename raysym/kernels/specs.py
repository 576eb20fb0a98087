"""Specs name kernels: a maker and its arguments, hashable and with one text; code is made once.

A maker is a function that writes the kernel of its arguments into an `Emit`.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from typing import Any, NamedTuple, TypeAlias

from raysym.kernels import llvm
from raysym.kernels.cache import DiskCache, source_digest
from raysym.kernels.emit import Emit
from scheduler.collector import collection_paused

Maker: TypeAlias = Callable[..., None]
MAKERS: dict[str, Maker] = {}
SHARED: set[str] = set()  # makers whose kernels several threads can share
_ALONE_S = 5e-6  # kernels that take less are one thread's
_FLOPS, _BYTES = 1e11, 2e10  # of one thread, in a second


class Spec(NamedTuple):
    """A kernel by the name of its maker and what that is given (ints, strings, tuples).

    `dtype` is that of the emitter's numbers; makers that mix dtypes name them in their arguments.
    """

    maker: str
    args: tuple[Any, ...]
    parts: int = 1  # threads that share it
    dtype: str = "float32"


def is_worth_sharing(spec: Spec, flops: float, nbytes: float) -> bool:
    """True when threads can share the kernel and it takes longer than for them to meet."""
    seconds = flops / _FLOPS + nbytes / _BYTES
    return spec.maker in SHARED and seconds > _ALONE_S


def maker(function: Maker) -> Maker:
    """Enter a maker under its own name."""
    MAKERS[function.__name__] = function
    return function


def shared_maker(function: Maker) -> Maker:
    """Enter a maker that writes kernels of any number of threads (see shared.py)."""
    SHARED.add(function.__name__)
    return maker(function)


@collection_paused()
def ir_text(spec: Spec) -> str:
    """The LLVM IR of a kernel."""
    e = Emit(spec.parts, spec.dtype)
    MAKERS[spec.maker](e, *spec.args)
    return e.text()


class Kernels:
    """Addresses of kernels, each made at most once in this process and once per disk cache.

    Machine code is kept under its IR and the host. A kernel's IR is a function of its spec and of
    this package's source: an index by these two spares a warm start from building it.
    """

    def __init__(self, cache: DiskCache) -> None:
        self.cache = cache
        self._addresses: dict[Spec, int] = {}

    def address(self, spec: Spec) -> int:
        """The address of a kernel, compiled now if it has never been."""
        if spec not in self._addresses:
            made = _Making(spec, self.cache)
            self._addresses[spec] = llvm.load(self.cache.get(made.key(), made.code))
        return self._addresses[spec]

    def is_missing(self, spec: Spec) -> bool:
        """True when neither this process nor the disk has the kernel."""
        if spec in self._addresses:
            return False
        made = _Making(spec, self.cache)
        return not (self.cache.has(made.index) and self.cache.has(made.key()))

    def code(self, spec: Spec) -> tuple[bytes, bytes]:
        """The digest of a kernel's IR and its machine code: what `keep` needs on a like host."""
        made = _Making(spec, self.cache)
        code = self.cache.get(made.key(), made.code)
        return made.digest(), code

    def keep(self, spec: Spec, digest: bytes, code: bytes) -> None:
        """Enter what `code` gave on a like host."""
        made = _Making(spec, self.cache)
        self.cache.get(made.index, lambda: digest)
        self.cache.get(made.key(), lambda: code)

    def offer(self, spec: Spec) -> None:
        """Compile a kernel for the disk, unless another process is at it."""
        made = _Making(spec, self.cache)
        self.cache.offer(made.key(), made.code)


class _Making:
    """One kernel on its way: its IR is built at most once, and only when it must be."""

    def __init__(self, spec: Spec, cache: DiskCache) -> None:
        self._spec, self._cache = spec, cache
        self.index = f"ir of {spec!r} by {source_digest()}"
        self._text = ""

    def text(self) -> str:
        self._text = self._text or ir_text(self._spec)
        return self._text

    def digest(self) -> bytes:
        """The digest of the IR."""
        return self._cache.get(self.index, lambda: sha256(self.text().encode()).digest())

    def key(self) -> str:
        """The key of the machine code: a digest of the IR, and the host."""
        return f"code of {self.digest().hex()} for {llvm.host()}"

    def code(self) -> bytes:
        return llvm.assemble(self.text())
