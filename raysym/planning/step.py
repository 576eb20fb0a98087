"""A step: one joint graph of everything that a mode computes, and where results are stored.

Phases: "forward" and "backward" when training; "inference" without. "inference_backward" repeats
the forward pass of the inference graph and differentiates that.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from raysym.graph import Entry, Graph, Node, apply, topological, variable
from raysym.passes.gradient import differentiate
from raysym.passes.infer import infer
from raysym.passes.inference import for_inference
from raysym.passes.simplify import simplify
from raysym.types import TensorType

FORWARD, BACKWARD = "forward", "backward"
INFERENCE, INFERENCE_BACKWARD = "inference", "inference_backward"


class Store(NamedTuple):
    """At the end of its phase, or as soon as it is made, `entry` is written to `home`.

    ``owner`` is the user's node that the result belongs to. ``late`` stores change a variable and
    wait until nobody in the phase reads the old value.
    """

    home: str
    entry: Entry
    phase: str
    owner: Node
    late: bool = False


@dataclass(frozen=True)
class Bound:
    """What `bind` fixed: the user's graph, its names, all types, and what is to be trained."""

    graph: Graph
    names: Mapping[Node, str]
    known: Mapping[Entry, TensorType]
    types: Mapping[Entry, TensorType]
    grad_req: Mapping[Entry, str]  # arguments with "write" or "add"


@dataclass(frozen=True)
class Step:
    """The joint graph of one mode. ``origin``: the user's node that each node belongs to.

    ``copies`` make values of forward again, see `planning.lean`.
    """

    graph: Graph
    stores: tuple[Store, ...]
    phases: tuple[str, ...]
    origin: Mapping[Node, Node]
    types: Mapping[Entry, TensorType]
    head_grads: Mapping[int, Node]  # the placeholders that the step really reads
    accumulators: Mapping[str, Node]  # home of a gradient -> variable that holds its old value
    copies: frozenset[Node] = frozenset()


def inference_step(bound: Bound, tidy: bool = True) -> Step:
    """Forward only, on the graph rewritten for inference."""
    graph, old_of = for_inference(bound.graph)
    stores = [
        *_outputs(bound, graph, INFERENCE),
        *_updates(graph, bound, INFERENCE, backward=False),
    ]
    return _finish(bound, stores, (INFERENCE,), old_of, {}, {}, tidy)


def training_step(bound: Bound, tidy: bool = True) -> Step:
    """Forward and backward in one graph."""
    stores = [*_outputs(bound, bound.graph, FORWARD), *_updates(bound.graph, bound, FORWARD, False)]
    phases: tuple[str, ...] = (FORWARD,)
    if not bound.grad_req:
        return _finish(bound, stores, phases, {}, {}, {}, tidy)
    back = _Backward.of(bound, bound.graph, BACKWARD)
    stores += [*back.stores, *back.updates(bound, BACKWARD)]
    stores += _updates(bound.graph, bound, BACKWARD, True, _trained(bound))
    return _finish(
        bound, stores, (FORWARD, BACKWARD), back.origin, back.heads, back.accumulators, tidy
    )


def inference_backward_step(bound: Bound, tidy: bool = True) -> Step:
    """The gradient of the inference graph, for a backward that follows forward(is_train=False)."""
    graph, old_of = for_inference(bound.graph)
    back = _Backward.of(bound, graph, INFERENCE_BACKWARD)
    origin = {new: old_of.get(old, old) for new, old in back.origin.items()}
    return _finish(
        bound,
        [*back.stores, *back.updates(bound, INFERENCE_BACKWARD)],
        (INFERENCE_BACKWARD,),
        {**old_of, **origin},
        back.heads,
        back.accumulators,
        tidy,
    )


def _trained(bound: Bound) -> set[Node]:
    """Nodes whose backward MXNet runs, be it on zeros: gradients that are wanted lie beneath."""
    found = {entry.node for entry in bound.grad_req}
    for node in bound.graph.nodes:
        if not node.op.zero_gradient and any(entry.node in found for entry in node.inputs):
            found.add(node)
    return found


# ----- the backward part


class _Backward(NamedTuple):
    stores: list[Store]
    origin: dict[Node, Node]
    heads: dict[int, Node]
    accumulators: dict[str, Node]

    @staticmethod
    def of(bound: Bound, graph: Graph, phase: str) -> _Backward:
        heads = [
            variable(f"head_grad:{i}") if head.node.op.needs_head_grad else None
            for i, head in enumerate(graph.outputs)
        ]
        found = differentiate(graph, list(bound.grad_req), heads)
        untouched, readers = label_only(graph), only_readers(graph)
        accumulators: dict[str, Node] = {}
        stores = []
        for entry, req in bound.grad_req.items():
            home, grad = f"grad:{bound.names[entry.node]}", found.grads[entry]
            if grad is None and (req == "add" or entry in untouched):
                continue
            grad = grad or apply("zeros_like", entry)
            total = grad
            if req == "add":
                old = variable(home)
                total = _added(readers.get(entry), old, grad)
                if total != grad:
                    accumulators[home] = old.node
            stores.append(Store(home, total, phase, entry.node))
        placeholders = {i: head.node for i, head in enumerate(heads) if head is not None}
        return _Backward(stores, found.origin, placeholders, accumulators)

    def updates(self, bound: Bound, phase: str) -> list[Store]:
        """What the nodes of the gradients themselves write, such as the states of users' ops."""
        graph = Graph.of(store.entry for store in self.stores)
        return _updates(graph, bound, phase, backward=False, among=self.origin)


def label_only(graph: Graph) -> set[Entry]:
    """Variables used only as labels of loss layers: their gradient arrays stay untouched."""
    labels: set[Entry] = set()
    others: set[Entry] = set()
    for node in graph.nodes:
        slots = node.op.input_names()
        for i, entry in enumerate(node.inputs):
            is_label = i < len(slots) and slots[i] in node.op.labels
            (labels if is_label else others).add(entry)
    return labels - others


def only_readers(graph: Graph) -> dict[Entry, Node]:
    """The node whose first input is all that reads a variable."""
    reads: dict[Entry, list[tuple[Node | None, int]]] = {e: [(None, 0)] for e in graph.outputs}
    for node in graph.nodes:
        for slot, entry in enumerate(node.inputs):
            reads.setdefault(entry, []).append((node, slot))
    return {e: r[0][0] for e, r in reads.items() if len(r) == 1 and r[0][0] and r[0][1] == 0}


def _added(reader: Node | None, old: Entry, grad: Entry) -> Entry:
    made = reader and reader.op.add_to_grad(reader.inputs, reader.entries(), old, grad)
    return made or apply("elemwise_add", old, grad)


# ----- stores


def _outputs(bound: Bound, graph: Graph, phase: str) -> Iterator[Store]:
    """Every head but those that are variables: their output is the bound array itself."""
    for i, entry in enumerate(graph.outputs):
        if not bound.graph.outputs[i].node.is_variable:
            yield Store(f"output:{i}", entry, phase, bound.graph.outputs[i].node)


def _updates(
    graph: Graph,
    bound: Bound,
    phase: str,
    backward: bool,
    among: Container[Node] | None = None,
) -> list[Store]:
    """New values of variables; a variable shared by several nodes is updated by each in turn.

    Only nodes `among` these count: in backward, those that are trained.
    """
    current: dict[Entry, Entry] = {}
    for node in graph.nodes:
        if among is not None and node not in among:
            continue
        ins = [current.get(entry, entry) for entry in node.inputs]
        rule = node.op.backward_updates if backward else node.op.forward_updates
        for slot, entry in rule(ins, node.entries()).items():
            if node.inputs[slot].node.is_variable:
                current[node.inputs[slot]] = entry
    return [
        Store(bound.names[old.node], new, phase, old.node, late=True)
        for old, new in current.items()
    ]


# ----- putting it together


def _finish(
    bound: Bound,
    stores: Sequence[Store],
    phases: tuple[str, ...],
    origin: Mapping[Node, Node],
    heads: Mapping[int, Node],
    accumulators: Mapping[str, Node],
    tidy: bool,
) -> Step:
    graph = Graph.of(store.entry for store in stores)
    known = {**bound.known, **_placeholder_types(bound, heads, accumulators)}
    types = infer(graph, known)
    full = _with_owners(bound, stores, origin)
    if tidy:
        graph, full = simplify(graph, types, full)
        types = infer(graph, known)
    final = [store._replace(entry=e) for store, e in zip(stores, graph.outputs, strict=True)]
    reached = set(graph.variables())
    used = {i: node for i, node in heads.items() if node in reached}
    return Step(graph, tuple(final), phases, full, types, used, accumulators)


def _with_owners(
    bound: Bound, stores: Sequence[Store], origin: Mapping[Node, Node]
) -> dict[Node, Node]:
    """The user's node of every node: its own, its origin, or the owner of what it is made for."""
    full = {**{node: node for node in bound.graph.nodes}, **origin}
    for store in stores:
        stack = [store.entry.node]
        while stack:
            node = stack.pop()
            if node not in full:
                full[node] = store.owner
                stack.extend(entry.node for entry in node.inputs)
    return full


def _placeholder_types(
    bound: Bound, heads: Mapping[int, Node], accumulators: Mapping[str, Node]
) -> dict[Entry, TensorType]:
    by_home = {f"grad:{bound.names[entry.node]}": entry for entry in bound.grad_req}
    known = {Entry(node): bound.types[bound.graph.outputs[i]] for i, node in heads.items()}
    for home, node in accumulators.items():
        known[Entry(node)] = bound.types[by_home[home]]
    return known


def phase_of(step: Step) -> dict[Node, str]:
    """The first phase that needs each node."""
    found: dict[Node, str] = {}
    for phase in step.phases:
        heads = [store.entry.node for store in step.stores if store.phase == phase]
        for node in topological(heads):
            found.setdefault(node, phase)
    return found
