"""The global seed and the count of draws, and generators that depend on nothing else.

A generator is a Philox stream keyed by (seed, key, step), so a number drawn for a node is the
same on every device and in every order of execution.
"""

from __future__ import annotations

import hashlib
import threading

import numpy as np

from raysym.context import Context


class _State:
    """Shared by all threads, like MXNet's: two threads never draw the same numbers."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.seed = 0
        self.draws = 0


_state = _State()


def seed(seed_state: int, ctx: str | Context = "all") -> None:
    """Start all random numbers anew. `ctx` is accepted for compatibility: all devices draw alike.

    TypeError unless `seed_state` is an int.
    """
    if isinstance(seed_state, bool) or not hasattr(seed_state, "__index__"):
        raise TypeError(f"random.seed: got {seed_state!r}, expected an int")
    with _state.lock:
        _state.seed, _state.draws = int(seed_state), 0


def next_draw() -> tuple[int, int]:
    """The seed and the number of draws made since it was set; counts one more."""
    with _state.lock:
        count = _state.draws
        _state.draws += 1
        return _state.seed, count


def generator(seed: int, key: str, step: int) -> np.random.Generator:
    """The stream of random numbers that belongs to (seed, key, step)."""
    return np.random.Generator(np.random.Philox(key=stream_key(seed, key, step)))


def stream_key(seed: int, key: str, step: int) -> np.ndarray:
    """The key of that stream as Philox takes it: two words of 64 bits."""
    digest = hashlib.blake2b(f"{seed}\0{key}\0{step}".encode(), digest_size=16).digest()
    return np.frombuffer(digest, np.uint64)
