"""A loop-nest builder: one function of LLVM IR, written with loops, vectors and addresses.

Vectors have `LANES` lanes of the kernel's floating type; LLVM splits them on hosts with narrower
registers. Offsets count numbers of that type. Everything known when the kernel is made is a Python
int, the rest an IR value.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

import numpy as np

from raysym.kernels.constants import lanes_constant, repeated, whole
from raysym.kernels.llvm import ENTRY, ir

LANES = 16
F32, F64, I1, I32, I64, PTR, VOID = (
    ir.FloatType(), ir.DoubleType(), ir.IntType(1), ir.IntType(32), ir.IntType(64),
    ir.PointerType(), ir.VoidType(),
)  # fmt: skip
_KINDS = {
    "float32": (F32, 4, "v16f32"), "float64": (F64, 8, "v16f64"),
    "float16": (ir.IntType(16), 2, "v16i16"),
}  # fmt: skip
VEC, IVEC, MASK = ir.VectorType(F32, LANES), ir.VectorType(I32, LANES), ir.VectorType(I1, LANES)

Value: TypeAlias = Any  # an IR value
Index: TypeAlias = Any  # an int or an i64 value


def lanes_of(n: int) -> list[int]:
    """`n` columns as vectors: full ones and a shorter last."""
    return [min(LANES, n - start) for start in range(0, n, LANES)]


def even_parts(n: int, most: int) -> list[int]:
    """`n` as parts of nearly equal size, none above `most`, larger ones first."""
    count = -(-n // most)
    return [n // count + (i < n % count) for i in range(count)]


def runs_of(parts: Sequence[int]) -> list[tuple[int, int, int]]:
    """Equal neighbours together: (start, size, end) in units of elements."""
    found: list[tuple[int, int, int]] = []
    position = 0
    for size in parts:
        if found and found[-1][1] == size:
            found[-1] = (found[-1][0], size, position + size)
        else:
            found.append((position, size, position + size))
        position += size
    return found


class Emit:
    """The builder of one kernel, ``void kernel(ptr args)`` over a table of pointers.

    A kernel of several threads is ``void kernel(ptr args, i64 part, ptr team)``: each of its
    `parts` threads calls it with a part of its own (see shared.py and team.py). `dtype`, float32
    or float64, is that of its numbers: their type, vectors and bytes. Kernels that only move
    numbers may be of float16 as well.
    """

    def __init__(self, parts: int = 1, dtype: str = "float32") -> None:
        self._set_numbers(dtype)
        self.module = ir.Module()
        kinds = [PTR] if parts == 1 else [PTR, I64, PTR]
        function = ir.Function(self.module, ir.FunctionType(VOID, kinds), ENTRY)
        self.b = ir.IRBuilder(function.append_basic_block())
        self._args = function.args[0]
        self.bound: Sequence[Value] | None = None  # arguments of a kernel inside another
        self.parts, self.is_apart = parts, parts == 1
        self.part: Index = 0 if parts == 1 else function.args[1]
        self.team: Value = None if parts == 1 else function.args[2]

    def _set_numbers(self, dtype: str) -> None:
        self.dtype = dtype
        self.kind, self.nbytes, self._suffix = _KINDS[dtype]
        self.vector = ir.VectorType(self.kind, LANES)

    @contextmanager
    def numbers(self, dtype: str) -> Iterator[None]:
        """A block with numbers of another dtype."""
        before = self.dtype
        self._set_numbers(dtype)
        yield
        self._set_numbers(before)

    def text(self) -> str:
        """The module, finished: what it was made of is gone."""
        self.b.ret_void()
        made = str(self.module)
        _forget(self.module)
        return made

    # ----- numbers and addresses

    def arg(self, i: int) -> Value:
        """The i-th argument: a pointer of the table, or one that is bound."""
        if self.bound is not None:
            return self.bound[i]
        place = self.b.gep(self._args, [self.const(i)], source_etype=PTR)
        return self.b.load(place, typ=PTR)

    def const(self, n: Index) -> Value:
        """An i64."""
        return whole(I64, n) if isinstance(n, int) else n

    def scalar(self, x: float) -> Value:
        """A float."""
        return ir.Constant(self.kind, self._rounded(x))

    def times(self, i: Index, n: int) -> Index:
        """``i * n``, folded where both are known."""
        return i * n if isinstance(i, int) else self.b.mul(i, self.const(n))

    def product(self, i: Index, j: Index) -> Index:
        """``i * j``, where either may be known."""
        if isinstance(j, int):
            return self.times(i, j)
        return self.times(j, i) if isinstance(i, int) else self.b.mul(i, j)

    def share(self, i: Index, n: int) -> Index:
        """``i // n`` of what is not negative."""
        return i // n if isinstance(i, int) else self.b.udiv(i, self.const(n))

    def plus(self, *terms: Index) -> Index:
        """The sum of ints and i64 values."""
        known = sum(term for term in terms if isinstance(term, int))
        values = [term for term in terms if not isinstance(term, int)]
        if not values:
            return known
        total = values[0]
        for value in values[1:]:
            total = self.b.add(total, value)
        return self.b.add(total, self.const(known)) if known else total

    def minus(self, a: Value, b: Index) -> Value:
        """``a - b`` of an i64 value."""
        return a if isinstance(b, int) and b == 0 else self.b.sub(a, self.const(b))

    def rest(self, i: Index, n: int) -> Index:
        """``i % n`` of what is not negative."""
        return i % n if isinstance(i, int) else self.b.urem(i, self.const(n))

    def smaller(self, a: Index, b: int) -> Index:
        """The minimum of an index and a number."""
        if isinstance(a, int):
            return min(a, b)
        return self.b.select(self.b.icmp_signed("<", a, self.const(b)), a, self.const(b))

    def larger(self, a: Index, b: int) -> Index:
        """The maximum of an index and a number."""
        if isinstance(a, int):
            return max(a, b)
        return self.b.select(self.b.icmp_signed(">", a, self.const(b)), a, self.const(b))

    def at(self, pointer: Value, *offset: Index) -> Value:
        """``pointer + offset`` in numbers."""
        total = self.plus(*offset)
        if isinstance(total, int) and total == 0:
            return pointer
        return self.b.gep(pointer, [self.const(total)], source_etype=self.kind)

    # ----- loops

    def loop(
        self,
        start: Index,
        end: Index,
        body: Callable[..., Sequence[Value] | None],
        init: Sequence[Value] = (),
        step: int = 1,
    ) -> list[Value]:
        """``for i in range(start, end, step): init = body(i, *init)``; runs at least once."""
        b, before = self.b, self.b.block
        head = b.append_basic_block()
        b.branch(head)
        b.position_at_end(head)
        i = b.phi(I64)
        i.add_incoming(self.const(start), before)
        carried = [b.phi(value.type) for value in init]
        for phi, value in zip(carried, init, strict=True):
            phi.add_incoming(value, before)
        out = list(body(i, *carried) or ())
        following = b.add(i, self.const(step))
        i.add_incoming(following, b.block)
        for phi, value in zip(carried, out, strict=True):
            phi.add_incoming(value, b.block)
        after = b.append_basic_block()
        b.cbranch(b.icmp_signed("<", following, self.const(end)), head, after)
        b.position_at_end(after)
        return out

    def nest(self, counts: Sequence[int], body: Callable[..., None]) -> None:
        """Loops inside each other; `body` gets one index for each; loops of one turn are 0."""

        def level(done: tuple[Index, ...]) -> None:
            if len(done) == len(counts):
                body(*done)
            elif counts[len(done)] == 1:
                level((*done, 0))
            else:
                self.loop(0, counts[len(done)], lambda i: level((*done, i)))

        level(())

    def columns(self, n: int, body: Callable[[Index, int], None]) -> None:
        """``body(column, lanes)`` for `n` columns: a loop over full vectors and a shorter last."""
        full = n // LANES * LANES
        if full == LANES:
            body(0, LANES)
        elif full:
            self.loop(0, full, lambda i: body(i, LANES), step=LANES)
        if n % LANES:
            body(full, n % LANES)

    # ----- memory

    def load1(self, pointer: Value, *offset: Index) -> Value:
        """One float."""
        return self.b.load(self.at(pointer, *offset), typ=self.kind, align=self.nbytes)

    def store1(self, value: Value, pointer: Value, *offset: Index) -> None:
        """One float."""
        self.b.store(value, self.at(pointer, *offset), align=self.nbytes)

    def load(self, pointer: Value, offset: Index = 0, lanes: int = LANES) -> Value:
        """A vector; lanes beyond `lanes` are not read and 0."""
        place = self.at(pointer, offset)
        if lanes == LANES:
            return self.b.load(place, typ=self.vector, align=self.nbytes)
        args = [place, self._align, _first(lanes), self.zero]
        return self.call(f"llvm.masked.load.{self._suffix}.p0", self.vector, args)

    def store(self, value: Value, pointer: Value, offset: Index = 0, lanes: int = LANES) -> None:
        """A vector; lanes beyond `lanes` are not written."""
        place = self.at(pointer, offset)
        if lanes == LANES:
            self.b.store(value, place, align=self.nbytes)
        else:
            args = [value, place, self._align, _first(lanes)]
            self.call(f"llvm.masked.store.{self._suffix}.p0", VOID, args)

    def prefetch(
        self, pointer: Value, offset: Index = 0, writes: bool = False, near: int = 3
    ) -> None:
        """Ask for a line of memory before it is used; `near` 3 brings it into the first cache."""
        args = [self.at(pointer, offset), *(whole(I32, n) for n in (int(writes), near, 1))]
        self.call("llvm.prefetch.p0", VOID, args)

    def gather(self, pointer: Value, offset: Index, stride: int, lanes: int = LANES) -> Value:
        """A vector of floats that lie `stride` apart."""
        if stride == 1:
            return self.load(pointer, offset, lanes)
        if stride == 0:
            return self.splat(self.load1(pointer, offset))
        places = self._places(pointer, offset, stride)
        args = [places, self._align, _first(lanes), self.zero]
        return self.call(f"llvm.masked.gather.{self._suffix}.v16p0", self.vector, args)

    def scatter(
        self, value: Value, pointer: Value, offset: Index, stride: int, lanes: int = LANES
    ) -> None:
        """Write a vector to floats that lie `stride` apart."""
        places = self._places(pointer, offset, stride)
        args = [value, places, self._align, _first(lanes)]
        self.call(f"llvm.masked.scatter.{self._suffix}.v16p0", VOID, args)

    @property
    def _align(self) -> Value:
        return whole(I32, self.nbytes)

    def _places(self, pointer: Value, offset: Index, stride: int) -> Value:
        b, wide = self.b, ir.VectorType(I64, LANES)
        base = b.ptrtoint(self.at(pointer, offset), I64)
        nothing = ir.Constant(wide, ir.Undefined)
        first = b.insert_element(nothing, base, whole(I32, 0))
        steps = lanes_constant(wide, *(self.nbytes * stride * lane for lane in range(LANES)))
        places = b.add(b.shuffle_vector(first, nothing, self.integer(0)), steps)
        return b.inttoptr(places, ir.VectorType(PTR, LANES))

    # ----- vectors

    @property
    def zero(self) -> Value:
        """A vector of zeros."""
        return self.number(0.0)

    def number(self, x: float) -> Value:
        """A vector of `x`, rounded to the kernel's type."""
        rounded = self._rounded(x)
        return repeated(self.vector, rounded, math.copysign(1.0, rounded))

    def _rounded(self, x: float) -> float:
        if self.kind == F32:
            return to_f32(x)
        return float(x) if self.kind == F64 else int(x)

    def integer(self, n: int) -> Value:
        """A vector of 32-bit integers."""
        return lanes_constant(IVEC, *(n,) * LANES)

    def splat(self, x: Value) -> Value:
        """A vector of one float value."""
        nothing = ir.Constant(self.vector, ir.Undefined)
        first = self.b.insert_element(nothing, x, whole(I32, 0))
        return self.b.shuffle_vector(first, nothing, self.integer(0))

    def fma(self, x: Value, y: Value, z: Value) -> Value:
        """``x y + z``, rounded once."""
        return self.call(f"llvm.fma.{self._suffix}", self.vector, [x, y, z])

    def sum_lanes(self, v: Value) -> Value:
        """The sum of a vector as a float, always in the same order."""
        return self._fold(v, self.b.fadd)

    def max_lanes(self, v: Value) -> Value:
        """The largest of a vector as a float."""
        b = self.b
        return self._fold(v, lambda x, y: b.select(b.fcmp_unordered(">", x, y), x, y))

    def _fold(self, v: Value, combine: Callable[[Value, Value], Value]) -> Value:
        for half in (8, 4, 2, 1):
            moved = [(lane + half) % LANES for lane in range(LANES)]
            v = combine(v, self.shuffle(v, v, moved))
        return self.b.extract_element(v, whole(I32, 0))

    def keep(self, v: Value, lanes: int, other: float = 0.0) -> Value:
        """The first lanes of a vector; `other` in those behind."""
        return v if lanes == LANES else self.b.select(_first(lanes), v, self.number(other))

    def shuffle(self, x: Value, y: Value, lanes: Sequence[int]) -> Value:
        """Lanes of x (0..15) and y (16..31)."""
        return self.b.shuffle_vector(x, y, lanes_constant(IVEC, *lanes))

    def transposed(self, rows: Sequence[Value]) -> list[Value]:
        """16 vectors of 16, rows and columns exchanged."""
        rows = list(rows)
        for s in (1, 2, 4, 8):
            made: list[Value] = [None] * LANES
            low = [lane if not lane & s else LANES + (lane ^ s) for lane in range(LANES)]
            high = [lane ^ s if not lane & s else LANES + lane for lane in range(LANES)]
            for i in range(LANES):
                if not i & s:
                    made[i] = self.shuffle(rows[i], rows[i + s], low)
                    made[i + s] = self.shuffle(rows[i], rows[i + s], high)
            rows = made
        return rows

    def call(self, name: str, returns: Any, args: Sequence[Value]) -> Value:
        """Call an LLVM intrinsic."""
        known = self.module.globals.get(name)
        if known is None:
            kind = ir.FunctionType(returns, [arg.type for arg in args])
            known = ir.Function(self.module, kind, name)
        return self.b.call(known, args)


def _forget(module: Any) -> None:
    """Break the circles among a module's instructions, so that they go without being looked for."""
    for function in module.functions:
        for block in function.blocks:
            for phi in (i for i in block.instructions if isinstance(i, ir.PhiInstr)):
                phi.incomings.clear()
            block.instructions.clear()
            block.terminator = None


def _first(lanes: int) -> Value:
    return lanes_constant(MASK, *(lane < lanes for lane in range(LANES)))


def to_f32(x: float) -> float:
    """`x` rounded to float32, as a Python float; infinities and NaN stay."""
    return float(np.float32(x))
