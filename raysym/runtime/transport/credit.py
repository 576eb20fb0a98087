"""Credit: how much one direction of a channel may have under way.

The sender spends one credit per message, and a slot for each large one; the receiver gives them
back in batches, so that hardly any wake-ups are spent on it.
"""

from __future__ import annotations

from collections import deque


class Credit:
    """The two sides of one end: what we may send, and what we owe the peer."""

    __slots__ = ("_limit", "_n_slots", "free", "left", "owed", "owed_slots")

    def __init__(self, window: int) -> None:
        self.left = self._limit = window
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

    def take_back(self, count: int, slots: tuple[int, ...]) -> None:
        """The peer gives back what we had spent."""
        self.left += count
        self.free.extend(slots)

    def is_due(self) -> bool:
        """Half of the window, or of the slots, waits to be given back."""
        return 2 * self.owed >= self._limit or (
            bool(self.owed_slots) and 2 * len(self.owed_slots) >= self._n_slots
        )

    def settle(self) -> tuple[int, list[int]]:
        """What is owed, for a credit message; nothing is owed afterwards."""
        count, self.owed = self.owed, 0
        slots: list[int] = []
        while self.owed_slots:  # one by one: views may be dropped on another thread meanwhile
            slots.append(self.owed_slots.popleft())
        return count, slots
