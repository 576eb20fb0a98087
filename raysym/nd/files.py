"""Saving arrays to MXNet's ``.params`` files and loading them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from raysym.errors import MXNetError
from raysym.ndarray import NDArray, restored
from raysym.ndarray_file import Stored, dump_list, parse_list

Loaded = dict[str, NDArray] | list[NDArray]


def save(
    fname: str | os.PathLike[str], data: NDArray | Sequence[NDArray] | Mapping[str, NDArray]
) -> None:
    """Write one array, a list of arrays or a dict of named arrays.

    TypeError if a member is no NDArray or a name no string, ValueError for other `data`,
    MXNetError if the file cannot be written.
    """
    path = _path("save", fname)
    if isinstance(data, NDArray):
        data = [data]
    if isinstance(data, dict):
        names, arrays = list(data), list(data.values())
    elif isinstance(data, list):
        names, arrays = [], data
    else:
        kind = type(data).__name__
        raise ValueError(f"save: data: got {kind}, expected an NDArray, a list or a dict of them")
    _check_members(names, arrays)
    content = dump_list([(x.asnumpy(), x.context) for x in arrays], names)
    try:
        path.write_bytes(content)
    except OSError as error:
        raise MXNetError(f"save: cannot write {path}: {error.strerror}") from None


def _check_members(names: Sequence[Any], arrays: Sequence[Any]) -> None:
    wrong = [x for x in names if not isinstance(x, str)]
    wrong += [x for x in arrays if not isinstance(x, NDArray)]
    if wrong:
        kind = type(wrong[0]).__name__
        raise TypeError(f"save: got a member of type {kind}, expected str names and NDArrays")


def load(fname: str | os.PathLike[str]) -> Loaded:
    """The arrays of a file: a dict if they have names, else a list.

    GPU arrays come back on their GPU if there is one, else on cpu(0); sparse ones as dense.
    MXNetError if the file is missing or is no list of arrays.
    """
    path = _path("load", fname)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise MXNetError(f"load: cannot read {path}: {error.strerror}") from None
    return _loaded(content, str(path))


def load_frombuffer(buf: bytes | bytearray | memoryview) -> Loaded:
    """`load` from the bytes of a file."""
    if not isinstance(buf, bytes | bytearray | memoryview):
        raise TypeError(f"load_frombuffer: buf: got {type(buf).__name__}, expected bytes")
    return _loaded(bytes(buf), "buffer")


def _loaded(content: bytes, source: str) -> Loaded:
    stored, names = parse_list(content, source)
    arrays = [_restored(member, source) for member in stored]
    return dict(zip(names, arrays, strict=True)) if names else arrays


def _restored(stored: Stored, source: str) -> NDArray:
    if stored.array is None:
        raise MXNetError(f"load: {source} holds an array that was never given a shape")
    return restored(stored.array, stored.ctx)


def _path(what: str, fname: Any) -> Path:
    if not isinstance(fname, str | os.PathLike):
        raise TypeError(f"{what}: fname: got {type(fname).__name__}, expected a str")
    return Path(fname)
