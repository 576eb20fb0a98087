"""Fleets: the workers' processes, whoever starts them, and the end of those that nobody closed."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import cache
from queue import Empty, SimpleQueue
from typing import Any, Protocol

from raysym.runtime.host import Site
from raysym.runtime.transport import Exchange


class Fleet(Protocol):
    """The workers' processes, whoever starts them."""

    names: tuple[str, ...]
    site: Site

    def call(self, method: str, args: Mapping[str, tuple[Any, ...]], timeout_s: float) -> Any:
        """Call a method on the workers named; results by worker. WorkerError names a dead one."""

    def start(self, method: str, args: Mapping[str, tuple[Any, ...]]) -> Any:
        """Begin a call; what `finish` and `answers` need."""

    def finish(self, calls: Any, timeout_s: float) -> Any:
        """The results of a call that was begun."""

    def answers(self, calls: Any) -> dict[str, Any]:
        """The results that are here; the next time only others. WorkerError names a dead worker."""

    def observe(self, names: Iterable[str]) -> Any:
        """Begin to take the pulse of workers from outside of their processes; for `answers`."""

    def join_by_mail(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Let the pairs of workers exchange arrays by actor calls."""

    def room(self) -> Mapping[str, float]:
        """Bytes of shared memory by node."""

    def close(self) -> None:
        """End the processes."""


# Finalizers run on any thread, in the middle of anything, so they only put into this queue.
dropped: SimpleQueue[tuple[Exchange, Fleet]] = SimpleQueue()


def end_dropped() -> None:
    """End the workers of runtimes that nobody closed, now and from now on."""
    _undertaker()
    gc.collect()
    with suppress(Empty):
        while True:
            _end(*dropped.get_nowait())


@cache
def _undertaker() -> threading.Thread:
    def work() -> None:
        while True:
            _end(*dropped.get())

    thread = threading.Thread(target=work, name="raysym-undertaker", daemon=True)
    thread.start()
    return thread


def _end(exchange: Exchange, fleet: Fleet) -> None:
    exchange.close()
    fleet.close()
