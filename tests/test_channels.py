"""Channels without processes: credit, slots, what may go wrong in the middle of a message."""

from __future__ import annotations

import gc
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from processes import sockets

from raysym.errors import StallError, WorkerError
from raysym.runtime.transport import ChannelClosed, Exchange, Key, Port
from raysym.runtime.transport.credit import Credit
from raysym.runtime.transport.protocol import CONTROL, SLOTS, WINDOW
from raysym.runtime.transport.ring import RingChannel
from raysym.runtime.transport.stream import StreamChannel

MIB = 1 << 20
S = 60.0  # more than anything here takes, on a loaded machine as well


def unix_pair() -> tuple[RingChannel, RingChannel]:
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    return RingChannel(left, "right"), RingChannel(right, "left")


def tcp_pair() -> tuple[StreamChannel, StreamChannel]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        left = socket.create_connection(server.getsockname())
        right, _ = server.accept()
    return StreamChannel(left, "right"), StreamChannel(right, "left")


def ring_pair() -> tuple[RingChannel, RingChannel]:
    left, right = unix_pair()
    block = np.zeros((SLOTS, 64 * 1024), np.uint8)
    right.set_peers_ring(block, left.set_own_ring(block))
    return left, right


@pytest.mark.parametrize("make", [unix_pair, tcp_pair, ring_pair])
@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), sizes=st.lists(st.integers(0, 60_000), max_size=12))
def test_any_sequence_of_arrays_arrives(make: Any, seed: int, sizes: list[int]) -> None:
    left, right = make()
    rng = np.random.default_rng(seed)
    sent = [rng.normal(size=n).astype(rng.choice(["f2", "f4", "f8"])) for n in sizes]
    got: dict[Key, Any] = {}
    for i, array in enumerate(sent):
        left.send(Key(0, i, "x"), array)
        while not left.flush() or len(got) <= i:
            got.update((key, np.array(a)) for key, a in right.receive())
            if not left.flush():
                left.receive()
    assert [got[Key(0, i, "x")].tobytes() for i in range(len(sent))] == [a.tobytes() for a in sent]
    left.close()
    with pytest.raises(ChannelClosed, match="left"):
        right.receive()
    right.close()


@pytest.mark.parametrize("n", [10, 8000])
def test_credit_rides_on_what_goes_the_other_way(n: int) -> None:
    left, right = ring_pair()
    back = np.zeros((SLOTS, 64 * 1024), np.uint8)
    left.set_peers_ring(back, right.set_own_ring(back))
    array = np.arange(n, dtype=np.float64)
    for i in range(3 * WINDOW):
        for one, other in ((left, right), (right, left)):
            assert one.send(Key(0, i, "x"), array)
            (found,) = other.receive()  # one message, and no other in between
            assert found[1].tobytes() == array.tobytes()
            del found
    assert left.receive() == right.receive() == []
    left.close()
    right.close()


@pytest.mark.parametrize("make", [unix_pair, ring_pair, tcp_pair])
@pytest.mark.parametrize("nbytes", [8, 4000, 8000, 32_000, 60_000])
def test_what_credit_allows_is_on_its_way_at_once(make: Any, nbytes: int) -> None:
    left, right = make()
    sent = 0
    while left.send(Key(0, sent, "x"), np.full(nbytes, sent, np.uint8)):
        sent += 1
        assert not left.needs_room
    assert sent >= (1 if nbytes > 32 * 1024 and make is unix_pair else SLOTS)
    left.close()
    right.close()


@pytest.fixture
def streams() -> Iterator[tuple[Exchange, Exchange]]:
    """Two exchanges of this process, joined by TCP: each has a pump."""
    left, right = Exchange("left", print), Exchange("right", print)
    one, other = tcp_pair()
    left.add(one)
    right.add(other)
    pumps = [left._pump, right._pump]
    yield left, right
    for exchange in (left, right):
        exchange.close()
        exchange.close()  # may be called twice
    for pump in pumps:
        assert pump is not None
        pump.thread.join(S)
        assert not pump.thread.is_alive()


LARGE = 24 * MIB  # more than the kernel takes without being read


def test_a_stream_does_not_wait_for_its_reader(streams: tuple[Exchange, Exchange]) -> None:
    left, right = streams
    right._pump.rest()  # type: ignore[union-attr]
    array = np.empty(LARGE, np.uint8)
    for i in range(SLOTS):
        array[:] = i
        left.send("right", Key(0, i, "x"), array, timeout_s=0.0)  # whoever waited would fail
    array[:] = 99
    with pytest.raises(StallError, match="room from right"):
        left.send("right", Key(0, SLOTS, "x"), array, timeout_s=0.0)
    for i in range(SLOTS):
        found = right.recv("left", Key(0, i, "x"), S)
        assert found[0] == found[-1] == i
    left.finish("right", S)
    assert right.recv("left", Key(0, SLOTS, "x"), S)[0] == 99


def test_a_stream_is_read_while_nobody_waits(streams: tuple[Exchange, Exchange]) -> None:
    left, right = streams
    left.send("right", Key(0, 0, "x"), np.ones(LARGE, np.uint8), S)
    inbox = right.channels["left"]._inbox  # type: ignore[attr-defined]
    for _ in range(int(S * 100)):
        if inbox:
            break
        time.sleep(0.01)
    assert [key for _, key, _ in inbox] == [Key(0, 0, "x")]
    assert right.recv("left", Key(0, 0, "x"), timeout_s=1.0).all()


def test_credit_that_the_pump_reads_wakes_who_waits_for_it(
    streams: tuple[Exchange, Exchange],
) -> None:
    left, right = streams
    reader = threading.Thread(
        target=lambda: [right.recv("left", Key(0, i, "x"), S) for i in range(40 * WINDOW)]
    )
    reader.start()
    for i in range(40 * WINDOW):
        left.send("right", Key(0, i, "x"), np.ones(3), S)
    reader.join()
    assert left.channels["right"].flush()


@pytest.mark.parametrize("make", [unix_pair, tcp_pair])
def test_the_last_words_of_a_peer_arrive_although_nothing_can_be_sent_to_it(make: Any) -> None:
    left, right = make()
    large, n = np.zeros(2 * MIB, np.uint8), 0
    while left.send(Key(0, n, "x"), large):
        n += 1
    for _ in range(200 * WINDOW):  # all that the kernel holds
        right.receive()
    assert right.send(Key(1, 0, "last"), np.ones(3))
    right.close()
    found = [key for _ in range(WINDOW) for key, _ in _received(left)]
    assert found == [Key(1, 0, "last")]
    with pytest.raises(ChannelClosed):
        left.receive()
    left.close()


def test_the_last_words_of_a_peer_arrive_behind_credit_that_cannot_be_used() -> None:
    left, right = ring_pair()
    large = np.ones(7000)
    for i in range(SLOTS + 1):  # the last one waits for a slot
        left.send(Key(0, i, "x"), large)
    for _ in range(SLOTS):
        right.receive()  # read and let go: slots are given back
    assert right.send(Key(1, 0, "last"), np.ones(3))
    right.close()
    found = [key for _ in range(2 * SLOTS) for key, _ in _received(left)]
    assert found == [Key(1, 0, "last")]
    left.close()


@pytest.mark.parametrize("make", [unix_pair, tcp_pair])
def test_an_exchange_that_another_thread_closes_says_so(make: Any) -> None:
    for pause_s in np.linspace(0.0, 0.002, 40):
        left, right = make()
        exchange = Exchange("left", print)
        exchange.add(left)

        def close(exchange: Exchange = exchange, pause_s: float = pause_s) -> None:
            time.sleep(pause_s)
            exchange.close()

        closing = threading.Thread(target=close)
        closing.start()
        with pytest.raises(ChannelClosed):
            _to_and_fro(exchange, right)
        closing.join()
        right.close()


def _to_and_fro(exchange: Exchange, right: Any) -> None:
    for i in range(10**6):
        right.send(Key(0, i, "x"), np.ones(3))
        exchange.recv("right", Key(0, i, "x"), S)
        exchange.send("right", Key(0, i, "y"), np.ones(3), S)
        right.receive()


def _received(channel: Any) -> list[Any]:
    try:
        return list(channel.receive())
    except ChannelClosed:
        return []


def test_what_cannot_be_given_back_is_owed_still() -> None:
    credit = Credit(WINDOW)
    credit.owed = 3
    credit.owed_slots.extend([2, 0])
    given = credit.give()
    assert (credit.owed, list(credit.owed_slots)) == (0, [])
    credit.keep(*given)
    assert (credit.owed, sorted(credit.owed_slots)) == (3, [0, 2])
    peer = Credit(WINDOW)
    peer.add_slots(range(3))
    peer.free.clear()
    peer.take_slots(credit.give()[1])
    assert sorted(peer.free) == [0, 2]


def test_slots_of_an_old_ring_are_not_given_back_to_the_new_one() -> None:
    left, right = ring_pair()
    large = np.ones(5000)
    assert left.send(Key(0, 0, "read"), large)
    right.receive()  # read and let go: the slot is owed
    assert left.send(Key(0, 1, "held"), large)
    ((_, old),) = right.receive()
    block = np.zeros((SLOTS, 64 * 1024), np.uint8)
    right.set_peers_ring(block, left.set_own_ring(block))
    assert left.send(Key(1, 0, "held"), 2 * large)
    ((_, held),) = right.receive()
    del old
    assert right.send(Key(1, 0, "small"), np.ones(3))  # takes along what is owed
    left.receive()
    for i in range(4 * SLOTS):
        assert left.send(Key(2, i, "x"), 3 * large)
        assert len(right.receive()) == 1
        left.receive()
    assert np.array_equal(held, 2 * large)
    left.close()
    right.close()


def test_an_order_behind_an_abort_is_handed_out() -> None:
    heard: list[int] = []

    def on_control(peer: str, key: Any, array: Any) -> None:
        heard.append(int(array[0]))
        if heard[-1] == 0:
            raise KeyError("aborted")

    left, right = tcp_pair()
    exchange = Exchange("right", on_control)
    exchange.add(right)
    for i in range(2):
        left.send(Key(i, 0, CONTROL), np.array([i]))
    with pytest.raises(KeyError, match="aborted"):
        exchange.wait(S)
    while len(heard) < 2:
        assert exchange.wait(S)
    assert heard == [0, 1]
    left.close()
    exchange.close()


@pytest.mark.parametrize("transport", ["object_store", "socket"])
def test_who_does_not_know_the_secret_is_turned_away(transport: str) -> None:
    port, friend, stranger = (
        Port(name, secret, "node", "127.0.0.1")
        for name, secret in (("host", b"s" * 32), ("friend", b"s" * 32), ("stranger", b"t" * 32))
    )
    accepted: list[Any] = []
    thread = threading.Thread(target=lambda: accepted.append(port.accept(S)))
    thread.start()
    with pytest.raises(WorkerError, match="cannot reach host"):
        stranger.open(port.address, "host", transport)
    channel = friend.open(port.address, "host", transport)
    thread.join()
    assert [one.peer for one in accepted] == ["friend"]
    for closable in (port, friend, stranger, channel, *accepted):
        closable.close()


def test_a_port_listens_on_its_own_address_only() -> None:
    port = Port("host", b"s" * 32, "node", "127.0.0.1")
    assert port._tcp.getsockname()[0] == "127.0.0.1"
    assert port._unix.getsockname()[:1] == b"\0"
    port.close()


def test_a_port_that_cannot_be_opened_leaves_no_socket() -> None:
    before = sockets("unix")
    with pytest.raises(OSError, match="assign"):
        Port("host", b"s" * 32, "node", "192.0.2.77")
    gc.collect()
    assert sockets("unix") <= before
