"""Runtimes: they read plans and nothing else. `local` runs in-process, `ray` on actors."""

from __future__ import annotations

import importlib
from typing import Any

from raysym.errors import MXNetError, sentence
from raysym.runtime.engines import Engines
from raysym.runtime.interpreter import INTERPRETED
from raysym.runtime.links import wanted_transports
from raysym.runtime.local import LocalRuntime
from raysym.runtime.protocol import DEADLINE_S, Runtime


def open_runtime(
    wanted: Any,
    threads: int = 1,
    transport: Any = None,
    engines: Engines = INTERPRETED,
    deadline_s: float = DEADLINE_S,
) -> Runtime:
    """The runtime "local" or "ray", or `wanted` itself when it is a runtime.

    `transport`: how workers on Ray exchange arrays, for all or by pair of contexts; None chooses by
    where they are. `engines`: what runs their programs. `deadline_s`: how long a step on Ray may
    take. Ray is imported when it is first asked for, so that everything else works without it.
    MXNetError for what is no runtime, transport, deadline or number of threads.
    """
    if not isinstance(threads, int) or isinstance(threads, bool) or threads < 1:
        raise MXNetError(sentence("threads", repr(threads), "a whole number from 1 on"))
    links = wanted_transports(transport)
    if not isinstance(deadline_s, (int, float)) or not deadline_s > 0:
        raise MXNetError(sentence("deadline_s", repr(deadline_s), "seconds, more than none"))
    if wanted == "local":
        return LocalRuntime(threads, engines)
    if wanted == "ray":
        door = importlib.import_module("raysym.runtime.ray")
        made: Runtime = door.RayRuntime(threads, links, engines, deadline_s)
        return made
    if hasattr(wanted, "run") and hasattr(wanted, "load"):
        given: Runtime = wanted
        return given
    raise MXNetError(f"unknown runtime: got {wanted!r}, expected 'local', 'ray' or a Runtime")


__all__ = ["LocalRuntime", "Runtime", "open_runtime"]
