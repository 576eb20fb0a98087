"""The local runtime whose workers run linked programs instead of interpreting theirs."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from typing import Any

from raysym.kernels.link import LinkedPhase, LinkedWorker, can_link, link
from raysym.kernels.specs import Kernels
from raysym.planning.plan import Plan, Program, Run
from raysym.runtime.interpreter import Worker, explain
from raysym.runtime.local import Box, LocalRuntime
from raysym.runtime.protocol import Arrays, StepKey, Tap


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
        self._plain: dict[str, dict[str, Program]] = {}

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
        self._plain.setdefault(name, {}).update(programs)
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
        self._programs[name].update(made.phases)  # type: ignore[arg-type]

    def run(self, phase: str, key: StepKey, tap: Tap | None = None) -> None:
        """One phase; while watched it is interpreted, so that all values can be seen."""
        if tap is None:
            return super().run(phase, key)
        linked = self._programs
        self._programs = {name: {**linked[name], **self._plain.get(name, {})} for name in linked}
        try:
            super().run(phase, key, tap)
        finally:
            self._programs = linked

    def _advance(
        self,
        name: str,
        phase: str,
        key: StepKey,
        start: int,
        mail: dict[tuple[str, str, str], deque[Any]],
        tap: Tap | None,
    ) -> int:
        program: Any = self._programs[name][phase]
        worker = self._workers[name]
        if not isinstance(program, LinkedPhase):
            return super()._advance(name, phase, key, start, mail, tap)
        begun = time.perf_counter()
        reached = program.advance(Box(name, mail, self._workers), key, start)
        worker.clock.compute += time.perf_counter() - begun
        return reached
