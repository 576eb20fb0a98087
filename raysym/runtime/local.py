"""The reference runtime: all workers of a plan in this process, taking turns."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from time import perf_counter
from typing import Any, TypeAlias

import numpy as np

from raysym.context import of_worker
from raysym.device import array_module, on_device, place, to_numpy
from raysym.errors import PlanError
from raysym.op import Op
from raysym.planning.plan import Plan
from raysym.runtime.engines import Engine, Engines
from raysym.runtime.interpreter import INTERPRETED, Clock, Worker
from raysym.runtime.protocol import Arrays, Linkage, StepKey, Tap
from raysym.runtime.threads import pinned

Mail: TypeAlias = dict[tuple[str, str, str], deque[Any]]  # by source, target and entry


class LocalRuntime:
    """Workers share the process; a message is a copy in the receiver's memory."""

    def __init__(self, threads: int = 1, engines: Engines = INTERPRETED) -> None:
        self._threads, self._engines = threads, engines
        self.engines: dict[str, Engine] = {}
        self._mail: Mail = {}
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
            if name not in self.engines:
                worker = Worker(name, array_module(of_worker(name)))
                worker.mailbox = Box(name, self._mail, worker.clock)
                self.engines[name] = self._engines.open(worker)
        self._home_of.update(plan.homes)
        for entry, array in arrays.items():
            worker = self._home(entry)
            worker.values[entry] = array
            worker.homes.add(entry)
        for name in plan.workers:
            self.engines[name].load(plan.programs[name], plan.types)

    def _home(self, entry: str) -> Worker:
        return self.engines[self._home_of[entry]].worker

    def admit(self, plan: Plan) -> None:
        """Messages need no room of their own here."""

    def route(self, plan: Plan) -> Plan:
        """The plan as it is: no edge leaves the process."""
        return plan

    def run(self, phase: str, key: StepKey, tap: Tap | None = None) -> None:
        """Let each worker run until it waits for a message, round after round."""
        for queue in self._mail.values():  # a step that failed may have left something
            queue.clear()
        at = {name: 0 for name, engine in self.engines.items() if engine.programs.get(phase)}
        with self._pinned(phase, at, tap):
            while at:
                before = dict(at)
                for name in before:
                    with on_device(of_worker(name)):
                        reached = self.engines[name].advance(phase, key, at[name], tap)
                    if reached is None:
                        del at[name]
                    else:
                        at[name] = reached
                if at == before:
                    raise PlanError(f"{phase}: all workers wait: {', '.join(at)}")

    def _pinned(
        self, phase: str, names: Iterable[str], tap: Tap | None
    ) -> AbstractContextManager[Any]:
        """BLAS on its number of threads, where somebody may call it: a few percent of a step."""
        if tap is None and all(self.engines[name].is_generated(phase) for name in names):
            return nullcontext()
        return pinned(self._threads)

    def retune(self, phase: str, old: Op, new: Op) -> None:
        """Run `new` wherever the phase runs `old`."""
        for engine in self.engines.values():
            if phase in engine.programs:
                engine.retune(phase, old, new)

    def submit(self, phases: Sequence[str], key: StepKey, wanted: Iterable[str] = ()) -> int:
        """Run the phases now; the ticket of the results."""
        for phase in phases:
            self.run(phase, key)
        self._ticket += 1
        self._results[self._ticket] = self.snapshot(wanted)
        return self._ticket

    def result(self, ticket: int) -> dict[str, Any]:
        """The wanted entries as they were at the end of that step."""
        return self._results.pop(ticket)

    def push(self, arrays: Arrays) -> None:
        """Overwrite resident entries in place."""
        for entry, array in arrays.items():
            self._home(entry).values[entry][...] = array

    def fetch(self, names: Iterable[str]) -> dict[str, np.ndarray[Any, Any]]:
        """Content of resident entries as host arrays (aliases on the CPU)."""
        return {n: to_numpy(self._home(n).values[n]) for n in names}

    def snapshot(self, names: Iterable[str]) -> dict[str, Any]:
        """Copies of resident entries."""
        return {name: np.array(array) for name, array in self.fetch(names).items()}

    def health(self) -> dict[str, str]:
        """Nothing: whoever asks is the process that runs steps."""
        return {}

    def work_bytes(self, plan: Plan) -> dict[str, int]:
        """Bytes of values that come and go on each worker."""
        return self._engines.work_bytes(plan)

    def timings(self) -> dict[str, dict[str, float]]:
        """Seconds by worker; a waiting worker gives way to another, so nobody waits long."""
        return {name: engine.worker.clock.spent() for name, engine in self.engines.items()}

    def linked(self, phase: str) -> dict[str, Linkage]:
        """How each worker linked the phase."""
        found = {name: engine.linked(phase) for name, engine in self.engines.items()}
        return {name: linkage for name, linkage in found.items() if linkage is not None}

    def hurry(self) -> None:
        """Nothing here takes time."""

    def close(self) -> None:
        """Forget programs and arrays."""
        for engine in self.engines.values():
            engine.close()
        self.engines.clear()
        self._mail.clear()


class Box:
    """Messages between workers of one process: a queue for each (source, target, entry)."""

    def __init__(self, name: str, mail: Mail, clock: Clock) -> None:
        self._name, self._mail, self._clock = name, mail, clock

    def sender(self, to: str, entry: str) -> Callable[[Any], None]:
        queue, clock, there = self._queue(self._name, to, entry), self._clock, of_worker(to)

        def send(array: Any) -> None:
            begun = perf_counter()
            queue.append(place(array, there))
            clock.communicate += perf_counter() - begun

        return send

    def receiver(self, source: str, entry: str) -> Callable[[], Any]:
        queue = self._queue(source, self._name, entry)
        return lambda: queue.popleft() if queue else None

    def _queue(self, source: str, to: str, entry: str) -> deque[Any]:
        return self._mail.setdefault((source, to, entry), deque())
