"""The engine that links a worker's programs: the same class in this process and on Ray workers.

Watched phases, and those not compiled yet, are interpreted on the same arrays; what one phase has
made is handed over where the other kind runs the next.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from raysym.context import of_worker
from raysym.kernels.compilers import compile_all
from raysym.kernels.link import (
    LinkedPhase,
    LinkedWorker,
    arena_bytes,
    can_link,
    link,
    needed,
    shared_kernels,
)
from raysym.kernels.llvm import host
from raysym.kernels.room import MOST_BYTES
from raysym.kernels.specs import Kernels, Spec
from raysym.kernels.team import Team
from raysym.op import Op
from raysym.planning.footprint import interpreted_bytes
from raysym.planning.lifetimes import uses
from raysym.planning.plan import Plan, Program, Run
from raysym.runtime.compiling import Code, Needs
from raysym.runtime.interpreter import (
    Interpreter,
    Where,
    Worker,
    explain,
)
from raysym.runtime.local import LocalRuntime
from raysym.runtime.protocol import Linkage, StepKey, Tap
from raysym.types import TensorType


class Linked(Interpreter):
    """Links what is loaded; workers on GPUs, and arrays in pieces, are interpreted.

    In the `background`, phases are interpreted until their kernels are made. Long kernels are
    shared by `threads` threads.
    """

    def __init__(
        self,
        worker: Worker,
        kernels: Kernels | None = None,
        poison: bool = False,
        fused: bool = True,
        background: bool = False,
        threads: int = 1,
    ) -> None:
        super().__init__(worker)
        self._team = Team(threads) if threads > 1 else None
        self._kernels = kernels or shared_kernels()
        self._poison, self._fused, self._threads = poison, fused, threads
        self._background = background
        self._phases: dict[str, LinkedPhase] = {}
        self._types: dict[str, TensorType] = {}
        self._now: LinkedPhase | None = None  # what runs, None while interpreted
        self._interpreted: set[str] = set()  # phases whose values lie with the interpreter
        self._failure: Exception | None = None
        self._linking: threading.Thread | None = None

    def load(self, programs: Mapping[str, Program], types: Mapping[str, TensorType]) -> None:
        """Add the phases, linked."""
        super().load(programs, types)
        self._types.update(types)
        for phase in programs:
            self._phases.pop(phase, None)
        values = self.worker.values
        resident = {entry: values[entry] for entry in self.worker.homes if entry in types}
        if self.worker.xp is not np or not can_link(resident):
            return
        if not self._background:
            self._link(programs, types, resident)
            return
        what = self._linking, programs, types, resident
        self._linking = threading.Thread(target=self._link_later, args=what, daemon=True)
        self._linking.start()

    def needs(
        self, programs: Mapping[str, Program], types: Mapping[str, TensorType], homes: Sequence[str]
    ) -> Needs:
        """The kernels that `load` links; none where it links nothing, or later."""
        if self.worker.xp is not np or self._background:
            return Needs()
        resident = [*homes, *(entry for entry in self.worker.homes if entry in types)]
        specs = needed(programs, types, resident, self._fused, self._threads)
        missing = tuple(spec for spec in specs if self._kernels.is_missing(spec))
        return Needs(host(), tuple(set(specs).difference(missing)), missing)

    def compiled(self, kernels: Sequence[Spec]) -> list[Code]:
        """The code of these kernels, made by all processors of this node."""
        compile_all(self._kernels, kernels)
        return [self._kernels.code(spec) for spec in kernels]

    def keep(self, codes: Mapping[Spec, Code]) -> None:
        """Enter into this node's cache what a like host has made."""
        for spec, code in codes.items():
            self._kernels.keep(spec, *code)

    @property
    def made(self) -> list[LinkedWorker]:
        """What has been linked, in order; what was loaded anew is gone."""
        return list({id(phase.owner): phase.owner for phase in self._phases.values()}.values())

    def wait(self) -> None:
        """Return when nothing is being compiled; raises what went wrong there."""
        if self._linking is not None:
            self._linking.join()
        if self._failure is not None:
            raise self._failure

    def _link_later(self, before: threading.Thread | None, *what: Any) -> None:
        if before is not None:
            before.join()
        try:
            self._link(*what)
        except Exception as error:  # raised to whoever runs or loads next
            self._failure = error

    def _link(
        self,
        programs: Mapping[str, Program],
        types: Mapping[str, TensorType],
        resident: Mapping[str, Any],
    ) -> None:
        worker = self.worker

        def explained(error: Exception, run: Run, args: Mapping[str, Any]) -> Exception:
            return explain(error, run.op, run, Worker(worker.name, worker.xp, dict(args)))

        made = link(
            programs,
            types,
            resident,
            explained,
            self._kernels,
            poison=self._poison,
            fused=self._fused,
            team=self._team,
            mailbox=worker.mailbox,
        )
        for phase, found in made.phases.items():
            if self.programs[phase] is programs[phase]:  # not loaded anew meanwhile
                self._phases[phase] = found

    def close(self) -> None:
        """End the threads that share kernels."""
        if self._team is not None:
            self._team.close()

    def linked(self, phase: str) -> Linkage | None:
        """How the phase was linked; None when it is interpreted."""
        self.wait()
        found = self._phases.get(phase)
        return None if found is None else Linkage(found.owner.nbytes, str(found.owner))

    def is_generated(self, phase: str) -> bool:
        """True when the phase is linked, and has no reference kernel."""
        found = self._phases.get(phase)
        return found is not None and found.is_generated

    def retune(self, phase: str, old: Op, new: Op) -> None:
        """Run `new` wherever the phase runs `old`; linked anew where its kernels do not fit."""
        super().retune(phase, old, new)
        runs = [i for i in self.programs[phase] if type(i) is Run and i.op == new]
        found = self._phases.get(phase)
        if runs and (found is None or found.owner.retune(phase, old, new) != len(runs)):
            self.load({phase: self.programs[phase]}, self._types)

    def where(self, phase: str) -> Where:
        """Which instruction of the phase runs: generated kernels do not say which of them does."""
        now = self._now
        if now is None:
            return super().where(phase)
        reached, body = now.owner.reached, self.programs.get(phase, ())
        at = next((i for i, one in enumerate(body) if one is reached), None)
        return Where(0, False) if at is None else Where(at, now.owner.is_inside)

    # ----- running

    def advance(
        self, phase: str, key: StepKey, start: int = 0, tap: Tap | None = None
    ) -> int | None:
        """Run a phase from `start`; where a message was missing, None at the end."""
        if start == 0:
            self._begin(phase, key, tap)
        if self._now is None:
            return super().advance(phase, key, start, tap)
        begun = time.perf_counter()
        try:
            reached = self._now.advance(key, start)
        finally:
            self.worker.clock.total += time.perf_counter() - begun
        return reached if reached < len(self._now) else None

    def _begin(self, phase: str, key: StepKey, tap: Tap | None) -> None:
        """Choose how the phase runs, and hand it what earlier phases have made."""
        if self._failure is not None:
            raise self._failure
        found = self._phases.get(phase)
        self._now = None if tap is not None else found
        if found is not None and found.carried:
            is_theirs = not self._interpreted.isdisjoint(found.earlier)
            if self._now is not None and is_theirs:
                self._hand_in(found.carried)
                found.owner.is_spent = False
            elif self._now is None and not is_theirs:
                found.refresh(key)
                self._hand_out(phase, found.carried)
        (self._interpreted.add if self._now is None else self._interpreted.discard)(phase)

    def _hand_in(self, carried: Mapping[str, list[Any]]) -> None:
        for name, places in carried.items():
            for place in places if name in self.worker.values else ():
                if place.flags.writeable:
                    place[...] = self.worker.values[name]

    def _hand_out(self, phase: str, carried: Mapping[str, list[Any]]) -> None:
        for name in uses(self.programs[phase]) & set(carried):
            self.worker.values[name] = np.array(carried[name][0], order="C")


@dataclass(frozen=True)
class LinkedEngines:
    """Opens linking engines; see `engines.Engines`. Options as for `Linked`."""

    kernels: Kernels | None = None
    poison: bool = False
    fused: bool = True
    background: bool = False
    threads: int = 1
    cache_bytes: int = MOST_BYTES  # of the cache on disk, where no `kernels` are given

    def open(self, worker: Worker) -> Linked:
        """The engine of a worker."""
        kernels = self.kernels or shared_kernels(self.cache_bytes)
        options = self.poison, self.fused, self.background, self.threads
        return Linked(worker, kernels, *options)

    def work_bytes(self, plan: Plan) -> dict[str, int]:
        """The arena of each worker, or what its values take where it is interpreted."""
        found = interpreted_bytes(plan)
        for name in plan.workers:
            if of_worker(name).device_type == "cpu":
                homes = [home for home, worker in plan.homes.items() if worker == name]
                found[name] = arena_bytes(plan.programs[name], plan.types, homes, self.threads)
        return found


class LinkedRuntime(LocalRuntime):
    """The local runtime with linked workers; see `Linked`.

    Kernels use `threads` threads.
    """

    def __init__(
        self,
        threads: int = 1,
        kernels: Kernels | None = None,
        poison: bool = False,
        fused: bool = True,
    ) -> None:
        super().__init__(threads, LinkedEngines(kernels, poison, fused, threads=threads))

    @property
    def workers(self) -> list[LinkedWorker]:
        """What has been linked."""
        engines = [engine for engine in self.engines.values() if isinstance(engine, Linked)]
        return [made for engine in engines for made in engine.made]
