"""How near generated kernels come to what the core, its memory and no runtime at all would do.

    python benchmarks/kernels.py [--rounds 15] [--write]

*nodes*: 1,000 small sums, a kernel each, against machine code that does nothing but call these
kernels with the same arguments one after another. *maps*: elementwise groups over 16 M floats
against the fastest of several loops that read and write as many arrays, and what the same would
take if nothing left the caches: some are limited by their arithmetic. *convolutions*: 3x3 layers of
ResNets and VGG, as flops of the definition against the core's peak. *depthwise*: 3x3 layers of
MobileNet against the fastest loop that reads and writes as many bytes. What is compared takes
turns. Medians of processor time, one thread.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Sequence
from statistics import median
from typing import Any

import machine_peaks
import numpy as np
from machine_peaks import Call
from reports import report_rounds

import raysym as mx
from raysym.kernels.link import shared_kernels
from raysym.kernels.lowering import lower
from raysym.op import make_op
from raysym.runtime.linked import LinkedRuntime
from raysym.types import TensorType

NODES, SIZE, NEAR = 1000, 1 << 24, 1 << 16
LAYERS = {  # batch, channels, filters, side, stride
    "ResNet-50, 64 of 56 x 56": (8, 64, 64, 56, 1),
    "ResNet-50, 128 of 28 x 28": (8, 128, 128, 28, 1),
    "ResNet-50, 256 of 14 x 14": (8, 256, 256, 14, 1),
    "ResNet-50, 512 of 7 x 7": (8, 512, 512, 7, 1),
    "ResNet-50, 128 of 56 x 56, every second": (8, 128, 128, 56, 2),
    "ResNet-50, 256 of 28 x 28, every second": (8, 256, 256, 28, 2),
    "ResNet-18, 64 of 32 x 32": (32, 64, 64, 32, 1),
    "VGG-16, 128 of 112 x 112": (8, 128, 128, 112, 1),
    "VGG-16, 512 of 28 x 28": (8, 512, 512, 28, 1),
}
DEPTHWISE = {  # batch, channels, side
    "MobileNet, 64 of 112 x 112": (8, 64, 112),
    "MobileNet, 256 of 28 x 28": (8, 256, 28),
    "MobileNet, 512 of 14 x 14": (8, 512, 14),
}


def times(calls: Sequence[Call], rounds: int) -> list[list[float]]:
    """Processor seconds of each, which take turns, after one turn to warm up."""
    found: list[list[float]] = [[] for _ in calls]
    for turn in range(rounds + 1):
        for call, seconds in zip(calls, found, strict=True):
            begun = time.process_time()
            call()
            if turn:
                seconds.append(time.process_time() - begun)
    return found


def fastest(calls: Sequence[Call]) -> Call:
    """The one that takes the least time."""
    least = [min(seconds) for seconds in times(calls, 5)]
    return calls[least.index(min(least))]


# ----- nodes


def nodes(rounds: int) -> dict[str, float]:
    """Microseconds of a step of many nodes, and of the calls of their kernels alone."""
    value = mx.sym.Variable("x")
    for _ in range(NODES):
        value = value + 1.5
    runtime = LinkedRuntime(fused=False)
    executor = value.simple_bind(mx.cpu(), grad_req="null", runtime=runtime, x=(32, 32))
    [action] = runtime.workers[0].phases["forward"].actions
    table, _ = action.keep
    assert len(table) == NODES
    alone = machine_peaks.straight((kernel, args) for kernel, args, _ in table.tolist())
    step, least = map(median, times([lambda: executor.forward(is_train=True), alone], 4 * rounds))
    return {
        "nodes": NODES,
        "step_us": round(step * 1e6, 1),
        "kernels_us": round(least * 1e6, 1),
        "each_node_us": round((step - least) / NODES * 1e6, 4),
    }


# ----- elementwise


def maps() -> dict[str, tuple[str, int, mx.Symbol]]:
    """Groups by name: the phase that is measured, and how many arrays it reads."""
    x, y = mx.sym.Variable("x"), mx.sym.Variable("y")
    cheap = x
    for _ in range(5):
        cheap = mx.sym.relu(cheap * 0.99)
    costly = x
    for _ in range(5):
        costly = mx.sym.sigmoid(costly) * 0.5
    return {
        "relu": ("forward", 1, mx.sym.relu(x)),
        "add": ("forward", 2, x + y),
        "ten of scale and relu": ("forward", 1, cheap),
        "exp": ("forward", 1, mx.sym.exp(x)),
        "tanh": ("forward", 1, mx.sym.tanh(x)),
        "sigmoid": ("forward", 1, mx.sym.sigmoid(x)),
        "gelu": ("forward", 1, mx.sym.LeakyReLU(x, act_type="gelu")),
        "ten of sigmoid and scale": ("forward", 1, costly),
        "relu, backward": ("backward", 2, mx.sym.relu(x)),
        "tanh, backward": ("backward", 2, mx.sym.tanh(x)),
        "gelu, backward": ("backward", 2, mx.sym.LeakyReLU(x, act_type="gelu")),
    }


def bandwidth(rounds: int) -> dict[str, dict[str, float]]:
    """Milliseconds and GB/s of groups, and of the best loop of the same reads and writes."""
    best = {reads: fastest(machine_peaks.moves(reads, SIZE)) for reads in (1, 2)}
    found = {}
    for name, (phase, reads, net) in maps().items():
        ours, least = map(median, times([group(net, phase, SIZE), best[reads]], rounds))
        [near] = map(median, times([group(net, phase, NEAR)], 20 * rounds))
        found[name] = {
            "ms": round(ours * 1e3, 2),
            "best_ms": round(least * 1e3, 2),
            "best_GB_per_s": round(4e-9 * (reads + 1) * SIZE / least, 1),
            "in_cache_ms": round(near * SIZE / NEAR * 1e3, 2),
            "ratio": round(least / ours, 3),
        }
    return found


def group(net: mx.Symbol, phase: str, size: int) -> Call:
    """The one call that a phase of an elementwise net makes, on so many numbers."""
    runtime = LinkedRuntime()
    shapes = dict.fromkeys(net.list_arguments(), (size,))
    request = "write" if phase == "backward" else "null"
    bound = net.simple_bind(mx.cpu(), grad_req=request, runtime=runtime, **shapes)
    for array in bound.arg_dict.values():
        array[:] = 0.5
    bound.forward(is_train=True)
    if phase == "backward":
        bound.backward(mx.nd.ones((size,)))
    [action] = runtime.workers[0].phases[phase].actions
    return lambda: (action(None), bound)


# ----- convolutions


def called(name: str, ins: Sequence[tuple[int, ...]], out: tuple[int, ...], **given: Any) -> Call:
    """The kernel of an op on random arrays."""
    kinds = [TensorType(shape, "float32") for shape in ins]
    kernel = lower(make_op(name, given), kinds, [TensorType(out, "float32")])
    assert kernel is not None
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=ins[i]).astype(np.float32) for i in kernel.reads]
    arrays += [np.zeros(out, np.float32), machine_peaks.aligned(kernel.space)]
    table = np.array([array.ctypes.data for array in arrays], np.int64)
    compiled = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(shared_kernels().address(kernel.spec))
    kept = (table, arrays)
    return lambda: compiled(kept[0].ctypes.data)


def ways(
    n: int, c: int, f: int, side: int, stride: int = 1, groups: int = 1
) -> tuple[dict[str, Call], int]:
    """A 3x3 layer forward and backward, and the pixels of all that it makes."""
    window = {"kernel": (3, 3), "pad": (1, 1), "stride": (stride, stride), "num_group": groups}
    out = -(-side // stride)
    image, weight, made = (n, c, side, side), (f, c // groups, 3, 3), (n, f, out, out)
    found = {
        "forward": called("_convolve", [image, weight], made, **window),
        "data": called("_backward_Convolution_data", [made, weight, image], image, **window),
        "weight": called("_backward_Convolution_weight", [made, image], weight, **window),
    }
    return found, n * f * out * out


def convolutions(rounds: int) -> dict[str, Any]:
    """GFLOP/s of the core's peak, and of each layer over it."""
    peak, flops = machine_peaks.products()
    found: dict[str, Any] = {"peak_GFLOP_per_s": 0.0}
    peaks = []
    for name, (n, c, f, side, stride) in LAYERS.items():
        calls, pixels = ways(n, c, f, side, stride)
        *each, most = map(median, times([*calls.values(), peak], rounds))
        work = 2.0 * pixels * c * 9
        peaks.append(flops / most)
        found[name] = {
            way: {
                "GFLOP_per_s": round(work / seconds / 1e9, 1),
                "ratio": round(work / seconds * most / flops, 3),
            }
            for way, seconds in zip(calls, each, strict=True)
        }
    found["peak_GFLOP_per_s"] = round(median(peaks) / 1e9, 1)
    return found


def depthwise(rounds: int) -> dict[str, Any]:
    """Milliseconds of each layer, and of the best loop over as many bytes.

    Forward reads an image and writes one, as the gradient of data does; that of weights reads two.
    """
    found = {}
    for name, (n, c, side) in DEPTHWISE.items():
        calls, pixels = ways(n, c, c, side, groups=c)
        best = fastest(machine_peaks.moves(1, pixels))
        *each, least = map(median, times([*calls.values(), best], rounds))
        found[name] = {
            way: {
                "ms": round(seconds * 1e3, 3),
                "best_ms": round(least * 1e3, 3),
                "ratio": round(least / seconds, 3),
            }
            for way, seconds in zip(calls, each, strict=True)
        }
    return found


def main() -> None:
    """Measure all of it."""
    parts = {
        "nodes": nodes,
        "maps": bandwidth,
        "convolutions": convolutions,
        "depthwise": depthwise,
    }
    report_rounds("kernels", __doc__, parts, rounds=15)


if __name__ == "__main__":
    main()
