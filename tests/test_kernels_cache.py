"""The disk cache of machine code: two processes at once, damaged entries, a full disk."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from raysym.kernels import cache as cache_module
from raysym.kernels.cache import DiskCache
from raysym.kernels.claims import FILE

ROOT = Path(__file__).parent.parent
CODE = b"machine code" * 100


def entries(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.name != FILE)


def test_a_second_process_finds_what_the_first_made(tmp_path: Path) -> None:
    assert DiskCache(tmp_path).get("k", lambda: CODE) == CODE
    again = DiskCache(tmp_path)
    assert again.get("k", lambda: b"other") == CODE
    assert (again.hits, again.misses) == (1, 0)


def test_other_keys_have_other_entries(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path)
    assert [cache.get(key, key.encode) for key in "ab"] == [b"a", b"b"]
    assert len(entries(tmp_path)) == 2


@pytest.mark.parametrize("damage", [b"", b"x", CODE, b"\0" * 32 + CODE])
def test_a_damaged_entry_is_made_anew(tmp_path: Path, damage: bytes) -> None:
    DiskCache(tmp_path).get("k", lambda: CODE)
    path = entries(tmp_path)[0]
    path.write_bytes(damage)
    assert DiskCache(tmp_path).get("k", lambda: CODE) == CODE
    assert DiskCache(tmp_path).get("k", lambda: b"never") == CODE


def test_a_cut_entry_is_made_anew(tmp_path: Path) -> None:
    DiskCache(tmp_path).get("k", lambda: CODE)
    path = entries(tmp_path)[0]
    path.write_bytes(path.read_bytes()[:-1])
    assert DiskCache(tmp_path).get("k", lambda: CODE) == CODE


def test_a_full_disk_costs_only_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(cache_module.os, "replace", full)
    cache = DiskCache(tmp_path)
    assert cache.get("k", lambda: CODE) == CODE
    assert entries(tmp_path) == []  # nothing half-written stays


def test_a_folder_that_cannot_be_made_costs_only_time(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert DiskCache(tmp_path / "file" / "cache").get("k", lambda: CODE) == CODE


WRITER = """
import sys
from pathlib import Path
from raysym.kernels.cache import DiskCache
for i in range(200):
    code = bytes([i]) * 5000
    assert DiskCache(Path(sys.argv[1])).get(str(i), lambda: code) == code
"""


def test_two_processes_at_once(tmp_path: Path) -> None:
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    writers = [subprocess.Popen(command, env=env) for _ in range(2)]
    assert [writer.wait(60) for writer in writers] == [0, 0]
    cache = DiskCache(tmp_path)
    assert all(cache.get(str(i), bytes) == bytes([i]) * 5000 for i in range(200))
    assert len(entries(tmp_path)) == 200
