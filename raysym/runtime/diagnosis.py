"""Why a step does not come to its end: who waits for whom, and who does not run at all.

A worker stands still when, look by look, it waits for the same message and none moves there, or it
does not even answer and its process is at rest, as one that was stopped. Who answers from within
an operator computes, however long, be it that the operator sleeps; only the deadline of the step
ends that. A stall is a chain of workers that have stood still, each waiting for the next, which
closes to a cycle or ends at one that does not answer or has nothing to do.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from raysym.errors import in_words
from raysym.planning.plan import Plan, Program, Send
from raysym.runtime.fleet import Fleet
from raysym.runtime.host import Health
from raysym.runtime.orders import DRIVER, ORDER
from raysym.runtime.pulse import Pulse, is_at_rest

STALL_S = 3.0  # how long all of a chain must have stood still
_PLACE = 3  # the first fields of a worker's health: step, phase and instruction


@dataclass
class _Sight:
    """One worker: its last answer, or its pulse from outside while it gives none."""

    name: str
    since: float  # it was not seen to move from then on
    health: Health | None = None
    outside: Pulse | None = None
    at_rest: bool = False
    asked: float = 0.0  # when it was asked what it has not answered
    there: float = 0.0  # it was at the instruction of its last answer from then on

    def hear(self, health: Health, now: float) -> None:
        """It has answered."""
        before, self.health, self.outside = self.health, health, None
        self.at_rest = before == health and health.waits_for is not None
        if not self.at_rest:
            self.since = now
        if before is None or before[:_PLACE] != health[:_PLACE]:
            self.there = now

    def look_at(self, pulse: Pulse, now: float) -> None:
        """It has not, but its process was looked at."""
        before, self.outside = self.outside, pulse
        self.at_rest = before is not None and is_at_rest(before, pulse)
        if before is None:  # an answer that is merely late says nothing
            self.since = max(self.since, self.asked)
        elif not self.at_rest:
            self.since = now

    @property
    def waits_for(self) -> tuple[str, str] | None:
        """Peer and entry; None of who computes or does not answer."""
        is_heard = self.health is not None and self.outside is None
        return self.health.waits_for if self.health is not None and is_heard else None


class Watch:
    """Looks at silent workers again and again, without waiting for them."""

    def __init__(
        self,
        fleet: Fleet,
        programs: Mapping[str, Mapping[str, Program]],
        plan: Plan,
        awaited: Collection[str],
        ordered: bool = True,
    ) -> None:
        """Watch for the reports of `awaited`, or for their answers to a call if not `ordered`."""
        self._fleet, self._programs, self._plan = fleet, programs, plan
        self._awaited, self._ordered = awaited, ordered
        now = time.monotonic()
        self._sights = {name: _Sight(name, now) for name in programs}
        self._asked: dict[str, Any] = {}
        self._observed: dict[str, Any] = {}

    def restart(self) -> None:
        """Something has moved, so that nobody has stood still for long."""
        now = time.monotonic()
        for sight in self._sights.values():
            sight.since, sight.at_rest = now, False

    def account(self, limit_s: float) -> str:
        """That it has taken too long, and what those are doing who are waited for."""
        names = sorted(self._awaited)
        if not self._ordered:
            return f"no answer within {limit_s:g} s from {in_words(names)}"
        late = f"no answer within {limit_s:g} s, the deadline_s of bind, from {in_words(names)}"
        return _listed(late, [self._line(None, self._sights[name]) for name in names])

    def look(self) -> str:
        """Look once more; the stall in words, or nothing. WorkerError names a dead worker."""
        now = time.monotonic()
        for sight in self._sights.values():
            self._ask(sight, now)
        if any(s.health is None and s.outside is None for s in self._sights.values()):
            return ""  # who waits for whom is not known yet
        trails = [self._follow(name, now) for name in sorted(self._awaited)]
        longest = max(trails, key=len, default=[])
        return self._in_words(self._from_its_begin(longest)) if longest else ""

    def _ask(self, sight: _Sight, now: float) -> None:
        name = sight.name
        if name in self._asked:
            health = self._answer(self._asked, name)
            if health is not None:
                sight.hear(health, now)
                self._observed.pop(name, None)
            else:
                self._observe(sight, now)
        if name not in self._asked:
            self._asked[name], sight.asked = self._fleet.start("health", {name: ()}), now

    def _observe(self, sight: _Sight, now: float) -> None:
        name = sight.name
        pulse = self._answer(self._observed, name) if name in self._observed else None
        if pulse is not None:
            sight.look_at(pulse, now)
        if name not in self._observed:
            self._observed[name] = self._fleet.observe([name])

    def _answer(self, calls: dict[str, Any], name: str) -> Any:
        found = self._fleet.answers(calls[name])
        if name in found:
            del calls[name]
        return found.get(name)

    def _follow(self, name: str, now: float) -> list[str]:
        """The workers that stand still one because of the next; none when the last one moves."""
        trail: list[str] = []
        while name != DRIVER and name not in trail:
            sight = self._sights[name]
            if not sight.at_rest or now - sight.since < STALL_S:
                return []
            trail.append(name)
            if sight.waits_for is None:
                return trail
            name = sight.waits_for[0]
        if name == DRIVER:  # who was called, and not ordered to do a step, has nothing to report
            return trail if self._ordered else []
        return trail[trail.index(name) :]

    def _from_its_begin(self, trail: list[str]) -> list[str]:
        """The trail after those that wait for its first worker, for however short a time."""
        waits = {s.waits_for[0]: n for n, s in self._sights.items() if s.waits_for is not None}
        while waits.get(trail[0], trail[0]) not in trail:
            trail = [waits[trail[0]], *trail]
        return trail

    def _in_words(self, trail: list[str]) -> str:
        """One line per worker: what it waits for, from whom, in which step, at which line."""
        last = self._sights[trail[-1]].waits_for
        is_cycle = last is not None and last[0] == trail[0]
        head = "these workers wait for each other" if is_cycle else "nothing moves any more"
        before = [None, *trail[:-1]]
        lines = [self._line(one, self._sights[n]) for one, n in zip(before, trail, strict=True)]
        return _listed(head, lines)

    def _line(self, waiting: str | None, sight: _Sight) -> str:
        it, name = sight.health, sight.name
        if sight.outside is not None or it is None:
            rest = self._owed(name, self._sights[waiting]) if waiting is not None else ""
            return f"{name} does not answer{_process(sight.outside)}{rest}"
        return (
            f"{name} {doing(it, self._programs[name], self._plan, time.monotonic() - sight.there)}"
        )

    def _owed(self, name: str, waiting: _Sight) -> str:
        """The instruction that a silent worker has not come to."""
        it = waiting.health
        if it is None or it.waits_for is None:
            return ""
        entry, body = it.waits_for[1], self._programs[name].get(it.phase, ())
        for i, what in enumerate(body):
            if type(what) is Send and what.to == waiting.name and what.entry.startswith(entry):
                return f", before {it.phase} instruction {i}: {self._plan.line(what)}"
        return ""


def doing(
    it: Health, programs: Mapping[str, Program], plan: Plan, there_s: float | None = None
) -> str:
    """What a worker does, and at which instruction; `there_s`: for how long it has been there."""
    if it.waits_for == (DRIVER, ORDER):
        return f"rests after step {it.turn}"
    at, body = it.where.position, programs.get(it.phase, ())
    line = "(at its end)" if at >= len(body) else plan.line(body[at])
    where = f"in step {it.turn}, {it.phase} instruction {at}: {line}"
    if it.waits_for is not None:
        peer, entry = it.waits_for
        return f"waits for {entry} from {peer} {where}"
    place = where if it.where.is_exact else f"generated kernels {where}, or behind it"
    return f"computes {place}" if there_s is None else f"has computed for {there_s:.1f} s {place}"


def _process(seen: Pulse | None) -> str:
    if seen is None:
        return ""
    kinds = {"T": "was stopped", "R": "computes", "D": "waits for the disk"}
    return f", its process {next((kinds[k] for k in kinds if k in seen.states), 'sleeps')}"


def _listed(head: str, lines: Iterable[str]) -> str:
    return "\n".join([f"{head}:", *(f"  worker {line}" for line in lines)])
