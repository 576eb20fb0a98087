"""The peers of `benchmarks/runtime.py`: the same pipeline step on what Ray and Python offer.

A stage multiplies by one, forward and backward; k stages, m micro-batches, in 1F1B order.
"""

from __future__ import annotations

import multiprocessing
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import ray
from ray.dag import InputNode, MultiOutputNode

from scheduler.pipeline import Action, one_f_one_b


@ray.remote(num_cpus=0)
class Stage:
    """Does next to nothing, as a stage of an empty pipeline should."""

    def forward(self, x: Any, j: int) -> Any:
        return x * np.float32(1.0)

    def backward(self, g: Any, j: int) -> Any:
        return g * np.float32(1.0)

    def echo(self, x: Any) -> Any:
        return np.array(x)


def walk(k: int, m: int, visit: Callable[[Any, Action], Any], first: Any) -> list[Any]:
    """Visit the actions in an order that respects what they need; the last gradients."""
    order, at, done = one_f_one_b(k, m), [0] * k, {}
    while any(at[s] < 2 * m for s in range(k)):
        for s in range(k):
            while at[s] < 2 * m:
                action = order[s][at[s]]
                need = _need(action, k)
                if need is not None and need not in done:
                    break
                done[action] = visit(first if need is None else done[need], action)
                at[s] += 1
    return [done[Action(0, "B", j)] for j in range(m)]


def _need(action: Action, k: int) -> Action | None:
    stage, kind, j = action
    if kind == "F":
        return Action(stage - 1, "F", j) if stage else None
    return Action(stage + 1, "B", j) if stage < k - 1 else Action(stage, "F", j)


def _bind(stages: list[Any], how: str) -> Callable[[Any, Action], Any]:
    def visit(value: Any, action: Action) -> Any:
        method = "forward" if action.kind == "F" else "backward"
        return getattr(getattr(stages[action.stage], method), how)(value, action.batch)

    return visit


def by_refs(k: int, m: int, x: Any) -> tuple[Callable[[], Any], Callable[[], None]]:
    """Actor calls chained by ObjectRefs, all submitted at once: a step, and how to end it."""
    stages = [Stage.remote() for _ in range(k)]
    return (
        lambda: ray.get(walk(k, m, _bind(stages, "remote"), x)),
        lambda: [ray.kill(s) for s in stages] and None,
    )


def by_compiled_graph(k: int, m: int, x: Any) -> tuple[Callable[[], Any], Callable[[], None]]:
    """Ray's Compiled Graphs, one graph for the whole step."""
    stages = [Stage.remote() for _ in range(k)]
    with InputNode() as source:
        graph = MultiOutputNode(walk(k, m, _bind(stages, "bind"), source))
    compiled = graph.experimental_compile(_max_inflight_executions=1)

    def end() -> None:
        compiled.teardown(kill_actors=True)

    return lambda: list(ray.get(compiled.execute(x))), end


def _pipe_stage(left: Any, right: Any, order: Any, nbytes: int) -> None:
    while True:
        for action in order:
            source, target = (left, right) if action.kind == "F" else (right, left)
            got = source.recv_bytes()
            if not got:
                right.send_bytes(b"")
                return
            target.send_bytes((np.frombuffer(got, np.float32) * np.float32(1.0)).data.cast("B"))


def by_pipes(k: int, m: int, x: Any) -> tuple[Callable[[], Any], Callable[[], None]]:
    """A bare loop per stage over `multiprocessing` pipes: what is left without any runtime."""
    context = multiprocessing.get_context("fork")
    pipes = [context.Pipe() for _ in range(k + 1)]
    order = one_f_one_b(k, m)
    processes = [
        context.Process(
            target=_pipe_stage, args=(pipes[s][1], pipes[s + 1][0], order[s], x.nbytes), daemon=True
        )
        for s in range(k)
    ]
    for process in processes:
        process.start()
    first, last = pipes[0][0], pipes[k][1]
    payload = x.tobytes()

    def step() -> None:
        for _ in range(m):
            first.send_bytes(payload)
        for _ in range(m):
            last.send_bytes(last.recv_bytes())
        for _ in range(m):
            first.recv_bytes()

    def end() -> None:
        first.send_bytes(b"")
        for process in processes:
            process.join()

    return step, end


def ref_hop(short: int, long: int, x: Any, n: int, num_cpus: float = 0) -> float:
    """Seconds that one more hop adds to a chain between two actors by ObjectRefs."""
    stages = [Stage.options(num_cpus=num_cpus).remote() for _ in range(2)]

    def chain(length: int) -> float:
        begun, value = time.perf_counter(), x
        for i in range(length):
            value = stages[i % 2].echo.remote(value)
        ray.get(value)
        return time.perf_counter() - begun

    chain(short)
    times = {k: statistics.median(chain(k) for _ in range(n)) for k in (short, long)}
    for stage in stages:
        ray.kill(stage)
    return (times[long] - times[short]) / (long - short)
