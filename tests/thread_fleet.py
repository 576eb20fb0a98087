"""Workers as threads of this process: what pretends to be a device is here, with its values."""

from __future__ import annotations

import os
import time
import weakref
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as LateError
from functools import partial
from typing import Any

import numpy as np

from raysym.errors import StallError
from raysym.runtime.engines import Engines
from raysym.runtime.host import Host, Site
from raysym.runtime.pulse import read_pulse


class Memory:
    """Blocks of this process; a handle is the block itself."""

    def __init__(self) -> None:
        self._blocks: list[weakref.ref[Any]] = []

    def allocate(self, nbytes: int) -> tuple[Any, Any]:
        block = np.zeros(nbytes, np.uint8)
        self._blocks.append(weakref.ref(block))
        return block, block

    @property
    def nbytes(self) -> int:
        """What is still in use."""
        return sum(block.nbytes for ref in self._blocks if (block := ref()) is not None)

    def open(self, handle: Any) -> Any:
        return handle


class ThreadFleet:
    """See `fleet.Fleet`."""

    def __init__(
        self, names: tuple[str, ...], threads: int, secret: bytes, engines: Engines, limit_s: float
    ) -> None:
        self.names, self.site = names, Site("here", "127.0.0.1", Memory())
        self._pool = ThreadPoolExecutor(4 * len(names))
        self.hosts = {
            name: Host(name, threads, secret, lambda: self.site, engines, limit_s) for name in names
        }

    def call(self, method: str, args: Mapping[str, tuple[Any, ...]], timeout_s: float) -> Any:
        return self.finish(self.start(method, args), timeout_s)

    def start(self, method: str, args: Mapping[str, tuple[Any, ...]]) -> dict[str, Future[Any]]:
        return {n: self._pool.submit(getattr(self.hosts[n], method), *a) for n, a in args.items()}

    def finish(self, calls: dict[str, Future[Any]], timeout_s: float) -> dict[str, Any]:
        deadline = time.monotonic() + timeout_s
        try:
            return {n: c.result(max(0.0, deadline - time.monotonic())) for n, c in calls.items()}
        except LateError:
            raise StallError(f"no answer within {timeout_s:g} s") from None

    def answers(self, calls: dict[str, Future[Any]]) -> dict[str, Any]:
        return {name: calls.pop(name).result() for name, call in [*calls.items()] if call.done()}

    def observe(self, names: Iterable[str]) -> dict[str, Future[Any]]:
        return {name: self._pool.submit(read_pulse, os.getpid()) for name in names}

    def join_by_mail(self, pairs: Iterable[tuple[str, str]]) -> None:
        for one, other in pairs:
            self.hosts[one].add_mail(other, partial(self.hosts[other].deliver, one))

    def room(self) -> Mapping[str, float]:
        return {}

    def close(self) -> None:
        self._pool.shutdown()  # the loops end when the driver's channels do
