"""Coarsening: runs of connected nodes that are neighbours in a topological order become one node.

A run is an interval of the order, so edges between runs only go forward and no cycle can arise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scheduler.graph import Array


@dataclass(frozen=True)
class Level:
    """A DAG with nodes 0..n-1 in topological order: every edge has src < dst."""

    n: int
    src: Array
    dst: Array
    edge_weight: Array
    node_weight: Array

    def successors(self) -> tuple[Array, Array, Array]:
        """CSR: starts int64[n + 1], targets, weights; the heaviest edge of a node comes last."""
        order = np.lexsort((self.edge_weight, self.src))
        starts = np.zeros(self.n + 1, dtype=np.int64)
        np.cumsum(np.bincount(self.src, minlength=self.n), out=starts[1:])
        return starts, self.dst[order], self.edge_weight[order]

    def reversed(self) -> Level:
        """The same graph with all edges turned round, and node i renamed n - 1 - i."""
        last = self.n - 1
        turned = self.node_weight[::-1]
        return Level(self.n, last - self.dst, last - self.src, self.edge_weight, turned)


def depth_first_runs(
    level: Level, most_nodes: int, most_weight: float, adjacent: bool = True
) -> Array:
    """Run number of each node. The order takes the last node that became ready, heaviest edge
    first.

    A node joins the current run if the run stays within both limits and, with `adjacent`, has an
    edge to the node.
    """
    starts, targets, _ = level.successors()
    begin, to, weight = starts.tolist(), targets.tolist(), level.node_weight.tolist()
    waiting = np.bincount(level.dst, minlength=level.n).tolist()
    ready = np.flatnonzero(np.bincount(level.dst, minlength=level.n) == 0)[::-1].tolist()
    touched, run_of = [-1] * level.n, [0] * level.n
    run, count, total = -1, most_nodes, 0.0
    while ready:
        v = ready.pop()
        apart = adjacent and touched[v] != run
        if apart or count >= most_nodes or total + weight[v] > most_weight:
            run, count, total = run + 1, 0, 0.0
        run_of[v] = run
        count += 1
        total += weight[v]
        for w in to[begin[v] : begin[v + 1]]:
            touched[w] = run
            waiting[w] -= 1
            if not waiting[w]:
                ready.append(w)
    return np.array(run_of, dtype=np.int64)


def contract(level: Level, run_of: Array) -> Level:
    """One node per run; parallel edges add up, inner edges vanish."""
    n = int(run_of.max()) + 1
    a, b = run_of[level.src], run_of[level.dst]
    outer = a != b
    keys = a[outer] * n + b[outer]
    order = np.argsort(keys, kind="stable")
    keys, weights = keys[order], level.edge_weight[outer][order]
    first = np.flatnonzero(np.diff(keys, prepend=-1))
    summed = np.add.reduceat(weights, first) if first.size else weights
    node_weight = np.bincount(run_of, weights=level.node_weight, minlength=n)
    return Level(n, keys[first] // n, keys[first] % n, summed, node_weight)
