"""Predicted against measured step times: how far the cost model is off, printed as errors.

    python benchmarks/predicted.py [--cluster cluster.toml]

For each network, in this process with one BLAS thread: the measured step (forward and backward),
the prediction from the op pages and the cluster file (made by cluster/probe.py; probed now if not
given), and the prediction from a profile of the same executor. Errors are against CPU seconds,
which all three count; the wall time beside them is longer by what else the machine does (a median
of short kernels misses that, a median of steps does not).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import runpy
import time
from datetime import date
from pathlib import Path
from statistics import median

import numpy as np
from rich.console import Console
from rich.table import Table

import raysym as mx
import scheduler
from raysym.planning.predict import predict
from raysym.runtime.threads import pinned

HERE = Path(__file__).parent
SHAPES = {"mlp": (128, 784), "lenet": (64, 1, 28, 28), "resnet": (16, 16, 32, 32)}


def mlp() -> mx.Symbol:
    """784-512-512-10."""
    net = mx.sym.Variable("data")
    for width in (512, 512):
        net = mx.sym.Activation(mx.sym.FullyConnected(net, num_hidden=width), act_type="relu")
    return mx.sym.SoftmaxOutput(mx.sym.FullyConnected(net, num_hidden=10), name="softmax")


def lenet() -> mx.Symbol:
    """Two convolutions with pooling, two fully connected layers."""
    net = mx.sym.Variable("data")
    for filters in (20, 50):
        net = mx.sym.Convolution(net, kernel=(5, 5), num_filter=filters)
        net = mx.sym.Activation(net, act_type="tanh")
        net = mx.sym.Pooling(net, kernel=(2, 2), stride=(2, 2), pool_type="max")
    net = mx.sym.Activation(mx.sym.FullyConnected(net, num_hidden=500), act_type="tanh")
    return mx.sym.SoftmaxOutput(mx.sym.FullyConnected(net, num_hidden=10), name="softmax")


def resnet() -> mx.Symbol:
    """Three residual units of 16 channels."""
    net = mx.sym.Variable("data")
    for _ in range(3):
        branch = net
        for _ in range(2):
            branch = mx.sym.BatchNorm(branch, fix_gamma=False)
            branch = mx.sym.Activation(branch, act_type="relu")
            branch = mx.sym.Convolution(
                branch, kernel=(3, 3), pad=(1, 1), num_filter=16, no_bias=True
            )
        net = net + branch
    net = mx.sym.Pooling(net, global_pool=True, pool_type="avg", kernel=(1, 1))
    return mx.sym.SoftmaxOutput(mx.sym.FullyConnected(net, num_hidden=10), name="softmax")


def measured_s(executor: mx.Executor, least_s: float = 1.0) -> tuple[float, float]:
    """Median CPU and wall seconds of one training step, the first one left out."""
    cpu: list[float] = []
    wall: list[float] = []
    while sum(cpu) < least_s or len(cpu) < 7:
        begun = time.thread_time(), time.perf_counter()
        executor.forward(is_train=True)
        executor.backward()
        cpu.append(time.thread_time() - begun[0])
        wall.append(time.perf_counter() - begun[1])
    return median(cpu[1:]), median(wall[1:])


def compare(net: mx.Symbol, shape: tuple[int, ...], cluster: scheduler.Cluster) -> dict[str, float]:
    """Milliseconds measured and predicted, and both errors."""
    executor = net.simple_bind(mx.cpu(), data=shape)
    rng = np.random.default_rng(0)
    for name, array in executor.arg_dict.items():
        array[:] = 0 if name.endswith("label") else rng.normal(scale=0.1, size=array.shape)
    before = measured_s(executor)
    plan = executor.plan
    pages = predict(plan, cluster).total_s
    profiled = predict(plan, cluster, executor.profile(20).runs).total_s
    # before and after: other programs also take cache and clock rate, and come and go
    seconds, wall = np.mean([before, measured_s(executor)], axis=0).tolist()
    return {
        "measured_ms": seconds * 1e3,
        "wall_ms": wall * 1e3,
        "pages_ms": pages * 1e3,
        "pages_error": pages / seconds - 1,
        "profile_ms": profiled * 1e3,
        "profile_error": profiled / seconds - 1,
    }


def probed() -> scheduler.Cluster:
    """One device of this machine, as cluster/probe.py measures it."""
    probe = runpy.run_path(str(HERE.parent / "cluster" / "probe.py"))
    with pinned(1):
        machine = probe["measure_machine"]()
    cluster: scheduler.Cluster = probe["describe"](machine, (1e-4, 1e9), 1)
    return cluster


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cluster", type=Path, help="a cluster file; probed now without it")
    given = parser.parse_args()
    cluster = scheduler.Cluster.load(given.cluster) if given.cluster else probed()
    rows = {}
    for name, make in {"mlp": mlp, "lenet": lenet, "resnet": resnet}.items():
        rows[name] = compare(make(), SHAPES[name], cluster)
    table = Table("net", "measured", "wall", "op pages", "error", "profile", "error")
    for name, row in rows.items():
        table.add_row(
            name,
            f"{row['measured_ms']:.2f} ms",
            f"{row['wall_ms']:.2f} ms",
            f"{row['pages_ms']:.2f} ms",
            f"{row['pages_error']:+.0%}",
            f"{row['profile_ms']:.2f} ms",
            f"{row['profile_error']:+.0%}",
        )
    Console().print(table)
    record = {
        "date": str(date.today()),
        "machine": f"{platform.processor() or platform.machine()}, one BLAS thread",
        "command": "OMP_NUM_THREADS=1 python benchmarks/predicted.py",
        "load_average": os.getloadavg()[0],
        "rates": dict(cluster.devices[0].rates),
        "nets": rows,
    }
    (HERE / "results" / "predicted.json").write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
