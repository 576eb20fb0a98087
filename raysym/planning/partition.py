"""Placement: which worker runs which node, by ctx_group or by the scheduler."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import scheduler
from raysym.context import Context
from raysym.errors import PlacementError, sentence
from raysym.graph import Graph, Node, node_error
from raysym.names import GROUP
from raysym.planning.step import Bound, inference_step, training_step
from raysym.planning.tasks import task_graph


def place_by_group(
    graph: Graph,
    groups: Mapping[str, Context],
    default: Context,
    arrays: Mapping[Node, Context] | None = None,
) -> dict[Node, str]:
    """Workers by ctx_group as MXNet places: tag, else first placed input, else a user's place.

    Variables live where their `arrays` are. MXNetError (a RuntimeError) when a tag has no device
    once any group is given; without groups all nodes go to `default`.
    """
    if not groups:
        return dict.fromkeys(graph.nodes, default.worker)
    place = {node: _tagged(node, groups) for node in graph.nodes if GROUP in node.attrs}
    place.update((node, ctx.worker) for node, ctx in (arrays or {}).items())
    for node in graph.nodes:
        if node not in place:
            known = [place[entry.node] for entry in node.inputs if entry.node in place]
            if known:
                place[node] = known[0]
    for node in reversed(graph.nodes):
        for entry in node.inputs if node in place else ():
            place.setdefault(entry.node, place[node])
    return {node: place.get(node, default.worker) for node in graph.nodes}


def _tagged(node: Node, groups: Mapping[str, Context]) -> str:
    group = node.attrs[GROUP]
    if group not in groups:
        wrong = f"device assignment not found for group '{group}'"
        raise node_error(node, sentence(wrong, f"group2ctx of {', '.join(groups)}", group))
    return groups[group].worker


def place_by_scheduler(
    bound: Bound,
    cluster: scheduler.Cluster,
    policy: str | Callable[..., Any],
    pins: Mapping[str, Context],
    objective: str = "load",
) -> tuple[dict[Node, str], scheduler.Schedule]:
    """Workers as `scheduler.place` chooses them; variables live with their first reader.

    PlacementError when no placement fits the devices' memory or the pins contradict each other.
    """
    graph = bound.graph
    step = training_step(bound) if bound.grad_req else inference_step(bound)
    tasks = task_graph(bound, step, pins)
    try:
        schedule = scheduler.place(tasks, cluster, policy=policy, objective=objective)
    except scheduler.ScheduleError as error:
        raise PlacementError(str(error)) from error
    nodes = [node for node in graph.nodes if not node.is_variable]
    place = {node: schedule.placement[bound.names[node]] for node in nodes}
    for node in nodes:
        for entry in node.inputs:
            place.setdefault(entry.node, place[node])
    for node in graph.nodes:  # a variable that is itself an output has no reader
        place.setdefault(node, cluster.devices[0].name)
    return place, schedule
