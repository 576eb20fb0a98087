"""Sections of `runtime.py` about messages: empty pipelines, hops, orders."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from itertools import product
from typing import Any

import numpy as np

import raysym as mx
from benchmarks import runtime_peers as peers
from benchmarks.runtime_nets import (
    SIZES,
    TRANSPORTS,
    K,
    M,
    Row,
    chain,
    empty_pipeline,
    groups,
    median,
)  # fmt: skip

PIPE_NBYTES = 4096


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


def orders() -> Iterator[Row]:
    """What an order costs: to one worker and back with its report."""
    with chain(2, (2,)) as executor:
        runtime = executor._session.runtime
        fetch = partial(runtime.fetch, ["output:0"])
        yield "order and report", median(fetch, 500), "fetch of 8 bytes from one worker"
        yield "forward", median(executor.forward, 500), "2 workers, 1 hop"
