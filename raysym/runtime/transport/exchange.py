"""An exchange: all channels of one endpoint, and the one place where it waits.

While it waits for one message, or for credit, it takes in whatever arrives from anybody: so two
endpoints that both want to send cannot block each other.
"""

from __future__ import annotations

import os
import select
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from raysym.errors import StallError
from raysym.runtime.transport.protocol import CONTROL, Channel, ChannelClosed, Key, PlainKey
from raysym.runtime.transport.pump import Pump
from raysym.runtime.transport.stream import StreamChannel

ROOM = Key(0, 0, "room")  # what a sender waits for whose peer gives no credit
_HAS_ROOM = select.EPOLLOUT
_RETRY_S = 0.2  # how often postponed credits are tried again while nothing arrives

# Called with (peer, key, array) for a message that belongs to no program; may raise.
OnControl = Callable[[str, PlainKey, Any], None]


class Exchange:
    """Sends and receives by peer and key."""

    def __init__(self, name: str, on_control: OnControl) -> None:
        self.name = name
        self.channels: dict[str, Channel] = {}
        self.waits_for: tuple[str, PlainKey] | None = None  # peer and message, for the diagnosis
        self.events = 0  # how often something has arrived
        self._on_control = on_control
        self._by_fd: dict[int, Channel] = {}
        self._arrived: dict[tuple[str, PlainKey], Any] = {}
        self._epoll = select.epoll()
        self._pump: Pump | None = None  # for streams, while we do something else
        self._oldest = 0
        self._control: deque[tuple[str, PlainKey, Any]] = deque()

    def add(self, channel: Channel) -> None:
        """Take a channel in; it is known by its peer's name."""
        self.channels[channel.peer] = channel
        self._by_fd[channel.fileno()] = channel
        self._epoll.register(channel.fileno(), select.EPOLLIN)
        channel.watch_room = self._watch_room
        if isinstance(channel, StreamChannel):
            self._pumped().add(channel)

    def _pumped(self) -> Pump:
        if self._pump is None:
            self._pump = Pump()
            self._epoll.register(self._pump.bell, select.EPOLLIN)
        return self._pump

    def _watch_room(self, channel: Channel) -> None:
        """Look for room in the kernel, or no longer; called on the pump's thread as well."""
        events = select.EPOLLIN | (select.EPOLLOUT if channel.needs_room else 0)
        with suppress(OSError, ValueError):  # it has been dropped, or all is closed
            self._epoll.modify(channel.fileno(), events)
        if self._pump is not None and isinstance(channel, StreamChannel):
            self._pump.watch(channel, events)

    def send(self, to: str, key: PlainKey, array: Any, timeout_s: float) -> None:
        """Send a host array, whose memory may be written again; waits where credit is missing.

        ChannelClosed when the peer is gone; StallError when it gives no credit in time.
        """
        channel = self.channels.get(to)
        if channel is None or not channel.send(key, array):
            self.finish(to, timeout_s)

    def finish(self, to: str, timeout_s: float) -> None:
        """Send what is left to send to a peer; errors as for `send`."""
        self.waits_for, deadline = (to, ROOM), time.monotonic() + timeout_s
        while not self._channel(to).flush():
            self._wait(deadline)
        self.waits_for = None

    def recv(self, source: str, key: PlainKey, timeout_s: float) -> Any:
        """The array under `key` from `source`; errors as for `send`."""
        wanted, arrived = (source, key), self._arrived
        if wanted not in arrived:
            self._channel(source)
            self.waits_for = wanted
            patience_s = timeout_s if timeout_s < _RETRY_S else _RETRY_S
            left_s = timeout_s if self.wait(patience_s) else timeout_s - patience_s
            if wanted not in arrived:  # most often it is: no clock is read for that
                deadline = time.monotonic() + left_s
                while wanted not in arrived:
                    self._wait(deadline)
            self.waits_for = None
        return arrived.pop(wanted)

    def wait(self, timeout_s: float) -> bool:
        """Take in what arrives; False when nothing came in time.

        ChannelClosed names any peer that is gone. What could not be sent is tried again in silence.
        """
        if self._control:
            self._hand_out()
            return True
        try:
            ready = self._epoll.poll(timeout_s) if self._pump is None else self._relieve(timeout_s)
        except (ValueError, OSError):  # another thread has closed it
            raise ChannelClosed(self.name) from None
        self.events += len(ready)
        for fd, event in ready:
            channel = self._by_fd.get(fd)
            if channel is None:
                self._take_pumped()
            elif event != _HAS_ROOM:
                self._take(channel)
            else:
                with suppress(ChannelClosed):  # told when we next receive
                    channel.flush()
        if not ready:
            for channel in self.channels.values():
                channel.flush()
        return bool(ready)

    def wait_until(self, is_done: Callable[[], bool], timeout_s: float) -> bool:
        """Take in what arrives until it `is_done`; False when it is not in time."""
        deadline = time.monotonic() + timeout_s
        while not is_done():
            left = deadline - time.monotonic()
            if not self.wait(max(left, 0.0)) or left <= 0:
                return is_done()
        return True

    def forget_before(self, step: int) -> None:
        """Messages of earlier steps are dropped, those here and those still to come."""
        self._oldest = step
        for wanted in [w for w in self._arrived if w[1][0] < step]:
            del self._arrived[wanted]

    def close(self) -> None:
        """Close all channels."""
        if self._pump is not None:
            self._pump.close()
        for channel in list(self.channels.values()):  # another thread may drop one
            channel.close()
        self._epoll.close()
        self._arrived.clear()

    def _relieve(self, timeout_s: float) -> list[tuple[int, int]]:
        """Wait in place of the pump."""
        assert self._pump is not None
        self._pump.rest()
        try:
            return self._epoll.poll(timeout_s)
        finally:
            self._pump.work()

    def _take_pumped(self) -> None:
        """Take in what the pump has read."""
        assert self._pump is not None
        os.eventfd_read(self._pump.bell)
        try:
            for channel in list(self._pump.channels.values()):
                self._take(channel)
        except BaseException:
            os.eventfd_write(self._pump.bell, 1)  # others have something as well
            raise

    def _channel(self, peer: str) -> Channel:
        channel = self.channels.get(peer)
        if channel is None:
            raise ChannelClosed(peer)
        return channel

    def _wait(self, deadline: float) -> None:
        left = deadline - time.monotonic()
        if left <= 0:
            assert self.waits_for is not None
            peer, key = self.waits_for
            late = f"waits for {key[2]} from {peer} past its deadline"
            raise StallError(f"worker {self.name} {late}")
        self.wait(left if left < _RETRY_S else _RETRY_S)

    def _take(self, channel: Channel) -> None:
        try:
            arrived = channel.receive()
        except ChannelClosed:
            self._drop(channel)
            raise
        peer, control = channel.peer, self._control
        for key, array in arrived:
            step, _, entry, _ = key
            if entry == CONTROL:
                control.append((peer, key, array))
            elif step >= self._oldest:
                self._arrived[peer, key] = array
        if control:  # last, since it may raise, and nothing that has arrived may be lost
            self._hand_out()

    def _hand_out(self) -> None:
        while self._control:
            self._on_control(*self._control.popleft())

    def _drop(self, channel: Channel) -> None:
        """Forget a dead channel: its descriptor would stay readable for ever."""
        fd = next((fd for fd, own in self._by_fd.items() if own is channel), -1)
        self._by_fd.pop(fd, None)
        with suppress(OSError, ValueError):  # another thread has closed it
            self._epoll.unregister(fd)
        if self._pump is not None:
            self._pump.drop(fd)
        del self.channels[channel.peer]
        channel.close()
