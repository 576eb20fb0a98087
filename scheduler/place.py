"""place(): the one door from (graph, cluster, policy) to a Schedule."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .cluster import Cluster
from .errors import ScheduleError
from .graph import TaskGraph
from .policies.contiguous import contiguous
from .policies.ideals import split
from .schedule import Schedule
from .timeline import from_placement
from .units import over_memory

OBJECTIVES = ("load", "makespan")
Policy = Callable[..., Any]

# name -> (policy, objective it aims at)
POLICIES: dict[str, Policy] = {"contiguous": contiguous, "ideals": split}


def place(
    graph: TaskGraph,
    cluster: Cluster,
    policy: str | Policy = "contiguous",
    objective: str = "load",
) -> Schedule:
    """Give every task a device.

    `policy` is a name of POLICIES, or a callable (graph, cluster) -> device name per task id,
    device positions, or a Schedule. `objective` is "load" (seconds of the most loaded device) or
    "makespan". Raises ScheduleError if pins contradict each other or memory does not suffice.
    """
    if objective not in OBJECTIVES:
        raise ScheduleError(f"objective: got {objective!r}, expected one of {OBJECTIVES}")
    chosen, name = _policy(policy)
    answer = chosen(graph, cluster)
    if isinstance(answer, Schedule):
        return answer
    if isinstance(answer, dict):
        answer = [cluster.index[answer[task.id]] for task in graph.tasks]
    schedule = from_placement(graph, cluster, answer, name, objective)
    _check_memory(schedule)
    return schedule


def _policy(policy: str | Policy) -> tuple[Policy, str]:
    if callable(policy):
        return policy, getattr(policy, "__name__", "custom")
    if policy not in POLICIES:
        raise ScheduleError(f"policy: got {policy!r}, expected one of {sorted(POLICIES)}")
    return POLICIES[policy], policy


def _check_memory(schedule: Schedule) -> None:
    cluster, graph = schedule.cluster, schedule.graph
    for device, name in enumerate(cluster.index):
        # sums of bytes are exact up to 2**53; beyond, allow the rounding of a sum
        if schedule.peak_memory[name] > cluster.capacity[device] * (1 + 1e-12):
            where = np.array([cluster.index[d] for d in schedule.placement.values()])
            raise over_memory(graph, cluster, device, np.flatnonzero(where == device).tolist())
