"""Reverse-mode differentiation as graph maths: entries in, entries out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from raysym.errors import MXNetError, RuleError, did_you_mean, in_words
from raysym.graph import Entry, Graph, Node, apply, node_error, node_names
from raysym.names import GROUP
from raysym.op import make_op


class Gradient(NamedTuple):
    """Gradients of the requested entries (None: zero) and where backward nodes come from.

    ``origin`` maps each backward node to the forward node whose gradient it computes.
    """

    grads: dict[Entry, Entry | None]
    origin: dict[Node, Node]


def differentiate(
    graph: Graph, wrt: Sequence[Entry], head_grads: Sequence[Entry | None]
) -> Gradient:
    """The gradient of ``sum(head * head_grad)`` with respect to `wrt`.

    A loss contributes its own gradient wherever it stands in the graph, other heads only if they
    are given one. Contributions to one entry are summed in the order of its consumers in the graph.
    """
    contributions: dict[Entry, list[Entry]] = {}
    for head, grad in zip(graph.outputs, head_grads, strict=True):
        if grad is not None:
            contributions.setdefault(head, []).append(grad)
    relevant = _depends_on(graph, wrt)
    origin: dict[Node, Node] = {}
    known = {*graph.nodes, *(grad.node for grad in head_grads if grad is not None)}
    for node in reversed(graph.nodes):
        if node.is_variable or node not in relevant:
            continue
        for entry, grad in _input_gradients(node, contributions):
            contributions.setdefault(entry, []).append(grad)
            origin.update((new, node) for new in _new_nodes(grad, known))
    grads = {entry: _total(contributions.get(entry, [])) for entry in wrt}
    consumers = _first_consumers(graph)
    for entry, total in grads.items():
        if total is not None:
            home = consumers.get(entry, entry.node)
            origin.update((new, home) for new in _new_nodes(total, known))
    return Gradient(grads, origin)


def _input_gradients(
    node: Node, contributions: Mapping[Entry, list[Entry]]
) -> Iterator[tuple[Entry, Entry]]:
    outs = node.entries()
    visible = outs[: node.op.n_visible()]
    grads = [_total(contributions.get(entry, [])) for entry in visible]
    # A loss ignores even that nothing comes: MXNet trains what BlockGrad or argmax looks at.
    if all(grad is None for grad in grads) and node.op.needs_head_grad:
        return
    filled = [grad or apply("zeros_like", out) for grad, out in zip(grads, visible, strict=True)]
    try:
        found = node.op.gradient(node.inputs, outs, filled)
    except RuleError as error:
        raise node_error(node, error) from None
    for entry, grad in zip(node.inputs, found, strict=True):
        if grad is not None:
            yield entry, grad


def _total(parts: Sequence[Entry]) -> Entry | None:
    if len(parts) < 2:
        return parts[0] if parts else None
    # The walk is backward, so the last consumer came first.
    return apply("add_n", *reversed(parts), num_args=len(parts))


def _depends_on(graph: Graph, wrt: Sequence[Entry]) -> set[Node]:
    found = {entry.node for entry in wrt}
    for node in graph.nodes:
        if any(entry.node in found for entry in node.inputs):
            found.add(node)
    return found


def _first_consumers(graph: Graph) -> dict[Entry, Node]:
    return {entry: node for node in reversed(graph.nodes) for entry in node.inputs}


def _new_nodes(grad: Entry, known: set[Node]) -> list[Node]:
    new, stack = [], [grad.node]
    while stack:
        node = stack.pop()
        if node not in known:
            known.add(node)
            new.append(node)
            stack.extend(entry.node for entry in node.inputs)
    return new


# ----- gradients that users keep as part of a graph


def gradient_entries(graph: Graph, wrt: Sequence[str | Entry]) -> list[Entry]:
    """Named gradients of the sum of all outputs, one for each name or entry in `wrt`.

    Losses need no head gradient and get none; every other output gets ones. What the outputs do
    not depend on gets zeros. No shape need be known. The node that holds the gradient of ``x`` is
    called ``x_grad``, those before it are named after their forward nodes, each name once.
    """
    entries = [_asked(graph, name) if isinstance(name, str) else name for name in wrt]
    _check_members(graph, entries)
    heads = [
        apply("ones_like", head) if head.node.op.needs_head_grad else None for head in graph.outputs
    ]
    found = differentiate(graph, entries, heads)
    origin = dict(found.origin)
    for head, grad in zip(graph.outputs, heads, strict=True):
        origin.update({grad.node: head.node} if grad else {})
    return [*_named(graph, _labelled(graph, entries, found, origin), origin).outputs]


def _asked(graph: Graph, name: str) -> Entry:
    found = [node for node in graph.variables() if node.name == name]
    known = [node.name for node in graph.variables()]
    if not found:
        raise MXNetError(
            f"gradient: '{name}' is no variable of this symbol: expected one of {in_words(known)}. "
            f"{did_you_mean(name, known)}"
        )
    if len(found) > 1:
        raise MXNetError(f"gradient: '{name}' is the name of {len(found)} variables: give a symbol")
    return Entry(found[0])


def _check_members(graph: Graph, entries: Sequence[Any]) -> None:
    if not entries:
        raise TypeError("gradient: got an empty list, expected names or symbols")
    nodes = set(graph.nodes)
    for entry in entries:
        if not isinstance(entry, Entry):
            raise TypeError(
                f"gradient: got {entry!r}, expected a name, a Symbol or a list of these"
            )
        if entry.node not in nodes:
            raise MXNetError(f"gradient: '{entry.node.name}' is no part of this symbol's graph")


def _labelled(
    graph: Graph, entries: Sequence[Entry], found: Gradient, origin: dict[Node, Node]
) -> Graph:
    """The gradients, each behind a copy of its own that is called after what it belongs to."""
    names = node_names(graph)
    made = []
    for entry in entries:
        grad = found.grads[entry] or apply("zeros_like", entry)
        suffix = f"{entry.index}_grad" if entry.index else "_grad"
        label = Node(make_op("_copy", {}), names[entry.node] + suffix, [grad])
        origin[label] = entry.node
        origin.setdefault(grad.node, entry.node)
        made.append(Entry(label))
    return Graph.of(made)


def _named(graph: Graph, extended: Graph, origin: Mapping[Node, Node]) -> Graph:
    """`extended` with a name, a group and a source line for every node that `graph` lacks."""
    names = node_names(extended, origin, node_names(graph))
    old = set(graph.nodes)

    def visit(node: Node, inputs: tuple[Entry, ...]) -> Sequence[Entry]:
        if node in old:
            return node.entries()
        home = origin.get(node, node)
        # A gradient runs where its forward node runs.
        kept = {GROUP: home.attrs[GROUP]} if GROUP in home.attrs else {}
        return Node(node.op, names[node], inputs, {**node.attrs, **kept}, home.source).entries()

    return extended.map(visit)
