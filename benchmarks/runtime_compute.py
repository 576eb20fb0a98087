"""Sections of `runtime.py` about workers that compute: predictions, replicas, small tasks."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import raysym as mx
from benchmarks.runtime_nets import Row, groups, median
from scheduler.pipeline import Stages, one_f_one_b, run

Seconds = dict[str, dict[str, float]]


@contextmanager
def two_stages(size: int, m: int) -> Iterator[tuple[mx.Executor, mx.Executor]]:
    """Two stages of one product each, on two workers and in this process."""
    net = mx.sym.Variable("data")
    for i in range(2):
        with mx.AttrScope(ctx_group=f"g{i}"):
            net = mx.sym.FullyConnected(net, num_hidden=size, no_bias=True, name=f"fc{i}")
    with mx.AttrScope(ctx_group="g1"):
        net = mx.sym.LinearRegressionOutput(net, name="loss")
    shapes = {"data": (size * m, size)}
    reqs = {"data": "write", "loss_label": "null", "fc0_weight": "write", "fc1_weight": "write"}
    options = {"grad_req": reqs, "micro_batches": m, "group2ctx": groups(2)}
    local = net.simple_bind(mx.cpu(), **shapes, **options)
    with net.simple_bind(mx.cpu(), runtime="ray", **shapes, **options) as executor:
        yield executor, local


def predicted(size: int = 704, m: int = 8) -> Iterator[Row]:
    """A two-stage pipeline of products against the exact timeline of its schedule.

    Predicted twice: by the times of the same programs in one process, before, and by the compute
    of the very steps.
    """
    with two_stages(size, m) as (executor, local):
        local_s, alone = median(local.step, 10, 0), computing(local.timings(), 10)
        yield "one process", local_s, "all micro-batches in turn"
        executor.step()
        before = executor.timings()
        measured = median(executor.step, 20)
        busy = computing(executor.timings(), 25, before)
        yield "two workers", measured, f"busy {busy[0] * 1e3:.1f} and {busy[1] * 1e3:.1f} ms"
        for what, seconds in (("in one process", alone), ("in these steps", busy)):
            # Forward is one product of three.
            third = tuple(s / m / 3 for s in seconds)
            makespan = run(one_f_one_b(2, m), Stages(third, third, third)).makespan
            remark = f"{third[0] * 1e3:.1f} ms a product, measured / predicted"
            yield f"predicted by times {what}", makespan, f"{remark} = {measured / makespan:.3f}"


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
            yield f"{n} replicas", times[n], f"{rows} rows, computing {share}"
    yield "efficiency", times[2], f"{times[1] / times[2]:.3f} of ideal"


def metg() -> Iterator[Row]:
    """The smallest task that keeps half of the efficiency, on two workers.

    A task is a stage's forward or backward of one micro-batch, as long as it takes in one process.
    """
    for size in (64, 96, 128, 160, 192, 256, 320):
        with two_stages(size, 8) as (executor, local):
            local_s, step_s = median(local.step, 40), median(executor.step, 40)
            share = local_s / 2 / step_s
            yield f"task of size {size}", local_s / 32, f"efficiency {share:.2f}"
            if share >= 0.5:
                return
