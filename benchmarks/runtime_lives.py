"""Sections of `runtime.py` about processes: how workers die, what they hold after many steps."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np
import ray

import raysym as mx
from benchmarks.runtime_nets import Row, chain, empty_pipeline
from raysym.errors import StallError


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
            yield f"RSS of {name}", None, f"MiB at each fifth: {shown}; last to first {growth:+.2%}"
        yield "object store", None, f"free bytes at each fifth, less the first: {deltas(store)}"


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
