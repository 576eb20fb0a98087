"""Linking: the phases of one worker become flat lists of calls with all addresses filled in.

Neighbouring generated kernels are one call from Python: a native loop runs through their table.
What has no generated kernel runs its reference kernel on views of the same memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np

from raysym.convert import host_zeros
from raysym.kernels import (  # noqa: F401  (makers and lowerings)
    convolutions,
    layers,
    lookup,
    norm,
    recurrences,
    rnn,
    rnn_gradient,
    softmax,
    staged,
)
from raysym.kernels.actions import Action, drawing, incoming, native_call, outgoing, poison
from raysym.kernels.cache import DiskCache, default_folder
from raysym.kernels.compilers import compile_all
from raysym.kernels.loans import Loan, copied, lend, lendable
from raysym.kernels.maps import chain_of, table_of
from raysym.kernels.placing import differs
from raysym.kernels.room import MOST_BYTES
from raysym.kernels.specs import Kernels, Spec
from raysym.kernels.steps import (
    Buffer,
    Incoming,
    Native,
    Outgoing,
    Place,
    Reference,
    Step,
    read_buffers,
)
from raysym.kernels.table import flags_of
from raysym.kernels.team import Team
from raysym.kernels.tracing import Trace, trace
from raysym.op import Op, call_kernel
from raysym.passes.memory import plan_memory
from raysym.planning.plan import Instruction, Program, Run
from raysym.random_state import generator
from raysym.types import TensorType

# Names node and worker in the error of a reference kernel: (error, run, its arguments by name).
Explain: TypeAlias = Callable[[Exception, Run, Mapping[str, Any]], Exception]


def shared_kernels(cache_bytes: int = MOST_BYTES) -> Kernels:
    """The kernels of this process, cached in so many bytes of the user's cache folder."""
    return _kernels_within(cache_bytes)


@lru_cache
def _kernels_within(cache_bytes: int) -> Kernels:
    return Kernels(DiskCache(default_folder(), cache_bytes))


@dataclass(frozen=True)
class LinkedPhase:
    """One phase as a list of actions; has a length and a start as a program has."""

    actions: tuple[Action, ...]
    owner: LinkedWorker  # the memory that the actions use
    earlier: tuple[str, ...]  # phases that run before
    carried: Mapping[str, list[Any]]  # what those have made: every place of a value, as arrays
    again: tuple[Action, ...] = ()  # make what this phase has used up once more
    is_generated: bool = False  # no reference kernel is among the actions

    def __len__(self) -> int:
        return len(self.actions)

    def advance(self, key: Any, start: int) -> int:
        """Run from action `start`; the position where it stopped: the end, or a missing message."""
        with np.errstate(all="ignore"):
            if start == 0:
                self.owner.reached = None
                self.refresh(key)
            reached = self._run(key, start)
        if reached > 0:
            self.owner.is_spent = bool(self.again)
        return reached

    def refresh(self, key: Any) -> None:
        """Make again what this phase has used up, if it has."""
        for action in self.again if self.owner.is_spent else ():
            action(key)
        self.owner.is_spent = False

    def _run(self, key: Any, start: int) -> int:
        for position in range(start, len(self.actions)):
            if not self.actions[position](key):
                return position
        return len(self.actions)


@dataclass
class LinkedWorker:
    """All phases of one worker, and the memory they share."""

    phases: dict[str, LinkedPhase]
    found: Trace
    arena: Any
    n_calls: int = 0
    is_spent: bool = False  # a phase has used up what another had made for it
    reached: Instruction | None = None  # the last message or reference kernel, for the diagnosis
    is_inside: bool = False  # the reference kernel `reached` runs now

    def retune(self, phase: str, old: Op, new: Op) -> int:
        """Let the loops of a phase compute with the numbers of `new` in place of those of `old`.

        How many runs do so from now on; 0 without a change if there is none, or if the code of
        one would be another.
        """
        steps = [s.numbers for s in self.found.phases[phase] if isinstance(s, Native) and s.numbers]
        runs = [[replace(r, op=new) if r.op == old else r for r in n.runs] for n in steps]
        groups = [
            chain_of(own, self.found.types, n.views) for own, n in zip(runs, steps, strict=True)
        ]
        if any(g.chain != n.chain for g, n in zip(groups, steps, strict=True)):
            return 0
        for numbers, own, group in zip(steps, runs, groups, strict=True):
            numbers.runs, numbers.table[:] = own, table_of(group)
        return sum(run.op == new for own in runs for run in own)

    @property
    def nbytes(self) -> int:
        """Size of the arena."""
        return int(self.arena.nbytes)

    def __str__(self) -> str:
        lines = [f"arena {self.nbytes} bytes"]
        for phase, steps in self.found.phases.items():
            lines.append(f"{phase}:")
            lines += [f"  {describe(step)}" for step in steps]
        return "\n".join(lines)


def describe(step: Step) -> str:
    """One step as text."""
    match step:
        case Native(spec, _, label):
            by = f", {spec.parts} threads" if spec.parts > 1 else ""
            return f"call      {label} ({spec.maker}{by})"
        case Reference(run):
            return f"reference {', '.join(run.outs)} = {run.op.name}"
        case Outgoing(send):
            return f"send      {send.entry} -> {send.to}"
    return f"recv      {step.recv.entry} <- {step.recv.source}"


def link(
    programs: Mapping[str, Program],
    types: Mapping[str, TensorType],
    arrays: Mapping[str, Any],
    explain: Explain = lambda error, run, args: error,
    kernels: Kernels | None = None,
    poison: bool = False,
    fused: bool = True,
    team: Team | None = None,
    mailbox: Any = None,
) -> LinkedWorker:
    """Link the phases of one worker whose resident entries are `arrays`.

    The arrays must stay where they are. `poison` fills buffers with NaN before they are first
    written, and `fused` off gives every op a loop of its own: both for tests, as no bit may change.
    With a `team`, its threads share the kernels. Messages go through the `mailbox`.
    """
    found = trace(programs, types, list(arrays), fused, team.threads if team else 1)
    kernels = kernels or shared_kernels()
    steps = [step for steps in found.phases.values() for step in steps]
    compile_all(kernels, [step.spec for step in steps if isinstance(step, Native)])
    linker = _Linker(found, arrays, kernels, explain, poison, team, mailbox)
    worker = linker.worker
    every = list(enumerate(steps))
    for phase, own in found.phases.items():
        start = sum(len(found.phases[name]) for name in list(found.phases)[: len(worker.phases)])
        once = every[start : start + len(own)]
        more = [every[clock] for clock in found.again.get(phase, ())]
        actions, again = linker.actions(once), linker.actions(more, again=True)
        earlier, carried = tuple(worker.phases), linker.carried(found.carried[phase])
        is_generated = not any(isinstance(step, Reference) for _, step in (*once, *more))
        worker.phases[phase] = LinkedPhase(
            tuple(actions), worker, earlier, carried, tuple(again), is_generated
        )
    worker.n_calls = linker.n_calls
    return worker


def needed(
    programs: Mapping[str, Program],
    types: Mapping[str, TensorType],
    homes: Sequence[str],
    fused: bool = True,
    threads: int = 1,
) -> list[Spec]:
    """The kernels that `link` would call, each once."""
    found = trace(programs, types, homes, fused, threads)
    steps = (step for steps in found.phases.values() for step in steps)
    return list(dict.fromkeys(step.spec for step in steps if isinstance(step, Native)))


def arena_bytes(
    programs: Mapping[str, Program],
    types: Mapping[str, TensorType],
    homes: Sequence[str],
    threads: int = 1,
) -> int:
    """How large the arena of a worker would be; makes no kernel."""
    found = trace(programs, types, homes, threads=threads)
    return plan_memory([buffer.lifetime for buffer in found.planned()]).nbytes


def can_link(arrays: Mapping[str, Any]) -> bool:
    """True when resident arrays lie in host memory, each in one piece, numbers at whole places."""
    return all(_is_plain(a) for a in arrays.values())


def _is_plain(array: Any) -> bool:
    return isinstance(array, np.ndarray) and array.flags.c_contiguous and array.flags.aligned


class _Linker:
    """Addresses of buffers, and actions made from steps."""

    def __init__(
        self,
        found: Trace,
        arrays: Mapping[str, Any],
        kernels: Kernels,
        explain: Explain,
        poison: bool,
        team: Team | None,
        mailbox: Any,
    ) -> None:
        self.arrays, self.kernels, self.explain, self.poison = arrays, kernels, explain, poison
        self.team, self.mailbox = team, mailbox
        self.n_calls = 0
        used = found.planned()
        plan = plan_memory([buffer.lifetime for buffer in used])
        self.arena = host_zeros((plan.nbytes,), np.uint8)
        self.worker = LinkedWorker({}, found, self.arena)
        self.offsets = dict(zip(used, plan.offsets, strict=True))
        every = [step for steps in found.phases.values() for step in steps]
        self.loans = {buffer: Loan(self._address(buffer)) for buffer in lendable(every)}

    def actions(self, steps: Sequence[tuple[int, Step]], again: bool = False) -> list[Action]:
        """Actions of steps with their clocks; `again`: they were run before."""
        made: list[Action] = []
        native: list[Native] = []
        now = -1
        for clock, step in steps:
            if self.poison:
                made += self._flush(native, now)
                made += self._poisons(clock, again)
            if isinstance(step, Native):
                native.append(step)
            else:
                made += self._flush(native, now)
                made.append(self._action(step))
            now = clock
        return made + self._flush(native, now)

    def _action(self, step: Step) -> Action:
        match step:
            case Reference():
                return self._reference(step)
            case Outgoing(send, place):
                post = self.mailbox.sender(send.to, send.entry)
                return outgoing(self.worker, send, post, self._view(place))
            case Incoming(recv, place):
                take = self.mailbox.receiver(recv.source, recv.entry)
                loan = self.loans.get(place.buffer)
                put = copied if loan is None else loan.take
                return incoming(self.worker, recv, take, put, self._view(place))
        raise TypeError(step)

    def _reference(self, step: Reference) -> Action:
        run, explain, worker = step.run, self.explain, self.worker
        args = [self._view(place) for place in step.args]
        outs = [None if place is None else self._view(place) for place in step.outs]

        def reference(key: Any) -> bool:
            op = run.op
            rng = generator(key.seed, run.outs[0], key.step) if op.random else None
            worker.reached, worker.is_inside = run, True
            try:
                made = call_kernel(op, np, args, rng)
            except Exception as error:
                raise explain(error, run, dict(zip(run.args, args, strict=True))) from error
            finally:
                worker.is_inside = False
            for out, value in zip(outs, made, strict=True):
                if out is not None:
                    out[...] = value
            return True

        return reference

    def carried(self, places: Mapping[tuple[str, bool], Place]) -> dict[str, list[Any]]:
        """Arrays of the places by name; resident ones read-only."""
        found: dict[str, list[Any]] = {}
        for (name, _), place in places.items():
            array = self._oriented(place)[...]
            array.flags.writeable = array.flags.writeable and not place.buffer.home
            found.setdefault(name, []).append(array)
        return found

    def _oriented(self, place: Place) -> Any:
        """The array in the axes that users see, wherever its channels lie."""
        if not place.last or not differs(place.type):
            return self._view(place)
        n, c, *spatial = place.type.shape
        turned = place.type._replace(shape=(n, *spatial, c))
        return np.moveaxis(self._view(place._replace(type=turned)), -1, 1)

    # ----- native calls

    def _flush(self, steps: list[Native], now: int) -> list[Action]:
        """One call of these steps, the last of which has clock `now`."""
        if not steps:
            return []
        pointers = [self._arguments(step) for step in steps]
        flags = flags_of(steps, self._address)
        rows = [
            (self.kernels.address(s.spec), p.ctypes.data, flag)
            for s, p, flag in zip(steps, pointers, flags, strict=True)
        ]
        table = np.array(rows, np.int64)
        self.n_calls += len(steps)
        streams = [step.stream for step in steps if step.stream is not None]
        read = {buffer for step in steps for buffer in read_buffers(step)}
        ends = [self.loans[b].end for b in read if b in self.loans and b.last <= now]
        steps.clear()
        native = native_call(table, pointers, self.team if any(flags) else None)
        return [drawing(streams, native) if streams else native, *ends]

    def _arguments(self, step: Native) -> Any:
        numbers = [arg if isinstance(arg, int) else self._address(arg) for arg in step.args]
        pointers = np.array(numbers, np.int64)
        lend(step, pointers, self.loans)
        return pointers

    def _address(self, buffer: Buffer) -> int:
        if buffer.home:
            return int(self.arrays[buffer.home].ctypes.data)
        return int(self.arena.ctypes.data) + self.offsets[buffer.owner()]

    def _view(self, place: Place) -> Any:
        if place.buffer.home:
            return self.arrays[place.buffer.home].reshape(place.type.shape)
        return self._bytes(place.buffer).view(place.type.dtype).reshape(place.type.shape)

    def _bytes(self, buffer: Buffer) -> Any:
        start = self.offsets[buffer.owner()]
        return self.arena[start : start + buffer.nbytes]

    def _poisons(self, clock: int, again: bool) -> list[Action]:
        """Of what is first written now, and of what was read last before.

        What is made again finds others where the dead once were: those stay.
        """
        born = [b for b in self.offsets if b.first == clock]
        dead = [b for b in self.offsets if b.lifetime.last == clock - 1 and not again]
        return [poison(self._bytes(buffer)) for buffer in (*dead, *born)]
