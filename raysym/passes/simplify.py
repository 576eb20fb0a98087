"""Simplification once types are known: specialised ops, constants, equals, masks of maxima.

Dead nodes go by themselves: a graph holds only what its outputs depend on.
"""

from __future__ import annotations

import base64
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np

from raysym.graph import Entry, Graph, Node, apply
from raysym.names import GROUP
from raysym.op import call_kernel
from raysym.passes.masks import mask_maxima
from raysym.types import TensorType

Origin = Mapping[Node, Node]

# Larger results are computed at run time: a plan should stay readable and light.
_FOLD_ELEMENTS = 65536
_CONSTANT_BYTES = 1024


def simplify(
    graph: Graph, types: Mapping[Entry, TensorType], origin: Origin
) -> tuple[Graph, dict[Node, Node]]:
    """The simplified graph, and for each of its nodes the user's node that it belongs to."""
    old_of: dict[Node, Node] = {}
    graph = specialize(graph, types, old_of)
    for rewrite in (fold_constants, merge_equal, mask_maxima):
        newer: dict[Node, Node] = {}
        graph = rewrite(graph, newer)
        old_of = {new: old_of.get(old, old) for new, old in newer.items()}
    olds = ((node, old_of.get(node, node)) for node in graph.nodes)
    return graph, {node: origin.get(old, old) for node, old in olds}


def specialize(graph: Graph, types: Mapping[Entry, TensorType], old_of: dict[Node, Node]) -> Graph:
    """Replace ops by simpler equals that know their types (see `Op.specialize`)."""

    def visit(node: Node, inputs: tuple[Entry, ...]) -> Sequence[Entry]:
        if node.is_variable:
            return node.entries()
        ins = [types[entry] for entry in node.inputs]
        found = node.op.specialize(inputs, ins, [types[entry] for entry in node.entries()])
        if found is None:
            return node.with_inputs(inputs).entries()
        entry = _renamed(found, node, inputs)
        return [entry] if node.op.n_values() == 1 else entry.node.entries()

    return graph.map(visit, old_of)


def _renamed(entry: Entry, old: Node, inputs: Sequence[Entry]) -> Entry:
    made = entry.node
    if made.name or entry in inputs:
        return entry
    return Entry(Node(made.op, old.name, made.inputs, made.attrs, old.source), entry.index)


def fold_constants(graph: Graph, old_of: dict[Node, Node]) -> Graph:
    """Compute what depends on no variable and draws no numbers, if the result is small."""
    values: dict[Entry, Any] = {}

    def visit(node: Node, inputs: tuple[Entry, ...]) -> Sequence[Entry]:
        kept = node.with_inputs(inputs)
        if _is_dynamic(node) or any(entry not in values for entry in inputs):
            return kept.entries()
        with np.errstate(all="ignore"):
            made = call_kernel(node.op, np, [values[entry] for entry in inputs])
        if made[0].size > _FOLD_ELEMENTS:
            return kept.entries()
        constant = _as_constant(made[0]) if inputs else Entry(kept)
        if constant is None:
            return kept.entries()
        values[constant] = made[0]
        return [constant]

    return graph.map(visit, old_of)


def _is_dynamic(node: Node) -> bool:
    op = node.op
    return node.is_variable or op.random or op.stateful or op.n_values() != 1


def _as_constant(value: Any) -> Entry | None:
    if value.dtype.kind in "fiu" and value.size and (value == value.flat[0]).all():
        return apply("_full", shape=value.shape, value=value.flat[0].item(), dtype=value.dtype.name)
    if value.nbytes > _CONSTANT_BYTES:
        return None
    data = base64.b64encode(value.tobytes()).decode()
    return apply("_constant", shape=value.shape, dtype=value.dtype.name, data=data)


def merge_equal(graph: Graph, old_of: dict[Node, Node]) -> Graph:
    """Compute equal expressions once: same op, same inputs, same placement group."""
    first: dict[Hashable, Node] = {}

    def visit(node: Node, inputs: tuple[Entry, ...]) -> Sequence[Entry]:
        kept = node.with_inputs(inputs)
        if node.is_variable or node.op.random or node.op.stateful:
            return kept.entries()
        key = (node.op, inputs, node.attrs.get(GROUP))
        return first.setdefault(key, kept).entries()

    return graph.map(visit, old_of)
