"""The transport `socket`: TCP between nodes, received straight into preallocated arrays."""

from __future__ import annotations

import socket
import weakref
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import numpy as np

from raysym.runtime.transport.credit import Credit
from raysym.runtime.transport.frame import (
    CREDIT,
    INLINE,
    MAX_HEADER_NBYTES,
    PREFIX_NBYTES,
    bytes_of,
    header_nbytes,
    pack,
    pack_credits,
    unpack,
)
from raysym.runtime.transport.protocol import INLINE_NBYTES, SLOTS, WINDOW, ChannelClosed, PlainKey

_SOCKET_NBYTES = 4 << 20  # what the kernel holds for us in each direction


class StreamChannel:
    """One end of a TCP connection."""

    def __init__(self, sock: socket.socket, peer: str) -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SOCKET_NBYTES)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SOCKET_NBYTES)
        self.peer, self._sock = peer, sock
        self.needs_room = False
        self._credit = Credit(WINDOW)
        self._work: deque[Iterator[bool]] = deque()
        self._give_back: deque[bytes] = deque()  # credits; sent between messages, not within one
        self._buffer = bytearray(MAX_HEADER_NBYTES + INLINE_NBYTES)
        self._end = 0
        self._body: tuple[PlainKey, Any, memoryview] | None = None  # half here
        self._blocks = _Blocks()

    def fileno(self) -> int:
        """The socket."""
        return self._sock.fileno()

    # ----- sending

    def send(self, key: PlainKey, array: Any) -> bool:
        """Start to send; True when the kernel has all of it."""
        self._work.append(self._message(key, np.asarray(array, order="C")))
        return self.flush()

    def flush(self) -> bool:
        """Go on sending; False while credit or room is missing."""
        self.needs_room = False
        while self._work or self._give_back:
            if not self._work:
                self._work.append(self._push_credits())
            if next(self._work[0], False):
                return False
            self._work.popleft()
        return True

    def _message(self, key: PlainKey, array: Any) -> Iterator[bool]:
        # While we wait for credit the peer may wait for ours: that must not queue up behind us.
        yield from self._push_credits()
        while not self._credit.left:
            yield True
            yield from self._push_credits()
        self._credit.left -= 1
        header, body = pack(INLINE, key, array, array.nbytes, *self._credit.give()), bytes_of(array)
        if array.nbytes <= INLINE_NBYTES:
            yield from self._push(memoryview(header + body.tobytes()))
        else:
            yield from self._push(memoryview(header), socket.MSG_MORE)
            yield from self._push(memoryview(body))

    def _push(self, rest: memoryview, flags: int = 0) -> Iterator[bool]:
        while rest:
            try:
                rest = rest[self._sock.send(rest, flags) :]
            except BlockingIOError:
                self.needs_room = True
                yield True
            except OSError:
                raise ChannelClosed(self.peer) from None

    def _push_credits(self) -> Iterator[bool]:
        while self._give_back:
            yield from self._push(memoryview(self._give_back.popleft()))

    # ----- receiving

    def receive(self) -> list[tuple[PlainKey, Any]]:
        """All messages that are complete now."""
        found: list[tuple[PlainKey, Any]] = []
        if self._body is not None:
            self._fill_body(found)
        else:
            self._end += self._read(memoryview(self._buffer)[self._end :])
            start = 0
            while (used := self._parse(start, found)) > 0:
                start += used
            left = self._end - start
            self._buffer[:left] = self._buffer[start : self._end]
            self._end = left
        with suppress(ChannelClosed):  # told by the next receive: these messages have arrived
            self._settle()
        return found

    def _read(self, room: memoryview) -> int:
        try:
            nbytes = self._sock.recv_into(room)
        except BlockingIOError:
            return 0
        except OSError:
            nbytes = 0
        if not nbytes:
            raise ChannelClosed(self.peer)
        return nbytes

    def _parse(self, start: int, found: list[tuple[PlainKey, Any]]) -> int:
        """Take one message out of the buffer; how many bytes it used there, 0 for none."""
        view = memoryview(self._buffer)[start : self._end]
        if len(view) < PREFIX_NBYTES or len(view) < header_nbytes(view):
            return 0
        frame, key, at, count, _ = unpack(view)
        self._credit.left += count
        if frame.kind == CREDIT:
            return at
        array: Any = self._blocks.array(frame.shape, frame.dtype, frame.nbytes)
        target, here = memoryview(bytes_of(array)), view[at : at + frame.nbytes]
        target[: len(here)] = here
        self._body = key, array, target[len(here) :]
        self._finish_body(found)
        return at + len(here)

    def _fill_body(self, found: list[tuple[PlainKey, Any]]) -> None:
        assert self._body is not None
        key, array, rest = self._body
        self._body = key, array, rest[self._read(rest) :]
        self._finish_body(found)

    def _finish_body(self, found: list[tuple[PlainKey, Any]]) -> None:
        assert self._body is not None
        key, array, rest = self._body
        if not rest:
            self._body = None
            self._credit.owed += 1
            array.flags.writeable = False
            found.append((key, array))

    def _settle(self) -> None:
        if self._credit.is_due():
            self._give_back.append(pack_credits(*self._credit.give()))
        self.flush()

    def close(self) -> None:
        """Let go of the socket."""
        self._sock.close()


class _Blocks:
    """Blocks for large arrays, reused when the last view of one is gone.

    Fresh pages cost three times as much as the copy into them.
    """

    def __init__(self) -> None:
        self._free: dict[int, deque[Any]] = {}
        self._used: dict[int, Any] = {}

    def array(self, shape: tuple[int, ...], dtype: np.dtype[Any], nbytes: int) -> Any:
        """An array of that many bytes, with whatever content."""
        if nbytes <= INLINE_NBYTES:
            return np.empty(shape, dtype)
        free = self._free.setdefault(nbytes, deque(maxlen=SLOTS))
        block: Any = free.popleft() if free else np.empty(nbytes, np.uint8)
        whole = np.frombuffer(memoryview(block), dtype)
        self._used[id(block)] = weakref.ref(whole, lambda _: self._give_back(block))
        return whole.reshape(shape)

    def _give_back(self, block: Any) -> None:
        self._used.pop(id(block), None)
        self._free[block.nbytes].append(block)
