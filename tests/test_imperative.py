"""Every op at once: ``nd`` gives what the inference graph gives, for every sample of every op."""

import numpy as np
import pytest
from evaluate import evaluate
from samples import SAMPLES

from raysym import nd
from raysym.graph import Graph, Node, variable
from raysym.imperative import result_types
from raysym.ndarray import invoke
from raysym.op import make_op
from raysym.passes.inference import for_inference
from raysym.types import TensorType

CASES = [
    pytest.param(name, sample, id=f"{name}-{i}")
    for name, samples in SAMPLES.items()
    for i, sample in enumerate(samples)
    if not (name == "_no_gradient" or any(0 in array.shape for array in sample.arrays()))
]


def inference_outputs(op, arrays):
    inputs = [variable(f"in{i}") for i in range(len(arrays))]
    node = Node(op, "node", inputs)
    graph, _ = for_inference(Graph.of(node.entries()[: op.n_visible()]))
    # A variable that inference does not read is missing from the graph, which is fine.
    return evaluate(graph, dict(zip(inputs, arrays, strict=True)))


@pytest.mark.parametrize(("name", "sample"), CASES)
def test_invoke_gives_what_the_inference_graph_gives(name, sample):
    op, arrays = make_op(name, sample.params), sample.arrays()
    inputs = [nd.array(array, dtype=array.dtype) for array in arrays]
    made = invoke(name, inputs, sample.params)
    outputs = made if isinstance(made, list) else [made]
    wants = inference_outputs(op, arrays)
    assert [(x.shape, x.dtype) for x in outputs] == [(w.shape, w.dtype.type) for w in wants]
    if not op.random:
        for output, want in zip(outputs, wants, strict=True):
            np.testing.assert_array_equal(output.asnumpy(), want)
    memory = [x.data for x in (*inputs, *outputs)]
    shared = [a is b or np.may_share_memory(a, b) for i, a in enumerate(memory) for b in memory[:i]]
    assert not any(shared)


@pytest.mark.parametrize(("name", "sample"), CASES)
def test_rules_foretell_the_visible_outputs(name, sample):
    op, arrays = make_op(name, sample.params), sample.arrays()
    foretold = result_types(op, tuple(TensorType(a.shape, a.dtype.name) for a in arrays))
    wants = [TensorType(w.shape, w.dtype.name) for w in inference_outputs(op, arrays)]
    assert foretold[: len(wants)] == wants
