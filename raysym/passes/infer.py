"""Shape and dtype inference in both directions, by alternating sweeps over the graph."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from raysym.errors import MXNetError, RuleError, in_words, sentence
from raysym.graph import Entry, Graph, Node, entry_name, node_error, node_names
from raysym.params import parse_literal
from raysym.types import (
    DTYPE_OF_CODE,
    PartialDType,
    PartialShape,
    TensorType,
    is_known,
    partial_text,
    unify,
    unify_dtypes,
)

Facts: TypeAlias = dict[Entry, Any]
Rule: TypeAlias = Callable[
    [Node, Sequence[Any], Sequence[Any]], tuple[Sequence[Any], Sequence[Any]]
]
Merge: TypeAlias = Callable[[Any, Any], Any]
Known: TypeAlias = Callable[[Any], bool]


def infer_shapes(graph: Graph, known: Mapping[Entry, PartialShape]) -> dict[Entry, PartialShape]:
    """All that follows from the known shapes; entries may stay partly unknown (0 or None)."""
    check_input_counts(graph)
    facts: Facts = {**_declared(graph, "__shape__", _shape_attr), **known}

    def rule(node: Node, ins: Sequence[Any], outs: Sequence[Any]) -> Any:
        return node.op.infer_shape(ins, outs)

    return _sweep(graph, facts, rule, unify, is_known)


def infer_dtypes(graph: Graph, known: Mapping[Entry, PartialDType]) -> dict[Entry, PartialDType]:
    """All that follows from the known dtypes; entries may stay unknown (None)."""
    facts: Facts = {**_declared(graph, "__dtype__", _dtype_attr), **known}

    def rule(node: Node, ins: Sequence[Any], outs: Sequence[Any]) -> Any:
        node.op.check_kind(ins)
        return node.op.infer_dtype(ins, outs)

    def merge(a: PartialDType, b: PartialDType) -> PartialDType:
        return unify_dtypes((a, b))

    return _sweep(graph, facts, rule, merge, lambda dtype: dtype is not None)


def infer(graph: Graph, known: Mapping[Entry, TensorType]) -> dict[Entry, TensorType]:
    """The type of every entry; MXNetError naming the first entries that stay undecided."""
    shapes = infer_shapes(graph, {entry: t.shape for entry, t in known.items()})
    dtypes = infer_dtypes(graph, {entry: t.dtype for entry, t in known.items()})
    entries = [entry for node in graph.nodes for entry in node.entries()]
    undecided = [e for e in entries if not is_known(shapes.get(e)) or dtypes.get(e) is None]
    if undecided:
        raise undecided_error(graph, undecided, shapes, dtypes)
    return {e: TensorType(shapes[e] or (), str(dtypes[e])) for e in entries}


def undecided_error(
    graph: Graph,
    undecided: Sequence[Entry],
    shapes: Mapping[Entry, PartialShape],
    dtypes: Mapping[Entry, PartialDType],
) -> MXNetError:
    """The error that names what inference could not decide: arguments first, at most ten."""
    names = node_names(graph)
    ranked = sorted(undecided, key=lambda entry: not entry.node.is_variable)
    found = [
        f"{entry_name(entry, names)}: {partial_text(shapes.get(entry), dtypes.get(entry))}"
        for entry in ranked[:10]
    ]
    wrong = sentence("cannot decide shapes or dtypes", found[0], "a full shape and a dtype")
    others = [f"undecided as well: {', '.join(found[1:])}"] if found[1:] else []
    return node_error(ranked[0].node, wrong, others)


# ----- the engine


def _sweep(graph: Graph, facts: Facts, rule: Rule, merge: Merge, known: Known) -> Facts:
    order, before = list(graph.nodes), (-1, -1)
    while order:
        order = [node for node in order if not _settle(node, facts, rule, merge, known)][::-1]
        unknown = sum(_doubt(facts.get(e)) for node in order for e in _around(node))
        # A forward sweep may wait for a backward one: give up after two sweeps without news.
        if (unknown, unknown) == before:
            break
        before = (before[1], unknown)
    return facts


def _around(node: Node) -> list[Entry]:
    return [*node.inputs, *node.entries()]


def _doubt(fact: Any) -> int:
    return 100 if fact is None else fact.count(0) if isinstance(fact, tuple) else 0


def _settle(node: Node, facts: Facts, rule: Rule, merge: Merge, known: Known) -> bool:
    """Apply the rule of a node; True when all is known around it and in keeping with the rule."""
    inputs, entries, get = node.inputs, node.entries(), facts.get
    ins, outs = [get(entry) for entry in inputs], [get(entry) for entry in entries]
    is_settled = True
    try:
        new_ins, new_outs = rule(node, ins, outs)
        for position, new in enumerate(new_ins):
            if new != ins[position]:
                facts[inputs[position]] = _merged(merge, facts, node, position, new)
            is_settled = is_settled and known(get(inputs[position]))
        for entry, old, new in zip(entries, outs, new_outs, strict=True):
            if old is None or new != old:
                facts[entry] = merge(old, new)
            is_settled = is_settled and known(get(entry))
    except RuleError as error:
        raise node_error(node, error, _provenance(node, facts)) from None
    return is_settled


def check_input_counts(graph: Graph) -> None:
    """MXNetError for a node that has more or fewer inputs than its op: files may hold such."""
    for node in graph.nodes:
        slots = node.op.input_names()
        if len(node.inputs) != len(slots):
            wanted = f"{len(slots)}: {in_words(slots)}"
            raise node_error(node, sentence("wrong number of inputs", len(node.inputs), wanted))


def _merged(merge: Merge, facts: Facts, node: Node, position: int, new: Any) -> Any:
    old = facts.get(node.inputs[position])
    try:
        return merge(old, new)
    except RuleError:
        slot = node.op.input_names()[position]
        raise RuleError(f"{slot} does not fit", got=old, expected=new) from None


def _provenance(node: Node, facts: Facts) -> list[str]:
    """Where the inputs come from, with what is known of them."""
    slots = [*node.op.input_names(), *[""] * len(node.inputs)]
    parts = [
        f"{slot}{' = ' if slot else ''}{_from(entry)} {_fact_text(facts.get(entry))}"
        for slot, entry in zip(slots, node.inputs, strict=False)
    ]
    return [f"inputs are {', '.join(parts)}"] if parts else []


def _from(entry: Entry) -> str:
    name = entry.node.name or entry.node.op.name
    return f"{name}.{entry.index}" if entry.index else name


def _fact_text(fact: Any) -> str:
    return "(unknown)" if fact is None else str(fact)


# ----- what variables declare


def _declared(graph: Graph, key: str, parse: Callable[[str], Any]) -> Facts:
    having = [node for node in graph.variables() if key in node.attrs]
    return {Entry(node): _parsed(node, key, parse) for node in having}


def _parsed(node: Node, key: str, parse: Callable[[str], Any]) -> Any:
    try:
        return parse(node.attrs[key])
    except (ValueError, SyntaxError, TypeError) as error:
        what = f"Variable '{node.name}': invalid attribute {key}"
        raise MXNetError(f"{what}: got {node.attrs[key]!r}, {error}") from None


def _shape_attr(text: str) -> PartialShape:
    value = ast.literal_eval(text)
    dims = (value,) if isinstance(value, int) else tuple(value or ())
    return tuple(max(int(dim), 0) for dim in dims) or None


def _dtype_attr(text: str) -> PartialDType:
    return DTYPE_OF_CODE.get(int(parse_literal(text)))
