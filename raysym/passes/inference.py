"""Inference as a rewrite: each op is replaced by what it means when nothing is trained."""

from __future__ import annotations

from collections.abc import Sequence

from raysym.graph import Entry, Graph, Node


def for_inference(graph: Graph) -> tuple[Graph, dict[Node, Node]]:
    """The graph with training-only behaviour taken out, and the old node of each new one."""
    old_of: dict[Node, Node] = {}
    read = {entry for node in graph.nodes for entry in node.inputs}

    def visit(node: Node, inputs: tuple[Entry, ...]) -> Sequence[Entry]:
        # Hidden values are read by gradients only, which were derived for training: they and the
        # node that they belong to keep that meaning (Symbol.gradient makes such graphs).
        hidden = node.entries()[node.op.n_visible() :]
        replaced = None if read.intersection(hidden) else node.op.for_inference(inputs)
        if replaced is None:
            return node.with_inputs(inputs).entries()
        return _under_its_name(replaced, node, inputs)

    return graph.map(visit, old_of), old_of


def _under_its_name(made: Sequence[Entry], old: Node, inputs: Sequence[Entry]) -> list[Entry]:
    """`made`, its first node called as `old` if that node is new and has no name."""
    first = made[0].node
    if first.name or any(entry.node is first for entry in inputs):
        return list(made)
    named = Node(first.op, old.name, first.inputs, first.attrs, old.source)
    return [Entry(named, e.index) if e.node is first else e for e in made]
