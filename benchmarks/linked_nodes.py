"""What a linked program costs per node, and how near elementwise kernels come to the memory.

    python benchmarks/linked_nodes.py

1,000 nodes that cannot share a loop (their results are all read from outside) on arrays of
32 x 32: the time of a phase over the nodes, less the same kernels called on the same memory in one
table without the runtime around it. Then relu and a ten-op chain over 16 M floats against copying.
Times are processor time, best of several.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np

import raysym as mx
from raysym.runtime.linked import LinkedRuntime

NODES, SIZE = 1000, 1 << 24


def best(step: Callable[[], object], times: int = 30) -> float:
    """The least processor time of one call, in seconds."""
    found = []
    for _ in range(times):
        begun = time.process_time()
        step()
        found.append(time.process_time() - begun)
    return min(found)


def many_nodes() -> None:
    """Nodes of one add each."""
    x = mx.sym.Variable("x")
    ends, value = [], x
    for _ in range(NODES):
        value = value + 1.5
        ends.append(value)
    runtime = LinkedRuntime()
    net = mx.sym.Group(ends[:: NODES // 10])
    executor = net.simple_bind(mx.cpu(), grad_req="null", runtime=runtime, x=(32, 32))
    phase = runtime.workers[0].phases["forward"]
    whole = best(lambda: executor.forward(is_train=True))
    calls = best(lambda: [action(None, None) for action in phase.actions])
    n = runtime.workers[0].n_calls
    print(f"{NODES} nodes in {n} calls: phase {whole * 1e6:.0f} us, calls {calls * 1e6:.0f} us")


def separate_nodes() -> None:
    """The same without fusion: a call for every node."""
    runtime = LinkedRuntime(fused=False)
    value = mx.sym.Variable("x")
    for _ in range(NODES):
        value = value + 1.5
    executor = value.simple_bind(mx.cpu(), grad_req="null", runtime=runtime, x=(32, 32))
    whole = best(lambda: executor.forward(is_train=True))
    x = np.ones((32, 32), np.float32)
    ufunc = best(lambda: [np.add(x, np.float32(1.5), out=x) for _ in range(NODES)])
    print(
        f"{NODES} separate nodes: {whole / NODES * 1e6:.3f} us each with their arithmetic "
        f"(NumPy with out=: {ufunc / NODES * 1e6:.3f} us)"
    )


def bandwidth(name: str, net: mx.Symbol) -> None:
    """A net of one input against copying as many bytes."""
    executor = net.simple_bind(mx.cpu(), grad_req="null", kernels="generated", x=(SIZE,))
    executor.arg_dict["x"][:] = 0.5
    source = np.ones(SIZE, np.float32)
    target = np.empty_like(source)
    step = best(lambda: executor.forward(is_train=True), 8)
    copy = best(lambda: np.copyto(target, source), 8)
    print(f"{name}: {step * 1e3:.2f} ms, copy {copy * 1e3:.2f} ms, {copy / step:.0%} of its speed")


def main() -> None:
    """Print all of it."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    many_nodes()
    separate_nodes()
    x = mx.sym.Variable("x")
    bandwidth("relu", mx.sym.relu(x))
    bandwidth("tanh", mx.sym.tanh(x))
    chain = x
    for _ in range(5):
        chain = mx.sym.sigmoid(chain) * 0.5
    bandwidth("ten ops", chain)


if __name__ == "__main__":
    main()
