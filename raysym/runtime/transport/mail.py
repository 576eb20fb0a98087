"""The transport `object_ref`: every message is an actor call of the peer, its array an object.

The reference: it works wherever Ray does, and costs a thousand times what a ring costs.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np

from raysym.runtime.transport.credit import Credit, units
from raysym.runtime.transport.protocol import (
    INLINE_NBYTES,
    SLOTS,
    WINDOW,
    ChannelClosed,
    PlainKey,
    unwatched,
)

# Hands (key, array) or (number of credits, None) to the peer's `deliver`.
Post = Callable[[Any, Any], None]


class MailChannel:
    """One end; `deliver` is called on a thread of the actor when a message comes in."""

    def __init__(self, post: Post, peer: str) -> None:
        self.peer, self._post = peer, post
        self.needs_room = False
        self.watch_room: Callable[[Any], None] = unwatched
        self._credit = Credit(WINDOW)
        self._outbox: deque[tuple[PlainKey, Any]] = deque()
        self._inbox: deque[tuple[Any, Any]] = deque()
        self._bell = os.eventfd(0, os.EFD_NONBLOCK)
        self._lost = False

    def fileno(self) -> int:
        """An event counter that rings when something was delivered."""
        return self._bell

    def send(self, key: PlainKey, array: Any) -> bool:
        """Start to send; the array is copied, since Ray may read it after this returns."""
        self._outbox.append((key, np.array(array, order="C")))
        return self.flush()

    def flush(self) -> bool:
        """Post what credit allows; False when something is left."""
        if self._lost:
            raise ChannelClosed(self.peer)
        while self._outbox and self._credit.left >= (cost := _cost(self._outbox[0][1])):
            self._credit.left -= cost
            self._post(*self._outbox.popleft())
        return not self._outbox

    def deliver(self, what: Any, array: Any) -> None:
        """A message has come; a view of the object store must not outlive the call, so copy."""
        self._inbox.append((what, None if array is None else np.array(array, order="C")))
        self._ring()

    def lose(self) -> None:
        """The peer has died: Ray said so."""
        self._lost = True
        self._ring()

    def _ring(self) -> None:
        if self._bell >= 0:
            os.eventfd_write(self._bell, 1)

    def receive(self) -> list[tuple[PlainKey, Any]]:
        """All messages that are here."""
        try:
            os.eventfd_read(self._bell)
        except BlockingIOError:
            return []
        found = []
        while self._inbox:
            what, array = self._inbox.popleft()
            if array is None:
                self._credit.left += what
            else:
                self._credit.owed += _cost(array)
                found.append((what, array))
        if self._lost and not found:
            raise ChannelClosed(self.peer)
        if self._lost:
            self._ring()  # what has arrived is handed out first, the loss is told next
        elif self._credit.is_due():
            self._post(self._credit.give()[0], None)
        return found

    def close(self) -> None:
        """Let go of the event counter."""
        bell, self._bell = self._bell, -1
        if bell >= 0:
            os.close(bell)


def _cost(array: Any) -> int:
    """Units of credit: as many large messages as elsewhere, without slots."""
    return WINDOW // SLOTS if array.nbytes > INLINE_NBYTES else units(array.nbytes)
