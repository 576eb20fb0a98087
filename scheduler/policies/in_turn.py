"""Several pieces per device: the balanced cut of the order, dealt out in turn, for interleaving."""

from __future__ import annotations

from dataclasses import replace

from scheduler.cluster import Cluster
from scheduler.errors import ScheduleError
from scheduler.graph import Array, TaskGraph

from .contiguous import contiguous


def in_turn(graph: TaskGraph, cluster: Cluster, chunks: int = 2) -> Array:
    """Device position of each task: `chunks` pieces for each device, 0, 1, ..., 0, 1, ...

    An interleaved pipeline runs them. Raises ScheduleError for pinned tasks.
    """
    pinned = next((task for task in graph.tasks if task.pin is not None), None)
    if pinned is not None:
        raise ScheduleError(f"in_turn: task {pinned.id} is pinned to {pinned.pin}, expected no pin")
    devices = [
        replace(device, name=f"{device.name}/{chunk}", memory=device.memory / chunks)
        for chunk in range(chunks)
        for device in cluster.devices
    ]
    pieces: Array = contiguous(graph, replace(cluster, devices=tuple(devices)))
    return pieces % len(cluster.devices)
