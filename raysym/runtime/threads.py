"""The number of threads that BLAS may use while kernels run.

Sums inside a matrix product depend on how it is split, so every runtime pins the same number.
"""

from __future__ import annotations

import importlib
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from typing import Any


def pinned(threads: int) -> AbstractContextManager[Any]:
    """A block in which every BLAS of this process uses `threads` threads.

    Where threadpoolctl is missing, as on a bare GPU machine, BLAS is left as it is.
    """
    controller = _controller()
    if controller is None:
        return nullcontext()
    block: AbstractContextManager[Any] = controller.limit(limits=threads, user_api="blas")
    return block


@lru_cache(maxsize=1)
def _controller() -> Any:
    try:
        return importlib.import_module("threadpoolctl").ThreadpoolController()
    except ImportError:
        return None
