"""Strong components of a small directed graph, numbered in topological order (Tarjan,
iterative)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from scheduler.graph import Array


def strong_components(
    n: int, edges: set[tuple[int, int]]
) -> tuple[Array, tuple[tuple[int, ...], ...]]:
    """Component of each node, int64[n], and the predecessors of each component."""
    succs: list[list[int]] = [[] for _ in range(n)]
    for a, b in sorted(edges):
        succs[a].append(b)
    components = _tarjan(n, succs)
    of = np.zeros(n, dtype=np.int64)
    for number, members in enumerate(reversed(components)):
        of[members] = number
    preds: list[set[int]] = [set() for _ in components]
    for a, b in edges:
        if of[a] != of[b]:
            preds[of[b]].add(int(of[a]))
    return of, tuple(tuple(sorted(p)) for p in preds)


def _tarjan(n: int, succs: list[list[int]]) -> list[list[int]]:
    """Components in reverse topological order."""
    number, low = [-1] * n, [0] * n
    stack: list[int] = []
    on_stack = [False] * n
    found: list[list[int]] = []
    clock = 0
    # roots from the back: the reversed result then keeps the given order where the edges allow it
    for root in reversed(range(n)):
        work: list[tuple[int, Iterator[int]]] = [(root, iter(succs[root]))]
        if number[root] >= 0:
            continue
        while work:
            v, rest = work[-1]
            if number[v] < 0:
                number[v] = low[v] = clock
                clock += 1
                stack.append(v)
                on_stack[v] = True
            child = next(rest, None)
            if child is None:
                work.pop()
                _close(v, number, low, stack, on_stack, found)
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[v])
            elif number[child] < 0:
                work.append((child, iter(succs[child])))
            elif on_stack[child]:
                low[v] = min(low[v], number[child])
    return found


def _close(
    v: int,
    number: list[int],
    low: list[int],
    stack: list[int],
    on_stack: list[bool],
    found: list[list[int]],
) -> None:
    if low[v] != number[v]:
        return
    at = stack.index(v)
    members = stack[at:]
    del stack[at:]
    for member in members:
        on_stack[member] = False
    found.append(members)
