"""A symbol's graph as a picture: one ellipse a node, data at the top, outputs at the bottom."""

from __future__ import annotations

from collections.abc import Mapping

from raysym.graph import Entry, Graph, Node, node_names, split_variables
from raysym.names import GROUP
from raysym.pictures.captions import parameter_lines
from raysym.pictures.diagram import Arrow, Diagram, Mark
from raysym.pictures.svg import svg

__all__ = ["diagram_of_symbol", "draw_symbol"]


def draw_symbol(graph: Graph, title: str = "") -> str:
    """The SVG document of `diagram_of_symbol`."""
    return svg(diagram_of_symbol(graph, title))


def diagram_of_symbol(graph: Graph, title: str = "") -> Diagram:
    """Arguments orange, auxiliary states dark green, operators white.

    Nodes that share a ctx_group stand on one backdrop, variables with their first reader.
    """
    names = node_names(graph)
    aux = set(split_variables(graph)[1])
    groups = _groups(graph)
    marks = [
        _variable(node, names, groups, node in aux)
        if node.is_variable
        else _op(node, names, groups)
        for node in graph.nodes
    ]
    arrows = [
        Arrow(names[entry.node], names[node], _which(entry))
        for node in graph.nodes
        for entry in node.inputs
    ]
    return Diagram(tuple(marks), tuple(arrows), title)


def _variable(
    node: Node, names: Mapping[Node, str], groups: Mapping[Node, str], is_aux: bool
) -> Mark:
    kind = "aux" if is_aux else "argument"
    shape = node.attrs.get("__shape__", "")
    return Mark(names[node], node.name, shape, kind=kind, group=groups.get(node, ""))


def _op(node: Node, names: Mapping[Node, str], groups: Mapping[Node, str]) -> Mark:
    words = "\n".join([node.op.name, *parameter_lines(node.op)])
    return Mark(names[node], node.name or names[node], words, kind="op", group=groups.get(node, ""))


def _which(entry: Entry) -> str:
    """The output's name on the arrow, where a node has several."""
    labels = entry.node.op.output_names()
    return labels[entry.index] if entry.node.op.n_visible() > 1 else ""


def _groups(graph: Graph) -> dict[Node, str]:
    """The ctx_group of each node; empty when no node has one."""
    found = {node: node.attrs[GROUP] for node in graph.nodes if GROUP in node.attrs}
    for node in graph.nodes if found else ():
        known = [found[entry.node] for entry in node.inputs if entry.node in found]
        if node not in found and not node.is_variable and known:
            found[node] = known[-1]
    for node in reversed(graph.nodes) if found else ():
        for entry in node.inputs if node in found else ():
            found.setdefault(entry.node, found[node])
    return found
