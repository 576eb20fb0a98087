"""How long a plan should take: the very plan that runs, on the scheduler's simulator.

Every instruction is one piece of work: a run takes its kernel's seconds, a send hands a message to
the receive that waits for it, a free gives bytes back. Phases follow one another.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Mapping
from typing import NamedTuple

import scheduler
from raysym.planning.plan import Free, Instruction, Plan, Recv, Run, Send, split_entry
from raysym.types import TensorType


class Span(NamedTuple):
    """One run, or one wait for a message, on one worker, from `start` to `finish` in seconds."""

    worker: str
    what: str
    start: float
    finish: float


class Prediction(NamedTuple):
    """Seconds of each phase, what each worker does when, peak bytes, and bytes on each link.

    ``peak_memory`` counts values that come and go, not resident arrays.
    """

    phases: dict[str, float]
    spans: tuple[Span, ...]
    peak_memory: dict[str, float]
    link_bytes: dict[tuple[str, str], float]

    @property
    def total_s(self) -> float:
        """Seconds of all phases one after the other."""
        return sum(self.phases.values())

    def chart(self, width: int = 96) -> list[str]:
        """A line for each worker: the micro-batch that it works on over time.

        Forward in digits, backward in letters (``a`` is micro-batch 0), ``+`` for what belongs to
        all micro-batches, ``.`` for waiting.
        """
        scale = width / self.total_s if self.total_s else 0.0
        cells = {span.worker: ["."] * width for span in self.spans}
        for span in self.spans:
            if not span.what.startswith("wait "):
                first = min(round(span.start * scale), width - 1)
                last = min(max(first + 1, round(span.finish * scale)), width)
                cells[span.worker][first:last] = _mark(span.what) * (last - first)
        return [f"{worker} |{''.join(row)}|" for worker, row in sorted(cells.items())]


def _mark(entry: str) -> str:
    base, batch = split_entry(entry)
    if base == entry:
        return "+"
    is_backward = base.startswith("grad:") or "_backward" in base
    return chr(ord("a") + batch % 26) if is_backward else str(batch % 10)


def predict(
    plan: Plan,
    cluster: scheduler.Cluster,
    measured: Mapping[str, float] | None = None,
    *,
    noise: float = 0.0,
    seed: int = 0,
    in_flight: int | None = None,
) -> Prediction:
    """Simulate the plan: kernels by the cluster's speeds, messages by its links and channels.

    ``measured`` gives the seconds of single runs by the name of their first output and overrides
    the op pages. `noise`, `seed` and `in_flight` as in `scheduler.simulate`.
    """
    spans: list[Span] = []
    phases: dict[str, float] = {}
    peak: dict[str, float] = dict.fromkeys(plan.workers, 0.0)
    carried: dict[tuple[str, str], float] = defaultdict(float)
    start = 0.0
    for phase in plan.phases:
        program = program_of(plan, phase, cluster, measured or {})
        done = scheduler.simulate(program, cluster, noise=noise, seed=seed, in_flight=in_flight)
        spans += _spans(plan, phase, done, start)
        phases[phase] = done.makespan
        start += done.makespan
        peak |= {name: max(peak[name], done.peak_memory[name]) for name in program}
        for link, nbytes in done.link_bytes.items():
            carried[link] += nbytes
    return Prediction(phases, tuple(spans), peak, dict(carried))


def program_of(
    plan: Plan, phase: str, cluster: scheduler.Cluster, measured: Mapping[str, float]
) -> dict[str, tuple[scheduler.Work, ...]]:
    """One phase as the simulator's program; a piece of work is named ``worker position``."""
    bodies = {name: plan.programs[name].get(phase, ()) for name in plan.workers}
    waiting: dict[tuple[str, str, str], deque[str]] = defaultdict(deque)
    for name, body in bodies.items():
        for i, instruction in enumerate(body):
            if type(instruction) is Recv:
                waiting[instruction.source, name, instruction.entry].append(f"{name} {i}")
    made = _Maker(plan, cluster, measured, waiting)
    return {
        name: tuple(
            made.work(name, f"{name} {i}", instruction) for i, instruction in enumerate(body)
        )
        for name, body in bodies.items()
    }


class _Maker(NamedTuple):
    """What turning an instruction into work needs to know."""

    plan: Plan
    cluster: scheduler.Cluster
    measured: Mapping[str, float]
    waiting: Mapping[tuple[str, str, str], deque[str]]

    def work(self, worker: str, label: str, instruction: Instruction) -> scheduler.Work:
        match instruction:
            case Run(outs):
                own = [out for out in outs if out not in self.plan.homes]
                grows = sum(self._nbytes(out) for out in own)
                return scheduler.Work(label, self._run_s(worker, instruction), grows=grows)
            case Send(entry, to):
                target = self.waiting[worker, to, entry].popleft()
                return scheduler.Work(label, 0.0, ((target, self._nbytes(entry)),))
            case Recv(entry):
                return scheduler.Work(label, 0.0, grows=self._nbytes(entry))
            case Free(entry):
                return scheduler.Work(label, 0.0, frees=self._nbytes(entry))

    def _nbytes(self, entry: str) -> float:
        return float(self.plan.types[entry].nbytes) if entry in self.plan.types else 0.0

    def _run_s(self, worker: str, run: Run) -> float:
        if run.outs[0] in self.measured:
            return self.measured[run.outs[0]]
        types = self.plan.types
        ins = [types[arg] for arg in run.args if arg in types]
        outs = [types[out] for out in run.outs if out in types]
        device = self.cluster.devices[self.cluster.index[worker]]
        return kernel_s(device, run, ins, outs)


def _spans(plan: Plan, phase: str, done: scheduler.Simulation, begin: float) -> list[Span]:
    found = []
    for worker, rows in done.rows.items():
        before = 0.0
        for (_, start, finish), instruction in zip(rows, plan.programs[worker][phase], strict=True):
            if type(instruction) is Run:
                found.append(Span(worker, instruction.outs[0], begin + start, begin + finish))
            elif type(instruction) is Recv and start > before:
                what = f"wait {instruction.entry}"
                found.append(Span(worker, what, begin + before, begin + start))
            before = finish
    return found


def kernel_s(
    device: scheduler.Device, run: Run, ins: list[TensorType], outs: list[TensorType]
) -> float:
    """Seconds of one kernel: the slower of arithmetic and memory, and the cost of a call."""
    cost = run.op.cost(ins, outs)
    return device.call_s(scheduler.Part(run.op.work, cost.flops, cost.nbytes))
