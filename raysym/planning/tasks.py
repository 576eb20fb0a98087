"""From nodes to numbers: the weighted graph that the scheduler places.

A forward node and the gradients that belong to it are one task, since they run on one worker; its
parts are their kernel calls in the joint graph of forward and backward, as the op pages count them.
"""

from __future__ import annotations

from collections.abc import Mapping

import scheduler
from raysym.context import Context
from raysym.graph import Entry, Node
from raysym.names import GROUP
from raysym.op import Cost
from raysym.planning.step import Bound, Step
from raysym.types import TensorType


def task_graph(bound: Bound, step: Step, pins: Mapping[str, Context]) -> scheduler.TaskGraph:
    """Tasks named after the user's nodes, in graph order, and the bytes between them."""
    nodes = [node for node in bound.graph.nodes if not node.is_variable]
    parts = parts_by_origin(step)
    tasks = tuple(_task(node, bound, parts.get(node, ()), pins) for node in nodes)
    return scheduler.TaskGraph(tasks, tuple(_edges(nodes, bound)))


def node_cost(node: Node, types: Mapping[Entry, TensorType]) -> Cost:
    """What the op's page says of one run of the node."""
    ins = [types[entry] for entry in node.inputs]
    return node.op.cost(ins, [types[entry] for entry in node.entries()])


def parts_by_origin(step: Step) -> dict[Node, tuple[scheduler.Part, ...]]:
    """Kernel calls of everything that belongs to each of the user's nodes."""
    parts: dict[Node, list[scheduler.Part]] = {}
    for node in step.graph.nodes:
        if not node.is_variable:
            cost = node_cost(node, step.types)
            part = scheduler.Part(node.op.work, float(cost.flops), float(cost.nbytes))
            parts.setdefault(step.origin[node], []).append(part)
    return {node: tuple(found) for node, found in parts.items()}


def _task(
    node: Node, bound: Bound, parts: tuple[scheduler.Part, ...], pins: Mapping[str, Context]
) -> scheduler.Task:
    group = node.attrs.get(GROUP, "")
    return scheduler.Task(
        bound.names[node],
        flops=sum(part.flops for part in parts),
        nbytes=sum(part.nbytes for part in parts),
        kind=node.op.work,
        parts=parts,
        memory=float(_kept(node, bound)),
        pin=pins[group].worker if group in pins else None,
    )


def _kept(node: Node, bound: Bound) -> int:
    """Bytes that stay on the worker: outputs until backward, parameters and their gradients."""
    kept = sum(bound.types[entry].nbytes for entry in node.entries())
    for entry in node.inputs:
        if entry.node.is_variable:
            copies = 2 if entry in bound.grad_req else 1
            kept += copies * bound.types[entry].nbytes
    return kept


def _edges(nodes: list[Node], bound: Bound) -> list[tuple[str, str, float]]:
    """One value forward, and its gradient back when there is training."""
    ways = 2 if bound.grad_req else 1
    sizes: dict[tuple[str, str], float] = {}
    for node in nodes:
        for entry in dict.fromkeys(node.inputs):
            if not entry.node.is_variable:
                key = bound.names[entry.node], bound.names[node]
                sizes[key] = sizes.get(key, 0.0) + ways * bound.types[entry].nbytes
    return [(a, b, nbytes) for (a, b), nbytes in sizes.items()]
