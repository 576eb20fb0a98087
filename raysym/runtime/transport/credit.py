"""Credit: how much one direction of a channel may have under way.

The sender spends one credit per message, and a slot for each large one. The receiver gives them
back with what it sends itself, and else in batches, so that hardly any wake-ups are spent on it.
"""

from __future__ import annotations

from collections import deque


class Credit:
    """The two sides of one end: what we may send, and what we owe the peer."""

    __slots__ = ("_n_slots", "free", "left", "many", "owed", "owed_slots")

    def __init__(self, window: int) -> None:
        self.left, self.many = window, window // 2  # so many are given back without being asked
        self.free: deque[int] = deque()  # slots of our own ring
        self.owed = 0  # messages taken in and not yet given back
        self.owed_slots: deque[int] = deque()  # of the peer's ring
        self._n_slots = 0

    def add_slots(self, n: int) -> None:
        """Our ring has `n` slots now, all free."""
        self.free = deque(range(n))

    def expect_slots(self, n: int) -> None:
        """The peer's ring has `n` slots now."""
        self._n_slots = n

    def give(self) -> int:
        """What is owed, for a message that goes the other way anyhow; nothing is owed then."""
        count, self.owed = self.owed, 0
        return count

    def is_due(self) -> bool:
        """Half of the window, or of the slots, waits to be given back."""
        return self.owed >= self.many or (
            bool(self.owed_slots) and 2 * len(self.owed_slots) >= self._n_slots
        )

    def settle(self) -> tuple[int, list[int]]:
        """What is owed, for a credit message; nothing is owed afterwards."""
        count, slots = self.give(), list[int]()
        while self.owed_slots:  # one by one: views may be dropped on another thread meanwhile
            slots.append(self.owed_slots.popleft())
        return count, slots
