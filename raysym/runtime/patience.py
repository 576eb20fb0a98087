"""Patience: how long the driver waits for workers, and what it takes for a stall."""

from __future__ import annotations

import time
from collections.abc import Callable
from math import inf
from typing import Any

from raysym.errors import StallError
from raysym.runtime.diagnosis import Watch
from raysym.runtime.transport import Exchange

PROBE_S = 0.5  # how often silent workers are asked what they wait for
HURRY_S = 1.5  # how long the last results may take to be brought home, all together
CLOSED = "it was closed"  # why what was under way is given up then, by whichever thread


class Patience:
    """Waits as long as things move or somebody computes, but not for ever."""

    def __init__(self, exchange: Exchange, deadline_s: float) -> None:
        self._exchange, self._deadline_s = exchange, deadline_s
        self._end_s = inf  # when all waiting ends, by the monotonic clock

    @property
    def is_hurried(self) -> bool:
        """True since `hurry`."""
        return self._end_s < inf

    def hurry(self) -> None:
        """From now on what is awaited comes soon or not at all."""
        self._end_s = min(self._end_s, time.monotonic() + HURRY_S)

    def wait(
        self, watch: Watch, attempt: Callable[[float], Any], timeout_s: float | None = None
    ) -> Any:
        """The result of `attempt(seconds)`, made again until the deadline, usually that of a step.

        StallError when the watch sees a stall, or it lasts too long; WorkerError names a dead one.
        """
        timeout_s = timeout_s or self._deadline_s
        deadline, moved = time.monotonic() + timeout_s, self._exchange.events
        while True:
            left = min(deadline, self._end_s) - time.monotonic()
            try:
                return attempt(max(0.0, min(PROBE_S, left)))
            except StallError:
                if self._exchange.events != moved:
                    moved = self._exchange.events
                    watch.restart()
            why = watch.look()
            if not why and left <= 0:
                why = CLOSED if self._end_s < deadline else watch.account(timeout_s)
            if why:
                raise StallError(why)
