"""A pump: the thread that moves the bytes of streams while the loop of its process computes.

While the loop waits it moves them itself, which spares a change of threads; then the pump rests.
"""

from __future__ import annotations

import os
import select
import threading
from contextlib import suppress

from raysym.runtime.transport.stream import StreamChannel


class Pump:
    """Reads and writes the streams of one exchange."""

    def __init__(self) -> None:
        self.channels: dict[int, StreamChannel] = {}
        self.bell = os.eventfd(0, os.EFD_NONBLOCK)  # rings when the pump has messages in whole
        self._stop = os.eventfd(0)
        self._streams, self._wakes = select.epoll(), select.epoll()
        self._wakes.register(self._stop, select.EPOLLIN)
        self._wakes.register(self._streams.fileno(), select.EPOLLIN)
        threading.Thread(target=self._work, name="raysym-pump", daemon=True).start()

    def add(self, channel: StreamChannel) -> None:
        """Move the bytes of this one, too."""
        self.channels[channel.fileno()] = channel
        self._streams.register(channel.fileno(), select.EPOLLIN)

    def watch(self, channel: StreamChannel, events: int) -> None:
        """Look for these events of a channel from now on."""
        with suppress(OSError):  # it is lost
            self._streams.modify(channel.fileno(), events)

    def drop(self, fd: int) -> None:
        """Forget a channel that is about to be closed."""
        self.channels.pop(fd, None)

    def rest(self) -> None:
        """The loop waits, and takes over."""
        self._wakes.modify(self._streams.fileno(), 0)

    def work(self) -> None:
        """The loop has something else to do."""
        self._wakes.modify(self._streams.fileno(), select.EPOLLIN)

    def close(self) -> None:
        """End the thread."""
        os.eventfd_write(self._stop, 1)

    def _work(self) -> None:
        while self._stop not in dict(self._wakes.poll()):
            for fd, events in self._streams.poll(0):
                self._move(fd, events)
        self._wakes.close()
        self._streams.close()
        os.close(self._stop)
        os.close(self.bell)

    def _move(self, fd: int, events: int) -> None:
        channel = self.channels.get(fd)
        if channel is None:
            return
        if channel.pump(events):
            os.eventfd_write(self.bell, 1)
        if channel.is_lost:  # its end stays readable for ever: the loop is told when it looks
            with suppress(OSError):
                self._streams.unregister(fd)
