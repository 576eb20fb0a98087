"""Runtimes: they read plans and nothing else. `local` runs in-process, `ray` on actors."""

from __future__ import annotations

import importlib
from typing import Any

from raysym.errors import MXNetError
from raysym.runtime.engines import Engines
from raysym.runtime.interpreter import INTERPRETED
from raysym.runtime.local import LocalRuntime
from raysym.runtime.protocol import Runtime


def open_runtime(
    wanted: Any,
    threads: int = 1,
    transport: str | None = None,
    engines: Engines = INTERPRETED,
) -> Runtime:
    """The runtime "local" or "ray", or `wanted` itself when it is a runtime.

    `transport`: how workers on Ray exchange arrays; None chooses by where they are. `engines`: what
    runs their programs. Ray is imported when it is first asked for, so that everything else works
    without it.
    """
    if wanted == "local":
        return LocalRuntime(threads, engines)
    if wanted == "ray":
        door = importlib.import_module("raysym.runtime.ray")
        made: Runtime = door.RayRuntime(threads, transport, engines)
        return made
    if hasattr(wanted, "run") and hasattr(wanted, "load"):
        given: Runtime = wanted
        return given
    raise MXNetError(f"unknown runtime: got {wanted!r}, expected 'local', 'ray' or a Runtime")


__all__ = ["LocalRuntime", "Runtime", "open_runtime"]
