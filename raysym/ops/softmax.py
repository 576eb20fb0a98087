"""Softmax, its logarithm, and their gradients.

Cast: x data, y output, g incoming gradient, T temperature.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from raysym.errors import RuleError
from raysym.graph import Entry, apply
from raysym.op import Cost, DTypes, Entries, Grads, Op, Shapes, Types, register, total_bytes
from raysym.ops.maths import exp, mul, neg, sub, times
from raysym.ops.numeric import wide
from raysym.params import DType, param
from raysym.types import normal_axis, unify, unify_dtypes


def softmax_of(xp: Any, x: Any, axis: int) -> Any:
    """``e^x / sum e^x`` along one axis."""
    e = x - x.max(axis=axis, keepdims=True)
    xp.exp(e, out=e)
    e /= e.sum(axis=axis, keepdims=True)
    return e


def log_softmax_of(xp: Any, x: Any, axis: int) -> Any:
    """The logarithm of `softmax_of`, exact where that underflows."""
    x = x - x.max(axis=axis, keepdims=True)
    x -= xp.log(xp.exp(x).sum(axis=axis, keepdims=True))
    return x


class _Softmax(Op):
    """Parameters and rules of the family."""

    kinds = "f"
    sign = 1.0
    kernel: Callable[[Any, Any, int], Any] = staticmethod(softmax_of)
    backward = "_backward_softmax"
    axis: int = param(-1, doc="The axis along which probabilities sum to 1.")
    temperature: float | None = param(None, doc="Divides the data; None is 1.")
    dtype: DType | None = param(
        None,
        choices=("float16", "float32", "float64"),
        doc="Data type of the output; None is the data's.",
    )
    use_length: bool | None = param(
        False, doc="Whether each row has a length of its own (softmax only)."
    )

    def check(self) -> None:
        if self.use_length and "length" not in self.inputs:
            raise RuleError(
                "takes no length", got="use_length=True", expected=False, fix="Use softmax instead"
            )

    def input_names(self) -> tuple[str, ...]:
        return self.inputs if self.use_length else self.inputs[:1]

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        data = ins[0]
        if data is None:
            return ins, outs
        axis = normal_axis(self.axis, len(data))
        length = [unify(lengths, (*data[:axis], *data[axis + 1 :])) for lengths in ins[1:]]
        return [data, *length], [data]

    def infer_dtype(self, ins: DTypes, outs: DTypes) -> tuple[DTypes, DTypes]:
        if self.dtype:
            return ins, [self.dtype]
        data = unify_dtypes([ins[0], outs[0]])
        return [data, *ins[1:]], [data]

    def factor(self) -> float:
        """What multiplies the data."""
        return self.sign / (1.0 if self.temperature is None else self.temperature)

    def forward(self, xp: Any, data: Any, length: Any = None) -> Any:
        dtype = self.dtype or data.dtype
        inner = xp.promote_types(xp.promote_types(data.dtype, dtype), xp.float32)
        x = data.astype(inner, copy=False)
        x = x if self.factor() == 1.0 else x * self.factor()
        axis = normal_axis(self.axis, x.ndim)
        if length is None:
            return self.kernel(xp, x, axis).astype(dtype, copy=False)
        steps = xp.arange(x.shape[axis]).reshape(-1, *(1,) * (x.ndim - axis - 1))
        live = steps < xp.expand_dims(length, axis)
        # A row of length 0 has no largest element; -1e30 instead of -inf keeps it free of NaN.
        y = self.kernel(xp, xp.where(live, x, -1e30), axis)
        return xp.where(live, y, 0).astype(dtype, copy=False)

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        dx = apply(self.backward, grads[0], outs[0], axis=self.axis, scale=self.factor())
        dx = apply("_cast_like", dx, ins[0]) if self.dtype else dx
        return [dx, None][: len(ins)]

    def cost(self, ins: Types, outs: Types) -> Cost:
        return Cost(12 * outs[0].size, total_bytes(ins, outs))


@register
class softmax(_Softmax):
    """``y = e^(x/T) / sum e^(x/T)`` along one axis.

    Shapes: output like data; length, with ``use_length``, like data without `axis`: elements at
    positions of at least the length are 0 and do not count.
    """

    inputs = ("data", "length")


@register
class softmin(_Softmax):
    """``y = e^(-x/T) / sum e^(-x/T)`` along one axis. Output like data."""

    sign = -1.0


@register
class log_softmax(_Softmax):
    """``y = x/T - log sum e^(x/T)`` along one axis. Output like data."""

    kernel = staticmethod(log_softmax_of)
    backward = "_backward_log_softmax"


# ----- gradients


class _SoftmaxGradient(Op):
    """Parameters of the gradients; grad, output and result are alike."""

    internal = True
    inputs = ("grad", "output")
    axis: int = param(doc="The axis of the softmax.")
    scale: float = param(1.0, doc="What the data was multiplied by.")
    flatten: bool = param(False, doc="Whether everything after axis 0 counts as one axis.")

    def cost(self, ins: Types, outs: Types) -> Cost:
        return Cost(4 * outs[0].size, total_bytes(ins, outs))

    def forward(self, xp: Any, grad: Any, output: Any) -> Any:
        shape = (grad.shape[0], -1) if self.flatten else grad.shape
        made = self.rows(xp, wide(grad).reshape(shape), wide(output).reshape(shape))
        made = made if self.scale == 1.0 else made * self.scale
        return made.reshape(grad.shape).astype(grad.dtype, copy=False)

    def rows(self, xp: Any, g: Any, y: Any) -> Any:
        """The gradient before scaling."""
        raise NotImplementedError

    def summed(self, a: Entry) -> Entry:
        """Graph maths: the sum over the axis, kept as 1."""
        if self.flatten:
            return apply("sum", a, axis=0, exclude=True, keepdims=True)
        return apply("sum", a, axis=self.axis, keepdims=True)


@register
class _backward_softmax(_SoftmaxGradient):
    """``dx = scale y (g - sum g y)``. Grad, output and result alike."""

    def rows(self, xp: Any, g: Any, y: Any) -> Any:
        return y * (g - (g * y).sum(axis=self.axis, keepdims=True))

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        (g, y), (u,) = ins, grads
        centred = apply("broadcast_sub", g, self.summed(mul(g, y)))
        dy = sub(mul(u, centred), apply("broadcast_mul", g, self.summed(mul(u, y))))
        return [apply(self.name, u, y, **self.given()), times(dy, self.scale)]


@register
class _backward_log_softmax(_SoftmaxGradient):
    """``dx = scale (g - e^y sum g)``. Grad, output and result alike."""

    def rows(self, xp: Any, g: Any, y: Any) -> Any:
        return g - xp.exp(y) * g.sum(axis=self.axis, keepdims=True)

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        (g, y), (u,) = ins, grads
        weighted = mul(u, exp(y))
        dg = apply("broadcast_sub", u, self.summed(weighted))
        dy = neg(apply("broadcast_mul", weighted, self.summed(g)))
        return [times(dg, self.scale), times(dy, self.scale)]
