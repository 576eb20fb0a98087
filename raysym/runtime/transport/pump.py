"""A pump: the thread that moves the bytes of streams while the loop of its process computes.

While the loop waits it moves them itself, which spares a change of threads. So the pump looks now
and then whether the loop has computed for a while, takes over then, and sleeps where all rests.
"""

from __future__ import annotations

import os
import select
import threading
import weakref
from contextlib import suppress

from raysym.runtime.transport.stream import StreamChannel

TICK_S = 0.002  # how long the loop computes, at least, before the pump takes over
_PATIENCE = 10  # looks at a waiting loop until the pump sleeps


class Pump:
    """Reads and writes the streams of one exchange."""

    def __init__(self) -> None:
        self.channels: dict[int, StreamChannel] = {}
        self.bell = os.eventfd(0, os.EFD_NONBLOCK)  # rings when the loop should look at streams
        self._wake = os.eventfd(0, os.EFD_NONBLOCK)
        for fd in (self.bell, self._wake):  # not in `close`: another thread may still read it
            weakref.finalize(self, os.close, fd).atexit = False
        self._streams, self._wakes = select.epoll(), select.epoll()
        self._wakes.register(self._wake, select.EPOLLIN)
        self._wakes.register(self._streams.fileno(), 0)
        self._is_free = True  # the loop does not wait
        self._waits = 0  # how often it has
        self._is_on = False  # we look for events of streams
        self._sleeps = False  # only `_wake` ends our waiting, or a stream while `_is_on`
        self._rests = 0  # looks at a loop that waited all the time
        self._is_closed = False
        self._lock = threading.Lock()
        self.thread = threading.Thread(target=self._work, name="raysym-pump", daemon=True)
        self.thread.start()

    def add(self, channel: StreamChannel) -> None:
        """Move the bytes of this one, too."""
        self.channels[channel.fileno()] = channel
        self._streams.register(channel.fileno(), select.EPOLLIN)

    def watch(self, channel: StreamChannel, events: int) -> None:
        """Look for these events of a channel from now on."""
        with suppress(OSError, ValueError):  # it is lost, or closed
            self._streams.modify(channel.fileno(), events)

    def drop(self, fd: int) -> None:
        """Forget a channel that is about to be closed."""
        self.channels.pop(fd, None)

    def rest(self) -> None:
        """The loop waits, and moves the bytes itself."""
        self._is_free = False
        if self._is_on:
            self._look(False)

    def work(self) -> None:
        """The loop has something else to do."""
        self._waits += 1
        self._is_free = True
        if self._sleeps and not self._is_on:
            os.eventfd_write(self._wake, 1)

    def close(self) -> None:
        """End the thread; may be called twice."""
        self._is_closed = True
        os.eventfd_write(self._wake, 1)

    def _look(self, is_on: bool) -> None:
        with self._lock:
            self._is_on = is_on
            self._wakes.modify(self._streams.fileno(), select.EPOLLIN if is_on else 0)

    def _work(self) -> None:
        while not self._is_closed:
            before = self._waits
            for fd, _ in self._wakes.poll(-1 if self._may_sleep() else TICK_S):
                if fd == self._wake:
                    os.eventfd_read(fd)
                else:
                    self._move()
            self._take_turn(is_new=self._waits != before)

    def _may_sleep(self) -> bool:
        """True when nothing is to be done before an event: one of streams, or the loop's start."""
        self._sleeps = self._is_on or self._rests >= _PATIENCE
        if self._is_free and not self._is_on:  # it may have begun before it could see that
            self._sleeps = False
        return self._sleeps

    def _take_turn(self, is_new: bool) -> None:
        """Take over where the loop has computed since the last look; not `is_new`: at one go."""
        self._rests = 0 if is_new or self._is_free else self._rests + 1
        if self._is_free and not is_new and not self._is_on:
            self._look(True)
            if not self._is_free:
                self._look(False)

    def _move(self) -> None:
        for fd, events in self._streams.poll(0):
            channel = self.channels.get(fd)
            if channel is None:
                continue
            if channel.pump(events):
                os.eventfd_write(self.bell, 1)
            if channel.is_lost:  # its end stays readable for ever: the loop is told when it looks
                with suppress(OSError, ValueError):
                    self._streams.unregister(fd)
