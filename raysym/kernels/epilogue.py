"""Epilogues: elementwise steps behind a kernel, computed on its results before these are stored.

The steps see the same float32 numbers that the kernel would have stored, so no bit changes.
"""

from __future__ import annotations

from typing import NamedTuple

from raysym.kernels.elementwise import Chain, compute
from raysym.kernels.emit import Emit, Index, Value
from raysym.kernels.typed import load, store


class Tail(NamedTuple):
    """A chain of which input `fed` is what a kernel makes; the values `stored` are kept.

    All are of one shape and dtype, and lie in the same order.
    """

    n_inputs: int
    fed: int
    chain: Chain
    stored: tuple[int, ...]
    dtype: str = "float32"


ALONE = Tail(1, 0, (), (0,))  # no steps: the result is stored as it is


class Results:
    """Where a kernel puts its result: arguments from `first` are inputs of the tail, then results.

    `end`: the argument behind these.
    """

    def __init__(self, e: Emit, first: int, tail: Tail = ALONE) -> None:
        self.e, self.tail = e, tail
        n_others = tail.n_inputs - 1
        self.end = first + n_others + len(tail.stored)
        pointers = [e.arg(i) for i in range(first, self.end)]
        self.others, self.kept = pointers[:n_others], pointers[n_others:]

    def put(self, value: Value, at: Index, lanes: int) -> None:
        """Store what follows from neighbouring results that belong to offset `at` and behind."""
        e, tail = self.e, self.tail
        inputs = [load(e, tail.dtype, pointer, at, 1, lanes) for pointer in self.others]
        inputs.insert(tail.fed, value)
        values = compute(e, tail.chain, inputs)
        for pointer, i in zip(self.kept, tail.stored, strict=True):
            store(e, tail.dtype, values[i], pointer, at, 1, lanes)
