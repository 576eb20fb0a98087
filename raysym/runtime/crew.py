"""The driver's hold on its workers: it starts them, calls them, sends to them, and loses them.

What goes wrong once ends the executor: a worker that died, a stall, a deadline that is over.
"""

from __future__ import annotations

import secrets
import weakref
from collections.abc import Callable, Collection, Mapping
from contextlib import closing
from functools import partial
from typing import Any

from raysym.device import to_numpy
from raysym.errors import StallError, WorkerError
from raysym.planning.plan import Plan, Program
from raysym.runtime.compiling import compile_once
from raysym.runtime.diagnosis import Watch, doing
from raysym.runtime.engines import Engines
from raysym.runtime.fleet import Fleet, dropped, end_dropped
from raysym.runtime.host import make_rings, open_rings
from raysym.runtime.links import Links, Rings, Wanted, ring_sizes
from raysym.runtime.orders import DRIVER
from raysym.runtime.parcel import Parcel, types_for
from raysym.runtime.patience import CLOSED, Patience
from raysym.runtime.protocol import Arrays
from raysym.runtime.transport import Address, ChannelClosed, Exchange, Key, Port
from raysym.runtime.transport.exchange import OnControl

START_S = 300.0  # how long processes may take to start: the machine may be busy
HEALTH_S = 5.0  # how long a worker may take to say what it does
LOAD_S = 600.0  # kernels may be compiled meanwhile


class Crew:
    """The workers of one executor, started when the first plan is loaded."""

    def __init__(
        self,
        open_fleet: Any,
        threads: int,
        transport: Wanted,
        engines: Engines,
        deadline_s: float,
        on_report: OnControl,
    ) -> None:
        self._open_fleet, self._transport = open_fleet, transport
        self._options = threads, secrets.token_bytes(32), engines, deadline_s
        self.fleet: Fleet | None = None
        self.exchange = Exchange(DRIVER, on_report)
        self.patience = Patience(self.exchange, deadline_s)
        self.links = Links()
        self.rings: Rings = {}
        self.programs: dict[str, dict[str, Program]] = {}  # by worker and phase
        self.turn = 0  # the newest step
        self.broken = ""  # why nothing goes on
        self._plan: Plan | None = None
        self._drop: Any = None
        self._blocks: dict[Any, Any] = {}

    # ----- starting

    def load(self, plan: Plan, arrays: Arrays) -> None:
        """Start the workers if need be; give them programs, arrays and rings.

        When they do not start, what there is of them is closed.
        """
        fleet = self.fleet or self._started(plan.workers)
        self._plan = plan
        rings = ring_sizes(plan, self.links, self.rings, fleet.room())
        calls = {}
        for name in plan.workers:
            own = {e: to_numpy(a) for e, a in arrays.items() if plan.homes[e] == name}
            programs = {phase: p for phase, p in plan.programs[name].items() if p}
            self.programs.setdefault(name, {}).update(programs)
            towards = {b: size for (a, b), size in rings.items() if a == name}
            calls[name] = Parcel(programs), types_for(programs, own, plan), own, towards
        compile_once(calls, self.links.nodes, self.call)
        self._attach(fleet, self.call("load", calls), rings)

    def admit(self, plan: Plan) -> None:
        """PlacementError where the rings of the plan would not fit; once workers are there."""
        if self.fleet is not None:
            ring_sizes(plan, self.links, self.rings, self.fleet.room())

    def _started(self, workers: tuple[str, ...]) -> Fleet:
        end_dropped()
        try:
            return self._start(workers)
        except BaseException as error:
            self.give_up(f"its workers did not start: {error}")
            self.close()
            raise

    def _start(self, workers: tuple[str, ...]) -> Fleet:
        fleet: Fleet = self._open_fleet(workers, *self._options)
        self.fleet = fleet
        self._drop = weakref.finalize(self, dropped.put, (self.exchange, fleet))
        self._drop.atexit = False  # Ray ends them then
        addresses: dict[str, Address] = fleet.call("address", dict.fromkeys(workers, ()), START_S)
        _, secret, *_ = self._options
        with closing(Port(DRIVER, secret, fleet.site.node, fleet.site.host)) as port:
            self.links = Links.between(addresses, port.address, self._transport)
            calls = fleet.start("connect", self.links.calls(addresses))
            for name, address in addresses.items():
                self.exchange.add(port.open(address, name, self.links.to_driver(name)))
            fleet.finish(calls, START_S)
        fleet.join_by_mail(self.links.by_mail())
        fleet.start("serve", dict.fromkeys(workers, ()))
        return fleet

    def _attach(self, fleet: Fleet, made: Mapping[str, Any], rings: Rings) -> None:
        """Tell both ends of each new ring where it is."""
        store, exchange = fleet.site.store, self.exchange
        own = {b: size for (a, b), size in rings.items() if a == DRIVER}
        handles = {**made, DRIVER: make_rings(exchange, store, own, self._blocks)}
        towards: dict[str, dict[str, Any]] = {}
        for source, found in handles.items():
            for target, handle in found.items():
                towards.setdefault(target, {})[source] = handle
        open_rings(exchange, store, towards.pop(DRIVER, {}), self._blocks)
        self.call("attach", {name: (found,) for name, found in towards.items()})
        self.rings.update(rings)

    # ----- speaking to workers

    def call(self, method: str, args: Mapping[str, tuple[Any, ...]]) -> Any:
        """Call a method of workers; results by worker."""
        assert self.fleet is not None
        attempt = partial(self.fleet.finish, self.fleet.start(method, args))
        return self.patiently(tuple(args), attempt, LOAD_S, ordered=False)

    def health(self) -> dict[str, str]:
        """What each worker does right now, in words; needs no step to end.

        StallError when one does not answer in time.
        """
        fleet, plan = self.fleet, self._plan
        if fleet is None or plan is None:
            return {}
        try:
            found = fleet.call("health", dict.fromkeys(self.programs, ()), HEALTH_S)
        except KeyError:  # another thread has closed it meanwhile
            return {}
        return {name: doing(health, self.programs[name], plan) for name, health in found.items()}

    def send(self, name: str, key: Key, array: Any) -> None:
        """Send to a worker; waits only while it gives no credit."""
        try:
            is_sent = self.exchange.channels[name].send(key, array)
        except (KeyError, ChannelClosed):
            raise self._death(name) from None
        if not is_sent:
            self.patiently((name,), partial(self.exchange.finish, name))

    def recv(self, name: str, key: Key) -> Any:
        """What a worker sends under a key."""
        return self.patiently((name,), partial(self.exchange.recv, name, key))

    def patiently(
        self,
        awaited: Collection[str],
        attempt: Callable[[float], Any],
        timeout_s: float | None = None,
        ordered: bool = True,
    ) -> Any:
        """The result of `attempt(seconds)`; what is wrong ends this executor."""
        try:
            return self.patience.wait(self._watch(awaited, ordered), attempt, timeout_s)
        except ChannelClosed as closed:
            raise self._death(closed.peer) from None
        except WorkerError as error:
            self.give_up(str(error))
            raise
        except StallError as error:
            why = str(error)
            self.give_up(why.partition("\n")[0].rstrip(":"))
            raise StallError(f"step {self.turn}: {why}") from None

    def _watch(self, awaited: Collection[str], ordered: bool) -> Watch:
        assert self.fleet is not None
        assert self._plan is not None
        return Watch(self.fleet, self.programs, self._plan, awaited, ordered)

    # ----- failing and ending

    def _death(self, name: str) -> WorkerError:
        self.give_up(f"worker {name} died")
        return WorkerError(self.broken)

    def give_up(self, why: str) -> None:
        """Nothing goes on from here; the first reason is told."""
        self.broken = self.broken or why

    def check(self) -> None:
        """WorkerError when nothing can go on."""
        if self.broken:
            raise WorkerError(f"this executor cannot go on: {self.broken}")

    def close(self) -> None:
        """End the workers and let go of channels and rings."""
        self.give_up(CLOSED)
        self.exchange.close()
        fleet, self.fleet = self.fleet, None
        if fleet is not None:
            self._drop.detach()
            fleet.close()
        self._blocks.clear()
