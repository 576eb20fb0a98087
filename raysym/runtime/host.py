"""What lives in a worker process: its arrays, its programs, and the loop that obeys the driver.

The loop is one long call. It waits for an order on the driver's channel, runs the phases that
the order names, and reports; meanwhile other calls (health, load) are answered on other threads.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from functools import partial
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np

from raysym.context import Context, of_worker
from raysym.device import array_module, on_device, place, place_row, to_numpy, to_pinned
from raysym.planning.plan import Program, split_entry
from raysym.runtime.compiling import Code, Needs
from raysym.runtime.engines import Engines
from raysym.runtime.interpreter import INTERPRETED, Clock, Where, Worker
from raysym.runtime.orders import (
    DRIVER,
    ORDER,
    Aborted,
    Order,
    Report,
    is_small,
    pack,
    pickled,
    unpack,
)
from raysym.runtime.protocol import DEADLINE_S, Arrays, Linkage, StepKey, Tap
from raysym.runtime.threads import pinned
from raysym.runtime.transport import Address, ChannelClosed, Exchange, Key, PlainKey, Port, Store
from raysym.runtime.transport.mail import MailChannel
from raysym.runtime.transport.ring import RingChannel
from raysym.types import TensorType

# How much longer than the step's deadline a worker waits for a message: the driver knows more of
# what is wrong, and comes first.
LONGER_S = 60.0
ACCEPT_S = 60.0  # how long peers may take to connect: on a busy machine they start late
_NEXT = DRIVER, Key(0, 0, ORDER)  # what a worker waits for that has nothing to do


class Site(NamedTuple):
    """Where a process is: its node, the node's address, and the node's shared memory."""

    node: str
    host: str
    store: Store


class Health(NamedTuple):
    """What a worker is doing: it waits for a peer and an entry, or it computes.

    ``moves`` counts wake-ups by messages and credits, and so shows whether anything moves.
    """

    turn: int
    phase: str
    where: Where
    waits_for: tuple[str, str] | None
    moves: int


class Process(NamedTuple):
    """Where a worker is: its node and the number of its process there."""

    node: str
    pid: int


class Host:
    """One worker."""

    def __init__(
        self,
        name: str,
        threads: int,
        secret: bytes,
        site: Callable[[], Site],
        engines: Engines = INTERPRETED,
        deadline_s: float = DEADLINE_S,
        on: Context | None = None,
    ) -> None:
        """`on`: its device as this process counts them, that of its name if not given."""
        self._wait_s = deadline_s + LONGER_S
        self._on = on or of_worker(name)
        self._worker = Worker(name, array_module(self._on))
        self._threads = threads
        self._site = site()
        self._port = Port(name, secret, self._site.node, self._site.host)
        self._exchange = Exchange(name, self._control)
        self._orders: deque[Order] = deque()
        self._mailbox = Mailbox(self._exchange, self._wait_s, self._on, self._worker.clock)
        self._worker.mailbox = self._mailbox
        self._engine = engines.open(self._worker)
        self._aborted = -1
        self._blocks: dict[Any, Any] = {}
        self._aside: dict[int, dict[str, Any]] = {}  # copies for calls, by the order's turn
        self._phase = ""
        self._gone = threading.Event()

    # ----- starting

    def address(self) -> Address:
        """Where peers reach this worker."""
        return self._port.address

    def connect(self, targets: Mapping[str, tuple[Address, str]], n_callers: int) -> None:
        """Open channels to `targets` by the transport named, and take those of the others."""
        with closing(self._port) as port:
            for peer, (address, transport) in targets.items():
                self._exchange.add(port.open(address, peer, transport))
            for _ in range(n_callers):
                self._exchange.add(port.accept(ACCEPT_S))

    def add_mail(self, peer: str, post: Callable[[Any, Any], None]) -> MailChannel:
        """A channel of actor calls to `peer`."""
        channel = MailChannel(post, peer)
        self._exchange.add(channel)
        return channel

    def deliver(self, source: str, what: Any, array: Any) -> None:
        """A message by actor call."""
        channel = self._exchange.channels.get(source)
        if isinstance(channel, MailChannel):
            channel.deliver(what, array)

    def alive(self) -> None:
        """Returns when this worker lets go: peers hold the call to learn of its death."""
        self._gone.wait()

    def needs(
        self, programs: Mapping[str, Program], types: Mapping[str, TensorType], homes: Sequence[str]
    ) -> Needs:
        """The kernels that loading these programs will want."""
        return self._engine.needs(programs, types, homes)

    def compiled(self, kernels: Sequence[Any]) -> list[Code]:
        """The code of these kernels, for workers of other nodes."""
        return self._engine.compiled(kernels)

    def keep(self, codes: Mapping[Any, Code]) -> None:
        """Take in code that another node has made."""
        self._engine.keep(codes)

    def load(
        self,
        programs: Mapping[str, Program],
        types: Mapping[str, TensorType],
        arrays: Arrays,
        rings: Mapping[str, tuple[int, int]],
    ) -> dict[str, Any]:
        """Add phases and resident entries; the handles of new rings towards peers."""
        for row in alike(arrays):
            self._worker.values.update(place_row(row, self._on))
            self._worker.homes.update(row)
        self._engine.load(programs, types)
        return make_rings(self._exchange, self._site.store, rings, self._blocks)

    def attach(self, handles: Mapping[str, Any]) -> None:
        """Open the rings that peers have made towards us."""
        open_rings(self._exchange, self._site.store, handles, self._blocks)

    # ----- answering while the loop runs

    def health(self) -> Health:
        """What the loop is doing right now."""
        exchange, waits_for = self._exchange, None
        if (wanted := exchange.waits_for) is not None:
            peer, (_, _, entry, _) = wanted
            waits_for = peer, entry
        where = self._engine.where(self._phase)
        return Health(self._mailbox.turn, self._phase, where, waits_for, exchange.events)

    def collect(self, turn: int) -> dict[str, Any]:
        """What an order had laid aside, once."""
        return self._aside.pop(turn)

    def linked(self, phase: str) -> Linkage | None:
        """How the phase was linked, None when it is interpreted."""
        return self._engine.linked(phase)

    def process(self) -> Process:
        """Where this is, for those who look after it."""
        return Process(self._site.node, os.getpid())

    # ----- the loop

    def serve(self) -> str:
        """Obey the driver until it closes its channel."""
        try:
            with pinned(self._threads), on_device(self._on):
                while True:
                    self._obey(self._next_order())
        except ChannelClosed as end:
            return str(end)
        finally:
            self._gone.set()
            self._exchange.close()
            self._blocks.clear()
            self._engine.close()

    def _next_order(self) -> Order:
        while not self._orders:
            self._exchange.waits_for = _NEXT
            try:
                self._exchange.wait(-1.0)
            except ChannelClosed as closed:
                if closed.peer == DRIVER:
                    raise
            except Aborted:  # came after its step had ended here
                continue
        self._exchange.waits_for = None
        return self._orders.popleft()

    def _control(self, peer: str, key: PlainKey, array: Any) -> None:
        order = unpack(array)
        if isinstance(order, Order):
            self._orders.append(order)
            return
        self._aborted = max(self._aborted, order)
        if self._mailbox.turn <= self._aborted:
            raise Aborted

    def _obey(self, order: Order) -> None:
        self._mailbox.begin(order.turn)
        self._aside.clear()  # a call for it has come before this order, or never will
        seen: list[Any] = []
        arrays: dict[str, Any] = {}
        failure, lost = None, ""
        try:
            self._run(order, seen)
            arrays = self._results(order)
        except Aborted:
            lost = DRIVER
        except ChannelClosed as closed:
            lost = closed.peer
        except Exception as error:
            failure = pickled(error)
        self._exchange.waits_for = None
        report = Report(failure, lost, seen, self._worker.clock.spent(), arrays)
        self._send(Key(order.turn, 0, ""), pack(report))

    def _run(self, order: Order, seen: list[Any]) -> None:
        if order.turn <= self._aborted:
            raise Aborted
        for change in order.tuned:
            self._engine.retune(*change)
        values = self._worker.values
        for entry, array in order.feeds.items():
            values[entry][...] = self._worker.xp.asarray(array)
        for entry in order.fed:
            array = self._exchange.recv(DRIVER, Key(order.turn, 0, entry), self._wait_s)
            values[entry][...] = self._worker.xp.asarray(array)
        tap: Tap | None = (lambda *what: seen.append(what)) if order.watched else None
        key = StepKey(order.seed, order.step)
        for phase in order.phases:
            if phase in self._engine.programs:
                self._phase = phase
                self._engine.advance(phase, key, tap=tap)

    def _results(self, order: Order) -> dict[str, Any]:
        arrays = {name: to_numpy(self._worker.values[name]) for name in order.wanted}
        if order.aside:
            self._aside[order.turn] = {name: np.array(array) for name, array in arrays.items()}
            return {}
        if is_small(arrays):
            return arrays
        for name, array in arrays.items():
            self._send(Key(order.turn, 0, name), array)
        return {}

    def _send(self, key: Key, array: Any) -> None:
        send: Callable[[], None] = partial(self._exchange.send, DRIVER, key, array, self._wait_s)
        while True:
            try:
                return send()
            except Aborted:  # the driver still wants the report
                pass
            except ChannelClosed as closed:
                if closed.peer == DRIVER:
                    raise
            send = partial(self._exchange.finish, DRIVER, self._wait_s)  # what has begun


class Mailbox:
    """The messages of one worker's programs: entries become keys of the step that runs."""

    def __init__(self, exchange: Exchange, wait_s: float, on: Context, clock: Clock) -> None:
        self._exchange, self._wait_s, self._on, self._clock = exchange, wait_s, on, clock
        self._copies = on.device_type == "gpu"
        self.turn = -1

    def begin(self, turn: int) -> None:
        """Messages belong to `turn` from now on; older ones are dropped."""
        self.turn = turn
        self._exchange.forget_before(turn)

    def sender(self, to: str, entry: str) -> Callable[[Any], None]:
        """What hands an array to a peer; it waits only while credit is missing."""
        exchange, wait_s, clock = self._exchange, self._wait_s, self._clock
        base, micro = split_entry(entry)
        copies, what = self._copies, f"{entry} to {to}"

        def send(array: Any) -> None:
            host = self._copied(what, to_pinned, array) if copies else array
            begun = perf_counter()
            try:
                exchange.send(to, (self.turn, micro, base, 0), host, wait_s)
            finally:
                clock.communicate += perf_counter() - begun

        return send

    def receiver(self, source: str, entry: str) -> Callable[[], Any]:
        """What returns an array of a peer: perhaps a read-only view, held until its last use."""
        exchange, wait_s, clock = self._exchange, self._wait_s, self._clock
        base, micro = split_entry(entry)
        copies, what = self._copies, f"{entry} from {source}"

        def recv() -> Any:
            begun = perf_counter()
            try:
                array = exchange.recv(source, (self.turn, micro, base, 0), wait_s)
            finally:
                clock.wait += perf_counter() - begun
            # What comes from a ring is read before this returns: the slot may be written again.
            return self._copied(what, place, array, self._on) if copies else array

        return recv

    def _copied(self, what: str, copy: Callable[..., Any], *args: Any) -> Any:
        """A copy between host and device; what goes wrong there is told with the message's name."""
        begun = perf_counter()
        try:
            return copy(*args)
        except Exception as error:
            error.add_note(f"worker {self._exchange.name}: {what} was copied at {self._on}")
            raise
        finally:
            self._clock.communicate += perf_counter() - begun


def alike(arrays: Arrays) -> list[Arrays]:
    """Resident arrays by kind: parameters, gradients, states of the optimizer, and so on."""
    found: dict[str, dict[str, Any]] = {}
    for entry, array in arrays.items():
        kind, mark, _ = entry.partition(":")
        found.setdefault(kind if mark else "", {})[entry] = array
    return list(found.values())


def make_rings(
    exchange: Exchange, store: Store, rings: Mapping[str, tuple[int, int]], blocks: dict[Any, Any]
) -> dict[str, Any]:
    """Allocate (slots, bytes per slot) towards each peer; what the peers need to open them.

    `blocks` hold what makes the rings live; those of rings that are replaced are let go.
    """
    handles = {}
    for peer, (slots, nbytes) in rings.items():
        handle, block = store.allocate(slots * nbytes)
        first = _ring_channel(exchange, peer).set_own_ring(block.reshape(slots, nbytes))
        blocks["to", peer] = handle
        handles[peer] = handle, slots, first
    return handles


def open_rings(
    exchange: Exchange, store: Store, handles: Mapping[str, Any], blocks: dict[Any, Any]
) -> None:
    """Read from the rings that peers have made."""
    for peer, (handle, slots, first) in handles.items():
        block = store.open(handle)
        _ring_channel(exchange, peer).set_peers_ring(block.reshape(slots, -1), first)
        blocks["from", peer] = handle


def _ring_channel(exchange: Exchange, peer: str) -> RingChannel:
    channel = exchange.channels[peer]
    assert isinstance(channel, RingChannel)
    return channel
