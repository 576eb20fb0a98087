"""Claims: which process of this node does which piece of work.

A claim is a lock on one byte of a file. It ends with its process, however that ends.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path

FILE = "claims"


@lru_cache
def claims_in(folder: Path) -> Claims:
    """The claims of a folder. One object a process: closing a file gives up all locks on it."""
    return Claims(folder)


class Claims:
    """Numbered claims; where files cannot be locked, everybody gets each."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: int | None = None

    def take(self, number: int, wait: bool = True) -> bool:
        """Claim a number; False when another process has it and we do not `wait`."""
        try:
            file = self._open()
            fcntl.lockf(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB), 1, number)
        except OSError as error:
            return error.errno not in (errno.EACCES, errno.EAGAIN) or wait
        return True

    def leave(self, number: int) -> None:
        """Give a claim back."""
        with suppress(OSError):
            fcntl.lockf(self._open(), fcntl.LOCK_UN, 1, number)

    @contextmanager
    def held(self, number: int) -> Iterator[None]:
        """A block for which we wait until the claim is ours."""
        self.take(number)
        try:
            yield
        finally:
            self.leave(number)

    def _open(self) -> int:
        if self._file is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._file = os.open(self._folder / FILE, os.O_RDWR | os.O_CREAT, 0o666)
        return self._file
