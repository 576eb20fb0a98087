"""Images beside values of as many numbers in another shape: these lie as users see them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

pytest.importorskip("llvmlite")

from kernel_calls import kernels
from random_graphs import assert_same_bits

import raysym as mx
from raysym.runtime.linked import LinkedRuntime

S = mx.sym
BATCHES = {1: (1, 3, 5, 7), 2: (2, 3, 5, 7)}


def image() -> Any:
    return S.Convolution(
        S.Variable("data"), num_filter=6, kernel=(3, 3), pad=(1, 1), no_bias=True, name="image"
    )


def plain() -> Any:
    return S.tanh(S.Variable("y", shape=(6, 5, 7)))


def beside(make: Callable[[Any, Any], Any]) -> Any:
    """With a value of the shape of an image without its batch, which is an output as well."""
    value = plain()
    return S.Group([make(image(), value), value])


def flat(make: Callable[[Any], list[Any]]) -> Any:
    """With the image in one row for each sample."""
    return S.Group(make(image()))


def read_later() -> Any:
    """With a value that a kernel of another loop reads."""
    value = plain()
    product = S.broadcast_mul(S.softmax(image(), axis=1), value)
    return S.Group([product, S.sum(value, axis=1), S.max(value, axis=0)])


# Batch and network: of one image, (6, 5, 7) and (1, 6, 5, 7) have as many numbers.
NETS = {
    "softmax": (1, beside(lambda x, y: S.broadcast_add(S.softmax(x, axis=1), y))),
    "upsampling": (
        1,
        beside(lambda x, y: S.broadcast_add(S.UpSampling(x, scale=1, sample_type="nearest"), y)),
    ),
    "tail": (1, beside(S.broadcast_add)),
    "head": (1, beside(lambda x, y: S.sum(S.broadcast_add(S.softmax(x, axis=1), y), axis=(2, 3)))),
    "read later": (1, read_later()),
    "scaled": (2, flat(lambda x: [S.Reshape(x, shape=(0, -1)) * 3, x * 2])),
    "both": (2, flat(lambda x: [S.Flatten(S.tanh(x)) * S.Flatten(x), S.tanh(x) * 2])),
    "squares": (2, flat(lambda x: [S.square(S.Flatten(S.relu(x))), S.tanh(S.relu(x))])),
    "broadcast": (
        2,
        flat(lambda x: [S.broadcast_mul(S.Flatten(x), S.Variable("z", shape=(1, 210))), S.tanh(x)]),
    ),
}


def numbers(net: Any, batch: int, **where: Any) -> dict[str, np.ndarray]:
    """Outputs and gradients."""
    executor = net.simple_bind(mx.cpu(), data=BATCHES[batch], **where)
    rng = np.random.default_rng(0)
    for array in executor.arg_dict.values():
        array[:] = rng.uniform(-1, 1, array.shape)
    outputs = executor.forward(is_train=True)
    executor.backward([mx.nd.array(rng.uniform(-1, 1, output.shape)) for output in outputs])
    found = {f"output {i}": output.asnumpy() for i, output in enumerate(outputs)}
    return found | {name: grad.asnumpy() for name, grad in executor.grad_dict.items()}


@pytest.mark.parametrize("name", NETS)
def test_every_value_lies_as_those_read_it_who_see_its_shape(name: str) -> None:
    batch, net = NETS[name]
    want = numbers(net, batch)
    found = numbers(net, batch, runtime=LinkedRuntime(kernels=kernels()))
    assert set(found) == set(want)
    for key, value in want.items():
        np.testing.assert_allclose(found[key], value, rtol=1e-4, atol=1e-5, err_msg=key)
    for options in ({"fused": False}, {"poison": True}, {"threads": 2}):
        runtime = LinkedRuntime(kernels=kernels(), **options)
        assert_same_bits(found, numbers(net, batch, runtime=runtime))
