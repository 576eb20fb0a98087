"""Elementwise ops of two inputs, a row each for the plain and the broadcasting form.

Cast of characters in rows: a, b inputs, y output, g incoming gradient; `do("mul", a, b)` is the
form of another row (plain or broadcasting) that suits the op whose gradient is made.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from raysym.errors import RuleError
from raysym.graph import Entry, apply
from raysym.op import Cost, Entries, Grads, Op, Shapes, Types, register, total_bytes
from raysym.ops.arithmetic import both, divide, either, modulo, one_of
from raysym.ops.maths import log, neg, plus, square, sum_like
from raysym.ops.numeric import widen
from raysym.types import PartialShape

Do = Callable[[str, Entry, Entry], Entry]
Derivative = Callable[[Do, Entry, Entry, Entry, Entry], Entry]
FORMS: dict[str, tuple[str, str]] = {}  # row -> names of its plain and its broadcasting form


class Binary(Op):
    """An elementwise op of two inputs of one shape."""

    inputs = ("lhs", "rhs")
    flops_each = 1
    kinds = "fiu"

    def cost(self, ins: Types, outs: Types) -> Cost:
        return Cost(self.flops_each * outs[0].size, total_bytes(ins, outs))


class Broadcasting(Binary):
    """An elementwise op of two inputs whose axes of length 1 stretch to the other's."""

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        return ins, [broadcast_shape(*ins)]


def broadcast_shape(a: PartialShape, b: PartialShape) -> PartialShape:
    """The shape of a and b together; RuleError when an axis differs and is 1 in neither."""
    if a is None or b is None:
        return None
    rank = max(len(a), len(b))
    pairs = zip((1,) * (rank - len(a)) + a, (1,) * (rank - len(b)) + b, strict=True)
    return tuple(_broadcast_dim(m, n, a, b) for m, n in pairs)


def _broadcast_dim(m: int, n: int, a: Sequence[int], b: Sequence[int]) -> int:
    if m == n or n == 1:
        return m
    if m == 1:
        return n
    if m and n:
        raise RuleError(
            "operands could not be broadcast together",
            got=f"{a} and {b}",
            expected="equal dimensions, or 1 in one of them",
        )
    return m or n  # next to a known dim > 1, an unknown one turns out equal to it or 1


def binary(
    row: str,
    names: tuple[str, str],
    kernel: Callable[[Any, Any, Any], Any],
    derivatives: tuple[Derivative, Derivative] | None,
    *,
    aliases: tuple[tuple[str, ...], tuple[str, ...]] = ((), ()),
    real: bool = False,
    kinds: str = "fiu",
    flops: int = 1,
    doc: str,
) -> None:
    """Register both forms of a row. `real`: integers are computed in floating point."""
    FORMS[row] = names
    for broadcasts in (0, 1):
        if not names[broadcasts]:
            continue
        facts: dict[str, Any] = {
            "__doc__": doc + (" Axes of length 1 stretch to the other input's." * broadcasts),
            "__module__": __name__,
            "aliases": aliases[broadcasts],
            "flops_each": flops,
            "kinds": kinds,
            "zero_gradient": derivatives is None,
            "forward": _forward(kernel, real),
            "gradient": _gradient(derivatives, broadcasts),
        }
        parent = Broadcasting if broadcasts else Binary
        register(type(names[broadcasts], (parent,), facts))


def _forward(kernel: Callable[[Any, Any, Any], Any], real: bool) -> Callable[..., Any]:
    def forward(self: Op, xp: Any, lhs: Any, rhs: Any) -> Any:
        y = kernel(xp, widen(lhs), widen(rhs)) if real else kernel(xp, lhs, rhs)
        return y.astype(lhs.dtype, copy=False)

    return forward


def _gradient(pair: tuple[Derivative, Derivative] | None, broadcasts: int) -> Callable[..., Grads]:
    def do(row: str, a: Entry, b: Entry) -> Entry:
        return apply(FORMS[row][broadcasts], a, b)

    def gradient(self: Op, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        if pair is None:
            return [None, None]
        a, b = ins
        full = [derivative(do, a, b, outs[0], grads[0]) for derivative in pair]
        if not broadcasts:
            return full
        return [sum_like(grad, entry) for grad, entry in zip(full, ins, strict=True)]

    return gradient


# ----- arithmetic

binary(
    "add",
    ("elemwise_add", "broadcast_add"),
    lambda xp, a, b: a + b,
    (lambda do, a, b, y, g: g, lambda do, a, b, y, g: g),
    aliases=(("_Plus", "_add", "_plus"), ("broadcast_plus",)),
    doc="a + b.",
)
binary(
    "grad_add",
    ("_grad_add", ""),
    lambda xp, a, b: a + b,
    (lambda do, a, b, y, g: g, lambda do, a, b, y, g: g),
    doc="a + b, two contributions to one gradient.",
)
binary(
    "sub",
    ("elemwise_sub", "broadcast_sub"),
    lambda xp, a, b: a - b,
    (lambda do, a, b, y, g: g, lambda do, a, b, y, g: neg(g)),
    aliases=(("_Minus", "_minus", "_sub"), ("broadcast_minus",)),
    doc="a - b.",
)
binary(
    "mul",
    ("elemwise_mul", "broadcast_mul"),
    lambda xp, a, b: a * b,
    (lambda do, a, b, y, g: do("mul", g, b), lambda do, a, b, y, g: do("mul", g, a)),
    aliases=(("_Mul", "_mul"), ()),
    doc="a * b.",
)
_DIV_GRADIENT: tuple[Derivative, Derivative] = (
    lambda do, a, b, y, g: do("div", g, b),
    lambda do, a, b, y, g: neg(do("mul", g, do("div", a, square(b)))),
)
binary(
    "div",
    ("elemwise_div", "broadcast_div"),
    divide,
    _DIV_GRADIENT,
    aliases=(("_Div", "_div"), ()),
    flops=4,
    doc="a / b; integers are divided toward zero, and by zero give zero.",
)
binary(
    "scatter_div",
    ("_scatter_elemwise_div", ""),
    divide,
    _DIV_GRADIENT,
    flops=4,
    doc="a / b (on sparse arrays of MXNet: of the stored rows only).",
)
binary(
    "mod",
    ("_mod", "broadcast_mod"),
    modulo,
    (
        lambda do, a, b, y, g: g,
        lambda do, a, b, y, g: neg(do("mul", g, apply("floor", do("div", a, b)))),
    ),
    aliases=(("_Mod",), ()),
    flops=4,
    doc="a modulo b, with the sign of b; 0 where b is 0.",
)
binary(
    "power",
    ("_power", "broadcast_power"),
    lambda xp, a, b: xp.power(a, b),
    (
        lambda do, a, b, y, g: do("mul", g, do("mul", do("power", a, plus(b, -1.0)), b)),
        lambda do, a, b, y, g: do("mul", g, do("mul", y, log(a))),
    ),
    aliases=(("_Power",), ()),
    real=True,
    flops=16,
    doc="a ^ b.",
)
binary(
    "maximum",
    ("_maximum", "broadcast_maximum"),
    lambda xp, a, b: xp.maximum(a, b),
    (
        lambda do, a, b, y, g: do("mul", g, do("greater_equal", a, b)),
        lambda do, a, b, y, g: do("mul", g, do("lesser", a, b)),
    ),
    aliases=(("_Maximum",), ()),
    doc="The larger of a and b; a tie counts as a.",
)
binary(
    "minimum",
    ("_minimum", "broadcast_minimum"),
    lambda xp, a, b: xp.minimum(a, b),
    (
        lambda do, a, b, y, g: do("mul", g, do("lesser_equal", a, b)),
        lambda do, a, b, y, g: do("mul", g, do("greater", a, b)),
    ),
    aliases=(("_Minimum",), ()),
    doc="The smaller of a and b; a tie counts as a.",
)
binary(
    "hypot",
    ("_hypot", "broadcast_hypot"),
    lambda xp, a, b: xp.hypot(a, b),
    (
        lambda do, a, b, y, g: do("mul", g, do("div", a, y)),
        lambda do, a, b, y, g: do("mul", g, do("div", b, y)),
    ),
    aliases=(("_Hypot",), ()),
    real=True,
    flops=6,
    doc="sqrt(a^2 + b^2) without overflow.",
)

# ----- comparison and logic: 1 or 0 in the inputs' dtype, gradient zero

_CONDITIONS: dict[str, tuple[Callable[[Any, Any, Any], Any], str]] = {
    "equal": (lambda xp, a, b: a == b, "a == b"),
    "not_equal": (lambda xp, a, b: a != b, "a != b"),
    "greater": (lambda xp, a, b: a > b, "a > b"),
    "greater_equal": (lambda xp, a, b: a >= b, "a >= b"),
    "lesser": (lambda xp, a, b: a < b, "a < b"),
    "lesser_equal": (lambda xp, a, b: a <= b, "a <= b"),
    "logical_and": (both, "a and b are both nonzero"),
    "logical_or": (either, "a or b is nonzero"),
    "logical_xor": (one_of, "exactly one of a and b is nonzero"),
}

for _name, (_kernel, _words) in _CONDITIONS.items():
    binary(
        _name,
        (f"_{_name}", f"broadcast_{_name}"),
        _kernel,
        None,
        aliases=((f"_{_name.title()}",), ()),
        kinds="fiub",
        doc=f"1 where {_words}, 0 elsewhere.",
    )
