"""What programs written for MXNet 1.9.1 came upon: one test for each difference that was found."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest

import raysym as mx

sym, nd, V, cpu = mx.sym, mx.nd, mx.sym.Variable, mx.cpu


def trained(symbol: Any, *heads: Any, grad_req: Any = "write", **shapes: Any) -> mx.Executor:
    """An executor after one step on data 0, 1, 2, ...; all other arguments are 1."""
    executor = symbol.simple_bind(cpu(), grad_req=grad_req, **shapes)
    for name, array in executor.arg_dict.items():
        array[:] = np.arange(array.size).reshape(array.shape) if name == "x" else 1
    executor.forward(is_train=True)
    executor.backward(list(heads) or None)
    return executor


# ----- losses and states behind operators that pass no gradient


def softmax() -> Any:
    return sym.SoftmaxOutput(V("x"), name="softmax")


@pytest.mark.parametrize(
    "watch",
    [
        sym.BlockGrad,
        lambda loss: sym.argmax(loss, axis=1),
        lambda loss: loss > 0.5,
        sym.ones_like,
        lambda loss: sym.BlockGrad(sym.exp(loss)),
        sym.shape_array,
    ],
)
def test_a_loss_is_trained_wherever_it_stands(watch: Any) -> None:
    expected = trained(softmax(), x=(2, 3)).grad_dict["x"].asnumpy()
    watched = trained(watch(softmax()), x=(2, 3)).grad_dict["x"].asnumpy()
    assert np.abs(expected).max() > 0.1
    np.testing.assert_array_equal(watched, expected)


def test_a_loss_beneath_the_label_of_another_is_trained() -> None:
    x = V("x")
    net = sym.LinearRegressionOutput(sym.BlockGrad(x), sym.MakeLoss(x))
    np.testing.assert_array_equal(trained(net, x=(2, 3)).grad_dict["x"].asnumpy(), 1)


def moved(executor: mx.Executor) -> bool:
    return bool((executor.aux_dict["bn_moving_mean"].asnumpy() != 0).any())


@pytest.mark.parametrize("watch", [sym.BlockGrad, lambda y: sym.argmax(y, axis=1), sym.zeros_like])
def test_moving_averages_follow_though_no_gradient_comes(watch: Any) -> None:
    assert moved(trained(watch(sym.BatchNorm(V("x"), name="bn")), x=(4, 2)))


def test_moving_averages_stay_where_no_wanted_gradient_lies_beneath() -> None:
    normalized = sym.BatchNorm(sym.BlockGrad(V("x")), name="bn")
    head = nd.ones((4, 2))
    assert not moved(trained(normalized, head, grad_req={"x": "write"}, x=(4, 2)))
    assert moved(trained(normalized, head, grad_req={"bn_beta": "write"}, x=(4, 2)))


@pytest.mark.parametrize(
    ("shape", "count"), [((8,), 1), ((1,), 1), ((2, 3), 2), ((2, 3, 4), 6), ((2, 3, 4, 5), 24)]
)
def test_makeloss_divides_by_all_axes_but_the_last(shape: tuple[int, ...], count: int) -> None:
    net = sym.MakeLoss(V("x"), normalization="batch", grad_scale=2)
    gradient = trained(net, x=shape).grad_dict["x"].asnumpy()
    np.testing.assert_allclose(gradient, np.full(shape, 2 / count), rtol=1e-6)


def test_a_head_that_is_there_twice_counts_twice() -> None:
    head = V("x") * 3
    executor = trained(sym.Group([head, head]), nd.ones((2,)), nd.ones((2,)) * 10, x=(2,))
    np.testing.assert_array_equal(executor.grad_dict["x"].asnumpy(), 33)


# ----- random symbols


def test_a_multinomial_symbol_tells_the_probabilities_as_well() -> None:
    draws = sym.random.multinomial(V("p"), shape=5, name="m")
    assert draws.list_outputs() == ["m_output0", "m_output1"]
    assert sym.random.multinomial(V("p"), get_prob=False, name="m").list_outputs() == ["m_output"]
    indices, logs = draws.eval(p=nd.array([0, 1, 0]))
    assert indices.asnumpy().tolist() == [1] * 5
    np.testing.assert_allclose(logs.asnumpy(), 0, atol=1e-6)


def test_random_parameters_are_of_one_kind() -> None:
    for first, second, refused in [(V("a"), 1, AssertionError), (1, V("a"), AssertionError)]:
        with pytest.raises(refused, match="only numbers or only symbols"):
            sym.random.normal(first, second)
    with pytest.raises(ValueError, match="only numbers or only symbols"):
        sym.random.normal("a", 1)
    with pytest.raises(ValueError, match="only numbers or only NDArrays"):
        nd.random.normal("a", 1)
    with pytest.raises(AssertionError, match="only numbers or only NDArrays"):
        nd.random.normal(nd.ones((2,)), 1)


# ----- binding


def test_a_shared_buffer_holds_no_parameters() -> None:
    net = sym.FullyConnected(V("x"), num_hidden=2, name="fc")
    own = ["fc_weight", "fc_bias"]
    buffer: dict[str, mx.NDArray] = {}
    first = net.simple_bind(cpu(), x=(4, 3), shared_buffer=buffer, shared_arg_names=own)
    assert sorted(buffer) == ["grad of x", "x"]
    again = {"shared_exec": first, "shared_buffer": buffer, "shared_arg_names": own}
    second = net.simple_bind(cpu(), x=(2, 3), **again)
    first.arg_dict["fc_weight"][:] = 7
    np.testing.assert_array_equal(second.arg_dict["fc_weight"].asnumpy(), 7)
    alone = net.simple_bind(cpu(), x=(4, 3), shared_buffer=buffer, shared_arg_names=own)
    np.testing.assert_array_equal(alone.arg_dict["fc_weight"].asnumpy(), 0)


@pytest.mark.parametrize("text", ["abc", "(2,", "(1, 'a')", ""])
def test_a_shape_attribute_that_is_none_is_refused_by_name(text: str) -> None:
    with pytest.raises(mx.MXNetError, match=r"Variable 'v': invalid attribute __shape__"):
        (V("v", shape=text) * 2).infer_shape()


# ----- symbols


@pytest.mark.parametrize("name", [3, b"x", ["q"]])
def test_a_composed_symbol_takes_only_text_for_a_name(name: Any) -> None:
    with pytest.raises(TypeError, match="expected a string"):
        (V("a") * 2)(name=name)


def test_an_initializer_must_dump_text() -> None:
    with pytest.raises(ValueError, match="only accepts string values"):
        V("v", init=np.float32(2))


def test_one_node_without_inputs_is_listed_in_one_line() -> None:
    assert V("a").debug_str() == "Variable:a\n"
    assert sym.zeros((2,)).debug_str() == "AtomicFunctor  Op:_zeros\n"


def test_errors_are_found_where_mxnet_has_them() -> None:
    assert mx.base.MXNetError is mx.MXNetError
    assert mx.base.NotImplementedForSymbol is mx.NotImplementedForSymbol


# ----- executors that nobody closes, as MXNet's programs leave them


def two_workers(x: float) -> mx.Executor:
    net = sym.exp(V("x")) * 2
    executor = net.simple_bind(cpu(), x=(2, 3), cluster=2)
    executor.arg_dict["x"][:] = x
    executor.forward(is_train=True)
    return executor


def is_gone(actor: Any) -> bool:
    from ray.exceptions import GetTimeoutError, RayActorError

    try:
        importlib.import_module("ray").get(actor.process.remote(), timeout=60)
    except RayActorError:
        return True
    except GetTimeoutError:
        return False
    return False


@pytest.mark.ray
@pytest.mark.usefixtures("ray_session")
def test_a_dropped_executor_gives_its_workers_back_when_the_next_is_bound() -> None:
    first = two_workers(1)
    actors = [*first._session.runtime._actors.values()]
    del first
    with two_workers(2) as second:
        assert [is_gone(actor) for actor in actors] == [True, True]
        np.testing.assert_allclose(second.outputs[0].asnumpy(), 2 * np.exp(2), rtol=1e-6)


@pytest.mark.ray
@pytest.mark.usefixtures("ray_session")
def test_an_array_keeps_the_workers_it_still_has_to_come_from() -> None:
    [kept] = two_workers(1).outputs
    with two_workers(2):
        np.testing.assert_allclose(kept.asnumpy(), 2 * np.exp(1), rtol=1e-6)
    del kept
    two_workers(3).close()  # ends the workers of the first as well
