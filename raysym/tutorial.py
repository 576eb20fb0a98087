"""The tutorial: nine small programs, each with its picture and the numbers that it comes to.

Read them from top to bottom; ``raysym pictures`` runs them and writes the pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import raysym as mx


class Lesson(NamedTuple):
    """What a program of the tutorial shows: its picture as SVG, and facts by name."""

    svg: str
    facts: Mapping[str, Any]


def compose() -> Lesson:
    """Compose: A * B + D is a graph that waits for numbers."""
    A, B, D = (mx.sym.Variable(name) for name in "ABD")
    E = A * B + D
    facts = {"arguments": E.list_arguments(), "outputs": E.list_outputs()}
    return Lesson(E.draw(title="A * B + D"), facts)


def configure() -> Lesson:
    """Configure: operators take parameters, and make the weights that they need."""
    data = mx.sym.Variable("data")
    fc1 = mx.sym.FullyConnected(data, num_hidden=128, name="fc1")
    net = mx.sym.Activation(fc1, act_type="relu", name="relu1")
    facts = {"arguments": net.list_arguments(), "outputs": net.list_outputs()}
    return Lesson(net.draw(title="A layer and its activation"), facts)


def two_inputs() -> Lesson:
    """Two inputs: a network may start from as many as you like."""
    lhs, rhs = mx.sym.Variable("data1"), mx.sym.Variable("data2")
    net = mx.sym.FullyConnected(lhs + rhs, num_hidden=128, name="fc1")
    facts = {"arguments": net.list_arguments(), "outputs": net.list_outputs()}
    return Lesson(net.draw(title="A network with two inputs"), facts)


def bind() -> Lesson:
    """Bind: arrays for the arguments, room for the outputs."""
    A, B, D = (mx.sym.Variable(name) for name in "ABD")
    C = mx.sym.elemwise_mul(A, B, name="C")
    E = mx.sym.elemwise_mul(C, D, name="E")
    arrays = {"A": mx.nd.array([10]), "B": mx.nd.array([1]), "D": mx.nd.array([2])}
    executor = E.bind(mx.cpu(), arrays)
    facts = {"arguments": sorted(executor.arg_dict), "outputs": [a.shape for a in executor.outputs]}
    return Lesson(executor.draw(title="E = (A * B) * D, bound"), facts)


def product_of_three() -> tuple[mx.Symbol, mx.Symbol]:
    """The graph of `bind`: C = A * B and E = C * D."""
    A, B, D = (mx.sym.Variable(name) for name in "ABD")
    C = mx.sym.elemwise_mul(A, B, name="C")
    E = mx.sym.elemwise_mul(C, D, name="E")
    return C, E


def forward() -> Lesson:
    """Forward: bound arrays are shared, so that what is written later is seen."""
    _, E = product_of_three()
    a, b, d = mx.nd.array([3]), mx.nd.array([1]), mx.nd.array([2])
    executor = E.bind(mx.cpu(), [a, b, d])
    before = executor.forward()[0].item()
    a[:] = 10
    after = executor.forward()[0].item()
    return Lesson(executor.draw(title="Forward, after A[:] = 10"), {"E": before, "E after": after})


def group() -> Lesson:
    """Group: several outputs of one graph, computed together."""
    C, E = product_of_three()
    both = mx.sym.Group([C, E])
    executor = both.bind(mx.cpu(), [mx.nd.array([10]), mx.nd.array([1]), mx.nd.array([2])])
    c, e = executor.forward()
    facts = {"outputs": both.list_outputs(), "C": c.item(), "E": e.item()}
    return Lesson(executor.draw(title="Group([C, E])"), facts)


def backward() -> Lesson:
    """Backward: give the gradient of the output, get those of the arguments."""
    _, E = product_of_three()
    ga = mx.nd.zeros((1,))
    arrays = [mx.nd.array([10]), mx.nd.array([1]), mx.nd.array([2])]
    executor = E.bind(mx.cpu(), arrays, args_grad={"A": ga})
    executor.forward(is_train=True)
    executor.backward(mx.nd.array([2]))
    facts = {"E": executor.outputs[0].item(), "grad A": ga.item()}
    return Lesson(executor.draw(title="Backward, with head gradient 2"), facts)


def simple_bind() -> Lesson:
    """Simple bind: from the shape of the data follow those of all other arrays."""
    data = mx.sym.Variable("data")
    fc1 = mx.sym.FullyConnected(data, num_hidden=128, name="fc1")
    relu1 = mx.sym.Activation(fc1, act_type="relu", name="relu1")
    net = mx.sym.FullyConnected(relu1, num_hidden=10, name="fc2")
    weights = {name: "write" for name in net.list_arguments() if name != "data"}
    executor = net.simple_bind(mx.cpu(), grad_req=weights, data=(100, 768))
    shapes = {name: array.shape for name, array in executor.arg_dict.items()}
    facts = {**shapes, "output": executor.outputs[0].shape}
    return Lesson(executor.draw(title="simple_bind(data=(100, 768))"), facts)


def auxiliary_states() -> Lesson:
    """Auxiliary states: what training keeps up to date without a gradient."""
    data = mx.sym.Variable("data")
    net = mx.sym.BatchNorm(data, fix_gamma=False, momentum=0.9, name="bn")
    executor = net.simple_bind(mx.cpu(), grad_req={"bn_gamma": "write"}, data=(4, 2))
    executor.arg_dict["bn_gamma"][:] = executor.aux_dict["bn_moving_var"][:] = 1
    executor.forward(is_train=True, data=mx.nd.array([[1, 20], [2, 20], [3, 40], [6, 40]]))
    executor.backward(mx.nd.ones((4, 2)))
    facts = {name: _rounded(array) for name, array in executor.aux_dict.items()}
    return Lesson(executor.draw(title="BatchNorm and its two auxiliary states"), facts)


def _rounded(array: mx.NDArray) -> list[float]:
    return [round(float(value), 4) for value in array.asnumpy()]


LESSONS: tuple[Callable[[], Lesson], ...] = (
    compose,
    configure,
    two_inputs,
    bind,
    forward,
    group,
    backward,
    simple_bind,
    auxiliary_states,
)


def run(lesson: Callable[[], Lesson]) -> Lesson:
    """Run one program with automatic names that count from zero."""
    with mx.name.NameManager():
        return lesson()
