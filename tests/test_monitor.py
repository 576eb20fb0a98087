"""Looking inside an executor: monitors, and what it says of itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import raysym as mx

sym, nd, V, cpu = mx.sym, mx.nd, mx.sym.Variable, mx.cpu


def names_seen(executor: mx.Executor, monitor_all: bool, *head: mx.nd.NDArray) -> list[str]:
    seen: list[tuple[bytes, Any]] = []
    executor.set_monitor_callback(lambda name, value: seen.append((name, value)), monitor_all)
    executor.forward(is_train=True)
    executor.backward(*head)
    executor.set_monitor_callback(None)
    executor.forward(is_train=True)
    assert all(isinstance(name, bytes) and value.shape for name, value in seen)
    return [name.decode() for name, _ in seen]


def test_a_monitor_sees_every_output() -> None:
    relu = sym.Activation(V("a") + 1, act_type="relu", name="r")
    net = sym.SoftmaxOutput(sym.FullyConnected(relu, num_hidden=2, name="fc"), name="s")
    names = names_seen(net.simple_bind(cpu(), a=(2, 3)), False)
    assert names[:4] == ["_plusscalar0_output", "r_output", "fc_output", "s_output"]
    assert all("_backward_output" in name for name in names[4:])
    assert {"s_backward_output0", "fc_backward_output0", "r_backward_output0"} <= {*names}
    assert len(set(names)) == len(names)


def test_a_monitor_of_all_sees_inputs_before() -> None:
    relu = sym.Activation(V("a"), act_type="relu", name="r")
    net = sym.FullyConnected(relu, num_hidden=2, name="fc")
    names = names_seen(net.simple_bind(cpu(), a=(2, 3)), True, nd.ones((2, 2)))
    assert names[:9] == [
        "a", "r_data", "r_output", "fc_data", "fc_weight", "fc_weight", "fc_bias", "fc_bias",
        "fc_output",
    ]  # fmt: skip


def test_a_monitor_changes_no_numbers() -> None:
    executor = sym.exp(V("a") * 2 + 1).simple_bind(cpu(), a=(3,))
    plain = executor.forward(is_train=True, a=nd.array([1, 2, 3]))[0].asnumpy()
    executor.set_monitor_callback(lambda name, value: None)
    np.testing.assert_array_equal(executor.forward(is_train=True)[0].asnumpy(), plain)


def test_texts_of_an_executor() -> None:
    executor = sym.elemwise_mul(V("a"), V("b"), name="c").simple_bind(cpu(), a=(2,))
    assert "run   c" in executor.debug_str()
    assert "MB allocated" in executor.debug_str()
    assert executor.get_optimized_symbol().list_arguments() == ["a", "b"]
    assert repr(executor) == "<Executor of <Symbol c>: 2 arguments>"


# ----- monitors that come or go between forward and backward


def gradients(kernels: str, before: bool, after: bool) -> tuple[dict[str, Any], list[bytes]]:
    """Gradients of a step whose forward and backward were watched or not, and what was seen."""
    x = sym.Convolution(V("data"), kernel=(3, 3), num_filter=4, name="conv")
    x = sym.Activation(sym.BatchNorm(x, fix_gamma=False, name="bn"), act_type="relu", name="act")
    x = sym.Dropout(sym.Pooling(x, kernel=(2, 2), stride=(2, 2), name="pool"), p=0.3, name="drop")
    net = sym.SoftmaxOutput(sym.FullyConnected(x, num_hidden=5, name="fc"), name="softmax")
    executor = net.simple_bind(cpu(), data=(3, 2, 8, 10), kernels=kernels)
    rng = np.random.default_rng(0)
    for array in executor.arg_dict.values():
        array[:] = rng.uniform(0.1, 0.9, array.shape)
    seen: list[bytes] = []
    mx.random.seed(3)
    for is_watched, run in ((before, lambda: executor.forward(is_train=True)),
                            (after, executor.backward)):  # fmt: skip
        executor.set_monitor_callback(
            (lambda name, value: seen.append(name)) if is_watched else None
        )
        run()
    found = {name: grad.asnumpy() for name, grad in executor.grad_dict.items()}
    return found | {name: aux.asnumpy() for name, aux in executor.aux_dict.items()}, seen


@pytest.mark.parametrize("kernels", ["reference", "generated"])
@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("after", [False, True])
def test_a_monitor_may_come_and_go_between_forward_and_backward(
    kernels: str, before: bool, after: bool
) -> None:
    if kernels == "generated":
        pytest.importorskip("llvmlite")
    want, _ = gradients("reference", False, False)
    found, seen = gradients(kernels, before, after)
    for name in want:
        np.testing.assert_allclose(found[name], want[name], rtol=1e-3, atol=1e-5, err_msg=name)
    assert (b"act_output" in seen) == before
    assert any(b"fc_backward" in name for name in seen) == after
