"""The number of threads that BLAS may use while kernels run.

Sums inside a matrix product depend on how it is split, so every runtime pins the same number.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import lru_cache
from typing import Any

from threadpoolctl import ThreadpoolController


def pinned(threads: int) -> AbstractContextManager[Any]:
    """A block in which every BLAS of this process uses `threads` threads."""
    block: AbstractContextManager[Any] = _controller().limit(limits=threads, user_api="blas")
    return block


@lru_cache(maxsize=1)
def _controller() -> ThreadpoolController:
    return ThreadpoolController()
