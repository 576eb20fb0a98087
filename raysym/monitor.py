"""Names under which a monitor sees the values that a plan computes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from raysym.graph import Node
from raysym.planning.plan import Run, split_entry
from raysym.planning.step import Bound
from raysym.runtime.protocol import Tap


def make_tap(bound: Bound, report: Callable[[str, Any], None], inputs: bool) -> Tap:
    """A tap that reports each value under MXNet's name for it.

    Forward values are ``{node}_{label}``, backward ones ``{node}_backward_output{i}``, numbered in
    the order in which they are computed. With `inputs`, what goes into a node is reported before:
    a variable under its own name, and every input as ``{node}_{slot}``. Each micro-batch is
    reported under the same names.
    """
    nodes = {bound.names[node]: node for node in bound.graph.nodes}
    backward = _BackwardLabels()

    def tap(run: Run, args: Sequence[Any], values: Sequence[Any]) -> None:
        node = nodes.get(split_entry(run.outs[0])[0].removesuffix(".0"))
        if node is None:
            for name, value in zip(backward.of(run), values, strict=False):
                report(name, value)
            return
        for name, i in _input_labels(node) if inputs else ():
            report(name, args[i])
        for label, value in zip(
            node.op.output_names()[: node.op.n_visible()], values, strict=False
        ):
            report(f"{node.name}_{label}", value)

    return tap


def _input_labels(node: Node) -> Iterator[tuple[str, int]]:
    for i, (slot, entry) in enumerate(zip(node.op.input_names(), node.inputs, strict=False)):
        if entry.node.is_variable:
            yield entry.node.name, i
        yield f"{node.name}_{slot}", i


class _BackwardLabels:
    """Names of backward values: a gradient is made by several small nodes, which are numbered."""

    def __init__(self) -> None:
        self._labels: dict[str, list[str]] = {}
        self._count: dict[str, int] = {}

    def of(self, run: Run) -> list[str]:
        node, mark, _ = run.outs[0].partition("_backward")
        if not mark:
            return []
        if run.outs[0] not in self._labels:
            first = self._count.get(node, 0)
            self._count[node] = first + len(run.outs)
            numbers = range(first, first + len(run.outs))
            self._labels[run.outs[0]] = [f"{node}_backward_output{i}" for i in numbers]
        return self._labels[run.outs[0]]
