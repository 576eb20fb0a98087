"""What a worker does: the instructions of a phase, one after the other, on its own arrays."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np

from raysym.errors import MXNetError, RuleError, node_message
from raysym.op import Op, call_kernel
from raysym.planning.footprint import interpreted_bytes
from raysym.planning.plan import Free, Plan, Program, Recv, Run, Send
from raysym.planning.update import with_op
from raysym.random_state import generator
from raysym.runtime.compiling import Code, Needs
from raysym.runtime.protocol import Linkage, StepKey, Tap
from raysym.types import TensorType


class Mailbox(Protocol):
    """The ways of a worker to its peers; books on its clock what they take, if anything."""

    def sender(self, to: str, entry: str) -> Callable[[Any], None]:
        """What hands an array to the worker `to`; its memory may be written again afterwards."""

    def receiver(self, source: str, entry: str) -> Callable[[], Any]:
        """What returns the array that `source` has sent, owned by who calls; None when it is not
        here yet and the mailbox cannot wait."""


@dataclass(slots=True)
class Clock:
    """Seconds spent on phases in all, and those of them that went by sending and waiting."""

    total: float = 0.0
    communicate: float = 0.0
    wait: float = 0.0

    def spent(self) -> dict[str, float]:
        """Seconds spent computing, communicating and waiting."""
        compute = self.total - self.communicate - self.wait
        return {"compute": compute, "communicate": self.communicate, "wait": self.wait}


@dataclass
class Worker:
    """A worker as the interpreter sees it: its name, array library, values, homes and peers."""

    name: str
    xp: Any
    values: dict[str, Any] = field(default_factory=dict)
    homes: set[str] = field(default_factory=set)
    clock: Clock = field(default_factory=Clock)
    mailbox: Any = None  # a Mailbox, for who has peers
    position: int = 0  # the instruction that runs, for the diagnosis


# An instruction with all that it works on filled in; False: its message is not here yet.
Action: TypeAlias = Callable[[StepKey], bool]
# Where an instruction stands, what it does, and the entries that die with it.
Step: TypeAlias = tuple[int, Action, tuple[str, ...]]


class Where(NamedTuple):
    """The instruction that runs, by its position; not `exact`: it or one of those behind it."""

    position: int
    is_exact: bool


class Phase:
    """A program bound to the worker that runs it, whose homes must all be known by then.

    Values written to resident entries go into the existing array, so that whoever shares that
    memory sees them.
    """

    def __init__(self, worker: Worker, program: Program) -> None:
        self._worker, self._program = worker, program
        self._steps = _steps(worker, program)

    def change(self, program: Program) -> None:
        """Run a program of the same length and kinds of instructions from now on."""
        worker, before, self._program = self._worker, self._program, program
        for i, (at, _, dead) in enumerate(self._steps):
            one = program[at]
            if one is not before[at] and not isinstance(one, Free):
                self._steps[i] = at, _bound(worker, one), dead

    def __len__(self) -> int:
        return len(self._steps)

    def advance(self, key: StepKey, start: int = 0, tap: Tap | None = None) -> int:
        """Run from step `start`; where it stopped: the end, or a missing message."""
        worker, values = self._worker, self._worker.values
        steps = self._steps if tap is None else self._watched(tap)
        begun = time.perf_counter()
        try:
            with np.errstate(all="ignore"):
                for position, action, dead in islice(steps, start, None):
                    worker.position = position
                    if not action(key):
                        break
                    for entry in dead:
                        del values[entry]
                    start += 1
        finally:
            worker.clock.total += time.perf_counter() - begun
        return start

    def _watched(self, tap: Tap) -> list[Step]:
        found = []
        for at, action, dead in self._steps:
            one = self._program[at]
            watched = _watched(self._worker, one, tap) if type(one) is Run else action
            found.append((at, watched, dead))
        return found


class Interpreter:
    """The engine that runs programs as they stand, with reference kernels; see `engines`."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.programs: dict[str, Program] = {}
        self.phases: dict[str, Phase] = {}

    def load(self, programs: Mapping[str, Program], types: Mapping[str, TensorType]) -> None:
        """Add phases; their resident entries are in the worker's values."""
        self.programs.update(programs)
        self.phases = {phase: Phase(self.worker, p) for phase, p in self.programs.items()}

    def advance(
        self, phase: str, key: StepKey, start: int = 0, tap: Tap | None = None
    ) -> int | None:
        """Run a phase from `start`; where a message was missing, None at the end."""
        found = self.phases[phase]
        reached = found.advance(key, start, tap)
        return reached if reached < len(found) else None

    def needs(
        self, programs: Mapping[str, Program], types: Mapping[str, TensorType], homes: Sequence[str]
    ) -> Needs:
        """None: reference kernels need no compiler."""
        return Needs()

    def compiled(self, kernels: Sequence[Any]) -> list[Code]:
        """Nothing: no kernel was needed."""
        return []

    def keep(self, codes: Mapping[Any, Code]) -> None:
        """Nothing: no kernel was needed."""

    def retune(self, phase: str, old: Op, new: Op) -> None:
        """Run `new` wherever the phase runs `old`."""
        self.programs[phase] = with_op(self.programs[phase], old, new)
        self.phases[phase].change(self.programs[phase])

    def where(self, phase: str) -> Where:
        """Which instruction of the phase runs."""
        return Where(self.worker.position, True)

    def linked(self, phase: str) -> Linkage | None:
        """Nothing: this engine links no phase."""
        return None

    def is_generated(self, phase: str) -> bool:
        """False: this engine has reference kernels alone."""
        return False

    def close(self) -> None:
        """Nothing has been started."""


@dataclass(frozen=True)
class Interpreters:
    """Opens interpreters; see `engines.Engines`."""

    def open(self, worker: Worker) -> Interpreter:
        """The engine of a worker."""
        return Interpreter(worker)

    def work_bytes(self, plan: Plan) -> dict[str, int]:
        """Bytes of values that come and go on each worker."""
        return interpreted_bytes(plan)


INTERPRETED = Interpreters()


def _steps(worker: Worker, program: Program) -> list[Step]:
    steps: list[Step] = []
    for at, instruction in enumerate(program):
        if isinstance(instruction, Free):
            before, action, dead = steps.pop() if steps else (at, _nothing, ())
            steps.append((before, action, (*dead, instruction.entry)))
        else:
            steps.append((at, _bound(worker, instruction), ()))
    return steps


def _nothing(key: StepKey) -> bool:
    return True


def _bound(worker: Worker, instruction: Run | Send | Recv) -> Action:
    match instruction:
        case Run(outs, op):
            is_plain = len(outs) == 1 and not op.random
            return (_plain if is_plain else _general)(worker, instruction)
        case Send(entry, to):
            return _send(worker.values, entry, worker.mailbox.sender(to, entry))
        case Recv(entry, source):
            return _recv(worker.values, entry, worker.mailbox.receiver(source, entry))


def _plain(worker: Worker, run: Run) -> Action:
    """The usual case, with as few steps as can be: small kernels cost less than what is around."""
    forward, xp, values, out = run.op.forward, worker.xp, worker.values, run.outs[0]
    is_home, kept, args, get = out in worker.homes, out != "_", run.args, values.__getitem__

    def action(key: StepKey) -> bool:
        try:
            made = forward(xp, *map(get, args))
        except Exception as error:
            raise explain(error, run.op, run, worker) from error
        value = made[0] if type(made) is tuple else made
        if is_home:
            values[out][...] = value
        elif kept:
            values[out] = value if value.flags.c_contiguous else value.copy("C")
        return True

    return action


def _general(worker: Worker, run: Run) -> Action:
    """Any number of results, random numbers."""

    def action(key: StepKey) -> bool:
        _run(worker, run, key)
        return True

    return action


def _watched(worker: Worker, run: Run, tap: Tap) -> Action:
    def action(key: StepKey) -> bool:
        tap(run, *_run(worker, run, key))
        return True

    return action


def _run(worker: Worker, run: Run, key: StepKey) -> tuple[list[Any], tuple[Any, ...]]:
    """Run an op; its inputs and results."""
    values, op = worker.values, run.op
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
    return args, made


def _send(values: dict[str, Any], entry: str, send: Callable[[Any], None]) -> Action:
    def action(key: StepKey) -> bool:
        send(values[entry])
        return True

    return action


def _recv(values: dict[str, Any], entry: str, recv: Callable[[], Any]) -> Action:
    def action(key: StepKey) -> bool:
        array = recv()
        if array is None:
            return False
        values[entry] = array
        return True

    return action


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
