"""A port: where an endpoint listens, and how it opens channels to others.

Two sockets: a Unix one (abstract, so no file is left behind) for this node and a TCP one bound to
the node's own address. Whoever connects to either proves that it knows the run's secret.
"""

from __future__ import annotations

import secrets
import select
import socket
import time
from typing import NamedTuple

from raysym.errors import StallError, WorkerError
from raysym.runtime.transport.handshake import HANDSHAKE_S, introduce, welcome
from raysym.runtime.transport.ring import RingChannel
from raysym.runtime.transport.stream import StreamChannel

OBJECT_REF, OBJECT_STORE, SOCKET = "object_ref", "object_store", "socket"
TRANSPORTS = (OBJECT_REF, OBJECT_STORE, SOCKET)
REACH_S = 60.0  # how long a peer may take to answer: it does when it has reached its own peers
_FAMILY = {
    OBJECT_STORE: (socket.AF_UNIX, socket.SOCK_SEQPACKET),
    SOCKET: (socket.AF_INET, socket.SOCK_STREAM),
}


class Address(NamedTuple):
    """Where an endpoint can be reached: its node, its Unix name, and host and port for TCP."""

    node: str
    unix: str
    host: str
    port: int


def choose(one: Address, other: Address) -> str:
    """The fastest transport between two endpoints."""
    return OBJECT_STORE if one.node == other.node else SOCKET


class Port:
    """Listens for peers under the secret of a run."""

    def __init__(self, name: str, secret: bytes, node: str, host: str) -> None:
        self._name, self._secret = name, secret
        unix = f"raysym-{secrets.token_hex(16)}"
        self._unix = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._unix.bind(f"\0{unix}")
        self._unix.listen(256)
        try:
            self._tcp = socket.create_server((host, 0), backlog=256)
        except OSError:  # the host is not of this machine
            self._unix.close()
            raise
        self.address = Address(node, unix, host, self._tcp.getsockname()[1])

    def open(self, address: Address, peer: str, transport: str) -> RingChannel | StreamChannel:
        """A channel to the endpoint `peer`; WorkerError when it cannot be reached."""
        sock = socket.socket(*_FAMILY[transport])
        try:
            sock.settimeout(REACH_S)
            is_tcp = transport == SOCKET
            sock.connect((address.host, address.port) if is_tcp else f"\0{address.unix}")
            introduce(sock, self._secret, self._name)
            return _channel(sock, peer)
        except (OSError, WorkerError) as error:
            sock.close()
            raise WorkerError(f"worker {self._name} cannot reach {peer}: {error}") from None

    def accept(self, timeout_s: float) -> RingChannel | StreamChannel:
        """A channel to the next peer that proves itself; others are turned away.

        StallError when nobody comes in time.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            left = max(0.0, deadline - time.monotonic())
            ready, _, _ = select.select([self._unix, self._tcp], [], [], left)
            if not ready:
                raise StallError(f"worker {self._name}: no peer connected in {timeout_s:g} s")
            sock, _ = ready[0].accept()
            sock.settimeout(HANDSHAKE_S)
            try:
                return _channel(sock, welcome(sock, self._secret))
            except (OSError, WorkerError):
                sock.close()

    def close(self) -> None:
        """Stop listening."""
        self._unix.close()
        self._tcp.close()


def _channel(sock: socket.socket, peer: str) -> RingChannel | StreamChannel:
    is_unix = sock.family == socket.AF_UNIX
    return RingChannel(sock, peer) if is_unix else StreamChannel(sock, peer)
