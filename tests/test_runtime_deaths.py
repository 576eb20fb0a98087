"""A worker is killed at any instruction, within one, or while it rests: the driver names it."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from processes import DEATH_S, on, pids_of, within

import raysym as mx
from raysym.planning.plan import Free, Program, Recv, Run, Send
from raysym.runtime.interpreter import Phase
from raysym.runtime.transport import TRANSPORTS

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_session")]
WORKERS = ("cpu:0", "cpu:1", "cpu:2")


def bound(transport: str | None = None) -> mx.Executor:
    """Three stages, forward and backward, on two micro-batches; all that travels is large.

    On Ray, or in this process without a transport.
    """
    x = mx.sym.Variable("data")
    for i in range(3):
        with mx.AttrScope(ctx_group=f"g{i}"):
            x = mx.sym.tanh(x, name=f"tanh{i}")
            if i == 2:
                x = mx.sym.MakeLoss(x, name="loss")
    where = {"group2ctx": {f"g{i}": mx.cpu(i) for i in range(3)}, "micro_batches": 2}
    where |= {"runtime": "local"} if transport is None else {"runtime": "ray"}
    return x.simple_bind(mx.cpu(), data=(8, 5000), transport=transport, **where)


def die(*_: Any) -> None:
    os.kill(os.getpid(), 9)


def die_at(host: Any, position: int) -> None:
    """Die before the instruction at `position`, or after the last one."""

    class Bomb:
        name, random = "Bomb", False

        def forward(self, xp: Any) -> Any:
            die()

    program = list(host._engine.programs["step"])
    program.insert(position, Run(("_",), Bomb(), ()))
    host._engine.phases["step"] = Phase(host._worker, tuple(program))


def die_in_receive(host: Any, n: int) -> None:
    """Die while waiting for the `n`-th message."""
    _after(host._exchange, "recv", n)


def die_in_send(host: Any, n: int) -> None:
    """Die with half of the `n`-th message on its way."""
    for channel in host._exchange.channels.values():
        if hasattr(channel, "_post"):
            _after(channel, "_post", n)
        else:
            channel._sock = _HalfSocket(channel._sock, n)


def _after(owner: Any, method: str, n: int) -> None:
    left, original = [n], getattr(owner, method)

    def count(*args: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            die()
        return original(*args)

    setattr(owner, method, count)


class _HalfSocket:
    """A socket that takes half of a message, and then its process is gone."""

    def __init__(self, sock: Any, n: int) -> None:
        self._sock, self._left = sock, n

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def sendmsg(self, parts: Any) -> int:
        self._count()
        return int(self._sock.sendmsg(parts))

    def send(self, data: Any, flags: int = 0) -> int:
        if self._left == 0:
            self._sock.send(bytes(data)[: len(data) // 2])
        self._count()
        return int(self._sock.send(data, flags))

    def _count(self) -> None:
        self._left -= 1
        if self._left < 0:
            die()


def steps(executor: mx.Executor, n: int) -> None:
    for _ in range(n):
        executor.step()


def assert_named(executor: mx.Executor, victim: str) -> None:
    """The step fails with the victim's name, so does the next one, and nothing hangs."""
    with within(DEATH_S):
        with pytest.raises(mx.WorkerError, match=f"worker {victim} died"):
            steps(executor, 6)
        with pytest.raises(mx.WorkerError, match=f"cannot go on: worker {victim} died"):
            executor.step()


def assert_death_is_named(transport: str, victim: str, position: int) -> None:
    with bound(transport) as executor:
        executor.step()
        on(executor, victim, die_at, position)
        assert_named(executor, victim)


def program_of(victim: str) -> Program:
    """What a worker runs in a step: the same on Ray as in this process."""
    with bound() as executor:
        executor.step()
        return executor._session.mode("step")[1].programs[victim]["step"]


@pytest.mark.sweep
@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("victim", WORKERS)
def test_a_death_at_every_instruction_is_named(victim: str, transport: str) -> None:
    for position in range(len(program_of(victim)) + 1):
        assert_death_is_named(transport, victim, position)


@pytest.mark.parametrize("victim", WORKERS)
def test_a_death_at_each_kind_of_instruction_is_named(victim: str) -> None:
    """Before one of each kind, and after the last; the transports take turns."""
    number = WORKERS.index(victim)
    rng = np.random.default_rng(number)
    program = [*program_of(victim), None]
    for turn, kind in enumerate((Run, Send, Recv, Free, type(None)), number):
        places = [at for at, what in enumerate(program) if type(what) is kind]
        assert_death_is_named(TRANSPORTS[turn % 3], victim, int(rng.choice(places)))


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("arm", [die_in_receive, die_in_send])
def test_a_death_within_a_message_is_named(transport: str, arm: Callable[..., None]) -> None:
    rng = np.random.default_rng(TRANSPORTS.index(transport))
    victim = WORKERS[int(rng.integers(3))]
    with bound(transport) as executor:
        executor.step()
        on(executor, victim, arm, int(rng.integers(3)))
        assert_named(executor, victim)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_death_while_all_rest_is_named(transport: str) -> None:
    with bound(transport) as executor:
        executor.step()
        os.kill(pids_of(executor)["cpu:1"], 9)
        assert_named(executor, "cpu:1")


def test_a_death_in_a_stream_is_named() -> None:
    with bound("object_store") as executor:
        executor.step()
        on(executor, "cpu:1", die_at, 4)
        with within(DEATH_S), pytest.raises(mx.WorkerError, match="worker cpu:1 died"):
            list(executor.run([{}] * 6))
