"""Elementwise steps before reductions: computed in their loop, and no bit of them changes."""

from __future__ import annotations

import numpy as np
import pytest
from test_kernels_tails import assert_same, run

import raysym as mx

V = mx.sym.Variable


def chain(*shape: int) -> mx.Symbol:
    return mx.sym.relu(V("x", shape=shape) * V("y"))


def row(*shape: int) -> mx.Symbol:
    return mx.sym.broadcast_add(V("x", shape=shape), V("row", shape=(1,) * 2 + shape[2:]))


def pooled() -> mx.Symbol:
    x = V("x", shape=(3, 5, 8, 6))
    y = mx.sym.Convolution(x, num_filter=20, kernel=(3, 3), pad=(1, 1), name="conv")
    return mx.sym.Pooling(y, pool_type="max", kernel=(2, 2), stride=(2, 2))


ENDS = {
    "sum": lambda: mx.sym.sum(chain(7, 150), axis=1),
    "first": lambda: mx.sym.sum(mx.sym.exp(chain(70, 150)), axis=0),
    "mean": lambda: mx.sym.mean(chain(7, 150)),
    "max": lambda: mx.sym.max(row(7, 15, 33), axis=(0, 1)),
    "min": lambda: mx.sym.min(row(7, 15, 33), axis=2),
    "norm": lambda: mx.sym.norm(chain(7, 150), axis=1),
    "others": lambda: mx.sym.sum(chain(7, 15, 10), axis=1, exclude=True),
    "nansum": lambda: mx.sym.nansum(mx.sym.log(chain(7, 150)), axis=1),
    "view": lambda: mx.sym.prod(mx.sym.Reshape(chain(7, 15, 10), shape=(-1, 150)), axis=1),
}


@pytest.mark.parametrize("name", ENDS)
def test_a_reduction_takes_steps_along_and_changes_no_bit(name: str) -> None:
    net = ENDS[name]()
    fused, lines = run(net, False, poison=True)
    assert "+" in lines[0]
    assert "(staged)" in lines[0]
    assert_same(fused, run(net, False, fused=False)[0])
    assert_same(fused, run(net, False, threads=2, poison=True)[0])
    executor = net.simple_bind(mx.cpu())
    rng = np.random.default_rng(0)
    for array in executor.arg_dict.values():
        array[:] = rng.uniform(-0.5, 0.9, array.shape)
    want = executor.forward(is_train=False)[0].asnumpy()
    np.testing.assert_allclose(fused[0], want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "float64"])
@pytest.mark.parametrize("name", ["sum", "first", "max", "norm"])
def test_other_dtypes(name: str, dtype: str) -> None:
    fused, lines = run(ENDS[name](), True, dtype=dtype, poison=True)
    assert "(staged)" in lines[0]
    assert_same(fused, run(ENDS[name](), True, dtype=dtype, fused=False)[0])


def test_what_others_read_is_kept() -> None:
    def net() -> mx.Symbol:
        y = chain(70, 45)
        return mx.sym.broadcast_sub(y, mx.sym.mean(y, axis=1, keepdims=True))

    fused, lines = run(net(), True, poison=True)
    assert lines[0] == "call      elemwise_mul+relu+mean (staged)"
    assert_same(fused, run(net(), True, fused=False)[0])
    assert_same(fused, run(net(), True, threads=3, poison=True)[0])


def test_the_gradient_of_what_was_repeated_is_a_sum_that_takes_steps_along() -> None:
    net = mx.sym.tanh(mx.sym.broadcast_add(V("x", shape=(30, 20)), V("row", shape=(1, 20))))
    fused, lines = run(net, True, poison=True)
    assert any(line.endswith("+_sum_to (staged)") for line in lines)
    assert_same(fused, run(net, True, fused=False)[0])


def test_channels_last_the_steps_and_what_is_kept_lie_as_their_operands() -> None:
    def net() -> mx.Symbol:
        y = mx.sym.relu(pooled() * 2 - 0.1)
        return mx.sym.Group([mx.sym.sum(y, axis=(0, 2, 3)), mx.sym.Pooling(y, kernel=(2, 2))])

    fused, lines = run(net(), False, poison=True)
    assert "call      _mul_scalar+_minus_scalar+relu+sum (staged)" in lines
    assert_same(fused, run(net(), False, fused=False)[0])
    assert_same(fused, run(net(), False, threads=2, poison=True)[0])


def test_channels_last_an_operand_that_lies_otherwise_leaves_the_steps_alone() -> None:
    def net() -> mx.Symbol:
        return mx.sym.sum(pooled() * V("other"), axis=(0, 2, 3))

    fused, lines = run(net(), False, poison=True)
    assert "call      elemwise_mul (flat_map)" in lines
    assert_same(fused, run(net(), False, fused=False)[0])


def test_steps_that_would_change_the_order_of_sums_have_a_loop_of_their_own() -> None:
    net = mx.sym.sum(row(7, 15, 33), axis=(1, 2))  # of 495 numbers, not 15 times 33
    fused, lines = run(net, False, poison=True)
    assert lines[:2] == ["call      broadcast_add (strided_map)", "call      sum (staged)"]
    assert_same(fused, run(net, False, fused=False)[0])


def test_few_results_leave_a_long_chain_to_all_threads() -> None:
    def net() -> mx.Symbol:
        return mx.sym.sum(mx.sym.exp(chain(200, 150)))

    assert run(net(), False)[1][0] == "call      elemwise_mul+relu+exp+sum (staged)"
    assert "sum" not in run(net(), False, threads=2)[1][0]
