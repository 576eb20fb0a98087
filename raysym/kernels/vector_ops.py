"""What the functions of traced pages are in vector code, by their NumPy names.

Every function gets the builder, the dtype of its operands and their vectors. float32 without code
of its own is computed in float64 and rounded.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias

from raysym.kernels import circular_math as cm
from raysym.kernels import double_circular as dc
from raysym.kernels import double_math as dm
from raysym.kernels import vector_math as vm
from raysym.kernels.emit import F32, F64, Emit, Value
from raysym.kernels.power_math import power
from raysym.kernels.typed import convert, half, intrinsic, like, root

Function: TypeAlias = Callable[..., Value]


def is_float(x: Value) -> bool:
    """True for vectors of floating point numbers."""
    return x.type.element in (F32, F64)


def compute(e: Emit, name: str, dtype: str, source: str, args: tuple[Value, ...]) -> Value:
    """A function's value; `dtype` is that of the result, `source` that of the operands."""
    if name == "cast":
        return convert(e, args[0], source, dtype)
    made = FUNCTIONS[name](e, *args)
    return half(e, made) if dtype == "float16" else made


def is_known(name: str, source: str) -> bool:
    """True when there is code for a function of operands of this dtype."""
    if name in ("cast", "select"):
        return True
    if source == "bool":
        return name in (*_LOGIC, "equal", "not_equal")
    if source in ("int8", "uint8"):
        return name in _COMPARISONS
    if source.startswith("int"):
        return name in _COMPARISONS or name in _WHOLE
    return name in FUNCTIONS and name != "floor_divide"


# ----- pieces


def _arithmetic(floating: str, whole: str = "") -> Function:
    def run(e: Emit, x: Value, y: Value) -> Value:
        return getattr(e.b, floating if is_float(x) else whole)(x, y)

    return run


def _compare(sign: str) -> Function:
    def run(e: Emit, x: Value, y: Value) -> Value:
        if not is_float(x):
            return e.b.icmp_signed(sign, x, y)
        return (e.b.fcmp_unordered if sign == "!=" else e.b.fcmp_ordered)(sign, x, y)

    return run


def _by_type(single: Function, double: Function) -> Function:
    return lambda e, x: (single if x.type.element == F32 else double)(e, x)


def _doubled(double: Function) -> Function:
    """A function of float64; float32 goes there and back."""

    def run(e: Emit, *args: Value) -> Value:
        if args[0].type.element == F64:
            return double(e, *args)
        made = double(e, *(convert(e, a, "float32", "float64") for a in args))
        return convert(e, made, "float64", "float32")

    return run


def _intrinsic(name: str) -> Function:
    return lambda e, *args: intrinsic(e, name, *args)


def larger(e: Emit, x: Value, y: Value) -> Value:
    """The maximum; NaN if either is."""
    return _extreme(e, x, y, ">")


def smaller(e: Emit, x: Value, y: Value) -> Value:
    """The minimum; NaN if either is."""
    return _extreme(e, x, y, "<")


def _extreme(e: Emit, x: Value, y: Value, sign: str) -> Value:
    b = e.b
    if not is_float(x):
        return b.select(b.icmp_signed(sign, x, y), x, y)
    found = b.select(b.fcmp_unordered(sign, x, y), x, y)
    return b.select(b.fcmp_unordered("uno", y, y), y, found)


def _number_first(plain: Function) -> Function:
    """The extreme of two in which a number wins over NaN."""

    def run(e: Emit, x: Value, y: Value) -> Value:
        b = e.b
        made = b.select(b.fcmp_unordered("uno", x, x), y, plain(e, x, y))
        return b.select(b.fcmp_unordered("uno", y, y), x, made)

    return run


def _negative(e: Emit, x: Value) -> Value:
    return e.b.fneg(x) if is_float(x) else e.b.neg(x)


def _absolute(e: Emit, x: Value) -> Value:
    if is_float(x):
        return intrinsic(e, "fabs", x)
    return e.b.select(e.b.icmp_signed("<", x, like(e, x, 0)), e.b.neg(x), x)


def _sign(e: Emit, x: Value) -> Value:
    """NumPy's: NaN stays."""
    if not is_float(x):
        up, down = (e.b.icmp_signed(sign, x, like(e, x, 0)) for sign in "><")
    else:
        up, down = (e.b.fcmp_ordered(sign, x, like(e, x, 0)) for sign in "><")
    made = e.b.select(up, like(e, x, 1), e.b.select(down, like(e, x, -1), like(e, x, 0)))
    return e.b.select(e.b.fcmp_unordered("uno", x, x), x, made) if is_float(x) else made


def _square(e: Emit, x: Value) -> Value:
    return e.b.fmul(x, x) if is_float(x) else e.b.mul(x, x)


def _is_infinite(e: Emit, x: Value) -> Value:
    return e.b.fcmp_ordered("==", intrinsic(e, "fabs", x), like(e, x, math.inf))


def _is_finite(e: Emit, x: Value) -> Value:
    return e.b.fcmp_ordered("<", intrinsic(e, "fabs", x), like(e, x, math.inf))


def _logarithm(base: float) -> Function:
    return lambda e, x: e.b.fmul(dm.log(e, x), like(e, x, 1 / math.log(base)))


def _logaddexp(e: Emit, x: Value, y: Value) -> Value:
    b = e.b
    gap = b.fsub(x, y)
    gap = b.select(b.fcmp_ordered("==", x, y), like(e, x, 0), gap)  # two infinities
    more = dm.log1p(e, dm.exp(e, b.fneg(intrinsic(e, "fabs", gap))))
    return b.fadd(larger(e, x, y), more)


def _hypot(e: Emit, x: Value, y: Value) -> Value:
    """Scaled by the larger, so that no square overflows."""
    b = e.b
    x, y = intrinsic(e, "fabs", x), intrinsic(e, "fabs", y)
    high, low = larger(e, x, y), smaller(e, x, y)
    ratio = b.fdiv(low, b.select(b.fcmp_ordered("==", high, like(e, x, 0)), like(e, x, 1), high))
    ratio = b.select(b.fcmp_ordered("==", high, like(e, x, math.inf)), like(e, x, 0), ratio)
    made = b.fmul(high, root(e, intrinsic(e, "fma", ratio, ratio, like(e, x, 1))))
    either = b.or_(_is_infinite(e, x), _is_infinite(e, y))
    return b.select(either, like(e, x, math.inf), made)


def _floor_divide(e: Emit, x: Value, y: Value) -> Value:
    """Of whole numbers, toward minus infinity; 0 if the divisor is."""
    b, zero, one = e.b, like(e, x, 0), like(e, x, 1)
    is_zero, is_back = b.icmp_signed("==", y, zero), b.icmp_signed("==", y, like(e, x, -1))
    safe = b.select(b.or_(is_zero, is_back), one, y)  # processors stop at 0, and at -2^63 / -1
    quotient = b.sdiv(x, safe)
    rest = b.sub(x, b.mul(quotient, safe))
    is_uneven = b.icmp_signed("!=", rest, zero)
    is_below = b.and_(is_uneven, b.icmp_signed("<", b.xor(rest, safe), zero))
    made = b.select(is_back, b.neg(x), b.select(is_below, b.sub(quotient, one), quotient))
    return b.select(is_zero, zero, made)


def _remainder(e: Emit, x: Value, y: Value) -> Value:
    """The remainder with the sign of the divisor."""
    if not is_float(x):
        rest = e.b.sub(x, e.b.mul(_floor_divide(e, x, y), y))
        return e.b.select(e.b.icmp_signed("==", y, like(e, x, 0)), like(e, x, 0), rest)
    b, zero = e.b, like(e, x, 0)
    rest = b.frem(x, y)
    is_zero = b.fcmp_ordered("==", rest, zero)
    other = b.xor(b.fcmp_ordered("<", rest, zero), b.fcmp_ordered("<", y, zero))
    moved = b.select(b.and_(other, b.not_(is_zero)), b.fadd(rest, y), rest)
    return b.select(is_zero, intrinsic(e, "copysign", zero, y), moved)


# ----- the table

_COMPARISONS: dict[str, Function] = {
    "equal": _compare("=="),
    "not_equal": _compare("!="),
    "greater": _compare(">"),
    "greater_equal": _compare(">="),
    "less": _compare("<"),
    "less_equal": _compare("<="),
}
_LOGIC: dict[str, Function] = {
    "logical_and": lambda e, x, y: e.b.and_(x, y),
    "logical_or": lambda e, x, y: e.b.or_(x, y),
    "logical_xor": lambda e, x, y: e.b.xor(x, y),
    "logical_not": lambda e, x: e.b.not_(x),
}
_WHOLE: dict[str, Function] = {
    "add": _arithmetic("fadd", "add"),
    "subtract": _arithmetic("fsub", "sub"),
    "multiply": _arithmetic("fmul", "mul"),
    "maximum": larger,
    "minimum": smaller,
    "negative": _negative,
    "abs": _absolute,
    "sign": _sign,
    "square": _square,
    "remainder": _remainder,
    "floor_divide": _floor_divide,
}
FUNCTIONS: dict[str, Function] = {
    **_LOGIC,
    **_COMPARISONS,
    **_WHOLE,
    "select": lambda e, condition, x, y: e.b.select(condition, x, y),
    "divide": _arithmetic("fdiv"),
    "sqrt": _intrinsic("sqrt"),
    "floor": _intrinsic("floor"),
    "ceil": _intrinsic("ceil"),
    "trunc": _intrinsic("trunc"),
    "rint": _intrinsic("nearbyint"),
    "copysign": _intrinsic("copysign"),
    "fmax": _number_first(larger),
    "fmin": _number_first(smaller),
    "isnan": lambda e, x: e.b.fcmp_unordered("uno", x, x),
    "isinf": _is_infinite,
    "isfinite": _is_finite,
    "exp": _by_type(vm.exp, dm.exp),
    "expm1": _by_type(vm.expm1, dm.expm1),
    "log": _by_type(vm.log, dm.log),
    "log1p": _by_type(vm.log1p, dm.log1p),
    "tanh": _by_type(vm.tanh, dm.tanh),
    "log2": _doubled(_logarithm(2)),
    "log10": _doubled(_logarithm(10)),
    "logaddexp": _doubled(_logaddexp),
    "hypot": _doubled(_hypot),
    "power": power,
    "sin": _by_type(cm.sin, dc.sin),
    "cos": _by_type(cm.cos, dc.cos),
    "tan": _by_type(cm.tan, dc.tan),
    "arctan": _by_type(cm.arctan, dm.arctan),
    "arcsin": _by_type(cm.arcsin, dm.arcsin),
    "arccos": _by_type(cm.arccos, dm.arccos),
    **{
        name: _doubled(getattr(dm, name))
        for name in (
            "sinh", "cosh", "arcsinh", "arccosh", "arctanh", "cbrt",
        )
    },
}  # fmt: skip


def neutral(fold: str, dtype: str) -> Any:
    """The number that changes nothing in a fold."""
    if dtype.startswith("float"):
        return {"add": 0.0, "multiply": 1.0, "maximum": -math.inf, "minimum": math.inf}[fold]
    if dtype == "bool":
        return fold in ("logical_and", "minimum")
    edge = 2 ** (63 if dtype == "int64" else 31)
    return {"add": 0, "multiply": 1, "maximum": -edge, "minimum": edge - 1}[fold]
