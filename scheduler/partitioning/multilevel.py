"""partition(): k acyclic parts of a large DAG with balanced weights and a small cut."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from scheduler.errors import ScheduleError
from scheduler.graph import Array

from .bisect import recursive_parts
from .levels import Level, contract, depth_first_runs
from .refine import cut_weight, refine


class Partition(NamedTuple):
    """Part of each node, int64[n], with part[src] <= part[dst] on every edge; the weight cut."""

    part: Array
    cut: float


def partition(
    n: int,
    src: Array,
    dst: Array,
    k: int,
    node_weight: Array | None = None,
    edge_weight: Array | None = None,
    slack: float = 0.03,
    coarsest: int = 2000,
) -> Partition:
    """Cut a DAG with edges src[i] < dst[i] into `k` parts whose quotient graph is acyclic.

    Parts weigh at most (1 + slack) times their share, as far as single nodes allow. O((n + E) log
    n); multilevel as in Herrmann et al. (SIAM J. Sci. Comput. 2019), with intervals of a
    depth-first order as clusters. Raises ScheduleError for an edge against the order.
    """
    src, dst = np.asarray(src, dtype=np.int64), np.asarray(dst, dtype=np.int64)
    if (src >= dst).any():
        at = int((src >= dst).argmax())
        raise ScheduleError(f"partition: edge {src[at]} -> {dst[at]} runs against the order")
    nodes = np.ones(n) if node_weight is None else np.asarray(node_weight, dtype=np.float64)
    edges = np.ones(src.size) if edge_weight is None else np.asarray(edge_weight, dtype=np.float64)
    levels = [Level(n, src, dst, edges, nodes)]
    maps: list[Array] = []
    most = float(nodes.sum()) / (k * 40)
    while levels[-1].n > coarsest:
        run_of = depth_first_runs(levels[-1], 4, most)
        if int(run_of.max()) + 1 > 0.7 * levels[-1].n:
            # wide random graphs: few neighbours in the order have an edge, so any neighbours join
            run_of = depth_first_runs(levels[-1], 4, most, adjacent=False)
        if int(run_of.max()) + 1 > 0.9 * levels[-1].n:
            break
        maps.append(run_of)
        levels.append(contract(levels[-1], run_of))
    return _uncoarsen(levels, maps, k, slack)


def _uncoarsen(levels: list[Level], maps: list[Array], k: int, slack: float) -> Partition:
    limit = float(levels[0].node_weight.sum()) / k * (1 + slack)
    part = recursive_parts(levels[-1], k, slack / max(1, (k - 1).bit_length()))
    part = refine(levels[-1], part, k, limit)
    for level, run_of in zip(levels[-2::-1], maps[::-1], strict=True):
        part = refine(level, part[run_of], k, limit)
    return Partition(part, cut_weight(levels[0], part))
