"""Fusion: which neighbouring elementwise steps become one loop.

A group runs where its last member stood. A member joins the groups that make its operands as long
as nobody outside has needed them yet, so no order that matters changes. A leader, such as a matrix
product, joins nobody, but steps of its kind may join it; of two leaders they join the later. What
ends a group, such as a sum, joins steps of its kind without a leader, and nothing joins it. Views
join whatever they are views of. Every op computes the same bits inside a group and alone; groups
may therefore be chosen for each worker after the cut.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

MOST_STEPS = 32  # longer loops run out of registers
MOST_READS = 12


class Item(NamedTuple):
    """One step by the names that it reads and writes; equal kinds may share a loop, None cannot.

    ``shape``: what the loop has to walk over; None where any order of the elements will do.
    """

    reads: tuple[str, ...]
    writes: tuple[str, ...]
    kind: Hashable | None = None
    leads: bool = False
    shape: Hashable | None = None
    is_view: bool = False
    ends: bool = False


@dataclass(eq=False)
class _Group:
    kind: Hashable
    shape: Hashable | None
    has_leader: bool
    members: list[int]
    reads: set[str]
    writes: set[str]


def fuse(items: Sequence[Item]) -> list[tuple[int, ...]]:
    """All positions in groups, in the order in which the groups run."""
    fusion = _Fusion()
    for position, item in enumerate(items):
        fusion.add(position, item)
    return sorted(fusion.finished(), key=lambda members: members[-1])


class _Fusion:
    """Groups that are still open, by what they write."""

    def __init__(self) -> None:
        self.done: list[tuple[int, ...]] = []
        self.open: list[_Group] = []

    def finished(self) -> list[tuple[int, ...]]:
        self._close(list(self.open))
        return self.done

    def add(self, position: int, item: Item) -> None:
        makers = self._makers(item.reads)
        joined = self._makers(item.reads[:1]) if item.is_view else _joinable(makers, item)
        self._close(group for group in makers if group not in joined)
        self._close(group for group in self.open if group not in joined and _clash(group, item))
        if item.is_view and joined:
            joined[0].members.append(position)
            joined[0].writes.update(item.writes)
        elif item.kind is None:
            self.done.append((position,))
        else:
            self._merge(joined, position, item)
        if item.ends:
            self._close(self.open[-1:])

    def _makers(self, names: Iterable[str]) -> list[_Group]:
        wanted = set(names)
        return [group for group in self.open if group.writes & wanted]

    def _close(self, groups: Iterable[_Group]) -> None:
        for group in list(groups):
            self.open.remove(group)
            self.done.append(tuple(group.members))

    def _merge(self, joined: Sequence[_Group], position: int, item: Item) -> None:
        made = _Group(
            item.kind, item.shape, item.leads, [position], set(item.reads), set(item.writes)
        )
        for group in joined:
            made.shape = made.shape or group.shape
            made.has_leader |= group.has_leader
            made.members += group.members
            made.reads |= group.reads
            made.writes |= group.writes
            self.open.remove(group)
        made.members.sort()
        self.open.append(made)


def _joinable(makers: Sequence[_Group], item: Item) -> list[_Group]:
    if item.kind is None or item.leads:
        return []
    same = [group for group in makers if group.kind == item.kind]
    led = [group for group in same if group.has_leader]
    others = [group for group in same if group not in (led if item.ends else led[:-1])]
    joined = _of_one_shape(others, item.shape)
    return joined if _fits(joined, item) else []


def _of_one_shape(groups: Sequence[_Group], shape: Hashable | None) -> list[_Group]:
    """Groups that one loop can walk over; later ones are preferred."""
    found: list[_Group] = []
    for group in reversed(groups):
        if shape is None or group.shape in (None, shape):
            found.append(group)
            shape = shape or group.shape
    return found


def _fits(groups: Sequence[_Group], item: Item) -> bool:
    steps = sum(len(group.members) for group in groups) + 1
    writes = set().union(*(group.writes for group in groups))
    reads = set(item.reads).union(*(group.reads for group in groups)) - writes
    return steps <= MOST_STEPS and len(reads) <= MOST_READS


def _clash(group: _Group, item: Item) -> bool:
    """True when the item overwrites what the group has yet to read or write."""
    return bool((group.reads | group.writes).intersection(item.writes))
