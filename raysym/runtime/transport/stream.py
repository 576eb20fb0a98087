"""The transport `socket`: TCP between nodes, received straight into preallocated arrays.

Two threads may work on a channel: the loop of its process, and the pump while that computes.
"""

from __future__ import annotations

import select
import socket
import threading
import weakref
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from math import prod
from typing import Any

import numpy as np

from raysym.runtime.transport.credit import Credit, units
from raysym.runtime.transport.frame import (
    CREDIT,
    INLINE,
    MAX_HEADER_NBYTES,
    PREFIX_NBYTES,
    Frame,
    bytes_of,
    header_nbytes,
    pack,
    pack_credits,
    unpack,
)
from raysym.runtime.transport.protocol import (
    INLINE_NBYTES,
    SLOTS,
    WINDOW,
    ChannelClosed,
    PlainKey,
    unwatched,
)

_SOCKET_NBYTES = 4 << 20  # what the kernel holds for us in each direction
# How long an idle connection may be silent before the kernel asks whether the peer's machine is
# there, then between its questions, and how many. With bytes under way the driver's watch asks Ray.
_KEEP_ALIVE = ((socket.TCP_KEEPIDLE, 5), (socket.TCP_KEEPINTVL, 2), (socket.TCP_KEEPCNT, 5))


class StreamChannel:
    """One end of a TCP connection."""

    def __init__(self, sock: socket.socket, peer: str) -> None:
        _set_options(sock)
        self.peer, self._sock = peer, sock
        self.needs_room = False
        self.watch_room: Callable[[Any], None] = unwatched
        self.is_lost = False
        self._lock = threading.RLock()  # a finalizer may close us in the middle of something
        self._credit = Credit(WINDOW)
        self._credit.add_slots(range(SLOTS))  # no memory of ours: they bound the large messages
        self._credit.expect_slots(SLOTS)
        self._waiting: deque[tuple[PlainKey, Any]] = deque()  # for credit
        self._unsent: deque[memoryview] = deque()  # copies of what the kernel had no room for
        self._inbox: list[tuple[Frame, PlainKey, Any]] = []  # complete
        self._buffer = bytearray(MAX_HEADER_NBYTES + INLINE_NBYTES)
        self._end = 0
        self._body: tuple[Frame, PlainKey, Any, memoryview] | None = None  # half here
        self._blocks = _Blocks()

    def fileno(self) -> int:
        """The socket."""
        return self._sock.fileno()

    # ----- sending

    def send(self, key: PlainKey, array: Any) -> bool:
        """Start to send; True when the kernel or a copy has all of it, False without credit."""
        array = np.asarray(array, order="C")
        with self._lock:
            self._waiting.append((key, array))
            return self._post()

    def flush(self) -> bool:
        """Go on sending; False while credit is missing."""
        with self._lock:
            self._drain()
            return self._post()

    def _post(self) -> bool:
        """Send what credit allows; True when nothing waits for more."""
        credit, waiting = self._credit, self._waiting
        while waiting:
            key, array = waiting[0]
            is_large, cost = array.nbytes > INLINE_NBYTES, units(array.nbytes)
            if credit.left < cost or (is_large and not credit.free):
                return False
            waiting.popleft()
            credit.left -= cost
            slot = credit.free.popleft() if is_large else 0
            header = pack(INLINE, key, array, array.nbytes, *credit.give(), slot)
            self._write(header, bytes_of(array))
        return True

    def _write(self, header: bytes, body: memoryview) -> None:
        """Hand both to the kernel; what it does not take is copied and follows later."""
        sent = 0 if self._unsent else self._push(header, body)
        if sent < len(header):
            self._unsent.append(memoryview(header)[sent:])
        rest = body[max(0, sent - len(header)) :]
        if rest:
            copy = self._blocks.array((len(rest),), np.dtype(np.uint8), len(body))
            copy[:] = rest
            self._unsent.append(memoryview(copy))
        self._note_room()

    def _push(self, header: bytes, body: memoryview) -> int:
        """How many bytes of both the kernel has taken."""
        if len(body) <= INLINE_NBYTES:
            return self._taken(self._sock.sendmsg, (header, body))
        # In a call of its own a large body is copied in two thirds of the time.
        sent = self._taken(self._sock.send, header, socket.MSG_MORE)
        return sent + self._taken(self._sock.send, body) if sent == len(header) else sent

    def _taken(self, send: Callable[..., int], *what: Any) -> int:
        try:
            return send(*what)
        except BlockingIOError:
            return 0
        except OSError:
            self._unsent.clear()
            raise ChannelClosed(self.peer) from None

    def _drain(self) -> None:
        """Send what the kernel had no room for."""
        while self._unsent:
            part = self._unsent[0]
            sent = self._taken(self._sock.send, part)
            if sent < len(part):
                self._unsent[0] = part[sent:]
                break
            self._unsent.popleft()
        self._note_room()

    def _note_room(self) -> None:
        if self.needs_room != bool(self._unsent):
            self.needs_room = not self.needs_room
            self.watch_room(self)

    # ----- receiving

    def receive(self) -> list[tuple[PlainKey, Any]]:
        """All messages that are complete now; credit is given back for them."""
        with self._lock:
            self._read_in()
            found, self._inbox = self._inbox, []
            if self.is_lost and not found:
                raise ChannelClosed(self.peer)
            for frame, _, _ in found:
                self._owe(frame)
            with suppress(ChannelClosed):  # told by the next receive: these messages have arrived
                self._post()
                if self._credit.is_due():
                    self._write(pack_credits(*self._credit.give()), memoryview(b""))
        return [(key, array) for _, key, array in found]

    def pump(self, events: int) -> bool:
        """Move bytes while the loop does something else; True when it should look."""
        with self._lock, suppress(ChannelClosed):  # told by the next receive
            if self._sock.fileno() < 0:
                return False
            if events & select.EPOLLOUT:
                self._drain()
            if events & ~select.EPOLLOUT:
                self._read_in()
        return bool(self._inbox or self._waiting)

    def _owe(self, frame: Frame) -> None:
        self._credit.owed += frame.units
        if frame.nbytes > INLINE_NBYTES:
            self._credit.owed_slots.append(frame.slot)

    def _read_in(self) -> None:
        """One read, into the array that has begun to arrive or into the buffer."""
        if self._body is not None:
            frame, key, array, rest = self._body
            self._body = frame, key, array, rest[self._read(rest) :]
            self._finish_body()
            return
        self._end += self._read(memoryview(self._buffer)[self._end :])
        start = 0
        while (used := self._parse(start)) > 0:
            start += used
        left = self._end - start
        self._buffer[:left] = self._buffer[start : self._end]
        self._end = left

    def _read(self, room: memoryview) -> int:
        try:
            nbytes = self._sock.recv_into(room)
        except BlockingIOError:
            return 0
        except OSError:
            nbytes = 0
        self.is_lost = not nbytes
        return nbytes

    def _parse(self, start: int) -> int:
        """Take one message out of the buffer; how many bytes it used there, 0 for none."""
        view = memoryview(self._buffer)[start : self._end]
        if len(view) < PREFIX_NBYTES or len(view) < header_nbytes(view):
            return 0
        frame, key, at, count, slots = unpack(view)
        self._credit.left += count
        if slots:
            self._credit.take_slots(slots)
        if frame.kind == CREDIT:
            return at
        array: Any = self._blocks.array(frame.shape, frame.dtype, frame.nbytes)
        target, here = memoryview(bytes_of(array)), view[at : at + frame.nbytes]
        target[: len(here)] = here
        self._body = frame, key, array, target[len(here) :]
        self._finish_body()
        return at + len(here)

    def _finish_body(self) -> None:
        assert self._body is not None
        frame, key, array, rest = self._body
        if not rest:
            self._body = None
            array.flags.writeable = False
            self._inbox.append((frame, key, array))

    def close(self) -> None:
        """Let go of the socket."""
        with self._lock:
            self._sock.close()


def _set_options(sock: socket.socket) -> None:
    sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SOCKET_NBYTES)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SOCKET_NBYTES)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _KEEP_ALIVE:
        sock.setsockopt(socket.IPPROTO_TCP, option, value)


class _Blocks:
    """Blocks for large arrays, reused when the last view of one is gone.

    Fresh pages cost three times as much as the copy into them.
    """

    def __init__(self) -> None:
        self._free: dict[int, deque[Any]] = {}
        self._used: dict[int, Any] = {}

    def array(self, shape: tuple[int, ...], dtype: np.dtype[Any], nbytes: int) -> Any:
        """An array in a block of that many bytes, with whatever content."""
        if nbytes <= INLINE_NBYTES:
            return np.empty(shape, dtype)
        free = self._free.setdefault(nbytes, deque(maxlen=SLOTS))
        block: Any = free.popleft() if free else np.empty(nbytes, np.uint8)
        whole = np.frombuffer(memoryview(block), dtype, prod(shape))
        self._used[id(block)] = weakref.ref(whole, lambda _: self._give_back(block))
        return whole.reshape(shape)

    def _give_back(self, block: Any) -> None:
        self._used.pop(id(block), None)
        self._free[block.nbytes].append(block)
