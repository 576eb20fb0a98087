"""Workers' processes as tests see them: what runs there, who lives, how they are stopped."""

from __future__ import annotations

import gc
import importlib
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

import raysym as mx

# Limits that executors promise: until a dead worker is named, until a stall is, and of `close`.
DEATH_S, STALL_S, CLOSE_S = 2.0, 5.0, 2.0
# Tests share their processors with whatever else runs, and slowness is no defect; what is one waits
# for a minute (the peers' patience), for five (a step's deadline), or for ever.
PATIENCE = 10.0


def on(executor: mx.Executor, worker: str, what: Callable[..., Any], *args: Any) -> Any:
    """What `what(host, *args)` returns in the worker's process, where this module is unknown."""
    ray = importlib.import_module("ray")
    ray.cloudpickle.register_pickle_by_value(sys.modules[what.__module__])
    return ray.get(executor._session.runtime._actors[worker].__ray_call__.remote(what, *args))


def pids_of(executor: mx.Executor) -> dict[str, int]:
    """The process of each worker."""
    ray = importlib.import_module("ray")
    actors = executor._session.runtime._actors
    return {name: ray.get(actor.process.remote()).pid for name, actor in actors.items()}


def alive(pid: int) -> bool:
    """True until the process has ended, though nobody may have taken note of it yet."""
    return state(Path(f"/proc/{pid}")) not in ("", "Z", "X")


def state(process: Path) -> str:
    """The letter that says what a process or thread does; nothing when there is none."""
    try:
        return (process / "stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def sockets(kind: str) -> set[str]:
    """Inodes of the sockets of a kind that this process has open: listed in /proc/net."""
    lines = [line.split() for line in Path(f"/proc/net/{kind}").read_text().splitlines()[1:]]
    inodes = {line[6] if kind == "unix" else line[9] for line in lines}
    return inodes & {link.removeprefix("socket:[").rstrip("]") for link in descriptors()}


def descriptors() -> list[str]:
    """What the descriptors of this process are."""
    found = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{fd}"))
        except FileNotFoundError:  # that of the listing itself
            continue
    return found


def listening(host: Any = None) -> list[tuple[int, Any]]:
    """Family and address of the sockets that take connections here, but for Ray's: not Python's."""
    found = [thing for thing in gc.get_objects() if type(thing) is socket.socket]
    asked = socket.SOL_SOCKET, socket.SO_ACCEPTCONN
    own = [sock for sock in found if sock.fileno() >= 0 and sock.getsockopt(*asked)]
    return [(int(sock.family), sock.getsockname()) for sock in own]


def eventually(what: Callable[[], bool]) -> bool:
    """What holds, at the latest after a minute: a loaded machine takes its time."""
    deadline = time.monotonic() + 60
    while not what() and time.monotonic() < deadline:
        time.sleep(0.05)
    return what()


@contextmanager
def within(limit_s: float) -> Iterator[None]:
    """Fail, rather than hang, when the block takes `PATIENCE` times a promised limit."""

    def late(*_: Any) -> None:
        pytest.fail(f"not done after {PATIENCE:g} times the {limit_s:g} s that are promised")

    before = signal.signal(signal.SIGALRM, late)
    # Again and again: somebody may wait for more while the first failure is on its way out.
    signal.setitimer(signal.ITIMER_REAL, PATIENCE * limit_s, limit_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)


def stop(pid: int) -> None:
    """Stop a process, and return when all of its threads stand still.

    The signal reaches one thread, which stops the others once it gets a processor; until then they
    run on, and may finish a whole step.
    """
    os.kill(pid, signal.SIGSTOP)
    tasks = Path(f"/proc/{pid}/task")
    assert eventually(lambda: all(state(task) in ("T", "") for task in tasks.iterdir()))


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """The process stands still within the block."""
    stop(pid)
    try:
        yield
    finally:
        with suppress(ProcessLookupError):  # killed meanwhile
            os.kill(pid, signal.SIGCONT)
