"""Graphs as parameters of ops: their text, the loop that runs them, and their derivatives.

An op that runs graphs keeps them as one string, so that it prints, compares, pickles and travels
in plans like any other. What passes do to a graph is done to these by the same passes, which live
further up: see `use_passes`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from raysym.errors import RuleError
from raysym.graph import Entry, Graph, Node, variable
from raysym.op import call_kernel, make_op
from raysym.params import to_text


class Body(NamedTuple):
    """A graph and the number of each node, which decides what random nodes draw."""

    graph: Graph
    numbers: Mapping[Node, int]

    @property
    def variables(self) -> list[Entry]:
        """Inputs of the graph, in order."""
        return [Entry(node) for node in self.graph.variables()]

    @property
    def is_random(self) -> bool:
        """Whether any node draws numbers."""
        return any(node.op.random for node in self.graph.nodes)


class Passes(NamedTuple):
    """The passes that control flow needs, with the signatures they have in ``raysym.passes``."""

    differentiate: Callable[..., Any]
    infer_shapes: Callable[..., Any]
    infer_dtypes: Callable[..., Any]
    for_inference: Callable[..., Any]


_passes: Passes | None = None


def use_passes(passes: Passes) -> None:
    """Tell ops with graphs which passes to use; called once by ``raysym.passes``."""
    global _passes
    _passes = passes


def passes() -> Passes:
    """What `use_passes` was told."""
    if _passes is None:
        raise RuleError("control flow needs the passes", fix="Import raysym.passes")
    return _passes


# ----- text


def encode(graphs: Sequence[Graph], numbers: Mapping[Node, int] | None = None) -> str:
    """The text of graphs. Nodes are numbered by `numbers` or by their position."""
    return json.dumps([_encoded(graph, numbers or {}) for graph in graphs], separators=(",", ":"))


def _encoded(graph: Graph, numbers: Mapping[Node, int]) -> dict[str, Any]:
    position = {node: i for i, node in enumerate(graph.nodes)}
    # Nodes that gradients added have no number in the body; they come behind all that do.
    behind = max(numbers.values(), default=-1) + 1
    nodes = []
    for i, node in enumerate(graph.nodes):
        given = {key: to_text(value) for key, value in node.op.given().items()}
        inputs = [[position[entry.node], entry.index] for entry in node.inputs]
        number = numbers.get(node, behind + i)
        nodes.append([node.op.name, node.name, given, dict(node.attrs), inputs, number])
    return {"nodes": nodes, "heads": [[position[e.node], e.index] for e in graph.outputs]}


@lru_cache(maxsize=1024)
def decode(text: str) -> tuple[Body, ...]:
    """The graphs of a text; equal texts give the same nodes."""
    return tuple(_decoded(item) for item in json.loads(text)) if text else ()


def _decoded(item: Mapping[str, Any]) -> Body:
    nodes: list[Node] = []
    numbers: dict[Node, int] = {}
    for op, name, given, attrs, inputs, number in item["nodes"]:
        entries = [Entry(nodes[at], index) for at, index in inputs]
        nodes.append(Node(make_op(op, given), name, entries, attrs))
        numbers[nodes[-1]] = number
    heads = tuple(Entry(nodes[at], index) for at, index in item["heads"])
    return Body(Graph(tuple(nodes), heads), numbers)


# ----- running


def run(body: Body, xp: Any, values: Mapping[Entry, Any], seed: int = 0) -> list[Any]:
    """Values of the graph's outputs for the values of its variables."""
    known = dict(values)
    for node in body.graph.nodes:
        if node.is_variable:
            continue
        rng = None
        if node.op.random:
            rng = np.random.Generator(np.random.Philox(key=[seed, body.numbers[node]]))
        try:
            made = call_kernel(node.op, xp, [known[entry] for entry in node.inputs], rng)
        except RuleError as error:
            raise RuleError(f"inside, {node.op.name} '{node.name}': {error}") from error
        known.update(zip(node.entries(), made, strict=True))
    return [known[entry] for entry in body.graph.outputs]


# ----- derivatives


class Derivative(NamedTuple):
    """The gradient of a body as a graph of its own.

    Its variables are called ``in0, in1, ...`` (those of the body) and ``grad0, ...`` (gradients of
    the body's outputs); output k is the gradient of the body's variable number ``wrt[k]``.
    """

    text: str
    wrt: tuple[int, ...]


@lru_cache(maxsize=1024)
def derivative(text: str, which: int) -> Derivative:
    """The derivative of graph number `which` of a text."""
    body = decode(text)[which]
    graph = _renamed(body)
    inputs = [Entry(node) for node in graph.graph.variables()]
    heads = [variable(f"grad{i}") for i in range(len(graph.graph.outputs))]
    found = passes().differentiate(graph.graph, inputs, heads).grads
    wrt = tuple(i for i, entry in enumerate(inputs) if found[entry] is not None)
    made = Graph.of(found[inputs[i]] for i in wrt)
    return Derivative(encode([made], graph.numbers), wrt)


def _renamed(body: Body) -> Body:
    # Users may call two variables alike; a derivative finds them by name.
    names = {node: f"in{i}" for i, node in enumerate(body.graph.variables())}
    numbers: dict[Node, int] = {}

    def visit(node: Node, inputs: tuple[Entry, ...]) -> Sequence[Entry]:
        made = Node(node.op, names.get(node, node.name), inputs, node.attrs)
        numbers[made] = body.numbers[node]
        return made.entries()

    return Body(body.graph.map(visit), numbers)


def run_derivative(
    found: Derivative,
    xp: Any,
    inputs: Sequence[Any],
    grads: Sequence[Any],
    seed: int = 0,
) -> list[Any]:
    """Gradients of all inputs of the body, zeros where there are none."""
    (body,) = decode(found.text)
    named = {f"in{i}": a for i, a in enumerate(inputs)}
    named.update({f"grad{i}": a for i, a in enumerate(grads)})
    values = {entry: named[entry.node.name] for entry in body.variables}
    made = dict(zip(found.wrt, run(body, xp, values, seed), strict=True))
    return [made[i] if i in made else xp.zeros_like(a) for i, a in enumerate(inputs)]
