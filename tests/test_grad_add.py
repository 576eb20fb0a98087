"""grad_req="add" on the data of a loss: MXNet's exceptions, and that they stay exceptions."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import raysym as mx

Make = Callable[[mx.Symbol, mx.Symbol], mx.Symbol]
OLD = 100.0


def gradients(make: Make, label: np.ndarray) -> list[np.ndarray]:
    """The gradient of data after "write" and after "add" to an array of 100."""
    data = mx.sym.Variable("data")
    symbol = make(data, mx.sym.Variable("label"))
    found = []
    for request in ("write", "add"):
        args = {"data": mx.nd.array([[0.5, -1, 2], [1, 0, -2]]), "label": mx.nd.array(label)}
        grads = {"data": mx.nd.full((2, 3), OLD)}
        with symbol.bind(mx.cpu(), args, grads, {"data": request}) as executor:
            executor.forward(is_train=True)
            executor.backward()
        found.append(grads["data"].asnumpy())
    return found


CLASSES, NUMBERS = np.array([0.0, 2.0]), np.arange(6.0).reshape(2, 3)


@pytest.mark.parametrize("name", ["SoftmaxOutput", "SVMOutput"])
def test_a_loss_writes_the_gradient_of_a_variable_that_only_it_reads(name: str) -> None:
    written, added = gradients(getattr(mx.sym, name), CLASSES)
    np.testing.assert_array_equal(added, written)


@pytest.mark.parametrize("name", ["SoftmaxOutput", "SVMOutput"])
def test_behind_another_op_or_reader_it_adds(name: str) -> None:
    loss = getattr(mx.sym, name)
    for make in (
        lambda data, label: loss(mx.sym.identity(data), label),
        lambda data, label: mx.sym.Group([loss(data, label), mx.sym.make_loss(data)]),
    ):
        written, added = gradients(make, CLASSES)
        np.testing.assert_allclose(added, written + OLD, rtol=1e-6)


@pytest.mark.parametrize(
    "name", ["LinearRegressionOutput", "LogisticRegressionOutput", "MAERegressionOutput"]
)
def test_regression_scales_what_was_there(name: str) -> None:
    scale = 0.5 / 3  # grad_scale by the number of labels of a sample
    loss = getattr(mx.sym, name)
    written, added = gradients(lambda data, label: loss(data, label, grad_scale=0.5), NUMBERS)
    np.testing.assert_allclose(added, (OLD + written / scale) * (1 + scale), rtol=1e-5)
    written, added = gradients(lambda data, label: loss(data * 1, label), NUMBERS)
    np.testing.assert_allclose(added, written + OLD, rtol=1e-6)


@pytest.mark.parametrize("name", ["MakeLoss", "make_loss"])
def test_other_losses_add(name: str) -> None:
    def make(data: mx.Symbol, label: mx.Symbol) -> mx.Symbol:
        return mx.sym.Group([getattr(mx.sym, name)(data), mx.sym.BlockGrad(label)])

    written, added = gradients(make, CLASSES)
    np.testing.assert_allclose(added, written + OLD, rtol=1e-6)
