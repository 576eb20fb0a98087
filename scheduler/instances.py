"""Read instances in the format of msr-fiddle/dnn-partitioning (Tarnawski et al., NeurIPS 2020)."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

from .cluster import Cluster, Device, Link
from .graph import Task, TaskGraph


class Instance(NamedTuple):
    """A graph and the cluster it is to be split over; task ids are the node ids as text."""

    graph: TaskGraph
    cluster: Cluster


def load_instance(path: str | Path, cpus: bool = True) -> Instance:
    """Read one JSON file. Devices are `fpga:0`, ... and, with `cpus`, `cpu:0`, ... too.

    Costs: a node takes `fpgaLatency` on an accelerator and `cpuLatency` on a CPU. A value that
    crosses costs its node's edge cost once on the accelerator it leaves and once on each
    accelerator that reads it; a CPU pays nothing. Sizes are bytes kept; one unit of link bytes is
    one unit of time. Nodes of one `colorClass` share a device; a backward node is tied to a forward
    node of its class.
    """
    table = json.loads(Path(path).read_text(encoding="utf-8"))
    nodes = {node["id"]: node for node in table["nodes"]}
    order = _topological(nodes, table["edges"])
    tasks = tuple(_tasks(nodes, order))
    edges = tuple((str(e["sourceId"]), str(e["destId"]), float(e["cost"])) for e in table["edges"])
    return Instance(TaskGraph(tasks, edges), _cluster(table, cpus))


def _tasks(nodes: dict[int, Any], order: list[int]) -> list[Task]:
    leaders: dict[Any, str] = {}
    for id in order:
        if not nodes[id]["isBackwardNode"]:
            leaders.setdefault(nodes[id].get("colorClass"), str(id))
    tasks = []
    for id in order:
        node, color = nodes[id], nodes[id].get("colorClass")
        # forward nodes share a key, which binds their order; a backward node is tied to an id
        key = leaders.get(color, f"class {color}") if node["isBackwardNode"] else f"class {color}"
        forbidden = () if node["supportedOnFpga"] else ("fpga",)
        tied = None if color is None else key
        tasks.append(Task(str(id), memory=node["size"], together=tied, forbidden=forbidden))
    return tasks


def _cluster(table: dict[str, Any], cpus: bool) -> Cluster:
    memory = float(table["maxSizePerFPGA"])
    devices = [Device(f"fpga:{i}", "fpga", memory=memory) for i in range(table["maxFPGAs"])]
    if cpus:
        count = range(table["maxCPUs"])
        devices += [Device(f"cpu:{i}", "cpu", pays_transfers=False) for i in count]
    seconds = {
        str(node["id"]): {"fpga": node["fpgaLatency"], "cpu": node["cpuLatency"]}
        for node in table["nodes"]
    }
    return Cluster(tuple(devices), (Link(bytes_per_s=1.0, latency_s=0.0),), seconds)


def _topological(nodes: dict[int, Any], edges: list[dict[str, Any]]) -> list[int]:
    """Depth-first from the file's order, forward nodes first."""
    preds: dict[int, list[int]] = defaultdict(list)
    for edge in edges:
        preds[edge["destId"]].append(edge["sourceId"])
    done: set[int] = set()
    order: list[int] = []
    for root in sorted(nodes, key=lambda id: bool(nodes[id]["isBackwardNode"])):
        stack = [root]
        while stack:
            waiting = [p for p in preds[stack[-1]] if p not in done]
            if waiting:
                stack.append(waiting[0])
            elif (id := stack.pop()) not in done:
                done.add(id)
                order.append(id)
    return order
