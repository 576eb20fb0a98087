"""Room in a cache folder: what was used longest ago goes before the rest is too much.

Any number of processes may make room at once: files that are gone already are nobody's business.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from raysym.kernels.claims import FILE

# The kernels of one ResNet-50, 230 files, take 1.6 MB: room for more than a hundred such networks,
# and still so few files that looking at all of them takes a fraction of a second.
MOST_BYTES = 1 << 28
_SHARE = 8  # a process looks again when it has written this part of what may be there
_BLOCK = 4096  # bytes that file systems give out
_FRESH_S = 60.0  # a use is noted once in so many seconds


class Room:
    """Keeps a folder below `most` bytes on disk, as far as this process adds to it."""

    def __init__(self, folder: Path, most: int) -> None:
        self.folder, self.most = folder, most
        self._new = most  # bytes written since the last look; other processes may have filled it

    def add(self, nbytes: int) -> None:
        """Note a new file; makes room now and then, so that there is always some left."""
        share = self.most // _SHARE
        self._new += _on_disk(nbytes)
        if self._new > share:
            self._new = 0
            make_room(self.folder, self.most - share)


def make_room(folder: Path, most: int) -> None:
    """Remove what was used longest ago until the files take at most so many bytes."""
    found = sorted(_entries(folder))
    taken = sum(entry.nbytes for entry in found)
    for entry in found:
        if taken <= most:
            return
        with suppress(OSError):
            os.unlink(entry.path)
        taken -= entry.nbytes


def note_use(path: Path) -> None:
    """Let a file count as used now; a folder that is read-only stays as it is."""
    with suppress(OSError):
        if time.time() - path.stat().st_mtime > _FRESH_S:
            os.utime(path)


class _Entry(NamedTuple):
    used: float
    nbytes: int
    path: str


def _entries(folder: Path) -> Iterator[_Entry]:
    with suppress(OSError), os.scandir(folder) as files:
        for file in files:
            with suppress(OSError):  # gone meanwhile
                about = file.stat()
                if file.name != FILE:
                    yield _Entry(about.st_mtime, _on_disk(about.st_size), file.path)


def _on_disk(nbytes: int) -> int:
    return -(-nbytes // _BLOCK) * _BLOCK
