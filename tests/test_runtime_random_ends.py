"""Executors that end at a random moment of a random plan: killed or closed, none hangs."""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import Any

import numpy as np
import pytest
from processes import CLOSE_S, DEATH_S, PATIENCE, alive, eventually, pids_of, within
from random_graphs import WIDTH, bind_random, random_symbol

import raysym as mx
from raysym.runtime.transport import TRANSPORTS

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_session")]


def bound(rng: np.random.Generator, transport: str) -> mx.Executor:
    """A random graph on two to four workers, perhaps in micro-batches or with replicas."""
    symbol = random_symbol(rng, 10, 4)
    n_workers = int(rng.integers(2, 5))
    where: dict[str, Any] = {"group2ctx": {f"g{i}": mx.cpu(i % n_workers) for i in range(4)}}
    where |= [{}, {"micro_batches": 2}, {"data_parallel": 2}][int(rng.integers(3))]
    return bind_random(symbol, int(rng.integers(99)), runtime="ray", transport=transport, **where)


def stream(executor: mx.Executor, ends: list[BaseException]) -> None:
    """Steps without end; what ended them."""
    batches = iter(lambda: {"data": np.ones((4, WIDTH), np.float32)}, None)
    try:
        for _ in executor.run(batches):
            pass
    except BaseException as error:
        ends.append(error)


def steps_in_a_thread(executor: mx.Executor) -> tuple[threading.Thread, list[BaseException]]:
    ends: list[BaseException] = []
    executor.step()
    thread = threading.Thread(target=stream, args=(executor, ends))
    thread.start()
    return thread, ends


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("seed", range(2))
def test_a_worker_that_is_killed_at_any_moment_is_named(seed: int, transport: str) -> None:
    rng = np.random.default_rng((seed, TRANSPORTS.index(transport)))
    with bound(rng, transport) as executor:
        thread, ends = steps_in_a_thread(executor)
        pids = pids_of(executor)
        victim = str(rng.choice(sorted(pids)))
        time.sleep(float(rng.uniform(0, 0.3)))
        os.kill(pids[victim], signal.SIGKILL)
        thread.join(PATIENCE * DEATH_S)
        assert not thread.is_alive()
        assert isinstance(ends[0], mx.WorkerError)
        assert f"worker {victim} died" in str(ends[0])
    assert eventually(lambda: not any(map(alive, pids.values())))


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("seed", [0])
def test_an_executor_that_another_thread_closes_ends(seed: int, transport: str) -> None:
    rng = np.random.default_rng((seed, TRANSPORTS.index(transport), 1))
    executor = bound(rng, transport)
    thread, ends = steps_in_a_thread(executor)
    pids = pids_of(executor)
    time.sleep(float(rng.uniform(0, 0.3)))
    with within(CLOSE_S):
        executor.close()
    thread.join(PATIENCE * CLOSE_S)
    assert not thread.is_alive()
    assert isinstance(ends[0], mx.MXNetError)
    assert "it was closed" in str(ends[0])
    assert eventually(lambda: not any(map(alive, pids.values())))
