"""NumPy's Philox stream in generated code: numbers from 0 up to 1, those of ``Generator.random``.

Block k of a stream is four words of 64 bits: a function of the stream's key and of k alone, so
threads draw side by side. Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3"
(2011), Philox4x64-10; a float32 is the upper 24 bits of half a word, a float64 the upper 53 of one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from raysym.kernels.emit import F32, F64, I32, I64, Emit, Index, Value
from raysym.kernels.llvm import ir
from raysym.kernels.shared import shared
from raysym.kernels.typed import NBYTES, place

WORDS = 4  # of 64 bits in a block
BLOCKS = 2  # that one turn of the loop writes
_ROUNDS = 10
_FACTORS = 0xD2E7470EE14C6C93, 0xCA5A826395121157
_WEYL = 0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B  # added to the key from round to round
_WIDE = ir.IntType(128)

Key: TypeAlias = tuple[Value, Value]


def draw(e: Emit, dtype: str, made: Value, key: Value, first: int, turns: int) -> None:
    """Fill memory with the numbers of ``turns`` times `BLOCKS` blocks, from block `first` on.

    `key` points to the two words of the stream's key; those of all rounds are made before.
    """
    keys = _round_keys(e, key)
    each = BLOCKS * WORDS * 8 // NBYTES[dtype]

    def turn(i: Index) -> None:
        blocks = [e.plus(e.times(i, BLOCKS), first + k) for k in range(BLOCKS)]
        words = [word for block in blocks for word in _block(e, keys, block)]
        target = place(e, made, e.times(i, each), dtype)
        e.b.store(_numbers(e, dtype, words), target, align=NBYTES[dtype])

    shared(e, turns, turn)


def _round_keys(e: Emit, key: Value) -> list[Key]:
    words = [e.b.load(place(e, key, i, "int64"), typ=I64, align=8) for i in (0, 1)]
    return [
        tuple(e.b.add(w, I64(r * weyl % 2**64)) for w, weyl in zip(words, _WEYL, strict=True))
        for r in range(_ROUNDS)
    ]


def _block(e: Emit, keys: Sequence[Key], number: Index) -> list[Value]:
    """The words of a block; the stream counts them from 1 on."""
    b, zero = e.b, e.const(0)
    words = [e.const(e.plus(number, 1)), zero, zero, zero]
    for first, second in keys:
        (high, low), (other_high, other_low) = (
            _product(e, words[i], factor) for i, factor in zip((0, 2), _FACTORS, strict=True)
        )
        words = [
            b.xor(b.xor(other_high, words[1]), first), other_low,
            b.xor(b.xor(high, words[3]), second), low,
        ]  # fmt: skip
    return words


def _product(e: Emit, x: Value, factor: int) -> tuple[Value, Value]:
    """The upper and the lower word of a product."""
    whole = e.b.mul(e.b.zext(x, _WIDE), _WIDE(factor))
    return e.b.trunc(e.b.lshr(whole, _WIDE(64)), I64), e.b.trunc(whole, I64)


def _numbers(e: Emit, dtype: str, words: Sequence[Value]) -> Value:
    """Words as a vector of floats; lower halves come before upper ones."""
    kind = ir.VectorType(I64, len(words))
    vector = ir.Constant(kind, ir.Undefined)
    for i, word in enumerate(words):
        vector = e.b.insert_element(vector, word, I32(i))
    narrow, width, lost, element = (I32, 2, 8, F32) if dtype == "float32" else (I64, 1, 11, F64)
    parts = e.b.bitcast(vector, ir.VectorType(narrow, width * len(words)))
    whole = e.b.lshr(parts, _each(parts, lost))
    made = e.b.sitofp(whole, ir.VectorType(element, width * len(words)))
    return e.b.fmul(made, _each(made, 2.0 ** (lost - 64 // width)))


def _each(vector: Value, number: float) -> Value:
    return ir.Constant(vector.type, [number] * vector.type.count)
