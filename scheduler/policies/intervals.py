"""Interval DP: the best cut of one linear order, transfers included (the classical pipeline
split)."""

from __future__ import annotations

import numpy as np

from scheduler.cluster import Cluster
from scheduler.errors import ScheduleError
from scheduler.graph import Array, TaskGraph
from scheduler.splitting.chain import cheapest_chain
from scheduler.splitting.facts import Facts
from scheduler.splitting.ideals import Stock
from scheduler.splitting.problem import pose
from scheduler.splitting.search import place_pieces
from scheduler.units import condense


def intervals(graph: TaskGraph, cluster: Cluster, most: int = 2000) -> Array:
    """Device position of each task. Exact over the cuts of the order; of `most` cuts in long ones.

    The order is that of the graph's units. Raises ScheduleError when no cut fits the memory.
    """
    problem, translation = pose(graph, cluster, condense(graph, cluster))
    stock = Stock.of(problem)
    n = len(problem)
    ends = np.unique(np.linspace(0, n, min(n + 1, most)).astype(np.int64))
    pool = np.arange(n)[None, :] < ends[:, None]
    facts = Facts.of(problem, stock, pool)
    chain = cheapest_chain(problem, stock, facts, 1e280)
    if chain is None:
        raise ScheduleError("intervals: no cut of the order fits the devices' memory and pins")
    pieces = chain.pieces.argmax(axis=0) if len(chain.pieces) else np.zeros(n, dtype=np.int64)
    return place_pieces(translation, chain.types, pieces)
