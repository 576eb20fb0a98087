"""The transport `object_store`: two processes of one node share rings of slots in Ray objects.

A large payload is written once into a slot and read in place. Headers, small payloads and credits
travel on a Unix socket, so that waiting blocks instead of spinning and a dead peer is noticed.
"""

from __future__ import annotations

import socket
import weakref
from collections import deque
from collections.abc import Iterator
from typing import Any

import numpy as np

from raysym.runtime.transport.credit import Credit
from raysym.runtime.transport.frame import (
    CREDIT,
    INLINE,
    MAX_HEADER_NBYTES,
    PART,
    SLOT,
    Frame,
    bytes_of,
    pack,
    pack_credit,
    unpack,
)
from raysym.runtime.transport.protocol import INLINE_NBYTES, WINDOW, ChannelClosed, Key

_INLINE_SLOT = -1


class RingChannel:
    """One end; without a ring, large payloads go through the socket piece by piece."""

    def __init__(self, sock: socket.socket, peer: str) -> None:
        sock.setblocking(False)
        self.peer, self._sock = peer, sock
        self.needs_room = False
        self._credit = Credit(WINDOW)
        self._work: deque[Iterator[bool]] = deque()
        self._buffer = bytearray(MAX_HEADER_NBYTES + INLINE_NBYTES)
        self._view = memoryview(self._buffer)
        self._out: Any = None  # our ring, (slots, bytes per slot)
        self._in: Any = None  # the peer's
        self._held: dict[int, Any] = {}  # slots that somebody here still looks at
        self._partial: dict[Key, Any] = {}

    def fileno(self) -> int:
        """The socket."""
        return self._sock.fileno()

    def set_rings(self, own: Any = None, peers: Any = None) -> None:
        """Use these blocks, shaped (slots, bytes per slot), for what we send and what we get.

        Only while nothing is under way.
        """
        if own is not None:
            self._out = own
            self._credit.add_slots(len(own))
        if peers is not None:
            self._in = peers
            self._credit.expect_slots(len(peers))

    # ----- sending

    def send(self, key: Key, array: Any) -> bool:
        """Start to send; True when all of it is in the slot or the socket."""
        array = np.asarray(array, order="C")
        if not self._work and array.nbytes <= INLINE_NBYTES and self._small(key, array):
            return True
        self._work.append(self._pieces(key, array))
        return self.flush()

    def flush(self) -> bool:
        """Go on sending; False while credit or room is missing."""
        self._settle()
        self.needs_room = False
        while self._work:
            if next(self._work[0], False):
                return False
            self._work.popleft()
        return True

    def _small(self, key: Key, array: Any) -> bool:
        if not self._credit.left or not self._put([pack(INLINE, key, array), array]):
            return False
        self._credit.left -= 1
        return True

    def _pieces(self, key: Key, array: Any) -> Iterator[bool]:
        """Send; yields True whenever it must wait."""
        if array.nbytes <= INLINE_NBYTES:
            while not self._small(key, array):
                yield True
        elif self._out is not None and array.nbytes <= self._out.shape[1]:
            yield from self._slot(SLOT, key, array, bytes_of(array), 0)
        else:
            body = bytes_of(array)
            step = INLINE_NBYTES if self._out is None else self._out.shape[1]
            for offset in range(0, array.nbytes, step):
                part = body[offset : offset + step]
                send = self._inline_part if self._out is None else self._slot
                yield from send(PART, key, array, part, offset)

    def _slot(self, kind: int, key: Key, array: Any, body: Any, offset: int) -> Iterator[bool]:
        while not (self._credit.free and self._credit.left):
            yield True
        slot = self._credit.free.popleft()
        self._credit.left -= 1
        self._out[slot, : len(body)] = body
        header = pack(kind, key, array, slot, offset, len(body))
        while not self._put([header]):
            yield True

    def _inline_part(
        self, kind: int, key: Key, array: Any, body: Any, offset: int
    ) -> Iterator[bool]:
        header = pack(kind, key, array, _INLINE_SLOT, offset, len(body))
        while not (self._credit.left and self._put([header, body])):
            yield True
        self._credit.left -= 1

    def _put(self, parts: list[Any]) -> bool:
        try:
            self._sock.sendmsg(parts)
        except BlockingIOError:
            self.needs_room = True
            return False
        except OSError:
            raise ChannelClosed(self.peer) from None
        return True

    # ----- receiving

    def receive(self) -> list[tuple[Key, Any]]:
        """The next message, if it is complete."""
        try:
            nbytes = self._sock.recv_into(self._buffer)
        except BlockingIOError:
            return []
        except OSError:
            nbytes = 0
        if not nbytes:
            raise ChannelClosed(self.peer)
        frame, step, at = unpack(self._view[:nbytes])
        if frame.kind == CREDIT:
            self._credit.take_back(frame.slot, frame.shape)
            self.flush()
            return []
        credit = self._credit
        credit.owed += 1
        if frame.kind == INLINE:
            own = self._buffer[at : at + frame.nbytes]  # of a bytearray: a copy
            found = [(frame.key(step), np.ndarray(frame.shape, frame.dtype, own))]
        elif frame.kind == SLOT:
            found = [(frame.key(step), self._look(frame))]
        else:
            found = self._add_part(frame, frame.key(step), at)
        if credit.is_due():
            self._settle()
        return found

    def _look(self, frame: Frame) -> Any:
        """A view of the slot; a copy when views already hold half of the ring.

        So the peer always gets slots back, however long values live here.
        """
        slot = frame.slot
        row = self._in[slot]
        whole = np.frombuffer(memoryview(row)[: frame.nbytes], frame.dtype)
        whole.flags.writeable = False
        view = whole.reshape(frame.shape)
        if 2 * (len(self._held) + 1) > len(self._in):
            self._credit.owed_slots.append(slot)
            return view.copy()
        # All views of `whole` keep it alive: when it goes, nobody looks at the slot any more.
        self._held[slot] = weakref.ref(whole, lambda _: self._release(slot))
        return view

    def _release(self, slot: int) -> None:
        self._held.pop(slot, None)
        self._credit.owed_slots.append(slot)
        if self._sock.fileno() >= 0:
            self._settle()

    def _add_part(self, frame: Frame, key: Key, at: int) -> list[tuple[Key, Any]]:
        if frame.offset == 0:
            self._partial[key] = np.empty(frame.shape, frame.dtype)
        array = self._partial[key]
        source = self._buffer[at : at + frame.nbytes]
        if frame.slot != _INLINE_SLOT:
            source = self._in[frame.slot, : frame.nbytes]
            self._credit.owed_slots.append(frame.slot)
        end = frame.offset + frame.nbytes
        bytes_of(array)[frame.offset : end] = np.frombuffer(source, np.uint8)
        return [(key, self._partial.pop(key))] if end == array.nbytes else []

    def _settle(self) -> None:
        """Give credit back once enough is owed; if there is no room now, then later."""
        if not self._credit.is_due():
            return
        count, slots = self._credit.settle()
        try:
            self._sock.send(pack_credit(count, slots))
        except BlockingIOError:
            self._credit.owed += count
            self._credit.owed_slots.extend(slots)
        except OSError:  # the peer is gone: whoever receives or sends next is told
            return

    def close(self) -> None:
        """Let go of the socket and of the rings."""
        self._sock.close()
        self._out = self._in = None
