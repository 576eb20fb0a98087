"""Nodes, entries and graphs: the one brick and the order in which everything happens.

A `Node` is an op applied to inputs; a value is an `Entry` = (node, output index). Both are
immutable. All orders come from one iterative depth-first walk, so graphs of a million nodes work.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any, NamedTuple

from raysym.errors import MXNetError, RuleError, node_message
from raysym.op import Op, Variable, make_op, to_text_of

_PACKAGE = os.path.dirname(os.path.abspath(__file__)) + os.sep


class Node:
    """An op applied to inputs. Equal by identity. `attrs` holds strings as the user typed them.

    `source` is the user's ``file:line`` that made the node. Nodes made by passes have no name;
    `node_names` gives them one. As in MXNet two things change a node once it is made: an operator
    leaves hints in the `attrs` of variables that it reads, and `Symbol._set_attr` sets attributes.
    """

    __slots__ = ("_entries", "attrs", "inputs", "name", "op", "source")

    def __init__(
        self,
        op: Op,
        name: str = "",
        inputs: Sequence[Entry] = (),
        attrs: Mapping[str, str] | None = None,
        source: str | None = None,
    ) -> None:
        self.op, self.name, self.inputs = op, name, tuple(inputs)
        self.attrs: Mapping[str, str] = attrs or {}
        self.source = source
        self._entries: tuple[Entry, ...] | None = None

    @property
    def is_variable(self) -> bool:
        """True for arguments, labels and auxiliary states."""
        return isinstance(self.op, Variable)

    def replace_op(self, op: Op) -> None:
        """Change the op in place; the one thing that ever does is `Symbol._set_attr`."""
        self.op, self._entries = op, None

    def with_inputs(self, inputs: Sequence[Entry]) -> Node:
        """The same node on other inputs (itself when they are the same)."""
        if tuple(inputs) == self.inputs:
            return self
        return Node(self.op, self.name, inputs, self.attrs, self.source)

    def entries(self) -> tuple[Entry, ...]:
        """All values of this node, hidden and saved ones included."""
        # Made once: they are the keys of every table about the graph.
        if self._entries is None:
            self._entries = tuple(Entry(self, i) for i in range(self.op.n_values()))
        return self._entries

    def aux_slots(self) -> list[int]:
        """Positions of the inputs that are auxiliary states."""
        if not self.op.aux:
            return []
        return [i for i, slot in enumerate(self.op.input_names()) if slot in self.op.aux]

    def __repr__(self) -> str:
        return f"<Node {self.op.name} '{self.name}'>"


class Entry(NamedTuple):
    """One output of a node: THE dictionary key for values."""

    node: Node
    index: int = 0  # type: ignore[assignment]  # hides tuple.index, which nobody wants here


@dataclass(frozen=True, eq=False)
class Graph:
    """Nodes in topological order and the entries that are asked for."""

    nodes: tuple[Node, ...]
    outputs: tuple[Entry, ...]

    @staticmethod
    def of(outputs: Iterable[Entry]) -> Graph:
        """The graph of everything that `outputs` depend on."""
        heads = tuple(outputs)
        return Graph(tuple(topological(entry.node for entry in heads)), heads)

    def variables(self) -> list[Node]:
        """The variable nodes in order."""
        return [node for node in self.nodes if node.is_variable]

    def map(
        self,
        visit: Callable[[Node, tuple[Entry, ...]], Sequence[Entry]],
        old_of: dict[Node, Node] | None = None,
    ) -> Graph:
        """Rebuild the graph: `visit(node, new inputs)` returns the entries that replace its own.

        `old_of`, if given, receives for every new node the old one that it replaces.
        """
        new: dict[Entry, Entry] = {}
        for node in self.nodes:
            replaced = visit(node, tuple(new[entry] for entry in node.inputs))
            new.update(zip(node.entries(), replaced, strict=False))
            if old_of is not None:
                _claim(node, replaced, old_of)
        return Graph.of(new[entry] for entry in self.outputs)

    def __str__(self) -> str:
        names = node_names(self)
        lines = [_line(node, names) for node in self.nodes]
        heads = ", ".join(entry_name(entry, names) for entry in self.outputs)
        return "\n".join([*lines, f"return {heads}"])


def _claim(old: Node, replaced: Iterable[Entry], old_of: dict[Node, Node]) -> None:
    """Enter every new node behind `replaced`: one old node may become several."""
    stack = [entry.node for entry in replaced]
    while stack:
        node = stack.pop()
        if node not in old_of:
            old_of[node] = old
            stack.extend(entry.node for entry in node.inputs)


def topological(heads: Iterable[Node]) -> Iterator[Node]:
    """Post-order depth-first walk, inputs left to right, each node once."""
    seen: set[Node] = set()
    for head in heads:
        if head in seen:
            continue
        seen.add(head)
        stack = [(head, iter(head.inputs))]
        while stack:
            node, inputs = stack[-1]
            for entry in inputs:
                if entry.node not in seen:
                    seen.add(entry.node)
                    stack.append((entry.node, iter(entry.node.inputs)))
                    break
            else:
                stack.pop()
                yield node


def split_variables(graph: Graph) -> tuple[list[Node], list[Node]]:
    """The arguments and the auxiliary states, each in graph order."""
    states = {node.inputs[slot].node for node in graph.nodes for slot in node.aux_slots()}
    variables = graph.variables()
    return [n for n in variables if n not in states], [n for n in variables if n in states]


def input_versions(graph: Graph) -> dict[Node, list[int]]:
    """For each input of each node: how often the variable has been updated up to there.

    Only operators that update auxiliary states do that; everything else has version 0.
    """
    updates: dict[Node, int] = {}
    found: dict[Node, list[int]] = {}
    for node in graph.nodes:
        states, versions = node.aux_slots(), []
        for slot, entry in enumerate(node.inputs):
            if slot in states:
                updates[entry.node] = updates.get(entry.node, 0) + 1
            versions.append(updates.get(entry.node, 0))
        found[node] = versions
    return found


def _line(node: Node, names: Mapping[Node, str]) -> str:
    if node.is_variable:
        return f"{names[node]} = Variable()"
    return f"{names[node]} = {call_text(node.op, [entry_name(e, names) for e in node.inputs])}"


def call_text(op: Op, args: Sequence[str]) -> str:
    """``FullyConnected(data, fc1_weight; num_hidden=5)``."""
    given = ", ".join(f"{key}={value!r}" for key, value in op.given().items())
    return f"{op.name}({', '.join(args)}{'; ' if given else ''}{given})"


def entry_name(entry: Entry, names: Mapping[Node, str]) -> str:
    """``fc1`` for a first output, ``split0.1`` for the others."""
    name = names[entry.node]
    return f"{name}.{entry.index}" if entry.index else name


def node_names(
    graph: Graph,
    origin: Mapping[Node, Node] | None = None,
    fixed: Mapping[Node, str] | None = None,
    reserved: Iterable[str] = (),
) -> dict[Node, str]:
    """A unique name for every node: its own, or one made from its forward node or its op.

    `fixed` names are kept as they are and `reserved` ones are not given out.
    """
    names = dict(fixed or {})
    taken = dict.fromkeys([*reserved, *names.values()], 0)
    for node in graph.nodes:
        if node not in names:
            names[node] = _free(_wish(node, names, origin or {}), taken)
    return names


def _wish(node: Node, names: Mapping[Node, str], origin: Mapping[Node, Node]) -> str:
    if node.name:
        return node.name
    if node in origin:
        return f"{names.get(origin[node], origin[node].name)}_backward"
    return node.op.name.lower().strip("_")


def _free(wish: str, taken: dict[str, int]) -> str:
    name = wish
    while name in taken:
        taken[wish] += 1
        name = f"{wish}#{taken[wish]}"
    taken[name] = 0
    return name


# ----- making nodes


def apply(op_name: str, *inputs: Entry, **params: Any) -> Entry:
    """Graph maths: the first output of a new nameless node."""
    return apply_all(op_name, *inputs, **params)[0]


def apply_all(op_name: str, *inputs: Entry, **params: Any) -> tuple[Entry, ...]:
    """Graph maths: all outputs of a new nameless node."""
    op = make_op(op_name, params)
    attrs = {key: to_text_of(type(op), key, value) for key, value in params.items()}
    return Node(op, "", inputs, attrs).entries()


def variable(name: str, attrs: Mapping[str, str] | None = None, source: str | None = None) -> Entry:
    """A new variable node's entry."""
    return Entry(Node(make_op("null", {}), name, (), attrs, source))


def call_site() -> str:
    """``file:line`` of the innermost frame outside this package."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame else "?"


def node_text(node: Node, error: RuleError | str, context: Sequence[str] = ()) -> str:
    """What is wrong with a node: by op and name, with context and the user's line."""
    op = "Variable" if node.is_variable else node.op.name
    made = [f"made at {node.source}"] if node.source else []
    return node_message(op, node.name, str(error), [*context[:2], *made])


def node_error(node: Node, error: RuleError | str, context: Sequence[str] = ()) -> MXNetError:
    """The error of a rule with its node, context and the user's line filled in."""
    return MXNetError(node_text(node, error, context))
