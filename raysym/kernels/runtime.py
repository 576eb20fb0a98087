"""The local runtime whose workers run linked programs instead of interpreting theirs."""

from __future__ import annotations

from collections import deque
from typing import Any

from raysym.kernels.link import LinkedPhase, LinkedWorker, can_link, link
from raysym.kernels.specs import Kernels
from raysym.planning.plan import Plan
from raysym.runtime.interpreter import Worker
from raysym.runtime.local import _Box as Box
from raysym.runtime.local import LocalRuntime
from raysym.runtime.protocol import Arrays, StepKey, Tap


class LinkedRuntime(LocalRuntime):
    """Links what is loaded; workers on GPUs, and arrays in pieces, are interpreted as before."""

    def __init__(
        self, threads: int = 1, kernels: Kernels | None = None, poison: bool = False
    ) -> None:
        super().__init__(threads)
        self._kernels, self._poison = kernels, poison
        self.linked: list[LinkedWorker] = []

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
        made = link(plan.programs[name], plan.types, resident, self._kernels, self._poison)
        self.linked.append(made)
        self._programs[name].update(made.phases)  # type: ignore[arg-type]

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
        if not isinstance(program, LinkedPhase):
            return super()._advance(name, phase, key, start, mail, tap)
        return program.advance(self._workers[name], Box(name, mail, self._workers), key, start)
