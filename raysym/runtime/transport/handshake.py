"""Who may connect: both ends prove that they know the run's secret before anything else is read.

The secret never travels: each end answers the other's random challenge with an HMAC (SHA-256).
"""

from __future__ import annotations

import hmac
import secrets
import socket

from raysym.errors import WorkerError

_NONCE_NBYTES, _PROOF_NBYTES, _NAME_NBYTES = 16, 32, 64
HANDSHAKE_S = 10.0  # how long who connects may keep others waiting


def introduce(sock: socket.socket, secret: bytes, name: str) -> None:
    """The connecting end: say who we are, prove it, and check the other end's proof."""
    mine = secrets.token_bytes(_NONCE_NBYTES)
    padded = name.encode().ljust(_NAME_NBYTES, b"\0")
    theirs = _read(sock, _NONCE_NBYTES)
    sock.sendall(padded + mine + _proof(secret, b"connect", padded, theirs))
    if not hmac.compare_digest(_read(sock, _PROOF_NBYTES), _proof(secret, b"accept", b"", mine)):
        raise WorkerError(f"worker {name}: the other end of a connection has another secret")


def welcome(sock: socket.socket, secret: bytes) -> str:
    """The accepting end: the name of who connects; WorkerError when it does not prove itself."""
    mine = secrets.token_bytes(_NONCE_NBYTES)
    sock.sendall(mine)
    hello = _read(sock, _NAME_NBYTES + _NONCE_NBYTES + _PROOF_NBYTES)
    padded, theirs = hello[:_NAME_NBYTES], hello[_NAME_NBYTES : _NAME_NBYTES + _NONCE_NBYTES]
    if not hmac.compare_digest(hello[-_PROOF_NBYTES:], _proof(secret, b"connect", padded, mine)):
        raise WorkerError("a connection without the secret of this run was refused")
    sock.sendall(_proof(secret, b"accept", b"", theirs))
    return padded.rstrip(b"\0").decode()


def _proof(secret: bytes, role: bytes, name: bytes, challenge: bytes) -> bytes:
    return hmac.digest(secret, role + name + challenge, "sha256")


def _read(sock: socket.socket, nbytes: int) -> bytes:
    got = b""
    while len(got) < nbytes:
        part = sock.recv(nbytes - len(got))
        if not part:
            raise WorkerError("a connection ended during the handshake")
        got += part
    return got
