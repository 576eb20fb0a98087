"""Passes, compared as text: what a graph becomes, not what it computes."""

from __future__ import annotations

import numpy as np
import pytest
from evaluate import evaluate

import raysym as mx
from raysym.errors import MXNetError
from raysym.graph import Entry, Graph, variable
from raysym.passes.gradient import differentiate
from raysym.passes.infer import infer, infer_dtypes, infer_shapes
from raysym.passes.inference import for_inference
from raysym.passes.simplify import simplify
from raysym.types import TensorType


def entry(graph: Graph, name: str) -> Entry:
    return next(Entry(node) for node in graph.nodes if node.name == name)


def tidy(symbol: mx.Symbol, **shapes: tuple[int, ...]) -> str:
    graph = symbol.graph
    types = infer(
        graph, {entry(graph, n): TensorType(shape, "float32") for n, shape in shapes.items()}
    )
    return str(simplify(graph, types, {})[0])


def a_variable(name: str = "x") -> mx.Symbol:
    return mx.sym.Variable(name)


# ----- gradient


def gradient_text(symbol: mx.Symbol, *wrt: str) -> str:
    graph = symbol.graph
    heads = [variable(f"head{i}") for i in range(len(graph.outputs))]
    found = differentiate(graph, [entry(graph, name) for name in wrt], heads)
    return str(Graph.of(grad for grad in found.grads.values() if grad is not None))


def test_gradient_of_a_product_is_graph_maths() -> None:
    x, y = a_variable("x"), a_variable("y")
    assert gradient_text(mx.sym.elemwise_mul(x, y), "x", "y") == "\n".join(
        [
            "head0 = Variable()",
            "y = Variable()",
            "elemwise_mul = elemwise_mul(head0, y)",
            "x = Variable()",
            "elemwise_mul#1 = elemwise_mul(head0, x)",
            "return elemwise_mul, elemwise_mul#1",
        ]
    )


def test_contributions_are_summed_in_the_order_of_consumers() -> None:
    x = a_variable()
    text = gradient_text(mx.sym.Group([mx.sym.exp(x, name="a"), mx.sym.exp(x, name="b")]), "x")
    assert text.splitlines()[-2:] == [
        "add_n = add_n(elemwise_mul, elemwise_mul#1; num_args=2)",
        "return add_n",
    ]
    assert text.index("head0") < text.index("head1")


def test_origin_names_the_forward_node_of_every_backward_node() -> None:
    x = a_variable()
    graph = mx.sym.exp(mx.sym.square(x, name="inner"), name="outer").graph
    found = differentiate(graph, [entry(graph, "x")], [variable("head")])
    assert {node.name for node in found.origin.values()} == {"inner", "outer"}


def test_nothing_flows_through_block_grad() -> None:
    x = a_variable()
    graph = mx.sym.exp(mx.sym.BlockGrad(x)).graph
    found = differentiate(graph, [entry(graph, "x")], [variable("head")])
    assert found.grads[entry(graph, "x")] is None


def test_a_loss_needs_no_head_gradient() -> None:
    x = a_variable()
    graph = mx.sym.Group([mx.sym.MakeLoss(x, name="loss"), mx.sym.exp(x)]).graph
    heads = [None, variable("head1")]
    found = differentiate(graph, [entry(graph, "x")], heads)
    read = Graph.of([found.grads[entry(graph, "x")]]).variables()
    assert [node.name for node in read if node.name.startswith("head")] == ["head1"]


def test_an_op_without_gradient_is_named() -> None:
    x = a_variable()
    graph = mx.sym.argmax_channel(x, name="pick").graph
    with pytest.raises(MXNetError, match=r"argmax_channel 'pick': operator is not differentiable"):
        differentiate(graph, [entry(graph, "x")], [variable("head")])


# ----- inference


def test_inference_drops_dropout_and_freezes_batch_norm() -> None:
    net = mx.sym.BatchNorm(mx.sym.Dropout(a_variable(), name="drop"), name="bn", fix_gamma=False)
    text = str(for_inference(net.graph)[0])
    assert "Dropout" not in text
    assert "use_global_stats=True" in text


# ----- simplify


def test_equal_expressions_are_computed_once() -> None:
    x = a_variable()
    text = tidy(mx.sym.exp(x) + mx.sym.exp(x), x=(2, 3))
    assert text.splitlines() == [
        "x = Variable()",
        "exp0 = exp(x)",
        "_plus0 = elemwise_add(exp0, exp0)",
        "return _plus0",
    ]


def test_random_ops_are_not_merged() -> None:
    draws = [mx.sym.random.uniform(shape=(2, 3)) for _ in range(2)]
    assert tidy(draws[0] + draws[1]).count("_random_uniform(") == 2


def test_groups_are_not_merged_across_devices() -> None:
    x = a_variable()
    with mx.AttrScope(ctx_group="a"):
        left = mx.sym.exp(x)
    with mx.AttrScope(ctx_group="b"):
        right = mx.sym.exp(x)
    assert tidy(mx.sym.Group([left, right]), x=(2, 3)).count("exp(x)") == 2


def test_constants_are_folded() -> None:
    text = tidy(mx.sym.ones((2, 3)) * 4.0 + mx.sym.zeros((2, 3)))
    assert text == "full = _full(; shape=(2, 3), value=4.0)\nreturn full"


def test_folded_constants_keep_their_values() -> None:
    symbol = mx.sym.arange(5) * 2.0
    graph = symbol.graph
    small, _ = simplify(graph, infer(graph, {}), {})
    assert len(small.nodes) == 1
    assert np.array_equal(evaluate(small, {})[0], np.arange(5, dtype=np.float32) * 2)


def relu_pooled(stride: int) -> tuple[Graph, dict[Entry, TensorType]]:
    """The gradient of relu and max pooling over 2x2 windows; its free variables with types."""
    relu = mx.sym.Activation(a_variable(), act_type="relu", name="relu")
    graph = mx.sym.Pooling(relu, kernel=(2, 2), stride=(stride, stride), name="pool").graph
    x, head = entry(graph, "x"), variable("head")
    found = differentiate(graph, [x], [head])
    made = 1 + (4 - 2) // stride, 1 + (6 - 2) // stride
    known = {x: TensorType((2, 3, 4, 6), "float32"), head: TensorType((2, 3, *made), "float32")}
    return Graph.of([*graph.outputs, found.grads[x]]), known


def test_masks_move_behind_max_pooling() -> None:
    graph, known = relu_pooled(2)
    lines = str(simplify(graph, infer(graph, known), {})[0]).splitlines()
    assert "greater_scalar = _greater_scalar(pool; scalar=0.0)" in lines
    assert lines[-1] == "return pool, backward_pooling_max"


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_masks_behind_max_pooling_change_no_number(stride: int) -> None:
    graph, known = relu_pooled(stride)
    small, _ = simplify(graph, infer(graph, known), {})
    rng = np.random.default_rng(0)
    feeds = {e: rng.integers(-3, 3, kind.shape).astype("float32") for e, kind in known.items()}
    for got, want in zip(evaluate(small, feeds), evaluate(graph, feeds), strict=True):
        np.testing.assert_array_equal(got, want)


def test_like_ops_let_go_of_their_reference() -> None:
    x = a_variable()
    text = tidy(mx.sym.zeros_like(mx.sym.exp(x)), x=(2, 3))
    assert "exp" not in text


def test_an_op_with_several_outputs_lets_go_as_well() -> None:
    x, y = a_variable("x"), a_variable("y")
    graph = mx.sym.Concat(mx.sym.exp(x), mx.sym.tanh(y), dim=1).graph
    found = differentiate(graph, [entry(graph, "x"), entry(graph, "y")], [variable("head")])
    known = {entry(graph, n): TensorType((2, k), "float32") for n, k in (("x", 3), ("y", 4))}
    joint = Graph.of(grad for grad in found.grads.values() if grad is not None)
    head = next(node for node in joint.nodes if node.name == "head")
    types = infer(joint, {**known, Entry(head): TensorType((2, 7), "float32")})
    small = str(simplify(joint, types, {})[0])
    assert "_split_v2(head; indices=(0, 3))" in small
    assert "_backward_Concat" not in small


def test_dead_nodes_are_not_in_the_graph() -> None:
    x = a_variable()
    _dead, live = mx.sym.exp(x, name="dead"), mx.sym.square(x, name="live")
    assert "dead" not in str(live.graph)


# ----- inference of types


def test_shapes_flow_both_ways() -> None:
    begin = mx.sym.zeros((0, 4), name="begin")
    graph = (begin + mx.sym.FullyConnected(a_variable(), num_hidden=4, name="fc")).graph
    shapes = infer_shapes(graph, {entry(graph, "x"): (7, 3)})
    assert shapes[entry(graph, "begin")] == (7, 4)
    assert shapes[entry(graph, "fc_weight")] == (4, 3)


def test_what_stays_unknown_stays_partial() -> None:
    graph = mx.sym.FullyConnected(a_variable(), num_hidden=4, name="fc").graph
    assert infer_shapes(graph, {})[entry(graph, "fc_bias")] in (None, (4,))
    with pytest.raises(MXNetError, match="'x': cannot decide shapes or dtypes"):
        infer(graph, {})


def test_dtypes_flow_both_ways() -> None:
    x, y = a_variable("x"), a_variable("y")
    graph = (x + y).graph
    assert infer_dtypes(graph, {entry(graph, "y"): "float16"})[entry(graph, "x")] == "float16"


def test_a_conflict_names_node_shapes_and_line() -> None:
    graph = (a_variable("x") + a_variable("y")).graph
    known = {entry(graph, "x"): (2, 3), entry(graph, "y"): (3, 2)}
    with pytest.raises(MXNetError, match=r"elemwise_add '_plus0'(.|\n)*test_passes.py:\d+"):
        infer_shapes(graph, known)
