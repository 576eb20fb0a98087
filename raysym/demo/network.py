"""The network: two convolutions with batch normalisation, two dense layers, in four stages."""

from __future__ import annotations

import raysym as mx
from raysym.demo.digits import SIDE

STAGES = ("stage1", "stage2", "stage3", "stage4")
INPUTS = ("data", "softmax_label")


def compose(filters: tuple[int, int] = (16, 32), hidden: int = 64) -> mx.Symbol:
    """The symbol; every stage is a ctx_group that may live on a worker of its own."""
    net = mx.sym.Variable("data")
    with mx.AttrScope(ctx_group="stage1"):
        net = convolution(net, filters[0], "1")
    with mx.AttrScope(ctx_group="stage2"):
        net = convolution(net, filters[1], "2")
    with mx.AttrScope(ctx_group="stage3"):
        net = mx.sym.FullyConnected(net, num_hidden=hidden, no_bias=True, name="fc1")
        net = mx.sym.BatchNorm(net, fix_gamma=False, name="bn3")
        net = mx.sym.Activation(net, act_type="relu", name="relu3")
    with mx.AttrScope(ctx_group="stage4"):
        net = mx.sym.FullyConnected(net, num_hidden=10, name="fc2")
        output: mx.Symbol = mx.sym.SoftmaxOutput(net, normalization="batch", name="softmax")
        return output


def convolution(data: mx.Symbol, filters: int, number: str) -> mx.Symbol:
    """Convolution, normalisation, activation, and pooling that halves height and width."""
    net = mx.sym.Convolution(
        data, num_filter=filters, kernel=(3, 3), pad=(1, 1), no_bias=True, name=f"conv{number}"
    )
    net = mx.sym.BatchNorm(net, fix_gamma=False, name=f"bn{number}")
    net = mx.sym.Activation(net, act_type="relu", name=f"relu{number}")
    output: mx.Symbol = mx.sym.Pooling(
        net, kernel=(2, 2), stride=(2, 2), pool_type="max", name=f"pool{number}"
    )
    return output


def placement(n_workers: int) -> dict[str, mx.Context]:
    """The context of each stage: one worker per stage, the last worker takes what is left."""
    return {stage: mx.cpu(min(i, n_workers - 1)) for i, stage in enumerate(STAGES)}


def bind(symbol: mx.Symbol, batch: int, n_workers: int, runtime: str) -> mx.Executor:
    """Arrays for a batch on the workers; gradients of everything but the inputs."""
    trained = {name: "write" for name in symbol.list_arguments() if name not in INPUTS}
    return symbol.simple_bind(
        mx.cpu(),
        grad_req=trained,
        group2ctx=placement(n_workers),
        runtime=runtime,
        data=(batch, 1, SIDE, SIDE),
    )
