"""Pausing Python's garbage collector while large graphs and schedules are made."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collection_paused() -> Iterator[None]:
    """A block without garbage collection.

    What makes a graph of n nodes or places it makes many times n small objects, nearly all of
    which stay: looking for garbage among them again and again takes longer than the work itself.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
