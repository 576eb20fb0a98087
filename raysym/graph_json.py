"""MXNet's symbol JSON: written as 1.9.1 writes it, read from every version since 0.8."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from raysym.compose import auto_variable
from raysym.errors import MXNetError, RuleError, did_you_mean
from raysym.graph import Entry, Graph, Node
from raysym.names import HIDDEN_KEYS
from raysym.op import REGISTRY, is_dunder, make_op

VERSION = 10901
_NODE_KEYS = {
    "op", "name", "attrs", "attr", "param", "inputs", "control_deps", "subgraphs",
    "backward_source_id",
}  # fmt: skip
_TOP_KEYS = {"nodes", "arg_nodes", "node_row_ptr", "heads", "attrs"}


# ----- writing


def dumps(graph: Graph, *, remove_amp_cast: bool = True) -> str:
    """The JSON text of a graph, with the white space of MXNet's writer."""
    return _text(to_dict(_without_amp(graph) if remove_amp_cast else graph))


def to_dict(graph: Graph) -> dict[str, Any]:
    """The JSON object of a graph."""
    number = {node: i for i, node in enumerate(graph.nodes)}
    mutations: dict[Node, int] = {}
    ends, total = [0], 0
    for node in graph.nodes:
        total += 1 if node.is_variable else len(node.op.output_names())
        ends.append(total)
    return {
        "nodes": [_node_dict(node, number, mutations) for node in graph.nodes],
        "arg_nodes": [number[node] for node in graph.variables()],
        "node_row_ptr": ends,
        "heads": [[number[e.node], e.index, 0] for e in graph.outputs],
        "attrs": {"mxnet_version": ["int", VERSION]},
    }


def _node_dict(
    node: Node, number: Mapping[Node, int], mutations: dict[Node, int]
) -> dict[str, Any]:
    inputs, aux = [], set(node.aux_slots())
    for slot, entry in enumerate(node.inputs):
        version = 0
        if slot in aux:
            version = mutations[entry.node] = mutations.get(entry.node, 0) + 1
        inputs.append([number[entry.node], entry.index, version])
    made: dict[str, Any] = {"op": node.op.name, "name": node.name}
    if node.attrs:
        made["attrs"] = dict(sorted(node.attrs.items()))
    made["inputs"] = inputs
    subgraphs = node.op.subgraphs()
    if subgraphs:
        made["subgraphs"] = [to_dict(graph) for graph in subgraphs]
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
        flat = len(value) <= 10 and not is_nodes and not any(isinstance(v, dict) for v in value)
        parts = [_text(v, indent + 1) for v in value]
        return _brackets("[]", parts, pad, indent, flat)
    return _string(value) if isinstance(value, str) else str(value)


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


def loads(text: str) -> Graph:
    """The graph of a JSON text; MXNetError says what is wrong with it."""
    try:
        data = json.loads(text)
    except ValueError as error:
        raise MXNetError(f"symbol JSON is malformed: {error}") from None
    return from_dict(data)


def from_dict(data: Any) -> Graph:
    """The graph of a JSON object."""
    if not isinstance(data, dict):
        raise MXNetError(f"symbol JSON: got a {type(data).__name__}, expected an object")
    _check_keys(data, _TOP_KEYS, "symbol JSON")
    for key in ("nodes", "arg_nodes", "heads"):
        if key not in data:
            raise MXNetError(f"symbol JSON: field '{key}' is missing")
    version = _version(data)
    nodes: list[Node] = []
    for item in data["nodes"]:
        nodes.append(_read_node(item, nodes, version))
    try:
        return Graph.of(Entry(nodes[head[0]], head[1]) for head in data["heads"])
    except (IndexError, TypeError):
        raise MXNetError(f"symbol JSON: heads {data['heads']} name no node") from None


def _version(data: Mapping[str, Any]) -> int:
    entry = (data.get("attrs") or {}).get("mxnet_version", ["int", 800])
    return int(entry[1])


def _check_keys(item: Mapping[str, Any], known: set[str], where: str) -> None:
    for key in item:
        if key not in known:
            raise MXNetError(f"{where}: Unknown field '{key}'. {did_you_mean(key, known)}")


def _read_node(item: Mapping[str, Any], nodes: Sequence[Node], version: int) -> Node:
    name = str(item.get("name", ""))
    _check_keys(item, _NODE_KEYS, f"symbol JSON, node '{name}'")
    for key in ("op", "inputs"):
        if key not in item:
            raise MXNetError(f"symbol JSON, node '{name}': field '{key}' is missing")
    attrs = {**(item.get("param") or {}), **(item.get("attr") or {}), **(item.get("attrs") or {})}
    try:
        inputs = [Entry(nodes[i[0]], i[1]) for i in item["inputs"]]
    except (IndexError, TypeError):
        raise MXNetError(f"symbol JSON, node '{name}': inputs come from no earlier node") from None
    if item["op"] == "null":
        return Node(make_op("null", {}), name, (), _variable_attrs(attrs))
    return _read_op(item, name, attrs, inputs, version)


def _read_op(
    item: Mapping[str, Any], name: str, attrs: dict[str, str], inputs: list[Entry], version: int
) -> Node:
    moved = _upgrade(item["op"], name, attrs, inputs, version)
    try:
        op = make_op(item["op"], _known_params(item["op"], moved))
        op = op.with_subgraphs([from_dict(sub) for sub in item.get("subgraphs") or []])
    except RuleError as error:
        raise MXNetError(f"{item['op']} '{name}': {error}") from None
    if version < 900:
        inputs = inputs + [
            auto_variable(op, name, slot, moved, None) for slot in op.input_names()[len(inputs) :]
        ]
    for slot, entry in zip(op.input_names(), inputs, strict=False):
        extra = op.variable_attrs(slot) if version < 904 and entry.node.is_variable else {}
        if extra:
            entry.node.attrs = dict(sorted({**entry.node.attrs, **extra}.items()))
    return Node(op, name, inputs, dict(sorted(moved.items())))


def _known_params(name: str, attrs: Mapping[str, str]) -> dict[str, str]:
    page = REGISTRY.get(name)
    if page is not None and not page.params:  # extra attributes on parameterless ops are tolerated
        return {}
    return {k: v for k, v in attrs.items() if not _hidden_suffix(k)}


def _hidden_suffix(key: str) -> str | None:
    if is_dunder(key):
        return None
    return next((k for k in HIDDEN_KEYS if key == k or key.endswith(f"_{k}")), None)


def _variable_attrs(attrs: Mapping[str, str]) -> dict[str, str]:
    return {f"__{k}__" if k in HIDDEN_KEYS else k: v for k, v in sorted(attrs.items())}


def _upgrade(
    op_name: str, name: str, attrs: Mapping[str, str], inputs: Sequence[Entry], version: int
) -> dict[str, str]:
    """Spell hidden keys as 1.9.1 does and move ``weight_lr_mult`` to the weight's variable."""
    kept: dict[str, str] = {}
    slots = REGISTRY[op_name].inputs if op_name in REGISTRY else ()
    for key, value in attrs.items():
        hidden = _hidden_suffix(key)
        slot = key[: -len(hidden) - 1] if hidden and key != hidden else ""
        if hidden and key == hidden:
            kept[f"__{key}__"] = value
        elif slot in slots and slots.index(slot) < len(inputs):
            owner = inputs[slots.index(slot)].node
            owner.attrs = dict(sorted({**owner.attrs, f"__{hidden}__": value}.items()))
        else:
            kept[key] = value
    if version < 905 and op_name in ("argmax", "argmin") and kept.get("axis") == "-1":
        del kept["axis"]
    return kept
