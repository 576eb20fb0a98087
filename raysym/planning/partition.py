"""Placement: which worker runs which node, by ctx_group or by the scheduler."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import scheduler
from raysym.context import Context
from raysym.errors import MXNetError, PlacementError
from raysym.graph import Graph, Node
from raysym.planning.step import Bound

GROUP = "__ctx_group__"


def place_by_group(
    graph: Graph, groups: Mapping[str, Context], default: Context
) -> dict[Node, str]:
    """Workers by ctx_group as MXNet places: tag, else first placed input, else a user's place.

    RuntimeError when a tag has no device once any group is given; without groups all nodes go to
    `default`.
    """
    if not groups:
        return dict.fromkeys(graph.nodes, default.worker)
    place = {node: _tagged(node, groups) for node in graph.nodes if GROUP in node.attrs}
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
        raise MXNetError(
            f"{node.op.name} '{node.name}': device assignment not found for group '{group}': "
            f"group2ctx has {', '.join(groups)}"
        )
    return groups[group].worker


def place_by_scheduler(
    bound: Bound,
    cluster: scheduler.Cluster,
    policy: str | Callable[..., Any],
    pins: Mapping[str, Context],
) -> tuple[dict[Node, str], scheduler.Schedule]:
    """Workers as `scheduler.place` chooses them; variables live with their first reader."""
    graph = bound.graph
    nodes = [node for node in graph.nodes if not node.is_variable]
    if not nodes:
        first = cluster.devices[0].name
        nothing = scheduler.TaskGraph((), ())
        return dict.fromkeys(graph.nodes, first), scheduler.place(nothing, cluster)
    tasks = scheduler.TaskGraph(
        tuple(_task(node, bound, pins) for node in nodes), tuple(_edges(nodes, bound))
    )
    try:
        schedule = scheduler.place(tasks, cluster, policy=policy)
    except scheduler.ScheduleError as error:
        raise PlacementError(str(error)) from error
    place = {node: schedule.placement[bound.names[node]] for node in nodes}
    for node in nodes:
        for entry in node.inputs:
            place.setdefault(entry.node, place[node])
    for node in graph.nodes:  # a variable that is itself an output has no reader
        place.setdefault(node, cluster.devices[0].name)
    return place, schedule


def _task(node: Node, bound: Bound, pins: Mapping[str, Context]) -> scheduler.Task:
    ins = [bound.types[entry] for entry in node.inputs]
    outs = [bound.types[entry] for entry in node.entries()]
    cost = node.op.cost(ins, outs)
    # A backward pass costs about twice its forward: one product per input instead of one.
    factor = 3.0 if bound.grad_req else 1.0
    kept = sum(t.nbytes for t in outs)
    kept += sum(bound.types[e].nbytes for e in node.inputs if e.node.is_variable)
    group = node.attrs.get(GROUP, "")
    return scheduler.Task(
        bound.names[node],
        flops=cost.flops * factor,
        nbytes=cost.nbytes * factor,
        memory=float(kept),
        pin=pins[group].worker if group in pins else None,
    )


def _edges(nodes: list[Node], bound: Bound) -> list[tuple[str, str, float]]:
    sizes: dict[tuple[str, str], float] = {}
    for node in nodes:
        for entry in node.inputs:
            if not entry.node.is_variable:
                key = bound.names[entry.node], bound.names[node]
                sizes[key] = sizes.get(key, 0.0) + bound.types[entry].nbytes
    return [(a, b, nbytes) for (a, b), nbytes in sizes.items()]
