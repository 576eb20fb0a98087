"""Executor.reshape: the same graph for other shapes, in the memory of the first executor."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from raysym.binding import Arrays, Where, make_executor
from raysym.errors import MXNetError, sentence
from raysym.executor import Executor
from raysym.graph import Entry, Graph, Node, node_error, split_variables
from raysym.nd.creation import zeros
from raysym.ndarray import NDArray
from raysym.passes.infer import infer_shapes, undecided_error
from raysym.types import PartialShape, Shape, TensorType, is_known


def rebinder(requests: Sequence[str], place: Where) -> Callable[..., Executor]:
    """What an executor calls to make another for other shapes."""

    def rebind(
        old: Executor, shapes: Mapping[str, PartialShape], partial: bool, up_sizing: bool
    ) -> Executor:
        graph: Graph = old.symbol.graph
        arg_nodes, aux_nodes = split_variables(graph)
        if not shapes:
            wanted = "name=(dims), as in simple_bind"
            raise MXNetError(sentence("reshape: no shapes were given", "none", wanted))
        fit = _Fit(graph, shapes, _inferred(graph, shapes), partial, up_sizing)
        arrays = Arrays(
            [fit.array(n, a) for n, a in zip(arg_nodes, old.arg_arrays, strict=True)],
            old.grad_arrays and fit.gradients(arg_nodes, old.grad_arrays),
            [fit.array(n, a) for n, a in zip(aux_nodes, old.aux_arrays, strict=True)],
        )
        return make_executor(old.symbol, arrays, requests, place, rebinder(requests, place))

    return rebind


def known_shapes(graph: Graph, shapes: Mapping[str, object]) -> dict[Entry, PartialShape]:
    """The shapes that were given as tuples, by variable; other keywords say nothing of shapes."""
    found = {}
    for node in graph.variables():
        shape = shapes.get(node.name)
        if isinstance(shape, tuple):
            found[Entry(node)] = tuple(max(int(dim), 0) for dim in shape) or None
    return found


def _inferred(graph: Graph, shapes: Mapping[str, PartialShape]) -> dict[Node, Shape]:
    found = infer_shapes(graph, known_shapes(graph, shapes))
    entries = [Entry(node) for node in graph.variables()]
    undecided = [entry for entry in entries if not is_known(found.get(entry))]
    if undecided:
        raise undecided_error(graph, undecided, found, {})
    return {entry.node: found[entry] or () for entry in entries}


class _Fit(NamedTuple):
    """What decides whether an array may serve for another shape."""

    graph: Graph
    named: Mapping[str, PartialShape]
    shapes: Mapping[Node, Shape]
    partial: bool
    up_sizing: bool

    def gradients(
        self, nodes: Sequence[Node], grads: Sequence[NDArray | None]
    ) -> list[NDArray | None]:
        pairs = zip(nodes, grads, strict=True)
        return [None if g is None else self.array(n, g) for n, g in pairs]

    def array(self, node: Node, old: NDArray) -> NDArray:
        kind = TensorType(self.shapes[node], np.dtype(old.dtype).name)
        if kind.shape != old.shape and node.name not in self.named and not self.partial:
            wrong = sentence("reshape: the shape changes but was not given", kind.shape, old.shape)
            raise node_error(node, f"{wrong}. Name it or set partial_shaping=True")
        if kind.size <= old.size:
            return first_elements(old, kind)
        if not self.up_sizing:
            wrong = sentence("reshape: the array grows", kind.shape, f"at most {old.size} elements")
            raise node_error(node, f"{wrong}. Set allow_up_sizing=True to allocate it anew")
        return zeros(kind.shape, old.context, kind.dtype)


def first_elements(array: NDArray, kind: TensorType) -> NDArray:
    """A view of the first elements of `array` in another shape."""
    if array.shape == kind.shape:
        return array
    return array.reshape((-1,))[: kind.size].reshape(kind.shape)
