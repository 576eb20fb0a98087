"""Pipelines: the plan of one micro-batch, repeated in the order that a schedule says.

Micro-batch 3 of entry ``fc1`` is ``fc1@3``. Data is sliced, outputs are gathered in batch order,
gradients of parameters are added up from micro-batch 0 on, whatever the schedule; states such as
BatchNorm's moving averages are updated by each micro-batch in turn.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from raysym.errors import PlanError
from raysym.graph import Node
from raysym.op import make_op
from raysym.planning.lifetimes import free_unused, made, uses
from raysym.planning.lower import lower
from raysym.planning.microbatch import Batches
from raysym.planning.plan import Instruction, Plan, Recv, Run, Send
from raysym.planning.step import Bound, Step
from raysym.types import TensorType
from scheduler.pipeline import NAMED, Order, parse_order

STEP = "step"  # the phase in which a whole training step runs


class Pipeline(NamedTuple):
    """How a batch is cut, and the order in which workers go through the parts.

    ``schedule``: a name among `scheduler.pipeline.NAMED` or the text of an order.
    """

    micro_batches: int = 1
    schedule: str = "1f1b"
    batch_axes: Mapping[str, int] | None = None


WHOLE = Pipeline()


class _Piece(NamedTuple):
    """A part of a phase of the one-micro-batch plan: F, B, or B cut into I and W."""

    phase: str
    part: str
    batch: int


def lower_pipeline(
    step: Step, bound: Bound, placement: Mapping[Node, str], batches: Batches, schedule: str = ""
) -> Plan:
    """The plan of a step over all micro-batches; `step` and its types are those of one.

    With a `schedule`, forward and backward run in its order in the one phase "step"; without, each
    phase runs all micro-batches before the next begins.
    """
    one = lower(step, batches.bound, placement, free=False)
    if schedule and len(step.phases) == 2:
        orders = {STEP: _scheduled(one, step.phases, batches.n, schedule)}
    else:
        rows = [[_Piece(phase, "", j) for j in range(batches.n)] for phase in step.phases]
        if schedule:  # nothing to differentiate: the step is its forward phase
            orders = {STEP: dict.fromkeys(one.workers, rows[0])}
        else:
            orders = {row[0].phase: dict.fromkeys(one.workers, row) for row in rows}
    return _Unrolling(one, bound, batches).plan(orders)


def _scheduled(one: Plan, phases: Sequence[str], n: int, schedule: str) -> dict[str, list[_Piece]]:
    """By worker: the pieces in the order of the schedule."""
    forward, backward = phases
    kinds = {"F": (forward, ""), "B": (backward, ""), "I": (backward, "I"), "W": (backward, "W")}
    ranks = _ranks(one, forward)
    return {
        worker: [_Piece(*kinds[action.kind], action.batch) for action in row]
        for worker, row in zip(ranks, _order(schedule, len(ranks), n), strict=True)
    }


def _order(schedule: str, ranks: int, n: int) -> Order:
    order = NAMED[schedule](ranks, n) if schedule in NAMED else parse_order(schedule)
    if len(order) != ranks:
        raise PlanError(f"schedule: got {len(order)} ranks, expected {ranks}, one per worker")
    for rank, row in enumerate(order):
        for kind in "FBIW":
            batches = [action.batch for action in row if action.kind == kind]
            if batches != sorted(set(batches)):
                raise PlanError(f"schedule: rank {rank}: {kind} out of order: got {batches}")
        if any(action.stage != rank for action in row):
            raise PlanError(f"schedule {schedule!r}: expected one stage per worker")
        done = (
            sorted(a.batch for a in row if a.kind in "BW"),
            sorted(a.batch for a in row if a.kind == "F"),
        )
        if done != (list(range(n)), list(range(n))):
            raise PlanError(f"schedule: rank {rank}: expected all of {n} micro-batches: got {row}")
    return order


def _ranks(one: Plan, forward: str) -> list[str]:
    """Workers in the order of the data flow: a worker stands behind those that it receives from."""
    left = {w: {i.source for i in one.programs[w][forward] if type(i) is Recv} for w in one.workers}
    ranks: list[str] = []
    while left:
        free = [w for w, sources in left.items() if not sources - set(ranks)]
        # In a cycle of workers no order fits; the plan's check will tell whether it can run.
        ranks.append(free[0] if free else next(iter(left)))
        del left[ranks[-1]]
    return ranks


class _Unrolling:
    """Repeats the instructions of one micro-batch under the names of each."""

    def __init__(self, one: Plan, bound: Bound, batches: Batches) -> None:
        self.one, self.n = one, batches.n
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
        for home, axis in self.axes.items():
            self.types[home] = _whole(one.types[home], axis, self.n)

    def plan(self, orders: Mapping[str, Mapping[str, Sequence[_Piece]]]) -> Plan:
        """All phases, with unused values freed."""
        programs: dict[str, dict[str, list[Instruction]]] = {w: {} for w in self.one.workers}
        for phase, rows in orders.items():
            self.parts = {}
            for worker, row in rows.items():
                programs[worker][phase] = self._body(worker, row)
        done = free_unused(programs, self.one.homes)
        named = {e for phases in done.values() for body in phases.values() for e in made(body)}
        named |= set(self.one.homes)
        return Plan(
            done, self.one.homes, {name: t for name, t in self.types.items() if name in named}
        )

    def _body(self, worker: str, row: Sequence[_Piece]) -> list[Instruction]:
        body: list[Instruction] = []
        known: set[str] = set()  # slices that are cut, parameters that are sent or received
        for piece in row:
            program = self.one.programs[worker][piece.phase]
            for instruction in _part(program, piece.part):
                body += self._repeat(worker, instruction, piece.batch, known)
        return body

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
                yield from self._once(Send(self._name(entry, j), to), entry, known)
            case Recv(entry, source):
                name = self._name(entry, j)
                self.types[name] = self.one.types[entry]
                yield from self._once(Recv(name, source), entry, known)

    def _once(self, instruction: Send | Recv, entry: str, known: set[str]) -> Iterator[Instruction]:
        """Parameters travel once for all micro-batches."""
        mark = f"{type(instruction).__name__} {instruction}"
        is_shared = entry in self.one.homes and entry == instruction.entry
        if not is_shared or mark not in known:
            known.add(mark)
            yield instruction

    def _cut(self, worker: str, entry: str, j: int, known: set[str]) -> Iterator[Instruction]:
        name = self._name(entry, j)
        if name in known or self.one.homes.get(entry) != worker:
            return
        known.add(name)
        if entry in self.axes:
            width = self.one.types[entry].shape[self.axes[entry]]
            cut = {"axis": self.axes[entry], "begin": j * width, "end": (j + 1) * width}
            self.types[name] = self.one.types[entry]
            yield Run((name,), make_op("slice_axis", cut), (entry,))
        elif entry in self.moving:
            self.types[name] = self.one.types[entry]
            yield Run((name,), make_op("_copy", {}), (entry,))

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
        if j == self.n - 1:
            join = make_op("Concat", {"dim": self.axes[home], "num_args": self.n})
            yield Run((home,), join, tuple(parts))

    def _add_up(self, home: str, part: str, j: int) -> Iterator[Instruction]:
        """Add to the sum of the micro-batches before, from the first one on.

        A sum that begins with the old value, of grad_req "add", is in the graph already.
        """
        out = home if j == self.n - 1 else f"{home}@{j}"
        self.types[out] = self.one.types[home]
        if home in self.read:
            yield Run((out,), make_op("_copy", {}), (part,))
        elif j == 0:
            self.parts[home] = [part]
        else:
            before = self.parts[home][0] if j == 1 else f"{home}@{j - 1}"
            yield Run((out,), make_op("elemwise_add", {}), (before, part))


def _part(program: Sequence[Instruction], part: str) -> Sequence[Instruction]:
    """All of a program; or what its sends need ("I"), or the rest ("W")."""
    if not part:
        return program
    needed: set[str] = set()
    first: list[Instruction] = []
    for instruction in reversed(program):
        if type(instruction) is Send or made([instruction]) & needed:
            needed |= uses([instruction])
            first.append(instruction)
    kept = set(map(id, first))
    return first[::-1] if part == "I" else [i for i in program if id(i) not in kept]


def _whole(kind: TensorType, axis: int, n: int) -> TensorType:
    shape = (*kind.shape[:axis], kind.shape[axis] * n, *kind.shape[axis + 1 :])
    return TensorType(shape, kind.dtype)
