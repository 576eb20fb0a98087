"""Binding: lists and dicts, requests, allocation, sharing; as in MXNet 1.9.1."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

import raysym as mx

sym, nd, V, cpu = mx.sym, mx.nd, mx.sym.Variable, mx.cpu


def product() -> mx.Symbol:
    return sym.elemwise_mul(V("a"), V("b"), name="c")


def dense() -> mx.Symbol:
    return sym.FullyConnected(V("a"), num_hidden=2, name="fc")


def equal(got: mx.nd.NDArray, values: Any) -> bool:
    return np.array_equal(got.asnumpy(), np.asarray(values, got.dtype))


def pair() -> list[mx.nd.NDArray]:
    return [nd.array([2, 3]), nd.array([4, 5])]


# ----- bind


def test_lists_and_dicts_are_aliased() -> None:
    a, b = pair()
    by_list = product().bind(cpu(), [a, b])
    by_dict = product().bind(cpu(), {"b": b, "a": a, "other": 3})
    for executor in (by_list, by_dict):
        assert executor.arg_arrays[0] is a
        assert executor.arg_dict == {"a": a, "b": b}
        assert executor.aux_arrays == []
        assert equal(executor.forward()[0], [8, 15])


def test_without_gradient_arrays_there_are_none() -> None:
    executor = product().bind(cpu(), pair())
    assert executor.grad_arrays is None
    with pytest.raises(TypeError, match="bind with args_grad"):
        executor.grad_dict  # noqa: B018
    executor.forward(is_train=True)
    executor.backward(nd.ones(2))


@pytest.mark.parametrize("grads", [lambda g: {"a": g}, lambda g: [g, None]])
def test_gradient_arrays_may_be_partial(grads: Any) -> None:
    g = nd.zeros(2)
    executor = product().bind(cpu(), pair(), grads(g))
    executor.forward(is_train=True)
    executor.backward(nd.ones(2))
    assert executor.grad_arrays[0] is g
    assert executor.grad_dict == {"a": g, "b": None}
    assert equal(g, [4, 5])


@pytest.mark.parametrize(
    ("grad_req", "wanted"),
    [
        ("write", [[4, 5], [2, 3]]), (["null", "write"], [[0, 0], [2, 3]]),
        ({"a": "write"}, [[4, 5], [0, 0]]), ({"other": "add"}, [[0, 0], [0, 0]]),
    ],
)  # fmt: skip
def test_requests_come_in_three_forms(grad_req: Any, wanted: list) -> None:
    grads = [nd.zeros(2), nd.zeros(2)]
    executor = product().bind(cpu(), pair(), grads, grad_req=grad_req)
    executor.forward(is_train=True)
    executor.backward(nd.ones(2))
    assert [g.asnumpy().tolist() for g in grads] == wanted


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"grad_req": ["foo", "write"]}, KeyError), ({"grad_req": {"a": "foo"}}, KeyError),
        ({"grad_req": ["write"]}, ValueError), ({"grad_req": None}, TypeError),
        ({"grad_req": ("write", "write")}, TypeError), ({"args_grad": [None]}, ValueError),
        ({"args_grad": (None, None)}, TypeError), ({"args_grad": {"a": np.zeros(2)}}, TypeError),
        ({"args_grad": [nd.zeros(2), nd.zeros(3)]}, mx.MXNetError),
        ({"args_grad": {"a": nd.zeros(2, dtype="float64")}}, mx.MXNetError),
        ({"aux_states": [nd.zeros(2)]}, ValueError), ({"placement": 3}, TypeError),
        ({"group2ctx": {"g": 3}}, TypeError),
    ],
)  # fmt: skip
def test_bad_arguments_are_refused(options: dict, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"bind|grad_req"):
        product().bind(cpu(), pair(), **options)


@pytest.mark.parametrize(
    "other",
    [nd.ones(3), nd.ones(2, dtype="float64"), nd.ones((2, 1)), nd.ones(2, ctx=cpu(1))],
)
def test_arrays_must_fit_the_graph_and_the_context(other: mx.nd.NDArray) -> None:
    with pytest.raises(mx.MXNetError, match=r"elemwise_mul 'c'|'b' is on cpu\(1\)"):
        product().bind(cpu(), [nd.ones(2), other])


def test_states_must_be_given() -> None:
    bn = sym.BatchNorm(V("a"), name="bn")
    args = [nd.ones((2, 3)), nd.ones(3), nd.ones(3)]
    mean, var = nd.zeros(3), nd.ones(3)
    for given in (None, [mean], {"bn_moving_mean": mean}):
        with pytest.raises(ValueError, match="aux_states"):
            bn.bind(cpu(), args, aux_states=given)
    for states in ([mean, var], {"bn_moving_var": var, "bn_moving_mean": mean}):
        assert bn.bind(cpu(), args, aux_states=states).aux_dict == {
            "bn_moving_mean": mean, "bn_moving_var": var,
        }  # fmt: skip


def test_one_array_for_two_arguments() -> None:
    x, ga, gb = nd.array([3]), nd.zeros(1), nd.zeros(1)
    a = V("a")
    executor = (a * V("b") * a).bind(cpu(), [x, x], [ga, gb])
    executor.forward(is_train=True)
    executor.backward(nd.ones(1))
    assert (equal(ga, [18]), equal(gb, [9])) == (True, True)


def test_two_arguments_of_one_name() -> None:
    square = V("a") * V("a")
    both = square.bind(cpu(), {"a": nd.array([3])}, {"a": nd.zeros(1)})
    both.forward(is_train=True)
    both.backward(nd.ones(1))
    assert equal(both.outputs[0], [9])
    with pytest.raises(ValueError, match="Duplicate names"):
        both.arg_dict  # noqa: B018
    assert equal(square.bind(cpu(), [nd.array([3]), nd.array([4])]).forward()[0], [12])


def test_changing_a_dict_does_not_rebind() -> None:
    executor = (V("a") + 1).simple_bind(cpu(), a=(2,))
    executor.arg_dict["a"] = nd.ones(2)
    assert equal(executor.forward()[0], [1, 1])


# ----- simple_bind


def test_arrays_are_allocated_and_zero() -> None:
    executor = sym.BatchNorm(dense(), name="bn").simple_bind(cpu(), a=(4, 3))
    assert {name: x.shape for name, x in executor.arg_dict.items()} == {
        "a": (4, 3), "fc_weight": (2, 3), "fc_bias": (2,), "bn_gamma": (2,), "bn_beta": (2,),
    }  # fmt: skip
    assert {name: g.shape for name, g in executor.grad_dict.items()} == {
        name: x.shape for name, x in executor.arg_dict.items()
    }
    arrays = [*executor.arg_arrays, *executor.grad_arrays, *executor.aux_arrays]
    assert not any(x.asnumpy().any() for x in arrays)


def assert_in_a_row(arrays: Iterable[mx.nd.NDArray]) -> None:
    """Each array begins in the first line of the cache after the one before."""
    memory = [array.chunk.data for array in arrays]
    found = [(data.ctypes.data, data.nbytes) for data in memory]
    assert len(found) > 1
    assert all(start % 64 == 0 for start, _ in found)
    for (start, nbytes), (following, _) in pairwise(found):
        assert 0 <= following - (start + nbytes) < 64


def test_arrays_of_a_kind_lie_in_one_row() -> None:
    net = sym.BatchNorm(sym.FullyConnected(V("data"), num_hidden=7))
    options = {"optimizer": ("adam_update", {"lr": 0.1})}
    executor = net.simple_bind(cpu(), data=(4, 5), **options)
    assert_in_a_row(executor.arg_arrays)
    assert_in_a_row(executor.grad_arrays)
    assert_in_a_row(executor.aux_arrays)
    assert_in_a_row(executor.state_dict.values())


def test_other_keywords_are_ignored() -> None:
    executor = product().simple_bind(cpu(), a=[2, 3], b=(2, 3), other=(4,))
    assert executor.arg_dict["a"].shape == (2, 3)


@pytest.mark.parametrize(("given", "some"), [(None, []), ("null", []), ({"a": "add"}, ["a"])])
def test_null_requests_get_no_array(given: Any, some: list) -> None:
    executor = product().simple_bind(cpu(), grad_req=given, a=(2,))
    assert [name for name, g in executor.grad_dict.items() if g is not None] == some


@pytest.mark.parametrize("given", [["write"], [], {}, ["foo", "foo"], {"a": "foo"}, "foo"])
def test_bad_requests_are_runtime_errors(given: Any) -> None:
    with pytest.raises(RuntimeError, match=r"simple_bind: .*grad_req"):
        product().simple_bind(cpu(), grad_req=given, a=(2,))


def test_dtypes_are_float32_unless_something_else_is_said() -> None:
    def dtypes(symbol: mx.Symbol, **options: Any) -> list[str]:
        executor = symbol.simple_bind(cpu(), a=(2,), **options)
        return [np.dtype(x.dtype).name for x in executor.arg_arrays]

    assert dtypes(product()) == ["float32", "float32"]
    assert dtypes(product(), type_dict={"a": "float64"}) == ["float64", "float64"]
    mixed = sym.Cast(V("a"), dtype="float16") * V("b")
    assert dtypes(mixed, type_dict={"a": "float32"}) == ["float32", "float16"]
    with pytest.raises(RuntimeError, match="elemwise_mul"):
        dtypes(mixed)  # b is taken for float32
    assert dtypes(sym.Cast(V("a"), dtype="float16") * V("b", dtype="float16")) == [
        "float32", "float16",
    ]  # fmt: skip


def test_a_misspelt_name_is_pointed_at() -> None:
    with pytest.raises(mx.MXNetError, match="'aa' is no argument"):
        sym.exp(V("a"), name="e").simple_bind(cpu(), aa=(2, 3))


# ----- sharing


def test_shared_arguments_need_a_buffer() -> None:
    first = dense().simple_bind(cpu(), a=(2, 3))
    names = ["fc_weight"]
    apart = dense().simple_bind(cpu(), a=(2, 3), shared_exec=first, shared_arg_names=names)
    shared = dense().simple_bind(
        cpu(), a=(2, 3), shared_exec=first, shared_arg_names=names, shared_buffer={}
    )
    first.arg_dict["fc_weight"][:] = 7
    first.grad_dict["fc_weight"][:] = 8
    first.arg_dict["fc_bias"][:] = 9
    assert not apart.arg_dict["fc_weight"].asnumpy().any()
    assert equal(shared.arg_dict["fc_weight"], np.full((2, 3), 7))
    assert equal(shared.grad_dict["fc_weight"], np.full((2, 3), 8))
    assert not shared.arg_dict["fc_bias"].asnumpy().any()


def test_states_are_shared_with_a_buffer() -> None:
    bn = sym.BatchNorm(V("a"), name="bn")
    first = bn.simple_bind(cpu(), a=(2, 3))
    second = bn.simple_bind(cpu(), a=(5, 3), shared_exec=first, shared_buffer={})
    first.aux_dict["bn_moving_mean"][:] = 4
    assert equal(second.aux_dict["bn_moving_mean"], [4, 4, 4])


def test_a_buffer_lends_what_has_room() -> None:
    buffer: dict[str, mx.nd.NDArray] = {}
    large = dense().simple_bind(cpu(), a=(4, 3), shared_buffer=buffer)
    assert sorted(buffer) == [
        "a", "fc_bias", "fc_weight", "grad of a", "grad of fc_bias", "grad of fc_weight",
    ]  # fmt: skip
    small = dense().simple_bind(cpu(), a=(2, 3), shared_buffer=buffer)
    large.arg_dict["a"][:] = 5
    assert equal(small.arg_dict["a"], np.full((2, 3), 5))
    with (
        pytest.warns(UserWarning, match="'a'.*has no room"),
        pytest.warns(UserWarning, match="grad"),
    ):
        larger = dense().simple_bind(cpu(), a=(8, 3), shared_buffer=buffer)
    assert buffer["a"].shape == (8, 3)
    assert not larger.arg_dict["a"].asnumpy().any()


def test_shared_names_must_be_a_list() -> None:
    with pytest.raises(ValueError, match="shared_arg_names: got 'a', expected a list"):
        product().simple_bind(cpu(), a=(2,), shared_arg_names="a")


def test_shared_arrays_must_fit() -> None:
    first = dense().simple_bind(cpu(), a=(2, 3))
    with pytest.raises(mx.MXNetError, match="shared array 'a' does not fit"):
        dense().simple_bind(
            cpu(), a=(4, 3), shared_exec=first, shared_arg_names=["a"], shared_buffer={}
        )
