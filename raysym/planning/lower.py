"""Lowering: a step and a placement become a plan."""

from __future__ import annotations

from collections.abc import Mapping

from raysym.graph import Entry, Node, entry_name, node_names
from raysym.op import make_op
from raysym.passes.order import lean_order
from raysym.planning.lifetimes import free_unused
from raysym.planning.plan import Instruction, Plan, Program, Recv, Run, Send
from raysym.planning.step import Bound, Step, Store, phase_of
from raysym.types import TensorType

COPY = make_op("_copy", {})  # brings a value to its home


def lower(step: Step, bound: Bound, placement: Mapping[Node, str], free: bool = True) -> Plan:
    """The plan of `step`; `placement` maps the user's nodes to workers.

    Gradients run where their forward node runs; a variable's copies on other workers are sent
    anew in every phase, since users may write to it between phases. Without `free`, values are
    kept: for those who go on to rearrange the instructions.
    """
    return _Lowering(step, bound, placement).plan(free)


def owners_of(step: Step, bound: Bound) -> dict[str, Node]:
    """The user's node that each run of the plan belongs to, by the run's first output.

    Copies, which make values of forward again for whoever needs them, have no owner.
    """
    names = _names(step, bound)
    own = [n for n in step.graph.nodes if n in step.origin and n not in step.copies]
    return {names[node]: step.origin[node] for node in own}


def _names(step: Step, bound: Bound) -> dict[Node, str]:
    homes = [store.home for store in step.stores]
    fixed = {node: bound.names[node] for node in step.graph.variables() if node in bound.names}
    held = {node: home for home, node in step.accumulators.items()}
    reserved = [home for home in homes if home not in held.values()]
    return node_names(step.graph, step.origin, {**fixed, **held}, reserved)


class _Lowering:
    """The state of one lowering: programs grow instruction by instruction."""

    def __init__(self, step: Step, bound: Bound, placement: Mapping[Node, str]) -> None:
        self.step = step
        self.names = _names(step, bound)
        self.where = self._places(bound, placement)
        self.workers = sorted(set(placement.values()), key=_worker_order)
        self.home = self._homes(bound, placement)
        self.present: dict[Entry, set[str]] = {}
        self.programs: dict[str, dict[str, list[Instruction]]] = {w: {} for w in self.workers}

    def _places(self, bound: Bound, placement: Mapping[Node, str]) -> dict[Node, str]:
        heads = {node: bound.graph.outputs[i].node for i, node in self.step.head_grads.items()}
        owners = {f"grad:{bound.names[e.node]}": e.node for e in bound.grad_req}
        for home, node in self.step.accumulators.items():
            heads[node] = owners[home]
        return {
            node: placement[heads.get(node, self.step.origin.get(node, node))]
            for node in self.step.graph.nodes
        }

    def _homes(self, bound: Bound, placement: Mapping[Node, str]) -> dict[str, str]:
        homes = {self.names[node]: self.where[node] for node in self.step.graph.variables()}
        owner = {bound.names[node]: placement[node] for node in bound.graph.variables()}
        for store in self.step.stores:
            kind, _, rest = store.home.partition(":")
            if kind == "output":
                homes[store.home] = placement[bound.graph.outputs[int(rest)].node]
            else:
                homes.setdefault(store.home, owner[rest if kind == "grad" else store.home])
        return homes

    # ----- emitting

    def plan(self, free: bool) -> Plan:
        first = phase_of(self.step)
        for phase in self.step.phases:
            nodes = [n for n in self.step.graph.nodes if first.get(n) == phase]
            self._phase(phase, self._lean([n for n in nodes if not n.is_variable]))
        programs: Mapping[str, Mapping[str, Program]] = {
            worker: {phase: tuple(body) for phase, body in phases.items()}
            for worker, phases in self.programs.items()
        }
        if free:
            programs = free_unused(programs, self.home)
        return Plan(programs, self.home, self._types(programs))

    def _lean(self, nodes: list[Node]) -> list[Node]:
        """The nodes of a phase in the order in which they run."""
        here = set(nodes)
        sizes = {entry: kind.nbytes for entry, kind in self.step.types.items()}
        elsewhere = {e for node in self.step.graph.nodes if node not in here for e in node.inputs}
        old = {e for node in nodes for e in node.inputs if e.node not in here}
        return lean_order(nodes, sizes, elsewhere | old, self.step.copies)

    def _phase(self, phase: str, nodes: list[Node]) -> None:
        stores = [store for store in self.step.stores if store.phase == phase]
        wanted = self._wanted(nodes, stores)
        for worker in self.workers:
            self.programs[worker][phase] = []
        for entry in list(self.present):
            if entry.node.is_variable:
                del self.present[entry]
        self._early_sends(phase, nodes, wanted)
        due: dict[Node, list[Store]] = {}
        for store in stores:
            if not store.late and not store.entry.node.is_variable:
                due.setdefault(store.entry.node, []).append(store)
        made = set(nodes)
        for node in nodes:
            self._run(phase, node, wanted)
            for store in due.get(node, ()):
                self._store(phase, store)
        for store in stores:
            if store.late or store.entry.node not in made:
                self._store(phase, store)

    def _wanted(self, nodes: list[Node], stores: list[Store]) -> dict[Entry, list[str]]:
        """Workers that read each entry in this phase, apart from its own."""
        found: dict[Entry, list[str]] = {}
        reads = [(e, self.where[node]) for node in nodes for e in node.inputs]
        reads += [(store.entry, self.home[store.home]) for store in stores]
        for entry, worker in reads:
            readers = found.setdefault(entry, [])
            if worker != self.where[entry.node] and worker not in readers:
                readers.append(worker)
        return found

    def _early_sends(
        self, phase: str, nodes: list[Node], wanted: Mapping[Entry, list[str]]
    ) -> None:
        made = set(nodes)
        for entry, readers in wanted.items():
            if entry.node not in made:
                self._send(phase, entry, readers)

    def _send(self, phase: str, entry: Entry, readers: list[str]) -> None:
        for worker in readers:
            if worker not in self.present.get(entry, ()):
                self._emit(self.where[entry.node], phase, Send(self._name(entry), worker))

    def _run(self, phase: str, node: Node, wanted: Mapping[Entry, list[str]]) -> None:
        worker = self.where[node]
        for entry in node.inputs:
            self._receive(phase, entry, worker)
        outs = tuple(self._name(entry) for entry in node.entries())
        args = tuple(self._name(entry) for entry in node.inputs)
        self._emit(worker, phase, Run(outs, node.op, args))
        for entry in node.entries():
            self._send(phase, entry, wanted.get(entry, []))

    def _receive(self, phase: str, entry: Entry, worker: str) -> None:
        source, present = self.where[entry.node], self.present.setdefault(entry, set())
        if worker != source and worker not in present:
            self._emit(worker, phase, Recv(self._name(entry), source))
            present.add(worker)

    def _store(self, phase: str, store: Store) -> None:
        worker = self.home[store.home]
        self._receive(phase, store.entry, worker)
        self._emit(worker, phase, Run((store.home,), COPY, (self._name(store.entry),)))

    def _emit(self, worker: str, phase: str, instruction: Instruction) -> None:
        self.programs[worker][phase].append(instruction)

    def _name(self, entry: Entry) -> str:
        return entry_name(entry, self.names)

    def _types(self, programs: Mapping[str, Mapping[str, Program]]) -> dict[str, TensorType]:
        types = {self._name(entry): t for entry, t in self.step.types.items()}
        for store in self.step.stores:
            types[store.home] = self.step.types[store.entry]
        named = set(self.home)
        for phases in programs.values():
            for body in phases.values():
                named.update(out for i in body if type(i) is Run for out in i.outs)
        return {name: t for name, t in types.items() if name in named}


def _worker_order(name: str) -> tuple[str, int]:
    kind, _, number = name.partition(":")
    return kind, int(number)
