"""The driver's side of the distributed runtime: one order per worker and step, reports back.

Workers run their programs in a loop of their own; orders, feeds, results and reports travel over
channels like those between workers. Several steps may be under way.
"""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import numpy as np

from raysym.device import to_numpy
from raysym.errors import StallError, WorkerError
from raysym.op import Op
from raysym.planning.plan import Plan
from raysym.planning.update import with_op
from raysym.runtime.crew import LOAD_S, Crew
from raysym.runtime.engines import Engines
from raysym.runtime.interpreter import INTERPRETED
from raysym.runtime.links import Wanted, link_plan
from raysym.runtime.orders import DRIVER, REPORT, Order, Report, Tuned, is_small, pack, unpack
from raysym.runtime.patience import CLOSED
from raysym.runtime.protocol import DEADLINE_S, IN_FLIGHT, Arrays, Linkage, StepKey, Tap
from raysym.runtime.transport import Key, PlainKey
from raysym.runtime.turn import Turn, first_failure


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
        self._engines = engines
        report = weakref.WeakMethod(self._report)  # the exchange may outlive us until it is closed

        def heard(peer: str, key: PlainKey, array: Any) -> None:
            (report() or _ignore)(peer, key, array)

        self.crew = Crew(open_fleet, threads, transport, engines, deadline_s, heard)
        self._home_of: dict[str, str] = {}
        self._feeds: dict[str, dict[str, Any]] = {}
        self._tuned: dict[str, list[Tuned]] = {}  # what workers have not heard of yet
        self._seconds: dict[str, dict[str, float]] = {}
        self._turns: deque[Turn] = deque()
        self._results: dict[int, dict[str, Any]] = {}
        self._lock = threading.RLock()

    # ----- starting

    def load(self, plan: Plan, arrays: Arrays) -> None:
        """Start the workers if need be; give them programs, arrays and rings.

        When they do not start, what there is of them is closed.
        """
        with self._lock:
            self.crew.check()
            self._drain()
            self._home_of.update(plan.homes)
            self.crew.load(plan, arrays)
            for name in plan.workers:
                loaded = plan.programs[name]
                self._tuned[name] = [t for t in self._tuned.get(name, ()) if t[0] not in loaded]
                self._seconds.setdefault(name, {})

    def admit(self, plan: Plan) -> None:
        """PlacementError where the rings of the plan would not fit; once workers are there."""
        self.crew.admit(plan)

    def route(self, plan: Plan) -> Plan:
        """The plan with the transport of each of its edges."""
        return link_plan(plan, self.crew.links)

    # ----- running

    def run(self, phase: str, key: StepKey, tap: Tap | None = None) -> None:
        """One order per worker; the first error is raised here, as it was raised there."""
        with self._lock:
            self._check_open()
            self.result(self._begin((phase,), key, (), tap))

    def retune(self, phase: str, old: Op, new: Op) -> None:
        """Run `new` wherever the phase runs `old`; workers hear of it with their next order."""
        with self._lock:
            for name, programs in self.crew.programs.items():
                if phase in programs:
                    programs[phase] = with_op(programs[phase], old, new)
                    self._tuned.setdefault(name, []).append((phase, old, new))

    def submit(self, phases: Sequence[str], key: StepKey, wanted: Iterable[str] = ()) -> int:
        """Begin a step and return its ticket; waits only when `IN_FLIGHT` are under way."""
        with self._lock:
            self._check_open()
            return self._begin(phases, key, wanted)

    def _begin(
        self,
        phases: Sequence[str],
        key: StepKey,
        wanted: Iterable[str],
        tap: Tap | None = None,
        aside: bool = False,
    ) -> int:
        self.crew.check()
        while len(self._turns) >= IN_FLIGHT:
            self._finish()
        self.crew.turn += 1
        asked = self._by_home(wanted)
        busy = [n for n, p in self.crew.programs.items() if any(phase in p for phase in phases)]
        names = {*busy, *self._feeds, *asked}
        turn = Turn(self.crew.turn, set(names), {}, asked, tap, aside)
        self._turns.append(turn)
        for name in self.crew.programs:
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
            turn.aside,
        )
        self.crew.send(name, Key(turn.number, 0, ""), pack(order))
        for entry in order.fed:
            self.crew.send(name, Key(turn.number, 0, entry), feeds[entry])

    def result(self, ticket: int) -> dict[str, Any]:
        """What a step was asked for; raises what a worker raised in it or in one before."""
        with self._lock:
            while ticket not in self._results:
                self.crew.check()
                if not self._turns:
                    raise WorkerError(f"step {ticket} was given up when an earlier one failed")
                self._finish()
            return self._results.pop(ticket)

    def _finish(self) -> None:
        """Wait for the oldest step; the first failure ends all that are under way."""
        turn = self._turns[0]
        self.crew.patiently(turn.waiting, partial(self._reports, turn))
        failure = first_failure(turn)
        if failure is not None:
            with suppress(StallError, WorkerError):  # of the others; what came first is told
                self._abandon()
            raise failure
        self._turns.popleft()
        found: dict[str, Any] = {}
        for name in (n for n in self.crew.programs if n in turn.reports):  # monitors want one order
            report = turn.reports[name]
            self._seconds[name] = report.seconds
            if turn.tap is not None:
                for what in report.seen:
                    turn.tap(*what)
            if not turn.aside:
                found.update(report.arrays or self._fetched(turn, name))
        self._results[turn.number] = found

    def _fetched(self, turn: Turn, name: str) -> dict[str, Any]:
        """Results that came as messages of their own, copied out of the ring."""
        return {
            entry: np.array(self.crew.recv(name, Key(turn.number, 0, entry)))
            for entry in turn.wanted.get(name, ())
        }

    def _reports(self, turn: Turn, timeout_s: float) -> None:
        """Take in the reports that are missing; StallError when nothing comes in time."""
        if not self.crew.exchange.wait_until(lambda: not turn.waiting, timeout_s):
            raise StallError(REPORT)

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
            channel = self.crew.exchange.channels.get(name)
            if channel is not None:
                channel.send(Key(self.crew.turn, 0, ""), pack(self.crew.turn))

    def _abandon(self) -> None:
        """Take the reports of all steps under way, then forget these steps."""
        for turn in self._turns:
            self._abort(turn.waiting)
        for turn in list(self._turns):
            self.crew.patiently(turn.waiting, partial(self._reports, turn))
        self._turns.clear()
        self._results.clear()
        self.crew.exchange.forget_before(self.crew.turn + 1)

    def _drain(self) -> None:
        """Finish what is under way, keeping results for those who will ask."""
        while self._turns:
            self._finish()

    # ----- failing

    def _check_open(self) -> None:
        """No further step begins while another thread brings the last results home."""
        self.crew.check()
        if self.crew.patience.is_hurried:
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
            return self.result(self._begin((), StepKey(0, 0), names))

    def snapshot(self, names: Iterable[str]) -> dict[str, Any]:
        """Copies of resident entries after all steps under way; they come as objects, by calls."""
        asked = self._by_home(names)
        with self._lock:
            ticket = self._begin((), StepKey(0, 0), names, aside=True)
            self.result(ticket)
            held = self.crew.call("collect", dict.fromkeys(asked, (ticket,)))
        return {name: np.array(array) for found in held.values() for name, array in found.items()}

    def health(self) -> dict[str, str]:
        """What each worker does right now; asked for while steps are under way, by any thread."""
        return self.crew.health()

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
        if self.crew.broken or self.crew.fleet is None:
            return {}
        asked = {name: (phase,) for name, own in self.crew.programs.items() if phase in own}
        found: dict[str, Linkage | None] = self.crew.fleet.call("linked", asked, LOAD_S)
        return {name: linkage for name, linkage in found.items() if linkage is not None}

    # ----- ending

    def hurry(self) -> None:
        """What is fetched from now on comes soon, or the fetch fails: `close` follows."""
        self.crew.patience.hurry()

    def close(self) -> None:
        """End the workers and let go of channels and rings."""
        self.crew.close()


def _ignore(*_: Any) -> None: ...
