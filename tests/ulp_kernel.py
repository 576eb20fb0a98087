"""A kernel that measures: the worst error of a float32 function over a range of bit patterns.

Exact values are those of the same function in float64, itself compared with NumPy by a test. Errors
are in units of the last place of the rounded exact value; 0 where both round alike or are NaN.
"""

from __future__ import annotations

import math

import numpy as np
from kernel_calls import call

import raysym.ops  # noqa: F401  (fills the registry)
from raysym.kernels.elementwise import ChainStep, named, run_program
from raysym.kernels.elementwise import compute as compute_chain
from raysym.kernels.emit import I32, I64, LANES, Emit, Index, Value
from raysym.kernels.formulas import FORMULAS
from raysym.kernels.gate_math import sigmoid, tanh
from raysym.kernels.llvm import ir
from raysym.kernels.pages import formula
from raysym.kernels.specs import Spec, maker
from raysym.kernels.typed import convert, intrinsic, like, splat, store, vector_of
from raysym.kernels.vector_ops import larger
from raysym.op import make_op
from raysym.types import TensorType

EVERY = 2**32  # bit patterns of a float32


def bits(x: float) -> int:
    """The pattern of a float32."""
    return int(np.float32(x).view(np.uint32))


# Functions with float32 code of their own, and some that float64 code computes.
MEASURED = ("exp", "expm1", "log", "log1p", "tanh", "erf", "sigmoid", "log2", "log10", "cbrt",
            "sinh", "cosh", "arcsinh", "arccosh", "arctanh", "arcsin", "arccos",
            "arctan")  # fmt: skip
GATES = {"gate_sigmoid": sigmoid, "gate_tanh": tanh}
# Bit patterns that the functions of recurrent cells see: sigmoid loses numbers below 1e-37.
SEEN = {
    "gate_sigmoid": [(0, bits(np.inf) + 1), (bits(-0.0), bits(-86.0))],
    "gate_tanh": [(0, EVERY)],
}


@maker
def worst_ulp(e: Emit, name: str, step: int) -> None:
    """Arguments: result (float64), first bit pattern, number of patterns (multiple of 16)."""
    first, count = (e.b.ptrtoint(e.arg(i), I64) for i in (1, 2))
    ramp = ir.Constant(vector_of(I32), [lane * step for lane in range(LANES)])
    zero = ir.Constant(vector_of(ir.DoubleType()), [0.0] * LANES)

    def block(i: Index, worst: Value) -> list[Value]:
        start = e.b.trunc(e.b.add(first, e.b.mul(i, e.const(step))), I32)
        bits = e.b.add(splat(e, start), ramp)
        x = e.b.bitcast(bits, vector_of(ir.FloatType()))
        return [larger(e, worst, _error(e, _single(e, name, x), _double(e, name, x)))]

    (worst,) = e.loop(0, count, block, [zero], step=LANES)
    store(e, "float64", worst, e.arg(0), 0, 1, LANES)


@maker
def gate_values(e: Emit, name: str) -> None:
    """Arguments: a vector, and what a function of recurrent cells makes of it."""
    e.store(GATES[name](e, e.load(e.arg(0))), e.arg(1))


def _single(e: Emit, name: str, x: Value) -> Value:
    if name in GATES:
        return GATES[name](e, x)
    if name in FORMULAS:
        return compute_chain(e, (ChainStep.of(make_op(name, {}), (0,)),), [x])[1]
    return _traced(e, name, "float32", x)


def _double(e: Emit, name: str, x: Value) -> Value:
    name = name.removeprefix("gate_")
    return _traced(e, name, "float64", convert(e, x, "float32", "float64"))


def _traced(e: Emit, name: str, dtype: str, x: Value) -> Value:
    kind = TensorType((7,), dtype)
    made = formula(make_op(name, {}), (kind,), (kind,))
    assert made is not None
    return run_program(e, made.program, named([x]))[made.results[0]]


def _error(e: Emit, got: Value, exact: Value) -> Value:
    b = e.b
    rounded = convert(e, exact, "float64", "float32")
    both_nan = b.and_(b.fcmp_unordered("uno", got, got), b.fcmp_unordered("uno", rounded, rounded))
    same = b.or_(b.fcmp_ordered("==", got, rounded), both_nan)
    size = intrinsic(e, "fabs", rounded)
    following = b.bitcast(b.add(b.bitcast(size, vector_of(I32)), e.integer(1)), size.type)
    unit = b.fsub(
        convert(e, following, "float32", "float64"), convert(e, size, "float32", "float64")
    )
    gap = intrinsic(e, "fabs", b.fsub(convert(e, got, "float32", "float64"), exact))
    error = b.fdiv(gap, unit)
    error = b.select(b.fcmp_unordered("uno", error, error), like(e, error, math.inf), error)
    return b.select(same, like(e, error, 0), error)


def worst(name: str, first: int, last: int, step: int = 1) -> float:
    """The worst error over every `step`-th bit pattern from `first` up to `last`."""
    result = np.zeros(LANES)
    count = -(-(last - first) // (step * LANES)) * LANES
    call(Spec("worst_ulp", (name, step)), result, first, count)
    return float(result.max())
