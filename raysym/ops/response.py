"""Normalisation of responses by their neighbours' size: LRN and L2Normalization."""

from __future__ import annotations

from typing import Any

from raysym.errors import RuleError
from raysym.graph import Entry, apply
from raysym.op import Cost, Entries, Grads, Op, Shapes, Types, register, total_bytes
from raysym.ops.maths import mul, plus, power, square, sub, times
from raysym.ops.numeric import wide
from raysym.params import param
from raysym.types import PartialShape, unify


@register
class LRN(Op):
    """``y = x (knorm + alpha / nsize * sum x^2)^-beta``, the sum over `nsize` nearby channels.

    Local response normalisation. Shapes: data ``(n, C, ...)``, the output and the hidden tmp_norm
    (the base of the power) alike. Channels outside the data count as 0.
    Source: Krizhevsky et al., NIPS 2012.
    """

    kinds = "f"
    outputs = ("output", "tmp_norm")
    hidden = 1
    alpha: float = param(1e-4, doc="Weight of the squares.")
    beta: float = param(0.75, doc="The exponent.")
    knorm: float = param(2.0, doc="What the squares are added to.")
    nsize: int = param(low=1, doc="Number of channels in the window; must be odd.")

    def check(self) -> None:
        if self.nsize % 2 == 0:
            raise RuleError("nsize must be odd", got=self.nsize, expected="an odd number")

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        shape = unify(ins[0], outs[0])
        if shape is not None and len(shape) < 2:
            raise RuleError("data has a wrong rank", got=shape, expected="at least 2 axes")
        return [shape], [shape, shape]

    def forward(self, xp: Any, data: Any) -> Any:
        x = wide(data)
        norm = channel_window(xp, xp.square(x), self.nsize) * (self.alpha / self.nsize) + self.knorm
        made = x * norm**-self.beta, norm
        return tuple(array.astype(data.dtype, copy=False) for array in made)

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        # From the data rather than from tmp_norm, so that it can be differentiated again.
        (x,), g, scale = ins, grads[0], self.alpha / self.nsize
        norm = plus(times(self._window(square(x)), scale), self.knorm)
        spread = self._window(mul(mul(g, x), power(norm, -self.beta - 1)))
        own = mul(g, power(norm, -self.beta))
        return [sub(own, times(mul(x, spread), 2 * scale * self.beta))]

    def _window(self, x: Entry) -> Entry:
        return apply("_channel_window", x, nsize=self.nsize)

    def cost(self, ins: Types, outs: Types) -> Cost:
        return Cost((self.nsize + 20) * outs[0].size, total_bytes(ins, outs))


def channel_window(xp: Any, x: Any, nsize: int) -> Any:
    """The sum over `nsize` channels (axis 1) around each."""
    half, channels = nsize // 2, x.shape[1]
    padded = xp.zeros((x.shape[0], channels + 2 * half, *x.shape[2:]), x.dtype)
    padded[:, half : half + channels] = x
    total = padded[:, :channels].copy()
    for tap in range(1, nsize):
        total += padded[:, tap : tap + channels]
    return total


@register
class _channel_window(Op):
    """The sum over `nsize` channels (axis 1) around each. Output like data."""

    internal = True
    nsize: int = param(low=1, doc="Number of channels in the window, odd.")

    def forward(self, xp: Any, data: Any) -> Any:
        return channel_window(xp, wide(data), self.nsize).astype(data.dtype, copy=False)

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        return [apply(self.name, grads[0], nsize=self.nsize)]

    def cost(self, ins: Types, outs: Types) -> Cost:
        return Cost(self.nsize * outs[0].size, total_bytes(ins, outs))


@register
class L2Normalization(Op):
    """``y = x / sqrt(sum x^2 + eps)``, the sum over a sample, its channels or its positions.

    mode instance sums over all axes but the first, channel over axis 1, spatial over axes 2 and
    on. Shapes: output like data; the hidden output norm is the divisor, ``(n,)``, the data's with
    1 channel, or ``(n, C)``. Channel and spatial want three or more axes.
    """

    kinds = "f"
    outputs = ("output", "norm")
    hidden = 1
    eps: float = param(1e-10, doc="Added to the sum, so that the division is safe.")
    mode: str = param(
        "instance", choices=("channel", "instance", "spatial"), doc="What the sum goes over."
    )

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        data = unify(ins[0], outs[0])
        least = 2 if self.mode == "instance" else 3
        if data is not None and len(data) < least:
            raise RuleError("data has a wrong rank", got=data, expected=f"at least {least} axes")
        return [data], [data, self._norm(data)]

    def _norm(self, data: PartialShape) -> PartialShape:
        if data is None:
            return None
        if self.mode == "channel":
            return (data[0], 1, *data[2:])
        return data[:1] if self.mode == "instance" else data[:2]

    def forward(self, xp: Any, data: Any) -> Any:
        x = wide(data)
        first = {"instance": 1, "channel": 1, "spatial": 2}[self.mode]
        axes = (1,) if self.mode == "channel" else tuple(range(first, x.ndim))
        norm = xp.sqrt(xp.square(x).sum(axis=axes, keepdims=True) + self.eps)
        made = x / norm, norm.reshape(self._norm(data.shape))
        return tuple(array.astype(data.dtype, copy=False) for array in made)

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        # From the data rather than from norm, so that it can be differentiated again.
        x, y, g = ins[0], outs[0], grads[0]
        inverse = power(plus(self._sum(square(x)), self.eps), -0.5)
        off = sub(g, apply("broadcast_mul", y, self._sum(mul(g, y))))
        return [apply("broadcast_mul", off, inverse)]

    def _sum(self, a: Entry) -> Entry:
        if self.mode == "channel":
            return apply("sum", a, axis=1, keepdims=True)
        axis = 0 if self.mode == "instance" else (0, 1)
        return apply("sum", a, axis=axis, exclude=True, keepdims=True)

    def cost(self, ins: Types, outs: Types) -> Cost:
        return Cost(4 * outs[0].size, total_bytes(ins, outs))
