"""Frames: the header that goes before a payload, packed to bytes and read back."""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from raysym.runtime.transport.protocol import Key

INLINE, SLOT, PART, CREDIT = range(4)  # payload follows; lies in a slot; piece of one; no payload

# kind, dims, bytes of the entry's name, micro-batch, step, attempt, slot, offset, dtype, payload
_HEAD = struct.Struct("<BBHiqiiq8sq")
HEAD_NBYTES = _HEAD.size
MAX_HEADER_NBYTES = HEAD_NBYTES + 255 * 8 + 65535


class Frame(NamedTuple):
    """A header as read: where the payload is and which array it belongs to."""

    kind: int
    key: Key
    dtype: str
    shape: tuple[int, ...]
    slot: int
    offset: int
    nbytes: int


def pack(
    kind: int, key: Key, array: Any, slot: int = 0, offset: int = 0, nbytes: int = -1
) -> bytes:
    """The header of a message with the payload `array`, or with `nbytes` of it at `offset`."""
    name, shape = key.entry.encode(), array.shape
    fixed = _HEAD.pack(
        kind, len(shape), len(name), key.micro, key.step, key.attempt, slot, offset,
        _code(array.dtype), array.nbytes if nbytes < 0 else nbytes,
    )  # fmt: skip
    return fixed + _dims(len(shape)).pack(*shape) + name


def pack_credit(count: int, slots: list[int]) -> bytes:
    """A message that gives back room for `count` messages and the named slots."""
    body = _dims(len(slots)).pack(*slots)
    return _HEAD.pack(CREDIT, len(slots), 0, 0, 0, 0, count, 0, b"", 0) + body


def bytes_of(array: Any) -> Any:
    """The bytes of a C-contiguous array, as a flat view."""
    return array.reshape(-1).view(np.uint8) if array.size else np.empty(0, np.uint8)


def rest_nbytes(head: memoryview) -> int:
    """How many bytes of header follow the fixed part."""
    _, dims, name, *_ = _HEAD.unpack_from(head)
    return int(8 * dims + name)


def unpack(header: memoryview) -> tuple[Frame, int]:
    """The frame, and where its payload begins. A credit's slots stand as its shape."""
    kind, dims, name, micro, step, attempt, slot, offset, dtype, nbytes = _HEAD.unpack_from(header)
    shape = _dims(dims).unpack_from(header, HEAD_NBYTES)
    at = HEAD_NBYTES + 8 * dims
    key = Key(step, micro, str(header[at : at + name], "utf-8"), attempt)
    return Frame(kind, key, _text(dtype), shape, slot, offset, nbytes), at + name


@lru_cache(maxsize=256)
def _dims(n: int) -> struct.Struct:
    return struct.Struct(f"<{n}q")


@lru_cache(maxsize=64)
def _code(dtype: np.dtype[Any]) -> bytes:
    return dtype.str.encode()


@lru_cache(maxsize=64)
def _text(code: bytes) -> str:
    return code.rstrip(b"\0").decode()
