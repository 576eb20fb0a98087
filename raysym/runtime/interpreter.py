"""What a worker does: the instructions of a phase, one after the other, on its own arrays."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from raysym.errors import MXNetError, RuleError, node_message
from raysym.op import Op, call_kernel
from raysym.planning.plan import Free, Program, Recv, Run, Send
from raysym.random_state import generator
from raysym.runtime.protocol import StepKey, Tap


class Mailbox(Protocol):
    """The ways of a worker to its peers within one phase."""

    def send(self, to: str, entry: str, array: Any) -> None:
        """Hand an array to the worker `to`; never waits."""

    def recv(self, source: str, entry: str) -> Any:
        """The array that `source` sent, owned by the receiver; None when it is not here yet
        and the mailbox cannot wait."""


class Clock:
    """Seconds spent computing, communicating and waiting."""

    __slots__ = ("communicate", "compute", "wait")

    def __init__(self) -> None:
        self.compute = self.communicate = self.wait = 0.0

    def as_dict(self) -> dict[str, float]:
        """The three sums by name."""
        return {"compute": self.compute, "communicate": self.communicate, "wait": self.wait}


@dataclass
class Worker:
    """A worker as the interpreter sees it: its name, array library, values and homes."""

    name: str
    xp: Any
    values: dict[str, Any] = field(default_factory=dict)
    homes: set[str] = field(default_factory=set)
    clock: Clock = field(default_factory=Clock)
    position: int = 0  # the instruction that runs, for the diagnosis


def run_program(
    worker: Worker,
    program: Program,
    mailbox: Mailbox,
    key: StepKey,
    start: int = 0,
    tap: Tap | None = None,
) -> int:
    """Run from instruction `start`; the position where it stopped: the end, or a missing message.

    Values written to resident entries go into the existing array, so that whoever shares that
    memory sees them.
    """
    values, clock, now = worker.values, worker.clock, time.perf_counter
    begun = now()
    with np.errstate(all="ignore"):
        for position in range(start, len(program)):
            instruction = program[position]
            worker.position = position
            if type(instruction) is Run:
                _run(worker, instruction, key, tap)
                clock.compute, begun = clock.compute - begun + (end := now()), end
            elif type(instruction) is Free:
                del values[instruction.entry]
            elif type(instruction) is Send:
                mailbox.send(instruction.to, instruction.entry, values[instruction.entry])
                clock.communicate, begun = clock.communicate - begun + (end := now()), end
            elif type(instruction) is Recv:
                array = mailbox.recv(instruction.source, instruction.entry)
                clock.wait, begun = clock.wait - begun + (end := now()), end
                if array is None:
                    return position
                values[instruction.entry] = array
    return len(program)


def _run(worker: Worker, run: Run, key: StepKey, tap: Tap | None) -> None:
    values, op = worker.values, run.op
    if tap is None and len(run.outs) == 1 and not op.random:
        _run_plain(worker, run)
        return
    rng = generator(key.seed, run.outs[0], key.step) if op.random else None
    args = [values[arg] for arg in run.args]
    try:
        made = call_kernel(op, worker.xp, args, rng)
    except Exception as error:
        raise explain(error, op, run, worker) from error
    for out, value in zip(run.outs, made, strict=True):
        if out in worker.homes:
            values[out][...] = value
        elif out != "_":
            values[out] = value
    if tap is not None:
        tap(run, args, made)


def _run_plain(worker: Worker, run: Run) -> None:
    """The usual case, with as few steps as can be: small kernels cost less than what is around."""
    values, out = worker.values, run.outs[0]
    try:
        made = run.op.forward(worker.xp, *[values[arg] for arg in run.args])
    except Exception as error:
        raise explain(error, run.op, run, worker) from error
    value = made[0] if type(made) is tuple else made
    if out in worker.homes:
        values[out][...] = value
    elif out != "_":
        values[out] = value if value.flags.c_contiguous else value.copy("C")


def explain(error: Exception, op: Op, run: Run, worker: Worker) -> Exception:
    """The same error with the node, its inputs and the worker named; rule errors become final."""
    held = worker.values
    types = ", ".join(f"{a}: {held[a].dtype}{list(held[a].shape)}" for a in run.args if a in held)
    context = [f"on worker {worker.name}", f"inputs are {types}"]
    if isinstance(error, RuleError):
        made = MXNetError(node_message(op.name, run.outs[0], str(error), context))
        made.entry = run.outs[0]
        return made
    error.add_note(node_message(op.name, run.outs[0], "failed while running", context))
    return error
