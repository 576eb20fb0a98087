"""A fleet: the processes that workers live in, as the driver sees them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from raysym.runtime.host import Site


class Fleet(Protocol):
    """The workers' processes, whoever starts them."""

    names: tuple[str, ...]
    site: Site

    def call(self, method: str, args: Mapping[str, tuple[Any, ...]], timeout_s: float) -> Any:
        """Call a method on the workers named; results by worker. WorkerError names a dead one."""

    def start(self, method: str, args: Mapping[str, tuple[Any, ...]]) -> Any:
        """Begin a call; what `finish` needs."""

    def finish(self, calls: Any, timeout_s: float) -> Any:
        """The results of a call that was begun."""

    def join_by_mail(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Let the pairs of workers exchange arrays by actor calls."""

    def room(self) -> Mapping[str, float]:
        """Bytes of shared memory by node."""

    def close(self) -> None:
        """End the processes."""
