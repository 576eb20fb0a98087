"""Peers of `runtime.py` are timed in processes of their own: one that hangs or fails is left out.

A Compiled Graph whose channels grew cannot be torn down within 30 s, and its actors spin: ending
its driver ends both.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import ray

from benchmarks.runtime_nets import Row

DEADLINE_S = 240.0


class PeerError(RuntimeError):
    """A peer gave no number, and why."""


def beside(name: str, what: str, n: int, measure: Callable[..., float], *given: Any) -> Row:
    """The row of a peer that does `what`: `measure(*given, n)` is a median of `n`."""
    try:
        return name, apart(measure, *given, n), f"{what}, median of {n}"
    except PeerError as error:
        return name, None, f"{what}, left out: {error}"


def apart(measure: Callable[..., float], *arguments: Any, deadline_s: float = DEADLINE_S) -> float:
    """What `measure` returns in another process, a driver of the same Ray; PeerError if nothing."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    address = ray.get_runtime_context().gcs_address if ray.is_initialized() else None
    process = context.Process(target=_answer, args=(theirs, address, measure, arguments))
    process.start()
    theirs.close()
    try:
        if not ours.poll(deadline_s):
            raise PeerError(f"no answer within {deadline_s:.0f} s")
        answer = ours.recv()
    except EOFError:
        raise PeerError("its process died") from None
    finally:
        _end(process)
    if isinstance(answer, str):
        raise PeerError(answer)
    return float(answer)


def _end(process: Any) -> None:
    """End the process and all that it started; both are of one group by then, or just begun."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.join()


def _answer(results: Any, address: str | None, measure: Callable[..., float], given: Any) -> None:
    os.setpgrp()  # no session of its own: Linux gives each session its share of the processors
    try:
        if address:
            # Even errors are not for the reader: a graph whose actors were ended says so at length.
            ray.init(address=address, log_to_driver=False, logging_level="critical")
        results.send(measure(*given))
    except Exception as error:
        (*_, last) = ["", *str(error).split("\n")]
        results.send(f"{type(error).__name__}: {last}")
