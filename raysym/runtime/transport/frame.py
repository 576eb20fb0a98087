"""Frames: the header that goes before a payload, packed to bytes and read back."""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from raysym.runtime.transport.credit import units
from raysym.runtime.transport.protocol import PlainKey

INLINE, SLOT, PART, CREDIT = range(4)  # payload follows; lies in a slot; piece of one; no payload

# What changes with every message: the step, which units and slots of the other direction are given
# back (see `credit`), and how long the rest of the header is.
_PREFIX = struct.Struct("<qHBH")
# kind, dims, micro-batch, attempt, slot, offset, dtype, bytes of payload; then dims and the name
_REST = struct.Struct("<BBiiiq8sq")
PREFIX_NBYTES = _PREFIX.size
MAX_HEADER_NBYTES = 1 << 16
_CACHED = 1 << 14  # rests of headers: the messages of a step are those of the one before


class Frame(NamedTuple):
    """A header as read, without its step: where the payload is and which array it belongs to."""

    kind: int
    label: tuple[int, str, int]  # its key but for the step
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    slot: int
    offset: int
    nbytes: int
    units: int  # of credit that it has cost


def pack(
    kind: int,
    key: PlainKey,
    array: Any,
    nbytes: int,
    count: int = 0,
    slots: int = 0,
    slot: int = 0,
    offset: int = 0,
) -> bytes:
    """The header of a message with `nbytes` of the `array`, those at `offset`.

    It gives `count` units of credit back, and `slots`.
    """
    step, micro, entry, attempt = key
    rest = _rest(kind, entry, micro, attempt, array.dtype, array.shape, slot, offset, nbytes)
    return _PREFIX.pack(step, count, slots, len(rest)) + rest


@lru_cache(_CACHED)
def _rest(
    kind: int,
    entry: str,
    micro: int,
    attempt: int,
    dtype: np.dtype[Any],
    shape: tuple[int, ...],
    slot: int,
    offset: int,
    nbytes: int,
) -> bytes:
    code = dtype.str.encode()
    fixed = _REST.pack(kind, len(shape), micro, attempt, slot, offset, code, nbytes)
    return fixed + _dims(len(shape)).pack(*shape) + entry.encode()


def pack_credits(count: int, slots: int) -> bytes:
    """A message that gives back units and slots, and does nothing else."""
    rest = _rest(CREDIT, "", 0, 0, _BYTES, (), 0, 0, 0)
    return _PREFIX.pack(0, count, slots, len(rest)) + rest


_BYTES = np.dtype(np.uint8)


def bytes_of(array: Any) -> memoryview:
    """The bytes of a C-contiguous array, as a flat view."""
    return memoryview(array).cast("B") if array.size else memoryview(bytearray())


def header_nbytes(start: memoryview) -> int:
    """How long the whole header is that starts with these `PREFIX_NBYTES`."""
    return int(_PREFIX.unpack_from(start)[3]) + PREFIX_NBYTES


def unpack(header: memoryview) -> tuple[Frame, PlainKey, int, int, int]:
    """The frame, its key, where its payload begins; the units and slots that come back."""
    step, count, slots, nbytes = _PREFIX.unpack_from(header)
    end = PREFIX_NBYTES + nbytes
    frame = _read(header[PREFIX_NBYTES:end].tobytes())
    return frame, (step, *frame.label), end, count, slots


@lru_cache(_CACHED)
def _read(rest: bytes) -> Frame:
    kind, dims, micro, attempt, slot, offset, code, nbytes = _REST.unpack_from(rest)
    shape = _dims(dims).unpack_from(rest, _REST.size)
    entry = rest[_REST.size + 8 * dims :].decode()
    dtype = np.dtype(code.rstrip(b"\0").decode())
    cost = units(nbytes) if kind == INLINE or slot < 0 else 1
    return Frame(kind, (micro, entry, attempt), dtype, shape, slot, offset, nbytes, cost)


@lru_cache(maxsize=256)
def _dims(n: int) -> struct.Struct:
    return struct.Struct(f"<{n}q")
