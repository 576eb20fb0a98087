"""MXNet's symbol JSON: written as 1.9.1 writes it, read from every version since 0.8."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence, Set
from itertools import accumulate
from typing import Any

from raysym.compose import auto_variable, check_aux, hint_variable
from raysym.errors import MXNetError, RuleError, did_you_mean, in_words, node_message, sentence
from raysym.graph import Entry, Graph, Node, input_versions
from raysym.graph_upgrade import hidden_suffix, upgraded, without_old_axis
from raysym.op import find_op, make_op
from scheduler.collector import collection_paused

VERSION = 10901
_NODE_KEYS = {
    "op", "name", "attrs", "attr", "param", "inputs", "control_deps", "subgraphs",
    "backward_source_id",
}  # fmt: skip
_TOP_KEYS = {"nodes", "arg_nodes", "node_row_ptr", "heads", "attrs"}


# ----- writing


@collection_paused()
def dumps(graph: Graph, *, remove_amp_cast: bool = True) -> str:
    """The JSON text of a graph, with the white space of MXNet's writer."""
    return _text(to_dict(_without_amp(graph) if remove_amp_cast else graph))


def to_dict(graph: Graph) -> dict[str, Any]:
    """The JSON object of a graph."""
    return {**_graph_dict(graph), "attrs": {"mxnet_version": ["int", VERSION]}}


def _graph_dict(graph: Graph) -> dict[str, Any]:
    number = {node: i for i, node in enumerate(graph.nodes)}
    versions = input_versions(graph)
    counts = [node.op.n_stored() for node in graph.nodes]
    return {
        "nodes": [_node_dict(node, number, versions[node]) for node in graph.nodes],
        "arg_nodes": [number[node] for node in graph.variables()],
        "node_row_ptr": list(accumulate(counts, initial=0)),
        "heads": [[number[e.node], e.index, 0] for e in graph.outputs],
    }


def _node_dict(node: Node, number: Mapping[Node, int], versions: Sequence[int]) -> dict[str, Any]:
    made: dict[str, Any] = {"op": node.op.name, "name": node.name}
    if node.attrs:
        made["attrs"] = dict(sorted(node.attrs.items()))
    pairs = zip(node.inputs, versions, strict=True)
    made["inputs"] = [[number[entry.node], entry.index, version] for entry, version in pairs]
    subgraphs = node.op.subgraphs()
    if subgraphs:
        made["subgraphs"] = [_graph_dict(graph) for graph in subgraphs]
    return made


def _without_amp(graph: Graph) -> Graph:
    def visit(node: Node, inputs: tuple[Entry, ...]) -> Sequence[Entry]:
        if node.op.name in ("amp_cast", "amp_multicast"):
            return inputs
        return node.with_inputs(inputs).entries()

    return graph.map(visit)


def _text(value: Any, indent: int = 0, is_nodes: bool = False) -> str:
    pad = "  " * (indent + 1)
    if isinstance(value, dict):
        parts = [f"{_string(k)}: {_text(v, indent + 1, k == 'nodes')}" for k, v in value.items()]
        return _brackets("{}", parts, pad, indent, len(parts) <= 1)
    if isinstance(value, list):
        if len(value) <= 10 and all(map(_is_number_or_entry, value)):
            return str(value)  # Python writes these as MXNet does
        flat = len(value) <= 10 and not is_nodes and not any(isinstance(v, dict) for v in value)
        parts = [_text(v, indent + 1) for v in value]
        return _brackets("[]", parts, pad, indent, flat)
    return _string(value) if isinstance(value, str) else str(value)


def _is_number_or_entry(value: Any) -> bool:
    return type(value) is int or (type(value) is list and set(map(type, value)) == {int})


def _brackets(pair: str, parts: Iterable[str], pad: str, indent: int, flat: bool) -> str:
    if flat:
        return f"{pair[0]}{', '.join(parts)}{pair[1]}"
    body = f", \n{pad}".join(parts)
    return f"{pair[0]}\n{pad}{body}\n{'  ' * indent}{pair[1]}"


def _string(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    for raw, mark in (("\n", "\\n"), ("\t", "\\t"), ("\r", "\\r")):
        escaped = escaped.replace(raw, mark)
    return f'"{escaped}"'


# ----- reading


@collection_paused()
def loads(text: str) -> Graph:
    """The graph of a JSON text; MXNetError says what is wrong with it."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise MXNetError(f"symbol JSON is malformed: {error}") from None
    return from_dict(data)


def from_dict(data: Any) -> Graph:
    """The graph of a JSON object of any version; MXNetError says what is wrong with it."""
    _check(data, dict, "symbol JSON", _TOP_KEYS, ("nodes", "arg_nodes", "heads"))
    return _graph(data, _version(data.get("attrs")))


def _graph(data: Mapping[str, Any], version: int) -> Graph:
    for key in ("nodes", "arg_nodes", "heads"):
        _check(data[key], list, f"symbol JSON, {key}")
    nodes: list[Node] = []
    for item in data["nodes"]:
        nodes.append(_node(item, nodes, version))
    heads = [_entry(head, nodes, "symbol JSON, heads") for head in data["heads"]]
    if not heads:
        raise MXNetError(sentence("symbol JSON, heads", "none", "at least one"))
    return Graph.of(heads)


def _subgraph(data: Any, version: int) -> Graph:
    """A graph inside of a node: it has the version of the file, and says nothing of it itself."""
    _check(data, dict, "symbol JSON, subgraph", _TOP_KEYS, ("nodes", "arg_nodes", "heads"))
    return _graph(data, _version(data["attrs"]) if "attrs" in data else version)


def _check(
    value: Any, kind: Any, where: str, known: Set[str] = frozenset(), needed: Sequence[str] = ()
) -> None:
    """Refuse what is not a JSON value of this kind, and objects with other keys than these."""
    if not isinstance(value, kind):
        wanted = {dict: "an object", list: "a list", str: "a string"}[kind]
        raise MXNetError(sentence(f"{where}: wrong type", type(value).__name__, wanted))
    for key in value if known else ():
        if key not in known:
            fix = did_you_mean(key, known)
            wanted = f"one of {in_words(sorted(known))}"
            raise MXNetError(sentence(f"{where}: Unknown field", f"'{key}'", wanted, fix))
    for key in needed:
        if key not in value:
            raise MXNetError(f"{where}: field '{key}' is missing")


def _version(attrs: Any) -> int:
    try:
        return int((attrs or {}).get("mxnet_version", ["int", 800])[1])
    except (AttributeError, IndexError, TypeError, ValueError, KeyError):
        wanted = '{"mxnet_version": ["int", 10901]}'
        raise MXNetError(sentence("symbol JSON, attrs: unreadable", attrs, wanted)) from None


def _node(item: Any, nodes: Sequence[Node], version: int) -> Node:
    where = f"symbol JSON, node {len(nodes)}"
    _check(item, dict, where, _NODE_KEYS, ("op", "name", "inputs"))
    for key in ("op", "name"):
        _check(item[key], str, f"{where}, {key}")
    where = f"{where} '{item['name']}'"
    attrs = _attrs(item, where)
    _check(item["inputs"], list, f"{where}, inputs")
    inputs = [_entry(triple, nodes, f"{where}, inputs") for triple in item["inputs"]]
    if version < VERSION:
        attrs = upgraded(item["op"], attrs, inputs)
    if item["op"] == "null":
        return Node(make_op("null", {}), item["name"], (), dict(sorted(attrs.items())))
    if version < 905:
        attrs = without_old_axis(item["op"], attrs)
    return _op_node(item, attrs, inputs, version)


def _attrs(item: Mapping[str, Any], where: str) -> dict[str, str]:
    merged: dict[str, str] = {}
    for key in ("param", "attr", "attrs"):  # the spellings of 0.8, 0.9 and 1.0
        found = item.get(key) or {}
        _check(found, dict, f"{where}, {key}")
        for name, value in found.items():
            _check(value, str, f"{where}, {key}, {name}")
        merged.update(found)
    return merged


def _entry(triple: Any, nodes: Sequence[Node], where: str) -> Entry:
    """One of the nodes so far and one of its outputs; the version of old files may be absent."""
    _check(triple, list, where)
    numbers = [n for n in triple if type(n) is int]
    fits = len(numbers) == len(triple) in (2, 3) and 0 <= numbers[0] < len(nodes)
    if not fits or not 0 <= numbers[1] < len(nodes[numbers[0]].entries()):
        wanted = "[number of an earlier node, number of one of its outputs, version]"
        raise MXNetError(sentence(f"{where}: no such value", triple, wanted))
    return nodes[numbers[0]].entries()[numbers[1]]


def _op_node(
    item: Mapping[str, Any], attrs: dict[str, str], inputs: list[Entry], version: int
) -> Node:
    page, name = find_op(item["op"]), item["name"]
    # Extra attributes on operators without parameters are tolerated.
    params = {key: v for key, v in attrs.items() if page.params and not hidden_suffix(key)}
    try:
        op = make_op(page.name, params if version < VERSION or not page.params else attrs)
        op = op.with_subgraphs([_subgraph(sub, version) for sub in item.get("subgraphs") or []])
        if version < 900:  # auxiliary states were not stored
            missing = op.input_names()[len(inputs) :]
            inputs = [*inputs, *(auto_variable(name, slot, attrs, None) for slot in missing)]
        if version < 904:
            for slot, entry in zip(op.input_names(), inputs, strict=False):
                hint_variable(entry.node, op.variable_attrs(slot))
        for slot, entry in zip(op.input_names(), inputs, strict=False):
            check_aux(op, slot, entry)
    except RuleError as error:
        raise MXNetError(node_message(page.name, name, str(error), ["read from JSON"])) from None
    return Node(op, name, inputs, dict(sorted(attrs.items())))
