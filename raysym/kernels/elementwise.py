"""Elementwise chains as one loop: values stay in registers between formulas.

A chain is a list of steps in order; operands number the chain's inputs first, then its results.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

from raysym.kernels.emit import I64, LANES, Emit, Index, Value
from raysym.kernels.expressions import READS, dense
from raysym.kernels.formulas import FORMULAS
from raysym.kernels.shared import first_only, shared_blocks, shared_columns, shared_nest
from raysym.kernels.specs import shared_maker
from raysym.kernels.typed import (
    NBYTES,
    constant,
    convert,
    load,
    place,
    register_type,
    store,
    store_past,
)
from raysym.kernels.vector_ops import compute as compute_one
from raysym.op import Op, make_op
from raysym.passes.memory import ALIGNMENT

_WAYS = 4  # vectors at once: by itself a processor goes on to the next behind a short chain only
_AHEAD = 4096  # bytes: a page, beyond which a processor looks for nothing by itself

Given: TypeAlias = tuple[tuple[str, object], ...]


class ChainStep(NamedTuple):
    """One op of a chain: its page's name and parameters, and the numbers of its operands.

    A step without a name is a traced page: `given` is its program and which values are results.
    """

    op: str
    given: Any
    operands: tuple[int, ...]

    @staticmethod
    def of(op: Op, operands: Sequence[int]) -> ChainStep:
        """The step of an op page that has a formula of its own."""
        return ChainStep(op.name, tuple(sorted(op.given().items())), tuple(operands))


Chain: TypeAlias = tuple[ChainStep, ...]


def compute(e: Emit, chain: Chain, inputs: Sequence[Value]) -> list[Value]:
    """All values of a chain: its inputs, then its results."""
    return side_by_side(e, chain, [inputs])[0]


def side_by_side(e: Emit, chain: Chain, columns: Sequence[Sequence[Value]]) -> list[list[Value]]:
    """All values of a chain on several vectors, step by step: none waits for a long chain's end."""
    values = [list(inputs) for inputs in columns]
    for step in chain:
        for each in values:
            each += _results(e, step, [each[i] for i in step.operands])
    return values


def _results(e: Emit, step: ChainStep, operands: Sequence[Value]) -> list[Value]:
    if step.op:
        return [FORMULAS[step.op](e, make_op(step.op, dict(step.given)), *operands)]
    made = run_program(e, step.given[0], named(operands))
    return [made[i] for i in step.given[1]]


# Makes the value of a line that reads, given the values of the lines before it.
Read: TypeAlias = Callable[[Sequence[Any], Sequence[Value]], Value]


def named(operands: Sequence[Value]) -> Read:
    """Loads that name operands."""
    return lambda line, _: operands[line[2]]


def run_program(e: Emit, program: Sequence[Any], read: Read) -> list[Value]:
    """All values of a traced page's program."""
    values: list[Value] = []
    for line in program:
        name, dtype, *rest = line
        if name in READS:
            values.append(read(line, values))
        elif name == "const":
            values.append(constant(e, register_type(dtype), rest[0]))
        else:
            source = program[rest[-1]][1]
            values.append(compute_one(e, name, dtype, source, tuple(values[i] for i in rest)))
    return values


def table(e: Emit, i: int, dtypes: Sequence[str]) -> list[Value]:
    """The numbers of a table of float64, which is the i-th argument, in their dtypes."""
    if not dtypes:
        return []
    start = e.arg(i)
    wide = [load(e, "float64", start, k, 0, 1) for k in range(len(dtypes))]
    return [convert(e, value, "float64", dtype) for value, dtype in zip(wide, dtypes, strict=True)]


@shared_maker
def flat_map(e: Emit, *given: Any) -> None:
    """A chain over arrays of one shape; arguments: inputs, results, number of elements, numbers.

    `given`: inputs, chain, which of its values are results, dtype, dtypes of the numbers.
    """
    _Flat(e, False, *given).walk(0)


@shared_maker
def stream_map(e: Emit, *given: Any) -> None:
    """`flat_map` of one large result that is no operand: it is written past the caches."""
    flat = _Flat(e, True, *given)
    missing = e.b.and_(e.b.neg(e.b.ptrtoint(flat.outs[0], I64)), e.const(ALIGNMENT - 1))
    head = e.share(missing, NBYTES[flat.dtype])
    head = e.b.select(e.b.icmp_signed("<", head, flat.n), head, flat.n)
    with first_only(e), e.b.if_then(e.b.icmp_signed(">", head, e.const(0))):
        e.loop(0, head, lambda i: flat.block(i, 1, 1))
    flat.walk(head)
    e.b.fence("seq_cst")  # such stores may be late for other threads


class _Flat:
    """The loop over elements; where it `is_past`, full vectors are stored past the caches.

    Then elements a page ahead are asked for, and full vectors must lie in whole lines.
    """

    def __init__(
        self,
        e: Emit,
        is_past: bool,
        n_inputs: int,
        chain: Chain,
        stored: tuple[int, ...],
        dtype: str = "float32",
        numbers: tuple[str, ...] = (),
    ) -> None:
        self.e, self.is_past = e, is_past
        self.chain, self.stored, self.dtype = chain, stored, dtype
        self.ins = [e.arg(i) for i in range(n_inputs)]
        self.outs = [e.arg(n_inputs + i) for i in range(len(stored))]
        self.n = e.b.ptrtoint(e.arg(n_inputs + len(stored)), I64)
        # A formula by hand wants many registers; in a chain, its steps wait for each other.
        self.ways = _WAYS // 2 if len(chain) == 1 and chain[0].op else _WAYS
        self.given = table(e, n_inputs + len(stored) + 1, numbers)

    def walk(self, first: Index) -> None:
        """Elements from `first` on: several vectors at once, then single ones, then numbers."""
        e, ways = self.e, self.ways
        full = e.b.and_(e.minus(self.n, first), e.const(-ways * LANES))
        with e.b.if_then(e.b.icmp_signed(">", full, e.const(0))):
            shared_blocks(
                e, full, lambda i: self.block(e.plus(first, i), LANES, ways), ways * LANES
            )
        start = e.plus(first, full)
        with first_only(e):
            for lanes in (LANES, 1):
                end = e.plus(start, e.b.and_(e.minus(self.n, start), e.const(-lanes)))
                with e.b.if_then(e.b.icmp_signed("<", start, end)):
                    e.loop(start, end, lambda i, n=lanes: self.block(i, n, 1), step=lanes)
                start = end

    def block(self, start: Index, lanes: int, unroll: int) -> None:
        """The chain on `unroll` vectors."""
        e, dtype = self.e, self.dtype
        columns = [e.plus(start, u * LANES) for u in range(unroll)]
        loaded = [[load(e, dtype, p, column, 1, lanes) for p in self.ins] for column in columns]
        made = side_by_side(e, self.chain, [[*inputs, *self.given] for inputs in loaded])
        for column, values in zip(columns, made, strict=True):
            for pointer, i in zip(self.outs, self.stored, strict=True):
                if self.is_past and lanes == LANES:
                    store_past(e, dtype, values[i], pointer, column)
                    self._ask(e.plus(column, _AHEAD // NBYTES[dtype]))
                else:
                    store(e, dtype, values[i], pointer, column, 1, lanes)

    def _ask(self, column: Index) -> None:
        for pointer in self.ins:
            self.e.prefetch(place(self.e, pointer, column, self.dtype))


@shared_maker
def strided_map(
    e: Emit,
    sizes: tuple[int, ...],
    strides: tuple[tuple[int, ...], ...],
    chain: Chain,
    stored: tuple[int, ...],
    dtype: str = "float32",
    numbers: tuple[str, ...] = (),
) -> None:
    """A chain over inputs that broadcast or lie transposed: for each, its stride on every axis.

    Results are contiguous in the order of `sizes`. Arguments: inputs, results, numbers.
    """
    ins = [e.arg(i) for i in range(len(strides))]
    outs = [e.arg(len(strides) + i) for i in range(len(stored))]
    steps = dense(sizes)
    given = table(e, len(strides) + len(stored), numbers)

    def row(*outer: Index) -> None:
        starts = [e.plus(*map(e.times, outer, each)) for each in strides]
        target = e.plus(*map(e.times, outer, steps))

        def cells(column: Index, lanes: int) -> None:
            loaded = [
                load(e, dtype, p, e.plus(start, e.times(column, each[-1])), each[-1], lanes)
                for p, start, each in zip(ins, starts, strides, strict=True)
            ]
            values = compute(e, chain, [*loaded, *given])
            for pointer, i in zip(outs, stored, strict=True):
                store(e, dtype, values[i], pointer, e.plus(target, column), 1, lanes)

        shared_columns(e, sizes[-1], cells)

    shared_nest(e, sizes[:-1], row, inner=True)


def collapsed(
    sizes: Sequence[int], strides: Sequence[Sequence[int]]
) -> tuple[tuple[int, ...], tuple[tuple[int, ...], ...]]:
    """The same walk with as few axes as possible: neighbours that step alike become one."""
    kept: list[int] = []
    rows: list[list[int]] = [[] for _ in strides]
    for axis, size in enumerate(sizes):
        steps = [each[axis] for each in strides]
        if size == 1:
            continue
        if kept and all(row[-1] == step * size for row, step in zip(rows, steps, strict=True)):
            kept[-1] *= size
            for row, step in zip(rows, steps, strict=True):
                row[-1] = step
        else:
            kept.append(size)
            for row, step in zip(rows, steps, strict=True):
                row.append(step)
    if not kept:
        return (1,), tuple((0,) for _ in strides)
    return tuple(kept), tuple(tuple(row) for row in rows)
