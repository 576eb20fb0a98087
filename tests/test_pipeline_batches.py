"""Batch axes: found from the symbol, changed by the user, refused when they do not fit."""

from __future__ import annotations

import numpy as np
import pytest
from random_graphs import bind_random
from test_pipeline import chain

import raysym as mx
from raysym.errors import PlanError


def test_batches_that_cannot_be_cut_are_refused() -> None:
    with pytest.raises(PlanError) as caught:
        bind_random(chain(2), 1, micro_batches=3)
    assert str(caught.value) == (
        "micro_batches=3: 'data' is f32[4,6]: batch axis: got 4 rows along axis 0, "
        "expected a multiple of 3, since all parts are equal"
    )
    with pytest.raises(PlanError, match=r"micro_batches=4 x data_parallel=2: .*of 8, since"):
        bind_random(chain(2), 1, micro_batches=4, data_parallel=2)
    with pytest.raises(PlanError, match=r"'data' is .*: batch axis: got 2, expected one of 0, 1"):
        bind_random(chain(2), 1, micro_batches=2, batch_axes={"data": 2})


@pytest.mark.parametrize("option", ["micro_batches", "data_parallel"])
@pytest.mark.parametrize("n", [0, -1, 2.0, "2"])
def test_numbers_of_parts_that_are_none_are_refused(option: str, n: object) -> None:
    with pytest.raises(PlanError, match=f"{option}: got {n!r}, expected a whole number from 1 on"):
        bind_random(chain(2), 1, **{option: n})


def test_an_unknown_argument_among_the_batch_axes_is_refused() -> None:
    net = mx.sym.Variable("x") + mx.sym.Variable("data")
    with pytest.raises(PlanError) as caught:
        net.simple_bind(mx.cpu(), data=(4, 3), micro_batches=2, batch_axes={"date": 0})
    assert str(caught.value) == (
        "batch_axes: no such argument: got 'date', expected one of x, data. Did you mean 'data'?"
    )


def test_parts_that_do_not_fit_together_say_what_was_cut() -> None:
    net = mx.sym.Variable("data") + mx.sym.Variable("state")
    with pytest.raises(PlanError) as caught:
        net.simple_bind(mx.cpu(), data=(4, 3), micro_batches=2)
    first, *more = str(caught.value).splitlines()
    assert first == (
        "micro_batches=2: the graph does not fit one part, cut along {'data': 0}. "
        "Add the other inputs that have a batch axis to batch_axes; None takes one out"
    )
    assert "state" in "".join(more)


def test_an_input_whose_batch_axis_is_unknown_must_be_named() -> None:
    net = mx.sym.Variable("x") * 2.0
    with pytest.raises(PlanError, match=r"batch_axes=\{'x': 0\}"):
        net.simple_bind(mx.cpu(), x=(2, 4), micro_batches=2)
    executor = net.simple_bind(mx.cpu(), x=(2, 4), micro_batches=2, batch_axes={"x": 1})
    array = np.arange(8, dtype=np.float32).reshape(2, 4)
    assert np.array_equal(executor.forward(x=array)[0].asnumpy(), 2 * array)
    executor.step(mx.nd.ones((2, 4)))
    assert np.array_equal(executor.grad_dict["x"].asnumpy(), np.full((2, 4), 2.0))


def test_an_output_without_a_batch_axis_is_refused() -> None:
    net = mx.sym.sum(mx.sym.Variable("data"), name="total")
    with pytest.raises(mx.MXNetError, match=r"output .total. is .* no batch axis"):
        net.simple_bind(mx.cpu(), data=(4, 3), micro_batches=2)


T, N, C = 5, 4, 3  # time, batch, channels


def recurrent() -> mx.Symbol:
    """Time first: a state with its own batch axis, and positions that have none."""
    data = mx.sym.Variable("data", attr={"__layout__": "TNC"})
    with mx.AttrScope(ctx_group="g0"):
        net = mx.sym.FullyConnected(data, num_hidden=6, flatten=False, name="fc")
        net = mx.sym.broadcast_add(net, mx.sym.Variable("begin_state"))
    with mx.AttrScope(ctx_group="g1"):
        net = mx.sym.broadcast_mul(net, mx.sym.Variable("position_data"))
        label = mx.sym.Variable("label", attr={"__layout__": "TN"})
        net = mx.sym.SoftmaxOutput(net, label, preserve_shape=True, name="softmax")
        return net


@pytest.mark.parametrize("schedule", ["gpipe", "1f1b", "zero_bubble_h1"])
def test_batch_axes_come_from_layouts_and_can_be_changed(schedule: str) -> None:
    shapes = {"data": (T, N, C), "begin_state": (1, N, 6), "position_data": (T, 1, 1)}
    axes = {"begin_state": 1, "position_data": None}
    cut = {"g0": mx.cpu(0), "g1": mx.cpu(1)}
    found = []
    for where in ({}, {"micro_batches": 2, "batch_axes": axes, "group2ctx": cut}):
        executor = recurrent().simple_bind(mx.cpu(), label=(T, N), **shapes, **where)
        rng = np.random.default_rng(0)
        for name, array in executor.arg_dict.items():
            is_label = name == "label"
            array[:] = (
                rng.integers(6, size=array.shape) if is_label else rng.normal(size=array.shape)
            )
        executor.step()
        grads = {name: grad.asnumpy() for name, grad in executor.grad_dict.items()}
        found.append({"output": executor.outputs[0].asnumpy(), **grads})
    whole, parts = found
    assert whole.keys() == parts.keys()
    for name, array in whole.items():
        assert array.shape == parts[name].shape
        # The sum over the batch is taken in two parts.
        np.testing.assert_allclose(parts[name], array, rtol=1e-5, atol=1e-6, err_msg=name)
    for name in ("output", "data", "begin_state"):  # of one sample each: nothing is added up
        np.testing.assert_array_equal(parts[name], whole[name], err_msg=name)
