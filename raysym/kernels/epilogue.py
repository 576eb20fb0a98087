"""Epilogues: elementwise steps behind a kernel, computed on its results while these are near.

The steps see the same numbers that the kernel would have stored, so no bit changes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, reduce
from typing import NamedTuple

from raysym.kernels.elementwise import Chain, compute
from raysym.kernels.emit import Emit, Index, Value
from raysym.kernels.typed import load, store

# What of an input belongs to a result: the number at its place, at its column, the only one.
EACH, COLUMNS, ONE = range(3)


class Tail(NamedTuple):
    """A chain of which input `fed` is what a kernel makes; the values `stored` are kept.

    ``spreads``: of the other inputs. All are of one dtype, and lie in the same order.
    """

    fed: int
    chain: Chain
    stored: tuple[int, ...]
    spreads: tuple[int, ...] = ()
    dtype: str = "float32"


ALONE = Tail(0, (), (0,))  # no steps: the result is stored as it is
_LIGHT, _MODERATE = 12, 40  # instructions
_LARGE = 1 << 22  # bytes


def are_at(e: Emit, *pairs: tuple[Index, int]) -> Value:
    """True when each index is its number: a truth as far as it is known, else an IR truth."""
    known = [i == n for i, n in pairs if isinstance(i, int)]
    if not all(known) or len(known) == len(pairs):
        return all(known)
    tests = [e.b.icmp_signed("==", i, e.const(n)) for i, n in pairs if not isinstance(i, int)]
    return reduce(e.b.and_, tests)


def is_light(tail: Tail) -> bool:
    """True when steps are so few that they take no longer than memory does."""
    return _weight(tail) <= _LIGHT


def pays(tail: Tail, nbytes: int) -> bool:
    """True when steps are worth their place in code that is written out for each vector.

    The more there are, the less of their time is memory's: such as tanh and sigmoid gain where
    results are too large to stay near, longer ones hardly ever (benchmarks/fused.py).
    """
    return _weight(tail) <= (_MODERATE if nbytes >= _LARGE else _LIGHT)


@lru_cache(maxsize=1024)
def _weight(tail: Tail) -> int:
    """Instructions of the steps for each vector."""
    e = Emit(dtype=tail.dtype)
    inputs = [e.load(e.arg(i)) for i in range(len(tail.spreads) + 1)]
    before = len(e.b.block.instructions)
    compute(e, tail.chain, inputs)
    return len(e.b.block.instructions) - before


@dataclass(frozen=True)
class Results:
    """Where a kernel puts its results: other inputs of the tail, and arrays of what is kept."""

    e: Emit
    tail: Tail
    others: tuple[Value, ...]
    kept: tuple[Value, ...]

    @staticmethod
    def of(e: Emit, first: int, tail: Tail = ALONE) -> Results:
        """Those of arguments from `first` on: other inputs, then results."""
        tail = Tail(*tail)
        middle = first + len(tail.spreads)
        others, kept = range(first, middle), range(middle, middle + len(tail.stored))
        return Results(e, tail, tuple(map(e.arg, others)), tuple(map(e.arg, kept)))

    @staticmethod
    def plain(e: Emit, pointer: Value) -> Results:
        """Results that are stored as they are."""
        return Results(e, ALONE, (), (pointer,))

    @property
    def goes_on(self) -> bool:
        """True when more follows than storing."""
        return bool(self.tail.chain)

    @property
    def first(self) -> Value:
        """The first array of what is kept: no input of the tail."""
        return self.kept[0]

    @property
    def places(self) -> list[Value]:
        """All arrays that have a number for each result: results, then inputs."""
        others = zip(self.others, self.tail.spreads, strict=True)
        return [*self.kept, *(pointer for pointer, spread in others if spread == EACH)]

    def at_places(self, places: Sequence[Value]) -> Results:
        """The same from other `places` on."""
        count = len(self.kept)
        each, spreads = iter(places[count:]), self.tail.spreads
        pairs = zip(self.others, spreads, strict=True)
        others = tuple(next(each) if spread == EACH else pointer for pointer, spread in pairs)
        return replace(self, others=others, kept=tuple(places[:count]))

    def moved(self, offset: Index, columns: Index = 0) -> Results:
        """The same from results at an offset and so many columns on."""
        steps = {EACH: offset, COLUMNS: columns, ONE: 0}
        others = zip(self.others, self.tail.spreads, strict=True)
        return replace(
            self,
            others=tuple(self.e.at(pointer, steps[spread]) for pointer, spread in others),
            kept=tuple(self.e.at(pointer, offset) for pointer in self.kept),
        )

    @property
    def count(self) -> int:
        """Arguments that these are."""
        return len(self.others) + len(self.kept)

    def put(self, value: Value, at: Index, column: Index, lanes: int) -> None:
        """Store what follows from neighbouring results at offset `at` and behind, by columns."""
        e, tail = self.e, self.tail
        if not self.goes_on:
            e.store(value, self.first, at, lanes)
            return
        places = {EACH: (at, 1), COLUMNS: (column, 1), ONE: (0, 0)}
        inputs = [
            load(e, e.dtype, pointer, *places[spread], lanes)
            for pointer, spread in zip(self.others, tail.spreads, strict=True)
        ]
        inputs.insert(tail.fed, value)
        values = compute(e, tail.chain, inputs)
        for pointer, i in zip(self.kept, tail.stored, strict=True):
            store(e, e.dtype, values[i], pointer, at, 1, lanes)

    def finish(
        self,
        is_last: Callable[[], Value],
        sums: Sequence[Value],
        cells: Sequence[tuple[Index, int]],
        columns: Sequence[Index],
    ) -> None:
        """Put the sums of a tile if nothing is added to them any more, else store them.

        ``cells``: offset and lanes of each vector; ``is_last`` gives a truth, or an IR truth.
        """
        last = is_last() if self.goes_on else False
        if not isinstance(last, bool):
            with self.e.b.if_else(last) as (then, otherwise):
                with then:
                    self.finish(lambda: True, sums, cells, columns)
                with otherwise:
                    self.finish(lambda: False, sums, cells, columns)
            return
        for value, (at, lanes), column in zip(sums, cells, columns, strict=True):
            if last:
                self.put(value, at, column, lanes)
            else:
                self.e.store(value, self.first, at, lanes)
