"""Substitution: a copy of a graph in which variables are replaced by other values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from raysym.compose import check_aux
from raysym.errors import RuleError
from raysym.graph import Entry, Graph, Node, node_error


def substitute(
    outputs: Sequence[Entry], given: Mapping[str, Entry], name: str | None = None
) -> tuple[Entry, ...]:
    """Copies of `outputs` in which every variable named in `given` is that entry instead.

    `name` is the new name of the first output's node. MXNetError when the result of an operator
    would become an auxiliary state.
    """
    first = outputs[0].node

    def visit(node: Node, inputs: tuple[Entry, ...]) -> Sequence[Entry]:
        if node.is_variable and node.name in given:
            return [given[node.name]]
        try:
            for slot in node.aux_slots():
                check_aux(node.op, node.op.input_names()[slot], inputs[slot])
        except RuleError as error:
            raise node_error(node, error) from None
        named = name if name and node is first else node.name
        return Node(node.op, named, inputs, dict(node.attrs), node.source).entries()

    return Graph.of(outputs).map(visit).outputs
