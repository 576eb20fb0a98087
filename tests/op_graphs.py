"""Graphs of one op: the node of a sample and its gradient, as several suites run them."""

from __future__ import annotations

import operator
from typing import Any, NamedTuple

import numpy as np
import pytest
from evaluate import evaluate
from samples import SAMPLES, Sample

import raysym as mx
from raysym.graph import Entry, Graph, Node, variable
from raysym.op import CANONICAL, make_op
from raysym.opdoc import python_name
from raysym.passes.gradient import differentiate

# Ops that these suites leave out, and why.
LEFT_OUT = {
    "_no_gradient": "exists to fail",
    "Custom": "numbers its runs, so that no two are equal; its code is the user's",
    "_backward_Custom": "finds its forward by that number",
    "_Custom_inference": "its code is the user's, who may well look at numbers",
}

CASES = [
    pytest.param(name, sample, id=f"{name}-{i}")
    for name, samples in SAMPLES.items()
    for i, sample in enumerate(samples)
    if name not in LEFT_OUT
]
WITH_GRADIENT = [case for case in CASES if case.values[1].wrt != ()]


def compose(name: str, params: dict[str, Any], sample: Sample | None = None) -> mx.Symbol:
    """The op as users call it, on variables x0, x1, ..."""
    page = CANONICAL[name]
    op = make_op(name, sample.params if sample else params)
    inputs = [mx.sym.Variable(f"x{i}") for i in range(len(op.input_names()))]
    function = operator.attrgetter(python_name(name))(mx.sym)
    if page.variadic:
        counted = {key: value for key, value in params.items() if key != page.variadic}
        return function(*inputs, name="node", **counted)
    return function(**dict(zip(op.input_names(), inputs, strict=True)), name="node", **params)


class Fed(NamedTuple):
    """A graph with the arrays of its variables."""

    graph: Graph
    feeds: dict[Entry, np.ndarray]

    def run(self, xp: Any = np) -> list[Any]:
        """Its values, computed with the array library `xp`."""
        return evaluate(self.graph, {e: xp.asarray(a) for e, a in self.feeds.items()}, xp=xp)


def forward_of(name: str, sample: Sample, arrays: list[np.ndarray] | None = None) -> Fed:
    """One node and all its values; `arrays` stand in for those of the sample."""
    op = make_op(name, sample.params)
    entries = [variable(slot) for slot in op.input_names()]
    graph = Graph.of(Node(op, "node", entries).entries())
    return Fed(graph, dict(zip(entries, arrays or sample.arrays(), strict=True)))


def gradient_of(name: str, sample: Sample, arrays: list[np.ndarray] | None = None) -> Fed | None:
    """The gradients of all floating outputs, weighted by random numbers; None if all are zero."""
    fed = forward_of(name, sample, arrays)
    visible = fed.graph.outputs[: fed.graph.outputs[0].node.op.n_visible()]
    values = dict(zip(visible, fed.run(), strict=False))
    heads = {e: variable(f"head{e.index}") for e, v in values.items() if v.dtype.kind == "f"}
    entries = list(fed.feeds)
    wrt = entries if sample.wrt is None else [entries[i] for i in sample.wrt]
    floats = [e for e in wrt if fed.feeds[e].dtype.kind == "f"]
    found = differentiate(Graph.of(heads), floats, list(heads.values())).grads
    grads = [grad for grad in found.values() if grad is not None]
    rng = np.random.default_rng(5)
    weights = {
        p: rng.normal(size=values[e].shape).astype(values[e].dtype) for e, p in heads.items()
    }
    return Fed(Graph.of(grads), {**fed.feeds, **weights}) if grads else None
