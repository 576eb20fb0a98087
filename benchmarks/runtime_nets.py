"""What the sections of `runtime.py` share: rows, medians, and networks that do next to nothing."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import raysym as mx

K, M = 4, 8  # stages and micro-batches of the pipeline
SIZES = {"8 B": 8, "1 MB": 1 << 20, "10 MB": 10 << 20}
TRANSPORTS = ("object_store", "socket", "object_ref")

SHORT, LONG = 4, 24  # lengths of the chains whose difference is a hop's price

Row = tuple[str, float | None, str]  # what, seconds if that is what was measured, remark


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


def per_hop(seconds: Callable[[int], float]) -> float:
    """Seconds that one more step adds to a chain, from those of a short and of a long one."""
    return (seconds(LONG) - seconds(SHORT)) / (LONG - SHORT)


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


def hand_on(shape: tuple[int, ...], transport: str | None, length: int) -> mx.Executor:
    """Two workers pass an array to and fro without computing: each makes a view of it."""
    x = mx.sym.Variable("data")
    for i in range(length):
        with mx.AttrScope(ctx_group=f"g{i % 2}"):
            x = mx.sym.Reshape(x, shape=shape if i % 2 else (1, *shape))
    where = {"group2ctx": groups(2), "runtime": "ray", "transport": transport}
    return x.simple_bind(mx.cpu(), grad_req="null", data=shape, **where)


def forward_s(
    make: Callable[..., mx.Executor],
    shape: tuple[int, ...],
    transport: str | None,
    n: int,
    length: int,
) -> float:
    """Median seconds of a chain of that length."""
    with make(shape, transport, length) as executor:
        return median(executor.forward, n)


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
