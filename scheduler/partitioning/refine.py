"""Refinement of k ordered parts by vectorised moves that keep every edge from lower to higher part.

A node may go anywhere between its predecessors' highest part and its successors' lowest part; it
gains only at these two ends. All moves of one sweep go the same way, so together they stay
monotone.
"""

from __future__ import annotations

import numpy as np

from scheduler.graph import Array

from .levels import Level


def refine(level: Level, part: Array, k: int, most_weight: float, sweeps: int = 16) -> Array:
    """Parts with a cut not above the given one, and no part above `most_weight` that was not
    before."""
    part = part.copy()
    idle = 0
    for sweep in range(sweeps):
        idle = 0 if _sweep(level, part, k, most_weight, down=sweep % 2 == 0) else idle + 1
        if idle == 2:
            break
    return part


def cut_weight(level: Level, part: Array) -> float:
    """Sum of the weights of edges between parts."""
    return float(level.edge_weight[part[level.src] != part[level.dst]].sum())


def _sweep(level: Level, part: Array, k: int, most_weight: float, down: bool) -> bool:
    """One sweep in place; whether anything moved."""
    # moving up is moving down in the mirrored graph
    src, dst = (level.src, level.dst) if down else (level.dst, level.src)
    own = part if down else k - 1 - part
    near = np.full(level.n, 0)
    np.maximum.at(near, dst, own[src])
    far = np.full(level.n, k - 1)
    np.minimum.at(far, src, own[dst])
    pull = np.bincount(dst, weights=level.edge_weight * (own[src] == near[dst]), minlength=level.n)
    hold = np.bincount(src, weights=level.edge_weight * (own[dst] == own[src]), minlength=level.n)
    gain = pull - hold
    wants = np.flatnonzero((near < own) & (gain > 0))
    wants = _independent(level, src, dst, own, near, wants)
    chosen = _within(level, own, near, gain, wants, k, most_weight)
    part[chosen] = near[chosen] if down else k - 1 - near[chosen]
    return bool(chosen.size)


def _independent(
    level: Level, src: Array, dst: Array, own: Array, near: Array, wants: Array
) -> Array:
    """Drop a node if a predecessor that pulls it wants to move away itself."""
    moving = np.zeros(level.n, dtype=bool)
    moving[wants] = True
    spoiled = moving[src] & moving[dst] & (own[src] == near[dst])
    moving[dst[spoiled]] = False
    return np.flatnonzero(moving)


def _within(
    level: Level, own: Array, near: Array, gain: Array, wants: Array, k: int, most_weight: float
) -> Array:
    """The best moves into each part that its weight allows."""
    weights = np.bincount(own, weights=level.node_weight, minlength=k)
    order = wants[np.lexsort((wants, -gain[wants], near[wants]))]
    target = near[order]
    filled = np.cumsum(level.node_weight[order])
    starts = np.searchsorted(target, np.arange(k))
    before = np.concatenate([[0.0], filled])[starts]
    room = most_weight - weights
    chosen: Array = order[filled - before[target] <= room[target]]
    return chosen
