"""How long a plan should take: its own instructions, run on a cluster that only counts seconds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import scheduler
from raysym.errors import PlanError
from raysym.planning.plan import Instruction, Plan, Recv, Run, Send
from raysym.types import TensorType


class Span(NamedTuple):
    """One instruction on one worker, from `start` to `finish` in seconds."""

    worker: str
    what: str
    start: float
    finish: float


class Prediction(NamedTuple):
    """Seconds of each phase, and what each worker does when."""

    phases: dict[str, float]
    spans: tuple[Span, ...]

    @property
    def total_s(self) -> float:
        """Seconds of all phases one after the other."""
        return sum(self.phases.values())


def predict(
    plan: Plan, cluster: scheduler.Cluster, measured: Mapping[str, float] | None = None
) -> Prediction:
    """Seconds per phase: kernels by the cluster's speeds, messages by its links.

    ``measured`` gives the seconds of single runs by the name of their first output and overrides
    the op pages. Sends do not hold a worker up; a receive waits for latency and bytes.
    """
    spans: list[Span] = []
    phases = {}
    start = 0.0
    for phase in plan.phases:
        clocks = _Clocks(plan, cluster, measured or {}, start)
        finish = clocks.run(phase)
        spans += clocks.spans
        phases[phase], start = finish - start, finish
    return Prediction(phases, tuple(spans))


class _Clocks:
    """A clock for each worker, and when each message arrives."""

    def __init__(
        self,
        plan: Plan,
        cluster: scheduler.Cluster,
        measured: Mapping[str, float],
        start: float,
    ) -> None:
        self.plan, self.cluster, self.measured = plan, cluster, measured
        self.now = dict.fromkeys(plan.workers, start)
        self.arrives: dict[tuple[str, str, str], float] = {}
        self.spans: list[Span] = []

    def run(self, phase: str) -> float:
        todo = {name: list(self.plan.programs[name].get(phase, ()))[::-1] for name in self.now}
        while any(todo.values()):
            moved = False
            for name, left in todo.items():
                while left and self._step(name, left[-1]):
                    left.pop()
                    moved = True
            if not moved:
                raise PlanError(f"{phase}: the plan waits for ever")
        return max(self.now.values())

    def _step(self, worker: str, instruction: Instruction) -> bool:
        begun = self.now[worker]
        match instruction:
            case Run(outs):
                self.now[worker] = begun + self._run_s(worker, instruction)
                self.spans.append(Span(worker, outs[0], begun, self.now[worker]))
            case Send(entry, to):
                self.arrives[worker, to, entry] = begun + self._message_s(worker, to, entry)
            case Recv(entry, source):
                key = source, worker, entry
                if key not in self.arrives:
                    return False
                self.now[worker] = max(begun, self.arrives.pop(key))
                if self.now[worker] > begun:
                    self.spans.append(Span(worker, f"wait {entry}", begun, self.now[worker]))
        return True

    def _run_s(self, worker: str, run: Run) -> float:
        if run.outs[0] in self.measured:
            return self.measured[run.outs[0]]
        types = self.plan.types
        ins = [types[arg] for arg in run.args if arg in types]
        outs = [types[out] for out in run.outs if out in types]
        device = self.cluster.devices[self.cluster.index[worker]]
        return kernel_s(device, run, ins, outs)

    def _message_s(self, source: str, target: str, entry: str) -> float:
        return self.cluster.transfer_s(self.plan.types[entry].nbytes, source, target)


def kernel_s(
    device: scheduler.Device, run: Run, ins: list[TensorType], outs: list[TensorType]
) -> float:
    """Seconds of one kernel: the slower of arithmetic and memory, and the cost of a call."""
    cost = run.op.cost(ins, outs)
    return device.call_s(scheduler.Part(run.op.work, cost.flops, cost.nbytes))
