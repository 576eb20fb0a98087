"""Bare loops for `runtime.py`: what is left of a pipeline step or a hop without any runtime."""

from __future__ import annotations

import multiprocessing
import socket
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from itertools import repeat
from queue import SimpleQueue
from threading import Thread
from typing import Any

import numpy as np

from benchmarks.runtime_nets import median, per_hop
from scheduler.pipeline import one_f_one_b

FORK = multiprocessing.get_context("fork")
HELD_NBYTES = 4096  # a pipe surely holds a step's messages of this size while nobody reads


# ----- pipelines


class Ahead:
    """Reads ahead in a thread, so that two who send to each other never wait for each other."""

    def __init__(self, connection: Any) -> None:
        self.send_bytes = connection.send_bytes
        self._got: SimpleQueue[bytes] = SimpleQueue()
        self.recv_bytes = self._got.get
        Thread(target=self._read, args=(connection.recv_bytes,), daemon=True).start()

    def _read(self, recv_bytes: Callable[[], bytes]) -> None:
        with suppress(EOFError, ConnectionError):  # the other end is gone: so is who would read
            while True:
                self._got.put(recv_bytes())


def _stage(left: Any, right: Any, order: Any, nbytes: int) -> None:
    if nbytes > HELD_NBYTES:
        left, right = Ahead(left), Ahead(right)
    while True:
        for action in order:
            source, target = (left, right) if action.kind == "F" else (right, left)
            got = source.recv_bytes()
            if not got:
                right.send_bytes(b"")
                return
            target.send_bytes((np.frombuffer(got, np.float32) * np.float32(1.0)).data.cast("B"))


def by_pipes(k: int, m: int, x: Any) -> tuple[Callable[[], Any], Callable[[], None]]:
    """A loop per stage over `multiprocessing` pipes: a pipeline step, and how to end it."""
    pipes = [FORK.Pipe() for _ in range(k + 1)]
    order = one_f_one_b(k, m)
    processes = [
        FORK.Process(
            target=_stage, args=(pipes[s][1], pipes[s + 1][0], order[s], x.nbytes), daemon=True
        )
        for s in range(k)
    ]
    for process in processes:
        process.start()
    first, last = pipes[0][0], pipes[k][1]
    if x.nbytes > HELD_NBYTES:
        first, last = Ahead(first), Ahead(last)
    payload = x.tobytes()

    def step() -> None:
        for _ in range(m):
            first.send_bytes(payload)
        for _ in range(m):
            last.send_bytes(last.recv_bytes())
        for _ in range(m):
            first.recv_bytes()

    def end() -> None:
        first.send_bytes(b"")
        for process in processes:
            process.join()

    return step, end


# ----- hops


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    """Both ends of a TCP connection within this machine."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        ours = socket.create_connection(server.getsockname())
        theirs, _ = server.accept()
    for end in (ours, theirs):
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return ours, theirs


PAIRS = {"pipe": socket.socketpair, "TCP": tcp_pair}


def bare_hop(kind: str, work: str, x: Any, n: int) -> float:
    """Seconds that one more hop adds to a blocking loop between two processes."""
    return per_hop(partial(_chain_s, kind, work, x, n))


def _chain_s(kind: str, work: str, x: Any, n: int, length: int) -> float:
    """Median seconds of a chain of an even number of visits to two processes in turn.

    One message is under way at a time and always read whole, so no buffer is too small.
    """
    (first, a_first), (a, b), (b_last, last) = (PAIRS[kind]() for _ in range(3))
    visits = length // 2
    relays = [
        FORK.Process(target=_relay, args=(*ways, work, x.size), daemon=True)
        for ways in (
            ([a_first, *repeat(a, visits - 1)], [a] * visits),
            ([b] * visits, [*repeat(b, visits - 1), b_last]),
        )
    ]
    for relay in relays:
        relay.start()
    result = np.empty_like(x)

    def step() -> None:
        first.sendall(x)
        _fill(result, last)

    seconds = median(step, n)
    for relay in relays:
        relay.kill()
    return seconds


def _relay(
    sources: list[socket.socket], targets: list[socket.socket], work: str, size: int
) -> None:
    got, made = np.empty(size, np.float32), np.empty(size, np.float32)
    while True:
        for source, target in zip(sources, targets, strict=True):
            _fill(got, source)
            target.sendall(got if work == "hand_on" else np.multiply(got, np.float32(1), out=made))


def _fill(array: Any, source: socket.socket) -> None:
    rest = array.data.cast("B")
    while rest:
        rest = rest[source.recv_into(rest, flags=socket.MSG_WAITALL) :]
