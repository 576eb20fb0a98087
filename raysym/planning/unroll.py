"""Unrolling: the plan of one micro-batch, instruction by instruction, under the names of each.

Micro-batch 3 of entry ``fc1`` is ``fc1@3``. Parameters keep their names and travel once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from raysym.op import make_op
from raysym.planning.layout import Layout
from raysym.planning.lifetimes import free_unused, made, uses
from raysym.planning.lower import COPY
from raysym.planning.microbatch import Batches
from raysym.planning.plan import Instruction, Plan, Recv, Run, Send
from raysym.types import TensorType


class Piece(NamedTuple):
    """A part of a phase of the one-micro-batch plan: F, B, or B cut into I and W."""

    phase: str
    part: str
    batch: int


class Unrolling:
    """Repeats the instructions of one micro-batch under the names of each.

    With replicas, each has its part of the micro-batches, and of all arrays in `axes`.
    """

    def __init__(self, one: Plan, batches: Batches, layout: Layout) -> None:
        self.one, self.n = one, batches.n
        self.size = batches.n // layout.n  # micro-batches of one replica
        self.axes = {home: a for home, a in batches.axes.items() if home in one.homes}
        if self.n == 1:
            self.axes = {}
        bodies = [body for phases in one.programs.values() for body in phases.values()]
        self.read = {entry for body in bodies for entry in uses(body)}
        sent = {i.entry for body in bodies for i in body if type(i) is Send}
        written = {out for body in bodies for out in made(body)} & set(one.homes)
        # States that other workers read anew for each micro-batch, since the last one changed them.
        self.moving = {home for home in written & sent if not home.startswith("grad:")}
        self.types = dict(one.types)
        self.parts: dict[str, list[str]] = {}  # of a home: what its micro-batches give
        self.first = 0
        self.pieces: dict[tuple[str, str, str], Sequence[Instruction]] = {}
        for home, axis in self.axes.items():
            self.types[home] = _whole(one.types[home], axis, self.size)
        self.types.update(layout.types(self.types))

    @property
    def alone(self) -> bool:
        """True when there is one replica."""
        return self.size == self.n

    def bodies(
        self, rows: Mapping[str, Sequence[Piece]], first: int = 0
    ) -> dict[str, list[Instruction]]:
        """By worker: its pieces, counted from micro-batch `first` on.

        Unless `alone`, gradients are left in `parts` for others to add up: the first replica has
        added its own; the store of the last part stands where they could be added.
        """
        self.parts, self.first = {}, first
        return {worker: self._body(worker, row) for worker, row in rows.items()}

    def plan(
        self,
        bodies: Mapping[str, Mapping[str, Sequence[Instruction]]],
        homes: Mapping[str, str],
        types: Mapping[str, TensorType] | None = None,
    ) -> Plan:
        """The plan of these phases, with unused values freed; `types` are further ones."""
        workers = dict.fromkeys([*self.one.workers, *(w for body in bodies.values() for w in body)])
        programs = {w: {phase: body.get(w, ()) for phase, body in bodies.items()} for w in workers}
        done = free_unused(programs, homes)
        named = {e for phases in done.values() for body in phases.values() for e in made(body)}
        named |= set(homes)
        known = {**self.types, **(types or {})}
        return Plan(done, dict(homes), {name: t for name, t in known.items() if name in named})

    def _body(self, worker: str, row: Sequence[Piece]) -> list[Instruction]:
        body: list[Instruction] = []
        known: set[str] = set()  # slices that are cut, parameters that are sent or received
        for piece in row:
            for instruction in self._part(worker, piece):
                body += self._repeat(worker, instruction, self.first + piece.batch, known)
        return body

    def _part(self, worker: str, piece: Piece) -> Sequence[Instruction]:
        """The instructions of a piece, as in the plan of one micro-batch."""
        key = worker, piece.phase, piece.part
        if key not in self.pieces:
            self.pieces[key] = piece_of(self.one, *key)
        return self.pieces[key]

    def _repeat(
        self, worker: str, instruction: Instruction, j: int, known: set[str]
    ) -> Iterator[Instruction]:
        """One instruction for micro-batch `j`, with the slices that it needs before it."""
        for entry in uses([instruction]):
            yield from self._cut(worker, entry, j, known)
        match instruction:
            case Run():
                yield from self._run(instruction, j)
            case Send(entry, to):
                yield from self._once(Send(self._name(entry, j), to), known)
            case Recv(entry, source):
                name = self._name(entry, j)
                self.types[name] = self.one.types[entry]
                yield from self._once(Recv(name, source), known)

    def _once(self, instruction: Send | Recv, known: set[str]) -> Iterator[Instruction]:
        """Nothing travels twice; parameters travel once for all micro-batches."""
        mark = str(instruction)
        if mark not in known:
            known.add(mark)
            yield instruction

    def _cut(self, worker: str, entry: str, j: int, known: set[str]) -> Iterator[Instruction]:
        name = self._name(entry, j)
        if name in known or self.one.homes.get(entry) != worker:
            return
        known.add(name)
        if entry in self.axes:
            width = self.one.types[entry].shape[self.axes[entry]]
            at = j - self.first
            cut = {"axis": self.axes[entry], "begin": at * width, "end": (at + 1) * width}
            self.types[name] = self.one.types[entry]
            yield Run((name,), make_op("slice_axis", cut), (entry,))
        elif entry in self.moving:
            self.types[name] = self.one.types[entry]
            yield Run((name,), COPY, (entry,))

    def _name(self, entry: str, j: int) -> str:
        """What `entry` is called when micro-batch `j` reads it."""
        if self.n == 1:
            return entry
        if entry.startswith("grad:") and entry in self.one.homes:  # the old value, to be added to
            if entry in self.axes:
                return f"{entry}.old@{j}"
            return f"{entry}@{j - 1}" if j else entry
        is_shared = entry in self.one.homes and entry not in self.axes and entry not in self.moving
        return entry if is_shared else f"{entry}@{j}"

    def _run(self, run: Run, j: int) -> Iterator[Instruction]:
        args = tuple(self._name(arg, j) for arg in run.args)
        home = run.outs[0]
        if self.n == 1 or home not in self.one.homes:
            outs = tuple(self._name(out, j) if out != "_" else out for out in run.outs)
            self.types.update(
                {
                    name: self.one.types[o]
                    for name, o in zip(outs, run.outs, strict=True)
                    if o in self.one.types
                }
            )
            yield Run(outs, run.op, args)
        elif home in self.axes:
            yield from self._gather(home, args[0], j)
        elif home.startswith("grad:"):
            yield from self._add_up(home, args[0], j)
        else:
            yield Run(run.outs, run.op, args)

    def _gather(self, home: str, part: str, j: int) -> Iterator[Instruction]:
        """After the last micro-batch, put the parts of `home` together in batch order."""
        parts = self.parts.setdefault(home, [])
        parts.append(part)
        if self._is_last(j):
            join = make_op("Concat", {"dim": self.axes[home], "num_args": len(parts)})
            yield Run((home,), join if len(parts) > 1 else COPY, tuple(parts))

    def _add_up(self, home: str, part: str, j: int) -> Iterator[Instruction]:
        """Add to the sum of the micro-batches before, from the first one on.

        A sum that begins with the old value, of grad_req "add", is in the graph already.
        """
        if home in self.read:
            self.parts[home] = [part]
            out = home if self._is_last(j) else f"{home}@{j}"
            self.types[f"{home}@{j}"] = self.one.types[home]
            yield Run((out,), COPY, (part,))
            return
        parts = self.parts.setdefault(home, [])
        parts.append(part)
        if self.first == 0 and j > 0:
            run = self.added(home, parts[0], part, j)
            parts[:] = run.outs
            yield run
        if self._is_last(j) and not self.alone:
            yield Run((home,), COPY, (part,))

    def _is_last(self, j: int) -> bool:
        return j == self.first + self.size - 1

    def added(self, home: str, before: str, part: str, j: int) -> Run:
        """The instruction that adds the part of micro-batch `j` to the sum `before`."""
        out = home if self.alone and self._is_last(j) else f"{home}@{j}"
        self.types[out] = self.one.types[home]
        return Run((out,), make_op("elemwise_add", {}), (before, part))


def piece_of(one: Plan, worker: str, phase: str, part: str) -> Sequence[Instruction]:
    """All of a phase; or what its sends and the worker's other phases need ("I"), or the rest
    ("W")."""
    phases = one.programs[worker]
    body = phases[phase]
    if not part:
        return body
    homes = set(one.homes)
    needed = {entry for other in phases if other != phase for entry in uses(phases[other])} - homes
    first = _needed_for(body, needed)
    # A state that the first part reads must be changed there: the next micro-batch reads it next.
    while changed := made(body) & uses(first) & homes - made(first):
        first = _needed_for(body, needed | changed)
    kept = set(map(id, first))
    return first if part == "I" else [i for i in body if id(i) not in kept]


def _needed_for(body: Sequence[Instruction], needed: set[str]) -> list[Instruction]:
    """The sends, and what makes the values that they and others need."""
    first: list[Instruction] = []
    for instruction in reversed(body):
        if type(instruction) is Send or made([instruction]) & needed:
            needed = needed | uses([instruction])
            first.append(instruction)
    return first[::-1]


def _whole(kind: TensorType, axis: int, n: int) -> TensorType:
    shape = (*kind.shape[:axis], kind.shape[axis] * n, *kind.shape[axis + 1 :])
    return TensorType(shape, kind.dtype)
