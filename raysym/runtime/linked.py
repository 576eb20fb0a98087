"""The local runtime whose workers run linked programs instead of interpreting theirs."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from raysym.context import of_worker
from raysym.kernels.link import LinkedPhase, LinkedWorker, arena_bytes, can_link, link
from raysym.kernels.specs import Kernels
from raysym.planning.plan import Plan, Run
from raysym.runtime.interpreter import Clock, Mailbox, Runnable, Worker, explain
from raysym.runtime.local import LocalRuntime
from raysym.runtime.protocol import Arrays, StepKey, Tap


@dataclass(frozen=True)
class TimedPhase:
    """A linked phase that says how long it ran."""

    phase: LinkedPhase
    clock: Clock

    def __len__(self) -> int:
        return len(self.phase)

    def advance(
        self, mailbox: Mailbox, key: StepKey, start: int = 0, tap: Tap | None = None
    ) -> int:
        """See `interpreter.Phase`; nobody can watch."""
        begun = time.perf_counter()
        reached = self.phase.advance(mailbox, key, start)
        self.clock.spend("compute", begun, time.perf_counter())
        return reached


class LinkedRuntime(LocalRuntime):
    """Links what is loaded; workers on GPUs, and arrays in pieces, are interpreted as before.

    Matrix products of reference kernels use `threads` threads, generated kernels one.
    """

    def __init__(
        self,
        threads: int = 1,
        kernels: Kernels | None = None,
        poison: bool = False,
        fused: bool = True,
    ) -> None:
        super().__init__(threads)
        self._kernels, self._poison, self._fused = kernels, poison, fused
        self.linked: list[LinkedWorker] = []
        self._linked: dict[str, dict[str, TimedPhase]] = {}

    def load(self, plan: Plan, arrays: Arrays) -> None:
        """Add the plan's phases, linked."""
        super().load(plan, arrays)
        for name, worker in self._workers.items():
            if name in plan.programs and can_link(self._resident(plan, worker)):
                self._link(plan, name, worker)

    def _resident(self, plan: Plan, worker: Worker) -> dict[str, Any]:
        return {entry: worker.values[entry] for entry in worker.homes if entry in plan.homes}

    def _link(self, plan: Plan, name: str, worker: Worker) -> None:
        resident = self._resident(plan, worker)

        def explained(error: Exception, run: Run, args: Mapping[str, Any]) -> Exception:
            return explain(error, run.op, run, Worker(name, worker.xp, dict(args)))

        programs = plan.programs[name]
        made = link(
            programs,
            plan.types,
            resident,
            explained,
            self._kernels,
            poison=self._poison,
            fused=self._fused,
        )
        self.linked.append(made)
        linked = self._linked.setdefault(name, {})
        linked.update({n: TimedPhase(phase, worker.clock) for n, phase in made.phases.items()})

    def _phase(self, name: str, phase: str, tap: Tap | None) -> Runnable:
        """While watched it is interpreted, so that all values can be seen."""
        linked = self._linked.get(name, {}).get(phase) if tap is None else None
        return super()._phase(name, phase, tap) if linked is None else linked

    def work_bytes(self, plan: Plan) -> dict[str, int]:
        """The arena of each worker, or what its values take where it is interpreted."""
        found = super().work_bytes(plan)
        for name in plan.workers:
            if of_worker(name).device_type == "cpu":
                homes = [home for home, worker in plan.homes.items() if worker == name]
                found[name] = arena_bytes(plan.programs[name], plan.types, homes)
        return found
