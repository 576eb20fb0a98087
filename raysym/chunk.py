"""Storage that arrays share: one block of memory, a version number, perhaps a newer remote copy."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from raysym.context import Context, cpu

Pull: TypeAlias = "Callable[[], np.ndarray[Any, Any]]"

_stale: weakref.WeakSet[Chunk] = weakref.WeakSet()


class Chunk:
    """The memory behind one or more NDArrays.

    `data` is a C-contiguous numpy or cupy array that is never replaced, so views into it stay
    valid. `version` grows whenever the content changes, here or on a worker: an executor that
    remembers it knows whether it must push the content again.
    """

    __slots__ = ("__weakref__", "_pull", "_wait", "ctx", "data", "version")

    def __init__(self, data: Any, ctx: Context | None = None) -> None:
        self.data = data
        self.ctx = ctx or cpu()
        self.version = 0
        self._pull: Pull | None = None
        self._wait: Callable[[], object] | None = None

    @property
    def is_stale(self) -> bool:
        """True while a worker holds newer content than `data`."""
        return self._pull is not None

    def mark_stale(self, pull: Pull, wait: Callable[[], object] | None = None) -> None:
        """Say that the content lives elsewhere now: `pull` fetches it when somebody reads.

        `pull` returns a host array of the same size and dtype; what it raises reaches the reader,
        and the chunk stays stale. `wait`, if given, waits for the content without fetching it.
        """
        self._pull, self._wait = pull, wait
        self.version += 1
        _stale.add(self)

    def read(self) -> Any:
        """`data` with its newest content."""
        if self._pull is not None:
            self._store(self._pull())
            self._settle()
        return self.data

    def write(self, view: Any, value: Any, key: Any = ()) -> None:
        """``view[key] = value`` for a `view` into `data`.

        Newer remote content is fetched first, unless the write replaces all of it.
        """
        if self._pull is not None:
            if view.size == self.data.size and key == ():
                view[...] = value
                self._settle()
                self.version += 1
                return
            self.read()
        view[key] = value
        self.version += 1

    def wait(self) -> None:
        """Return when the content is ready, wherever it is; raises what its computation raised."""
        if self._wait is not None:
            self._wait()
        else:
            self.read()

    def _store(self, content: Any) -> None:
        if isinstance(self.data, np.ndarray):
            self.data[...] = content.reshape(self.data.shape)
        else:
            self.data.set(np.ascontiguousarray(content).reshape(self.data.shape))

    def _settle(self) -> None:
        self._pull = self._wait = None
        _stale.discard(self)


def wait_all() -> None:
    """Return when the content of every array is ready."""
    for chunk in list(_stale):
        chunk.wait()
