"""Safe reductions: merge or drop units without losing an optimal split.

Drop: a unit that costs nothing and touches no value goes wherever its predecessors allow.
Merge v into its only neighbour u (predecessor or successor) when following u never raises a load:
what v brings (its time and its other values) is at most what the values between them cost.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from scheduler.graph import Array

from .problem import Problem


def reduce(problem: Problem) -> tuple[Problem, Array]:
    """The smaller problem, and its unit for each unit of `problem` (-1: free to go anywhere)."""
    work = _Work(problem)
    while any(work.shrink(v) for v in range(len(problem)) if work.alive[v]):
        pass
    return work.result()


class _Work:
    def __init__(self, problem: Problem) -> None:
        n = len(problem)
        self.problem = problem
        self.seconds = problem.seconds.copy()
        self.memory = problem.memory.copy()
        self.preds = [set(p) for p in problem.preds]
        self.succs: list[set[int]] = [set() for _ in range(n)]
        for v, preds in enumerate(problem.preds):
            for p in preds:
                self.succs[p].add(v)
        self.values = [set(touched) for touched in problem.touched]
        self.touch: list[set[int]] = [set() for _ in range(n)]
        for j, touched in enumerate(problem.touched):
            for v in touched:
                self.touch[v].add(j)
        self.alive = [True] * n
        self.into = list(range(n))
        self.roomy = bool(self.memory.sum() <= problem.capacity.min(initial=np.inf))

    def shrink(self, v: int) -> bool:
        """Drop or merge `v` if that is safe."""
        if not np.isfinite(self.seconds[v]).all() or not (self.roomy or self.memory[v] == 0):
            return False
        if not self.touch[v] and not self.seconds[v].any():
            self.drop(v)
            return True
        for near in (self.preds[v], self.succs[v]):
            if len(near) == 1 and self.follows(v, next(iter(near))):
                self.merge(next(iter(near)), v)
                return True
        return False

    def follows(self, v: int, u: int) -> bool:
        """Whether moving v to u's device can raise no load, wherever both are."""
        costs = self.problem.costs
        between = sum(costs[j] for j in self.touch[u] & self.touch[v] if len(self.values[j]) == 2)
        brought = sum(costs[j] for j in self.touch[v] - self.touch[u])
        pays = np.array(self.problem.pays)
        if self.seconds[v][~pays].any():
            return False
        own = float(self.seconds[v][pays].max(initial=0.0))
        return own + brought <= between or (own == 0 and brought == 0)

    def drop(self, v: int) -> None:
        """Take `v` out of the order, keeping what it ordered."""
        for p in self.preds[v]:
            self.succs[p] |= self.succs[v]
            self.succs[p].discard(v)
        for s in self.succs[v]:
            self.preds[s] |= self.preds[v]
            self.preds[s].discard(v)
        self.alive[v] = False
        self.into[v] = -1

    def merge(self, u: int, v: int) -> None:
        """Let `u` swallow its neighbour `v`."""
        self.seconds[u] += self.seconds[v]
        self.memory[u] += self.memory[v]
        _rewire(self.preds, self.succs, u, v)
        _rewire(self.succs, self.preds, u, v)
        for j in self.touch[v]:
            self.values[j].discard(v)
            self.values[j].add(u)
            self.touch[u].add(j)
            if len(self.values[j]) == 1:
                self.touch[u].discard(j)
        self.touch[v] = set()
        self.alive[v] = False
        self.into[v] = u

    def result(self) -> tuple[Problem, Array]:
        """Renumber what is left in topological order."""
        kept = _topological([v for v, alive in enumerate(self.alive) if alive], self.preds)
        number = {v: i for i, v in enumerate(kept)}
        sums: dict[tuple[int, ...], float] = {}
        for j, touched in enumerate(self.values):
            if len(touched) > 1:
                key = tuple(sorted(number[v] for v in touched))
                sums[key] = sums.get(key, 0.0) + float(self.problem.costs[j])
        small = replace(
            self.problem,
            seconds=self.seconds[kept],
            memory=self.memory[kept],
            preds=tuple(tuple(sorted(number[p] for p in self.preds[v])) for v in kept),
            costs=np.array(list(sums.values())),
            touched=tuple(sums),
        )
        return small, np.array([self._find(v, number) for v in range(len(self.into))])

    def _find(self, v: int, number: dict[int, int]) -> int:
        while v >= 0 and v not in number:
            v = self.into[v]
        return number[v] if v >= 0 else -1


def _rewire(here: list[set[int]], there: list[set[int]], u: int, v: int) -> None:
    for x in here[v]:
        there[x].discard(v)
        if x != u:
            there[x].add(u)
            here[u].add(x)
    here[u].discard(v)
    here[v] = set()


def _topological(nodes: list[int], preds: list[set[int]]) -> list[int]:
    """Depth-first order: a value's readers come soon after it, so that few values are open at
    once."""
    order: list[int] = []
    done: set[int] = set()
    for root in nodes:
        stack = [root]
        while stack:
            v = stack[-1]
            waiting = sorted(p for p in preds[v] if p not in done)
            if v in done or not waiting:
                stack.pop()
                if v not in done:
                    done.add(v)
                    order.append(v)
            else:
                stack.append(waiting[-1])
    return order
