"""Loops and branches beyond their samples: randomness, nesting, inference, what is refused."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from samples import SAMPLES
from samples_control_flow import COND, FOREACH, WHILE, step

from raysym.errors import MXNetError, RuleError
from raysym.graph import Entry, Graph, Node, apply, variable
from raysym.op import call_kernel, make_op
from raysym.ops.subgraphs import decode, encode
from raysym.passes.infer import infer_shapes


def generator() -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=[3, 4]))


def test_graphs_survive_their_text() -> None:
    text = encode([step()])
    assert encode([body.graph for body in decode(text)]) == text
    assert str(decode(text)[0].graph) == str(step())


def test_an_op_with_graphs_survives_pickle() -> None:
    op = make_op("_foreach", FOREACH)
    assert pickle.loads(pickle.dumps(op)) == op


def test_graphs_can_be_put_beside_an_op_later() -> None:
    bare = make_op("_foreach", {k: v for k, v in FOREACH.items() if k != "graphs"})
    assert bare.with_subgraphs([step()]) == make_op("_foreach", FOREACH)
    with pytest.raises(RuleError, match="wrong number of graphs"):
        bare.with_subgraphs([step(), step()])


def test_gradient_of_a_random_body_sees_the_numbers_that_were_drawn() -> None:
    params = {**FOREACH, "graphs": encode([step(True)])}
    rng = np.random.default_rng(1)
    arrays = [rng.normal(size=shape) for shape in ((4, 3), (3,), (3,))]
    op: Any = make_op("_foreach", params)
    assert op.random
    out, state, *kept = call_kernel(op, np, arrays, generator())
    heads = [rng.normal(size=out.shape), rng.normal(size=state.shape)]
    grads = call_kernel(make_op("_backward_foreach", params), np, [*heads, *arrays, *kept])

    def objective(moved: list[np.ndarray]) -> float:
        values = call_kernel(op, np, moved, generator())
        return sum(float((h * v).sum()) for h, v in zip(heads, values, strict=False))

    for i, grad in enumerate(grads):
        direction = rng.normal(size=grad.shape)
        ahead, behind = ([a + s * 1e-6 * direction if j == i else a for j, a in enumerate(arrays)]
                         for s in (1, -1))  # fmt: skip
        want = (objective(ahead) - objective(behind)) / 2e-6
        assert float((grad * direction).sum()) == pytest.approx(want, rel=1e-6, abs=1e-7)


def test_random_steps_differ_from_each_other() -> None:
    params = {**FOREACH, "graphs": encode([step(True)])}
    arrays = [np.zeros((4, 3)), np.ones(3), np.ones(3)]
    out = call_kernel(make_op("_foreach", params), np, arrays, generator())[0]
    assert len(np.unique(out[:, 0])) == 4


def test_a_loop_in_a_loop() -> None:
    rows, state, factor = (variable(name) for name in ("rows", "s", "w"))
    inner = Node(make_op("_foreach", FOREACH), "inner", [rows, state, factor]).entries()
    outer = {**FOREACH, "graphs": encode([Graph.of([inner[0], inner[1]])])}
    outer |= {"in_data_locs": (0,), "in_state_locs": (1,), "remain_locs": (2,)}
    arrays = [np.random.default_rng(0).normal(size=shape) for shape in ((2, 4, 3), (3,), (3,))]
    out, last = call_kernel(make_op("_foreach", outer), np, arrays)[:2]
    want, s = [], arrays[1]
    for block in arrays[0]:
        made, s = SAMPLES["_foreach"][0].reference(block, s, arrays[2])  # type: ignore[misc]
        want.append(made)
    np.testing.assert_allclose(out, want)
    np.testing.assert_allclose(last, s)


def test_inference_reaches_into_the_body() -> None:
    x, s = variable("x"), variable("s")
    dropped = apply("Dropout", x, p=0.5)
    graph = Graph.of([apply("elemwise_add", dropped, s), apply("_copy", s)])
    params = {**FOREACH, "num_args": 3, "in_state_locs": (1,), "remain_locs": (),
              "graphs": encode([graph])}  # fmt: skip
    op = make_op("_foreach", params)
    found = op.for_inference([variable("data"), variable("state")])
    assert found is not None
    assert op.random
    assert not found[0].node.op.random


def test_shapes_flow_back_out_of_the_body() -> None:
    node = Node(make_op("_foreach", FOREACH), "loop", [variable(name) for name in "xsw"])
    facts = infer_shapes(Graph.of(node.entries()), {node.inputs[0]: (4, 3)})
    assert [facts[entry] for entry in node.inputs] == [(4, 3), (3,), (3,)]
    assert facts[Entry(node, 0)] == (4, 3)


def test_shapes_that_change_between_steps_are_refused() -> None:
    x, s = variable("x"), variable("s")
    graph = Graph.of([apply("_copy", x), apply("Concat", s, x, dim=0, num_args=2)])
    params = {**FOREACH, "num_args": 3, "in_state_locs": (1,), "remain_locs": (),
              "graphs": encode([graph])}  # fmt: skip
    node = Node(make_op("_foreach", params), "loop", [variable("x"), variable("s")])
    with pytest.raises(MXNetError, match=r"does not match|does not fit"):
        infer_shapes(Graph.of(node.entries()), {node.inputs[0]: (4, 3), node.inputs[1]: (5,)})


def test_a_condition_of_several_numbers_is_refused() -> None:
    v = variable("v")
    graphs = [Graph.of([apply("_lesser_scalar", v, scalar=3.0)]), decode(WHILE["graphs"])[1].graph]
    op = make_op("_while_loop", {**WHILE, "graphs": encode(graphs)})
    with pytest.raises(RuleError, match="a condition must be one number"):
        call_kernel(op, np, [np.ones(3), np.ones(3)])


def test_the_branch_that_did_not_run_has_no_gradient() -> None:
    arrays = [np.array([1.0]), *(np.full((2, 5), v) for v in (2.0, 3.0, 5.0))]
    op: Any = make_op("_cond", COND)
    kept = call_kernel(op, np, arrays)[1:]
    head = np.ones((2, 5))
    grads = call_kernel(make_op("_backward_cond", COND), np, [head, *arrays, *kept])
    assert [float(grad.sum()) for grad in grads] == [0, 120, 40, 0]
