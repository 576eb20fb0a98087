"""What tests of several nodes run in the process of `two_nodes`, and what they hand back."""

from __future__ import annotations

import gc
import importlib
import os
import signal
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from typing import Any, NamedTuple

import numpy as np
import pytest
from processes import alive, eventually, listening, on, pids_of, sockets
from random_graphs import WIDTH, assert_same_bits, bind_random
from test_pipeline import chain, everything, train
from test_runtime_ending import groups_held, shared_memory
from test_runtime_random_ends import steps_in_a_thread
from two_nodes import CPUS, OTHER, add_other, room, where

import raysym as mx

INPUTS = ("data", "softmax_label")
BATCH = (8, WIDTH)


class Ran(NamedTuple):
    """How an executor ran: the text of its plan, and the address of the node of each worker."""

    plan: str
    hosts: dict[str, str]


def stages(n: int) -> dict[str, mx.Context]:
    """A worker for each stage."""
    return {f"g{i}": mx.cpu(i) for i in range(n)}


def followed(executor: mx.Executor, n_steps: int) -> dict[str, np.ndarray]:
    """What steps leave behind after which the driver updates, and then a stream of steps."""
    found = train(executor, n_steps)
    rng = np.random.default_rng(5)
    shape = executor.arg_dict["data"].shape
    batches = [{"data": rng.normal(size=shape).astype(np.float32)} for _ in range(5)]
    for i, outputs in enumerate(executor.run(batches)):
        found |= {f"stream {i} {k}": output for k, output in enumerate(outputs)}
    found |= {f"state {key}": array.asnumpy() for key, array in executor.state_dict.items()}
    return {**found, **{f"last {name}": array for name, array in everything(executor).items()}}


def compare(symbol: mx.Symbol, **options: Any) -> Ran:
    """Steps on the nodes give the bits of the same steps in this process."""
    n_steps = 0 if "optimizer" in options else 2  # workers update on their own
    options = {"data": BATCH, **options}
    whole = followed(bind_random(symbol, 1, **options), n_steps)
    with bind_random(symbol, 1, runtime="ray", **options) as executor:
        assert_same_bits(whole, followed(executor, n_steps))
        return Ran(str(executor.plan), where(executor))


# ----- the same bits


def pipeline(free: tuple[int, int], **options: Any) -> Ran:
    """A worker for each CPU that is free on the two nodes."""
    n = sum(free)
    with room(*free):
        return compare(chain(n), group2ctx=stages(n), **options)


def replicas(n: int, optimizer: str, **options: Any) -> Ran:
    """Two replicas of `n` workers each, as many on each node, that update their parameters."""
    reqs = {name: "null" if name in INPUTS else "write" for name in chain(n).list_arguments()}
    update = {"grad_req": reqs, "optimizer": (optimizer, {"lr": 0.1})}
    with room(n, n):
        return compare(chain(n), group2ctx=stages(n), data_parallel=2, **update, **options)


def wide(kernels: str) -> Ran:
    """Messages of 16 bytes, 64 KB and 4.8 MB, each within a node and between two."""
    with mx.AttrScope(ctx_group="g0"):
        huge = mx.sym.tanh(mx.sym.Variable("data"), name="huge")
        few = mx.sym.sum(huge, axis=1, keepdims=True, name="few")
    with mx.AttrScope(ctx_group="g1"):
        scaled = mx.sym.broadcast_mul(huge, mx.sym.Variable("scale", shape=(1, 300_000)))
        some = mx.sym.slice_axis(scaled, axis=1, begin=0, end=4096, name="some")
    with mx.AttrScope(ctx_group="g2"):
        large = mx.sym.exp(some * 0.1, name="large")
        mean = mx.sym.mean(large, axis=1, keepdims=True, name="mean")
    with mx.AttrScope(ctx_group="g3"):
        losses = [mx.sym.broadcast_mul(huge, mean * few), large * large]
        net = mx.sym.Group([mx.sym.MakeLoss(x, name=f"loss{i}") for i, x in enumerate(losses)])
    options = {"group2ctx": stages(4), "micro_batches": 2, "schedule": "1f1b"}
    with room(2, 2):
        return compare(net, data=(8, 300_000), kernels=kernels, **options)


# ----- placement


def refusal(n_free: int, **options: Any) -> tuple[str, int]:
    """Why four workers are refused, and how many groups of workers are left of them."""
    door: Any = importlib.import_module("raysym.runtime.ray")
    usual, door.ROOM_S = door.ROOM_S, 1.0
    try:
        with room(n_free, n_free):
            held = groups_held()
            with pytest.raises(mx.PlacementError) as caught:
                bind_random(chain(4), 1, runtime="ray", **options)
            return str(caught.value), groups_held() - held
    finally:
        door.ROOM_S = usual


class Listeners(NamedTuple):
    """Of each worker before it has met its peers, of the driver then, and of all afterwards."""

    workers: dict[str, list[Any]]
    driver: list[Any]
    afterwards: list[Any]
    hosts: dict[str, str]


def listeners() -> Listeners:
    """Who listens where while four workers meet."""
    fleet_class: Any = importlib.import_module("raysym.runtime.ray").RayFleet
    start, seen = fleet_class.start, []

    def look(fleet: Any, method: str, args: Any) -> Any:
        if method == "connect":
            calls = start(fleet, "__ray_call__", dict.fromkeys(args, (listening,)))
            seen.extend([fleet.finish(calls, 60), listening()])
        return start(fleet, method, args)

    fleet_class.start = look
    try:
        with room(2, 2), four_workers() as executor:
            executor.step()
            after = [listening(), *(on(executor, name, listening) for name in seen[0])]
            return Listeners(*seen, after, where(executor))
    finally:
        fleet_class.start = start


def four_workers(transport: str | None = None) -> mx.Executor:
    """A pipeline, on whatever nodes have room."""
    options = {"group2ctx": stages(4), "micro_batches": 2, "runtime": "ray"}
    return bind_random(chain(4), 1, transport=transport, **options)


# ----- death


class End(NamedTuple):
    """Who died, what ended the steps, what was said to the next one, what was left at the end."""

    victims: list[str]
    error: str
    later: str
    left: list[str]


class Held(NamedTuple):
    """What this process and the cluster hold."""

    unix: set[str]
    tcp: set[str]
    shm: set[str]
    groups: int
    store_nbytes: float
    cpus: float


def held() -> Held:
    """What is held now."""
    ray = importlib.import_module("ray")
    total, free = ray.cluster_resources(), ray.available_resources()
    taken = (total.get(w, 0.0) - free.get(w, 0.0) for w in ("object_store_memory", "CPU"))
    return Held(sockets("unix"), sockets("tcp"), shared_memory(), groups_held(), *taken)


def left_since(before: Held, pids: Iterable[int]) -> list[str]:
    """What is held still that was not before, at the latest after a minute."""
    gc.collect()

    def is_gone(name: str) -> bool:
        if name == "processes":
            return not any(map(alive, pids))
        now: Any = getattr(held(), name)
        return bool(now <= getattr(before, name))

    return [name for name in (*Held._fields, "processes") if not eventually(partial(is_gone, name))]


@cache
def _open_once() -> None:
    """What Ray opens for the first time stays, and is no leftover."""
    pipeline((2, 2))


def _ended(executor: mx.Executor, seed: int, strike: Callable[[], None]) -> tuple[str, str]:
    """What is said to steps that run when the strike comes, and to the next one; then close."""
    thread, ends = steps_in_a_thread(executor)
    time.sleep(float(np.random.default_rng(seed).uniform(0, 0.3)))
    strike()
    thread.join(60)
    assert not thread.is_alive()
    assert isinstance(ends[0], mx.WorkerError)
    with pytest.raises(mx.WorkerError) as later:
        executor.step()
    executor.close()
    return str(ends[0]), str(later.value)


def far_workers(executor: mx.Executor) -> list[str]:
    """The workers that are not on the driver's node."""
    return [name for name, host in where(executor).items() if host == OTHER]


def worker_killed(seed: int, transport: str | None) -> End:
    """One of the workers on the other node is killed while steps run."""
    _open_once()
    before = held()
    with room(2, 2):
        executor = four_workers(transport)
        victim, pids = far_workers(executor)[seed % 2], pids_of(executor)
        said = _ended(executor, seed, lambda: os.kill(pids[victim], signal.SIGKILL))
    return End([victim], *said, left_since(before, pids.values()))


def node_lost(seed: int, lose: Callable[[], None]) -> tuple[End, Ran]:
    """The other node is lost while steps run there, and other steps on this one.

    The end of the executor on both nodes, and how one ran that was bound while a node was missing.
    """
    _open_once()
    with room(1, 0):
        bystander = bind_random(chain(1), 1, data=BATCH, group2ctx=stages(1), runtime="ray")
    before, executor = held(), four_workers()
    victims, pids = far_workers(executor), pids_of(executor)
    said = _ended(executor, seed, lose)
    left = left_since(before, pids.values())
    here = bind_random(chain(1), 1, data=BATCH)
    with bystander:
        assert_same_bits(followed(here, 1), followed(bystander, 1))
    return End(victims, *said, left), _bound_before(add_other)


def _bound_before(there_is_room: Callable[[], None]) -> Ran:
    """How workers ran that had to wait for room."""
    table = importlib.import_module("ray").util.placement_group_table
    with ThreadPoolExecutor(1) as pool:
        ran = pool.submit(pipeline, (CPUS, CPUS))
        assert eventually(lambda: "PENDING" in {group["state"] for group in table().values()})
        there_is_room()
        return ran.result()
