"""What every runtime offers, and the key under which a step draws its random numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias

from raysym.op import Op
from raysym.planning.plan import Plan, Run

IN_FLIGHT = 4  # steps that may be under way
DEADLINE_S = 300.0  # how long a step may take unless the user says otherwise

Arrays: TypeAlias = Mapping[str, Any]
# Called with every Run that finished, what went in and what came out, for monitors.
Tap: TypeAlias = Callable[[Run, Sequence[Any], Sequence[Any]], None]


class StepKey(NamedTuple):
    """Seed and number of a step: with a node's name they fix every random number."""

    seed: int
    step: int


class Linkage(NamedTuple):
    """How a worker's phase was linked: bytes of its arena, and its calls as text."""

    nbytes: int
    text: str


class Runtime(Protocol):
    """Runs the phases of plans on workers that keep resident entries between calls."""

    def load(self, plan: Plan, arrays: Arrays) -> None:
        """Give each worker its programs and the first content of its resident entries."""

    def admit(self, plan: Plan) -> None:
        """PlacementError where there would be no room for the messages of the plan."""

    def route(self, plan: Plan) -> Plan:
        """The plan, with the transport of each edge where edges cross processes."""

    def run(self, phase: str, key: StepKey, tap: Tap | None = None) -> None:
        """Run one phase on all workers; raises what a worker raised."""

    def retune(self, phase: str, old: Op, new: Op) -> None:
        """From the next step on, run `new` wherever the phase runs `old`: with other numbers."""

    def submit(self, phases: Sequence[str], key: StepKey, wanted: Iterable[str] = ()) -> int:
        """Begin a step of several phases and return its ticket; several may be under way."""

    def result(self, ticket: int) -> dict[str, Any]:
        """The wanted entries as they were at the end of that step; raises what a worker raised."""

    def push(self, arrays: Arrays) -> None:
        """Overwrite resident entries."""

    def fetch(self, names: Iterable[str]) -> dict[str, Any]:
        """Content of resident entries as host arrays."""

    def snapshot(self, names: Iterable[str]) -> dict[str, Any]:
        """Copies of resident entries between two steps: after those that have begun."""

    def health(self) -> dict[str, str]:
        """What each worker that is another process does right now, in words."""

    @property
    def shares_memory(self) -> bool:
        """True when resident entries are the very arrays given to `load`."""

    def work_bytes(self, plan: Plan) -> dict[str, int]:
        """Bytes that each worker would plan for values that come and go; needs no `load`."""

    def timings(self) -> dict[str, dict[str, float]]:
        """Seconds that each worker spent computing, communicating and waiting so far."""

    def linked(self, phase: str) -> dict[str, Linkage]:
        """How each worker linked the phase; workers that interpret theirs are left out."""

    def hurry(self) -> None:
        """What is fetched from now on comes soon, or the fetch fails: `close` follows."""

    def close(self) -> None:
        """Let go of everything; always returns quickly; may be called twice."""
