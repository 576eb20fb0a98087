"""Does it pay to compute elementwise steps inside of the kernels before and behind them?

    python benchmarks/fused.py [--rounds 31] [--write]

*tails*: activations behind products and convolutions, in a loop of their own and in that of the
maker, whatever the linker would choose, which is `taken`. *heads*: chains before reductions, and
steps behind softmax, apart and together. Microseconds, medians of processor time, one thread; what
is compared takes turns. `ratio`: time apart over time together.
"""

from __future__ import annotations

from statistics import median
from typing import Any
from unittest.mock import patch

from kernels import times
from reports import report_rounds

import raysym as mx
from raysym.kernels import tracing
from raysym.runtime.linked import LinkedRuntime

PRODUCTS = [(128, 512, 512), (1024, 256, 1024), (2048, 128, 512), (4096, 512, 1024)]
IMAGES = [(64, 64, 28), (64, 64, 56), (16, 64, 112)]  # channels, filters, side; batch 8
ACTIVATIONS = {
    "tanh": lambda y: mx.sym.tanh(y),
    "sigmoid": lambda y: mx.sym.sigmoid(y),
    "gelu": lambda y: mx.sym.LeakyReLU(y, act_type="gelu"),
}
SQUARES = (256, 1024, 4096)


def linked(net: mx.Symbol, fused: bool, shapes: dict[str, Any]) -> tuple[Any, int]:
    """A function that runs the kernels of a bound network, and how many these are."""
    runtime = LinkedRuntime(fused=fused)
    executor = net.simple_bind(mx.cpu(), grad_req="null", runtime=runtime, **shapes)
    for array in executor.arg_dict.values():
        array[:] = 0.01
    executor.forward(is_train=True)
    worker = runtime.workers[0]
    kept = executor, worker.phases["forward"].actions  # the kernels use the executor's arrays
    return lambda: [action(None) for action in kept[1]], worker.n_calls


def compared(rounds: int, apart: Any, together: Any) -> dict[str, float]:
    """Microseconds of both; short ones run several times a round."""
    once = min(times([apart], 5)[0])
    count = max(1, int(2e-3 / (once + 1e-7)))
    many = [lambda f=f: [f() for _ in range(count)] for f in (apart, together)]
    alone, both = (median(found) / count for found in times(many, rounds))
    return {
        "apart_us": round(alone * 1e6, 1),
        "together_us": round(both * 1e6, 1),
        "ratio": round(alone / both, 3),
    }


def tails(rounds: int) -> dict[str, Any]:
    """Activations behind products and convolutions."""
    x = mx.sym.Variable("x")
    made: dict[str, tuple[mx.Symbol, tuple[int, ...]]] = {}
    for m, k, n in PRODUCTS:
        product = mx.sym.FullyConnected(x, num_hidden=n, name="fc")
        made[f"product {m} x {k} x {n}"] = product, (m, k)
    for c, f, side in IMAGES:
        window = {"kernel": (3, 3), "pad": (1, 1)}
        image = mx.sym.Convolution(x, num_filter=f, name="conv", **window)
        made[f"3x3 of {c} to {f}, {side} x {side}"] = image, (8, c, side, side)
    return {
        f"{name} behind {place}": _tail(rounds, act(maker), {"x": shape})
        for name, act in ACTIVATIONS.items()
        for place, (maker, shape) in made.items()
    }


def _tail(rounds: int, net: mx.Symbol, shapes: dict[str, Any]) -> dict[str, Any]:
    apart, n_calls = linked(net, False, shapes)
    chosen = linked(net, True, shapes)[1]
    with patch.object(tracing, "pays", lambda tail, nbytes: True):
        together, _ = linked(net, True, shapes)
    return {**compared(rounds, apart, together), "taken": chosen < n_calls}


def heads(rounds: int) -> dict[str, Any]:
    """Chains and reductions of square matrices, and softmax with what follows."""
    x, y = mx.sym.Variable("x"), mx.sym.Variable("y")
    product = mx.sym.relu(x * y)
    mean = mx.sym.mean(product, axis=1, keepdims=True)
    nets = {
        "sum of relu(x y), axis 1": mx.sym.sum(product, axis=1),
        "sum of relu(x y), axis 0": mx.sym.sum(product, axis=0),
        "sum of relu(x y), all": mx.sym.sum(product),
        "sum of exp(x y), axis 1": mx.sym.sum(mx.sym.exp(x * y), axis=1),
        "sum of exp(x y), axis 0": mx.sym.sum(mx.sym.exp(x * y), axis=0),
        "relu(x y) less its mean": mx.sym.broadcast_sub(product, mean),
        "softmax(x) y": mx.sym.softmax(x) * y,
    }
    found = {}
    for side in SQUARES:
        shapes = {"x": (side, side), "y": (side, side)}
        for name, net in nets.items():
            ways = (linked(net, fused, shapes)[0] for fused in (False, True))
            found[f"{name}, {side} x {side}"] = compared(rounds, *ways)
    return found


def main() -> None:
    """Measure all of it."""
    parts = {"tails": tails, "heads": heads}
    report_rounds("fused", __doc__, parts, rounds=31)


if __name__ == "__main__":
    main()
