"""Sections of `runtime.py` about workers that compute: predictions, replicas, small tasks."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import ray

import raysym as mx
from benchmarks.runtime_nets import Row, forward_s, groups, hand_on, median, per_hop
from raysym.planning.predict import predict
from scheduler import Cluster
from scheduler.pipeline import Stages, one_f_one_b, run

PROBE = Path(__file__).parent.parent / "cluster" / "probe.py"
Seconds = dict[str, dict[str, float]]


def two_stages(size: int, m: int, places: Mapping[str, mx.Context], runtime: str) -> mx.Executor:
    """Two stages of one product each, on m micro-batches of `size` rows."""
    net = mx.sym.Variable("data")
    for i in range(2):
        with mx.AttrScope(ctx_group=f"g{i}"):
            net = mx.sym.FullyConnected(net, num_hidden=size, no_bias=True, name=f"fc{i}")
    with mx.AttrScope(ctx_group="g1"):
        net = mx.sym.LinearRegressionOutput(net, name="loss")
    reqs = {"data": "write", "loss_label": "null", "fc0_weight": "write", "fc1_weight": "write"}
    where = {"micro_batches": m, "group2ctx": places, "runtime": runtime}
    return net.simple_bind(mx.cpu(), grad_req=reqs, data=(size * m, size), **where)


def predicted(size: int = 704, m: int = 8, n: int = 20) -> Iterator[Row]:
    """A two-stage pipeline of products, of 5 ms each, against the simulator.

    All but one of the predictions are made before the pipeline runs: the exact timeline of its
    order, by times of the same programs without a pipeline, in one process alone and in two workers
    at once, since two busy cores are slower than one; and the simulation of its very plan, by what
    a user has: the file of `cluster/probe.py`, and `profile()`. All count the hops.
    """
    hop_s = per_hop(partial(forward_s, hand_on, (size, size), None, n))
    yield "hop", hop_s, f"{size * size * 4 / 2**20:.1f} MB, hand_on, median of {n}"
    local = two_stages(size, m, groups(2), "local")
    seconds, alone = stepped(local, n // 2)
    yield "one process", seconds, f"all micro-batches in turn, median of {n // 2}"
    by_times = {"alone in one process": alone, "of two workers at once": at_once(size, m, n // 2)}
    made = {f"times {what}": timeline_s(times, m, hop_s) for what, times in by_times.items()}
    cluster, runs = probed(), local.profile(n // 2, at_once=2).runs
    made["probe"] = predict(local.step_plan, cluster).total_s
    made["probe and profile(at_once=2)"] = predict(local.step_plan, cluster, runs).total_s
    with two_stages(size, m, groups(2), "ray") as executor:
        measured, there = stepped(executor, n)
    shown = " and ".join(f"{s * 1e3:.1f}" for s in there)
    yield "two workers", measured, f"busy {shown} ms, median of {n}"
    made["times in these steps (after)"] = timeline_s(there, m, hop_s)
    for what, makespan in made.items():
        yield f"by {what}", makespan, f"measured / predicted = {measured / makespan:.3f}"


def stepped(executor: mx.Executor, n: int) -> tuple[float, list[float]]:
    """Median seconds of n steps, and seconds that each worker computed in one of them."""
    executor.step()
    before = executor.timings()
    seconds = median(executor.step, n, 0)
    return seconds, computing(executor.timings(), n, before)


def timeline_s(seconds: Sequence[float], m: int, hop_s: float) -> float:
    """Seconds of a 1F1B step of two stages, by those that each computes in all."""
    third = tuple(s / m / 3 for s in seconds)  # forward is one product of three
    stages = Stages(third, third, third, edges=((0, 1, hop_s),))
    return run(one_f_one_b(2, m), stages).makespan


def at_once(size: int, m: int, steps: int) -> list[float]:
    """Seconds that a stage computes when each of two workers does all of a step for itself."""
    with ExitStack() as both, ThreadPoolExecutor(2) as threads:
        pair = [
            both.enter_context(two_stages(size, m, dict.fromkeys(("g0", "g1"), mx.cpu(i)), "ray"))
            for i in range(2)
        ]

        def step() -> None:
            list(threads.map(mx.Executor.step, pair))

        step()
        before = [executor.timings() for executor in pair]
        for _ in range(steps):
            step()
        return [
            sum(computing(executor.timings(), steps, its)) / 2
            for executor, its in zip(pair, before, strict=True)
        ]


def probed() -> Cluster:
    """Two workers of this machine, as cluster/probe.py measures them on the Ray that runs."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "cluster.toml"
        environment = {**os.environ, "RAY_ADDRESS": ray.get_runtime_context().gcs_address}
        command = [sys.executable, str(PROBE), str(path), "--workers", "2"]
        subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
        return Cluster.load(path)


def computing(after: Seconds, steps: int, before: Seconds | None = None) -> list[float]:
    """Seconds that each worker computed in each of `steps` steps."""
    none = {worker: {"compute": 0.0} for worker in after}
    return [(after[w]["compute"] - (before or none)[w]["compute"]) / steps for w in after]


def busy(before: Seconds, after: Seconds, elapsed_s: float) -> str:
    """The share of the time in which each worker computed (or waited for a core to compute on)."""
    return ", ".join(f"{share / elapsed_s:.0%}" for share in computing(after, 1, before))


def replicas(size: int = 896) -> Iterator[Row]:
    """Twice the batch on two replicas, against the batch on one, with updates on the workers."""
    net = mx.sym.FullyConnected(mx.sym.Variable("data"), num_hidden=size, name="fc0")
    net = mx.sym.FullyConnected(mx.sym.tanh(net), num_hidden=size, name="fc1")
    net = mx.sym.LinearRegressionOutput(net, name="loss")
    times = {}
    for n in (1, 2):
        rows = 2 * size * n
        reqs = {a: "null" if a in ("data", "loss_label") else "write" for a in net.list_arguments()}
        options = {"optimizer": ("sgd_update", {"lr": 0.0}), "data_parallel": n, "runtime": "ray"}
        with net.simple_bind(mx.cpu(), grad_req=reqs, data=(rows, size), **options) as executor:
            executor.step()
            before, begun = executor.timings(), time.perf_counter()
            times[n] = median(executor.step, 20)
            share = busy(before, executor.timings(), time.perf_counter() - begun)
            yield f"{n} replicas", times[n], f"{rows} rows, computing {share}, median of 20"
    yield "efficiency", times[2], f"{times[1] / times[2]:.3f} of ideal"


def metg(n: int = 40) -> Iterator[Row]:
    """The smallest task that keeps half of the efficiency, on two workers.

    A task is a stage's forward or backward of one micro-batch, as long as it takes in one process.
    """
    for size in (64, 96, 128, 160, 192, 256, 320):
        local = two_stages(size, 8, groups(2), "local")
        with two_stages(size, 8, groups(2), "ray") as executor:
            local_s, step_s = median(local.step, n), median(executor.step, n)
        share = local_s / 2 / step_s
        yield f"task of size {size}", local_s / 32, f"efficiency {share:.2f}, median of {n}"
        if share >= 0.5:
            return
