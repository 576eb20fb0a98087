"""The cheapest chain of ideals through a pool: dynamic programming over pairs of ideals.

A state says how many devices of each type are used. Each state has its own list of ideals: those
whose work and crossing values both sides can pay for. A row extends one ideal of one state by one
device.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from scheduler.graph import Array

from .facts import Facts
from .ideals import Stock
from .problem import Problem

_DENSE = 4  # chains compared over whole slices; later ones only where the first ones agree


class Chain(NamedTuple):
    """A split: the largest load in seconds, the device type of each piece, the unit flags of
    each."""

    load: float
    types: tuple[int, ...]
    pieces: Array


def cheapest_chain(
    problem: Problem, stock: Stock, facts: Facts, limit_s: float, width: int = 0
) -> Chain | None:
    """The best chain from the empty to the full ideal with no load above `limit_s`; None if none.

    The pool behind `facts` holds both ends. Exact over the pool, unless `width` > 0 keeps only that
    many ideals of each state, those with the cheapest crossing values.
    """
    table = _Table(problem, stock, facts, limit_s, width)
    for state in table.order:
        for row in range(len(table.lists[state])):
            table.extend(state, row)
    return table.answer()


def count_pairs(problem: Problem, stock: Stock, facts: Facts, limit_s: float) -> int:
    """How many pairs of ideals `cheapest_chain` may have to look at."""
    table = _Table(problem, stock, facts, limit_s, 0)
    sizes = [len(rows) for rows in table.lists]
    steps = [(s, t) for s, row in enumerate(table.next.tolist()) for t in row if t >= 0]
    return sum(sizes[s] * sizes[t] for s, t in steps)


class _Table:
    """best[s][r]: smallest largest load that reaches the r-th ideal of state s."""

    def __init__(
        self, problem: Problem, stock: Stock, facts: Facts, limit_s: float, width: int
    ) -> None:
        self.problem, self.limit, self.facts = problem, limit_s, facts
        self.next = _next_states(stock.used, np.array(problem.counts))
        self.order = np.argsort(stock.used.sum(axis=1), kind="stable").tolist()
        self.reach = float(stock.weights.max())
        self.empty, self.full = int(facts.size.argmin()), int(facts.size.argmax())
        self.lists = [self._fitting(stock, s, width) for s in range(len(stock.left))]
        self.ends = [np.flatnonzero(rows == self.full).tolist() for rows in self.lists]
        self.work = [facts.work[rows] for rows in self.lists]
        self.places = [[column[rows] for column in facts.places] for rows in self.lists]
        self.best = [np.full(len(rows), np.inf) for rows in self.lists]
        self.parent = [np.full((len(rows), 2), -1, dtype=np.int64) for rows in self.lists]
        self.best[0][self.lists[0] == self.empty] = 0.0

    def _fitting(self, stock: Stock, s: int, width: int) -> Array:
        facts = self.facts
        paid = facts.work + stock.left_credit[s] * facts.cut
        rest = facts.work[self.full] - facts.work + stock.right_credit[s] * facts.cut
        # a relative 1e-9 covers the rounding of the sums; loads are checked exactly later
        room = self.limit * (1 + 1e-9)
        rows = np.flatnonzero((paid <= stock.left[s] * room) & (rest <= stock.right[s] * room))
        if 0 < width < rows.size:
            cheap = rows[np.argpartition(facts.cut[rows], width)[:width]]
            rows = np.union1d(cheap, rows[rows == self.full])
        return rows[np.argsort(facts.work[rows], kind="stable")]

    def extend(self, state: int, row: int) -> None:
        """Give the piece that starts at this ideal to one more device of each type."""
        value = float(self.best[state][row])
        if value > self.limit:
            return
        i = int(self.lists[state][row])
        for kind, target in enumerate(self.next[state].tolist()):
            if target >= 0 and len(self.lists[target]):
                self._extend_to(state, row, i, kind, target, value)

    def _extend_to(
        self, state: int, row: int, i: int, kind: int, target: int, value: float
    ) -> None:
        spots = self._supersets(i, target)
        spots = spots[self.best[target][spots] > value]
        if not spots.size:
            return
        load = self.facts.load(self.problem, i, self.lists[target][spots], kind)
        reached = np.maximum(load, value)
        better = reached < np.minimum(self.best[target][spots], self.limit * (1 + 1e-12))
        at = spots[better]
        self.best[target][at] = reached[better]
        self.parent[target][at] = state, row
        for end in self.ends[target]:
            self.limit = min(self.limit, float(self.best[target][end]))

    def _supersets(self, i: int, target: int) -> Array:
        work, at = self.work[target], self.facts.work[i]
        slack = 1e-9 * (abs(at) + self.limit)
        low = int(np.searchsorted(work, at - slack))
        high = int(np.searchsorted(work, at + self.limit * self.reach + slack, side="right"))
        columns = list(zip(self.places[target], self.facts.places, strict=True))
        inside = np.ones(high - low, dtype=bool)
        for column, own in columns[:_DENSE]:
            inside &= column[low:high] >= own[i]
        rows: Array = low + np.flatnonzero(inside)
        for column, own in columns[_DENSE:]:
            rows = rows[column[rows] >= own[i]]
        return rows

    def answer(self) -> Chain | None:
        """Walk back from the full ideal."""
        ends = [(float(self.best[s][r]), s, r) for s, rows in enumerate(self.ends) for r in rows]
        load, state, row = min(ends, default=(np.inf, 0, 0))
        if not np.isfinite(load):
            return None
        types, pieces = [], []
        while self.parent[state][row, 0] >= 0:
            before, row_before = self.parent[state][row].tolist()
            types.append(int(self.next[before].tolist().index(state)))
            here, there = self.lists[state][row], self.lists[before][row_before]
            pieces.append(self.facts.pool[here] & ~self.facts.pool[there])
            state, row = before, row_before
        return Chain(load, tuple(reversed(types)), np.array(pieces[::-1]))


def _next_states(used: Array, counts: Array) -> Array:
    number = {tuple(row): s for s, row in enumerate(used.tolist())}
    steps = np.eye(len(counts), dtype=np.int64)
    return np.array(
        [[number.get(tuple(row), -1) for row in (own + steps).tolist()] for own in used]
    )
