"""Pools of ideals for graphs with too many of them: prefixes of several orders, then neighbours."""

from __future__ import annotations

import numpy as np

from scheduler.graph import Array

from .chain import Chain, cheapest_chain
from .facts import Facts
from .ideals import Stock
from .problem import Problem


def seed_pools(problem: Problem, most: int, orders: int = 8) -> list[Array]:
    """Prefixes of depth-first, breadth-first and random topological orders, bool[N, U] each."""
    n = len(problem)
    rng = np.random.default_rng(0)
    depth = _longest(problem)
    keys = [np.arange(n), depth, -_longest_back(problem)]
    keys += [depth + rng.random(n) * (2 + i) for i in range(orders - 3)]
    return [_prefixes(_order(problem, key), most // orders) for key in keys]


def best_cut(problem: Problem, stock: Stock, most: int, ends: Array | None = None) -> Chain | None:
    """The best cut of the units' own order at `ends`, or at `most` places; None if none fits."""
    n = len(problem)
    if ends is None:
        ends = np.unique(np.linspace(0, n, min(n + 1, most)).astype(np.int64))
    pool = np.arange(n)[None, :] < ends[:, None]
    return cheapest_chain(problem, stock, Facts.of(problem, stock, pool), 1e280)


def joints(problem: Problem) -> Array:
    """Where the graph is a chain: ends of prefixes behind units that are related to all others."""
    above, below = _closures(problem)
    related = (above.sum(axis=1) + below.sum(axis=1) == len(problem) + 1).nonzero()[0]
    return np.unique(np.concatenate([[0], related + 1, [len(problem)]]))


def improve(problem: Problem, stock: Stock, chain: Chain, most: int, rounds: int = 40) -> Chain:
    """Grow a pool of `most` ideals around the chain's boundaries while better chains appear.

    First the ideals one change away; when they are exhausted, several random changes at once, until
    four such pools in a row bring nothing.
    """
    above, below = _closures(problem)
    rng = np.random.default_rng(0)
    failures = 0
    for _ in range(rounds):
        boundaries = np.cumsum(chain.pieces, axis=0).astype(bool)[:-1]
        ends = np.zeros((2, len(problem)), dtype=bool)
        ends[1] = True
        share = most // max(1, len(boundaries))
        near = [_nearest(row, above, below, share) for row in boundaries]
        if failures:
            near = [
                _mixed(row, rows[: share // 8], share, rng)
                for row, rows in zip(boundaries, near, strict=True)
            ]
        facts = Facts.of(problem, stock, distinct(np.concatenate([*near, boundaries, ends])))
        better = cheapest_chain(problem, stock, facts, chain.load * (1 + 1e-12))
        if better is not None and better.load < chain.load * (1 - 1e-9):
            chain, failures = better, 0
        elif failures == 4:
            break
        else:
            failures += 1
    return chain


def distinct(rows: Array) -> Array:
    """The rows without repeats, bool[N, U]; by their packed bytes, which sort much faster."""
    packed = np.ascontiguousarray(np.packbits(rows, axis=1))
    keys = packed.view(np.dtype((np.void, packed.shape[1]))).reshape(-1)
    return rows[np.unique(keys, return_index=True)[1]]


def _nearest(row: Array, above: Array, below: Array, most: int) -> Array:
    """Up to `most` ideals that add a unit and its ancestors, or take one and its descendants."""
    more, less = above[~row], below[row]
    changes = np.concatenate([(more & ~row).sum(axis=1), (less & row).sum(axis=1)])
    picked = np.argsort(changes, kind="stable")[:most]
    added, taken = picked[picked < len(more)], picked[picked >= len(more)] - len(more)
    return np.concatenate([row | more[added], row & ~less[taken]])


def _mixed(row: Array, near: Array, most: int, rng: np.random.Generator) -> Array:
    """`most` ideals from one to three random additions to `row`, then as many taken away.

    Unions and intersections of ideals are ideals, so no closure is needed.
    """
    if not len(near):
        return near
    grown = near[(near & ~row).any(axis=1)]
    shrunk = near[(row & ~near).any(axis=1)]
    mixed = np.repeat(row[None, :], most, axis=0)
    for rows, join in ((grown, np.logical_or), (shrunk, np.logical_and)):
        for _ in range(3 if len(rows) else 0):
            draws = rows[rng.integers(0, len(rows), most)]
            chosen = rng.random(most) < 0.5
            mixed[chosen] = join(mixed[chosen], draws[chosen])
    return mixed


def _closures(problem: Problem) -> tuple[Array, Array]:
    """Each unit with its ancestors, and with its descendants, bool[U, U] each."""
    above = np.eye(len(problem), dtype=bool)
    for v, preds in enumerate(problem.preds):
        for p in preds:
            above[v] |= above[p]
    return above, above.T.copy()


def _longest(problem: Problem) -> Array:
    depth = np.zeros(len(problem))
    for v, preds in enumerate(problem.preds):
        depth[v] = max((depth[p] + 1 for p in preds), default=0)
    return depth


def _longest_back(problem: Problem) -> Array:
    height = np.zeros(len(problem))
    for v in reversed(range(len(problem))):
        for p in problem.preds[v]:
            height[p] = max(height[p], height[v] + 1)
    return height


def _order(problem: Problem, key: Array) -> Array:
    """A topological order that takes the ready unit with the smallest key (ties by number)."""
    rank = np.lexsort((np.arange(len(key)), key))
    place = np.empty(len(key), dtype=np.int64)
    place[rank] = np.arange(len(key))
    # keys along an edge need not rise, so push every unit behind its predecessors
    late = place.astype(np.float64)
    for v, preds in enumerate(problem.preds):
        for p in preds:
            late[v] = max(late[v], late[p] + 1e-6)
    return np.lexsort((np.arange(len(key)), late))


def _prefixes(order: Array, most: int) -> Array:
    n = len(order)
    place = np.empty(n, dtype=np.int64)
    place[order] = np.arange(n)
    ends = np.unique(np.linspace(0, n, min(n + 1, most)).astype(np.int64))
    return place[None, :] < ends[:, None]
