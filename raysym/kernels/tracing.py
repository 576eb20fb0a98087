"""Tracing: the phases of one worker become steps over buffers, in the order in which they run.

Values are followed by name (placing.py); buffers know their first and last step, so that memory can
be planned afterwards.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from raysym.kernels.epilogue import pays
from raysym.kernels.heads import headed, keeps_threads_busy, takes_head
from raysym.kernels.lowering import Kernel, lower, takes_tail
from raysym.kernels.maps import (
    Following,
    Group,
    are_of_one_shape,
    chain_of,
    following,
    is_elementwise,
    is_view,
    lies_like,
    map_spec,
    memory_pairs,
    spread_of,
    table_of,
    walk_of,
)
from raysym.kernels.members import Members, before_end, label_of, members_of, parted
from raysym.kernels.names import direct_stores, readers_of, reads_of, without_frees, writes_of
from raysym.kernels.placing import Placing, differs
from raysym.kernels.replay import spend
from raysym.kernels.sharing import share_buffers
from raysym.kernels.steps import (
    FOREVER,
    Buffer,
    Incoming,
    Numbers,
    Outgoing,
    Place,
    Reference,
    Step,
    Stream,
)
from raysym.kernels.streams import streamed
from raysym.kernels.written_out import written_out
from raysym.passes.fuse import Item, fuse
from raysym.planning.plan import Instruction, Program, Recv, Run, Send
from raysym.types import Shape, TensorType


@dataclass
class Trace:
    """All steps by phase, all buffers, and what could not be generated."""

    types: Mapping[str, TensorType]
    homes: frozenset[str]
    phases: dict[str, list[Step]] = field(default_factory=dict)
    buffers: list[Buffer] = field(default_factory=list)
    # By phase: where values of earlier phases lie when it begins.
    carried: dict[str, dict[tuple[str, bool], Place]] = field(default_factory=dict)
    uncovered: dict[str, int] = field(default_factory=dict)
    again: dict[str, list[int]] = field(default_factory=dict)  # see replay.py

    def planned(self) -> list[Buffer]:
        """Buffers that need a place in the arena: used, and in nobody else's place."""
        return [b for b in self.buffers if b.first != FOREVER and b.shares is None]


def trace(
    programs: Mapping[str, Program],
    types: Mapping[str, TensorType],
    homes: Sequence[str],
    fused: bool = True,
    threads: int = 1,
) -> Trace:
    """The steps of all phases of one worker; without `fused` every op has a loop of its own.

    Kernels that take long are shared by `threads` threads.
    """
    known = dict(types)
    programs = {phase: written_out(program, known) for phase, program in programs.items()}
    placing = Placing(known, frozenset(homes), threads)
    found = Trace(known, placing.homes, buffers=placing.buffers)
    tracer = _Tracer(found, readers_of(programs), placing, fused)
    for phase, program in programs.items():
        tracer.phase(phase, program)
    for phase, places in found.carried.items():
        kept = {key: p for key, p in places.items() if p.buffer.crosses or p.buffer.home}
        found.carried[phase] = kept
    found.again = spend(found.phases)
    share_buffers([step for steps in found.phases.values() for step in steps])
    found.phases = {phase: streamed(steps) for phase, steps in found.phases.items()}
    return found


class _Tracer:
    """What is known while steps are emitted."""

    def __init__(
        self,
        found: Trace,
        readers: Mapping[str, list[tuple[str, int]]],
        placing: Placing,
        fused: bool,
    ) -> None:
        self.found, self.readers, self.placing, self.fused = found, readers, placing, fused
        self.types, self.homes = found.types, found.homes
        self.base: dict[str, str] = {}  # what a view is a view of
        self.body: list[Instruction] = []  # of the phase

    def phase(self, name: str, program: Program) -> None:
        body = self.body = without_frees(program)
        direct, skipped = direct_stores(body, self.homes, self.readers)
        self.found.phases[name] = self.placing.begin(name, direct)
        self.found.carried[name] = dict(self.placing.places)
        order = [i for i in range(len(body)) if i not in skipped]
        items = [self._item(body[i]) for i in order]
        groups = fuse(items) if self.fused else [(i,) for i in range(len(items))]
        for members in groups:
            self._group(body, [order[m] for m in members])

    # ----- groups

    def _item(self, instruction: Instruction) -> Item:
        names = self.placing.direct
        writes = tuple(names.get(name, name) for name in writes_of(instruction))
        reads = reads_of(instruction)
        view = self._is_alias(instruction)
        if view:
            reads = reads[:1]
            self.base[writes[0]] = self.base.get(reads[0], reads[0])
        reads = (*reads, *(self.base[name] for name in reads if name in self.base))
        if type(instruction) is not Run or view:
            return Item(reads, writes, is_view=view)
        kind = self._kind(instruction)
        if is_elementwise(instruction, self.types):
            return Item(reads, writes, kind, shape=walk_of([instruction], self.types))
        if kind is None:
            kind = self._ended_kind(instruction)
            return Item(reads, writes, kind, ends=kind is not None)
        return Item(reads, writes, kind, leads=True)

    def _is_alias(self, instruction: Instruction) -> bool:
        """True for a view that needs no memory of its own."""
        if type(instruction) is not Run or instruction.outs[0] in self.homes:
            return False
        return is_view(instruction, self.types)

    def _kind(self, run: Run) -> tuple[str, int] | None:
        """Type and number of a run's first results if it may share a loop with others."""
        names = [out for out in run.outs if out != "_"]
        if not is_elementwise(run, self.types):
            ins = [self.types[arg] for arg in run.args]
            takes = run.outs[0] in self.types and takes_tail(run.op, ins, self._made(run, ins))
            names = names if takes else []
        return (self.types[names[0]].dtype, self.types[names[0]].size) if names else None

    def _ended_kind(self, run: Run) -> tuple[str, int] | None:
        """Type and number of what a run reads if its loop may take steps before it along."""
        ins = [self.types[arg] for arg in run.args]
        if len(ins) != 1 or run.outs[0] == "_" or not takes_head(run.op, ins, self._made(run, ins)):
            return None
        return ins[0].dtype, ins[0].size

    def _group(self, body: Sequence[Instruction], members: Sequence[int]) -> None:
        first = body[members[0]]
        if type(first) is Run:
            group = self._members({m: cast(Run, body[m]) for m in members})
            parts = map(self._members, parted(group)) if self._lies_turned(group) else [group]
            for part in parts:
                self._together(part)
        elif type(first) is Send:
            self.placing.emit(Outgoing(first, self.placing.read(first.entry, False)))
        elif type(first) is Recv:
            self.placing.emit(Incoming(first, self.placing.write(first.entry, False)))

    def _lies_turned(self, group: Members) -> bool:
        """True when a view of what lies channels-last would see another order."""
        kinds = [self.types[name] for pair in group.views.items() for name in pair]
        if not any(differs(kind) for kind in kinds) or not (group.steps or group.leader):
            return False
        if any(self.placing.lies_turned(arg) for run in group.steps for arg in run.args):
            return True
        kernel = self._lower(group.leader)[0] if group.leader else None
        return kernel is not None and ("out", 0) in kernel.last

    def _members(self, runs: Mapping[int, Run]) -> Members:
        direct = self.placing.direct
        return members_of(runs, direct, self._is_alias, lambda r: is_elementwise(r, self.types))

    def _together(self, group: Members) -> None:
        """A leader takes the others along if it can; what is wanted of views shares memory."""
        chain = chain_of(group.steps, self.types, group.views) if group.steps else None
        if chain is not None and group.is_ended and not self._headed(group, chain):
            for part in before_end(group):
                self._together(self._members(part))
            return
        if chain is None or not (group.is_ended or self._led(group, chain)):
            if group.leader is not None:
                self._run(group.leader)
            if chain is not None:
                self._elementwise(group, chain)
        for view in group.views:
            if not (chain or group.leader) or self._is_wanted(view, group):
                self.placing.alias(view, group.source(view))

    def _kept(self, group: Members, names: Iterable[str]) -> list[str]:
        """Which of the names are wanted outside of the group, themselves or by a view."""
        wanted = {group.source(n) for n in (*names, *group.views) if self._is_wanted(n, group)}
        return [name for name in dict.fromkeys(names) if name in wanted]

    def _is_wanted(self, name: str, group: Members) -> bool:
        if name == "_":
            return False
        if name in self.homes:
            return True
        here = self.placing.phase
        return any(p != here or at not in group.runs for p, at in self.readers.get(name, ()))

    # ----- kinds of runs

    def _led(self, group: Members, chain: Group) -> bool:
        """Emit the leader's kernel with the others as its tail; False if that cannot be."""
        if group.leader is None:
            return False
        kernel, made = self._lower(group.leader)
        after = kernel and self._following(group, chain, kernel)
        if kernel is None or after is None:
            return False
        self._generated(group.leader, kernel, made, after)
        return True

    def _following(self, group: Members, chain: Group, kernel: Kernel) -> Following | None:
        """The chain as a tail of the leader's kernel, or None."""
        assert group.leader is not None
        name = self.placing.direct.get(group.leader.outs[0], group.leader.outs[0])
        shape = walk_of(group.steps, self.types) or self.types[name].shape
        last = ("out", 0) in kernel.last
        spreads = [spread_of(self.types[n].shape, shape, last, kernel.width) for n in chain.reads]
        kept = self._kept(group, (name, *chain.made))
        # A resident array that is updated must not change before all that read it are done: the
        # leader, and the steps if sums wait in their first result.
        read = {self.base.get(n, n) for n in group.leader.args}
        others = {self.base.get(n, n) for n in chain.reads if n != name}
        if kernel.gathers:
            kept.sort(key=lambda n: n in others)
            read |= others & {kept[0]}
        if name not in chain.reads or None in spreads or read.intersection(kept):
            return None
        if last and not are_of_one_shape((*kept, *chain.reads), shape, self.types):
            return None
        if chain.numbers:  # these change, and are no argument of the leader's kernel
            return None
        after = following(name, chain, kept, spreads, label_of([group.leader, *group.steps]))
        return after if kernel.loops or pays(after.tail, self.types[name].nbytes) else None

    def _headed(self, group: Members, chain: Group) -> bool:
        """Emit the kernel that ends a group with the others as its head; False if it cannot."""
        run, at, types = cast(Run, group.leader), self.placing, self.types
        kernel, made = self._lower(run)
        stored, fed = self._kept(group, chain.made), group.source(run.args[0])
        if kernel is None or not self._may_be_headed(kernel, group, chain, stored):
            return False
        shape, last = walk_of(group.steps, types) or types[fed].shape, ("in", 0) in kernel.last
        if last and not are_of_one_shape((*stored, *chain.reads, fed), shape, types):
            return False
        shapes = [types[name].shape for name in chain.reads]
        turned = [last and given == shape for given in shapes]
        spec = headed(kernel, chain, fed, stored, shapes, shape)
        if spec is None or not all(map(at.lies, chain.reads, turned)):
            return False
        args = [at.read(*each).buffer for each in zip(chain.reads, turned, strict=True)]
        args += [at.write(name, last).buffer for name in stored]
        outs = [("out", i) in kernel.last for i in range(len(made))]
        for out, kind, turn in zip(run.outs, made, outs, strict=True):
            args.append(at.buffer(kind.nbytes) if out == "_" else at.write(out, turn).buffer)
        like = [i for i, given in enumerate(shapes) if lies_like(given, shape, last)]
        inplace = [(i, len(shapes) + j) for j in range(len(stored)) for i in like]
        label, flops = label_of([*group.steps, run]), run.op.cost([types[fed]], made).flops
        at.native(spec, args, label, len(shapes), inplace, kernel.space, flops)
        for name in (*stored, *(out for out in run.outs if out != "_")):
            at.settle(name)
        return True

    def _may_be_headed(
        self, kernel: Kernel, group: Members, chain: Group, stored: Sequence[str]
    ) -> bool:
        """True when threads have no less to do, and no result lies where steps read or write."""
        run, at = cast(Run, group.leader), self.placing
        used = {self.base.get(n, n) for n in chain.reads} | {*stored}
        apart = not used.intersection(at.direct.get(n, n) for n in run.outs)
        plain = not chain.numbers and group.source(run.args[0]) in chain.made
        busy = at.threads == 1 or keeps_threads_busy(kernel, chain, stored)
        return apart and plain and busy and not (group.views and kernel.last)

    def _generated(
        self, run: Run, kernel: Kernel, made: Sequence[TensorType], after: Following | None = None
    ) -> None:
        outs = [(out, made[i], ("out", i) in kernel.last) for i, out in enumerate(run.outs)]
        reads = [(run.args[i], ("in", i) in kernel.last) for i in kernel.reads]
        spec, label = kernel.spec, run.op.name
        if after is not None:
            spec, label = spec._replace(args=(*spec.args, tuple(after.tail))), after.label
            reads += [(name, outs[0][2]) for name in after.others]
            outs[:1] = [(name, *outs[0][1:]) for name in after.kept]
        at = self.placing
        args: list[Buffer | int] = [at.read(name, turned).buffer for name, turned in reads]
        for out, kind, turned in outs:
            args.append(at.buffer(kind.nbytes) if out == "_" else at.write(out, turned).buffer)
        flops = run.op.cost([self.types[arg] for arg in run.args], made).flops
        pairs, stream = memory_pairs(kernel, after), Stream(run.outs[0]) if kernel.draws else None
        at.native(spec, args, label, len(reads), pairs, kernel.space, flops, stream=stream)
        for out, _, _ in outs:
            if out != "_":
                at.settle(out)

    def _run(self, run: Run) -> None:
        kernel, made = self._lower(run)
        if kernel is None:
            self._reference(run)
        else:
            self._generated(run, kernel, made)

    def _lower(self, run: Run) -> tuple[Kernel | None, list[TensorType]]:
        """A run's kernel, if there is one, and the types of what it makes."""
        ins = [self.types[arg] for arg in run.args]
        made = self._made(run, ins)
        turned = any(differs(self.types[a]) and self.placing.lies_turned(a) for a in run.args)
        return lower(run.op, ins, made, turned), made

    def _made(self, run: Run, ins: Sequence[TensorType]) -> list[TensorType]:
        """Types of all values of a run, also of those that nobody uses."""
        nothing = [None] * len(run.outs)
        shapes = run.op.infer_shape([t.shape for t in ins], nothing)[1]
        dtypes = run.op.infer_dtype([t.dtype for t in ins], nothing)[1]
        pairs = zip(shapes, dtypes, strict=True)
        return [TensorType(tuple(shape or ()), str(dtype)) for shape, dtype in pairs]

    def _reference(self, run: Run) -> None:
        uncovered = self.found.uncovered
        uncovered[run.op.name] = uncovered.get(run.op.name, 0) + 1
        args = tuple(self.placing.read(arg, False) for arg in run.args)
        outs = tuple(None if o == "_" else self.placing.write(o, False) for o in run.outs)
        self.placing.emit(Reference(run, args, outs))

    def _elementwise(self, group: Members, chain: Group) -> None:
        at, types = self.placing, self.types
        stored = self._kept(group, chain.made)
        made = next(n for n in chain.made if n != "_")
        shape = walk_of(group.steps, types) or types[made].shape
        last = self._walks_last(group, chain, shape, stored)
        places = [at.read(name, last and types[name].shape == shape) for name in chain.reads]
        outs = [at.write(name, last) for name in stored]
        spec, extra = map_spec(chain, stored, shape, last, [p.type.shape for p in places])
        buffers = [place.buffer for place in (*places, *outs)]
        # Results lie in the order of the walk, and so does what has their shape.
        like = [i for i, place in enumerate(places) if lies_like(place.type.shape, shape, last)]
        inplace = [(i, len(places) + j) for j in range(len(outs)) for i in like]
        given = chain.numbers and Numbers(
            table_of(chain), chain.chain, list(group.steps), group.views
        )
        args: list[Buffer | int] = [*buffers, *extra]
        label = label_of(group.steps)
        at.native(spec, args, label, len(places), inplace, numbers=given or None)
        for name in stored:
            at.settle(name)

    def _walks_last(
        self, group: Members, chain: Group, shape: Shape, stored: Sequence[str]
    ) -> bool:
        """True when a loop walks as channels-last images lie: those it reads, or its readers'."""
        if not are_of_one_shape((*stored, *chain.reads), shape, self.types):
            return False
        if any(self.placing.lies_turned(name) for name in chain.reads):
            return True
        only_spreads = all(self.types[name].size < math.prod(shape) for name in chain.reads)
        return only_spreads and not group.views and any(map(self._is_read_last, stored))

    def _is_read_last(self, name: str) -> bool:
        """True when a kernel of this phase reads the value where its channels come last."""
        if not differs(self.types[name]):
            return False
        here = (at for phase, at in self.readers.get(name, ()) if phase == self.placing.phase)
        runs = (run for run in map(self.body.__getitem__, here) if type(run) is Run)
        return any(
            kernel is not None and ("in", run.args.index(name)) in kernel.last
            for run in runs
            for kernel, _ in [self._lower(run)]
        )
