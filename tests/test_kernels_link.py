"""Linked programs: the bits do not depend on cuts, fusion or old memory; close to the reference."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_calls import kernels
from random_graphs import assert_same_bits, bind_random, random_symbol, train

import raysym as mx
from raysym.kernels.claims import FILE
from raysym.kernels.link import describe
from raysym.runtime.linked import LinkedRuntime


def runtime(**options: bool) -> LinkedRuntime:
    return LinkedRuntime(kernels=kernels(), **options)


def groups(n: int) -> dict[str, mx.Context]:
    return {f"g{i}": mx.cpu(i % n) for i in range(4)}


SEEDS = st.integers(0, 10**6)


@settings(max_examples=15, deadline=None)
@given(seed=SEEDS, n_nodes=st.integers(2, 14), n_workers=st.integers(2, 4))
def test_any_cut_gives_the_bits_of_no_cut(seed: int, n_nodes: int, n_workers: int) -> None:
    symbol = random_symbol(np.random.default_rng(seed), n_nodes, 4)
    whole = train(bind_random(symbol, seed, runtime=runtime()), 3)
    cut = bind_random(symbol, seed, runtime=runtime(), group2ctx=groups(n_workers))
    assert_same_bits(whole, train(cut, 3))


@settings(max_examples=15, deadline=None)
@given(seed=SEEDS, n_nodes=st.integers(2, 14), n_workers=st.integers(1, 3))
def test_fusion_and_poison_change_no_bit(seed: int, n_nodes: int, n_workers: int) -> None:
    symbol = random_symbol(np.random.default_rng(seed), n_nodes, 4)
    where = {"group2ctx": groups(n_workers)}
    plain = train(bind_random(symbol, seed, runtime=runtime(), **where), 2)
    for options in ({"fused": False}, {"poison": True}):
        other = bind_random(symbol, seed, runtime=runtime(**options), **where)
        assert_same_bits(plain, train(other, 2))


@settings(max_examples=15, deadline=None)
@given(seed=SEEDS, n_nodes=st.integers(2, 10))
def test_linked_is_close_to_the_reference(seed: int, n_nodes: int) -> None:
    symbol = random_symbol(np.random.default_rng(seed), n_nodes, 4)
    linked = train(bind_random(symbol, seed, runtime=runtime()), 1)
    reference = train(bind_random(symbol, seed), 1)
    for name, want in reference.items():
        # BatchNorm of four rows divides by small numbers: a step may lose three digits.
        np.testing.assert_allclose(linked[name], want, rtol=2e-3, atol=2e-4, err_msg=name)


# ----- networks with images


def convolutional() -> mx.Symbol:
    x = mx.sym.Variable("data")
    for i, filters in enumerate((5, 6)):
        y = mx.sym.Convolution(x, kernel=(3, 3), pad=(1, 1), num_filter=filters, name=f"conv{i}")
        y = mx.sym.Activation(mx.sym.BatchNorm(y, fix_gamma=False, name=f"bn{i}"), act_type="relu")
        side = mx.sym.Convolution(x, kernel=(1, 1), num_filter=filters, no_bias=True, name=f"s{i}")
        x = mx.sym.Pooling(y + side, kernel=(2, 2), stride=(2, 2), name=f"pool{i}")
    scale = mx.sym.Variable("scale", shape=(1, 6, 1, 1))
    x = mx.sym.broadcast_mul(x, scale)
    return mx.sym.SoftmaxOutput(mx.sym.FullyConnected(x, num_hidden=7, name="fc"), name="softmax")


def pooled() -> mx.Symbol:
    x = mx.sym.Variable("data")
    for i, shifts in enumerate([(0.7, 1, 1.5), (2, 3, 7)]):
        for j, shift in enumerate(shifts):
            x = mx.sym.Convolution(x, kernel=(1, 1), num_filter=5, name=f"conv{i}{j}")
            x = mx.sym.Activation(x - shift, act_type="relu", name=f"relu{i}{j}")
        x = mx.sym.Pooling(x, kernel=(2, 2), stride=(2, 2), name=f"pool{i}")
    return mx.sym.SoftmaxOutput(mx.sym.FullyConnected(x, num_hidden=7, name="fc"), name="softmax")


def attention() -> mx.Symbol:
    x = mx.sym.Variable("data")
    qkv = mx.sym.FullyConnected(x, num_hidden=24, flatten=False, name="qkv")
    weights = mx.sym.softmax(mx.sym.contrib.interleaved_matmul_selfatt_qk(qkv, heads=2))
    y = mx.sym.contrib.interleaved_matmul_selfatt_valatt(qkv, weights, heads=2)
    x = mx.sym.LayerNorm(x + y, name="norm")
    x = mx.sym.LeakyReLU(mx.sym.FullyConnected(x, num_hidden=9, name="fc"), act_type="gelu")
    return mx.sym.LinearRegressionOutput(x, name="label")


NETS: dict[str, tuple[Callable[[], mx.Symbol], tuple[int, ...]]] = {
    "convolutional": (convolutional, (3, 2, 8, 12)),
    "pooled": (pooled, (3, 2, 16, 24)),
    "attention": (attention, (5, 3, 8)),
}


def steps(net: str, **where: object) -> tuple[dict[str, np.ndarray], mx.Executor]:
    """Gradients, outputs and auxiliary states after two steps."""
    make, shape = NETS[net]
    executor = make().simple_bind(mx.cpu(), data=shape, **where)
    rng = np.random.default_rng(1)
    for array in (*executor.arg_dict.values(), *executor.aux_dict.values()):
        array[:] = rng.uniform(0.2, 0.9, array.shape)
    for _ in range(2):
        executor.forward(is_train=True)
        executor.backward()
    executor.backward()  # may run again
    found = {n: g.asnumpy() for n, g in executor.grad_dict.items() if g is not None}
    found |= {n: a.asnumpy() for n, a in executor.aux_dict.items()}
    executor.forward(is_train=False)
    return found | {"out": executor.outputs[0].asnumpy()}, executor


@pytest.mark.parametrize("net", NETS)
def test_networks_agree_with_the_reference(net: str) -> None:
    linked, want = steps(net, runtime=runtime())[0], steps(net)[0]
    for name in want:
        np.testing.assert_allclose(linked[name], want[name], rtol=1e-3, atol=1e-4, err_msg=name)


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("options", [{"fused": False}, {"poison": True}])
def test_networks_keep_their_bits(net: str, options: dict[str, bool]) -> None:
    assert_same_bits(steps(net, runtime=runtime())[0], steps(net, runtime=runtime(**options))[0])


def doubles(**options: Any) -> tuple[dict[str, np.ndarray], mx.Executor]:
    """Gradients and outputs of the convolutional network in float64."""
    net = convolutional()
    kinds = dict.fromkeys(net.list_arguments(), "float64")
    executor = net.simple_bind(mx.cpu(), type_dict=kinds, data=(3, 2, 8, 12), **options)
    rng = np.random.default_rng(1)
    for array in executor.arg_dict.values():
        array[:] = rng.normal(size=array.shape)
    executor.forward(is_train=True)
    executor.backward()
    made = {name: grad.asnumpy() for name, grad in executor.grad_dict.items()}
    return {**made, "out": executor.outputs[0].asnumpy()}, executor


def test_networks_of_doubles_lie_channels_last_and_agree() -> None:
    used = runtime(poison=True)
    got, executor = doubles(runtime=used)
    want, _ = doubles(kernels="reference")
    for name, value in want.items():
        np.testing.assert_allclose(got[name], value, rtol=1e-9, atol=1e-10, err_msg=name)
    text = str(used.workers[0])
    assert text.count("BatchNorm+Activation (batch_norm)") == 2
    assert not used.workers[0].found.uncovered
    # Forward turns the images, and the last of them back for the layer behind.
    assert text.partition("backward:")[0].count("transpose (transpose)") == 2
    executor.close()


@pytest.mark.parametrize("op", ["BatchNorm", "LayerNorm"])
def test_steps_behind_a_normalisation_are_part_of_it(op: str) -> None:
    x, y = mx.sym.Variable("x"), mx.sym.Variable("y")
    norm = getattr(mx.sym, op)(x, name="bn")
    net = mx.sym.Group([norm, mx.sym.relu(norm + y, name="relu")])

    def outputs(**options: bool) -> tuple[list[np.ndarray], list[str]]:
        used = runtime(**options)
        executor = net.simple_bind(mx.cpu(), runtime=used, grad_req="null", x=(5, 3, 4, 7))
        rng = np.random.default_rng(0)
        for array in (*executor.arg_dict.values(), *executor.aux_dict.values()):
            array[:] = rng.uniform(0.1, 1.0, array.shape)
        made = [array.asnumpy() for array in executor.forward(is_train=True)]
        return made, [describe(step) for step in used.workers[0].found.phases["forward"]]

    (fused, lines), (apart, others) = outputs(), outputs(fused=False)
    maker = {"BatchNorm": "batch_norm", "LayerNorm": "layer_norm"}[op]
    assert f"call      {op}+_copy+elemwise_add+relu ({maker})" in lines
    assert f"call      {op} ({maker})" in others
    for got, want in zip(fused, apart, strict=True):
        assert got.tobytes() == want.tobytes()


def test_a_gradient_takes_the_place_of_what_was_pooled() -> None:
    used = runtime()
    steps("pooled", runtime=used)
    phase = used.workers[0].found.phases["backward"]
    spreads = [step for step in phase if step.spec.maker == "pool_max_gradient"]
    assert [step.args[2].shares is step.args[1].owner() for step in spreads] == [True, True]


def test_a_state_that_is_updated_twice_in_one_loop_keeps_the_last_update() -> None:
    def states(**where: object) -> list[np.ndarray]:
        net = mx.sym.BatchNorm(mx.sym.Variable("data"), name="bn")
        executor = net.simple_bind(mx.cpu(), data=(4, 3), micro_batches=2, **where)
        executor.arg_dict["data"][:] = np.arange(12).reshape(4, 3)
        executor.forward(is_train=True)
        executor.backward(mx.nd.ones((4, 3)))
        return [array.asnumpy() for array in executor.aux_dict.values()]

    for got, want in zip(states(runtime=runtime()), states(), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5)


def test_a_linked_worker_is_text() -> None:
    used = runtime()
    x = mx.sym.Variable("x")
    net = mx.sym.argsort(mx.sym.exp(x * 2) + 1, name="wave")
    net.simple_bind(mx.cpu(), grad_req="null", runtime=used, x=(3, 4))
    assert str(used.workers[0]) == (
        "arena 64 bytes\n"
        "forward:\n"
        "  call      _mul_scalar+exp+_plus_scalar (flat_map)\n"
        "  reference wave = argsort"
    )


def test_a_failing_reference_kernel_names_node_and_worker() -> None:
    net = mx.sym.Embedding(mx.sym.Variable("words"), input_dim=5, output_dim=3, name="embed")
    executor = net.simple_bind(mx.cpu(), words=(2,), embed_weight=(5, 3), runtime=runtime())
    executor.forward(is_train=True)
    with pytest.raises(mx.MXNetError, match=r"_no_gradient(.|\n)*on worker cpu:0"):
        executor.backward(mx.nd.ones((2, 3)))


def test_a_monitor_sees_values_that_fusion_leaves_out() -> None:
    net = mx.sym.exp(mx.sym.square(mx.sym.Variable("x"), name="inner"), name="outer")
    executor = net.simple_bind(mx.cpu(), x=(2, 3), runtime=runtime())
    seen: list[bytes] = []
    executor.set_monitor_callback(lambda name, array: seen.append(name))
    executor.forward(is_train=True)
    assert seen == [b"inner_output", b"outer_output"]


def small_nodes(n: int) -> tuple[mx.Executor, LinkedRuntime]:
    """A chain of `n` sums, a kernel each."""
    value, used = mx.sym.Variable("x"), runtime(fused=False)
    for _ in range(n):
        value = value + 1.5
    return value.simple_bind(mx.cpu(), grad_req="null", x=(4, 4), runtime=used), used


def python_calls(executor: mx.Executor) -> int:
    """Functions that a step calls, C's counted too."""
    executor.forward(is_train=True)
    seen: list[str] = []
    sys.setprofile(lambda frame, event, arg: seen.append(event))
    try:
        executor.forward(is_train=True)
    finally:
        sys.setprofile(None)
    return sum(event in ("call", "c_call") for event in seen)


def test_a_thousand_nodes_are_one_table_that_machine_code_runs_through() -> None:
    executor, used = small_nodes(1000)
    [action] = used.workers[0].phases["forward"].actions
    table, arguments = action.keep  # type: ignore[attr-defined]
    assert (len(table), len(arguments), used.workers[0].n_calls) == (1000, 1000, 1000)
    assert python_calls(executor) == python_calls(small_nodes(10)[0]) > 0
    assert np.array_equal(executor.outputs[0].asnumpy(), np.full((4, 4), 1500.0))


def test_bind_takes_generated_kernels() -> None:
    net = mx.sym.exp(mx.sym.Variable("x"))
    executor = net.simple_bind(mx.cpu(), x=(2, 3), kernels="generated")
    assert executor._session.runtime.linked("forward")
    executor.forward(x=mx.nd.ones((2, 3)))
    np.testing.assert_allclose(executor.outputs[0].asnumpy(), np.exp(1), rtol=1e-6)


def test_auto_takes_generated_kernels_where_everything_is_float32() -> None:
    def is_linked(**types: str) -> bool:
        net = mx.sym.exp(mx.sym.Variable("x"))
        executor = net.simple_bind(mx.cpu(), x=(2, 3), kernels="auto", type_dict=types)
        return bool(executor._session.runtime.linked("forward"))

    assert is_linked()
    assert not is_linked(x="float64")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"kernels": "fast"}, r"kernels: got 'fast', expected 'reference', 'generated' or 'auto'"),
        ({"compiling": "never"}, r"compiling: got 'never', expected 'before' or 'background'"),
        ({"cache_bytes": 0}, r"bind: cache_bytes: got 0, expected a number of bytes"),
        ({"cache_bytes": "1 GB"}, r"bind: cache_bytes: got '1 GB', expected a number of bytes"),
    ],
)
def test_other_kernels_are_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(mx.MXNetError, match=words):
        mx.sym.Variable("x").simple_bind(mx.cpu(), x=(2,), **given)


def test_kernels_may_be_kept_in_little_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raysym.kernels.link.default_folder", lambda: tmp_path)
    net = mx.sym.exp(mx.sym.Variable("x"))
    for n in (3, 5, 7):
        executor = net.simple_bind(mx.cpu(), x=(2, n), kernels="generated", cache_bytes=8191)
        assert executor.forward()[0].shape == (2, n)
        kept = [path for path in tmp_path.iterdir() if path.name != FILE]
        assert len(kept) == 1  # of code and its index, for any n


def grads(executor: mx.Executor) -> dict[str, np.ndarray]:
    return {n: g.asnumpy().copy() for n, g in executor.grad_dict.items() if g is not None}


@settings(max_examples=12, deadline=None)
@given(seed=SEEDS, n_nodes=st.integers(2, 14), n_workers=st.integers(1, 2), poison=st.booleans())
def test_backward_may_run_again(seed: int, n_nodes: int, n_workers: int, poison: bool) -> None:
    symbol = random_symbol(np.random.default_rng(seed), n_nodes, 4)
    used = runtime(poison=poison)
    executor = bind_random(symbol, seed, runtime=used, group2ctx=groups(n_workers))
    executor.forward(is_train=True)
    executor.backward()
    first = grads(executor)
    outputs = [output.asnumpy() for output in executor.outputs]
    for _ in range(2):
        executor.backward()
        assert_same_bits(first, grads(executor))
    for output, want in zip(executor.outputs, outputs, strict=True):
        np.testing.assert_array_equal(output.asnumpy(), want)


def test_what_backward_uses_up_is_made_by_forward_steps_alone() -> None:
    def again(net: mx.Symbol) -> list[str]:
        used = runtime()
        net.simple_bind(mx.cpu(), x=(3, 4), runtime=used)
        found = used.workers[0].found
        steps = [step for steps in found.phases.values() for step in steps]
        return [describe(steps[clock]) for clock in found.again.get("backward", ())]

    x = mx.sym.Variable("x")
    net = mx.sym.BatchNorm(mx.sym.tanh(mx.sym.FullyConnected(x, num_hidden=4)), name="bn")
    assert again(net) == [
        "call      FullyConnected (gemm)",
        "call      tanh (flat_map)",
        "call      BatchNorm (batch_norm)",
    ]
    assert again(mx.sym.exp(x)) == ["call      exp+_copy (flat_map)"]


@pytest.mark.parametrize("net", NETS)
def test_networks_keep_their_bits_when_values_are_made_again(net: str) -> None:
    plain, _ = steps(net, runtime=runtime())
    lean, executor = steps(net, runtime=runtime(), memory="minimal")
    assert_same_bits(plain, lean)
    assert executor._session.mode("training")[0].copies
