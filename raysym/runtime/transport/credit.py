"""Credit: how much one direction of a channel may have under way.

The sender spends credit on each message, and a slot on each large one. The receiver gives them
back with what it sends itself, where a transport can do that, and else in batches: hardly any
wake-ups are spent on it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence
from functools import lru_cache

from raysym.runtime.transport.protocol import INLINE_NBYTES, UNIT_NBYTES

MAX_SLOTS = 8  # named by bits: those of a ring and of the one before


def units(nbytes: int) -> int:
    """The credit that a message of so many bytes costs: a large one has a slot to bound it."""
    return 1 if nbytes > INLINE_NBYTES else 1 + nbytes // UNIT_NBYTES


class Credit:
    """The two sides of one end: what we may send, and what we owe the peer."""

    __slots__ = ("_n_slots", "_own", "batch", "free", "left", "owed", "owed_slots")

    def __init__(self, window: int) -> None:
        self.left, self.batch = window, window // 2  # as many as are given back at once
        self.free: deque[int] = deque()  # slots of our own ring
        self.owed = 0  # units of messages taken in and not yet given back
        self.owed_slots: deque[int] = deque()  # of the peer's ring
        self._n_slots = 0
        self._own: Collection[int] = ()

    def add_slots(self, numbers: Sequence[int]) -> None:
        """Our ring has these slots now, all free."""
        assert len(numbers) <= MAX_SLOTS // 2
        self.free, self._own = deque(numbers), numbers

    def expect_slots(self, n: int) -> None:
        """The peer's ring has `n` slots now; none of them is owed."""
        self._n_slots = n
        self.owed_slots.clear()

    def is_due(self) -> bool:
        """Half of the window, or of the slots, waits to be given back."""
        return self.owed >= self.batch or (
            bool(self.owed_slots) and 2 * len(self.owed_slots) >= self._n_slots
        )

    def give(self) -> tuple[int, int]:
        """What is owed, to go along with a message: how many units, and slots as bits."""
        count, slots, self.owed = self.owed, 0, 0
        while self.owed_slots:  # one by one: views may be dropped on another thread meanwhile
            slots |= 1 << self.owed_slots.popleft()
        return count, slots

    def keep(self, count: int, slots: int) -> None:
        """What was to be given back could not be: it is owed still."""
        self.owed += count
        self.owed_slots.extend(_numbers(slots))

    def take_slots(self, slots: int) -> None:
        """The peer gives slots back that we had spent; perhaps those of a ring that is no more."""
        self.free.extend(i for i in _numbers(slots) if i in self._own)


@lru_cache(1 << MAX_SLOTS)
def _numbers(slots: int) -> tuple[int, ...]:
    return tuple(i for i in range(MAX_SLOTS) if slots >> i & 1)
