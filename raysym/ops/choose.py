"""Questions about values: where, and whether all of them are finite or close."""

from __future__ import annotations

from typing import Any

from raysym.graph import apply
from raysym.op import DTypes, Entries, Grads, Op, Shapes, register
from raysym.ops.maths import zeros
from raysym.params import param
from raysym.types import PartialShape, Shape, unify, unify_all, unify_dtypes


@register
class where(Op):
    """x where the condition is nonzero, y elsewhere.

    Shapes: x and y alike; the condition likewise, or ``(n,)`` to choose whole rows of axis 0.
    """

    inputs = ("condition", "x", "y")

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        condition, x, y = ins
        shape = unify(unify(x, y), outs[0])
        if condition is not None and shape is not None:
            condition = self._condition(condition, shape)
        return [condition, shape, shape], [shape]

    def _condition(self, condition: Shape, shape: Shape) -> PartialShape:
        by_row = len(condition) == 1 != len(shape)
        return unify(condition, shape[:1] if by_row else shape, "condition")

    def infer_dtype(self, ins: DTypes, outs: DTypes) -> tuple[DTypes, DTypes]:
        dtype = unify_dtypes([*ins[1:], outs[0]])
        return [ins[0], dtype, dtype], [dtype]

    def forward(self, xp: Any, condition: Any, x: Any, y: Any) -> Any:
        rows = condition.reshape(condition.shape + (1,) * (x.ndim - condition.ndim))
        return xp.where(rows != 0, x, y)

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        (condition, *_), (g,) = ins, grads
        none = zeros(g)
        return [None, apply("where", condition, g, none), apply("where", condition, none, g)]


@register
class all_finite(Op):
    """1 if no element is infinite or NaN, else 0; float32 of shape ``(1,)``."""

    init_output: bool = param(True, doc="Accepted for compatibility; the result starts at 1.")

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        return ins, [(1,)]

    def infer_dtype(self, ins: DTypes, outs: DTypes) -> tuple[DTypes, DTypes]:
        return ins, ["float32"]

    def forward(self, xp: Any, *arrays: Any) -> Any:
        found = [xp.isfinite(array).all() for array in arrays]
        return xp.stack(found).all().reshape(1).astype("float32")


@register
class multi_all_finite(all_finite):
    """1 if no element of any input is infinite or NaN, else 0; float32 of shape ``(1,)``."""

    variadic = "num_arrays"
    num_arrays: int = param(1, low=1, doc="Number of inputs.")


@register
class _contrib_allclose(Op):
    """1 if ``|a - b| <= atol + rtol |b|`` everywhere, else 0; uint8 of shape ``(1,)``."""

    kinds = "fiu"
    inputs = ("a", "b")
    rtol: float = param(1e-5, doc="Relative tolerance.")
    atol: float = param(1e-8, doc="Absolute tolerance.")
    equal_nan: bool = param(True, doc="Whether two NaN at one place count as equal.")

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        return [unify_all(ins)] * 2, [(1,)]

    def infer_dtype(self, ins: DTypes, outs: DTypes) -> tuple[DTypes, DTypes]:
        return [unify_dtypes(ins)] * 2, ["uint8"]

    def forward(self, xp: Any, a: Any, b: Any) -> Any:
        close = (a == b) | (xp.abs(a - b) <= self.atol + self.rtol * xp.abs(b))
        if self.equal_nan:
            close = close | ((a != a) & (b != b))
        return close.all().reshape(1).astype("uint8")
