"""Measures this machine and writes a cluster file for `bind(cluster=...)` and `raysym plan`.

    python cluster/probe.py cluster.toml                 one device per worker on this machine
    python cluster/probe.py cluster.toml --workers 4 --transport ray

Measured on one core with one BLAS thread: flop/s of matrix products, convolutions and elementwise
kernels, memory bandwidth, the cost of a call, and latency and bytes/s of a message between two
workers (Ray actors through the object store, or copies inside one process).
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from statistics import median

import numpy as np
from rich.console import Console
from rich.table import Table

import raysym as mx
import scheduler
from raysym.runtime.threads import pinned

SIZES = (1 << 10, 1 << 16, 1 << 20, 1 << 23)  # bytes of the messages that are timed


@dataclass(frozen=True)
class Machine:
    """What was measured: flop/s by kernel class, bytes/s of memory, seconds per call."""

    flops_per_s: dict[str, float]
    bytes_per_s: float
    overhead_s: float


def seconds(run: Callable[[], object], least_s: float = 0.2) -> float:
    """Median seconds of one run, after one to warm up."""
    run()
    times: list[float] = []
    while sum(times) < least_s or len(times) < 5:
        begun = time.perf_counter()
        run()
        times.append(time.perf_counter() - begun)
    return median(times)


def timed_step(symbol: mx.Symbol, **shapes: tuple[int, ...]) -> tuple[float, float]:
    """Seconds and flops of one inference run of a symbol with a single costly node."""
    executor = symbol.simple_bind(mx.cpu(), grad_req="null", **shapes)
    task = mx.forecast(symbol, shapes, scheduler.Cluster.uniform(1), is_train=False)
    flops = sum(t.flops for t in task.schedule.graph.tasks)
    return seconds(executor.forward), flops


def measure_machine() -> Machine:
    """Time one network layer of each class, a long copy, and a graph of tiny nodes."""
    data = mx.sym.Variable("data")
    classes = {
        "matmul": (mx.sym.FullyConnected(data, num_hidden=512, no_bias=True), (256, 512)),
        "convolution": (
            mx.sym.Convolution(data, kernel=(3, 3), pad=(1, 1), num_filter=32, no_bias=True),
            (4, 32, 28, 28),
        ),
        "elementwise": (mx.sym.tanh(data), (1 << 20,)),
    }
    rates = {}
    for name, (symbol, shape) in classes.items():
        spent, flops = timed_step(symbol, data=shape)
        rates[name] = flops / spent
    return Machine(rates, measure_memory(), measure_call())


def measure_memory() -> float:
    """Bytes read and written per second by a copy of 64 MiB."""
    source = np.ones(1 << 24, np.float32)
    target = np.empty_like(source)
    return 2 * source.nbytes / seconds(lambda: np.copyto(target, source))


def measure_call() -> float:
    """Seconds per node of a chain of 200 nodes on one element."""
    chain = mx.sym.Variable("data")
    for _ in range(200):
        chain = chain + 1.0
    executor = chain.simple_bind(mx.cpu(), grad_req="null", data=(1,))
    return seconds(executor.forward) / 200


def measure_messages(runtime: str) -> tuple[float, float]:
    """Latency in seconds and bytes/s between two workers, from messages of several sizes."""
    points = [(nbytes, message_s(nbytes, runtime)) for nbytes in SIZES]
    slope, latency = np.polyfit(*np.array(points).T, 1, w=1 / np.array(points)[:, 1])
    return max(float(latency), 1e-7), 1 / max(float(slope), 1e-12)


def message_s(nbytes: int, runtime: str) -> float:
    """Half of what a value costs that goes to the other worker and comes back."""
    n = nbytes // 4
    with mx.AttrScope(ctx_group="here"):
        first = mx.sym.negative(mx.sym.Variable("data"))
    with mx.AttrScope(ctx_group="there"):
        second = mx.sym.negative(first)
    with mx.AttrScope(ctx_group="here"):
        last = mx.sym.negative(second)
    places = {"here": mx.cpu(0), "there": mx.cpu(1)}
    near = dict.fromkeys(places, mx.cpu(0))
    times = []
    for where in (places, near):
        with last.simple_bind(
            mx.cpu(), grad_req="null", data=(n,), group2ctx=where, runtime=runtime
        ) as executor:
            times.append(seconds(executor.forward))
    return max(times[0] - times[1], 1e-9) / 2


def describe(machine: Machine, link: tuple[float, float], workers: int) -> scheduler.Cluster:
    """The cluster of `workers` equal devices; its speed is that of matrix products."""
    devices = tuple(
        scheduler.Device(
            f"cpu:{i}",
            flops_per_s=machine.flops_per_s["matmul"],
            bytes_per_s=machine.bytes_per_s,
            overhead_s=machine.overhead_s,
        )
        for i in range(workers)
    )
    latency_s, bytes_per_s = link
    return scheduler.Cluster(
        devices, (scheduler.Link(bytes_per_s=bytes_per_s, latency_s=latency_s),)
    )


def show(machine: Machine, link: tuple[float, float], console: Console) -> None:
    """The measurements as a table."""
    table = Table("what", "measured", title=f"{platform.node()}, {date.today()}")
    for name, rate in machine.flops_per_s.items():
        table.add_row(f"{name}", f"{rate / 1e9:.3g} Gflop/s")
    table.add_row("memory", f"{machine.bytes_per_s / 1e9:.3g} GB/s")
    table.add_row("one call", f"{machine.overhead_s * 1e6:.3g} us")
    table.add_row("a message", f"{link[0] * 1e6:.4g} us + {link[1] / 1e9:.3g} GB/s")
    console.print(table)


def main() -> None:
    """Measure, show, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("path", type=Path, help="the TOML file to write")
    parser.add_argument("--workers", type=int, default=2, help="devices to describe")
    parser.add_argument("--transport", choices=("ray", "local"), default="ray")
    given = parser.parse_args()
    with pinned(1):
        machine = measure_machine()
    link = measure_messages(given.transport)
    show(machine, link, Console())
    describe(machine, link, given.workers).save(given.path)


if __name__ == "__main__":
    main()
