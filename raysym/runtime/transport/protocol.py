"""What a transport is: a channel between two endpoints that carries arrays under keys.

A channel never waits: `flush` and `receive` do what can be done now, and its file descriptor tells
when there is more to do. The waiting is done in one place, `exchange.Exchange`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias

from raysym.errors import WorkerError

INLINE_NBYTES = 32 * 1024  # smaller payloads travel with their header
UNIT_NBYTES = 4096  # a message costs one credit, and one more for each of these that goes along
# Credits of one direction of a channel. A Unix socket's buffer, as it usually is, holds as much: so
# the kernel does not refuse what credit allows.
WINDOW = 48
SLOTS = 4  # messages above `INLINE_NBYTES` that may be under way in one direction
CONTROL = ""  # the entry under which orders and reports travel


class Key(NamedTuple):
    """Which array a message carries: a retry repeats the key with the next `attempt`.

    Channels may hand out the plain tuple, which is equal and made in a fraction of the time.
    """

    step: int
    micro: int
    entry: str
    attempt: int = 0


PlainKey: TypeAlias = tuple[int, int, str, int]


class ChannelClosed(WorkerError):
    """The other end of a channel is gone."""

    def __init__(self, peer: str) -> None:
        super().__init__(peer)
        self.peer = peer

    def __str__(self) -> str:
        return f"the channel to {self.peer} is closed: its process is gone or has let go"


def unwatched(channel: Any) -> None:
    """What a channel calls that belongs to no exchange."""


class Channel(Protocol):
    """One end of a two-way channel; made by a transport's `open`."""

    peer: str
    needs_room: bool  # bytes wait until the kernel takes more
    watch_room: Callable[[Any], None]  # called with the channel when `needs_room` has changed

    def fileno(self) -> int:
        """Readable when `receive` has something to do."""

    def send(self, key: PlainKey, array: Any) -> bool:
        """Start to send a host array; True when its memory may be written again."""

    def flush(self) -> bool:
        """Go on sending; False while arrays are held that wait for credit or room."""

    def receive(self) -> Sequence[tuple[PlainKey, Any]]:
        """Everything that has arrived; ChannelClosed when the peer is gone.

        An array may be a read-only view of shared memory, which is given back to the peer when
        the last view of it is gone.
        """

    def close(self) -> None:
        """Let go; the peer sees it at once."""


class Store(Protocol):
    """Shared memory of a node: blocks that several processes map."""

    def allocate(self, nbytes: int) -> tuple[Any, Any]:
        """A new block: a handle that can be sent to others, and the writable bytes."""

    def open(self, handle: Any) -> Any:
        """The bytes of a block of this node."""
