"""Tracing: the phases of one worker become steps over buffers, in the order in which they run.

Values are followed by name. A value may lie as users see it, channels-last, or both ways; buffers
know their first and last step, so that memory can be planned afterwards.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from raysym.kernels.lowering import Kernel, lower, takes_tail
from raysym.kernels.maps import (
    Following,
    chain_of,
    following,
    is_elementwise,
    is_view,
    map_spec,
    table_of,
)
from raysym.kernels.names import direct_stores, readers_of, reads_of, without_frees, writes_of
from raysym.kernels.replay import spend
from raysym.kernels.shared import own_floats
from raysym.kernels.sharing import share_buffers
from raysym.kernels.specs import Spec, is_worth_sharing
from raysym.kernels.steps import (
    FOREVER,
    Buffer,
    Incoming,
    Native,
    Numbers,
    Outgoing,
    Place,
    Reference,
    Step,
    buffers_of,
)
from raysym.kernels.streams import streamed
from raysym.passes.fuse import Item, fuse
from raysym.planning.plan import Instruction, Program, Recv, Run, Send
from raysym.types import TensorType


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
    found = Trace(types, frozenset(homes))
    tracer = _Tracer(found, readers_of(programs), fused, threads)
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
        fused: bool,
        threads: int,
    ) -> None:
        self.found, self.readers, self.fused, self.threads = found, readers, fused, threads
        self.places: dict[tuple[str, bool], Place] = {}
        self.name = ""
        self.steps: list[Step] = []
        self.clock = 0

    def phase(self, name: str, program: Program) -> None:
        body = without_frees(program)
        direct, skipped = direct_stores(body, self.found.homes, self.readers)
        self.name, self.steps = name, []
        self.found.phases[name] = self.steps
        for key in [k for k in self.places if k[0] in self.found.homes]:
            del self.places[key]  # users may have written to resident arrays since
        self.found.carried[name] = dict(self.places)
        order = [i for i in range(len(body)) if i not in skipped]
        base: dict[str, str] = {}  # what a view is a view of
        items = [self._item(body[i], direct, base) for i in order]
        groups = fuse(items) if self.fused else [(i,) for i in range(len(items))]
        for members in groups:
            self._group(body, [order[m] for m in members], direct)

    def _item(
        self, instruction: Instruction, direct: Mapping[str, str], base: dict[str, str]
    ) -> Item:
        kind = self._kind(instruction)
        leads = type(instruction) is Run and not is_elementwise(instruction, self.found.types)
        writes = tuple(direct.get(name, name) for name in writes_of(instruction))
        reads = reads_of(instruction)
        if type(instruction) is Run and is_view(instruction, self.found.types):
            base[instruction.outs[0]] = base.get(reads[0], reads[0])
        reads = (*reads, *(base[name] for name in reads if name in base))
        return Item(reads, writes, kind, leads)

    def _kind(self, instruction: Instruction) -> TensorType | None:
        """The type of a run's first result if it may share a loop with others."""
        types = self.found.types
        if type(instruction) is not Run:
            return None
        if is_elementwise(instruction, types):
            return next(types[out] for out in instruction.outs if out != "_")
        ins = [types[arg] for arg in instruction.args]
        name = instruction.outs[0]
        is_leader = name in types and takes_tail(instruction.op, ins, self._made(instruction, ins))
        return types[name] if is_leader else None

    def _group(
        self, body: Sequence[Instruction], members: Sequence[int], direct: Mapping[str, str]
    ) -> None:
        first = body[members[0]]
        if len(members) > 1 or (type(first) is Run and is_elementwise(first, self.found.types)):
            self._loop([body[m] for m in members], set(members), direct)
        elif type(first) is Run:
            self._run(first, direct)
        elif type(first) is Send:
            self._emit(Outgoing(first, self._read(first.entry, False)))
        elif type(first) is Recv:
            self._emit(Incoming(first, self._write(first.entry, False, direct)))

    # ----- emitting

    def _emit(self, step: Step) -> None:
        for buffer in buffers_of(step):
            buffer.touch(self.clock, self.name)
        self.steps.append(step)
        self.clock += 1

    def _native(
        self,
        spec: Spec,
        args: Sequence[Buffer | int],
        label: str,
        n_reads: int,
        inplace: Sequence[tuple[int, int]] = (),
        space: int = 0,
        flops: float = 0,
        numbers: Numbers | None = None,
    ) -> None:
        """A call of a kernel that needs `space` floats of memory for each of its threads."""
        nbytes = sum(arg.nbytes for arg in args if isinstance(arg, Buffer))
        if self.threads > 1 and is_worth_sharing(spec, flops, nbytes):
            spec = spec._replace(parts=self.threads)
        if space:
            # own_floats counts numbers of the dtype: a line of float64 is two of float32.
            wide = 2 if spec.dtype == "float64" else 1
            each = wide * own_floats(-(-space // wide))
            whole = space if spec.parts == 1 else spec.parts * each
            args = [*args, self._buffer(4 * whole)]
        if numbers is not None:
            args = [*args, int(numbers.table.ctypes.data)]
        self._emit(Native(spec, tuple(args), label, n_reads, tuple(inplace), numbers))

    def _buffer(self, nbytes: int) -> Buffer:
        made = Buffer(nbytes)
        self.found.buffers.append(made)
        return made

    def _write(self, name: str, last: bool, direct: Mapping[str, str]) -> Place:
        """A new place for a value that a step is about to make."""
        name = direct.get(name, name)
        kind = self.found.types[name]
        for layout in (False, True):
            self.places.pop((name, layout), None)
        if name in self.found.homes and not last:
            place = Place(Buffer(kind.nbytes, name), kind)
        else:
            place = Place(self._buffer(kind.nbytes), kind, last)
        self.places[name, last] = place
        return place

    def _settle(self, name: str, direct: Mapping[str, str]) -> None:
        """Bring a resident value that was made channels-last into its array."""
        name = direct.get(name, name)
        if name in self.found.homes and (name, False) not in self.places:
            self._turn(name, self.places[name, True], False)

    def _read(self, name: str, last: bool) -> Place:
        """The place of a value in the wanted layout; turned first if need be."""
        if (name, last) in self.places:
            return self.places[name, last]
        if (name, not last) in self.places:
            there = self.places[name, not last]
            if not differs(there.type):
                return there._replace(last=last)
            return self._turn(name, there, last)
        kind = self.found.types[name]
        if name not in self.found.homes:
            raise KeyError(name)
        self.places[name, False] = Place(Buffer(kind.nbytes, name), kind)
        return self._read(name, last)

    def _turn(self, name: str, there: Place, last: bool) -> Place:
        n, c, *spatial = there.type.shape
        sizes = (n, c, math.prod(spatial)) if last else (n, math.prod(spatial), c)
        is_home = name in self.found.homes and not last
        buffer = Buffer(there.type.nbytes, name) if is_home else self._buffer(there.type.nbytes)
        spec = Spec("transpose", sizes, dtype=there.type.dtype)
        self._native(spec, [there.buffer, buffer], "transpose", 1)
        # Another phase turns it again: this one may run without that.
        self.places[name, last] = Place(buffer, there.type, last)
        return self.places[name, last]

    # ----- kinds of runs

    def _run(self, run: Run, direct: Mapping[str, str]) -> None:
        ins = [self.found.types[arg] for arg in run.args]
        if is_view(run, self.found.types) and run.outs[0] not in self.found.homes:
            there = self._read(run.args[0], False)
            self._alias(run.outs[0], there)
            return
        made = self._made(run, ins)
        kernel = lower(run.op, ins, made)
        if kernel is None:
            self._reference(run, direct)
        else:
            self._generated(run, kernel, made, direct)

    def _made(self, run: Run, ins: Sequence[TensorType]) -> list[TensorType]:
        """Types of all values of a run, also of those that nobody uses."""
        nothing = [None] * len(run.outs)
        shapes = run.op.infer_shape([t.shape for t in ins], nothing)[1]
        dtypes = run.op.infer_dtype([t.dtype for t in ins], nothing)[1]
        pairs = zip(shapes, dtypes, strict=True)
        return [TensorType(tuple(shape or ()), str(dtype)) for shape, dtype in pairs]

    def _alias(self, name: str, there: Place) -> None:
        self.places[name, False] = Place(there.buffer, self.found.types[name])

    def _reference(self, run: Run, direct: Mapping[str, str]) -> None:
        uncovered = self.found.uncovered
        uncovered[run.op.name] = uncovered.get(run.op.name, 0) + 1
        args = tuple(self._read(arg, False) for arg in run.args)
        outs = tuple(None if o == "_" else self._write(o, False, direct) for o in run.outs)
        self._emit(Reference(run, args, outs))

    def _generated(
        self,
        run: Run,
        kernel: Kernel,
        made: Sequence[TensorType],
        direct: Mapping[str, str],
        after: Following | None = None,
    ) -> None:
        outs = [(out, made[i], ("out", i) in kernel.last) for i, out in enumerate(run.outs)]
        reads = [(run.args[i], ("in", i) in kernel.last) for i in kernel.reads]
        spec, label = kernel.spec, run.op.name
        if after is not None:
            spec, label = Spec(spec.maker, (*spec.args, tuple(after.tail))), after.label
            reads += [(name, outs[0][2]) for name in after.others]
            outs[:1] = [(name, *outs[0][1:]) for name in after.kept]
        args: list[Buffer | int] = [self._read(name, turned).buffer for name, turned in reads]
        for out, kind, turned in outs:
            fresh = out == "_"
            args.append(
                self._buffer(kind.nbytes) if fresh else self._write(out, turned, direct).buffer
            )
        flops = run.op.cost([self.found.types[arg] for arg in run.args], made).flops
        inplace = _pairs(kernel, after)
        self._native(spec, args, label, len(reads), inplace, kernel.space, flops)
        for out, _, _ in outs:
            if out != "_":
                self._settle(out, direct)

    def _loop(self, runs: Sequence[Any], positions: set[int], direct: Mapping[str, str]) -> None:
        """A group of fused runs; a leader may take the others along."""
        types = self.found.types
        leader = next((run for run in runs if not is_elementwise(run, types)), None)
        steps = [run for run in runs if run is not leader]
        if leader is not None and not self._led(leader, steps, positions, direct):
            self._run(leader, direct)
            self._elementwise(steps, positions, direct)
        elif leader is None:
            self._elementwise(steps, positions, direct)

    def _led(
        self, leader: Run, steps: Sequence[Any], positions: set[int], direct: Mapping[str, str]
    ) -> bool:
        """Emit the leader's kernel with the others as its tail; False if that cannot be."""
        types = self.found.types
        name = direct.get(leader.outs[0], leader.outs[0])
        group = chain_of(_renamed(steps, direct), types)
        if name not in group.reads or any(types[read] != types[name] for read in group.reads):
            return False
        if group.numbers:  # these change, and are no argument of the leader's kernel
            return False
        kept = [n for n in dict.fromkeys((name, *group.made)) if self._is_wanted(n, positions)]
        after = following(name, group, kept, _label([leader, *steps]))
        ins = [types[arg] for arg in leader.args]
        made = self._made(leader, ins)
        kernel = lower(leader.op, ins, made)
        assert kernel is not None
        self._generated(leader, kernel, made, direct, after)
        return True

    def _elementwise(
        self, runs: Sequence[Any], positions: set[int], direct: Mapping[str, str]
    ) -> None:
        runs = _renamed(runs, direct)
        chain = chain_of(runs, self.found.types)
        stored = [n for n in dict.fromkeys(chain.made) if self._is_wanted(n, positions)]
        shape = self.found.types[next(n for n in chain.made if n != "_")].shape
        last = any((name, True) in self.places for name in chain.reads)
        places = [self._read(name, last and self._is_image(name, shape)) for name in chain.reads]
        outs = [self._write(name, last, direct) for name in stored]
        spec, extra = map_spec(chain, stored, shape, last, [p.type.shape for p in places])
        buffers = [place.buffer for place in (*places, *outs)]
        # Results lie in the order of the walk, and so does what has their shape.
        like = [i for i, place in enumerate(places) if place.type.shape == shape]
        inplace = [(i, len(places) + j) for j in range(len(outs)) for i in like]
        numbers = Numbers(table_of(chain), chain.chain, list(runs)) if chain.numbers else None
        args: list[Buffer | int] = [*buffers, *extra]
        self._native(spec, args, _label(runs), len(places), inplace, numbers=numbers)
        for name in stored:
            self._settle(name, direct)

    def _is_image(self, name: str, shape: Sequence[int]) -> bool:
        return self.found.types[name].shape == tuple(shape)

    def _is_wanted(self, name: str, positions: set[int]) -> bool:
        if name == "_":
            return False
        if name in self.found.homes:
            return True
        return any(p != self.name or at not in positions for p, at in self.readers.get(name, ()))


def _label(runs: Sequence[Any]) -> str:
    return "+".join(dict.fromkeys(run.op.name for run in runs))


def _renamed(runs: Sequence[Any], direct: Mapping[str, str]) -> list[Any]:
    return [replace(r, outs=tuple(direct.get(out, out) for out in r.outs)) for r in runs]


def _pairs(kernel: Kernel, after: Following | None) -> list[tuple[int, int]]:
    """Operands and results that may share memory, as positions among the arguments."""
    slot = {i: position for position, i in enumerate(kernel.reads)}
    count = len(kernel.reads)
    if after is None:
        return [(slot[i], count + j) for i, j in kernel.inplace]
    first = count + len(after.others)
    sources = [*(slot[i] for i, j in kernel.inplace if j == 0), *range(count, first)]
    return [(source, first + j) for j in range(len(after.kept)) for source in sources]


def differs(kind: TensorType) -> bool:
    """True when channels-last is another order of the numbers."""
    return len(kind.shape) > 2 and kind.shape[1] > 1 and math.prod(kind.shape[2:]) > 1
