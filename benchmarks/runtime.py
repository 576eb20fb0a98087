"""The distributed runtime against Compiled Graphs, chained ObjectRefs and bare pipes.

    python -m benchmarks.runtime [--sections pipeline,hops,...] [--out benchmarks/results]

All numbers are medians and come from one run of one process; the load average stands beside each,
since ratios from a busy machine say more than times do.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import signal
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import ray
from ray.cluster_utils import Cluster

import raysym as mx
from benchmarks import runtime_peers as peers
from raysym.errors import StallError
from scheduler.pipeline import Stages, one_f_one_b, run

K, M = 4, 8  # stages and micro-batches of the pipeline
SIZES = {"8 B": 8, "1 MB": 1 << 20, "10 MB": 10 << 20}
PIPE_NBYTES = 4096
TRANSPORTS = ("object_store", "socket", "object_ref")


def median(step: Callable[[], Any], n: int, warm_up: int = 5) -> float:
    """Median seconds of a call."""
    for _ in range(warm_up):
        step()
    times = []
    for _ in range(n):
        begun = time.perf_counter()
        step()
        times.append(time.perf_counter() - begun)
    return statistics.median(times)


def groups(k: int) -> dict[str, mx.Context]:
    """One worker per stage."""
    return {f"g{i}": mx.cpu(i) for i in range(k)}


def chain(
    k: int, shape: tuple[int, ...], transport: str | None = None, length: int | None = None
) -> mx.Executor:
    """Each of k workers in turn multiplies by one and hands on, `length` times in all."""
    x = mx.sym.Variable("data")
    for i in range(length or k):
        with mx.AttrScope(ctx_group=f"g{i % k}"):
            x = x * 1.0
    where = {"group2ctx": groups(k), "runtime": "ray", "transport": transport}
    return x.simple_bind(mx.cpu(), grad_req="null", data=shape, **where)


def empty_pipeline(transport: str | None, nbytes: int, k: int = K, m: int = M) -> mx.Executor:
    """k stages that multiply by one, forward and backward, on m micro-batches."""
    x = mx.sym.Variable("data")
    for i in range(k):
        with mx.AttrScope(ctx_group=f"g{i}"):
            x = x * 1.0
    with mx.AttrScope(ctx_group=f"g{k - 1}"):
        x = mx.sym.LinearRegressionOutput(x, name="loss")
    where = {"group2ctx": groups(k), "runtime": "ray", "transport": transport}
    reqs = {"data": "write", "loss_label": "null"}
    return x.simple_bind(
        mx.cpu(), grad_req=reqs, data=(m, nbytes // 4), micro_batches=m, schedule="1f1b", **where
    )


# ----- sections: each yields rows of (what, seconds, remark)

Row = tuple[str, float, str]
Seconds = dict[str, dict[str, float]]


def pipeline(nbytes: int = 512) -> Iterator[Row]:
    """One step of an empty pipeline: 2 x K x M tasks."""
    x = np.ones(nbytes // 4, np.float32)
    for name, make, n in (
        ("bare pipes", peers.by_pipes, 200),
        ("compiled graph", peers.by_compiled_graph, 100),
        ("chained ObjectRefs", peers.by_refs, 20),
    ):
        if make is peers.by_pipes and nbytes > PIPE_NBYTES:
            continue  # its driver sends all micro-batches first, which a pipe must hold
        step, end = make(K, M, x)
        yield name, median(step, n), ""
        end()
    for transport in TRANSPORTS:
        with empty_pipeline(transport, nbytes) as executor:
            data = np.ones((M, nbytes // 4), np.float32)
            n = 20 if transport == "object_ref" else 200
            yield f"raysym {transport}", median(partial(executor.step, data=data), n), "step()"
            read = partial(step_and_read, executor, data)
            yield f"raysym {transport}", median(read, n), "step(), gradient read"
            begun, count = time.perf_counter(), 2 * n
            for _ in executor.run([{"data": data}] * count):
                pass
            yield f"raysym {transport}", (time.perf_counter() - begun) / count, "run(), mean"


def step_and_read(executor: mx.Executor, data: Any) -> Any:
    """A step, and the gradient of its data at the driver: two rounds of messages."""
    executor.step(data=data)
    return executor.grad_dict["data"].asnumpy()


def large_pipeline() -> Iterator[Row]:
    """The same with 256 KB per message."""
    yield from pipeline(256 << 10)


def hand_on(shape: tuple[int, ...], transport: str | None, length: int) -> mx.Executor:
    """Two workers pass an array to and fro without computing: each makes a view of it."""
    x = mx.sym.Variable("data")
    for i in range(length):
        with mx.AttrScope(ctx_group=f"g{i % 2}"):
            x = mx.sym.Reshape(x, shape=shape if i % 2 else (1, *shape))
    where = {"group2ctx": groups(2), "runtime": "ray", "transport": transport}
    return x.simple_bind(mx.cpu(), grad_req="null", data=shape, **where)


def multiply(shape: tuple[int, ...], transport: str | None, length: int) -> mx.Executor:
    """The same, and each multiplies by one."""
    return chain(2, shape, transport, length)


def hops() -> Iterator[Row]:
    """What one more step of a chain between two workers adds: a hop alone, and with a product."""
    short, long = 4, 24
    for label, nbytes in SIZES.items():
        shape, n = (nbytes // 4,), 20 if nbytes > 1 << 20 else 100
        x = np.ones(shape, np.float32)
        yield f"ObjectRefs {label}", peers.ref_hop(short, long, x, max(5, n // 10)), "copy"
        for transport, make in product(TRANSPORTS, (hand_on, multiply)):
            times = {}
            for length in (short, long):
                repeat = 5 if transport == "object_ref" else n
                with make(shape, transport, length) as executor:
                    times[length] = median(executor.forward, repeat)
            hop_s = (times[long] - times[short]) / (long - short)
            yield f"raysym {transport} {label}", hop_s, make.__name__


def nodes() -> Iterator[Row]:
    """Hops between two raylets of one CPU each: has a Ray of its own, so ask for it alone."""
    short, long = 4, 24
    for label, nbytes in SIZES.items():
        shape, n = (nbytes // 4,), 20 if nbytes > 1 << 20 else 100
        x = np.ones(shape, np.float32)
        yield f"ObjectRefs {label}", peers.ref_hop(short, long, x, max(5, n // 10), num_cpus=1), ""
        times = {}
        for length in (short, long):
            with chain(2, shape, None, length) as executor:
                times[length] = median(executor.forward, n)
                (how,) = set(executor.plan.links.values())
        yield f"raysym {how} {label}", (times[long] - times[short]) / (long - short), ""


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


def failures() -> Iterator[Row]:
    """From a signal to the error at the driver, and how long close takes."""
    for kind, i in product((signal.SIGKILL, signal.SIGSTOP), range(5)):
        executor = chain(3, (4,))
        executor.forward()
        victim = executor._session.runtime._actors[f"cpu:{i % 3}"]
        pid = ray.get(victim.process.remote()).pid
        begun = time.perf_counter()
        os.kill(pid, kind)
        try:
            while True:
                executor.forward()
        except (mx.WorkerError, StallError) as error:
            remark = str(error).splitlines()[-1].strip()
            yield f"{kind.name} to error", time.perf_counter() - begun, remark
        begun = time.perf_counter()
        executor.close()
        yield "close", time.perf_counter() - begun, ""


def memory(steps: int = 100_000, nbytes: int = 64 << 10, m: int = 2) -> Iterator[Row]:
    """Memory of each process, and the object store, after each fifth of many steps.

    Beside it stand workers as old that rest all the time: what these gain is Ray's own.
    """
    with empty_pipeline(None, nbytes, 2, m) as executor, empty_pipeline(None, nbytes, 2, m) as idle:
        idle.step()
        data = np.ones((m, nbytes // 4), np.float32)
        begun, marks, store = time.perf_counter(), [], []
        for i, _ in enumerate(executor.run({"data": data} for _ in range(steps)), 1):
            if i % (steps // 5) == 0:
                marks.append({**resident(executor), **resting(idle)})
                store.append(free_store())
        yield "step", (time.perf_counter() - begun) / steps, f"mean of {steps}, 2 workers"
        for name in marks[0]:
            sizes = [mark[name] for mark in marks]
            shown = ", ".join(f"{size / 2**20:.2f}" for size in sizes)
            growth = sizes[-1] / sizes[0] - 1
            yield f"RSS of {name}", 0.0, f"MiB at each fifth: {shown}; last to first {growth:+.2%}"
        yield "object store", 0.0, f"free bytes at each fifth, less the first: {deltas(store)}"


def deltas(values: list[float]) -> str:
    """How far each is from the first."""
    return ", ".join(f"{value - values[0]:+.0f}" for value in values)


def resident(executor: mx.Executor) -> dict[str, int]:
    """Bytes of memory of this process and of the workers."""
    actors = executor._session.runtime._actors
    processes = ray.get([actor.process.remote() for actor in actors.values()])
    pids = {"driver": os.getpid(), **{n: p.pid for n, p in zip(actors, processes, strict=True)}}
    page = os.sysconf("SC_PAGE_SIZE")
    return {n: page * int(Path(f"/proc/{p}/statm").read_text().split()[1]) for n, p in pids.items()}


def resting(executor: mx.Executor) -> dict[str, int]:
    """The same of workers alone, named as those that rest."""
    sizes = resident(executor)
    return {f"{name}, resting": size for name, size in sizes.items() if name != "driver"}


def free_store() -> float:
    """Bytes of the object store that nobody uses."""
    return float(ray.available_resources().get("object_store_memory", 0.0))


def orders() -> Iterator[Row]:
    """What an order costs: to one worker and back with its report."""
    with chain(2, (2,)) as executor:
        runtime = executor._session.runtime
        fetch = partial(runtime.fetch, ["output:0"])
        yield "order and report", median(fetch, 500), "fetch of 8 bytes from one worker"
        yield "forward", median(executor.forward, 500), "2 workers, 1 hop"


SECTIONS: dict[str, Callable[[], Iterator[Row]]] = {
    section.__name__: section
    for section in (
        pipeline, large_pipeline, hops, nodes, orders, predicted, replicas, metg, failures, memory,
    )
}  # fmt: skip


@contextmanager
def started(two_nodes: bool) -> Iterator[None]:
    """Ray with room for all, or two raylets with room for one worker each."""
    if not two_nodes:
        ray.init(num_cpus=16, include_dashboard=False, log_to_driver=False, logging_level="error")
        yield
        ray.shutdown()
        return
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    ray.init(address=cluster.address, log_to_driver=False, logging_level="error")
    yield
    ray.shutdown()
    cluster.shutdown()


def main(arguments: Sequence[str]) -> None:
    """Run the sections that were asked for; print them and write them down."""
    parser = argparse.ArgumentParser(description=__doc__)
    usual = ",".join(n for n in SECTIONS if n not in ("memory", "nodes"))  # these take minutes
    parser.add_argument("--sections", default=usual)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(arguments)
    environment = {
        # Ray lowers the priority of workers; beside other programs that would measure those.
        name: os.environ.setdefault(name, value)
        for name, value in (("RAY_worker_niceness", "0"), ("OMP_NUM_THREADS", "1"))
    }
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    rows = []
    with started(two_nodes=options.sections == "nodes"):
        for name in options.sections.split(","):
            for what, seconds, remark in SECTIONS[name]():
                load = os.getloadavg()[0]
                rows.append((name, what, seconds, remark, load))
                line = f"{name:15} {what:30} {seconds * 1e6:12.0f} us  load {load:4.1f}  {remark}"
                print(line, flush=True)
    if options.out:
        record = {
            "command": shlex.join(["python", "-m", "benchmarks.runtime", *arguments]),
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
            "python": platform.python_version(),
            "ray": ray.__version__,
            "environment": environment,
            "rows": rows,
        }
        options.out.mkdir(parents=True, exist_ok=True)
        alone = options.sections in ("memory", "nodes")
        path = options.out / f"runtime{f'-{options.sections}' * alone}.json"
        path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
