"""`Symbol.gradient`: first and second order against finite differences, through bind."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

import raysym as mx

Arrays = Mapping[str, np.ndarray]


def run(symbol: mx.Symbol, arrays: Arrays, is_train: bool = True) -> list[np.ndarray]:
    held = {name: mx.nd.array(value, dtype=value.dtype) for name, value in arrays.items()}
    aux = {name: held[name] for name in symbol.list_auxiliary_states()}
    with symbol.bind(mx.cpu(), held, grad_req="null", aux_states=aux or None) as executor:
        return [output.asnumpy() for output in executor.forward(is_train=is_train)]


def arrays_of(symbol: mx.Symbol, **shapes: tuple[int, ...]) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(3)
    args, _, aux = symbol.infer_shape(**shapes)
    names = [*symbol.list_arguments(), *symbol.list_auxiliary_states()]
    made = {
        name: rng.uniform(0.2, 0.9, shape) for name, shape in zip(names, args + aux, strict=True)
    }
    if "label" in made:
        made["label"] = rng.integers(0, 2, made["label"].shape).astype("float64")
    return made


def mlp() -> mx.Symbol:
    x = mx.sym.FullyConnected(mx.sym.Variable("x"), num_hidden=5, name="fc1")
    x = mx.sym.Activation(x, act_type="tanh", name="act")
    return mx.sym.log_softmax(mx.sym.FullyConnected(x, num_hidden=4, name="fc2"), name="out")


def convolutional() -> mx.Symbol:
    x = mx.sym.Convolution(
        mx.sym.Variable("x"), kernel=(3, 2), num_filter=4, pad=(1, 0), name="conv"
    )
    x = mx.sym.BatchNorm(x, fix_gamma=False, name="bn")
    x = mx.sym.Pooling(mx.sym.sigmoid(x, name="s"), kernel=(2, 2), pool_type="avg", name="pool")
    return mx.sym.sum(mx.sym.square(x, name="sq"), axis=(1, 2), name="out")


def shared() -> mx.Symbol:
    x, w = mx.sym.Variable("x"), mx.sym.Variable("w")
    first = mx.sym.broadcast_mul(x, w) + mx.sym.exp(x)
    return mx.sym.Group([mx.sym.sin(first), mx.sym.broadcast_div(first, w * w), x])


GRAPHS = {
    "mlp": (mlp, {"x": (2, 3)}, ["x", "fc1_weight", "fc2_bias"]),
    "convolutional": (convolutional, {"x": (2, 3, 6, 5)}, ["x", "conv_weight", "bn_gamma"]),
    "shared": (shared, {"x": (3, 4), "w": (3, 1)}, ["x", "w"]),
}


def slope(symbol: mx.Symbol, arrays: Arrays, name: str, direction: np.ndarray) -> float:
    """The derivative of the sum of all outputs in one direction, by central differences."""
    step = 1e-5
    sides = []
    for sign in (1, -1):
        moved = {**arrays, name: arrays[name] + sign * step * direction}
        sides.append(sum(float(value.sum()) for value in run(symbol, moved)))
    return (sides[0] - sides[1]) / (2 * step)


def check(symbol: mx.Symbol, gradient: mx.Symbol, wrt: list[str], arrays: Arrays) -> None:
    rng = np.random.default_rng(4)
    for name, grad in zip(wrt, run(gradient, arrays), strict=True):
        assert grad.shape == arrays[name].shape
        direction = rng.normal(size=grad.shape)
        want = slope(symbol, arrays, name, direction)
        assert float((grad * direction).sum()) == pytest.approx(want, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("name", GRAPHS)
def test_first_order_equals_finite_differences(name: str) -> None:
    make, shapes, wrt = GRAPHS[name]
    symbol = make()
    arrays = arrays_of(symbol, **shapes)
    check(symbol, symbol.gradient(wrt), wrt, arrays)


@pytest.mark.parametrize("name", GRAPHS)
def test_second_order_equals_finite_differences(name: str) -> None:
    make, shapes, wrt = GRAPHS[name]
    symbol = make()
    arrays = arrays_of(symbol, **shapes)
    # Squared, since the plain gradient of a linear part is constant and would prove nothing.
    squared = mx.sym.Group([mx.sym.square(grad) for grad in symbol.gradient(wrt)])
    check(squared, squared.gradient(wrt), wrt, arrays)


def test_third_order_of_a_polynomial() -> None:
    x = mx.sym.Variable("x")
    third = (x**4).gradient("x").gradient("x").gradient("x")
    np.testing.assert_allclose(run(third, {"x": np.array([1.0, 2.0])})[0], [24, 48])


@pytest.mark.parametrize("name", GRAPHS)
def test_gradient_agrees_with_backward(name: str) -> None:
    make, shapes, wrt = GRAPHS[name]
    symbol = make()
    arrays = arrays_of(symbol, **shapes)
    held = {key: mx.nd.array(value, dtype="float64") for key, value in arrays.items()}
    grads = {key: mx.nd.zeros(arrays[key].shape, dtype="float64") for key in wrt}
    aux = [held[key] for key in symbol.list_auxiliary_states()]
    with symbol.bind(mx.cpu(), held, grads, aux_states=aux) as executor:
        heads = [mx.nd.ones(o.shape, dtype="float64") for o in executor.forward(is_train=True)]
        executor.backward(heads)
    for key, got in zip(wrt, run(symbol.gradient(wrt), arrays), strict=True):
        np.testing.assert_allclose(got, grads[key].asnumpy(), rtol=1e-9, atol=1e-12)


def test_a_loss_needs_no_head_gradient() -> None:
    net = mx.sym.SoftmaxOutput(mx.sym.Variable("x"), mx.sym.Variable("label"), name="softmax")
    arrays = arrays_of(net, x=(3, 2))
    probabilities = run(net, arrays)[0]
    want = probabilities - np.eye(2)[arrays["label"].astype(int)]
    np.testing.assert_allclose(run(net.gradient("x"), arrays)[0], want)


def test_the_graph_of_a_gradient() -> None:
    x = mx.sym.Variable("x")
    with mx.AttrScope(ctx_group="left"):
        y = mx.sym.tanh(x, name="y")
    graph = y.gradient(x).graph
    assert str(graph) == (
        "x = Variable()\n"
        "y = tanh(x)\n"
        "y_backward = ones_like(y)\n"
        "y_backward#1 = square(y)\n"
        "y_backward#2 = _rminus_scalar(y_backward#1)\n"
        "y_backward#3 = elemwise_mul(y_backward, y_backward#2)\n"
        "x_grad = _copy(y_backward#3)\n"
        "return x_grad"
    )
    groups = [node.attrs.get("__ctx_group__") for node in graph.nodes[2:-1]]
    assert groups == ["left"] * 4  # a gradient runs where its forward node runs


@pytest.mark.parametrize("name", GRAPHS)
def test_gradients_work_before_shapes_are_known(name: str) -> None:
    make, shapes, wrt = GRAPHS[name]
    symbol = make()
    gradient = symbol.gradient(wrt)
    known = dict(zip(symbol.list_arguments(), symbol.infer_shape(**shapes)[0], strict=True))
    assert gradient.infer_shape(**known)[1] == [known[key] for key in wrt]
    assert gradient.list_outputs() == [f"{key}_grad_output" for key in wrt]


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("order", [1, 2])
def test_names_are_unique_and_survive_json(name: str, order: int) -> None:
    make, shapes, wrt = GRAPHS[name]
    symbol = make()
    arrays = arrays_of(symbol, **shapes)
    for _ in range(order):
        symbol = symbol.gradient(wrt)
    names = [node.name for node in symbol.graph.nodes]
    assert len(set(names)) == len(names)
    assert all(names)
    loaded = mx.sym.load_json(symbol.tojson())
    assert loaded.tojson() == symbol.tojson()
    for got, want in zip(run(loaded, arrays), run(symbol, arrays), strict=True):
        assert np.array_equal(got, want)


def test_gradients_by_internal_values() -> None:
    x = mx.sym.Variable("x")
    middle = mx.sym.square(x, name="middle")
    gradient = (middle * 3).gradient([middle, x])
    assert gradient.list_outputs() == ["middle_grad_output", "x_grad_output"]
    got = run(gradient, {"x": np.array([1.0, 2.0])})
    np.testing.assert_allclose(got, [[3, 3], [6, 12]])


def test_unconnected_gradients_are_zeros() -> None:
    x, w = mx.sym.Variable("x"), mx.sym.Variable("w")
    y = mx.sym.broadcast_add(mx.sym.BlockGrad(x), w)
    got = run(y.gradient(["x", "w"]), {"x": np.ones((2, 3)), "w": np.ones((1, 3))})
    np.testing.assert_array_equal(got[0], np.zeros((2, 3)))
    np.testing.assert_array_equal(got[1], np.full((1, 3), 2.0))


def test_dropout_draws_one_mask_for_value_and_gradient() -> None:
    x = mx.sym.Variable("x")
    y = mx.sym.Dropout(x, p=0.5, name="drop")
    both = mx.sym.Group([y, y.gradient("x")])
    for is_train in (True, False):  # the gradient is that of training in either mode
        value, grad = run(both, {"x": np.full((40,), 3.0)}, is_train)
        assert set(grad) == {0.0, 2.0}
        np.testing.assert_array_equal(value, 3 * grad)


def test_gradients_bind_and_train_like_any_symbol() -> None:
    """A gradient penalty: the loss holds a gradient and is differentiated by the executor."""
    x, w = mx.sym.Variable("x"), mx.sym.Variable("w")
    y = mx.sym.sin(x * w)
    penalty = mx.sym.make_loss(mx.sym.square(y.gradient("x")))
    executor = penalty.simple_bind(mx.cpu(), x=(3,), w=(3,), type_dict={"x": "float64"})
    with executor:
        executor.arg_dict["x"][:] = [0.1, 0.2, 0.3]
        executor.arg_dict["w"][:] = [1.0, 2.0, 3.0]
        executor.forward(is_train=True)
        executor.backward()
        got = executor.grad_dict["w"].asnumpy()
    a, b = np.array([0.1, 0.2, 0.3]), np.array([1.0, 2.0, 3.0])
    want = 2 * b * np.cos(a * b) ** 2 - 2 * b**2 * np.cos(a * b) * np.sin(a * b) * a
    np.testing.assert_allclose(got, want, rtol=1e-9)


# ----- misuse


def test_misuse_is_refused() -> None:
    x = mx.sym.Variable("data")
    y = mx.sym.tanh(x)
    with pytest.raises(mx.MXNetError, match=r"'dat' is no variable .* Did you mean 'data'\?"):
        y.gradient("dat")
    with pytest.raises(mx.MXNetError, match=r"'data' is no part of this symbol's graph"):
        y.gradient(mx.sym.Variable("data"))
    with pytest.raises(mx.MXNetError, match="'data' is the name of 2 variables"):
        (y + mx.sym.Variable("data")).gradient("data")
    with pytest.raises(TypeError, match="got an empty list, expected names or symbols"):
        y.gradient([])
    with pytest.raises(TypeError, match="got 3, expected a name, a Symbol or a list"):
        y.gradient([3])
    with pytest.raises(mx.MXNetError, match=r"shuffle 'mix': operator is not differentiable"):
        mx.sym.shuffle(x, name="mix").gradient("data")


def test_several_outputs_are_several_gradients() -> None:
    x = mx.sym.Variable("x")
    halves = mx.sym.split(x, num_outputs=2, axis=0, name="half")
    gradient = (halves[0] * halves[1]).gradient(halves)
    assert gradient.list_outputs() == ["half_grad_output", "half1_grad_output"]
    np.testing.assert_allclose(run(gradient, {"x": np.array([2.0, 5.0])}), [[5], [2]])
