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
from benchmarks.runtime_apart import beside
from benchmarks.runtime_nets import (
    SHORT,
    SIZES,
    TRANSPORTS,
    K,
    M,
    Row,
    chain,
    empty_pipeline,
    forward_s,
    hand_on,
    median,
    per_hop,
)
from benchmarks.runtime_pipes import bare_hop, by_pipes


def pipeline(nbytes: int = 512) -> Iterator[Row]:
    """One step of an empty pipeline: 2 x K x M tasks."""
    x = np.ones(nbytes // 4, np.float32)
    for name, make, n in (
        ("bare pipes", by_pipes, 200),
        ("compiled graph", peers.by_compiled_graph, 100),
        ("chained ObjectRefs", peers.by_refs, 20),
    ):
        yield beside(name, "step", n, peers.step_s, make, K, M, x)
    for transport in TRANSPORTS:
        with empty_pipeline(transport, nbytes) as executor:
            data = np.ones((M, nbytes // 4), np.float32)
            name, n = f"raysym {transport}", 20 if transport == "object_ref" else 200
            seconds = median(partial(executor.step, data=data), n)
            yield name, seconds, f"step(), median of {n}"
            seconds = median(partial(step_and_read, executor, data), n)
            yield name, seconds, f"step(), gradient read, median of {n}"
            begun, count = time.perf_counter(), 2 * n
            for _ in executor.run([{"data": data}] * count):
                pass
            yield name, (time.perf_counter() - begun) / count, f"run(), mean of {count}"


def step_and_read(executor: mx.Executor, data: Any) -> Any:
    """A step, and the gradient of its data at the driver: two rounds of messages."""
    executor.step(data=data)
    return executor.grad_dict["data"].asnumpy()


def large_pipeline() -> Iterator[Row]:
    """The same with 256 KB per message."""
    yield from pipeline(256 << 10)


def multiply(shape: tuple[int, ...], transport: str | None, length: int) -> mx.Executor:
    """A chain between two workers who multiply by one."""
    return chain(2, shape, transport, length)


def hops() -> Iterator[Row]:
    """What one more step of a chain between two workers adds: a hop alone, and with a product."""
    for label, x, n in messages():
        for work in ("hand_on", "multiply"):
            yield beside(f"bare pipe {label}", work, n, bare_hop, "pipe", work, x)
            yield from hops_of_ray(label, work, n, x, 0)
        for transport, make in product(TRANSPORTS, (hand_on, multiply)):
            count = 5 if transport == "object_ref" else n
            seconds = per_hop(partial(forward_s, make, x.shape, transport, count))
            yield f"raysym {transport} {label}", seconds, f"{make.__name__}, median of {count}"


def hops_of_ray(label: str, work: str, n: int, x: Any, num_cpus: float) -> Iterator[Row]:
    """The same between two actors with so many CPUs each."""
    for name, how, count in (
        ("compiled graph", "graph", n),
        ("ObjectRefs", "refs", max(5, n // 10)),
    ):
        yield beside(f"{name} {label}", work, count, peers.peer_hop, how, work, x, num_cpus)


def messages() -> Iterator[tuple[str, Any, int]]:
    """Arrays of each size, and how often to send them."""
    for label, nbytes in SIZES.items():
        yield label, np.ones(nbytes // 4, np.float32), 20 if nbytes > 1 << 20 else 100


def nodes() -> Iterator[Row]:
    """Hops between two raylets of one CPU each: has a Ray of its own, so ask for it alone."""
    for label, x, n in messages():
        yield beside(f"bare TCP {label}", "multiply", n, bare_hop, "TCP", "multiply", x)
        yield from hops_of_ray(label, "multiply", n, x, 1)
        with multiply(x.shape, None, SHORT) as executor:
            (way,) = set(executor.plan.links.values())
        seconds = per_hop(partial(forward_s, multiply, x.shape, None, n))
        yield f"raysym {way} {label}", seconds, f"multiply, median of {n}"


def orders() -> Iterator[Row]:
    """What an order costs: to one worker and back with its report."""
    with chain(2, (2,)) as executor:
        runtime = executor._session.runtime
        fetch = partial(runtime.fetch, ["output:0"])
        seconds = median(fetch, 500)
        yield "order and report", seconds, "fetch of 8 bytes from one worker, median of 500"
        yield "forward", median(executor.forward, 500), "2 workers, 1 hop, median of 500"
