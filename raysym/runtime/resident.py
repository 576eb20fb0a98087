"""The driver's side of the distributed runtime: one order per worker and step, reports back.

Workers run their programs in a loop of their own; orders, feeds, results and reports travel over
channels like those between workers. Several steps may be under way.
"""

from __future__ import annotations

import secrets
import threading
import weakref
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import closing, suppress
from functools import partial
from typing import Any

import numpy as np

from raysym.device import to_numpy
from raysym.errors import StallError, WorkerError
from raysym.op import Op
from raysym.planning.plan import Plan, Program
from raysym.planning.update import with_op
from raysym.runtime.compiling import compile_once
from raysym.runtime.diagnosis import Watch
from raysym.runtime.engines import Engines
from raysym.runtime.fleet import Fleet, dropped, end_dropped
from raysym.runtime.host import make_rings, open_rings
from raysym.runtime.interpreter import INTERPRETED
from raysym.runtime.links import Links, Rings, Wanted, link_plan, ring_sizes
from raysym.runtime.orders import DRIVER, REPORT, Order, Report, Tuned, is_small, pack, unpack
from raysym.runtime.parcel import Parcel, types_for
from raysym.runtime.patience import CLOSED, Patience
from raysym.runtime.protocol import DEADLINE_S, IN_FLIGHT, Arrays, Linkage, StepKey, Tap
from raysym.runtime.transport import Address, ChannelClosed, Exchange, Key, PlainKey, Port
from raysym.runtime.turn import Turn, first_failure

START_S = 300.0  # how long processes may take to start: the machine may be busy
LOAD_S = 600.0  # kernels may be compiled meanwhile


class ResidentRuntime:
    """Runs phases on the workers of a fleet; see `protocol.Runtime`."""

    shares_memory = False

    def __init__(
        self,
        open_fleet: Any,
        threads: int = 1,
        transport: Wanted = None,
        engines: Engines = INTERPRETED,
        deadline_s: float = DEADLINE_S,
    ) -> None:
        self._open_fleet, self._threads, self._transport = open_fleet, threads, transport
        self._engines = engines
        self._fleet: Fleet | None = None
        self._secret = secrets.token_bytes(32)
        report = weakref.WeakMethod(self._report)  # the exchange may outlive us until it is closed
        self._exchange = Exchange(DRIVER, lambda *what: (report() or _ignore)(*what))
        self._drop: Any = None
        self._links = Links()
        self._rings: Rings = {}
        self._blocks: dict[Any, Any] = {}
        self._programs: dict[str, dict[str, Program]] = {}
        self._plan: Plan | None = None
        self._home_of: dict[str, str] = {}
        self._feeds: dict[str, dict[str, Any]] = {}
        self._tuned: dict[str, list[Tuned]] = {}  # what workers have not heard of yet
        self._seconds: dict[str, dict[str, float]] = {}
        self._turns: deque[Turn] = deque()
        self._results: dict[int, dict[str, Any]] = {}
        self._turn = 0
        self._deadline_s = deadline_s
        self._patience = Patience(self._exchange, deadline_s)
        self._broken = ""
        self._lock = threading.RLock()

    # ----- starting

    def load(self, plan: Plan, arrays: Arrays) -> None:
        """Start the workers if need be; give them programs, arrays and rings.

        When they do not start, what there is of them is closed.
        """
        with self._lock:
            self._check()
            self._drain()
            fleet = self._fleet or self._started(plan.workers)
            self._home_of.update(plan.homes)
            self._plan = plan
            rings = ring_sizes(plan, self._links, self._rings, fleet.room())
            calls = {}
            for name in plan.workers:
                own = {e: to_numpy(a) for e, a in arrays.items() if plan.homes[e] == name}
                programs = {phase: p for phase, p in plan.programs[name].items() if p}
                self._programs.setdefault(name, {}).update(programs)
                self._tuned[name] = [t for t in self._tuned.get(name, ()) if t[0] not in programs]
                towards = {b: size for (a, b), size in rings.items() if a == name}
                calls[name] = Parcel(programs), types_for(programs, own, plan), own, towards
            call = partial(self._call, fleet)
            compile_once(calls, self._links.nodes, call)
            self._attach(fleet, call("load", calls), rings)

    def admit(self, plan: Plan) -> None:
        """PlacementError where the rings of the plan would not fit; once workers are there."""
        if self._fleet is not None:
            ring_sizes(plan, self._links, self._rings, self._fleet.room())

    def route(self, plan: Plan) -> Plan:
        """The plan with the transport of each of its edges."""
        return link_plan(plan, self._links)

    def _started(self, workers: tuple[str, ...]) -> Fleet:
        end_dropped()
        try:
            return self._start(workers)
        except BaseException as error:
            self._break(f"its workers did not start: {error}")
            self.close()
            raise

    def _start(self, workers: tuple[str, ...]) -> Fleet:
        options = self._threads, self._secret, self._engines, self._deadline_s
        fleet: Fleet = self._open_fleet(workers, *options)
        self._fleet = fleet
        self._drop = weakref.finalize(self, dropped.put, (self._exchange, fleet))
        self._drop.atexit = False  # Ray ends them then
        addresses: dict[str, Address] = fleet.call("address", dict.fromkeys(workers, ()), START_S)
        with closing(Port(DRIVER, self._secret, fleet.site.node, fleet.site.host)) as port:
            self._links = Links.between(addresses, port.address, self._transport)
            calls = fleet.start("connect", self._links.calls(addresses))
            for name, address in addresses.items():
                self._exchange.add(port.open(address, name, self._links.to_driver(name)))
            fleet.finish(calls, START_S)
        fleet.join_by_mail(self._links.by_mail())
        fleet.start("serve", dict.fromkeys(workers, ()))
        self._seconds = {name: {} for name in workers}
        return fleet

    def _attach(self, fleet: Fleet, made: Mapping[str, Any], rings: Rings) -> None:
        """Tell both ends of each new ring where it is."""
        store, exchange = fleet.site.store, self._exchange
        own = {b: size for (a, b), size in rings.items() if a == DRIVER}
        handles = {**made, DRIVER: make_rings(exchange, store, own, self._blocks)}
        towards: dict[str, dict[str, Any]] = {}
        for source, found in handles.items():
            for target, handle in found.items():
                towards.setdefault(target, {})[source] = handle
        open_rings(exchange, store, towards.pop(DRIVER, {}), self._blocks)
        self._call(fleet, "attach", {name: (found,) for name, found in towards.items()})
        self._rings.update(rings)

    def _call(self, fleet: Fleet, method: str, args: Mapping[str, tuple[Any, ...]]) -> Any:
        attempt = partial(fleet.finish, fleet.start(method, args))
        return self._patiently(tuple(args), attempt, LOAD_S, ordered=False)

    # ----- running

    def run(self, phase: str, key: StepKey, tap: Tap | None = None) -> None:
        """One order per worker; the first error is raised here, as it was raised there."""
        with self._lock:
            self._check_open()
            self.result(self._begin((phase,), key, (), tap))

    def retune(self, phase: str, old: Op, new: Op) -> None:
        """Run `new` wherever the phase runs `old`; workers hear of it with their next order."""
        with self._lock:
            for name, programs in self._programs.items():
                if phase in programs:
                    programs[phase] = with_op(programs[phase], old, new)
                    self._tuned.setdefault(name, []).append((phase, old, new))

    def submit(self, phases: Sequence[str], key: StepKey, wanted: Iterable[str] = ()) -> int:
        """Begin a step and return its ticket; waits only when `IN_FLIGHT` are under way."""
        with self._lock:
            self._check_open()
            return self._begin(phases, key, wanted, None)

    def _begin(
        self, phases: Sequence[str], key: StepKey, wanted: Iterable[str], tap: Tap | None
    ) -> int:
        self._check()
        while len(self._turns) >= IN_FLIGHT:
            self._finish()
        self._turn += 1
        asked = self._by_home(wanted)
        busy = [n for n, p in self._programs.items() if any(phase in p for phase in phases)]
        names = {*busy, *self._feeds, *asked}
        turn = Turn(self._turn, set(names), {}, asked, tap)
        self._turns.append(turn)
        for name in self._programs:
            if name in names:
                self._order(name, tuple(phases), key, turn)
        return turn.number

    def _order(self, name: str, phases: tuple[str, ...], key: StepKey, turn: Turn) -> None:
        feeds = self._feeds.pop(name, {})
        small = is_small(feeds)
        order = Order(
            turn.number,
            phases,
            *key,
            feeds if small else {},
            () if small else tuple(feeds),
            turn.wanted.get(name, ()),
            turn.tap is not None,
            tuple(self._tuned.pop(name, ())),
        )
        self._send(name, Key(turn.number, 0, ""), pack(order))
        for entry in order.fed:
            self._send(name, Key(turn.number, 0, entry), feeds[entry])

    def _send(self, name: str, key: Key, array: Any) -> None:
        try:
            is_sent = self._exchange.channels[name].send(key, array)
        except (KeyError, ChannelClosed):
            raise self._death(name) from None
        if not is_sent:
            self._patiently((name,), partial(self._exchange.finish, name))

    def result(self, ticket: int) -> dict[str, Any]:
        """What a step was asked for; raises what a worker raised in it or in one before."""
        with self._lock:
            while ticket not in self._results:
                self._check()
                if not self._turns:
                    raise WorkerError(f"step {ticket} was given up when an earlier one failed")
                self._finish()
            return self._results.pop(ticket)

    def _finish(self) -> None:
        """Wait for the oldest step; the first failure ends all that are under way."""
        turn = self._turns[0]
        self._patiently(turn.waiting, partial(self._reports, turn))
        failure = first_failure(turn)
        if failure is not None:
            with suppress(StallError, WorkerError):  # of the others; what came first is told
                self._abandon()
            raise failure
        self._turns.popleft()
        found: dict[str, Any] = {}
        for name in (n for n in self._programs if n in turn.reports):  # monitors want one order
            report = turn.reports[name]
            self._seconds[name] = report.seconds
            if turn.tap is not None:
                for what in report.seen:
                    turn.tap(*what)
            found.update(report.arrays or self._fetched(turn, name))
        self._results[turn.number] = found

    def _fetched(self, turn: Turn, name: str) -> dict[str, Any]:
        """Results that came as messages of their own, copied out of the ring."""
        return {
            entry: np.array(self._patiently((name,), partial(self._exchange.recv, name, key)))
            for entry in turn.wanted.get(name, ())
            for key in [Key(turn.number, 0, entry)]
        }

    def _reports(self, turn: Turn, timeout_s: float) -> None:
        """Take in the reports that are missing; StallError when nothing comes in time."""
        if not self._exchange.wait_until(lambda: not turn.waiting, timeout_s):
            raise StallError(REPORT)

    def _patiently(
        self,
        awaited: Collection[str],
        attempt: Callable[[float], Any],
        timeout_s: float | None = None,
        ordered: bool = True,
    ) -> Any:
        """The result of `attempt(seconds)`; what is wrong ends this executor."""
        try:
            return self._patience.wait(self._watch(awaited, ordered), attempt, timeout_s)
        except ChannelClosed as closed:
            raise self._death(closed.peer) from None
        except WorkerError as error:
            self._break(str(error))
            raise
        except StallError as error:
            why = str(error)
            self._break(why.partition("\n")[0].rstrip(":"))
            raise StallError(f"step {self._turn}: {why}") from None

    def _watch(self, awaited: Collection[str], ordered: bool) -> Watch:
        assert self._fleet is not None
        assert self._plan is not None
        return Watch(self._fleet, self._programs, self._plan, awaited, ordered)

    def _report(self, peer: str, key: PlainKey, array: Any) -> None:
        """A worker has finished an order; a failure makes the others give theirs up."""
        report: Report = unpack(array)
        for turn in self._turns:
            if turn.number == key[0]:
                turn.waiting.discard(peer)
                turn.reports[peer] = report
        if report.failure is not None or report.lost not in ("", DRIVER):
            self._abort([name for turn in self._turns for name in turn.waiting])

    def _abort(self, names: Iterable[str]) -> None:
        for name in dict.fromkeys(names):
            channel = self._exchange.channels.get(name)
            if channel is not None:
                channel.send(Key(self._turn, 0, ""), pack(self._turn))

    def _abandon(self) -> None:
        """Take the reports of all steps under way, then forget these steps."""
        for turn in self._turns:
            self._abort(turn.waiting)
        for turn in list(self._turns):
            self._patiently(turn.waiting, partial(self._reports, turn))
        self._turns.clear()
        self._results.clear()
        self._exchange.forget_before(self._turn + 1)

    def _drain(self) -> None:
        """Finish what is under way, keeping results for those who will ask."""
        while self._turns:
            self._finish()

    # ----- failing

    def _death(self, name: str) -> WorkerError:
        self._turns.clear()
        self._results.clear()
        self._break(f"worker {name} died")
        return WorkerError(self._broken)

    def _break(self, why: str) -> None:
        self._broken = self._broken or why

    def _check(self) -> None:
        if self._broken:
            raise WorkerError(f"this executor cannot go on: {self._broken}")

    def _check_open(self) -> None:
        """No further step begins while another thread brings the last results home."""
        self._check()
        if self._patience.is_hurried:
            raise WorkerError(f"this executor cannot go on: {CLOSED}")

    # ----- arrays

    def push(self, arrays: Arrays) -> None:
        """Overwrite resident entries; they travel with the next step."""
        for entry, array in arrays.items():
            # A copy: the user may write into the array before it is on its way.
            self._feeds.setdefault(self._home_of[entry], {})[entry] = np.array(
                to_numpy(array), order="C"
            )

    def fetch(self, names: Iterable[str]) -> dict[str, Any]:
        """Content of resident entries after all steps under way."""
        with self._lock:
            return self.result(self._begin((), StepKey(0, 0), names, None))

    def _by_home(self, names: Iterable[str]) -> dict[str, tuple[str, ...]]:
        asked: dict[str, tuple[str, ...]] = {}
        for name in names:
            home = self._home_of[name]
            asked[home] = (*asked.get(home, ()), name)
        return asked

    def work_bytes(self, plan: Plan) -> dict[str, int]:
        """Bytes of values that come and go on each worker."""
        return self._engines.work_bytes(plan)

    def timings(self) -> dict[str, dict[str, float]]:
        """Seconds that each worker spent computing, communicating and waiting so far."""
        return {name: dict(seconds) for name, seconds in self._seconds.items()}

    def linked(self, phase: str) -> dict[str, Linkage]:
        """How each worker linked the phase; nothing when they are gone."""
        if self._broken or self._fleet is None:
            return {}
        asked = {name: (phase,) for name, own in self._programs.items() if phase in own}
        found: dict[str, Linkage | None] = self._fleet.call("linked", asked, LOAD_S)
        return {name: linkage for name, linkage in found.items() if linkage is not None}

    # ----- ending

    def hurry(self) -> None:
        """What is fetched from now on comes soon, or the fetch fails: `close` follows."""
        self._patience.hurry()

    def close(self) -> None:
        """End the workers and let go of channels and rings."""
        self._break(CLOSED)
        self._exchange.close()
        fleet, self._fleet = self._fleet, None
        if fleet is not None:
            self._drop.detach()
            fleet.close()
        self._blocks.clear()


def _ignore(*_: Any) -> None: ...
