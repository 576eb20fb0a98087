"""The disk cache of machine code: two processes, damaged entries, little room, a full disk."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from raysym.kernels import cache as cache_module
from raysym.kernels.cache import DiskCache
from raysym.kernels.claims import FILE
from raysym.kernels.room import make_room

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


def test_a_disk_that_fills_up_within_an_entry_costs_only_time(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(CODE) // 2, hard))  # files end there
    try:
        assert DiskCache(tmp_path).get("k", lambda: CODE) == CODE
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert entries(tmp_path) == []
    assert DiskCache(tmp_path).get("k", lambda: b"other") == b"other"


def test_a_folder_that_cannot_be_made_costs_only_time(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert DiskCache(tmp_path / "file" / "cache").get("k", lambda: CODE) == CODE


WRITER = """
import sys
from pathlib import Path
from raysym.kernels.cache import DiskCache
cache = DiskCache(Path(sys.argv[1]), int(sys.argv[2]))
for i in range(200):
    code = bytes([i]) * 5000
    assert cache.get(str(i), lambda: code) == code
"""


def write_twice_at_once(folder: Path, nbytes: int) -> None:
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", WRITER, str(folder), str(nbytes)]
    writers = [subprocess.Popen(command, env=env) for _ in range(2)]
    assert [writer.wait(60) for writer in writers] == [0, 0]


def test_two_processes_at_once(tmp_path: Path) -> None:
    write_twice_at_once(tmp_path, 1 << 28)
    cache = DiskCache(tmp_path)
    assert all(cache.get(str(i), bytes) == bytes([i]) * 5000 for i in range(200))
    assert len(entries(tmp_path)) == 200


# ----- room


def used_ago(folder: Path, key: str, seconds: float) -> Path:
    """The entry of a key, as if it had last been used so long ago."""
    path = DiskCache(folder)._path(key)
    now = path.stat().st_mtime
    os.utime(path, (now - seconds, now - seconds))
    return path


def on_disk(folder: Path) -> int:
    """Bytes of whole blocks that all entries take."""
    return sum(-(-path.stat().st_size // 4096) * 4096 for path in entries(folder))


def test_what_was_used_longest_ago_goes(tmp_path: Path) -> None:
    for key in "abcd":
        DiskCache(tmp_path).get(key, lambda: CODE)
    ages = {"a": 4e4, "b": 3e4, "c": 2e4, "d": 1e4}
    paths = {key: used_ago(tmp_path, key, age) for key, age in ages.items()}
    assert DiskCache(tmp_path).get("a", bytes) == CODE  # used again
    make_room(tmp_path, 2 * 4096)
    assert entries(tmp_path) == sorted([paths["a"], paths["d"]])


def test_the_folder_stays_within_its_bytes(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path, 16 * 4096)
    for i in range(60):
        cache.get(str(i), lambda: CODE)
        assert on_disk(tmp_path) <= cache.nbytes
    assert len(entries(tmp_path)) > 10
    assert cache.has("59")


def test_a_process_that_writes_little_makes_room_too(tmp_path: Path) -> None:
    for i in range(20):
        DiskCache(tmp_path, 8 * 4096).get(str(i), lambda: CODE)
    assert on_disk(tmp_path) <= 8 * 4096


def test_what_a_killed_process_left_behind_goes_as_well(tmp_path: Path) -> None:
    (tmp_path / "tmp1234").write_bytes(CODE)
    os.utime(tmp_path / "tmp1234", (0, 0))
    cache = DiskCache(tmp_path, 4096)
    cache.get("k", lambda: CODE)
    assert not (tmp_path / "tmp1234").exists()


def test_two_processes_at_once_with_little_room(tmp_path: Path) -> None:
    """Each takes what the other needs away, and both get what they ask for."""
    room = 32 * 4096
    write_twice_at_once(tmp_path, room)
    assert 0 < on_disk(tmp_path) <= 2 * room  # each adds an eighth between two looks
    DiskCache(tmp_path, room).get("one more", lambda: CODE)
    assert on_disk(tmp_path) <= room


def test_no_room_can_be_made_in_a_folder_that_is_not_there(tmp_path: Path) -> None:
    make_room(tmp_path / "nowhere", 0)
    assert list(tmp_path.iterdir()) == []
