"""Recompute: forward values that backward reads are dropped, and made again when it gets there.

A choice is a set of forward nodes to drop. Forward is cut into segments, as in Chen et al. 2016:
what crosses from one to the next is kept, what lies inside is made again, one segment at a time.
Cuts are optimal for each limit on a segment's bytes; ops that are dear for the bytes they make may
be spared. What backward holds beside forward's values is not in it: see `planning.lean`.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Container, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from itertools import accumulate, chain, combinations

from raysym.graph import Entry, Graph, Node

_SEGMENTS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
_FLOPS_PER_BYTE = (8.0, 256.0, float("inf"))  # elementwise; small products; everything


@dataclass(frozen=True)
class Choice:
    """Forward nodes to drop, the extra work, and a guess of the bytes that are then needed."""

    dropped: frozenset[Node]
    flops: float = 0.0
    nbytes: float = math.inf


@dataclass(frozen=True)
class Forward:
    """What recomputing has to know of the forward nodes, which are in order.

    ``read_later``: their entries that backward reads.
    """

    nodes: Sequence[Node]
    read_later: Set[Entry]
    nbytes: Mapping[Entry, int]
    flops: Callable[[Node], float]
    changed: Container[Node]  # variables with another content when backward runs


def may_drop(node: Node, changed: Container[Node]) -> bool:
    """True when a second run gives the same bits and nothing else happens."""
    op = node.op
    if node.is_variable or op.random or op.stateful:
        return False
    return not any(entry.node in changed for entry in node.inputs)


def droppable(forward: Forward) -> list[Node]:
    """Nodes that may be dropped and that backward needs, in order."""
    again = _made_again(forward, {n for n in forward.nodes if may_drop(n, forward.changed)})
    return [node for node in forward.nodes if node in again]


def choice_of(forward: Forward, dropped: Set[Node]) -> Choice:
    """The choice that drops those of `dropped` that backward comes to need."""
    again = _made_again(forward, dropped)
    return Choice(frozenset(again), sum(map(forward.flops, again)))


def every_choice(forward: Forward) -> list[Choice]:
    """All there are, those with the least extra work first: up to 2**n of n droppable nodes."""
    nodes = droppable(forward)
    sets = chain.from_iterable(combinations(nodes, n) for n in range(len(nodes) + 1))
    found = {choice.dropped: choice for choice in (choice_of(forward, {*own}) for own in sets)}
    return sorted(found.values(), key=lambda choice: choice.flops)


def choices(forward: Forward) -> list[Choice]:
    """Different choices, those with the least extra work first; the empty one is none of them."""
    found = {
        choice.dropped: choice for dear in _FLOPS_PER_BYTE for choice in _family(forward, dear)
    }
    found.pop(frozenset(), None)
    return sorted(found.values(), key=lambda choice: (choice.flops, choice.nbytes))


def _family(forward: Forward, dear: float) -> Iterator[Choice]:
    """Choices that spare ops with more than `dear` flops for a byte."""
    open_nodes = {node for node in forward.nodes if _is_open(forward, node, dear)}
    weights = [_made(forward, n) if n in open_nodes else 0 for n in forward.nodes]
    crossing = _crossings(forward.nodes)
    cuts = [sum(forward.nbytes[e] for e in cut if e.node in open_nodes) for cut in crossing]
    for parts in _SEGMENTS:
        ends = best_cuts(weights, cuts, sum(weights) / parts)
        kept = {entry.node for i in ends for entry in crossing[i]}
        yield _choice(forward, open_nodes - kept, ends)


def _is_open(forward: Forward, node: Node, dear: float) -> bool:
    made = max(1, _made(forward, node))
    return may_drop(node, forward.changed) and forward.flops(node) <= dear * made


def _made(forward: Forward, node: Node) -> int:
    return sum(forward.nbytes[entry] for entry in node.entries())


def _crossings(nodes: Sequence[Node]) -> list[tuple[Entry, ...]]:
    """Behind each node: the entries made up to there that nodes after it read."""
    last = {entry: i for i, node in enumerate(nodes) for entry in node.inputs}
    live: dict[Entry, None] = {}
    found = []
    for i, node in enumerate(nodes):
        live.update((entry, None) for entry in node.entries() if entry in last)
        for entry in node.inputs:
            if last[entry] == i:
                live.pop(entry, None)
        found.append(tuple(live))
    return found


def best_cuts(weights: Sequence[int], cuts: Sequence[int], limit: float) -> list[int]:
    """Where to cut a sequence so that the cuts together cost least and no part weighs too much.

    `cuts[i]` is the cost of a cut behind `i`, `limit` the most that the weights between two cuts
    may sum up to; a single element may weigh more. The last part ends with the sequence.
    """
    total = [0, *accumulate(weights)]
    cost = [0.0] * (len(weights) + 1)  # of the best cuts of a start that ends with a cut
    before = [0] * (len(weights) + 1)
    window: deque[int] = deque([0])  # starts in reach, their costs rising
    for i in range(1, len(weights) + 1):
        while len(window) > 1 and total[i] - total[window[0]] > limit:
            window.popleft()
        before[i] = window[0]
        cost[i] = cost[window[0]] + (cuts[i - 1] if i < len(weights) else 0)
        while window and cost[window[-1]] >= cost[i]:
            window.pop()
        window.append(i)
    ends, i = [], before[-1]
    while i > 0:
        ends.append(i - 1)
        i = before[i]
    return ends[::-1]


def _choice(forward: Forward, dropped: Set[Node], ends: Sequence[int]) -> Choice:
    choice = choice_of(forward, dropped)
    again = choice.dropped
    needed = {*forward.read_later, *(e for node in again for e in node.inputs)}
    held = worst = start = 0
    # Backward comes last to the first segment: by then only that, and no later one, is there.
    for end in (*ends, len(forward.nodes) - 1):
        made = inside = 0
        for node in forward.nodes[start : end + 1]:
            if node in again:
                inside += sum(forward.nbytes[e] for e in node.entries() if e in forward.read_later)
            else:
                made += sum(forward.nbytes[e] for e in node.entries() if e in needed)
        held, start = held + made, end + 1
        worst = max(worst, held + inside)
    return replace(choice, nbytes=worst)


def _made_again(forward: Forward, dropped: Set[Node]) -> set[Node]:
    """Those of the dropped nodes that backward comes to need."""
    needed = {entry.node for entry in forward.read_later}
    again = set()
    for node in reversed(forward.nodes):
        if node in dropped and node in needed:
            again.add(node)
            needed.update(entry.node for entry in node.inputs)
    return again


def make_again(
    graph: Graph, forward: Container[Node], dropped: Container[Node]
) -> tuple[dict[Entry, Entry], dict[Node, Node]]:
    """What nodes that are not `forward` now read for each entry; copies and what they copy."""
    copies: dict[Entry, Entry] = {}
    new: dict[Entry, Entry] = {}
    copy_of: dict[Node, Node] = {}

    def later(entry: Entry) -> Entry:
        return copies.get(entry) or new.get(entry, entry)

    for node in graph.nodes:
        if node in dropped:
            name = f"{node.name}_again" if node.name else ""
            copy = Node(node.op, name, tuple(map(later, node.inputs)), node.attrs, node.source)
            copies.update(zip(node.entries(), copy.entries(), strict=True))
            copy_of[copy] = node
        elif node not in forward and not node.is_variable:
            made = node.with_inputs(tuple(map(later, node.inputs)))
            new.update(zip(node.entries(), made.entries(), strict=True))
    return {**new, **copies}, copy_of
