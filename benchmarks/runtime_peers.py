"""The peers of `runtime.py` that Ray offers: pipeline steps and hops by ObjectRefs, by one graph.

A stage multiplies by one, forward and backward; k stages, m micro-batches, in 1F1B order.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import ray
from ray.dag import InputNode, MultiOutputNode

from benchmarks.runtime_nets import median, per_hop
from scheduler.pipeline import Action, one_f_one_b

PATIENCE_S = 100.0  # Ray's own 10 s are too few on a busy machine, where channels grow


@ray.remote(num_cpus=0)
class Stage:
    """Does next to nothing, as a stage of an empty pipeline should."""

    def forward(self, x: Any, j: int) -> Any:
        return x * np.float32(1.0)

    def backward(self, g: Any, j: int) -> Any:
        return g * np.float32(1.0)

    def hand_on(self, x: Any) -> Any:
        return x

    def multiply(self, x: Any) -> Any:
        return x * np.float32(1.0)


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
    return lambda: ray.get(walk(k, m, _bind(stages, "remote"), x)), partial(end_all, stages)


def by_compiled_graph(k: int, m: int, x: Any) -> tuple[Callable[[], Any], Callable[[], None]]:
    """Ray's Compiled Graphs, one graph for the whole step."""
    stages = [Stage.remote() for _ in range(k)]
    with InputNode() as source:
        graph = MultiOutputNode(walk(k, m, _bind(stages, "bind"), source))
    # No teardown: it waits for 30 s where a channel grew. The actors end, then this process does.
    return _executions(graph, x), partial(end_all, stages)


def _executions(graph: Any, x: Any) -> Callable[[], None]:
    compiled = graph.experimental_compile(_submit_timeout=PATIENCE_S, _max_inflight_executions=1)

    def execute() -> None:  # and keep nothing: a view that is held holds up the next execution
        ray.get(compiled.execute(x), timeout=PATIENCE_S)

    return execute


def end_all(stages: list[Any]) -> None:
    """End the actors."""
    for stage in stages:
        ray.kill(stage)


def step_s(make: Callable[..., Any], k: int, m: int, x: Any, n: int) -> float:
    """Median seconds of one pipeline step of a peer."""
    step, end = make(k, m, x)
    seconds = median(step, n)
    end()
    return seconds


# ----- hops


def peer_hop(how: str, work: str, x: Any, num_cpus: float, n: int) -> float:
    """Seconds that one more hop adds to a chain between two actors, by "refs" or by one "graph"."""
    return per_hop(partial(_chain_s, CHAINS[how], work, x, num_cpus, n))


def _chain_s(
    make: Callable[..., Any], work: str, x: Any, num_cpus: float, n: int, length: int
) -> float:
    stages = [Stage.options(num_cpus=num_cpus).remote() for _ in range(2)]
    visits = [getattr(stages[i % 2], work) for i in range(length)]
    seconds = median(make(visits, x), n)
    end_all(stages)
    return seconds


def _by_refs(visits: list[Any], x: Any) -> Callable[[], Any]:
    def step() -> Any:
        value = x
        for visit in visits:
            value = visit.remote(value)
        return ray.get(value)

    return step


def _by_graph(visits: list[Any], x: Any) -> Callable[[], Any]:
    with InputNode() as value:
        for visit in visits:
            value = visit.bind(value)
    return _executions(value, x)


CHAINS = {"refs": _by_refs, "graph": _by_graph}
