"""What symbols say of themselves as text: names of outputs, attributes, the debug listing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from raysym.graph import Entry, Graph, Node, input_versions
from raysym.names import HIDDEN_KEYS


def output_name(entry: Entry) -> str:
    """``fc1_output``, or a variable's own name."""
    if entry.node.is_variable:
        return entry.node.name
    return f"{entry.node.name}_{entry.node.op.output_names()[entry.index]}"


def attribute(node: Node, key: str) -> str | None:
    """One attribute; hidden keys in either spelling, ``name`` and ``op_name`` besides."""
    if key in ("name", "op_name"):
        return node.name if key == "name" else node.op.name
    hidden = f"__{key}__" if key in HIDDEN_KEYS else key
    return node.attrs.get(key, node.attrs.get(hidden))


def attributes(node: Node) -> dict[str, str]:
    """All attributes of a node, hidden keys also in their plain form."""
    plain = {k: node.attrs[f"__{k}__"] for k in HIDDEN_KEYS if f"__{k}__" in node.attrs}
    return {**node.attrs, **plain}


def debug_text(entries: Sequence[Entry]) -> str:
    """MXNet's listing: the outputs, then every node with its inputs and attributes.

    One node without inputs is all there is to say of it.
    """
    graph = Graph.of(entries)
    if len(graph.nodes) == len(entries) == 1:
        [node] = graph.nodes
        variable, functor = f"Variable:{node.name}\n", f"AtomicFunctor  Op:{node.op.name}\n"
        return variable if node.is_variable else functor
    versions = input_versions(graph)
    lines = ["Symbol Outputs:"]
    for i, entry in enumerate(entries):
        lines.append(f"\toutput[{i}]={entry.node.name}({entry.index})")
    for node in graph.nodes:
        lines += _node_lines(node, versions[node])
    return "\n".join(lines) + "\n"


def _node_lines(node: Node, versions: Sequence[int]) -> Iterator[str]:
    if node.is_variable:
        yield f"Variable:{node.name}"
        return
    yield from ("--------------------", f"Op:{node.op.name}, Name={node.name}", "Inputs:")
    for i, (entry, version) in enumerate(zip(node.inputs, versions, strict=True)):
        shown = f" version={version}" if entry.node.is_variable else ""
        yield f"\targ[{i}]={entry.node.name}({entry.index}){shown}"
    if node.attrs:
        yield "Attrs:"
        yield from (f"\t{key}={value}" for key, value in sorted(node.attrs.items()))
