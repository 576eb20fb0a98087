"""Placeholder of the acyclic multilevel policy until partitioning lands: the contiguous cut."""

from __future__ import annotations

from ..cluster import Cluster
from ..graph import Array, TaskGraph
from .contiguous import contiguous


def multilevel(graph: TaskGraph, cluster: Cluster) -> Array:
    """Device position of each task."""
    return contiguous(graph, cluster)
