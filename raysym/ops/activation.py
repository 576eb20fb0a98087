"""Activation functions with parameters: Activation, LeakyReLU, SoftmaxActivation.

Cast of characters in rows: x input, y output, g incoming gradient, op the page's parameters.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from raysym.errors import RuleError
from raysym.graph import Entry, apply
from raysym.op import Cost, Entries, Grads, Op, Shapes, Types, register, total_bytes
from raysym.ops.elementwise import sigmoid
from raysym.ops.maths import above, add, div, exp, minus_from, mul, plus, square, times
from raysym.ops.numeric import wide
from raysym.ops.softmax import softmax_of
from raysym.ops.special import erf
from raysym.params import param
from raysym.types import PartialShape

ALPHA = 1.6732632423543772848170429916717  # of selu, arXiv:1706.02515
LAMBDA = 1.0507009873554804934193349852946

Derivative = Callable[[Any, Entry, Entry, Entry], Entry]


# ----- Activation: a row each of kernel and derivative


_KERNELS: dict[str, Callable[[Any, Any], Any]] = {
    "relu": lambda xp, x: xp.maximum(x, 0),
    "sigmoid": sigmoid,
    "tanh": lambda xp, x: xp.tanh(x),
    "softrelu": lambda xp, x: xp.maximum(x, 0) + xp.log1p(xp.exp(-xp.abs(x))),
    "softsign": lambda xp, x: x / (1 + xp.abs(x)),
}
_DERIVATIVES: dict[str, Callable[[Entry, Entry, Entry], Entry]] = {
    "relu": lambda x, y, g: mul(g, above(y, 0.0)),
    "sigmoid": lambda x, y, g: mul(g, mul(y, minus_from(1.0, y))),
    "tanh": lambda x, y, g: mul(g, minus_from(1.0, square(y))),
    "softrelu": lambda x, y, g: mul(g, apply("sigmoid", x)),
    "softsign": lambda x, y, g: div(g, square(plus(apply("abs", x), 1.0))),
}
_FLOPS = {"relu": 1, "sigmoid": 10, "tanh": 10, "softrelu": 16, "softsign": 3}


@register
class Activation(Op):
    """relu ``max(x, 0)``, sigmoid ``1 / (1 + e^-x)``, tanh, softrelu ``log(1 + e^x)`` or softsign.

    softsign is ``x / (1 + abs(x))``. Shapes: output like data. The gradient of relu at 0 is 0.
    """

    kinds = "f"
    act_type: str = param(
        choices=("relu", "sigmoid", "softrelu", "softsign", "tanh"), doc="Which function."
    )

    def forward(self, xp: Any, x: Any) -> Any:
        return _KERNELS[self.act_type](xp, x).astype(x.dtype, copy=False)

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        return [_DERIVATIVES[self.act_type](ins[0], outs[0], grads[0])]

    def cost(self, ins: Types, outs: Types) -> Cost:
        return Cost(_FLOPS[self.act_type] * outs[0].size, total_bytes(ins, outs))


# ----- LeakyReLU


def _normal_density(x: Entry) -> Entry:
    return times(exp(times(square(x), -0.5)), 1 / math.sqrt(2 * math.pi))


def _gelu_slope(x: Entry) -> Entry:
    below = plus(times(apply("erf", times(x, math.sqrt(0.5))), 0.5), 0.5)
    return add(below, mul(x, _normal_density(x)))


def _leaky(x: Entry, slope: float) -> Entry:
    """1 above zero, `slope` elsewhere."""
    return plus(times(above(x, 0.0), 1 - slope), slope)


def _exponential(x: Entry, y: Entry, alpha: float) -> Entry:
    # Above zero 1; elsewhere y + alpha, which is alpha e^x.
    positive = above(x, 0.0)
    return add(positive, mul(minus_from(1.0, positive), plus(y, alpha)))


def _selu_slope(x: Entry, y: Entry) -> Entry:
    positive = above(x, 0.0)
    low = mul(minus_from(1.0, positive), plus(y, LAMBDA * ALPHA))
    return add(times(positive, LAMBDA), low)


@register
class LeakyReLU(Op):
    """x above zero; below leaky and rrelu ``slope x``, prelu ``gamma x``, elu ``slope (e^x - 1)``.

    selu is ``1.0507 elu(x, 1.6733)``, gelu ``x (1 + erf(x / sqrt 2)) / 2``. Shapes: output like
    data; gamma ``(C,)`` along axis 1, or ``(1,)``, or any shape that broadcasts to data. rrelu
    draws each slope between the bounds in training and takes their middle in inference; it has a
    second output mask, the slope of each element. The slope at 0 is the one below 0.
    Sources: arXiv:1502.01852 (prelu), 1505.00853 (rrelu), 1511.07289 (elu), 1706.02515 (selu).
    """

    kinds = "f"
    inputs = ("data", "gamma")
    act_type: str = param(
        "leaky",
        choices=("elu", "gelu", "leaky", "prelu", "rrelu", "selu"),
        doc="Which function.",
    )
    slope: float = param(0.25, doc="Slope below zero of leaky, and the scale of elu.")
    lower_bound: float = param(0.125, doc="Least slope of rrelu.")
    upper_bound: float = param(0.334, doc="Largest slope of rrelu.")

    def check(self) -> None:
        # Of all the functions only rrelu draws numbers.
        self.__dict__["random"] = self.act_type == "rrelu"

    def input_names(self) -> tuple[str, ...]:
        return self.inputs if self.act_type == "prelu" else self.inputs[:1]

    def output_names(self) -> tuple[str, ...]:
        return ("output", "mask") if self.act_type == "rrelu" else ("output",)

    def variable_attrs(self, slot: str) -> dict[str, str]:
        return {"__init__": '["Constant", {"value": 0.25}]'} if slot == "gamma" else {}

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        data = ins[0]
        made = [data] * len(outs)
        if self.act_type != "prelu" or data is None:
            return ins, made
        return [data, _gamma_shape(data, ins[1])], made

    def forward(self, xp: Any, *arrays: Any) -> Any:
        if self.act_type == "rrelu":
            return self._randomized(xp, *arrays)
        x = arrays[0]
        low = self._below(xp, wide(x), *arrays[1:])
        y = low if self.act_type == "gelu" else xp.where(x > 0, self._above(x), low)
        return y.astype(x.dtype, copy=False)

    def _above(self, x: Any) -> Any:
        return LAMBDA * x if self.act_type == "selu" else x

    def _below(self, xp: Any, x: Any, gamma: Any = None) -> Any:
        if self.act_type == "leaky":
            return self.slope * x
        if self.act_type == "prelu":
            return _along(gamma, x) * x
        if self.act_type == "gelu":
            return 0.5 * x * (1 + erf(xp, x * math.sqrt(0.5)))
        scale = LAMBDA * ALPHA if self.act_type == "selu" else self.slope
        return scale * xp.expm1(xp.minimum(x, 0))

    def _randomized(self, xp: Any, rng: Any, x: Any) -> tuple[Any, Any]:
        width = self.upper_bound - self.lower_bound
        drawn = xp.asarray(rng.random(x.shape, "float32")) * width + self.lower_bound
        mask = xp.where(x > 0, 1, drawn).astype(x.dtype)
        return x * mask, mask

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        x, g = ins[0], grads[0]
        if self.act_type == "prelu":
            return _prelu_gradient(g, *ins)
        return [mul(g, self._slopes(x, outs))]

    def _slopes(self, x: Entry, outs: Entries) -> Entry:
        match self.act_type:
            case "rrelu":
                return outs[1]
            case "leaky":
                return _leaky(x, self.slope)
            case "gelu":
                return _gelu_slope(x)
            case "selu":
                return _selu_slope(x, outs[0])
        return _exponential(x, outs[0], self.slope)

    def for_inference(self, ins: Entries) -> Entries | None:
        if self.act_type != "rrelu":
            return None
        slope = (self.lower_bound + self.upper_bound) / 2
        return [apply(self.name, ins[0], act_type="leaky", slope=slope), _leaky(ins[0], slope)]

    def cost(self, ins: Types, outs: Types) -> Cost:
        flops = 2 if self.act_type in ("leaky", "prelu") else 20
        return Cost(flops * outs[0].size, total_bytes(ins, outs))


def _prelu_gradient(g: Entry, x: Entry, gamma: Entry) -> list[Entry | None]:
    positive = above(x, 0.0)
    slopes = add(positive, apply("_channel_scale", minus_from(1.0, positive), gamma))
    low = apply("_minimum_scalar", x, scalar=0.0)
    to_gamma = apply("_channel_sum", mul(g, low), gamma)
    # MXNet 1.9.1 computes data's gradient in the memory of g, and gamma's from what is there
    # then, unless data is a bound array or needs no gradient; its numbers are the contract.
    is_safe = x.node.is_variable or x.node.op.zero_gradient
    return [mul(g, slopes), to_gamma if is_safe else mul(to_gamma, gamma)]


def _gamma_shape(data: tuple[int, ...], gamma: PartialShape) -> tuple[int, ...]:
    channels = (data[1] if len(data) > 1 else 1,)
    if gamma is None:
        return channels
    wanted = channels if len(gamma) == 1 else data
    if len(gamma) != len(wanted):
        raise RuleError("gamma has a wrong rank", got=gamma, expected=channels)
    if any(n not in (0, 1, m) and m for n, m in zip(gamma, wanted, strict=True)):
        raise RuleError("gamma does not broadcast to data", got=gamma, expected=wanted)
    return gamma


def _along(gamma: Any, x: Any) -> Any:
    """Gamma in a shape that broadcasts to x: a vector lies along axis 1."""
    return gamma.reshape(-1, *(1,) * (x.ndim - 2)) if gamma.ndim == 1 < x.ndim else gamma


@register
class _channel_scale(Op):
    """Data times gamma, which lies along axis 1 or broadcasts. Result like data."""

    internal = True
    inputs = ("data", "gamma")

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        return ins, [ins[0]]

    def forward(self, xp: Any, x: Any, gamma: Any) -> Any:
        return x * _along(gamma, x)

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        (x, gamma), (g,) = ins, grads
        return [apply(self.name, g, gamma), apply("_channel_sum", mul(g, x), gamma)]


@register
class _channel_sum(Op):
    """Data summed over all axes that `_channel_scale` repeats gamma along. Result like gamma."""

    internal = True
    inputs = ("data", "gamma")
    shape_only = ("gamma",)

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        return ins, [ins[1]]

    def forward(self, xp: Any, x: Any, gamma: Any) -> Any:
        like = _along(gamma, x).shape
        like = (1,) * (x.ndim - len(like)) + tuple(like)
        axes = tuple(i for i, n in enumerate(like) if n == 1)
        return wide(x).sum(axis=axes).reshape(gamma.shape).astype(x.dtype, copy=False)

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        return [apply("_channel_scale", apply("ones_like", ins[0]), grads[0]), None]


# ----- SoftmaxActivation


@register
class SoftmaxActivation(Op):
    """Softmax over everything after axis 0 (mode instance) or over axis 1 (mode channel).

    Shapes: output like data, which has two or more axes.
    """

    kinds = "f"
    mode: str = param(
        "instance", choices=("channel", "instance"), doc="What the probabilities sum to 1 over."
    )

    def forward(self, xp: Any, x: Any) -> Any:
        rows = x if self.mode == "channel" else x.reshape(x.shape[0], -1)
        return softmax_of(xp, wide(rows), 1).reshape(x.shape).astype(x.dtype, copy=False)

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        flatten = self.mode == "instance"
        return [apply("_backward_softmax", grads[0], outs[0], axis=1, flatten=flatten)]

    def cost(self, ins: Types, outs: Types) -> Cost:
        return Cost(12 * outs[0].size, total_bytes(ins, outs))
