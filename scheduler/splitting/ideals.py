"""Enumerate the ideals that can be a boundary of a split in which no load exceeds a limit.

Units are decided in order, inside or outside, over all partial ideals at once; a partial ideal dies
when its work and the values that already cross it cannot be paid on both sides.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scheduler.bounds import work_weights
from scheduler.errors import ScheduleError
from scheduler.graph import Array

from .problem import Problem

_MOST_MIXES = 512


@dataclass(frozen=True)
class Stock:
    """The device stock in states: how many of each type stand left of a boundary, and what that
    buys.

    `used` [S, D]; `left` and `right` are weighted capacities per second of the limit; `left_credit`
    and `right_credit` are what one second of crossing values surely costs on that side.
    """

    used: Array
    left: Array
    right: Array
    left_credit: Array
    right_credit: Array
    weights: Array
    load: Array

    @classmethod
    def of(cls, problem: Problem) -> Stock:
        """All multisets of devices, with dual weights that make the work bound tight."""
        counts = np.array(problem.counts)
        mixes = int(np.prod(counts.astype(np.float64) + 1))
        if mixes > _MOST_MIXES:
            raise ScheduleError(
                f"contiguous splits: {mixes} mixes of different devices, expected at most "
                f"{_MOST_MIXES}; another policy suits so many devices"
            )
        grids = np.meshgrid(*(np.arange(c + 1) for c in counts), indexing="ij")
        used = np.stack([grid.reshape(-1) for grid in grids], axis=1)
        weights = work_weights(problem.seconds, counts)
        rest = counts - used
        return cls(
            used=used,
            left=used @ weights,
            right=rest @ weights,
            left_credit=_credit(used, weights, problem.pays),
            right_credit=_credit(rest, weights, problem.pays),
            weights=weights,
            load=(problem.seconds * weights).min(axis=1),
        )

    def fits(self, inside: Array, outside: Array, cut: Array, limit_s: float) -> Array:
        """Which boundaries some state can pay for, bool[N]."""
        ok = np.zeros(len(inside), dtype=bool)
        rows = np.arange(len(inside))
        for s in np.argsort(-self.left - self.right, kind="stable").tolist():
            own, rest, crossing = inside[rows], outside[rows], cut[rows]
            paid = own + self.left_credit[s] * crossing <= self.left[s] * limit_s
            paid &= rest + self.right_credit[s] * crossing <= self.right[s] * limit_s
            ok[rows[paid]] = True
            rows = rows[~paid]
        return ok


def candidate_ideals(
    problem: Problem, stock: Stock, limit_s: float, max_states: int, beam: bool = False
) -> Array | None:
    """Ideals as rows, bool[N, U], the empty and the full one among them; None if too many.

    With `beam`, the search goes on with the partial ideals whose crossing values are cheapest, a
    share for each amount of work: the result is then a good selection and proves nothing.
    """
    states, checked = _States(problem, stock), 1
    for unit in range(len(problem)):
        states.decide(unit)
        if states.n > 1.2 * checked or unit == len(problem) - 1:
            states.prune(limit_s)
            checked = states.n
        if states.n > max_states and not beam:
            return None
        if states.n > max_states:
            states.thin(max_states // 2)
            checked = states.n
    return states.rows()


class _States:
    """All partial ideals, one column of flags per unit or value that is still open."""

    def __init__(self, problem: Problem, stock: Stock) -> None:
        self.problem, self.stock = problem, stock
        n = len(problem)
        self.n = 1
        self.inside, self.outside, self.cut = np.zeros(1), np.zeros(1), np.zeros(1)
        self.included: dict[int, Array] = {}
        self.has_in: dict[int, Array] = {}
        self.has_out: dict[int, Array] = {}
        self.history: list[tuple[Array, Array]] = []
        self.last_reader = _last(n, [(p, v) for v, ps in enumerate(problem.preds) for p in ps])
        self.values_of: list[list[int]] = [[] for _ in range(n)]
        for j, touched in enumerate(problem.touched):
            for v in touched:
                self.values_of[v].append(j)

    def decide(self, unit: int) -> None:
        """Branch every state on `unit`: inside if its predecessors are, and outside."""
        may = np.ones(self.n, dtype=bool)
        for p in self.problem.preds[unit]:
            may &= self.included[p]
        parents = np.concatenate([np.flatnonzero(may), np.arange(self.n)])
        flag = np.arange(parents.size) < int(may.sum())
        self.take(parents)
        self.included[unit] = flag
        self.history.append((parents, flag))
        work = self.stock.load[unit]
        self.inside = self.inside + work * flag
        self.outside = self.outside + work * ~flag
        for j in self.values_of[unit]:
            self._touch(j, flag, unit)
        for p in [p for p in self.included if self.last_reader[p] <= unit]:
            del self.included[p]

    def _touch(self, j: int, flag: Array, unit: int) -> None:
        none = np.zeros(self.n, dtype=bool)
        was_in, was_out = self.has_in.pop(j, none), self.has_out.pop(j, none)
        now_in, now_out = was_in | flag, was_out | ~flag
        fresh = (now_in & now_out) & ~(was_in & was_out)
        self.cut = self.cut + self.problem.costs[j] * fresh
        if self.problem.touched[j][-1] > unit:
            self.has_in[j], self.has_out[j] = now_in, now_out

    def prune(self, limit_s: float) -> None:
        """Drop the states that no device state can pay for."""
        keep = self.stock.fits(self.inside, self.outside, self.cut, limit_s)
        if not keep.all():
            self._keep(np.flatnonzero(keep))

    def thin(self, count: int, bins: int = 64) -> None:
        """Keep about `count` states: in each of `bins` equal amounts of work, the cheapest cuts."""
        bin_of = np.floor(self.inside * (bins / max(float(self.inside.max()), 1e-300)))
        order = np.lexsort((self.cut, bin_of))
        starts = np.searchsorted(bin_of[order], bin_of[order], side="left")
        rank = np.arange(self.n) - starts
        kept = order[(rank < count // bins)]
        # the ends of the chain must survive: nothing inside, everything inside
        self._keep(np.union1d(kept, [self.inside.argmax(), self.n - 1]))

    def _keep(self, kept: Array) -> None:
        parents, flag = self.history[-1]
        self.history[-1] = parents[kept], flag[kept]
        self.take(kept)

    def take(self, rows: Array) -> None:
        """Keep these rows of every column, in this order."""
        self.n = rows.size
        self.inside, self.outside, self.cut = self.inside[rows], self.outside[rows], self.cut[rows]
        for columns in (self.included, self.has_in, self.has_out):
            for key in columns:
                columns[key] = columns[key][rows]

    def rows(self) -> Array:
        """Walk the history back to full rows."""
        out = np.zeros((self.n, len(self.problem)), dtype=bool)
        at = np.arange(self.n)
        for unit in reversed(range(len(self.problem))):
            parents, flag = self.history[unit]
            out[:, unit] = flag[at]
            at = parents[at]
        return out


def _last(n: int, pairs: list[tuple[int, int]]) -> list[int]:
    last = [-1] * n
    for a, b in pairs:
        last[a] = max(last[a], b)
    return last


def _credit(used: Array, weights: Array, pays: tuple[bool, ...]) -> Array:
    """A crossing value costs its seconds on one device of this side at least, if all of them
    pay."""
    present = used > 0
    cheapest = np.where(present, weights, np.inf).min(axis=1)
    free = (present & ~np.array(pays)).any(axis=1) | ~present.any(axis=1)
    return np.where(free, 0.0, cheapest)
