"""Teams: threads that run one table of kernels together, and wait in machine code in between.

All threads go through the same rows: those of shared kernels by all, others by the caller alone.
Where a row may touch what another thread touches, they meet first. Who waits spins for a moment,
then gives way to others; who has no work for longer sleeps until the next table.
"""

from __future__ import annotations

import ctypes
import os
import threading
import weakref
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from raysym.kernels import llvm
from raysym.kernels.team_code import HELPERS, LINE, SLOTS, STOP, team_text


class _Functions(NamedTuple):
    """Addresses of the machine code."""

    meet: int
    alone: int
    run: int
    serve: int


@lru_cache(maxsize=1)
def _functions() -> _Functions:
    return _Functions(*llvm.addresses(llvm.assemble(team_text()), *_Functions._fields))


@lru_cache(maxsize=1)
def table_runner() -> Any:
    """``run(address of rows, number of rows)`` on this thread; lets others run meanwhile."""
    kind = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)
    return kind(_functions().alone)


class Team:
    """`threads` threads: the caller and its helpers, which end with `close` or with the team.

    One table at a time; after a fork the child gets helpers of its own.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._lock = threading.Lock()
        self._run = _called(_functions().run, ctypes.c_void_p, ctypes.c_int64)
        self._crew: _Crew | None = None
        self._pid = 0

    def run(self, rows: int, count: int) -> None:
        """Run a table through; returns when all threads have."""
        with self._lock:
            crew = self._crew
            if crew is None or self._pid != os.getpid():
                crew = self._start()
            self._run(crew.address, rows, count)

    def close(self) -> None:
        """End the helpers; the next table starts new ones."""
        if self._crew is not None and self._pid == os.getpid():
            self._end()
        self._crew = None

    def _start(self) -> _Crew:
        crew = _Crew(self.threads)
        self._crew, self._pid = crew, os.getpid()
        self._end = weakref.finalize(self, crew.end, self._pid)
        return crew


class _Crew:
    """Memory of a team and its helpers. They do not know the team, so that it can be forgotten."""

    def __init__(self, threads: int) -> None:
        raw = np.zeros(HELPERS + LINE * (threads + 1), np.int64)
        self._numbers = raw[-raw.ctypes.data % 64 // 8 :]
        self.address = int(self._numbers.ctypes.data)
        libc = ctypes.CDLL(None)
        given = {"meet": _functions().meet, "parts": threads, "yield": _address(libc.sched_yield),
                 "read": _address(libc.read), "write": _address(libc.write)}  # fmt: skip
        for name, number in given.items():
            self._numbers[SLOTS[name]] = number
        # A pipe for each: who sleeps again early must not read what is to wake another.
        self._pipes = [os.pipe() for _ in range(1, threads)]
        for part, pipe in enumerate(self._pipes, 1):
            at = HELPERS + LINE * part
            self._numbers[at + 1 : at + 3] = pipe
        self._helpers = [self._helper(part) for part in range(1, threads)]

    def _helper(self, part: int) -> threading.Thread:
        serve = _called(_functions().serve, ctypes.c_int64)
        helper = threading.Thread(
            target=serve, args=(self.address, part), name=f"raysym-kernels-{part}", daemon=True
        )
        helper.start()
        return helper

    def end(self, pid: int) -> None:
        """Send the helpers home; in a forked child there are none."""
        if pid == os.getpid():
            _called(_functions().run, ctypes.c_void_p, ctypes.c_int64)(self.address, None, STOP)
            for helper in self._helpers:
                helper.join()
        for pipe in self._pipes:
            for end in pipe:
                os.close(end)


def _called(address: int, *kinds: Any) -> Any:
    return ctypes.CFUNCTYPE(None, ctypes.c_void_p, *kinds)(address)


def _address(function: Any) -> int:
    found = ctypes.cast(function, ctypes.c_void_p).value
    assert found is not None
    return found
