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
from raysym.device import place, to_numpy
from raysym.errors import MXNetError, StallError, WorkerError, in_words, sentence, some
from raysym.graph import Node, split_variables
from raysym.nd.creation import array, zeros_in_a_row
from raysym.ndarray import NDArray
from raysym.planning.compile import compile_plan
from raysym.planning.footprint import Footprint, footprints
from raysym.planning.lean import Budget
from raysym.planning.pipeline import STEP, WHOLE, Pipeline
from raysym.planning.plan import Plan, split_entry
from raysym.planning.shares import Share, joined
from raysym.planning.step import Bound, Step
from raysym.planning.update import MASTER, Optimizer, first_state, plan_with_op, retuning
from raysym.runtime.protocol import IN_FLIGHT, Runtime, StepKey, Tap
from raysym.types import Shape, TensorType
from scheduler.collector import collection_paused

MODE_OF_PHASE = {
    "forward": "training",
    "backward": "training",
    "inference": "inference",
    "inference_backward": "inference_backward",
    "step": "step",
}


@dataclass
class Session:
    """One bound graph on one runtime."""

    bound: Bound
    placement: Mapping[Node, str]
    runtime: Runtime
    arrays: dict[str, NDArray]  # the arrays that users see, by the name of their home
    memory: Mapping[str, float] = field(default_factory=dict)
    modes: dict[str, tuple[Step, Plan]] = field(default_factory=dict)
    tap: Tap | None = None
    pipeline: Pipeline = WHOLE
    budget: Budget | None = None  # bytes for values that come and go
    _pushed: dict[str, int] = field(default_factory=dict)  # resident entry -> version of its array
    _shares: dict[str, tuple[Share, Shape]] = field(default_factory=dict)
    _entries: dict[str, tuple[str, ...]] = field(default_factory=dict)  # array -> entries, to read
    _masters: dict[str, str] = field(default_factory=dict)  # float32 master -> its weight
    _outdated: set[str] = field(default_factory=set)  # modes compiled before a monitor came or went
    _planned: dict[str, tuple[Step, Plan]] = field(default_factory=dict)  # not loaded yet

    def mode(self, name: str) -> tuple[Step, Plan]:
        """The step and plan of a mode, compiled and loaded when first asked for."""
        if name in self._outdated and name != "training":  # that one is, when forward runs
            self._renew(name)
        if name not in self.modes:
            with collection_paused():
                if name not in self._planned:
                    self._planned[name] = self._compiled(name, self.pipeline)
                step, plan = self._planned.pop(name)
                self._load(plan)
                self.modes[name] = step, self.runtime.route(plan)
        return self.modes[name]

    def plan_step(self) -> None:
        """Compile the mode "step" before it is used: what cannot run is refused now."""
        self._planned[STEP] = self._compiled(STEP, self.pipeline)

    def admit_step(self) -> None:
        """Refuse a planned step whose messages have no room; "training" has been loaded."""
        for _, plan in self._planned.values():
            self.runtime.admit(plan)

    def _compiled(self, mode: str, pipeline: Pipeline) -> tuple[Step, Plan]:
        tidy = self.tap is None
        budget = self.budget if tidy else None  # monitors see every node once
        return compile_plan(self.bound, self.placement, mode, self.memory, tidy, pipeline, budget)

    def _load(self, plan: Plan) -> None:
        fresh = [entry for entry in plan.homes if entry not in self._shares]
        for entry in fresh:
            share = Share.of(entry)
            self._shares[entry] = share, plan.types[entry].shape
            if share.is_part:
                before = self._entries.get(share.home, ())
                self._entries[share.home] = (*before, entry)
            elif not share.is_copy:
                self._entries[share.home] = (entry,)
        self._make_missing(plan, fresh)
        self.runtime.load(plan, {e: self._first(e, plan.homes[e]) for e in fresh})
        self._pushed.update({entry: self._array(entry).chunk.version for entry in fresh})

    def _make_missing(self, plan: Plan, fresh: Sequence[str]) -> None:
        """Arrays that nobody gave, in a row: head gradients and the optimizer's states."""
        shares = {entry: self._shares[entry][0] for entry in fresh}
        missing: dict[str, str] = {}  # home -> the first of its entries
        for entry, share in shares.items():
            if share.home not in self.arrays:
                missing.setdefault(share.home, entry)
        kinds = [self._kind(shares[entry], plan.types[entry]) for entry in missing.values()]
        is_here = self.runtime.shares_memory
        contexts = [of_worker(plan.homes[e]) if is_here else cpu() for e in missing.values()]
        for home, make in zip(missing, zeros_in_a_row(kinds, contexts), strict=True):
            self.arrays[home] = make()
            if home.startswith("state:"):
                self.arrays[home][:] = first_state(home, self.arrays)
            if home.startswith(f"state:{MASTER}:"):
                self._masters[home] = home.removeprefix(f"state:{MASTER}:")

    def _kind(self, share: Share, kind: TensorType) -> TensorType:
        """The type of the whole array that an entry of some type is a share of."""
        if not share.is_part:
            return kind
        head = int(share.home.removeprefix("head_grad:"))
        return self.bound.types[self.bound.graph.outputs[head]]

    def works(self, mode: str | None = None) -> dict[str, dict[str, int]]:
        """By mode that is loaded, or of one: bytes of each worker for values that come and go.

        MXNetError for a mode that is not loaded.
        """
        if mode not in (None, *self.modes):
            expected = f"one of {in_words(self.modes)}"
            raise MXNetError(sentence("memory: mode", repr(mode), expected))
        chosen = [mode] if mode else list(self.modes)
        return {name: self.runtime.work_bytes(self.modes[name][1]) for name in chosen}

    def footprints(self, works: Mapping[str, Mapping[str, int]]) -> dict[str, Footprint]:
        """What each worker plans for the modes that `works` are of."""
        states = {self.bound.names[node] for node in split_variables(self.bound.graph)[1]}
        return footprints([self.modes[name][1] for name in works], states, list(works.values()))

    def set_optimizer(self, optimizer: Optimizer | None) -> None:
        """Update by this from the next step on; states of the same name go on."""
        change = retuning(self.pipeline.optimizer, optimizer)
        pipeline = self.pipeline._replace(optimizer=optimizer)
        if change is None or STEP not in self.modes:
            self._planned[STEP] = self._compiled(STEP, pipeline)
            self.modes.pop(STEP, None)
        else:
            step, plan = self.modes[STEP]
            self.modes[STEP] = step, plan_with_op(plan, STEP, *change)
            self.runtime.retune(STEP, *change)
        self.pipeline = pipeline

    def states(self) -> dict[str, NDArray]:
        """The states of the optimizer, if there is one: ``mom:fc_weight``."""
        if self.pipeline.optimizer is None:
            return {}
        held = [entry for entry in self.mode(STEP)[1].homes if entry.startswith("state:")]
        return {entry.removeprefix("state:"): self.arrays[entry] for entry in held}

    def states_like(self, given: Iterable[str]) -> dict[str, NDArray]:
        """The optimizer's states; ValueError where others are given."""
        found = self.states()
        if set(given) != set(found):
            what = "restore: states of the optimizer"
            raise ValueError(sentence(what, some(sorted(given)), some(sorted(found)) or "none"))
        return found

    def _array(self, entry: str) -> NDArray:
        return self.arrays[self._shares[entry][0].home]

    def _read(self, entry: str) -> Any:
        """The newest content of a resident entry, as a view of the user's array."""
        share, shape = self._shares[entry]
        return share.cut(self.arrays[share.home].data, shape)

    def _first(self, entry: str, worker: str) -> Any:
        """What a resident entry starts with; further copies have a memory of their own."""
        content = self._read(entry)
        is_own = self.runtime.shares_memory and self._shares[entry][0].is_copy
        return place(content, of_worker(worker)) if is_own else content

    def contents(self, plan: Plan) -> dict[str, Any]:
        """Host arrays with the newest content of all resident entries of a plan."""
        return {entry: to_numpy(self._read(entry)) for entry in plan.homes}

    def made(self, mode: str, homes: Iterable[str]) -> list[str]:
        """Those of the arrays that a mode keeps on the workers."""
        held = {Share.of(entry).home for entry in self.mode(mode)[1].homes}
        return [home for home in homes if home in held]

    def fetch(self, homes: Iterable[str]) -> dict[str, Any]:
        """The newest content of arrays, as the workers have it."""
        names = [entry for home in homes for entry in self._entries[home]]
        return self._joined(homes, self.runtime.fetch(names))

    def snapshot(self, homes: Iterable[str]) -> dict[str, NDArray]:
        """Copies of these arrays and of the optimizer's states, as they are between two steps.

        What the user wrote and no step has used yet is as the user wrote it.
        """
        self._renew_masters()
        held = [*homes, *(f"state:{name}" for name in self.states())]
        away = [home for home in held if home in self._entries and not self._is_newer_here(home)]
        entries = [entry for home in away for entry in self._entries[home]]
        found = self._joined(away, self.runtime.snapshot(entries)) if away else {}
        here = {home: self.arrays[home].asnumpy() for home in held if home not in found}
        return {home: array(value, dtype=value.dtype) for home, value in {**found, **here}.items()}

    def _is_newer_here(self, home: str) -> bool:
        version = self.arrays[home].chunk.version
        return any(self._pushed[entry] != version for entry in self._entries[home])

    def _joined(self, homes: Iterable[str], found: Mapping[str, Any]) -> dict[str, Any]:
        return {
            home: joined(self.arrays[home].shape, [found[e] for e in self._entries[home]])
            for home in homes
        }

    def watch(self, tap: Tap | None) -> None:
        """Call `tap` with every value that a phase computes; None ends it.

        Watched modes keep nodes that others simplify away. A backward belongs to the forward that
        ran before, so training changes with its next forward.
        """
        if (tap is None) != (self.tap is None):
            self._outdated = set(self.modes)
            self._planned.clear()
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
                entries = [entry for home in wanted for entry in self._entries[home]]
                self._push(plan.homes)
                tickets.append(self.runtime.submit((STEP,), key, entries))
                self._mark(plan.written(STEP))
                if len(tickets) == IN_FLIGHT:
                    yield self._joined(wanted, self.runtime.result(tickets.popleft()))
            while tickets:
                yield self._joined(wanted, self.runtime.result(tickets.popleft()))
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

    def _push(self, entries: Iterable[str]) -> None:
        self._renew_masters()
        changed = [e for e in entries if self._pushed[e] != self._array(e).chunk.version]
        shares = self.runtime.shares_memory
        away = [e for e in changed if not shares or self._shares[e][0].is_copy]
        if away:
            self.runtime.push({entry: self._read(entry) for entry in away})
        for entry in changed:
            self._read(entry)
            self._pushed[entry] = self._array(entry).chunk.version

    def _renew_masters(self) -> None:
        """The float32 masters of weights that the user has written follow them, unless written."""
        for master, weight in self._masters.items():
            if self._is_newer_here(weight) and not self._is_newer_here(master):
                self.arrays[master][:] = self.arrays[weight]

    def _mark(self, entries: Iterable[str]) -> None:
        entries = list(entries)
        homes = list(dict.fromkeys(self._shares[entry][0].home for entry in entries))
        pulls = {} if self.runtime.shares_memory else _pulls(self, homes)
        for home in homes:
            array = self.arrays[home]
            if self.runtime.shares_memory:
                array.chunk.version += 1
            elif array.size == array.chunk.data.size:
                array.chunk.mark_stale(pulls[home])
            else:  # a part of a larger block: other parts must stay
                array[...] = self.fetch([home])[home]
        for entry in entries:
            self._pushed[entry] = self._array(entry).chunk.version

    def close(self) -> None:
        """Bring home what only the workers hold, then let them go.

        Of a worker that is dead, or does not answer at once, nothing can be brought home.
        """
        self.runtime.hurry()
        try:
            with suppress(WorkerError, StallError):
                for array in self.arrays.values():
                    array.chunk.read()
        finally:
            self.runtime.close()


def _pulls(session: Session, homes: Sequence[str]) -> dict[str, Callable[[], Any]]:
    """How to bring home what a phase wrote: who reads one gradient soon reads them all.

    The first pull of a kind (outputs, gradients, states) fetches all of that kind in one go.
    """
    kinds: dict[str, list[str]] = {}
    for home in homes:
        kinds.setdefault(home.partition(":")[0] if ":" in home else "", []).append(home)
    found: dict[str, Callable[[], Any]] = {}
    for group in kinds.values():
        held: dict[str, Any] = {}
        found.update({home: partial(_pull, session, home, group, held) for home in group})
    return found


def _pull(session: Session, home: str, group: Sequence[str], held: dict[str, Any]) -> Any:
    if home not in held:
        held.update(session.fetch(group))
    return held.pop(home)
