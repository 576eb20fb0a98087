"""All transports between real processes: same arrays, same limits, and a death that is noticed."""

from __future__ import annotations

import os
import secrets
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from raysym.runtime.links import Links
from raysym.runtime.orders import DRIVER
from raysym.runtime.transport import (
    OBJECT_STORE,
    TRANSPORTS,
    ChannelClosed,
    Exchange,
    Key,
    Port,
)
from raysym.runtime.transport.protocol import SLOTS, WINDOW

A, B = "cpu:0", "cpu:1"
MIB = 1 << 20
S = 60.0  # more than anything here takes, on a loaded machine as well

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_session")]


@dataclass
class Pair:
    """Two workers joined by one transport; `do` runs a function on the exchange of one."""

    fleet: Any
    exchange: Exchange
    transport: str

    def do(self, name: str, what: Callable[..., Any], *args: Any) -> Any:
        import ray

        return ray.get(self.begin(name, what, *args), timeout=S)

    def begin(self, name: str, what: Callable[..., Any], *args: Any) -> Any:
        import ray

        ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
        actor = self.fleet.actors[name]
        return actor.__ray_call__.remote(lambda host, *rest: what(host._exchange, *rest), *args)

    def close(self) -> None:
        self.fleet.close()
        self.exchange.close()


def join(transport: str) -> Pair:
    """Two workers; what cannot be joined is closed, lest its sockets trouble later tests."""
    from raysym.runtime.ray import RayFleet

    secret = secrets.token_bytes(32)
    fleet = RayFleet((A, B), 1, secret)
    pair = Pair(fleet, Exchange(DRIVER, print), transport)
    try:
        with closing(Port(DRIVER, secret, fleet.site.node, fleet.site.host)) as port:
            connect(pair, port)
        if transport == OBJECT_STORE:
            rings = {A: ({}, {}, {}, {B: (SLOTS, MIB)}), B: ({}, {}, {}, {A: (SLOTS, MIB)})}
            made = fleet.call("load", rings, S)
            fleet.call("attach", {A: ({B: made[B][A]},), B: ({A: made[A][B]},)}, S)
    except BaseException:
        pair.close()
        raise
    return pair


def connect(pair: Pair, port: Port) -> None:
    addresses = pair.fleet.call("address", {A: (), B: ()}, S)
    links = Links.between(addresses, port.address, pair.transport)
    calls = pair.fleet.start("connect", links.calls(addresses))
    for name, address in addresses.items():
        pair.exchange.add(port.open(address, name, links.to_driver(name)))
    pair.fleet.finish(calls, S)
    pair.fleet.join_by_mail(links.by_mail())


@pytest.fixture(scope="module", params=TRANSPORTS)
def pair(request: pytest.FixtureRequest, ray_session: None) -> Iterator[Pair]:
    made = join(request.param)
    yield made
    made.close()


def send(exchange: Exchange, to: str, key: Key, array: Any) -> None:
    exchange.send(to, key, array, S)


def take(exchange: Exchange, source: str, *keys: Key) -> list[Any]:
    return [np.array(exchange.recv(source, key, S)) for key in keys]


ARRAYS = {
    "scalar": np.float32(1.5) * np.ones((), np.float32),
    "empty": np.empty((0, 3)),
    "bool": np.array([True, False, True]),
    "half": np.arange(6, dtype=np.float16).reshape(2, 3),
    "strided": np.arange(24, dtype=np.int32).reshape(4, 6)[::2, ::3],
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "40 KiB": np.arange(10240, dtype=np.float32),
    "a slot": np.arange(MIB // 8, dtype=np.float64).reshape(2, -1),
    "many slots": np.arange(5 * MIB // 4 + 3, dtype=np.float32),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_an_array_arrives_as_it_was(pair: Pair, name: str) -> None:
    key = Key(1, 0, name)
    pair.begin(A, send, B, key, ARRAYS[name])
    (got,) = pair.do(B, take, A, key)
    assert got.dtype == ARRAYS[name].dtype
    assert got.shape == ARRAYS[name].shape
    assert got.tobytes() == ARRAYS[name].tobytes()


def test_messages_are_found_by_step_micro_batch_entry_and_attempt(pair: Pair) -> None:
    keys = [Key(2, 0, "x"), Key(2, 1, "x"), Key(3, 0, "x"), Key(2, 0, "y"), Key(2, 0, "x", 1)]
    for i, key in enumerate(keys):
        pair.do(B, send, A, key, np.array([i]))
    assert [int(x[0]) for x in pair.do(A, take, B, *keys[::-1])] == [4, 3, 2, 1, 0]


def send_until_full(exchange: Exchange, to: str, nbytes: int, at_most: int) -> int:
    """How many messages went out before credit ran out."""
    channel, array = exchange.channels[to], np.zeros(nbytes, np.uint8)
    for i in range(at_most):
        if not channel.send(Key(5, i, "flood"), array):
            return i
    return at_most


def take_flood(exchange: Exchange, source: str, n: int) -> int:
    for i in range(n):
        exchange.recv(source, Key(5, i, "flood"), S)
    return n


def finish(exchange: Exchange, to: str) -> None:
    exchange.finish(to, S)


@pytest.mark.parametrize("nbytes", [100, MIB])
def test_credit_bounds_what_is_under_way(pair: Pair, nbytes: int) -> None:
    sent = pair.do(A, send_until_full, B, nbytes, 3 * WINDOW)
    assert 1 <= sent <= (SLOTS if nbytes == MIB else WINDOW)
    rest = pair.begin(A, finish, B)  # the last message still waits for credit
    assert pair.do(B, take_flood, A, sent + 1) == sent + 1
    import ray

    assert ray.get(rest, timeout=S) is None


def exchange_floods(exchange: Exchange, peer: str, n: int, nbytes: int) -> int:
    for i in range(n):
        exchange.send(peer, Key(6, i, "flood"), np.full(nbytes, i % 251, np.uint8), S)
    got = [exchange.recv(peer, Key(6, i, "flood"), S) for i in range(n)]
    return sum(bool((array == i % 251).all()) for i, array in enumerate(got))


@pytest.mark.parametrize(("n", "nbytes"), [(3 * WINDOW, 2000), (4 * SLOTS, MIB)])
def test_two_that_send_at_once_do_not_block_each_other(pair: Pair, n: int, nbytes: int) -> None:
    left = pair.begin(A, exchange_floods, B, n, nbytes)
    assert pair.do(B, exchange_floods, A, n, nbytes) == n
    import ray

    assert ray.get(left, timeout=S) == n


def hold_while_others_pass(exchange: Exchange, source: str, n: int) -> bool:
    first = exchange.recv(source, Key(7, 0, "kept"), S).reshape(-1)[1:]
    for i in range(1, n):
        exchange.recv(source, Key(7, i, "kept"), S)
    return bool((first == 100).all())


def send_many(exchange: Exchange, to: str, n: int) -> None:
    for i in range(n):
        exchange.send(to, Key(7, i, "kept"), np.full((2, MIB // 2), 100 + i, np.uint8), S)


def test_a_view_that_is_held_is_not_overwritten(pair: Pair) -> None:
    sending = pair.begin(A, send_many, B, 5 * SLOTS)
    assert pair.do(B, hold_while_others_pass, A, 5 * SLOTS)
    import ray

    ray.get(sending, timeout=S)


def test_messages_of_forgotten_steps_are_dropped(pair: Pair) -> None:
    pair.do(A, send, B, Key(8, 0, "old"), np.ones(3))
    pair.do(A, send, B, Key(9, 0, "new"), np.ones(3))
    pair.do(B, lambda exchange: exchange.forget_before(9))
    assert len(pair.do(B, take, A, Key(9, 0, "new"))) == 1
    assert pair.do(B, lambda exchange: len(exchange._arrived)) == 0


def wait_for_death(exchange: Exchange, peer: str) -> str:
    try:
        exchange.recv(peer, Key(1, 0, "never"), S)
    except ChannelClosed as closed:
        return closed.peer
    return "nobody"


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_killed_peer_closes_the_channel(transport: str) -> None:
    pair = join(transport)
    try:
        pid = pair.do(B, lambda exchange: os.getpid())
        waiting = pair.begin(A, wait_for_death, B)
        os.kill(pid, signal.SIGKILL)
        import ray

        assert ray.get(waiting, timeout=S) == B
    finally:
        pair.close()
