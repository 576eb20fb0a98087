"""The in-process runtime: any cut of any graph gives the same bits as no cut."""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_graphs import assert_same_bits, bind_random, random_symbol, train

import raysym as mx
import scheduler
from raysym.runtime import local


def groups(n: int) -> dict[str, mx.Context]:
    return {f"g{i}": mx.cpu(i % n) for i in range(4)}


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), n_nodes=st.integers(2, 14), n_workers=st.integers(2, 4))
def test_any_cut_gives_the_bits_of_no_cut(seed: int, n_nodes: int, n_workers: int) -> None:
    symbol = random_symbol(np.random.default_rng(seed), n_nodes, 4)
    whole = train(bind_random(symbol, seed), 3)
    cut = bind_random(symbol, seed, group2ctx=groups(n_workers))
    assert_same_bits(whole, train(cut, 3))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), n_workers=st.integers(1, 4))
def test_any_scheduled_cut_gives_the_bits_of_no_cut(seed: int, n_workers: int) -> None:
    symbol = random_symbol(np.random.default_rng(seed), 10, 4)
    whole = train(bind_random(symbol, seed), 2)
    where = {"cluster": scheduler.Cluster.uniform(n_workers), "runtime": "local"}
    assert_same_bits(whole, train(bind_random(symbol, seed, **where), 2))


def test_twenty_steps_leave_the_same_parameters() -> None:
    symbol = random_symbol(np.random.default_rng(5), 12, 3)
    whole = train(bind_random(symbol, 5), 20)
    assert_same_bits(whole, train(bind_random(symbol, 5, group2ctx=groups(3)), 20))


def test_a_kernel_error_names_node_and_worker() -> None:
    words = mx.sym.Variable("words")
    net = mx.sym.Embedding(words, input_dim=5, output_dim=3, name="embed")
    executor = net.simple_bind(mx.cpu(), words=(2,), embed_weight=(5, 3))
    executor.forward(is_train=True)
    with pytest.raises(mx.MXNetError, match=r"_no_gradient(.|\n)*on worker cpu:0"):
        executor.backward(mx.nd.ones((2, 3)))


def test_time_is_booked_once_although_an_op_fails() -> None:
    a = mx.sym.Variable("a")
    with mx.AttrScope(ctx_group="g0"):
        a = a * 2
    with mx.AttrScope(ctx_group="g1"):
        net = mx.sym.Embedding(a, input_dim=5, output_dim=3, name="embed")
    options = {"group2ctx": groups(2), "runtime": "local"}
    executor = net.simple_bind(mx.cpu(), a=(2,), embed_weight=(5, 3), **options)
    executor.forward(is_train=True)
    with pytest.raises(mx.MXNetError, match="_no_gradient"):
        executor.backward(mx.nd.ones((2, 3)))
    assert all(s >= 0 for spent in executor.timings().values() for s in spent.values())
    assert all(spent["compute"] > 0 for spent in executor.timings().values())


def test_a_gpu_without_a_gpu_is_refused() -> None:
    if mx.nd.zeros((1,)).context.device_type == "cpu":
        with pytest.raises(mx.MXNetError, match=r"gpu\(9\)"):
            mx.sym.Variable("a").simple_bind(mx.gpu(9), a=(2,))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of threads that BLAS was set to."""
    numbers: list[int] = []

    def pinned(threads: int) -> nullcontext[None]:
        numbers.append(threads)
        return nullcontext()

    monkeypatch.setattr(local, "pinned", pinned)
    return numbers


def test_blas_is_set_where_reference_kernels_run(asked: list[int]) -> None:
    net = mx.sym.FullyConnected(mx.sym.Variable("data"), num_hidden=5)
    for kernels, times in (("reference", 2), ("generated", 0)):
        executor = net.simple_bind(mx.cpu(), data=(3, 7), kernels=kernels, threads=2)
        executor.forward(is_train=True)
        executor.backward(mx.nd.ones((3, 5)))
        assert asked == [2] * times
        asked.clear()
    executor.set_monitor_callback(lambda name, value: None)  # watched steps are interpreted
    executor.forward()
    assert asked == [2]


def test_blas_is_set_where_one_op_has_no_generated_kernel(asked: list[int]) -> None:
    net = mx.sym.linalg.potrf(mx.sym.Variable("data"))
    executor = net.simple_bind(mx.cpu(), data=(3, 3), kernels="generated", grad_req="null")
    executor.arg_dict["data"][:] = np.eye(3)
    assert "reference" in executor.debug_str()
    executor.forward()
    assert asked == [1]
