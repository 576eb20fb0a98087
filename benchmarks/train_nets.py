"""The networks of train_step.py for raysym and MXNet, which share the Symbol API.

Run by train_step.py in each library's own environment:
``python train_nets.py LIBRARY THREADS MODE NET,NET``, MODE "train" or "infer". Prints one line of
JSON: the library's version, and net -> seconds of every step (by the clock, of processor) and those
of binding.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from typing import Any

import numpy as np

SHAPES = {
    "mlp": (128, 784),
    "lenet": (64, 1, 28, 28),
    "resnet18": (32, 3, 32, 32),
    "resnet50": (8, 3, 224, 224),
    "lstm": (35, 32, 256),
    "transformer": (128, 8, 256),
}
TRAINED_DATA = ("lstm", "transformer")  # these also compute the gradient of their data
SECONDS, LEAST, MOST = 4.0, 3, 400
S: Any = None


def conv_bn(x: Any, filters: int, kernel: int, stride: int, act: bool = True) -> Any:
    """Convolution, BatchNorm and perhaps relu."""
    pad = kernel // 2
    x = S.Convolution(
        x,
        num_filter=filters,
        kernel=(kernel, kernel),
        stride=(stride, stride),
        pad=(pad, pad),
        no_bias=True,
    )
    x = S.BatchNorm(x, fix_gamma=False, eps=1e-5)
    return S.Activation(x, act_type="relu") if act else x


def residual(x: Any, channels: int, stages: list[tuple[int, int]], stride: int) -> Any:
    """A residual block of convolutions (filters, kernel); the stride is that of a 3x3 one."""
    y, first = x, True
    for i, (filters, kernel) in enumerate(stages):
        step = stride if kernel == 3 and first else 1
        first = first and kernel != 3
        y = conv_bn(y, filters, kernel, step, act=i < len(stages) - 1)
    width = stages[-1][0]
    side = conv_bn(x, width, 1, stride, act=False) if stride != 1 or channels != width else x
    return S.Activation(y + side, act_type="relu")


def classify(x: Any, classes: int) -> Any:
    """A linear layer and SoftmaxOutput."""
    return S.SoftmaxOutput(S.FullyConnected(x, num_hidden=classes), name="softmax")


def mlp() -> Any:
    """784-512-512-10."""
    x = S.Variable("data")
    for width in (512, 512):
        x = S.Activation(S.FullyConnected(x, num_hidden=width), act_type="relu")
    return classify(x, 10)


def lenet() -> Any:
    """Two convolutions with tanh and pooling, two linear layers."""
    x = S.Variable("data")
    for filters in (20, 50):
        x = S.Activation(S.Convolution(x, kernel=(5, 5), num_filter=filters), act_type="tanh")
        x = S.Pooling(x, kernel=(2, 2), stride=(2, 2), pool_type="max")
    return classify(S.Activation(S.FullyConnected(x, num_hidden=500), act_type="tanh"), 10)


def resnet18() -> Any:
    """ResNet-18 for images of 32 x 32."""
    x, channels = conv_bn(S.Variable("data"), 64, 3, 1), 64
    for width, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
        for block in range(2):
            step = 1 if block else stride
            x = residual(x, channels, [(width, 3), (width, 3)], step)
            channels = width
    return classify(S.Pooling(x, kernel=(4, 4), stride=(4, 4), pool_type="avg"), 10)


def resnet50() -> Any:
    """ResNet-50 for images of 224 x 224."""
    x, channels = conv_bn(S.Variable("data"), 64, 7, 2), 64
    x = S.Pooling(x, kernel=(3, 3), stride=(2, 2), pad=(1, 1), pool_type="max")
    for width, stride, count in ((64, 1, 3), (128, 2, 4), (256, 2, 6), (512, 2, 3)):
        for block in range(count):
            stages = [(width, 1), (width, 3), (4 * width, 1)]
            x = residual(x, channels, stages, 1 if block else stride)
            channels = 4 * width
    return classify(S.Pooling(x, global_pool=True, kernel=(7, 7), pool_type="avg"), 1000)


def lstm() -> Any:
    """Two LSTM layers of 256 over 35 steps."""
    return S.RNN(S.Variable("data"), state_size=256, num_layers=2, mode="lstm", name="rnn")


def transformer() -> Any:
    """Four encoder layers, width 256, 8 heads, 128 steps."""
    x = S.Variable("data")
    for _ in range(4):
        qkv = S.FullyConnected(x, num_hidden=768, flatten=False)
        weights = S.softmax(S.contrib.interleaved_matmul_selfatt_qk(qkv, heads=8))
        y = S.contrib.interleaved_matmul_selfatt_valatt(qkv, weights, heads=8)
        x = S.LayerNorm(x + S.FullyConnected(y, num_hidden=256, flatten=False))
        h = S.FullyConnected(x, num_hidden=1024, flatten=False)
        h = S.LeakyReLU(h, act_type="gelu")
        x = S.LayerNorm(x + S.FullyConnected(h, num_hidden=256, flatten=False))
    return x


def bound(
    library: Any, name: str, options: dict[str, Any], train: bool
) -> tuple[Any, list[Any] | None]:
    """The executor with random arrays, and head gradients where the net is no loss.

    For inference no gradient is bound: MXNet fuses layers only then.
    """
    net = globals()[name]()
    arguments = net.list_arguments()
    fixed = {"softmax_label", "rnn_state", "rnn_state_cell"}
    fixed |= set() if name in TRAINED_DATA else {"data"}
    requests = {a: "write" if train and a not in fixed else "null" for a in arguments}
    executor = net.simple_bind(library.cpu(), grad_req=requests, data=SHAPES[name], **options)
    rng = np.random.default_rng(0)
    for argument, array in executor.arg_dict.items():
        drawn = rng.normal(size=array.shape) * (1.0 if argument == "data" else 0.05)
        array[:] = rng.integers(0, 10, array.shape) if argument.endswith("label") else drawn
    for array in executor.aux_dict.values():
        array[:] = 1
    with_heads = train and name in TRAINED_DATA
    return executor, [library.nd.ones(o.shape) for o in executor.outputs] if with_heads else None


def stepper(library: Any, executor: Any, heads: Any, train: bool) -> Any:
    """One step as a function that returns when everything is computed."""

    def step() -> None:
        executor.forward(is_train=train)
        if train:
            executor.backward(heads)
        if hasattr(library.nd, "waitall"):
            library.nd.waitall()

    return step


def timed(step: Any) -> list[tuple[float, float]]:
    """Seconds of each step after two to warm up: by the clock, and of processor time."""
    step()
    step()
    found: list[tuple[float, float]] = []
    end = time.perf_counter() + SECONDS
    while len(found) < LEAST or (time.perf_counter() < end and len(found) < MOST):
        begun, busy = time.perf_counter(), time.process_time()
        step()
        found.append((time.perf_counter() - begun, time.process_time() - busy))
    return found


def main() -> None:
    """Time the nets that the command line names."""
    global S
    name, threads, mode, nets = sys.argv[1:5]
    library = importlib.import_module("mxnet" if name == "mxnet" else "raysym")
    S = library.sym
    options: dict[str, Any] = {}
    if name != "mxnet":
        options = {"kernels": name.split("-")[1], "threads": int(threads)}
    found: dict[str, Any] = {"version": library.__version__}
    train = mode == "train"
    for net in nets.split(","):
        begun = time.perf_counter()
        executor, heads = bound(library, net, options, train)
        bind_s = time.perf_counter() - begun
        steps_s = timed(stepper(library, executor, heads, train))
        found[net] = {"bind_s": bind_s, "steps_s": steps_s}
    print(json.dumps(found), flush=True)
    os._exit(0)  # MXNet's engine may hang at exit


if __name__ == "__main__":
    main()
