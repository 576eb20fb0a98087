"""MXNet's binary list of arrays (``.params`` files): bytes in versions 0 to 3, written in 2.

Little endian. A list is magic, a reserved word, arrays, names; an array block is a version magic,
storage type, shape, context, dtype, raw data. Sparse blocks are read as dense arrays. Source: the
format of ``NDArray::Save`` in MXNet 1.9.1.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from raysym.context import Context
from raysym.convert import host_copy
from raysym.errors import MXNetError, sentence
from raysym.types import DTYPE_CODES, DTYPE_OF_CODE, Shape

Array: TypeAlias = "np.ndarray[Any, Any]"

LIST_MAGIC = 0x112
V1, V2, V3 = 0xF993FAC8, 0xF993FAC9, 0xF993FACA
_DENSE, _ROW_SPARSE, _CSR = 0, 1, 2
DENSE_LIMIT_NBYTES = 2**33  # sparse arrays that are larger than this when dense are refused
_BFLOAT16 = 12  # numpy has no such dtype; its values are float32 values


class Stored(NamedTuple):
    """One array of a file: its content (None for an array that was never filled) and context."""

    array: Array | None
    ctx: Context


# ----- writing


def dump_list(arrays: Sequence[tuple[Array, Context]], names: Sequence[str] = ()) -> bytes:
    """The bytes of a list file; `names` is empty or as long as `arrays`."""
    parts = [struct.pack("<QQQ", LIST_MAGIC, 0, len(arrays))]
    parts += [dump_array(array, ctx) for array, ctx in arrays]
    parts.append(struct.pack("<Q", len(names)))
    for name in names:
        text = name.encode()
        parts += [struct.pack("<Q", len(text)), text]
    return b"".join(parts)


def dump_array(array: Array, ctx: Context) -> bytes:
    """The block of one array: version 2, or 3 for rank 0, which version 2 cannot hold."""
    magic = V2 if array.ndim else V3
    head = struct.pack("<Iii", magic, _DENSE, array.ndim)
    dims = struct.pack(f"<{array.ndim}q", *array.shape)
    code = DTYPE_CODES[array.dtype.name]
    kind = struct.pack("<iii", ctx.device_typeid, ctx.device_id, code)
    return b"".join([head, dims, kind, array.tobytes("C")])


# ----- reading


class _Reader:
    """Walks through the bytes; MXNetError when they end too early."""

    def __init__(self, content: bytes, source: str) -> None:
        self._view = memoryview(content)
        self._at = 0
        self._source = source

    def take(self, nbytes: int) -> memoryview:
        left = len(self._view) - self._at
        if not 0 <= nbytes <= left:
            raise self.error(f"truncated at byte {self._at}", got=f"{left} bytes", expected=nbytes)
        part = self._view[self._at : self._at + nbytes]
        self._at += nbytes
        return part

    def number(self, kind: str) -> int:
        """The next number; `kind` is a letter of the struct module."""
        return self.numbers(kind, 1)[0]

    def numbers(self, kind: str, count: int) -> tuple[int, ...]:
        return struct.unpack(f"<{count}{kind}", self.take(struct.calcsize(kind) * count))

    def array(self, dtype: str, shape: Shape) -> Array:
        raw = self.take(math.prod(shape) * np.dtype(dtype).itemsize)
        return host_copy(np.frombuffer(raw, dtype).reshape(shape))

    def rank(self, kind: str) -> int:
        rank = self.number(kind)
        # A damaged file must not make us believe in millions of axes.
        if not -1 <= rank <= 64:
            raise self.error("impossible rank", got=rank, expected="at most 64")
        return rank

    def dims(self, kind: str, rank: int) -> Shape:
        dims = self.numbers(kind, rank)
        if min(dims, default=0) < 0:
            raise self.error("negative dimension", got=dims)
        if math.prod(dim or 1 for dim in dims) >= 2**60:  # more than any memory, even if one is 0
            raise self.error("impossible shape", got=dims)
        return dims

    def shape(self) -> Shape:
        return self.dims("q", max(self.rank("i"), 0))

    def error(self, what: str, got: Any = None, expected: Any = None) -> MXNetError:
        detail = sentence(what, got, expected)
        return MXNetError(f"Invalid NDArray file format: {self._source}: {detail}")


def parse_list(content: bytes, source: str = "buffer") -> tuple[list[Stored], list[str]]:
    """The arrays and names of a list file; MXNetError if the bytes are none.

    `source` says in error messages where the bytes come from.
    """
    reader = _Reader(content, source)
    magic, _, count = reader.numbers("Q", 3)
    if magic != LIST_MAGIC:
        raise reader.error("bad magic number", got=hex(magic), expected=hex(LIST_MAGIC))
    arrays = [_array(reader) for _ in _counted(reader, count, "array")]
    names = [_name(reader) for _ in _counted(reader, reader.number("Q"), "name")]
    if names and len(names) != len(arrays):
        raise reader.error("wrong number of names", got=len(names), expected=len(arrays))
    return arrays, names


def parse_array(content: bytes) -> Stored:
    """The array of one block, as `dump_array` makes it."""
    return _array(_Reader(content, "buffer"))


def _counted(reader: _Reader, count: int, what: str) -> Iterable[int]:
    if count >= 2**32:
        raise reader.error(f"impossible {what} count", got=count)
    return range(count)


def _name(reader: _Reader) -> str:
    raw = bytes(reader.take(reader.number("Q")))
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise reader.error("a name is not UTF-8", got=raw[:40]) from None


def _array(reader: _Reader) -> Stored:
    first = reader.number("I")
    if first in (V2, V3):
        return _modern(reader, first)
    if first == V1:
        rank, kind = reader.rank("I"), "q"
    else:  # version 0 has no magic: the first word is the rank
        rank, kind = first, "I"
        if rank > 64:
            raise reader.error("impossible rank", got=rank, expected="at most 64")
    return _rest(reader, reader.dims(kind, rank), is_none=rank == 0)


def _modern(reader: _Reader, magic: int) -> Stored:
    storage = reader.number("i")
    if storage not in (_DENSE, _ROW_SPARSE, _CSR):
        raise reader.error("unknown storage type", got=storage, expected="0, 1 or 2")
    stored_shape = reader.shape() if storage else ()
    rank = reader.rank("i")
    shape = reader.dims("q", max(rank, 0))
    is_none = rank == (0 if magic == V2 else -1)
    if storage == _DENSE or is_none:
        return _rest(reader, shape, is_none)
    return _sparse(reader, storage, stored_shape, shape)


def _rest(reader: _Reader, shape: Shape, is_none: bool) -> Stored:
    if is_none:
        return Stored(None, Context("cpu"))
    ctx, code = _context(reader), reader.number("i")
    return Stored(_data(reader, code, shape), ctx)


def _context(reader: _Reader) -> Context:
    kind, number = reader.numbers("i", 2)
    if kind not in Context.devtype2str:
        raise reader.error("unknown device type", got=kind, expected="1, 2, 3 or 5")
    return Context(Context.devtype2str[kind], number)


def _data(reader: _Reader, code: int, shape: Shape) -> Array:
    if code == _BFLOAT16:
        # bfloat16 is the upper half of float32.
        halves = np.frombuffer(reader.take(2 * math.prod(shape)), np.uint16)
        return (halves.astype(np.uint32) << 16).view(np.float32).reshape(shape)
    if code not in DTYPE_OF_CODE:
        raise reader.error("unknown dtype code", got=code, expected="0 to 7 or 12")
    return reader.array(DTYPE_OF_CODE[code], shape)


# ----- sparse blocks, read as dense arrays


def _sparse(reader: _Reader, storage: int, stored_shape: Shape, shape: Shape) -> Stored:
    ctx, code = _context(reader), reader.number("i")
    aux_types = [(reader.number("i"), reader.shape()) for _ in range(storage)]
    data = _data(reader, code, stored_shape)
    aux = [_data(reader, kind, dims) for kind, dims in aux_types]
    spread = _from_rows if storage == _ROW_SPARSE else _from_csr
    try:
        dense = spread(data, aux, shape)
    except (IndexError, ValueError, MemoryError) as error:
        raise reader.error(f"sparse indices do not fit: {error}", expected=shape) from None
    return Stored(dense, ctx)


def _from_rows(data: Array, aux: Sequence[Array], shape: Shape) -> Array:
    dense = _zeros(shape, data.dtype)
    if data.size:
        dense[_checked(aux[0], shape[0])] = data
    return dense


def _from_csr(data: Array, aux: Sequence[Array], shape: Shape) -> Array:
    indptr, columns = aux
    dense = _zeros(shape, data.dtype)
    counts = np.diff(_checked(indptr, data.size + 1))
    if len(counts) != shape[0] or (counts < 0).any() or counts.sum() != len(columns):
        raise ValueError(f"the row pointer counts {counts.sum()} values, not {len(columns)}")
    rows = np.repeat(np.arange(shape[0]), counts)
    dense[rows, _checked(columns, shape[1])] = data
    return dense


def _zeros(shape: Shape, dtype: Any) -> Array:
    # A sparse block of a few bytes may stand for more than the machine has.
    nbytes = math.prod(shape) * dtype.itemsize
    if nbytes > DENSE_LIMIT_NBYTES:
        raise ValueError(f"the dense array needs {nbytes} bytes, over {DENSE_LIMIT_NBYTES}")
    return np.zeros(shape, dtype)


def _checked(indices: Array, size: int) -> Array:
    if indices.dtype.kind not in "iu":
        raise IndexError(f"got {indices.dtype}")
    if indices.size and not 0 <= int(indices.min()) <= int(indices.max()) < size:
        raise IndexError(f"got {int(indices.min())} to {int(indices.max())}")
    return indices.astype(np.int64)
