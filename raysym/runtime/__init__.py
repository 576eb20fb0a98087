"""Runtimes: they read plans and nothing else. `local` runs in-process, `ray` on actors."""

from __future__ import annotations

import importlib
from typing import Any

from raysym.errors import MXNetError
from raysym.runtime.local import LocalRuntime
from raysym.runtime.protocol import Runtime


def open_runtime(
    wanted: Any, threads: int = 1, transport: str | None = None, kernels: str = "reference"
) -> Runtime:
    """The runtime "local" or "ray", or `wanted` itself when it is a runtime.

    `transport`: how workers on Ray exchange arrays; None chooses by where they are. Ray is
    imported when it is first asked for, so that everything else works without it; so is llvmlite,
    for `kernels` "generated".
    """
    if kernels != "reference":
        return _with_generated_kernels(wanted, threads, kernels)
    if wanted == "local":
        return LocalRuntime(threads)
    if wanted == "ray":
        door = importlib.import_module("raysym.runtime.ray")
        made: Runtime = door.RayRuntime(threads, transport)
        return made
    if hasattr(wanted, "run") and hasattr(wanted, "load"):
        given: Runtime = wanted
        return given
    raise MXNetError(f"unknown runtime: got {wanted!r}, expected 'local', 'ray' or a Runtime")


def _with_generated_kernels(wanted: Any, threads: int, kernels: str) -> Runtime:
    if kernels != "generated":
        raise MXNetError(f"bind: kernels: got {kernels!r}, expected 'reference' or 'generated'")
    if wanted != "local":
        raise MXNetError(f"bind: kernels='generated': got runtime {wanted!r}, expected 'local'")
    made: Runtime = importlib.import_module("raysym.runtime.linked").LinkedRuntime(threads)
    return made


__all__ = ["LocalRuntime", "Runtime", "open_runtime"]
