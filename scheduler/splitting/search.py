"""Search for the best contiguous split: exact while the ideals allow it, else certified from
below."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from scheduler.graph import Array

from .chain import Chain, cheapest_chain, count_pairs
from .facts import Facts
from .ideals import Stock, candidate_ideals
from .pool import best_cut, distinct, improve, seed_pools
from .problem import Problem, Translation
from .reduce import reduce


class Found(NamedTuple):
    """Piece number of each unit, device type of each piece, the load, and what is proved."""

    piece: Array
    types: tuple[int, ...]
    load: float
    proved: float
    exact: bool


@dataclass(frozen=True)
class Effort:
    """How far the exact search may go: partial ideals at once, pairs of ideals in one program.

    Where there are too many ideals, `pool` of them are kept: prefixes, neighbours, ten times as
    many partial ideals, and a sixth of it in each state of the program.
    """

    states: int = 200_000
    pairs: int = 1_500_000_000
    pool: int = 6_000


NORMAL = Effort()


def best_split(problem: Problem, effort: Effort) -> Found | None:
    """The smallest largest load over all contiguous splits; None if nothing fits the devices.

    A limit on the load leaves finitely many ideals; if they hold a chain, the best one is optimal,
    if not, the limit is proved. Small pools are searched by raising the limit. Otherwise a good
    split comes first, and its load is the limit of one exact search; where that is too much work,
    the exact search goes as far up as it can.
    """
    small, into = reduce(problem)
    search = _Search(small, Stock.of(small))
    if not search.rise(Effort(3_000, 4_000_000)):
        search.good(effort.pool)
        search.certify(effort)
    exact = search.exact or (search.best is not None and search.proved >= search.best.load)
    best = search.best
    if not exact:  # at least as good as the classical split of the order as it was given
        plain = best_cut(problem, Stock.of(problem), 2_000)
        if plain is not None and (best is None or plain.load < best.load):
            best, into = plain, np.arange(len(problem))
    if best is None:
        return None
    return _found(problem, into, best, min(search.proved, best.load), exact)


class _Search:
    def __init__(self, problem: Problem, stock: Stock) -> None:
        self.problem, self.stock = problem, stock
        whole = float(stock.load.sum()) / float(stock.left.max())
        self.floor = max(whole, float(problem.seconds.min(axis=1).max(initial=0.0)))
        seconds = np.where(np.isfinite(problem.seconds), problem.seconds, 0.0)
        self.top = float(seconds.max(axis=1, initial=0).sum()) + 2 * float(problem.costs.sum())
        self.top = self.top * 1.01 + 1e-300
        self.proved = self.floor
        self.best: Chain | None = None
        self.exact = False

    def rise(self, effort: Effort) -> bool:
        """Raise the limit until it is settled (true) or the effort is spent (false)."""
        slack = 0.004
        while True:
            limit = min(self.floor * (1 + slack) if self.floor > 0 else self.top, self.top)
            slack *= 2
            facts = self.facts(limit, effort.states)
            if facts is None or self.pairs(facts, limit) > effort.pairs:
                return False
            self.settle(facts, limit)
            if self.exact or limit >= self.top:
                return True

    def good(self, most: int) -> None:
        """A split from prefixes of several orders and from cheap boundaries, then improved."""
        pools = seed_pools(self.problem, most)
        # one order after the other, then all together: a good limit makes the big pool cheap
        for pool in (*pools, distinct(np.concatenate(pools))):
            limit = self.top if self.best is None else self.best.load
            self.adopt(self.chain(Facts.of(self.problem, self.stock, pool), limit))
        limit = self.top if self.best is None else self.best.load
        cheap = candidate_ideals(self.problem, self.stock, limit, 10 * most, beam=True)
        assert cheap is not None
        self.adopt(self.chain(Facts.of(self.problem, self.stock, cheap), limit, most // 6))
        if self.best is not None:
            self.best = improve(self.problem, self.stock, self.best, most)

    def certify(self, effort: Effort) -> None:
        """Search everything below the best load, or as far up as the effort goes."""
        limit = self.top if self.best is None else self.best.load
        while self.proved < limit * (1 - 1e-4):
            facts = self.facts(limit, effort.states)
            if facts is not None:
                break
            limit = self.proved + (limit - self.proved) * 0.5
        else:
            return
        while self.pairs(facts, limit) > effort.pairs:
            limit = self.proved + (limit - self.proved) * 0.85
            if limit <= self.proved * (1 + 1e-4):
                return
        self.settle(facts, limit)

    def settle(self, facts: Facts, limit: float) -> None:
        """Take the optimum if it is at most `limit`, else prove that it is not."""
        chain = self.chain(facts, limit)
        if chain is None:
            self.proved = max(self.proved, limit)
            return
        self.best, self.exact, self.proved = chain, True, chain.load

    def facts(self, limit: float, states: int) -> Facts | None:
        """Facts of all ideals that a split within `limit` may use; None if they are too many."""
        pool = candidate_ideals(self.problem, self.stock, limit * (1 + 1e-9), states)
        return None if pool is None else Facts.of(self.problem, self.stock, pool)

    def pairs(self, facts: Facts, limit: float) -> int:
        """The work of `settle`."""
        return count_pairs(self.problem, self.stock, facts, limit * (1 + 1e-9))

    def chain(self, facts: Facts, limit: float, width: int = 0) -> Chain | None:
        """The best chain of the pool up to `limit`, with room for rounding."""
        return cheapest_chain(self.problem, self.stock, facts, limit * (1 + 1e-9), width)

    def adopt(self, chain: Chain | None) -> None:
        """Keep the better of this chain and the best so far."""
        if chain is not None and (self.best is None or chain.load < self.best.load):
            self.best = chain


def _found(problem: Problem, into: Array, chain: Chain, proved: float, exact: bool) -> Found:
    number = chain.pieces.argmax(axis=0) if len(chain.pieces) else np.zeros(0, dtype=np.int64)
    piece = np.where(into >= 0, number[np.maximum(into, 0)] if number.size else 0, 0)
    for unit, preds in enumerate(problem.preds):
        if into[unit] < 0:
            piece[unit] = max((piece[p] for p in preds), default=0)
    return Found(piece, chain.types, chain.load, proved, exact)


def place_pieces(translation: Translation, types: tuple[int, ...], piece: Array) -> Array:
    """Device position of each task: pieces take the devices of their type in turn."""
    free = [list(devices) for devices in translation.devices_of_type]
    chosen = np.array([free[kind].pop(0) for kind in types], dtype=np.int64)
    by_unit = chosen[piece] if chosen.size else np.zeros(len(piece), dtype=np.int64)
    where: Array = by_unit[translation.unit_of_task]
    return where
