"""A session keeps an executor's arrays and its workers' resident entries the same.

It compiles each mode when it is first used, pushes arrays that the user wrote to, and marks those
that a phase wrote as newer on the workers.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from raysym.context import cpu, of_worker
from raysym.errors import MXNetError, WorkerError
from raysym.graph import Node
from raysym.nd.creation import zeros
from raysym.ndarray import NDArray
from raysym.planning.compile import compile_plan
from raysym.planning.lean import Budget
from raysym.planning.pipeline import STEP, WHOLE, Pipeline
from raysym.planning.plan import Plan, split_entry
from raysym.planning.step import Bound, Step
from raysym.runtime.protocol import Runtime, StepKey, Tap
from scheduler.collector import collection_paused

MODE_OF_PHASE = {
    "forward": "training",
    "backward": "training",
    "inference": "inference",
    "inference_backward": "inference_backward",
    "step": "step",
}
IN_FLIGHT = 4  # steps of a stream that may be under way


@dataclass
class Session:
    """One bound graph on one runtime."""

    bound: Bound
    placement: Mapping[Node, str]
    runtime: Runtime
    arrays: dict[str, NDArray]  # resident entry -> the array that users see
    memory: Mapping[str, float] = field(default_factory=dict)
    modes: dict[str, tuple[Step, Plan]] = field(default_factory=dict)
    tap: Tap | None = None
    pipeline: Pipeline = WHOLE
    limit: int | str | None = None  # bytes for values that come and go, see planning/lean.py
    _pushed: dict[str, int] = field(default_factory=dict)
    _outdated: set[str] = field(default_factory=set)  # modes compiled before a monitor came or went

    def mode(self, name: str) -> tuple[Step, Plan]:
        """The step and plan of a mode, compiled and loaded when first asked for."""
        if name in self._outdated and name != "training":  # that one is, when forward runs
            self._renew(name)
        if name not in self.modes:
            with collection_paused():
                tidy = self.tap is None
                budget = Budget(self.limit, self.runtime.work_bytes) if self.limit else None
                step, plan = compile_plan(
                    self.bound,
                    self.placement,
                    name,
                    self.memory,
                    tidy,
                    self.pipeline,
                    budget if tidy else None,
                )
                self._load(plan)
                self.modes[name] = step, self.runtime.route(plan)
        return self.modes[name]

    def _load(self, plan: Plan) -> None:
        for home in plan.homes:
            if home not in self.arrays:  # head gradients are internal
                kind = plan.types[home]
                ctx = of_worker(plan.homes[home]) if self.runtime.shares_memory else cpu()
                self.arrays[home] = zeros(kind.shape, ctx, kind.dtype)
        fresh = {home for home in plan.homes if home not in self._pushed}
        self.runtime.load(plan, {home: self._read(home) for home in fresh})
        self._pushed.update({home: self.arrays[home].chunk.version for home in fresh})

    def _read(self, home: str) -> Any:
        array = self.arrays[home]
        array.chunk.read()
        return array.data

    def watch(self, tap: Tap | None) -> None:
        """Call `tap` with every value that a phase computes; None ends it.

        Watched modes keep nodes that others simplify away. A backward belongs to the forward that
        ran before, so training changes with its next forward.
        """
        if (tap is None) != (self.tap is None):
            self._outdated = set(self.modes)
        self.tap = tap

    def _renew(self, mode: str) -> None:
        self._outdated.discard(mode)
        self.modes.pop(mode, None)

    def run(self, phase: str, key: StepKey) -> None:
        """Push what changed here, run a phase, mark what changed there."""
        if phase == "forward" and "training" in self._outdated:
            self._renew("training")
        plan = self.mode(MODE_OF_PHASE[phase])[1]
        self._push(plan.homes)
        try:
            self.runtime.run(phase, key, self.tap)
        except MXNetError as error:
            self._explain(error)
            raise
        self._mark(plan.written(phase))

    def stream(self, keys: Iterable[StepKey], wanted: Sequence[str]) -> Iterator[dict[str, Any]]:
        """A step for each key, `IN_FLIGHT` of them under way: yields the entries wanted of each.

        Whoever makes the keys writes the step's data into the bound arrays first.
        """
        tickets: deque[int] = deque()
        try:
            for key in keys:
                plan = self.mode(STEP)[1]
                self._push(plan.homes)
                tickets.append(self.runtime.submit((STEP,), key, wanted))
                self._mark(plan.written(STEP))
                if len(tickets) == IN_FLIGHT:
                    yield self.runtime.result(tickets.popleft())
            while tickets:
                yield self.runtime.result(tickets.popleft())
        finally:
            with suppress(MXNetError):  # a stream that was left early, or ended by an error
                for ticket in tickets:
                    self.runtime.result(ticket)

    def _explain(self, error: MXNetError) -> None:
        """Add the user's node, and the line that made it, to what a worker knows of a failure."""
        name = split_entry(error.entry)[0].partition("#")[0].removesuffix("_backward")
        node = next((n for n, own in self.bound.names.items() if own == name), None)
        if node is not None and node.source:
            where = f"belongs to {node.op.name} '{node.name}', made at {node.source}"
            error.args = (f"{error.args[0]}\n  {where}", *error.args[1:])

    def _push(self, homes: Iterable[str]) -> None:
        changed = [h for h in homes if self._pushed[h] != self.arrays[h].chunk.version]
        if changed and not self.runtime.shares_memory:
            self.runtime.push({home: self._read(home) for home in changed})
        for home in changed:
            self._read(home)
            self._pushed[home] = self.arrays[home].chunk.version

    def _mark(self, homes: Iterable[str]) -> None:
        homes = list(homes)
        pulls = {} if self.runtime.shares_memory else _pulls(self.runtime, homes)
        for home in homes:
            array = self.arrays[home]
            if self.runtime.shares_memory:
                array.chunk.version += 1
            elif array.size == array.chunk.data.size:
                array.chunk.mark_stale(pulls[home])
            else:  # a part of a larger block: other parts must stay
                array[...] = self.runtime.fetch([home])[home]
            self._pushed[home] = array.chunk.version

    def close(self) -> None:
        """Bring home what only the workers hold, then let them go."""
        with suppress(WorkerError):  # of a dead worker nothing can be brought home
            for array in self.arrays.values():
                array.chunk.read()
        self.runtime.close()


def _pulls(runtime: Runtime, homes: Sequence[str]) -> dict[str, Callable[[], Any]]:
    """How to bring home what a phase wrote: who reads one gradient soon reads them all.

    The first pull of a kind (outputs, gradients, states) fetches all of that kind in one go.
    """
    kinds: dict[str, list[str]] = {}
    for home in homes:
        kinds.setdefault(home.partition(":")[0] if ":" in home else "", []).append(home)
    found: dict[str, Callable[[], Any]] = {}
    for group in kinds.values():
        held: dict[str, Any] = {}
        found.update({home: partial(_pull, runtime, home, group, held) for home in group})
    return found


def _pull(runtime: Runtime, home: str, group: Sequence[str], held: dict[str, Any]) -> Any:
    if home not in held:
        held.update(runtime.fetch(group))
    return held.pop(home)
