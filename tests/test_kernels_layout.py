"""Layout: images lie channels-last from one border of a convolutional region to the other.

Users see channels first. No bit of a page that only moves or maps numbers depends on where they
lie; pages that add up always lie the same way.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from kernel_calls import call, kernels
from random_graphs import assert_same_bits
from samples import SAMPLES, Sample

import raysym as mx
from raysym.kernels.images import lies_last
from raysym.kernels.pages import Traced, traced
from raysym.op import Op, call_kernel, make_op
from raysym.runtime.linked import LinkedRuntime
from raysym.types import TensorType

# ----- pages


def single(sample: Sample) -> list[np.ndarray]:
    """The sample's inputs in float32 in place of float64."""
    arrays = sample.arrays()
    return [np.ascontiguousarray(a.astype("f4") if a.dtype == np.float64 else a) for a in arrays]


def kinds_of(arrays: list[np.ndarray]) -> tuple[TensorType, ...]:
    return tuple(TensorType(a.shape, a.dtype.name) for a in arrays)


def made_by(op: Op, arrays: list[np.ndarray]) -> list[np.ndarray]:
    """What the reference kernel makes."""
    with np.errstate(all="ignore"):
        return list(call_kernel(op, np, arrays, np.random.default_rng(0)))


def cases() -> list[object]:
    """Samples on images whose page has a kernel for where they lie channels-last."""
    found = []
    for name, samples in SAMPLES.items():
        for i, sample in enumerate(samples):
            op, arrays = make_op(name, sample.params), single(sample)
            if op.random or not any(a.ndim > 2 and min(a.shape) for a in arrays):
                continue
            given = kinds_of(arrays), kinds_of(made_by(op, arrays))
            seen = traced(op, *given, last=True)
            if seen and seen.last and (seen.moves or lies_last(op, [t.shape for t in given[0]])):
                found.append(pytest.param(op, arrays, id=f"{name}-{i}"))
    return found


def run(page: Traced, arrays: list[np.ndarray], wants: list[np.ndarray]) -> list[np.ndarray]:
    """Call a page's kernel on arrays of the layout that it wants; results as users see them."""

    def laid(array: np.ndarray, side: str, i: int) -> np.ndarray:
        last = (side, i) in page.last
        return np.ascontiguousarray(np.moveaxis(array, 1, -1) if last else array)

    given = [laid(arrays[i], "in", i) for i in page.reads]
    made = [laid(np.zeros_like(w), "out", i) for i, w in enumerate(wants)]
    space = [np.full(page.nbytes, 0xFF, np.uint8)] if page.nbytes else []
    call(page.spec, *given, *made, *space)
    return [np.moveaxis(m, -1, 1) if ("out", i) in page.last else m for i, m in enumerate(made)]


@pytest.mark.parametrize(("op", "arrays"), cases())
def test_pages_on_images_that_lie_channels_last(op: Op, arrays: list[np.ndarray]) -> None:
    wants = made_by(op, arrays)
    given = kinds_of(arrays), kinds_of(wants)
    page, plain = traced(op, *given, last=True), traced(op, *given)
    assert page is not None
    made = run(page, arrays, wants)
    for got, want in zip(made, wants, strict=True):
        size = float(np.abs(np.nan_to_num(want, posinf=0, neginf=0)).max(initial=1))
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=2e-6 * size)
    if page.moves and plain is not None:
        for got, other in zip(made, run(plain, arrays, wants), strict=True):
            assert np.ascontiguousarray(got).tobytes() == other.tobytes()


# ----- graphs

S = mx.sym
Image = Callable[[mx.Symbol, mx.Symbol], mx.Symbol]


def conv(x: mx.Symbol, filters: int = 6) -> mx.Symbol:
    # Without bias: before a normalisation its gradient is nothing but rounding.
    return S.Convolution(x, num_filter=filters, kernel=(3, 3), pad=(1, 1), no_bias=True)


def halves(x: mx.Symbol) -> mx.Symbol:
    parts = S.SliceChannel(x, num_outputs=2)
    return conv(parts[0]) + conv(parts[1])


def squeezed(x: mx.Symbol, y: mx.Symbol, kind: str) -> mx.Symbol:
    return S.broadcast_mul(y, S.tanh(getattr(S, kind)(x, axis=(2, 3), keepdims=True) * 0.1))


BORDER = (0, 0, 0, 0, 1, 1, 2, 2)
IMAGES: dict[str, Image] = {
    "Concat": lambda x, y: S.Concat(x, y, x),
    "slice_axis": lambda x, y: S.slice_axis(x, axis=1, begin=1, end=5),
    "SliceChannel": lambda x, y: halves(x),
    "slice": lambda x, y: S.slice(x, begin=(None, None, 1, 1), end=(None, None, 5, 5)),
    "Crop": lambda x, y: S.Crop(x, h_w=(5, 5)),
    "pooling without padding": lambda x, y: S.Pooling(
        x, kernel=(3, 3), pad=(1, 1), pool_type="avg", count_include_pad=False
    ),
    "pooling rounded up": lambda x, y: S.Pooling(
        x, kernel=(3, 3), stride=(2, 2), pool_type="avg", pooling_convention="full"
    ),
    "pooling of norms": lambda x, y: S.Pooling(
        x, kernel=(3, 3), pad=(1, 1), pool_type="lp", p_value=2
    ),
    "mean": lambda x, y: squeezed(x, y, "mean"),
    "sum": lambda x, y: squeezed(x, y, "sum"),
    "max": lambda x, y: squeezed(x, y, "max"),
    "constant Pad": lambda x, y: S.Pad(x, mode="constant", pad_width=BORDER),
    "edge Pad": lambda x, y: S.Pad(x, mode="edge", pad_width=BORDER),
    "mirrored Pad": lambda x, y: S.Pad(x, mode="reflect", pad_width=BORDER),
    "LRN": lambda x, y: S.LRN(x, nsize=3),
    "UpSampling": lambda x, y: S.UpSampling(x, y, scale=2, sample_type="nearest", num_args=2),
    "InstanceNorm": lambda x, y: S.InstanceNorm(x),
    "GroupNorm": lambda x, y: S.GroupNorm(x, num_groups=2),
    "L2Normalization": lambda x, y: S.L2Normalization(x, mode="channel"),
    "given statistics": lambda x, y: S.BatchNorm(x, use_global_stats=True, fix_gamma=False),
    "prelu": lambda x, y: S.LeakyReLU(x, act_type="prelu"),
    "softmax": lambda x, y: S.softmax(x, axis=1),
    "log_softmax": lambda x, y: S.log_softmax(x, axis=1),
    "SoftmaxActivation": lambda x, y: S.SoftmaxActivation(x, mode="channel"),
    "channels scaled": lambda x, y: S.broadcast_mul(x, S.Variable("g", shape=(1, 6, 1, 1))),
    "Dropout": lambda x, y: S.Dropout(x, p=0.4),
    "rrelu": lambda x, y: S.LeakyReLU(x, act_type="rrelu")[0],
    "reverse": lambda x, y: S.reverse(x, axis=3),
}


def between(image: Image) -> mx.Symbol:
    """``conv -> image -> conv``."""
    x = S.Variable("data")
    return conv(image(conv(x), conv(x)), 4)


# Data in and the output out; backward, the head gradient and data in, data's gradient out.
BORDERS = {"forward": 2, "backward": 3, "inference": 2}
Arrays = dict[str, np.ndarray]


def step(net: mx.Symbol, shape: tuple[int, ...], **where: object) -> tuple[Arrays, mx.Executor]:
    """Outputs and gradients of a step, and outputs of inference."""
    mx.random.seed(3)
    executor = net.simple_bind(mx.cpu(), data=shape, **where)
    rng = np.random.default_rng(1)
    for array in (*executor.arg_dict.values(), *executor.aux_dict.values()):
        array[:] = rng.uniform(0.2, 0.9, array.shape)
    found = {"trained": executor.forward(is_train=True)[0].asnumpy()}
    executor.backward(mx.nd.array(rng.uniform(-1, 1, executor.outputs[0].shape)))
    found |= {n: g.asnumpy() for n, g in executor.grad_dict.items()}
    return found | {"inferred": executor.forward(is_train=False)[0].asnumpy()}, executor


def turns(executor: mx.Executor) -> dict[str, int]:
    """How many transposes each phase makes; all else must have a generated kernel."""
    found = [worker.found for worker in executor._session.runtime.workers]
    assert not any(trace.uncovered for trace in found)
    phases = [item for trace in found for item in trace.phases.items()]
    return {name: sum(s.spec.maker == "transpose" for s in steps) for name, steps in phases}


def runtime(**options: bool) -> LinkedRuntime:
    return LinkedRuntime(kernels=kernels(), **options)


@pytest.mark.parametrize("name", IMAGES)
def test_nothing_is_turned_between_convolutions(name: str) -> None:
    net, shape = between(IMAGES[name]), (2, 3, 7, 9)
    got, executor = step(net, shape, runtime=runtime())
    assert turns(executor) == BORDERS
    want, _ = step(net, shape)
    for key, value in want.items():
        size = float(np.abs(value).max())
        np.testing.assert_allclose(got[key], value, rtol=1e-4, atol=2e-5 * size, err_msg=key)
    assert_same_bits(got, step(net, shape, runtime=runtime(poison=True))[0])


def unit(x: mx.Symbol, filters: int, width: int) -> mx.Symbol:
    """Convolution, BatchNorm and relu."""
    kernel, pad = (width, width), (width // 2,) * 2
    x = S.Convolution(x, num_filter=filters, kernel=kernel, pad=pad, no_bias=True)
    return S.Activation(S.BatchNorm(x, fix_gamma=False), act_type="relu")


def block(x: mx.Symbol) -> mx.Symbol:
    """Four towers, as in Inception-v3."""
    three = unit(unit(x, 4, 1), 6, 3)
    mean = S.Pooling(x, kernel=(3, 3), pad=(1, 1), pool_type="avg", count_include_pad=False)
    best = S.Pooling(x, kernel=(3, 3), pad=(1, 1), pool_type="max")
    return S.Concat(unit(x, 5, 1), three, unit(mean, 3, 1), best)


def towers() -> mx.Symbol:
    x = block(block(unit(S.Variable("data"), 6, 3)))
    x = S.Flatten(S.Pooling(x, kernel=(1, 1), global_pool=True, pool_type="avg"))
    return S.SoftmaxOutput(S.FullyConnected(x, num_hidden=5, name="fc"), name="softmax")


def test_towers_that_are_joined_turn_the_data_only() -> None:
    net = towers()
    got, executor = step(net, (2, 3, 9, 7), runtime=runtime())
    # The gradients of weights want the data turned too, and data has a gradient here.
    assert turns(executor) == {"forward": 1, "backward": 2, "inference": 1}
    want, _ = step(net, (2, 3, 9, 7))
    for key, value in want.items():
        size = float(np.abs(value).max())
        np.testing.assert_allclose(got[key], value, rtol=1e-3, atol=1e-4 * size, err_msg=key)


@pytest.mark.parametrize("dtype", ["float64", "float16", "int32", "uint8", "bool"])
def test_images_of_other_dtypes_come_back_as_users_see_them(dtype: str) -> None:
    x = S.Convolution(S.Variable("data"), num_filter=5, kernel=(2, 2), no_bias=True) * 9
    net = S.Group(
        [S.Cast(x, dtype=dtype), S.Cast(S.slice_axis(x, axis=1, begin=1, end=4), dtype=dtype)]
    )

    def outputs(**where: object) -> list[np.ndarray]:
        executor = net.simple_bind(mx.cpu(), grad_req="null", data=(2, 3, 4, 7), **where)
        for array in executor.arg_dict.values():
            array[:] = np.arange(array.size).reshape(array.shape) % 7 - 2
        return [array.asnumpy() for array in executor.forward()]

    for got, want in zip(outputs(runtime=runtime()), outputs(), strict=True):
        np.testing.assert_array_equal(got, want)
