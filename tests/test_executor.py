"""Running executors, row by row of what MXNet 1.9.1 does: forward, backward, states, monitors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import raysym as mx

pytestmark = pytest.mark.both_kernels

sym, nd, V, cpu = mx.sym, mx.nd, mx.sym.Variable, mx.cpu


def array(*values: float, dtype: Any = None) -> mx.nd.NDArray:
    return nd.array(list(values), dtype=dtype)


def equal(got: mx.nd.NDArray, values: Any) -> bool:
    return np.array_equal(got.asnumpy(), np.asarray(values, got.dtype))


def product(**options: Any) -> mx.Executor:
    """c = a * b of two numbers each, a = (2, 3), b = (4, 5)."""
    made = sym.elemwise_mul(V("a"), V("b"), name="c").simple_bind(cpu(), a=(2,), **options)
    made.arg_dict["a"][:] = [2, 3]
    made.arg_dict["b"][:] = [4, 5]
    return made


# ----- forward


def test_fed_arrays_are_copied_into_the_bound_ones() -> None:
    a = nd.zeros(2)
    executor = (V("a") + 1).bind(cpu(), {"a": a})
    executor.forward(a=np.array([1.0, 2.0]))
    assert equal(a, [1, 2])
    executor.forward(a=array(3, 4, dtype="int32"))
    assert equal(a, [3, 4])
    assert a.dtype == np.float32
    assert executor.arg_dict["a"] is a


def test_states_cannot_be_fed() -> None:
    executor = sym.BatchNorm(V("a"), name="bn").simple_bind(cpu(), a=(2, 3))
    with pytest.raises(TypeError, match="Unknown argument: got bn_moving_mean"):
        executor.forward(bn_moving_mean=nd.ones(3))


def test_writes_into_bound_arrays_are_seen() -> None:
    a = array(1, 2)
    executor = (V("a") + 1).bind(cpu(), [a])
    a[:] = 10
    assert equal(executor.forward()[0], [11, 11])
    a[0] = 0
    a += 1
    assert equal(executor.forward()[0], [2, 12])


def test_outputs_keep_their_storage() -> None:
    executor = (V("a") + 1).simple_bind(cpu(), a=(2,))
    assert executor.outputs[0].shape == (2,)
    first = executor.forward(a=nd.ones(2))
    second = executor.forward(a=nd.zeros(2))
    assert first is not second
    assert first[0] is not second[0]
    assert executor.outputs is second
    assert equal(first[0], [1, 1])  # the second run wrote over it
    first[0][:] = 77
    assert equal(executor.outputs[0], [77, 77])
    assert equal(executor.output_dict["_plusscalar0_output"], [77, 77])


def test_a_head_that_is_a_variable_is_the_bound_array() -> None:
    x, g = array(3), nd.zeros(1)
    executor = V("x").bind(cpu(), [x], [g])
    output = executor.forward(is_train=True)[0]
    x[:] = 9
    assert equal(output, [9])
    executor.backward(array(5))
    assert equal(g, [5])


# ----- head gradients


@pytest.mark.parametrize(
    "head",
    [
        lambda h: h, lambda h: [h], lambda h: (h,), lambda h: {"c_output": h},
        lambda h: {"c_output": h, "other": 3}, lambda h: [h, nd.ones(7)],
        lambda h: [h.astype("float64")],
    ],
)  # fmt: skip
def test_head_gradients_come_in_many_forms(head) -> None:
    executor = product()
    executor.forward(is_train=True)
    executor.backward(head(array(1, 10)))
    assert equal(executor.grad_dict["a"], [4, 50])
    assert equal(executor.grad_dict["b"], [2, 30])


LOSSES = {
    "SoftmaxOutput": lambda x: sym.SoftmaxOutput(x, V("label")),
    "LinearRegressionOutput": lambda x: sym.LinearRegressionOutput(x, V("label")),
    "LogisticRegressionOutput": lambda x: sym.LogisticRegressionOutput(x, V("label")),
    "MAERegressionOutput": lambda x: sym.MAERegressionOutput(x, V("label")),
    "SVMOutput": lambda x: sym.SVMOutput(x, V("label")),
    "MakeLoss": sym.MakeLoss,
    "make_loss": sym.make_loss,
    "BlockGrad": sym.BlockGrad,
    "argmax": lambda x: sym.argmax(x, axis=1),
    "greater": lambda x: x > 0.5,
    "round": sym.round,
    "zeros_like": sym.zeros_like,
}


@pytest.mark.parametrize("name", LOSSES)
def test_losses_and_constants_need_no_head_gradient(name: str) -> None:
    executor = LOSSES[name](V("x")).simple_bind(cpu(), x=(2, 3))
    executor.forward(is_train=True)
    executor.backward()
    assert np.isfinite(executor.grad_dict["x"].asnumpy()).all()


@pytest.mark.parametrize(
    "make",
    [
        lambda x: x, sym.sum, lambda x: sym.smooth_l1(x, scalar=1),
        lambda x: sym.softmax_cross_entropy(x, V("label")),
    ],
)  # fmt: skip
def test_everything_else_needs_one(make) -> None:
    requests = {"x": "write"}
    executor = make(V("x")).simple_bind(cpu(), grad_req=requests, x=(2, 3))
    executor.forward(is_train=True)
    with pytest.raises(mx.MXNetError, match="head gradient required for output 0"):
        executor.backward()


def test_head_gradients_are_needed_by_position() -> None:
    loss = sym.SoftmaxOutput(V("d"), name="s")
    dense = sym.FullyConnected(V("x"), num_hidden=1, no_bias=True, name="f")
    executor = sym.Group([loss, dense]).simple_bind(cpu(), d=(2, 3), x=(2, 2))
    executor.forward(is_train=True, x=nd.ones((2, 2)))
    with pytest.raises(mx.MXNetError, match="required for output 1, 'f_output'"):
        executor.backward([nd.ones((2, 3))])
    executor.backward([nd.ones(7), nd.ones((2, 1))])  # what stands for a loss is not looked at
    assert equal(executor.grad_dict["f_weight"], [[2, 2]])


def test_a_head_is_needed_only_for_gradients_that_depend_on_it() -> None:
    group = sym.Group([sym.exp(V("a")), sym.MakeLoss(V("b"))])
    executor = group.simple_bind(cpu(), grad_req={"b": "write"}, a=(2,), b=(2,))
    executor.forward(is_train=True)
    executor.backward()
    assert equal(executor.grad_dict["b"], [1, 1])


def test_a_loss_in_the_middle_ignores_what_comes_from_above() -> None:
    executor = (sym.make_loss(V("x") * 3) * 2).simple_bind(cpu(), x=(2,))
    executor.forward(is_train=True)
    executor.backward(array(5, 5))
    assert equal(executor.grad_dict["x"], [3, 3])


def test_heads_of_one_value_add_up() -> None:
    x = V("x")
    b = x + 1
    executor = sym.Group([b, x + 1, x, b]).simple_bind(cpu(), x=(1,))
    executor.forward(is_train=True)
    executor.backward([array(1), array(2), array(4), array(8)])
    assert equal(executor.grad_dict["x"], [15])


# ----- what is asked for


def test_write_add_and_null() -> None:
    executor = product(grad_req={"a": "add"})
    assert executor.grad_dict["b"] is None
    executor.grad_dict["a"][:] = 10
    executor.forward(is_train=True)
    for _ in range(2):
        executor.backward(nd.ones(2))
    assert equal(executor.grad_dict["a"], [18, 20])
    executor = product(grad_req="write")
    executor.grad_dict["a"][:] = 10
    executor.forward(is_train=True)
    for _ in range(2):
        executor.backward(nd.ones(2))
    assert equal(executor.grad_dict["a"], [4, 5])


def test_uses_are_summed_before_they_are_added() -> None:
    x = V("x")
    executor = (x * x + x).simple_bind(cpu(), x=(2,), grad_req="add")
    executor.forward(is_train=True, x=array(2, 3))
    executor.backward(nd.ones(2))
    executor.backward(nd.ones(2))
    assert equal(executor.grad_dict["x"], [10, 14])


@pytest.mark.parametrize(("request_", "left"), [("write", [0]), ("add", [7])])
def test_an_argument_behind_a_block_gets_zeros(request_: str, left: list) -> None:
    g = array(7)
    executor = sym.BlockGrad(V("x") * 2).bind(cpu(), [array(3)], [g], grad_req=request_)
    executor.forward(is_train=True)
    executor.backward()
    assert equal(g, left)


def test_gradients_of_labels_are_left_alone() -> None:
    executor = sym.SoftmaxOutput(V("d"), name="s").simple_bind(cpu(), d=(2, 3))
    executor.grad_dict["s_label"][:] = 5
    executor.forward(is_train=True)
    executor.backward()
    assert equal(executor.grad_dict["s_label"], [5, 5])
    np.testing.assert_allclose(executor.grad_dict["d"].asnumpy()[0], [-2 / 3, 1 / 3, 1 / 3], 1e-6)


def test_nothing_asked_for_is_nothing_done() -> None:
    executor = product(grad_req="null")
    executor.forward(is_train=True)
    executor.backward()
    assert executor.grad_arrays == [None, None]


def test_an_op_without_gradient_is_refused_only_when_it_matters() -> None:
    top = sym.argmax_channel(V("a"), name="top")
    with pytest.raises(mx.MXNetError, match="argmax_channel 'top'"):
        top.simple_bind(cpu(), a=(2, 3))
    assert equal(top.simple_bind(cpu(), a=(2, 3), grad_req="null").forward()[0], [0, 0])


# ----- forward and backward together


def test_backward_reads_what_bound_arrays_hold_now() -> None:
    x, g = array(2), nd.zeros(1)
    square = V("x")
    executor = (square * square).bind(cpu(), [x], [g])
    executor.forward(is_train=True)
    x[:] = 50
    executor.backward(array(1))
    assert equal(g, [100])


def test_backward_reads_saved_outputs_as_they_were() -> None:
    x, g = array(0), nd.zeros(1)
    executor = sym.exp(V("x")).bind(cpu(), [x], [g])
    executor.forward(is_train=True)
    x[:] = 50
    executor.backward(array(1))
    assert equal(g, [1])


def test_backward_without_forward() -> None:
    executor = (V("x") * 2).simple_bind(cpu(), x=(2,))
    executor.backward(array(5, 5))
    assert equal(executor.grad_dict["x"], [10, 10])


def test_backward_after_inference() -> None:
    executor = sym.Dropout(V("x") * 2, p=0.5).simple_bind(cpu(), x=(100,))
    executor.forward(is_train=False, x=nd.ones(100))
    executor.backward(nd.ones(100))
    assert equal(executor.outputs[0], np.full(100, 2))
    assert equal(executor.grad_dict["x"], np.full(100, 2))


def test_dropout_reuses_its_mask() -> None:
    executor = sym.Dropout(V("x"), p=0.5).simple_bind(cpu(), x=(1000,))
    first = executor.forward(is_train=True, x=nd.ones(1000))[0].asnumpy()
    for is_train in (False, True):
        executor.backward(nd.ones(1000), is_train=is_train)
        assert equal(executor.grad_dict["x"], first)
    assert set(np.unique(first)) == {0, 2}
    assert not equal(executor.forward(is_train=True)[0], first)


def test_a_seed_repeats_the_masks() -> None:
    executor = sym.Dropout(V("x"), p=0.5).simple_bind(cpu(), x=(1000,))
    masks = []
    for _ in range(2):
        mx.random.seed(7)
        masks.append(executor.forward(is_train=True, x=nd.ones(1000))[0].asnumpy())
    np.testing.assert_array_equal(*masks)


# ----- auxiliary states


def batch_norm(grad_req: Any = "write", **params: Any) -> mx.Executor:
    """BatchNorm of 1, 2, 3, 4 with states 0 and 1."""
    bn = sym.BatchNorm(V("a"), name="bn", **params)
    executor = (bn + V("q")).simple_bind(cpu(), a=(4, 1), grad_req=grad_req)
    executor.aux_dict["bn_moving_var"][:] = 1
    executor.arg_dict["bn_gamma"][:] = 5
    executor.forward(is_train=True, a=nd.array([[1], [2], [3], [4]]))
    return executor


def states(executor: mx.Executor) -> list[float]:
    return [round(float(a.asscalar()), 6) for a in executor.aux_arrays]


def test_states_move_once_per_backward() -> None:
    executor = batch_norm()
    executor.forward(is_train=True)
    assert states(executor) == [0, 1]
    executor.backward(nd.ones((4, 1)))
    assert states(executor) == [0.25, 1.025]  # of the biased variance
    executor.forward(is_train=False)
    assert states(executor) == [0.25, 1.025]
    executor.forward(is_train=True)
    executor.backward(nd.ones((4, 1)))
    executor.backward(nd.ones((4, 1)))
    assert states(executor) == [0.6775, 1.06775]


@pytest.mark.parametrize(
    ("grad_req", "moved"), [("null", False), ({"q": "write"}, False), ({"bn_beta": "write"}, True)]
)
def test_states_move_where_a_gradient_passes(grad_req: Any, moved: bool) -> None:
    executor = batch_norm(grad_req)
    executor.backward(nd.ones((4, 1)))
    assert states(executor) == ([0.25, 1.025] if moved else [0, 1])


def test_global_statistics_do_not_move() -> None:
    executor = batch_norm(use_global_stats=True)
    executor.backward(nd.ones((4, 1)))
    assert states(executor) == [0, 1]


@pytest.mark.parametrize("is_train", [True, False])
def test_a_fixed_gamma_is_written_and_not_trained(is_train: bool) -> None:
    executor = batch_norm()
    executor.arg_dict["bn_gamma"][:] = 5
    executor.forward(is_train=is_train)
    assert equal(executor.arg_dict["bn_gamma"], [1])
    executor.backward(nd.ones((4, 1)))
    assert equal(executor.grad_dict["bn_gamma"], [0])


def test_a_free_gamma_is_left_alone() -> None:
    executor = batch_norm(fix_gamma=False)
    executor.backward(nd.array([[1], [0], [0], [0]]))
    assert equal(executor.arg_dict["bn_gamma"], [5])
    assert executor.grad_dict["bn_gamma"].asscalar() < -1
