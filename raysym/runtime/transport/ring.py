"""The transport `object_store`: two processes of one node share rings of slots in Ray objects.

A large payload is written once into a slot and read in place. Headers, small payloads and credits
travel on a Unix socket, so that waiting blocks instead of spinning and a dead peer is noticed.
"""

from __future__ import annotations

import socket
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import numpy as np

from raysym.runtime.transport.credit import MAX_SLOTS, Credit, units
from raysym.runtime.transport.frame import (
    CREDIT,
    INLINE,
    MAX_HEADER_NBYTES,
    PART,
    SLOT,
    Frame,
    bytes_of,
    pack,
    pack_credits,
    unpack,
)
from raysym.runtime.transport.protocol import (
    INLINE_NBYTES,
    WINDOW,
    ChannelClosed,
    PlainKey,
    unwatched,
)

_INLINE_SLOT = -1
_SOCKET_NBYTES = 1 << 20  # what the kernel holds for us, if it is allowed to


class _Slot(np.ndarray[Any, Any]):
    """Bytes of the peer's ring. An array made on them is the base of all its views.

    NumPy passes views on to the array below only if both are of one class: on a plain array below
    it would let go of the one that we watch.
    """


class RingChannel:
    """One end; without a ring, large payloads go through the socket piece by piece."""

    def __init__(self, sock: socket.socket, peer: str) -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SOCKET_NBYTES)
        self.peer, self._sock = peer, sock
        self.needs_room = False
        self.watch_room: Callable[[Any], None] = unwatched
        self._credit = Credit(WINDOW)
        self._work: deque[Iterator[bool]] = deque()
        self._buffer = bytearray(MAX_HEADER_NBYTES + INLINE_NBYTES)
        self._view = memoryview(self._buffer)
        self._out: dict[int, memoryview] = {}  # the slots of our ring
        self._room = 0  # bytes in each of them
        self._in: dict[int, _Slot] = {}  # the peer's, read-only
        self._held: dict[int, Any] = {}  # slots that somebody here still looks at
        self._partial: dict[PlainKey, Any] = {}

    def fileno(self) -> int:
        """The socket."""
        return self._sock.fileno()

    def set_own_ring(self, ring: Any) -> int:
        """Send through this block, shaped (slots, bytes per slot); the number of its first slot.

        Only while nothing is under way. Slots have other numbers than those of the ring before:
        credits for these do not fit any more.
        """
        first = MAX_SLOTS // 2 if 0 in self._out else 0
        numbers = range(first, first + len(ring))
        self._out = dict(zip(numbers, [memoryview(slot) for slot in ring], strict=True))
        self._room = ring.shape[1]
        self._credit.add_slots(numbers)
        return first

    def set_peers_ring(self, ring: Any, first: int) -> None:
        """Read from this block of the peer, whose slots have numbers from `first` on."""
        ring = ring.view(_Slot)
        ring.flags.writeable = False
        self._in = dict(enumerate(ring, first))
        self._held = {}  # nobody watches the views of the ring before
        self._credit.expect_slots(len(ring))

    # ----- sending

    def send(self, key: PlainKey, array: Any) -> bool:
        """Start to send; True when all of it is in the slot or the socket."""
        array = np.asarray(array, order="C")
        at_once = self._small if array.nbytes <= INLINE_NBYTES else self._large
        if self._work or not at_once(key, array):
            self._work.append(self._pieces(key, array))
            return self.flush()
        return not self._work

    def flush(self) -> bool:
        """Go on sending; False while credit or room is missing."""
        self._settle()
        if self.needs_room:
            self._note_room(False)  # until the kernel says otherwise
        while self._work:
            if next(self._work[0], False):
                return False
            self._work.popleft()
        return True

    def _large(self, key: PlainKey, array: Any) -> bool:
        """Send what fits a slot, unless credit or a slot is missing."""
        if not self._fits(array) or (header := self._fill(SLOT, key, array)) is None:
            return False
        if not self._put(header):
            self._work.append(self._announce(header))
        return True

    def _small(self, key: PlainKey, array: Any) -> bool:
        """Send what goes with its header, unless credit or room is missing."""
        credit, cost = self._credit, units(array.nbytes)
        if credit.left < cost:
            return False
        count, slots = credit.give()
        if not self._put(pack(INLINE, key, array, array.nbytes, count, slots), array):
            credit.keep(count, slots)
            return False
        credit.left -= cost
        return True

    def _fits(self, array: Any) -> bool:
        return bool(array.nbytes <= self._room)

    def _pieces(self, key: PlainKey, array: Any) -> Iterator[bool]:
        """Send; yields True whenever it must wait."""
        if array.nbytes <= INLINE_NBYTES:
            while not self._small(key, array):
                yield True
        elif self._out:
            for offset in range(0, array.nbytes, self._room):
                kind = SLOT if self._fits(array) else PART
                while (header := self._fill(kind, key, array, offset)) is None:
                    yield True
                yield from self._announce(header)
        else:
            for offset in range(0, array.nbytes, INLINE_NBYTES):
                yield from self._inline_part(key, array, offset)

    def _fill(self, kind: int, key: PlainKey, array: Any, offset: int = 0) -> bytes | None:
        """Write what a free slot takes; the header that tells of it, None while credit lacks."""
        credit = self._credit
        if not (credit.free and credit.left):
            return None
        slot = credit.free.pop()  # the last one given back: both caches still know it
        credit.left -= 1
        body = bytes_of(array)[offset : offset + self._room]
        self._out[slot][: len(body)] = body
        return pack(kind, key, array, len(body), *credit.give(), slot, offset)

    def _announce(self, header: bytes) -> Iterator[bool]:
        while not self._put(header):
            yield True

    def _inline_part(self, key: PlainKey, array: Any, offset: int) -> Iterator[bool]:
        body = bytes_of(array)[offset : offset + INLINE_NBYTES]
        header = pack(PART, key, array, len(body), 0, 0, _INLINE_SLOT, offset)
        cost = units(len(body))
        while self._credit.left < cost or not self._put(header, body):
            yield True
        self._credit.left -= cost

    def _put(self, header: bytes, payload: Any = None) -> bool:
        try:
            if payload is None:
                self._sock.send(header)
            else:
                self._sock.sendmsg([header, payload])
        except BlockingIOError:
            self._note_room(True)
            return False
        except OSError:
            raise ChannelClosed(self.peer) from None
        return True

    def _note_room(self, is_needed: bool) -> None:
        self.needs_room = is_needed
        self.watch_room(self)

    # ----- receiving

    def receive(self) -> list[tuple[PlainKey, Any]]:
        """The next message, if it is complete."""
        try:
            nbytes = self._sock.recv_into(self._buffer)
        except BlockingIOError:
            return []
        except OSError:
            nbytes = 0
        if not nbytes:
            raise ChannelClosed(self.peer)
        frame, key, at, count, slots = unpack(self._view)
        kind, credit = frame.kind, self._credit
        credit.left += count
        if slots:
            credit.take_slots(slots)
        if kind == INLINE:
            own = self._buffer[at:nbytes]  # of a bytearray: a copy
            found = [(key, np.ndarray(frame.shape, frame.dtype, own))]
        elif kind == CREDIT:
            with suppress(ChannelClosed):  # told by the next receive: it may have last words
                self.flush()
            return []
        elif frame.slot not in self._in and frame.slot != _INLINE_SLOT:
            found = []  # left over from a step that was given up, in a ring that is no more
            credit.owed_slots.append(frame.slot)
        elif kind == SLOT:
            found = [(key, self._look(frame))]
        else:
            found = self._add_part(frame, key, at)
        credit.owed += frame.units
        if self._work:
            with suppress(ChannelClosed):  # told by the next receive: this message has arrived
                self.flush()
        elif credit.owed >= credit.batch or credit.owed_slots:  # most often not even half of it
            self._settle()
        return found

    def _look(self, frame: Frame) -> Any:
        """A view of the slot; a copy when views already hold half of the ring.

        So the peer always gets slots back, however long values live here.
        """
        slot = frame.slot
        view = np.ndarray(frame.shape, frame.dtype, self._in[slot])
        if 2 * (len(self._held) + 1) > len(self._in):
            own = view.copy()
            self._credit.owed_slots.append(slot)
            return own
        # All views of this one keep it alive: when it goes, nobody looks at the slot any more.
        self._held[slot] = weakref.ref(view, lambda _: self._release(slot))
        return view

    def _release(self, slot: int) -> None:
        self._held.pop(slot, None)
        self._credit.owed_slots.append(slot)
        if self._sock.fileno() >= 0:
            self._settle()

    def _add_part(self, frame: Frame, key: PlainKey, at: int) -> list[tuple[PlainKey, Any]]:
        if frame.offset == 0:
            self._partial[key] = np.empty(frame.shape, frame.dtype)
        array = self._partial[key]
        in_slot, end = frame.slot != _INLINE_SLOT, frame.offset + frame.nbytes
        source: Any = self._in[frame.slot] if in_slot else self._buffer[at:]
        bytes_of(array)[frame.offset : end] = source[: frame.nbytes]
        if in_slot:
            self._credit.owed_slots.append(frame.slot)
        return [(key, self._partial.pop(key))] if end == array.nbytes else []

    def _settle(self) -> None:
        """Give credit back once enough is owed; if there is no room now, then later."""
        if not self._credit.is_due():
            return
        given = self._credit.give()
        try:
            self._sock.send(pack_credits(*given))
        except BlockingIOError:
            self._credit.keep(*given)
        except OSError:  # the peer is gone: whoever receives or sends next is told
            return

    def close(self) -> None:
        """Let go of the socket and of the rings."""
        self._sock.close()
        self._out, self._in = {}, {}
