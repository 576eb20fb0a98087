"""Compiling many kernels with all processors of this node.

llvmlite compiles one module at a time in a process, so helpers are processes. They share the work
through the claims of the disk cache, also with other workers of the node that link just now.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import IO, Any

from raysym.kernels.cache import DiskCache
from raysym.kernels.specs import Kernels, Spec

LEAST = 12  # kernels for which it pays to start a helper: that costs as much as four of them
_HELP_S = 60.0
_HELPER = (
    "import pickle, sys; sys.path[:] = pickle.load(sys.stdin.buffer); "
    "import raysym.kernels.link, raysym.kernels.compilers as c; c.help_out(sys.stdin.buffer)"
)


def compile_all(kernels: Kernels, specs: Iterable[Spec], processes: int = 0) -> None:
    """Make the kernels that are missing, in `processes` processes; 0: one for each processor."""
    missing = [spec for spec in dict.fromkeys(specs) if kernels.is_missing(spec)]
    processes = processes or len(os.sched_getaffinity(0))
    n_helpers = min(processes, len(missing) // LEAST + 1) - 1
    if n_helpers <= 0:
        return
    helpers: list[Any] = []
    try:
        with kernels.cache.slot(processes):
            helpers += [_start(kernels.cache, missing, processes) for _ in range(n_helpers)]
            for spec in missing:
                kernels.offer(spec)
        for spec in missing:  # waits for what the helpers are at
            kernels.address(spec)
    finally:  # a kernel that cannot be made must leave no process behind
        for helper in helpers:
            _end(helper)


def help_out(stream: IO[bytes]) -> None:
    """A helper's work; none where enough processes of the node are at it."""
    folder, nbytes, processes, specs = pickle.load(stream)
    kernels = Kernels(DiskCache(folder, nbytes))
    with kernels.cache.slot(processes) as has_slot:
        for spec in reversed(specs if has_slot else ()):  # from the other end than who asked
            kernels.offer(spec)


def _start(cache: DiskCache, specs: Sequence[Spec], processes: int) -> Any:
    what = cache.folder, cache.nbytes, processes, list(specs)
    told = pickle.dumps(sys.path) + pickle.dumps(what)
    with suppress(OSError):  # no helper: whoever asked does the work
        helper = subprocess.Popen(
            [sys.executable, "-c", _HELPER],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        assert helper.stdin is not None
        with suppress(OSError), helper.stdin as pipe:
            pipe.write(told)
        return helper


def _end(helper: Any) -> None:
    if helper is not None:
        try:
            helper.wait(_HELP_S)
        except subprocess.TimeoutExpired:
            helper.kill()
            helper.wait()
