"""What elementwise ops compute, as vector code: a row for each op page that has generated code.

A formula takes the builder, the op page and the values of its inputs. The arithmetic is that of
the page's reference kernel, operation for operation; only transcendental functions differ, in
their last bits. Nothing is contracted, so fusing formulas never changes a bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias

from raysym.kernels import vector_math as vm
from raysym.kernels.emit import VEC, Emit, Value
from raysym.op import Op
from raysym.ops.activation import ALPHA, LAMBDA

Formula: TypeAlias = Callable[..., Value]
Plain: TypeAlias = Callable[..., Value]

FORMULAS: dict[str, Formula] = {}


def formula(*names: str) -> Callable[[Formula], Formula]:
    """Enter a formula under the names of op pages."""

    def enter(function: Formula) -> Formula:
        FORMULAS.update(dict.fromkeys(names, function))
        return function

    return enter


def has_formula(op: Op) -> bool:
    """True when the op, with these parameters, has vector code."""
    if op.name == "LeakyReLU":
        return vars(op)["act_type"] in _LEAKY
    if op.name == "_power_scalar":
        return vars(op)["scalar"] in _POWERS
    return op.name in FORMULAS


# ----- pieces


def flag(e: Emit, condition: Value) -> Value:
    """1 where the condition holds, 0 elsewhere."""
    return e.b.select(condition, e.number(1.0), e.zero)


def larger(e: Emit, x: Value, y: Value) -> Value:
    """The maximum; NaN if either is."""
    b = e.b
    found = b.select(b.fcmp_unordered(">", x, y), x, y)
    return b.select(b.fcmp_unordered("uno", y, y), y, found)


def smaller(e: Emit, x: Value, y: Value) -> Value:
    """The minimum; NaN if either is."""
    b = e.b
    found = b.select(b.fcmp_unordered("<", x, y), x, y)
    return b.select(b.fcmp_unordered("uno", y, y), y, found)


def relu(e: Emit, x: Value) -> Value:
    """``max(x, 0)``; NaN stays."""
    return vm.at_least(e, x, 0.0)


def root(e: Emit, x: Value) -> Value:
    """The square root, correctly rounded."""
    return e.call("llvm.sqrt.v16f32", VEC, [x])


def _compare(sign: str) -> Plain:
    def made(e: Emit, x: Value, y: Value) -> Value:
        compare = e.b.fcmp_unordered if sign == "!=" else e.b.fcmp_ordered
        return flag(e, compare(sign, x, y))

    return made


def _rounding(intrinsic: str) -> Plain:
    return lambda e, x: e.call(f"llvm.{intrinsic}.v16f32", VEC, [x])


def _reciprocal(e: Emit, x: Value) -> Value:
    return e.b.fdiv(e.number(1.0), x)


def _softrelu(e: Emit, x: Value) -> Value:
    return e.b.fadd(relu(e, x), vm.log1p(e, vm.exp(e, e.b.fneg(vm.absolute(e, x)))))


def _softsign(e: Emit, x: Value) -> Value:
    return e.b.fdiv(x, e.b.fadd(e.number(1.0), vm.absolute(e, x)))


def _sign(e: Emit, x: Value) -> Value:
    b = e.b
    return b.fsub(flag(e, b.fcmp_ordered(">", x, e.zero)), flag(e, b.fcmp_ordered("<", x, e.zero)))


# ----- rows of one input

UNARY: dict[str, Plain] = {
    "_copy": lambda e, x: x,
    "BlockGrad": lambda e, x: x,
    "negative": lambda e, x: e.b.fneg(x),
    "abs": vm.absolute,
    "sign": _sign,
    "square": lambda e, x: e.b.fmul(x, x),
    "sqrt": root,
    "rsqrt": lambda e, x: _reciprocal(e, root(e, x)),
    "reciprocal": _reciprocal,
    "exp": vm.exp,
    "expm1": vm.expm1,
    "log": vm.log,
    "log1p": vm.log1p,
    "floor": _rounding("floor"),
    "ceil": _rounding("ceil"),
    "trunc": _rounding("trunc"),
    "fix": _rounding("trunc"),
    "relu": relu,
    "sigmoid": vm.sigmoid,
    "softsign": _softsign,
    "tanh": vm.tanh,
    "erf": vm.erf,
    "logical_not": lambda e, x: flag(e, e.b.fcmp_ordered("==", x, e.zero)),
}
BINARY: dict[str, Plain] = {
    "add": lambda e, x, y: e.b.fadd(x, y),
    "sub": lambda e, x, y: e.b.fsub(x, y),
    "mul": lambda e, x, y: e.b.fmul(x, y),
    "div": lambda e, x, y: e.b.fdiv(x, y),
    "maximum": larger,
    "minimum": smaller,
    "equal": _compare("=="),
    "not_equal": _compare("!="),
    "greater": _compare(">"),
    "greater_equal": _compare(">="),
    "lesser": _compare("<"),
    "lesser_equal": _compare("<="),
}
ELEMWISE = {"add", "sub", "mul", "div"}
_REVERSED = {"_rminus_scalar": "sub", "_rdiv_scalar": "div"}
_SCALAR = {"plus": "add", "minus": "sub", "mul": "mul", "div": "div"}
_ACTIVATIONS: dict[str, Plain] = {
    "relu": relu,
    "sigmoid": vm.sigmoid,
    "tanh": vm.tanh,
    "softrelu": _softrelu,
    "softsign": _softsign,
}


def _enter_plain(name: str, plain: Plain) -> None:
    FORMULAS[name] = lambda e, op, *xs: plain(e, *xs)


def _enter_scalar(name: str, plain: Plain, turned: bool = False) -> None:
    def made(e: Emit, op: Any, x: Value) -> Value:
        s = e.number(op.scalar)
        return plain(e, s, x) if turned else plain(e, x, s)

    FORMULAS[name] = made


for _name, _plain in UNARY.items():
    _enter_plain(_name, _plain)
for _name, _plain in BINARY.items():
    _enter_plain(f"elemwise_{_name}" if _name in ELEMWISE else f"_{_name}", _plain)
    _enter_plain(f"broadcast_{_name}", _plain)
    if _name not in ELEMWISE:
        _enter_scalar(f"_{_name}_scalar", _plain)
for _name, _row in _SCALAR.items():
    _enter_scalar(f"_{_name}_scalar", BINARY[_row])
for _name, _row in _REVERSED.items():
    _enter_scalar(_name, BINARY[_row], turned=True)
_enter_plain("_grad_add", BINARY["add"])


# ----- rows with parameters


@formula("Activation")
def _activation(e: Emit, op: Any, x: Value) -> Value:
    return _ACTIVATIONS[op.act_type](e, x)


@formula("add_n")
def _add_n(e: Emit, op: Any, *xs: Value) -> Value:
    total = xs[0]
    for x in xs[1:]:
        total = e.b.fadd(total, x)
    return total


@formula("_full", "_zeros", "_ones")
def _constant(e: Emit, op: Any) -> Value:
    return e.number({"_zeros": 0.0, "_ones": 1.0}.get(op.name, vars(op).get("value", 0.0)))


def _square(e: Emit, x: Value) -> Value:
    return e.b.fmul(x, x)


_POWERS: dict[float, Plain] = {
    2.0: _square,
    1.0: lambda e, x: x,
    0.5: root,
    -1.0: _reciprocal,
    -2.0: lambda e, x: _reciprocal(e, _square(e, x)),
    -0.5: lambda e, x: _reciprocal(e, root(e, x)),
}


@formula("_power_scalar")
def _power(e: Emit, op: Any, x: Value) -> Value:
    return _POWERS[op.scalar](e, x)


def _gelu(e: Emit, op: Any, x: Value) -> Value:
    half = e.b.fmul(e.number(0.5), x)
    inner = vm.erf(e, e.b.fmul(x, e.number(math.sqrt(0.5))))
    return e.b.fmul(half, e.b.fadd(e.number(1.0), inner))


def _leaky(e: Emit, op: Any, x: Value) -> Value:
    low = e.b.fmul(e.number(op.slope), x)
    return e.b.select(e.b.fcmp_ordered(">", x, e.zero), x, low)


def _exponential(e: Emit, op: Any, x: Value) -> Value:
    selu = op.act_type == "selu"
    low = vm.expm1(e, vm.at_most(e, x, 0.0))
    low = e.b.fmul(e.number(LAMBDA * ALPHA if selu else op.slope), low)
    high = e.b.fmul(e.number(LAMBDA), x) if selu else x
    return e.b.select(e.b.fcmp_ordered(">", x, e.zero), high, low)


_LEAKY = {"gelu": _gelu, "leaky": _leaky, "elu": _exponential, "selu": _exponential}


@formula("LeakyReLU")
def _leaky_relu(e: Emit, op: Any, x: Value) -> Value:
    return _LEAKY[op.act_type](e, op, x)
