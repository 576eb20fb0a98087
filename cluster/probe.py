"""Measures this machine and writes a cluster file for `bind(cluster=...)` and `raysym plan`.

    python cluster/probe.py cluster.toml                 one device per worker on this machine
    python cluster/probe.py cluster.toml --workers 4 --transport socket

Measured with one BLAS thread, in CPU seconds: flop/s of each kernel class (`Op.work`), bytes/s of a
kernel that only reads and writes, the cost of a call. All workers, at most one per core, measure at
once: cores that share memory, caches and clock rate are slower together than one alone. Measured in
wall seconds: latency and bytes/s of a message between two workers, through each transport and in
one process.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier, Event
from pathlib import Path
from statistics import fmean, median
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

import raysym as mx
import scheduler
from raysym.planning.plan import Plan, Run
from raysym.runtime.threads import pinned
from raysym.runtime.transport import TRANSPORTS

SIZES = (1 << 10, 1 << 16, 1 << 20, 1 << 23)  # bytes of the messages that are timed
IN_PROCESS = "process"


@dataclass(frozen=True)
class Machine:
    """What was measured: flop/s by kernel class, bytes/s of memory, seconds per call."""

    flops_per_s: dict[str, float]
    bytes_per_s: float
    overhead_s: float


class Way(NamedTuple):
    """What a message costs: seconds before its first byte, then bytes per second."""

    latency_s: float
    bytes_per_s: float


def seconds(run: Callable[[], object], clock: Callable[[], float], least_s: float = 0.2) -> float:
    """Median seconds of one run on `clock`, after one to warm up."""
    run()
    times: list[float] = []
    while sum(times) < least_s or len(times) < 5:
        begun = clock()
        run()
        times.append(clock() - begun)
    return median(times)


# ----- kernels


def layers() -> dict[str, tuple[mx.Symbol, tuple[int, ...]]]:
    """One layer of each kernel class, and the shape of its data."""
    data = mx.sym.Variable("data")
    convolution = mx.sym.Convolution(data, kernel=(3, 3), pad=(1, 1), num_filter=32, no_bias=True)
    return {
        "matmul": (mx.sym.FullyConnected(data, num_hidden=512, no_bias=True), (256, 512)),
        "convolution": (convolution, (4, 32, 28, 28)),
        "pooling": (
            mx.sym.Pooling(data, kernel=(2, 2), stride=(2, 2), pool_type="max"),
            (8, 32, 28, 28),
        ),
        "normalization": (mx.sym.BatchNorm(data, fix_gamma=False), (8, 32, 28, 28)),
        "elementwise": (mx.sym.tanh(data), (1 << 18,)),
    }


def measure_machine() -> Machine:
    """Time one layer of each class, an addition to a large array, and a graph of tiny nodes."""
    rates = {kind: rate(kind, symbol, shape) for kind, (symbol, shape) in layers().items()}
    return Machine(rates, measure_memory(), measure_call())


def measure_together(workers: int, measure: Callable[[], Machine] = measure_machine) -> Machine:
    """What each of so many processes measures while the others do the same; the mean of them.

    EOFError when one of them failed.
    """
    context = multiprocessing.get_context("spawn")
    begin, done = context.Barrier(workers, timeout=60.0), context.Event()
    with ExitStack() as stack:
        ours = []
        for _ in range(workers):
            receiver, sender = context.Pipe(duplex=False)
            process = context.Process(target=_measure, args=(measure, begin, done, sender))
            process.start()
            sender.close()
            stack.callback(process.join)
            ours.append(receiver)
        stack.callback(done.set)  # before they are joined
        stack.callback(begin.abort)  # one that died is not waited for
        found = [receiver.recv() for receiver in ours]
    return mean(found)


def _measure(
    measure: Callable[[], Machine], begin: Barrier, done: Event, sender: Connection
) -> None:
    with pinned(1):
        begin.wait()
        sender.send(measure())
        parent = multiprocessing.parent_process()
        while parent and parent.is_alive() and not done.is_set():
            measure_memory()  # the others still measure, beside a busy core


def mean(machines: Sequence[Machine]) -> Machine:
    """A machine as fast as these are together."""
    first = machines[0].flops_per_s
    return Machine(
        {kind: fmean(machine.flops_per_s[kind] for machine in machines) for kind in first},
        fmean(machine.bytes_per_s for machine in machines),
        fmean(machine.overhead_s for machine in machines),
    )


def rate(kind: str, symbol: mx.Symbol, shape: tuple[int, ...]) -> float:
    """Flop/s of the kernels of one class in a training step, the gradients' among them.

    Elementwise: forward only, since its gradients are bound by memory, which is measured apart.
    """
    grad_req = "null" if kind == "elementwise" else "write"
    executor = symbol.simple_bind(mx.cpu(), grad_req=grad_req, data=shape)
    executor.arg_dict["data"][:] = np.random.default_rng(0).normal(size=shape)
    executor.forward(is_train=grad_req == "write")
    spent, plan = executor.profile(10).runs, executor.plan
    runs = [run for run in kernels(plan) if run.op.work == kind and run.outs[0] in spent]
    return sum(flops(run, plan) for run in runs) / sum(spent[run.outs[0]] for run in runs)


def kernels(plan: Plan) -> list[Run]:
    """Every kernel call of a plan."""
    programs = [program for phases in plan.programs.values() for program in phases.values()]
    return [one for program in programs for one in program if isinstance(one, Run)]


def flops(run: Run, plan: Plan) -> float:
    """Operations of one kernel call, as its op page counts them."""
    outs = [plan.types[out] for out in run.outs if out in plan.types]
    return run.op.cost([plan.types[arg] for arg in run.args], outs).flops


def measure_memory() -> float:
    """Bytes read and written per second by a kernel that adds 1 to 4 MiB, its fresh output
    included."""
    symbol = mx.sym.Variable("data") + 1.0
    executor = symbol.simple_bind(mx.cpu(), grad_req="null", data=(1 << 20,))
    return (2 << 22) / executor.profile(20).runs[symbol.list_outputs()[0].removesuffix("_output")]


def measure_call() -> float:
    """CPU seconds per node of a chain of 200 nodes on one element."""
    chain = mx.sym.Variable("data")
    for _ in range(200):
        chain = chain + 1.0
    executor = chain.simple_bind(mx.cpu(), grad_req="null", data=(1,))
    return seconds(executor.forward, time.thread_time) / 200


# ----- messages


def measure_messages() -> dict[str, Way]:
    """Latency and bytes/s between two workers, in one process and through each transport."""
    ways = {IN_PROCESS: _way([round_trip_s(n, "local") / 2 for n in SIZES])}
    at_home = [round_trip_s(n, "ray", there=0) for n in SIZES]
    for transport in TRANSPORTS:
        trips = [round_trip_s(n, "ray", transport=transport) for n in SIZES]
        ways[transport] = _way([(a - b) / 2 for a, b in zip(trips, at_home, strict=True)])
    return ways


def _way(times: list[float]) -> Way:
    """The line through the times of messages of SIZES; relative errors count alike."""
    points = np.maximum(times, 1e-7)
    slope, latency = np.polyfit(SIZES, points, 1, w=1 / points)
    return Way(max(float(latency), 1e-7), 1 / max(float(slope), 1e-12))


def round_trip_s(nbytes: int, runtime: str, there: int = 1, transport: str | None = None) -> float:
    """Wall seconds of a step whose value goes to worker `there` and comes back to worker 0."""
    symbol = mx.sym.Variable("data")
    for group in ("here", "there", "here"):
        with mx.AttrScope(ctx_group=group):
            symbol = mx.sym.negative(symbol)
    places = {"here": mx.cpu(0), "there": mx.cpu(there)}
    options: dict[str, Any] = {
        "group2ctx": places,
        "runtime": runtime,
        "transport": transport,
    }
    with symbol.simple_bind(mx.cpu(), grad_req="null", data=(nbytes // 4,), **options) as executor:
        return seconds(executor.forward, time.perf_counter)


# ----- the report


def describe(machine: Machine, way: Way, workers: int) -> scheduler.Cluster:
    """The cluster of `workers` equal devices."""
    devices = tuple(
        scheduler.Device(
            f"cpu:{i}",
            flops_per_s=machine.flops_per_s["elementwise"],
            bytes_per_s=machine.bytes_per_s,
            overhead_s=machine.overhead_s,
            rates=machine.flops_per_s,
        )
        for i in range(workers)
    )
    return scheduler.Cluster(devices, (scheduler.Link(bytes_per_s=way[1], latency_s=way[0]),))


def show(machine: Machine, ways: dict[str, Way], console: Console) -> None:
    """The measurements as a table."""
    table = Table("what", "measured", title=f"{platform.node()}, {date.today()}")
    for name, rate in machine.flops_per_s.items():
        table.add_row(f"{name}", f"{rate / 1e9:.3g} Gflop/s")
    table.add_row("memory", f"{machine.bytes_per_s / 1e9:.3g} GB/s")
    table.add_row("one call", f"{machine.overhead_s * 1e6:.3g} us")
    for name, way in ways.items():
        cost = f"{way.latency_s * 1e6:.4g} us + {way.bytes_per_s / 1e9:.3g} GB/s"
        table.add_row(f"a message, {name}", cost)
    console.print(table)


def main() -> None:
    """Measure, show, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("path", type=Path, help="the TOML file to write")
    parser.add_argument("--workers", type=int, default=2, help="devices to describe")
    choices = (IN_PROCESS, *TRANSPORTS)
    parser.add_argument("--transport", choices=choices, default="object_store")
    given = parser.parse_args()
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")  # no token file for a cluster of our own
    machine = measure_together(min(given.workers, os.cpu_count() or 1))
    ways = measure_messages()
    show(machine, ways, Console())
    describe(machine, ways[given.transport], given.workers).save(given.path)


if __name__ == "__main__":
    main()
