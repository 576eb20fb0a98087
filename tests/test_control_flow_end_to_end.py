"""Loops and branches as users meet them: MXNet's files and numbers, gradients, plans, workers."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from control_flow_cases import CASES, record, symbol_of, value_for

import raysym as mx
from raysym.planning.plan import parse

RECORDED: dict[str, Any] = json.loads(
    (Path(__file__).parent / "data" / "control_flow.json").read_text()
)


def recorded(name: str) -> mx.Symbol:
    return mx.sym.load_json(RECORDED[name]["symbol"])


# ----- MXNet's files


@pytest.mark.parametrize("name", CASES)
def test_symbols_are_written_as_mxnet_writes_them(name: str) -> None:
    assert symbol_of(mx, name).tojson() == RECORDED[name]["symbol"]


@pytest.mark.parametrize("name", CASES)
def test_files_of_mxnet_are_read_and_written_again(name: str) -> None:
    symbol = recorded(name)
    assert symbol.tojson() == RECORDED[name]["symbol"]
    assert symbol.list_arguments() == RECORDED[name]["arguments"]
    assert symbol.list_outputs() == RECORDED[name]["outputs"]
    assert pickle.loads(pickle.dumps(symbol)).tojson() == symbol.tojson()
    assert copy.deepcopy(symbol).tojson() == symbol.tojson()


def test_graphs_in_a_file_have_the_version_of_the_file() -> None:
    text = RECORDED["dense_steps"]["symbol"].replace("10901", "10400")
    # Only files older than 1.9.1 have multipliers of inputs among the attributes of an op.
    old = text.replace(
        '"op": "FullyConnected", \n              "name": "fc", \n              "attrs": {',
        '"op": "FullyConnected", \n              "name": "fc", \n              "attrs": {\n'
        '                "weight_lr_mult": "2.0", ',
    )
    assert old != text
    loop = mx.sym.load_json(old).entries[0].node
    (inside,) = loop.op.subgraphs()
    weight = next(node for node in inside.variables() if node.name == "fc_weight")
    assert weight.attrs["__lr_mult__"] == "2.0"


# ----- MXNet's numbers


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("from_file", [False, True])
def test_values_and_gradients_are_those_of_mxnet(name: str, from_file: bool) -> None:
    found = record(mx, name, recorded(name) if from_file else symbol_of(mx, name))
    for value, want in zip(found["values"], RECORDED[name]["values"], strict=False):
        np.testing.assert_allclose(value.ravel(), want, rtol=1e-5, atol=1e-6)
    for key, want in RECORDED[name]["gradients"].items():
        np.testing.assert_allclose(found["gradients"][key].ravel(), want, rtol=1e-5, atol=1e-6)


def test_a_branch_is_taken_anew_in_every_step() -> None:
    x, state = (value_for(name, CASES["branches"].shapes[name]) for name in "xs")
    outs, signs = [], set()
    for row in x:
        signs.add(row.sum() > 0)
        outs.append(row * state if row.sum() > 0 else row - state)
        state = state + outs[-1]
    assert len(signs) == 2
    made, last = record(mx, "branches", symbol_of(mx, "branches"), "null")["values"]
    np.testing.assert_allclose(made, outs, rtol=1e-5)
    np.testing.assert_allclose(last, state, rtol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_gradients_are_finite_differences(name: str) -> None:
    symbol = symbol_of(mx, name)
    arrays = {
        k: mx.nd.array(value_for(k, s), dtype="float64") for k, s in CASES[name].shapes.items()
    }
    grads = {k: mx.nd.zeros(array.shape, dtype="float64") for k, array in arrays.items()}
    executor = symbol.bind(mx.cpu(), arrays, grads)
    heads = [value_for("head", out.shape) for out in executor.forward(is_train=True)]
    executor.backward([mx.nd.array(head, dtype="float64") for head in heads])
    found = {key: grad.asnumpy() for key, grad in grads.items()}

    def objective() -> float:
        outs = executor.forward(is_train=True)
        return sum(float((h * out.asnumpy()).sum()) for h, out in zip(heads, outs, strict=True))

    for key, array in arrays.items():
        direction = value_for(f"direction {key}", array.shape)
        start, sides = array.asnumpy().copy(), []
        for side in (1e-6, -1e-6):
            array[:] = start + side * direction
            sides.append(objective())
        array[:] = start
        want = (sides[0] - sides[1]) / 2e-6
        assert float((found[key] * direction).sum()) == pytest.approx(want, rel=1e-6, abs=1e-8)


def test_the_same_body_gives_the_same_on_arrays_and_on_symbols() -> None:
    def body(row: Any, states: Any) -> Any:
        return row * states[0], [states[0] + row]

    x, s = (value_for(name, shape) for name, shape in (("x", (4, 3)), ("s", (3,))))
    outs, last = mx.nd.contrib.foreach(body, mx.nd.array(x), [mx.nd.array(s)])
    made, final = mx.sym.contrib.foreach(body, mx.sym.Variable("x"), [mx.sym.Variable("s")])
    results = mx.sym.Group([made, *final]).eval(x=mx.nd.array(x), s=mx.nd.array(s))
    np.testing.assert_array_equal(results[0].asnumpy(), outs.asnumpy())
    np.testing.assert_array_equal(results[1].asnumpy(), last[0].asnumpy())


def test_a_variable_inside_and_outside_gets_both_gradients() -> None:
    x, s, w = (mx.sym.Variable(name) for name in "xsw")
    out, last = mx.sym.contrib.foreach(lambda row, held: (row * w, held + row), x, s)
    net = mx.sym.Group([out, last, 5 * w])
    assert net.list_arguments() == ["x", "s", "w"]
    executor = net.simple_bind(mx.cpu(), x=(4, 3), s=(3,), w=(3,))
    executor.arg_dict["x"][:] = value_for("x", (4, 3))
    executor.forward(is_train=True)
    executor.backward([mx.nd.ones(out.shape) for out in executor.outputs])
    want = value_for("x", (4, 3)).sum(axis=0) + 5
    np.testing.assert_allclose(executor.grad_dict["w"].asnumpy(), want, rtol=1e-5)


def test_gradients_as_symbols_pass_through_loops() -> None:
    x, s, w = (mx.sym.Variable(name) for name in "xsw")
    out, last = mx.sym.contrib.foreach(lambda row, held: (row * w * held, held + row), x, s)
    grads = mx.sym.Group([out, last]).gradient(["w", "x"])
    assert grads.list_arguments() == ["x", "s", "w"]
    arrays = {k: mx.nd.array(value_for(k, (3,))) for k in "sw"}
    arrays["x"] = mx.nd.array(value_for("x", (4, 3)))
    executor = grads.bind(mx.cpu(), arrays)
    found = [out.asnumpy() for out in executor.forward(is_train=True)]
    rows, held = value_for("x", (4, 3)), value_for("s", (3,))
    states = held + np.vstack([np.zeros(3), np.cumsum(rows, axis=0)[:-1]])
    np.testing.assert_allclose(found[0], (rows * states).sum(axis=0), rtol=1e-5, atol=1e-6)
    again = mx.sym.load_json(grads.tojson()).bind(mx.cpu(), arrays).forward(is_train=True)
    np.testing.assert_array_equal(again[1].asnumpy(), found[1])


def test_a_loop_that_never_runs_hands_its_variables_on() -> None:
    executor = symbol_of(mx, "counted").simple_bind(mx.cpu(), i=(1,), v=(2, 3), w=(2, 3))
    executor.arg_dict["i"][:] = 3
    executor.arg_dict["v"][:] = 7
    out, i, v = executor.forward(is_train=True)
    assert not out.asnumpy().any()
    assert (i.asnumpy(), v.asnumpy().tolist()) == (3, [[7] * 3] * 2)
    executor.backward([mx.nd.ones(o.shape) for o in (out, i, v)])
    grads = {name: grad.asnumpy().sum() for name, grad in executor.grad_dict.items()}
    assert grads == {"i": 1, "v": 6, "w": 0}


def test_loops_can_be_drawn() -> None:
    assert "_foreach0" in symbol_of(mx, "dense_steps").draw()


# ----- inference, names, attributes


def test_shapes_and_dtypes_pass_through_loops() -> None:
    net = symbol_of(mx, "dense_steps")
    arguments, outputs, states = net.infer_shape(x=(4, 2, 5), w=(2, 3))
    assert arguments == [(4, 2, 5), (2, 3), (3, 5), (3,), (2, 3)]
    assert outputs == [(4, 2, 3), (2, 3)]
    assert states == []
    arguments, outputs, _ = net.infer_type(x="float64")
    assert set(arguments) == set(outputs) == {np.float64}
    counted = symbol_of(mx, "counted")
    assert counted.infer_shape(i=(1,), v=(2, 3))[1] == [(3, 2, 3), (1,), (2, 3)]


def test_loops_share_counters_of_names_with_everything_else() -> None:
    x, s = mx.sym.Variable("x"), mx.sym.Variable("s")
    marks = []
    for _ in range(2):
        out, s = mx.sym.contrib.foreach(lambda row, held: (row + 1, held + row), x, s)
        (inside,) = out.entries[0].node.op.subgraphs()
        marks.append(inside.nodes[0].attrs["__subgraph_name__"])
    assert (out.name, marks) == ("_foreach1", ["foreach0", "foreach1"])


def test_an_attribute_set_later_leaves_the_graphs_alone() -> None:
    net = recorded("only_states")
    net._set_attr(__mine__="1")
    assert net.attr("__mine__") == "1"
    assert len(net.entries[0].node.op.subgraphs()) == 1


def test_what_is_outside_can_be_replaced() -> None:
    net = symbol_of(mx, "only_states")(x=mx.sym.exp(mx.sym.Variable("y"), name="ey"))
    assert net.list_arguments() == ["y", "s"]
    got = net.eval(y=mx.nd.zeros((4, 3)), s=mx.nd.array([1.0, 2.0, 3.0]))[0]
    np.testing.assert_array_equal(got.asnumpy(), [1, 2, 3])


def test_dropout_inside_is_for_training_only() -> None:
    x, s = mx.sym.Variable("x"), mx.sym.Variable("s")
    out, last = mx.sym.contrib.foreach(
        lambda row, held: (mx.sym.Dropout(row, p=0.5), held + row), x, s
    )
    executor = mx.sym.Group([out, last]).simple_bind(mx.cpu(), x=(30, 20), s=(20,))
    executor.arg_dict["x"][:] = 1
    assert (executor.forward()[0].asnumpy() == 1).all()
    dropped = executor.forward(is_train=True)[0].asnumpy()
    assert set(np.unique(dropped)) == {0.0, 2.0}
    assert len(np.unique(dropped, axis=0)) > 1
    executor.backward([mx.nd.ones((30, 20)), mx.nd.zeros((20,))])
    np.testing.assert_array_equal(executor.grad_dict["x"].asnumpy(), dropped)


# ----- plans and workers


@pytest.mark.parametrize("name", CASES)
def test_plans_with_graphs_parse_and_pickle(name: str) -> None:
    executor = record(mx, name, symbol_of(mx, name))["executor"]
    plan = executor.plan
    assert "graphs=" in str(plan)
    assert parse(str(plan)) == plan
    assert pickle.loads(pickle.dumps(plan)) == plan


@pytest.mark.ray
@pytest.mark.usefixtures("ray_session")
@pytest.mark.parametrize("name", ["dense_steps", "loop_in_loop", "branches"])
def test_actors_give_the_bits_of_the_process(name: str) -> None:
    def grouped() -> mx.Symbol:
        # The outputs are used on the other worker, so that they and their gradients travel.
        with mx.AttrScope(ctx_group="a"):
            loop = symbol_of(mx, name)
        with mx.AttrScope(ctx_group="b"):
            return mx.sym.Group([mx.sym.tanh(out) for out in loop])

    here = record(mx, name, grouped())
    groups = {"a": mx.cpu(0), "b": mx.cpu(1)}
    there = record(mx, name, grouped(), group2ctx=groups, runtime="ray")
    with there["executor"] as executor:
        assert set(executor.plan.workers) == {"cpu:0", "cpu:1"}
    for a, b in zip(here["values"], there["values"], strict=True):
        np.testing.assert_array_equal(a, b)
    for key, grad in here["gradients"].items():
        np.testing.assert_array_equal(grad, there["gradients"][key])


# ----- what is refused


def x_and_s() -> tuple[mx.Symbol, mx.Symbol]:
    return mx.sym.Variable("x"), mx.sym.Variable("s")


def test_a_loop_that_ignores_what_it_is_given_is_refused() -> None:
    x, s = x_and_s()
    with pytest.raises(AssertionError, match="'s' is not"):
        mx.sym.contrib.foreach(lambda row, held: (row * 2, mx.sym.ones((1,))), x, s)
    with pytest.raises(ValueError, match="the 2-th of the loop_vars"):
        mx.sym.contrib.while_loop(
            lambda i, v: i < 2, lambda i, v: (i, [i + 1, mx.sym.ones((1,))]), [x, s], 3
        )


def test_states_in_another_form_are_refused() -> None:
    x, s = x_and_s()
    with pytest.raises(AssertionError, match="different format"):
        mx.sym.contrib.foreach(lambda row, held: (row, [held, row]), x, s)
    with pytest.raises(ValueError, match="loop_vars: got 1, expected 2"):
        mx.sym.contrib.while_loop(lambda i, v: i < 2, lambda i, v: (v, i + 1), [x, s], 3)
    with pytest.raises(AssertionError, match="got int, expected a Symbol"):
        mx.sym.contrib.foreach(lambda row, held: (3, held + row), x, s)


def test_loops_without_a_limit_or_a_condition_are_refused() -> None:
    x, _ = x_and_s()
    with pytest.raises(ValueError, match="max_iterations is needed"):
        mx.sym.contrib.while_loop(lambda i: i < 2, lambda i: (i, [i + 1]), [x])
    with pytest.raises(ValueError, match="got none, expected at least one"):
        mx.sym.contrib.while_loop(lambda: x, lambda: (x, []), [], 2)
    with pytest.raises(ValueError, match="cond: got True, expected a single Symbol"):
        mx.sym.contrib.while_loop(lambda i: True, lambda i: (i, [i + 1]), [x], 2)
    with pytest.raises(mx.MXNetError, match=r"_while_loop '_while_loop0': .*max_iterations"):
        mx.sym.contrib.while_loop(lambda i: i < 2, lambda i: (i, [i + 1]), [x], 0)


def test_branches_of_different_length_are_refused() -> None:
    x, s = x_and_s()
    with pytest.raises(ValueError, match="got 1 and 2, expected equal ones"):
        mx.sym.contrib.cond(s, lambda: x, lambda: [x, x * 2])
    with pytest.raises(ValueError, match="expected a single output"):
        mx.sym.contrib.cond(mx.sym.Group([x, s]), lambda: x, lambda: x)


def test_two_inputs_of_one_name_are_refused() -> None:
    x, s = x_and_s()
    with pytest.raises(AssertionError, match="don't have unique names: got x-0, x-0, s-0"):
        mx.sym.contrib.foreach(lambda rows, held: (rows[0] * rows[1], held + rows[0]), [x, x], s)


def moving() -> mx.Symbol:
    x, s = x_and_s()

    def body(row: Any, held: Any) -> Any:
        return mx.sym.BatchNorm(row, name="bn"), held + row

    return mx.sym.Group(list(mx.sym.contrib.foreach(body, x, s)))


def test_moving_averages_inside_run_but_are_not_trained() -> None:
    # MXNet 1.9.1 fails at bind as well, in a check of the sizes of its lists.
    shapes = {"x": (4, 2, 3), "s": (2, 3)}
    executor = moving().simple_bind(mx.cpu(), grad_req="null", **shapes)
    executor.arg_dict["x"][:] = 3
    executor.arg_dict["bn_moving_var"][:] = 1 - 1e-3
    assert np.allclose(executor.forward()[0].asnumpy(), 3)
    with pytest.raises(mx.MXNetError, match=r"_foreach1'.*would be lost: got BatchNorm 'bn'"):
        moving().simple_bind(mx.cpu(), **shapes).forward(is_train=True)


def test_an_error_inside_names_both_nodes() -> None:
    x, s = x_and_s()
    table = mx.sym.Variable("table")

    def body(row: Any, held: Any) -> Any:
        return mx.sym.Embedding(row, table, input_dim=5, output_dim=2, name="embed"), held + row

    net = mx.sym.Group(list(mx.sym.contrib.foreach(body, x, s)))
    executor = net.simple_bind(mx.cpu(), x=(4, 3), s=(3,))
    executor.forward(is_train=True)
    wrong = mx.sym.contrib.cond(mx.sym.Variable("p"), lambda: x, lambda: x * 2)
    with pytest.raises(mx.MXNetError, match=r"_cond '_cond0': a condition must be one number"):
        wrong.eval(p=mx.nd.ones((2,)), x=mx.nd.ones((3,)))
