"""Machine code on disk, keyed by what it was made from; safe with many writers and bad files.

A kernel's IR is a function of its spec and of this package's source, so those two stand for it:
a warm start builds no IR at all.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

_DIGEST = 32  # bytes of SHA-256 in front of the code


@lru_cache(maxsize=1)
def default_folder() -> Path:
    """``raysym/kernels`` in the user's cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "raysym" / "kernels"


@lru_cache(maxsize=1)
def source_digest() -> str:
    """A digest of the generator: other sources make other code."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


class DiskCache:
    """Code by key in one folder; what cannot be read or written counts as absent."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.hits = self.misses = 0

    def get(self, key: str, make: Callable[[], bytes]) -> bytes:
        """The code of `key`, from disk or made now and written for the next process."""
        path = self.folder / hashlib.sha256(key.encode()).hexdigest()
        code = _read(path)
        if code is not None:
            self.hits += 1
            return code
        self.misses += 1
        code = make()
        with suppress(OSError):  # a full or read-only disk costs time at the next start, no more
            _write(path, code)
        return code


def _read(path: Path) -> bytes | None:
    try:
        data = path.read_bytes()
    except OSError:
        return None
    code = data[_DIGEST:]
    return code if code and hashlib.sha256(code).digest() == data[:_DIGEST] else None


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
