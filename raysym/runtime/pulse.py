"""Whether a process runs: its processor time and the states of its threads, as Linux shows them."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
_SHARE = 0.05  # of a processor: what a resting process may use for what goes on around it
# Threads of Ray itself, which answer others and compute nothing: the names that it gives them.
_RAYS = (
    "client.poll", "default-exec", "event_engine", "gcs_client", "grpc", "nexting_thread",
    "resolver-exec", "server.poll", "task_event", "timer_manager", "worker.io",
)  # fmt: skip


class Pulse(NamedTuple):
    """A process and its children at one moment.

    `cpu_s`: processor seconds of all, to a tick; `states`: a letter for each thread but Ray's: R
    runs or could, D is in the disk's hands, S sleeps, T was stopped.
    """

    at_s: float
    cpu_s: float
    states: str


def read_pulse(pid: int) -> Pulse:
    """The pulse of a process of this machine."""
    cpu_s, states = 0.0, ""
    for member in _family(pid):
        with suppress(OSError):  # gone meanwhile
            for task in Path(f"/proc/{member}/task").iterdir():
                states += "" if _is_rays(task) else _stat(task)[0]
            spent = _stat(Path(f"/proc/{member}"))[11:13]  # in user and in kernel mode
            cpu_s += sum(map(int, spent)) * _TICK_S
    return Pulse(time.monotonic(), cpu_s, states)


def is_at_rest(before: Pulse, now: Pulse) -> bool:
    """True when nothing of the process has run between the two, or could have run.

    A thread that waits for a processor on a busy machine is not at rest.
    """
    most = _SHARE * (now.at_s - before.at_s) + _TICK_S
    spent = now.cpu_s - before.cpu_s  # less than nothing when a child has ended
    is_running = bool({"R", "D"} & {*before.states, *now.states})
    return not is_running and 0 <= spent <= most


def _family(pid: int) -> Iterator[int]:
    found = [pid]
    while found:
        yield (member := found.pop())
        with suppress(OSError):
            for task in Path(f"/proc/{member}/task").iterdir():
                found += map(int, (task / "children").read_text().split())


def _is_rays(task: Path) -> bool:
    return (task / "comm").read_text().startswith(_RAYS)


def _stat(path: Path) -> list[str]:
    """The fields of a stat file from the state on: names may hold blanks and brackets."""
    return (path / "stat").read_text().rpartition(")")[2].split()
