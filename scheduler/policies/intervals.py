"""Interval DP: the best cut of one linear order, transfers included (the classical pipeline
split)."""

from __future__ import annotations

import numpy as np

from scheduler.cluster import Cluster
from scheduler.errors import ScheduleError
from scheduler.graph import Array, TaskGraph
from scheduler.splitting.ideals import Stock
from scheduler.splitting.pool import best_cut, joints
from scheduler.splitting.problem import pose
from scheduler.splitting.search import place_pieces
from scheduler.units import condense


def intervals(graph: TaskGraph, cluster: Cluster, most: int = 2000, merged: bool = False) -> Array:
    """Device position of each task. Exact over the cuts of the order; of `most` cuts in long ones.

    The order is that of the graph's units. With `merged`, it is cut only where the graph is a
    chain: behind units that come before or after every other unit. Raises ScheduleError when no cut
    fits the memory.
    """
    problem, translation = pose(graph, cluster, condense(graph, cluster))
    ends = joints(problem) if merged else None
    chain = best_cut(problem, Stock.of(problem), most, ends)
    if chain is None:
        raise ScheduleError("intervals: no cut of the order fits the devices' memory and pins")
    n = len(problem)
    pieces = chain.pieces.argmax(axis=0) if len(chain.pieces) else np.zeros(n, dtype=np.int64)
    return place_pieces(translation, chain.types, pieces)
