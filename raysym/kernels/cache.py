"""Entries on disk, keyed by what they were made from; safe with many writers and bad files.

Whoever makes an entry claims it first, so that processes of one node share the work. What was used
longest ago goes when there is too much (see room.py).
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path

from raysym.kernels.claims import claims_in
from raysym.kernels.room import MOST_BYTES, Room, note_use

_DIGEST = 32  # bytes of SHA-256 in front of the code


@lru_cache(maxsize=1)
def default_folder() -> Path:
    """``raysym/kernels`` in the user's cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "raysym" / "kernels"


@lru_cache(maxsize=1)
def source_digest() -> str:
    """A digest of the generator and of the op pages that it asks: other sources, other code."""
    digest, here = hashlib.sha256(), Path(__file__).parent
    for path in (*sorted(here.glob("*.py")), *sorted((here.parent / "ops").rglob("*.py"))):
        digest.update(path.read_bytes())
    return digest.hexdigest()


class DiskCache:
    """Entries by key in one folder; what cannot be read or written counts as absent.

    All entries together take about `nbytes` on disk at most.
    """

    def __init__(self, folder: Path, nbytes: int = MOST_BYTES) -> None:
        self.folder, self.nbytes = folder, nbytes
        self.hits = self.misses = 0
        self._claims, self._room = claims_in(folder), Room(folder, nbytes)

    def get(self, key: str, make: Callable[[], bytes]) -> bytes:
        """The entry of `key`, from disk or made now and written for the next process.

        Waits while another process makes it.
        """
        found = self._found(key)
        if found is not None:
            return found
        with self._claims.held(_number(key)):
            found = self._found(key)  # whoever we waited for has made it
            return self._made(key, make) if found is None else found

    def has(self, key: str) -> bool:
        """Whether the entry can be read."""
        return _read(self._path(key)) is not None

    def offer(self, key: str, make: Callable[[], bytes]) -> None:
        """Make the entry unless it is there or another process is making it."""
        if self._claims.take(_number(key), wait=False):
            try:
                if not self.has(key):
                    self._made(key, make)
            finally:
                self._claims.leave(_number(key))

    @contextmanager
    def slot(self, n: int) -> Iterator[bool]:
        """A block in which we hold one of `n` places for processes of this node, if one is free."""
        taken = next((i for i in range(n) if self._claims.take(i, wait=False)), None)
        try:
            yield taken is not None
        finally:
            if taken is not None:
                self._claims.leave(taken)

    def _path(self, key: str) -> Path:
        return self.folder / _name(key)

    def _found(self, key: str) -> bytes | None:
        code = _read(self._path(key))
        self.hits += code is not None
        return code

    def _made(self, key: str, make: Callable[[], bytes]) -> bytes:
        self.misses += 1
        code = make()
        with suppress(OSError):  # a full or read-only disk costs time at the next start, no more
            _write(self._path(key), code)
            self._room.add(_DIGEST + len(code))
        return code


def _name(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def _number(key: str) -> int:
    return (1 << 16) + int(_name(key)[:8], 16) // 4


def _read(path: Path) -> bytes | None:
    try:
        data = path.read_bytes()
    except OSError:
        return None
    code = data[_DIGEST:]
    if not code or hashlib.sha256(code).digest() != data[:_DIGEST]:
        return None
    note_use(path)
    return code


def _write(path: Path, code: bytes) -> None:
    # A file of its own, renamed when complete: readers see all of it or nothing.
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(hashlib.sha256(code).digest() + code)
        os.replace(name, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(name)
        raise
