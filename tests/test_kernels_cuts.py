"""The cut cannot change the bits: graphs of images, whose layouts and loops depend on neighbours.

Every kernel computes each value from its operands alone, in an order that its op and types fix.
Fusion and layouts only say where values lie meanwhile, so they may be chosen on each worker.
"""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from random_graphs import assert_same_bits

import raysym as mx

SHAPE = (2, 4, 6, 5)
KINDS = 21
SQUARE = {"kernel": (3, 3), "pad": (1, 1)}
BORDER = {"mode": "edge", "pad_width": (0, 0, 0, 0, 1, 1, 1, 1)}
INNER = {"kernel": (3, 3), "num_filter": SHAPE[1]}
TWICE = {"scale": 2, "sample_type": "nearest"}
HALF = {"kernel": (2, 2), "stride": (2, 2), "pool_type": "avg"}


def image_symbol(rng: np.random.Generator, n_nodes: int, n_groups: int) -> mx.Symbol:
    """A graph of images with random ctx_groups, and a loss on top."""
    pool = [mx.sym.Variable("data")]
    for i in range(n_nodes):
        with mx.AttrScope(ctx_group=f"g{rng.integers(n_groups)}"):
            recent = pool[-3:]
            x, y = (recent[int(rng.integers(len(recent)))] for _ in range(2))
            pool.append(node(int(rng.integers(KINDS)), x, y, i))
    with mx.AttrScope(ctx_group=f"g{rng.integers(n_groups)}"):
        return mx.sym.SoftmaxOutput(mx.sym.FullyConnected(pool[-1], num_hidden=3), name="softmax")


def node(kind: int, x: mx.Symbol, y: mx.Symbol, i: int) -> mx.Symbol:
    channel = mx.sym.Variable(f"scale{i}", shape=(1, SHAPE[1], 1, 1))
    makers = [
        lambda: mx.sym.Convolution(x, num_filter=SHAPE[1], name=f"conv{i}", **SQUARE),
        lambda: mx.sym.Convolution(x, kernel=(1, 1), num_filter=SHAPE[1], name=f"one{i}"),
        lambda: mx.sym.BatchNorm(x, fix_gamma=False, name=f"bn{i}"),
        lambda: mx.sym.Activation(x, act_type="relu"),
        lambda: mx.sym.Pooling(x, pool_type="max", **SQUARE),
        lambda: mx.sym.Pooling(x, pool_type="sum", **SQUARE) * 0.1,
        lambda: x + y,
        lambda: mx.sym.tanh(x) * y,
        lambda: mx.sym.broadcast_mul(x, channel),
        lambda: mx.sym.broadcast_mul(x, mx.sym.mean(x * y, axis=(2, 3), keepdims=True)),
        lambda: mx.sym.slice_axis(mx.sym.Concat(x, y), axis=1, begin=2, end=2 + SHAPE[1]),
        lambda: mx.sym.Concat(*reversed([*mx.sym.SliceChannel(x, num_outputs=2)])),
        lambda: mx.sym.Pooling(x, pool_type="avg", count_include_pad=False, **SQUARE),
        lambda: mx.sym.broadcast_mul(y, mx.sym.mean(x, axis=(2, 3), keepdims=True)),
        lambda: mx.sym.Convolution(mx.sym.Pad(x, **BORDER), **INNER, name=f"pad{i}"),
        lambda: mx.sym.LRN(x, nsize=3),
        lambda: mx.sym.Pooling(mx.sym.UpSampling(x, **TWICE), **HALF),
        lambda: mx.sym.InstanceNorm(x, name=f"in{i}"),
        lambda: mx.sym.LeakyReLU(x, act_type="prelu", name=f"prelu{i}"),
        lambda: mx.sym.softmax(x, axis=1),
        lambda: mx.sym.Dropout(x, p=0.3),
    ]
    assert len(makers) == KINDS
    return makers[kind]()


def results(symbol: mx.Symbol, **where: object) -> dict[str, np.ndarray]:
    """What two steps leave behind."""
    mx.random.seed(7)
    executor = symbol.simple_bind(mx.cpu(), data=SHAPE, kernels="generated", **where)
    rng = np.random.default_rng(0)
    for array in executor.arg_dict.values():
        array[:] = rng.uniform(-0.5, 0.9, array.shape)
    executor.arg_dict["softmax_label"][:] = [0, 2]
    for _ in range(2):
        executor.forward(is_train=True)
        executor.backward()
    found = {name: grad.asnumpy() for name, grad in executor.grad_dict.items() if grad is not None}
    found |= {name: aux.asnumpy() for name, aux in executor.aux_dict.items()}
    return found | {"out": executor.outputs[0].asnumpy()}


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), n_nodes=st.integers(2, 8), n_workers=st.integers(2, 3))
def test_any_cut_of_images_gives_the_bits_of_no_cut(
    seed: int, n_nodes: int, n_workers: int
) -> None:
    symbol = image_symbol(np.random.default_rng(seed), n_nodes, 4)
    groups = {f"g{i}": mx.cpu(i % n_workers) for i in range(4)}
    assert_same_bits(results(symbol), results(symbol, group2ctx=groups))
