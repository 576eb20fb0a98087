"""The reference runtime: all workers of a plan in this process, taking turns."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from raysym.context import of_worker
from raysym.device import array_module, on_device, place, to_numpy
from raysym.errors import PlanError
from raysym.planning.footprint import interpreted_bytes
from raysym.planning.plan import Plan, Program
from raysym.runtime.interpreter import Phase, Runnable, Worker
from raysym.runtime.protocol import Arrays, StepKey, Tap
from raysym.runtime.threads import pinned


class LocalRuntime:
    """Workers share the process; a message is a copy in the receiver's memory."""

    def __init__(self, threads: int = 1) -> None:
        self._threads = threads
        self._workers: dict[str, Worker] = {}
        self._programs: dict[str, dict[str, Program]] = {}
        self._phases: dict[str, dict[str, Phase]] = {}
        self._home_of: dict[str, str] = {}
        self._results: dict[int, dict[str, Any]] = {}
        self._ticket = 0

    @property
    def shares_memory(self) -> bool:
        """Resident entries are the arrays given to `load`."""
        return True

    def load(self, plan: Plan, arrays: Arrays) -> None:
        """Add the plan's phases; arrays are aliased, not copied."""
        for name in plan.workers:
            if name not in self._workers:
                self._workers[name] = Worker(name, array_module(of_worker(name)))
            self._programs.setdefault(name, {}).update(plan.programs[name])
        self._home_of.update(plan.homes)
        for entry, array in arrays.items():
            worker = self._workers[self._home_of[entry]]
            worker.values[entry] = array
            worker.homes.add(entry)
        for name, programs in self._programs.items():
            worker = self._workers[name]
            self._phases[name] = {phase: Phase(worker, p) for phase, p in programs.items()}

    def route(self, plan: Plan) -> Plan:
        """The plan as it is: no edge leaves the process."""
        return plan

    def run(self, phase: str, key: StepKey, tap: Tap | None = None) -> None:
        """Let each worker run until it waits for a message, round after round."""
        mail: dict[tuple[str, str, str], deque[Any]] = {}
        found = {n: self._phase(n, phase, tap) for n, p in self._programs.items() if p.get(phase)}
        at = dict.fromkeys(found, 0)
        with pinned(self._threads):
            while at:
                before = dict(at)
                for name in list(at):
                    box = Box(name, mail, self._workers)
                    with on_device(of_worker(name)):
                        at[name] = found[name].advance(box, key, at[name], tap)
                    if at[name] == len(found[name]):
                        del at[name]
                if at == before:
                    raise PlanError(f"{phase}: all workers wait: {', '.join(at)}")

    def _phase(self, name: str, phase: str, tap: Tap | None) -> Runnable:
        """What a worker runs in a phase, watched or not."""
        return self._phases[name][phase]

    def submit(self, phases: Sequence[str], key: StepKey, wanted: Iterable[str] = ()) -> int:
        """Run the phases now; the ticket of the results."""
        for phase in phases:
            self.run(phase, key)
        self._ticket += 1
        self._results[self._ticket] = {n: np.array(a) for n, a in self.fetch(wanted).items()}
        return self._ticket

    def result(self, ticket: int) -> dict[str, Any]:
        """The wanted entries as they were at the end of that step."""
        return self._results.pop(ticket)

    def push(self, arrays: Arrays) -> None:
        """Overwrite resident entries in place."""
        for entry, array in arrays.items():
            self._workers[self._home_of[entry]].values[entry][...] = array

    def fetch(self, names: Iterable[str]) -> dict[str, np.ndarray[Any, Any]]:
        """Content of resident entries as host arrays (aliases on the CPU)."""
        return {n: to_numpy(self._workers[self._home_of[n]].values[n]) for n in names}

    def work_bytes(self, plan: Plan) -> dict[str, int]:
        """Bytes of values that come and go on each worker."""
        return interpreted_bytes(plan)

    def timings(self) -> dict[str, dict[str, float]]:
        """Seconds by worker; a waiting worker gives way to another, so nobody waits long."""
        return {name: worker.clock.as_dict() for name, worker in self._workers.items()}

    def close(self) -> None:
        """Forget programs and arrays."""
        self._workers.clear()
        self._programs.clear()
        self._phases.clear()


class Box:
    """Messages between workers of one process: a queue for each (source, target, entry)."""

    def __init__(
        self, name: str, mail: dict[tuple[str, str, str], deque[Any]], workers: dict[str, Worker]
    ) -> None:
        self._name, self._mail, self._workers = name, mail, workers

    def send(self, to: str, entry: str, array: Any) -> None:
        copy = place(array, of_worker(to))
        self._mail.setdefault((self._name, to, entry), deque()).append(copy)

    def recv(self, source: str, entry: str) -> Any:
        queue = self._mail.get((source, self._name, entry))
        return queue.popleft() if queue else None
