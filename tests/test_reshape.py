"""Executor.reshape and copy_params_from, and devices by group. As MXNet 1.9.1."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import raysym as mx

sym, nd, V, cpu = mx.sym, mx.nd, mx.sym.Variable, mx.cpu


def total() -> mx.Executor:
    return (V("a") + V("b")).simple_bind(cpu(), a=(4, 3))


def dense() -> mx.Executor:
    return sym.FullyConnected(V("a"), num_hidden=2, name="fc").simple_bind(cpu(), a=(4, 3))


def equal(got: mx.nd.NDArray, values: Any) -> bool:
    return np.array_equal(got.asnumpy(), np.asarray(values, got.dtype))


# ----- reshape


def test_memory_is_shared() -> None:
    old = total()
    old.arg_dict["b"][:] = 3
    new = old.reshape(a=(2, 3), b=(2, 3))
    new.arg_dict["b"][:] = 4
    assert equal(old.arg_dict["b"], [[4] * 3, [4] * 3, [3] * 3, [3] * 3])
    assert new.outputs[0].shape == new.grad_dict["a"].shape == (2, 3)


def test_weights_stay_the_same_arrays() -> None:
    old = dense()
    new = old.reshape(a=(2, 3))
    old.arg_dict["fc_weight"][:] = 5
    assert equal(new.forward(a=nd.ones((2, 3)))[0], np.full((2, 2), 15))
    new.forward(is_train=True)
    new.backward(nd.ones((2, 2)))
    assert equal(old.grad_dict["fc_weight"], np.full((2, 3), 2))
    assert old.forward()[0].shape == (4, 2)


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        ({"a": (2, 3)}, r"Variable 'b': reshape: the shape changes but was not given"),
        ({"a": (5, 3), "b": (5, 3)}, r"Variable 'a': reshape: the array grows.*allow_up_sizing"),
        ({}, "no shapes were given"),
        ({"a": [2, 3]}, "no shapes were given"),
        ({"other": (2, 3)}, "cannot decide shapes"),
        ({"a": (2, 3), "b": (3, 2)}, "_plus0"),
    ],
)
def test_what_does_not_fit_is_refused(shapes: dict, words: str) -> None:
    with pytest.raises(mx.MXNetError, match=words):
        total().reshape(**shapes)


def test_partial_shaping_follows() -> None:
    new = total().reshape(partial_shaping=True, a=(2, 3))
    assert new.arg_dict["b"].shape == (2, 3)
    narrow = dense().reshape(partial_shaping=True, a=(4, 2))
    assert narrow.arg_dict["fc_weight"].shape == (2, 2)


def test_up_sizing_allocates_anew() -> None:
    old = total()
    old.arg_dict["a"][:] = 3
    new = old.reshape(partial_shaping=True, allow_up_sizing=True, a=(5, 3))
    new.arg_dict["a"][:] = 1
    assert equal(old.arg_dict["a"], np.full((4, 3), 3))
    assert new.grad_dict["b"].shape == (5, 3)


def test_other_shapes_of_the_same_size() -> None:
    new = total().reshape(a=(3, 4), b=(3, 4), other=(7,))
    assert new.forward(a=nd.ones((3, 4)))[0].shape == (3, 4)


def test_executors_without_gradients_keep_having_none() -> None:
    args = {"a": nd.ones((4, 3)), "b": nd.ones((4, 3))}
    assert (V("a") + V("b")).bind(cpu(), args).reshape(a=(2, 3), b=(2, 3)).grad_arrays is None


def test_a_monitor_moves_along() -> None:
    seen: list[bytes] = []
    old = total()
    old.set_monitor_callback(lambda name, value: seen.append(name))
    old.reshape(a=(2, 3), b=(2, 3)).forward()
    assert seen == [b"_plus0_output"]


def test_states_are_shared() -> None:
    old = sym.BatchNorm(V("a"), name="bn").simple_bind(cpu(), a=(4, 3))
    new = old.reshape(a=(2, 3))
    old.aux_dict["bn_moving_mean"][:] = 6
    assert equal(new.aux_dict["bn_moving_mean"], [6, 6, 6])


# ----- copy_params_from


def test_parameters_are_copied_and_cast() -> None:
    executor = sym.BatchNorm(V("a"), name="bn").simple_bind(cpu(), a=(2, 2))
    given = nd.array([1, 2], dtype="float64")
    executor.copy_params_from({"bn_beta": given}, {"bn_moving_var": nd.ones(2)})
    given[:] = 9
    assert equal(executor.arg_dict["bn_beta"], [1, 2])
    assert equal(executor.aux_dict["bn_moving_var"], [1, 1])


@pytest.mark.parametrize("given", [({"x": nd.ones(2)},), ({}, {"x": nd.ones(2)})])
def test_unknown_names_are_refused_unless_allowed(given: tuple) -> None:
    with pytest.raises(ValueError, match="copy_params_from: unknown name: got x"):
        total().copy_params_from(*given)
    total().copy_params_from(*given, allow_extra_params=True)


def test_other_values_are_refused() -> None:
    with pytest.raises(mx.MXNetError, match=r"Variable 'a': .*got \(3,\), expected \(4, 3\)"):
        total().copy_params_from({"a": nd.ones(3)})
    with pytest.raises(AttributeError):
        total().copy_params_from({"a": np.ones((4, 3))})


# ----- devices by group


def two_groups() -> mx.Symbol:
    with mx.AttrScope(ctx_group="one"):
        x = V("a") + 1
    with mx.AttrScope(ctx_group="two"):
        return x * 2


GROUPS = {"one": cpu(1), "two": cpu(2)}


def test_values_live_where_their_group_does() -> None:
    executor = two_groups().simple_bind(cpu(), group2ctx=GROUPS, a=(2,))
    executor.forward(is_train=True, a=nd.array([1, 2]))
    executor.backward(nd.ones(2, ctx=cpu(2)))
    assert equal(executor.outputs[0], [4, 6])
    assert equal(executor.grad_dict["a"], [2, 2])
    arrays = (executor.outputs[0], executor.arg_dict["a"], executor.grad_dict["a"])
    assert [x.context for x in arrays] == [cpu(2), cpu(1), cpu(1)]
    assert executor.plan.workers == ("cpu:1", "cpu:2")


def test_a_node_without_group_follows_its_first_input() -> None:
    with mx.AttrScope(ctx_group="one"):
        x = V("a") + 1
    executor = (x * V("b")).simple_bind(cpu(), group2ctx=GROUPS, a=(2,))
    assert executor.outputs[0].context == cpu(1)
    assert executor.arg_dict["b"].context == cpu(0)


def test_bound_arrays_decide_where_variables_are() -> None:
    with mx.AttrScope(ctx_group="one"):
        x = V("a") + 1
    arrays = {"a": nd.ones(2, ctx=cpu(3)), "b": nd.ones(2, ctx=cpu(0))}
    grads = {name: nd.zeros(2, ctx=x.context) for name, x in arrays.items()}
    executor = (V("b") * x).bind(cpu(), arrays, grads, group2ctx={"one": cpu(1)})
    assert executor.outputs[0].context == cpu(0)
    assert executor.plan.workers == ("cpu:0", "cpu:1", "cpu:3")
    executor.forward(is_train=True)
    executor.backward(nd.ones(2))
    assert equal(grads["b"], [2, 2])
    assert equal(grads["a"], [1, 1])


def test_without_groups_tags_mean_nothing() -> None:
    for group2ctx in ({}, None):
        executor = two_groups().simple_bind(cpu(4), group2ctx=group2ctx, a=(2,))
        assert executor.outputs[0].context == cpu(4)
        assert executor.plan.workers == ("cpu:4",)
