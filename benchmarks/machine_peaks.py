"""The best that one core does: loops of nothing but products and sums, or loads and stores.

Written with the generator's own builder, so that they have the same vectors as kernels.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from raysym.kernels import llvm
from raysym.kernels.emit import I32, LANES, Emit, Value, ir

Call = Callable[[], object]
CHAINS, TURNS = 16, 1 << 20  # sums that do not wait for each other; turns of each


def function(e: Emit, *arrays: np.ndarray) -> Call:
    """What was written into `e` as a function of no arguments on arrays."""
    table = np.array([a.ctypes.data for a in arrays], np.int64)
    address = llvm.load(llvm.assemble(e.text()))
    compiled = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(address)
    kept = (table, arrays)
    return lambda: compiled(kept[0].ctypes.data)


def products() -> tuple[Call, float]:
    """A loop of fused products and sums in registers, and how many flops it does."""
    e = Emit()
    x = e.load(e.arg(0))
    starts = [e.load(e.arg(0), i * LANES) for i in range(CHAINS)]
    ends = e.loop(0, TURNS, lambda i, *sums: [e.fma(total, x, x) for total in sums], starts)
    for i, total in enumerate(ends):
        e.store(total, e.arg(0), i * LANES)
    numbers = np.full(CHAINS * LANES, 1e-3, np.float32)
    return function(e, numbers), 2.0 * CHAINS * LANES * TURNS


def aligned(size: int) -> np.ndarray:
    """So many float32 numbers from the start of a large page."""
    raw = np.zeros(4 * size + (1 << 21), np.uint8)
    start = -raw.ctypes.data % (1 << 21)
    made: np.ndarray = raw[start : start + 4 * size].view(np.float32)
    made[:] = 0.5
    return made


def moves(reads: int, size: int) -> list[Call]:
    """Loops that read `reads` arrays and write their sum: near and past the caches."""
    arrays = [aligned(size) for _ in range(reads + 1)]
    ways = [(ways, past, ahead) for ways in (2, 4) for past in (0, 1) for ahead in (0, 256)]
    return [_move(arrays, *way) for way in ways]


def _move(arrays: list[np.ndarray], ways: int, past: bool, ahead: int) -> Call:
    e = Emit()
    *ins, out = (e.arg(i) for i in range(len(arrays)))
    mark = e.module.add_metadata([ir.Constant(I32, 1)])

    def body(i: Value) -> None:
        for column in [e.plus(i, way * LANES) for way in range(ways)]:
            value: Any = e.load(ins[0], column)
            for pointer in ins[1:]:
                value = e.b.fadd(value, e.load(pointer, column))
            stored = e.b.store(value, e.at(out, column), align=64)
            if past:
                stored.set_metadata("nontemporal", mark)
            for pointer in ins if ahead else ():
                e.prefetch(pointer, e.plus(column, ahead))

    e.loop(0, arrays[0].size, body, step=ways * LANES)
    return function(e, *arrays)


def straight(rows: Iterable[tuple[int, int]]) -> Call:
    """Kernels called in turn, each at a known address with known arguments: no table, no loop."""
    calls = [
        f"call void inttoptr (i64 {kernel} to ptr)(ptr inttoptr (i64 {args} to ptr))"
        for kernel, args in rows
    ]
    text = "\n".join([f"define void @{llvm.ENTRY}() {{", *calls, "ret void", "}"])
    return ctypes.CFUNCTYPE(None)(llvm.load(llvm.assemble(text)))
