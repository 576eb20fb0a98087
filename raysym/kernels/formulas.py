"""Elementwise pages in float32 whose own steps would cost more time or digits than this code.

All other elementwise pages are traced (pages.py): what comes of these is as fast, as measured.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias

from raysym.kernels import vector_math as vm
from raysym.kernels.emit import Emit, Value
from raysym.kernels.typed import root
from raysym.op import Op

Code: TypeAlias = Callable[[Emit, Any, Value], Value]  # builder, op page, its input
Plain: TypeAlias = Callable[[Emit, Value], Value]


def _reciprocal(e: Emit, x: Value) -> Value:
    return e.b.fdiv(e.number(1.0), x)


def _square(e: Emit, x: Value) -> Value:
    return e.b.fmul(x, x)


# What NumPy's ``**`` computes without a logarithm, and two more.
_POWERS: dict[float, Plain] = {
    2.0: _square,
    1.0: lambda e, x: x,
    0.5: root,
    -1.0: _reciprocal,
    -2.0: lambda e, x: _reciprocal(e, _square(e, x)),
    -0.5: lambda e, x: _reciprocal(e, root(e, x)),
}


def _sigmoid(e: Emit, op: Any, x: Value) -> Value:
    return vm.sigmoid(e, x)


def _gelu(e: Emit, op: Any, x: Value) -> Value:
    half = e.b.fmul(e.number(0.5), x)
    inner = vm.erf(e, e.b.fmul(x, e.number(math.sqrt(0.5))))
    return e.b.fmul(half, e.b.fadd(e.number(1.0), inner))


FORMULAS: dict[str, Code] = {
    "Activation": _sigmoid,
    "LeakyReLU": _gelu,
    "_power_scalar": lambda e, op, x: _POWERS[op.scalar](e, x),
    "erf": lambda e, op, x: vm.erf(e, x),
    "sigmoid": _sigmoid,
}
# A parameter of the page, and for which of its values the row above is meant.
_ONLY_FOR: dict[str, tuple[str, frozenset[object]]] = {
    "Activation": ("act_type", frozenset({"sigmoid"})),
    "LeakyReLU": ("act_type", frozenset({"gelu"})),
    "_power_scalar": ("scalar", frozenset(_POWERS)),
}


def has_formula(op: Op) -> bool:
    """True when the op, with these parameters, has code of its own."""
    if op.name in _ONLY_FOR:
        param, values = _ONLY_FOR[op.name]
        return vars(op)[param] in values
    return op.name in FORMULAS
