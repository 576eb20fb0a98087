"""Elementwise steps behind products, convolutions and softmax: taken along, no bit changes."""

from __future__ import annotations

import numpy as np
import pytest
from kernel_calls import kernels

import raysym as mx
from raysym.kernels.link import describe, needed
from raysym.kernels.tracing import trace
from raysym.op import make_op
from raysym.planning.plan import Run
from raysym.runtime.linked import LinkedRuntime
from raysym.types import TensorType

V = mx.sym.Variable


def dense(width: int, k: int) -> mx.Symbol:
    return mx.sym.FullyConnected(V("x", shape=(37, k)), num_hidden=width, name="fc")


def image(channels: int, filters: int, side: int, **params: object) -> mx.Symbol:
    x = V("x", shape=(2, channels, side, side + 1))
    return mx.sym.Convolution(x, num_filter=filters, name="conv", **params)


PAD = {"kernel": (3, 3), "pad": (1, 1)}
MADE = {
    "product": lambda: dense(70, 50),
    "deep product": lambda: dense(45, 2400),
    "many products": lambda: mx.sym.batch_dot(V("x", shape=(3, 40, 9)), V("z", shape=(3, 9, 50))),
    "one cell": lambda: image(5, 40, 6, kernel=(1, 1)),
    "windows": lambda: image(5, 40, 6, stride=(2, 2), **PAD),
    "deep windows": lambda: image(70, 20, 5, stride=(1, 2), **PAD),
    "grouped": lambda: image(6, 40, 6, num_group=2, no_bias=True, **PAD),
    "tiles": lambda: image(20, 40, 9, **PAD),
    "tiles of 5": lambda: image(20, 40, 9, kernel=(5, 5)),
}
TAILS = {
    "relu": (lambda y: mx.sym.relu(y), "relu"),
    "sum": (lambda y: y + V("other"), "elemwise_add"),
    "kept": (lambda y: mx.sym.Group([y, mx.sym.relu(y) * 2]), "_mul_scalar"),
    "number": (lambda y: mx.sym.broadcast_mul(y, V("one", shape=(1,))), "broadcast_mul"),
    "normalised": (lambda y: mx.sym.relu(mx.sym.BatchNorm(y, name="bn", axis=1)), "relu"),
}


def run(net: mx.Symbol, train: bool, threads: int = 1, dtype: str = "float32", **options: bool):
    """Outputs and gradients, and the lines of the program."""
    used = LinkedRuntime(threads, kernels(), **options)
    types = dict.fromkeys(net.list_arguments(), dtype)
    executor = net.simple_bind(mx.cpu(), runtime=used, type_dict=types)
    rng = np.random.default_rng(0)
    for array in (*executor.arg_dict.values(), *executor.aux_dict.values()):
        array[:] = rng.uniform(-0.5, 0.9, array.shape)
    for array in executor.aux_dict.values():
        array[:] = rng.uniform(0.4, 0.9, array.shape)
    executor.forward(is_train=train)
    found = [output.asnumpy() for output in executor.outputs]
    if train:
        executor.backward([mx.nd.array(np.sin(o + 1), dtype=dtype) for o in found])
        found += [g.asnumpy() for g in executor.grad_dict.values() if g is not None]
    steps = [s for made in used.workers for phase in made.found.phases.values() for s in phase]
    used.close()
    return found, [describe(step) for step in steps]


def assert_same(left: list[np.ndarray], right: list[np.ndarray]) -> None:
    assert [a.tobytes() for a in left] == [a.tobytes() for a in right]


CASES = [("product", tail) for tail in TAILS if tail != "normalised"]
CASES += [(made, "normalised") for made in ("one cell", "windows", "tiles")]
CASES += [(made, "sum") for made in MADE if made != "product"]


@pytest.mark.parametrize(("made", "tail"), CASES)
def test_steps_are_taken_along_and_change_no_bit(made: str, tail: str) -> None:
    steps, last = TAILS[tail]
    fused, lines = run(steps(MADE[made]()), False, poison=True)
    apart, _ = run(steps(MADE[made]()), False, fused=False)
    assert_same(fused, apart)
    makers = ("gemm", "conv_forward", "tiled_forward")
    assert any(f"+{last}" in line and line.rpartition("(")[2][:-1] in makers for line in lines)


def rows_of(shape: tuple[int, ...] = (37, 45)) -> mx.Symbol:
    return mx.sym.relu(mx.sym.BlockGrad(V("x", shape=shape)))


SOFTMAX = {
    "softmax": lambda: mx.sym.softmax(rows_of()),
    "log_softmax": lambda: mx.sym.log_softmax(rows_of()),
    "SoftmaxOutput": lambda: mx.sym.SoftmaxOutput(rows_of(), name="loss"),
    "SoftmaxActivation": lambda: mx.sym.SoftmaxActivation(rows_of((37, 5, 9))),
}
BEHIND_SOFTMAX = {
    "other": lambda y: mx.sym.relu(y - 0.02) * V("other"),
    "kept": lambda y: mx.sym.Group([y, mx.sym.tanh(y) * 2]),
    "number": lambda y: mx.sym.broadcast_mul(y, V("one", shape=(1,))),
}


@pytest.mark.parametrize("tail", BEHIND_SOFTMAX)
@pytest.mark.parametrize("made", SOFTMAX)
def test_softmax_takes_steps_along_and_changes_no_bit(made: str, tail: str) -> None:
    net = BEHIND_SOFTMAX[tail](SOFTMAX[made]())
    fused, lines = run(net, True, poison=True)
    assert_same(fused, run(net, True, fused=False)[0])
    assert_same(fused, run(net, True, threads=2, poison=True)[0])
    assert any(line.startswith(f"call      {made}+") for line in lines)


def test_a_loss_joins_the_loop_of_what_follows() -> None:
    def net(loss: str) -> mx.Symbol:
        return getattr(mx.sym, loss)(V("x", shape=(37, 45)) * 2, name="loss") + V("other")

    losses = ("LinearRegressionOutput", "LogisticRegressionOutput", "MAERegressionOutput")
    for loss in (*losses, "MakeLoss", "SVMOutput"):
        fused, lines = run(net(loss), False, poison=True)
        assert f"call      _mul_scalar+{loss}+elemwise_add (flat_map)" in lines
        assert_same(fused, run(net(loss), False, fused=False)[0])


def test_the_gradient_of_softmax_takes_that_of_what_comes_before_along() -> None:
    def net(made: str) -> mx.Symbol:
        return getattr(mx.sym, made)(mx.sym.relu(V("x", shape=(37, 45)))) * V("other")

    for made in ("softmax", "log_softmax"):
        fused, lines = run(net(made), True, poison=True)
        assert_same(fused, run(net(made), True, fused=False)[0])
        assert (
            f"call      _backward_{made}+_greater_scalar+elemwise_mul (softmax_gradient)" in lines
        )


@pytest.mark.parametrize("made", ["deep product", "deep windows", "tiles", "grouped", "windows"])
def test_threads_change_no_bit(made: str) -> None:
    def net() -> mx.Symbol:
        return mx.sym.relu(MADE[made]() + V("other"))

    alone, _ = run(net(), True)
    for threads in (2, 3):
        assert_same(alone, run(net(), True, threads, poison=True)[0])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_gradient_of_what_comes_before_is_taken_along(dtype: str) -> None:
    def net() -> mx.Symbol:
        x = mx.sym.relu(mx.sym.FullyConnected(V("x", shape=(30, 20)), num_hidden=33, name="a"))
        y = mx.sym.FullyConnected(x, num_hidden=40, name="b") + V("residual")
        return mx.sym.FullyConnected(y, num_hidden=5, name="c")

    fused, lines = run(net(), True, dtype=dtype, poison=True)
    assert_same(fused, run(net(), True, dtype=dtype, fused=False)[0])
    assert "call      dot+_greater_scalar+elemwise_mul (gemm)" in lines
    assert "call      FullyConnected+elemwise_add (gemm)" in lines


def test_long_steps_keep_a_loop_of_their_own() -> None:
    _, lines = run(mx.sym.LeakyReLU(dense(20, 30), act_type="gelu"), False)
    assert {"call      FullyConnected (gemm)", "call      LeakyReLU (flat_map)"} <= {*lines}


def test_behind_large_results_longer_steps_are_taken_along() -> None:
    def net(k: int, act_type: str) -> mx.Symbol:
        y = mx.sym.FullyConnected(V("x", shape=(1024, k)), num_hidden=1024, name="fc")
        return mx.sym.Activation(y, act_type=act_type)

    for act_type in ("tanh", "sigmoid"):
        fused, lines = run(net(7, act_type), False, poison=True)
        assert "call      FullyConnected+Activation (gemm)" in lines
        assert_same(fused, run(net(7, act_type), False, fused=False)[0])


def test_a_view_between_is_seen_through() -> None:
    def net() -> mx.Symbol:
        y = mx.sym.Reshape(dense(24, 30), shape=(37, 4, 6))
        return mx.sym.broadcast_add(mx.sym.relu(y), V("row", shape=(1, 4, 6)))

    fused, lines = run(net(), False)
    assert "call      FullyConnected+relu+broadcast_add (gemm)" in lines
    assert_same(fused, run(net(), False, fused=False)[0])


def test_a_view_of_what_lies_channels_last_is_made_in_the_order_that_users_see() -> None:
    def net() -> mx.Symbol:
        return mx.sym.Reshape(mx.sym.relu(MADE["tiles"]()), shape=(-1, 10)) * 2

    assert_same(run(net(), False)[0], run(net(), False, fused=False)[0])


def test_given_statistics_are_those_of_the_reference() -> None:
    net = mx.sym.BatchNorm(image(5, 40, 6, **PAD), name="bn", fix_gamma=False, eps=0.01)
    linked = run(net, False)[0][0]
    executor = net.simple_bind(mx.cpu())
    rng = np.random.default_rng(0)
    for array in (*executor.arg_dict.values(), *executor.aux_dict.values()):
        array[:] = rng.uniform(-0.5, 0.9, array.shape)
    for array in executor.aux_dict.values():
        array[:] = rng.uniform(0.4, 0.9, array.shape)
    want = executor.forward(is_train=False)[0].asnumpy()
    np.testing.assert_allclose(linked, want, rtol=1e-5, atol=1e-6)


# ----- resident arrays that a step updates


def labels(k: int, left: str = "a") -> list[str]:
    """The program of ``w -= left b``."""
    shapes = {"a": (6, k), "b": (k, k), "w": (6, k), "g": (6, k)}
    types = {name: TensorType(shape, "float32") for name, shape in shapes.items()}
    minus = Run(("w",), make_op("elemwise_sub", {}), ("w", "g"))
    program = (Run(("g",), make_op("dot", {}), (left, "b")), minus)
    found = trace({"step": program}, types, ["a", "b", "w"])
    assert needed({"step": program}, types, ["a", "b", "w"])
    return [step.label for step in found.phases["step"]]


def test_an_update_joins_what_it_depends_on_unless_that_needs_the_old_value() -> None:
    assert labels(8) == ["dot+elemwise_sub"]
    assert labels(8, left="w") == ["dot", "elemwise_sub"]
    assert labels(1200) == ["dot", "elemwise_sub"]  # sums would wait where the old value lies
