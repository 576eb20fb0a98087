"""What the dynamic program needs to know about each ideal of a pool, computed once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scheduler.graph import Array

from .ideals import Stock
from .problem import Problem


@dataclass(frozen=True)
class Facts:
    """Per ideal: units inside, work, seconds and bans per type, memory, values touched and
    crossing.

    `places` has one column per chain of a chain cover: how many of that chain's units are inside,
    so one ideal contains another exactly when no column is smaller.
    """

    pool: Array
    size: Array
    work: Array
    seconds: Array
    banned: Array
    memory: Array
    counts: Array
    sizes: Array
    cut: Array
    places: tuple[Array, ...]

    @classmethod
    def of(cls, problem: Problem, stock: Stock, pool: Array) -> Facts:
        """Sums over the units of each ideal; O(N U) in slices that keep the temporaries small."""
        allowed = np.isfinite(problem.seconds)
        finite = np.where(allowed, problem.seconds, 0.0)
        columns = [finite, ~allowed, problem.memory[:, None], stock.load[:, None]]
        sums = _sums(pool, np.concatenate(columns, axis=1).astype(np.float64))
        types = problem.seconds.shape[1]
        counts = _counts(pool, problem)
        sizes = np.array([len(t) for t in problem.touched], dtype=counts.dtype)
        return cls(
            pool=pool,
            size=pool.sum(axis=1),
            work=sums[:, -1],
            seconds=sums[:, :types],
            banned=sums[:, types : 2 * types],
            memory=sums[:, -2],
            counts=counts,
            sizes=sizes,
            cut=_sums((counts > 0) & (counts < sizes), problem.costs[:, None])[:, 0],
            places=_places(problem, pool),
        )

    def transfers(self, problem: Problem, i: int, targets: Array) -> Array:
        """Seconds of transfers of the pieces from ideal `i` to each of `targets`."""
        open_values = np.flatnonzero((self.counts[i] > 0) & (self.counts[i] < self.sizes))
        counts = self.counts[targets[:, None], open_values]
        costs = problem.costs[open_values]
        # of the values open at i, those finished inside the piece still come in, and those that the
        # piece does not touch cost it nothing
        finished = (counts == self.sizes[open_values]) @ costs
        untouched = (counts == self.counts[i, open_values]) @ costs
        moved: Array = self.cut[targets] + finished - untouched
        return moved

    def load(self, problem: Problem, i: int, targets: Array, kind: int) -> Array:
        """Load in seconds of the pieces from `i` to `targets` on a type; infinite if not
        allowed."""
        load: Array = self.seconds[targets, kind] - self.seconds[i, kind]
        if problem.pays[kind]:
            load = load + self.transfers(problem, i, targets)
        room = problem.capacity[kind] * (1 + 1e-12)
        ok = self.memory[targets] - self.memory[i] <= room
        ok &= self.banned[targets, kind] == self.banned[i, kind]
        return np.where(ok, load, np.inf)


def _sums(flags: Array, columns: Array, rows: int = 16384) -> Array:
    parts = [flags[at : at + rows] @ columns for at in range(0, len(flags), rows)]
    return np.concatenate(parts)


def _counts(pool: Array, problem: Problem) -> Array:
    """How many of the units that each value touches are inside each ideal, [N, V]."""
    most = max((len(touched) for touched in problem.touched), default=0)
    kind = np.uint8 if most < 256 else np.uint16 if most < 65536 else np.uint32
    counts = np.zeros((len(pool), len(problem.touched)), dtype=kind)
    for j, touched in enumerate(problem.touched):
        counts[:, j] = pool[:, list(touched)].sum(axis=1)
    return counts


def _places(problem: Problem, pool: Array) -> tuple[Array, ...]:
    columns = []
    for chain in _chain_cover(problem):
        columns.append(pool[:, chain].sum(axis=1).astype(np.int32))
    return tuple(columns)


def _chain_cover(problem: Problem) -> list[list[int]]:
    """Units as few chains, greedily: a unit continues the chain that one of its ancestors ends."""
    ancestors: list[int] = []
    chains: list[list[int]] = []
    for v, preds in enumerate(problem.preds):
        seen = 0
        for p in preds:
            seen |= ancestors[p] | 1 << p
        ancestors.append(seen)
        ending = [chain for chain in chains if seen >> chain[-1] & 1]
        if ending:
            max(ending, key=lambda chain: chain[-1]).append(v)
        else:
            chains.append([v])
    return chains
