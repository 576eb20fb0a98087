"""The gradient of lookups by index: rows added up where they were read, in their own order."""

from __future__ import annotations

import math
from typing import Any

from raysym.kernels.emit import I32, I64, Emit, Index, Value
from raysym.kernels.llvm import ir
from raysym.kernels.lowering import Kernel, Types, lowering
from raysym.kernels.specs import Spec, maker
from raysym.kernels.typed import DTYPES, constant, convert, load, register_type, store
from raysym.types import normal_axis


@lowering("_backward_take", any_dtype=True, half=True)
def _add_rows(op: Any, ins: Types, outs: Types) -> Kernel | None:
    grad, index, made = ins[0], ins[1], outs[0]
    if made.dtype not in ("float32", "float64") or index.dtype not in DTYPES or not grad.size:
        return None
    axis = normal_axis(op.axis, len(made.shape))
    lead, tail = math.prod(made.shape[:axis]), math.prod(made.shape[axis + 1 :])
    sizes = (lead, made.shape[axis], tail, index.size)
    return Kernel(Spec("add_rows", (sizes, op.mode == "wrap", made.dtype, index.dtype)), (0, 1))


@maker
def add_rows(
    e: Emit, sizes: tuple[int, int, int, int], wraps: bool, dtype: str, index_dtype: str
) -> None:
    """``(lead, n, tail) -> (lead, length, tail)``; arguments: rows, n indices, result."""
    lead, length, tail, count = sizes
    rows, index, made = (e.arg(i) for i in range(3))
    zero = constant(e, register_type(dtype), 0)
    e.columns(lead * length * tail, lambda c, n: store(e, dtype, zero, made, c, 1, n))

    def add(k: Index) -> None:
        row = _row(e, load(e, index_dtype, index, k, 0, 1), index_dtype, length, wraps)

        def part(block: Index) -> None:
            target = e.plus(e.times(block, length * tail), e.times(row, tail))
            source = e.plus(e.times(block, count * tail), e.times(k, tail))

            def cells(c: Index, n: int) -> None:
                old = load(e, dtype, made, e.plus(target, c), 1, n)
                new = load(e, dtype, rows, e.plus(source, c), 1, n)
                store(e, dtype, e.b.fadd(old, new), made, e.plus(target, c), 1, n)

            e.columns(tail, cells)

        e.nest((lead,), part)

    e.loop(0, count, add)


def _row(e: Emit, given: Value, dtype: str, length: int, wraps: bool) -> Value:
    """An index inside of the axis: clipped, or counted around."""
    b = e.b
    whole = convert(e, given, dtype, "int64")
    one = b.extract_element(whole, ir.Constant(I32, 0))
    if wraps:
        rest = b.srem(one, ir.Constant(I64, length))
        return b.select(b.icmp_signed("<", rest, e.const(0)), b.add(rest, e.const(length)), rest)
    return e.smaller(e.larger(one, 0), length - 1)
