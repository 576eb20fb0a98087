"""place(): the one door from (graph, cluster, policy) to a Schedule."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from .cluster import Cluster
from .collector import collection_paused
from .errors import ScheduleError
from .graph import TaskGraph
from .policies.contiguous import contiguous
from .policies.etf import etf
from .policies.heft import heft
from .policies.ideals import split
from .policies.intervals import intervals
from .policies.local_search import improve
from .policies.multilevel import multilevel
from .policies.single import single
from .schedule import Schedule
from .splitting.search import Effort
from .timeline import from_placement
from .units import over_memory

OBJECTIVES = ("load", "makespan")
Policy = Callable[..., Any]

POLICIES: dict[str, Policy] = {
    "contiguous": contiguous,
    "etf": etf,
    "heft": heft,
    "ideals": split,
    "intervals": intervals,
    "multilevel": multilevel,
    "single": single,
}
_SMALL, _MIDDLE = 1_000, 2_000
# the portfolio runs them beside others: a second, not a minute
_QUICKER: dict[str, Policy] = {
    "ideals": partial(split, effort=Effort(states=20_000, pairs=30_000_000, pool=1_000)),
    "intervals": partial(intervals, most=400),
}


def place(
    graph: TaskGraph,
    cluster: Cluster,
    policy: str | Policy = "contiguous",
    objective: str = "load",
) -> Schedule:
    """Give every task a device.

    `policy` is "auto" (the best of all that suit the size), a name of POLICIES, or a callable
    (graph, cluster) -> device name per task id, device positions, or a Schedule. `objective` is
    "load" (seconds of the most loaded device) or "makespan". Raises ScheduleError if pins
    contradict each other or memory does not suffice.
    """
    if objective not in OBJECTIVES:
        raise ScheduleError(f"objective: got {objective!r}, expected one of {OBJECTIVES}")
    again = partial(_place_again, policy, objective)
    with collection_paused():
        if policy == "auto":
            return replace(_best(graph, cluster, objective), remake=again)
        chosen, name = _named(policy)
        return replace(_run(chosen, name, graph, cluster, objective), remake=again)


def _place_again(
    policy: str | Policy, objective: str, graph: TaskGraph, cluster: Cluster
) -> Schedule:
    return place(graph, cluster, policy, objective)


def _named(policy: str | Policy) -> tuple[Policy, str]:
    if callable(policy):
        return policy, getattr(policy, "__name__", "custom")
    if policy not in POLICIES:
        expected = sorted([*POLICIES, "auto"])
        raise ScheduleError(f"policy: got {policy!r}, expected one of {expected}")
    return POLICIES[policy], policy


def _run(policy: Policy, name: str, graph: TaskGraph, cluster: Cluster, objective: str) -> Schedule:
    answer = policy(graph, cluster)
    if isinstance(answer, Schedule):
        # a bound for one objective says nothing about the other
        known = answer.known if answer.objective == objective else None
        return replace(answer, policy=name, objective=objective, known=known)
    if isinstance(answer, Mapping):
        answer = [cluster.index[answer[task.id]] for task in graph.tasks]
    schedule = from_placement(graph, cluster, answer, name, objective)
    _check_memory(schedule)
    return schedule


def _best(graph: TaskGraph, cluster: Cluster, objective: str) -> Schedule:
    """The best of the portfolio, improved by local search where the graph is small."""
    found, refusal = [], None
    for name in _portfolio(graph, objective):
        policy = _QUICKER.get(name, POLICIES[name])
        try:
            found.append(_run(policy, name, graph, cluster, objective))
        except ScheduleError as error:
            refusal = refusal or error
    if not found:
        raise refusal or ScheduleError("auto: no policy suits")
    best = min(found, key=lambda schedule: schedule.value)
    if len(graph) <= _SMALL and len(cluster.devices) > 1:
        where = improve(graph, cluster, best.positions, objective)
        better = from_placement(graph, cluster, where, f"{best.policy}+local", objective)
        best = better if better.value < best.value * (1 - 1e-9) else best
    # the bound of `ideals` is over contiguous splits, so it cannot stand behind the best of all
    return replace(best, policy=f"auto:{best.policy}", known=None)


def _portfolio(graph: TaskGraph, objective: str) -> list[str]:
    names = ["single", "contiguous", "multilevel"]
    if len(graph) <= _SMALL:
        names += ["intervals", "ideals"]
    if objective == "makespan" or len(graph) <= _SMALL:
        names += ["heft", "etf"] if len(graph) <= _MIDDLE else ["heft"]
    return names


def _check_memory(schedule: Schedule) -> None:
    cluster, graph = schedule.cluster, schedule.graph
    for device, name in enumerate(cluster.index):
        # sums of bytes are exact up to 2**53; beyond, allow the rounding of a sum
        if schedule.peak_memory[name] > cluster.capacity[device] * (1 + 1e-12):
            tasks = np.flatnonzero(schedule.positions == device).tolist()
            raise over_memory(graph, cluster, device, tasks)
