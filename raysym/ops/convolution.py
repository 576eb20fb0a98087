"""Convolution and its two gradients: three bilinear maps that are each other's gradients.

Cast: x data ``(N, C, *S)``, w weight ``(F, C/G, *K)``, y or g output ``(N, F, *P)``, G groups. With
a channel-last layout the channel axis of x, w and y is the last one.
"""

from __future__ import annotations

from typing import Any

from raysym.errors import RuleError
from raysym.graph import Entry, apply
from raysym.op import Cost, Entries, Grads, Op, Shapes, Types, register, total_bytes
from raysym.ops.convolving import convolve, correlate, spread
from raysym.ops.windows import (
    Window,
    channels_first,
    channels_last,
    final,
    first,
)
from raysym.params import Dims, param
from raysym.types import PartialShape, Shape

LAYOUTS = ("NCW", "NCHW", "NCDHW", "NHWC", "NDHWC")
TUNING = ("fastest", "limited_workspace", "off")

_GRADIENT_PARAMS = ("kernel", "stride", "dilate", "pad", "num_group", "layout")


class Convolving(Op):
    """What Convolution, Deconvolution and their gradients share: parameters and geometry."""

    kinds = "f"
    work = "convolution"
    kernel: Dims
    stride: Dims
    dilate: Dims
    pad: Dims
    num_group: int
    layout: str | None

    def check(self) -> None:
        Window.of(self).check()
        if self.layout and len(self.layout) != len(self.kernel) + 2:
            raise RuleError(
                "layout does not fit the kernel",
                got=f"{self.layout} and {self.kernel}",
                expected=f"a layout of {len(self.kernel) + 2} axes",
            )

    def is_channel_last(self) -> bool:
        """True for NHWC and its kin."""
        return bool(self.layout) and str(self.layout).endswith("C")

    def first(self, array: Any) -> Any:
        """A view of an array (data, weight or output) with axis 1 as its channel axis."""
        return first(array, self.is_channel_last())

    def last(self, array: Any) -> Any:
        """The inverse of `first`."""
        return final(array, self.is_channel_last())

    def shape_first(self, shape: PartialShape, what: str) -> Any:
        """A shape as (batch, channel, *spatial) once its rank is found right."""
        if shape is not None and len(shape) != len(self.kernel) + 2:
            raise RuleError(
                f"{what} has a wrong rank", got=shape, expected=f"{len(self.kernel) + 2} axes"
            )
        return channels_first(shape, self.is_channel_last())

    def shape_last(self, shape: PartialShape) -> Any:
        """The inverse of `shape_first`."""
        return channels_last(shape, self.is_channel_last())

    def weight_shape(self, outer: int, inner: int) -> Shape:
        """Weight of `outer` units that look at `inner` channels in all groups together."""
        for name, n in (("output", outer), ("input", inner)):
            if n % self.num_group:
                raise RuleError(
                    f"{name} channels must divide into groups",
                    got=n,
                    expected=f"a multiple of num_group={self.num_group}",
                )
        return tuple(self.shape_last((outer, inner // self.num_group, *self.kernel)))

    def gradient_of_data(self, grad: Entry, weight: Entry, data: Entry) -> Entry:
        """Graph maths: what `data` receives when its convolution with `weight` receives `grad`."""
        return apply("_backward_Convolution_data", grad, weight, data, **self._geometry())

    def gradient_of_weight(self, grad: Entry, data: Entry) -> Entry:
        """Graph maths: what the weight receives when its convolution of `data` receives `grad`."""
        return apply("_backward_Convolution_weight", grad, data, **self._geometry())

    def convolved(self, data: Entry, weight: Entry) -> Entry:
        """Graph maths: the plain convolution."""
        return apply("_convolve", data, weight, **self._geometry())

    def gradient_of_bias(self, grad: Entry) -> Entry:
        """Graph maths: `grad` summed over all axes but the channel axis."""
        axis = len(self.kernel) + 1 if self.is_channel_last() else 1
        return apply("sum", grad, axis=axis, exclude=True)

    def _geometry(self) -> dict[str, Any]:
        given = self.given()
        return {key: given[key] for key in _GRADIENT_PARAMS if key in given}

    def plus_bias(self, y: Any, bias: Any) -> Any:
        """`y` in the user's layout with one bias per channel added."""
        if bias is None:
            return self.last(y)
        return self.last(y + bias.reshape(-1, *(1,) * len(self.kernel)))


# ----- the pages


@register
class Convolution(Convolving):
    """``y[n,f,p] = b[f] + sum_{c,k} x[n,c,p*stride - pad + k*dilate] w[f,c,k]``.

    This is a cross-correlation: the kernel is not flipped. Shapes: data ``(N, C, *S)``, weight
    ``(num_filter, C/num_group, *kernel)``, bias
    ``(num_filter,)``, output ``(N, num_filter, *P)`` with
    ``P = floor((S + 2 pad - dilate (kernel - 1) - 1) / stride) + 1``; S has one to three axes. With
    layout NHWC or NDHWC: data ``(N, *S, C)``, weight ``(num_filter, *kernel, C/num_group)``.
    """

    inputs = ("data", "weight", "bias")
    kernel: Dims = param(low=1, doc="Convolution kernel size: (w,), (h, w) or (d, h, w).")
    stride: Dims = param((), low=1, doc="Step between windows; 1 on every axis if left out.")
    dilate: Dims = param((), low=1, doc="Step between taps of a window; 1 if left out.")
    pad: Dims = param((), low=0, doc="Zeros added on both sides of each axis; 0 if left out.")
    num_filter: int = param(low=1, doc="Number of filters, the output's channels.")
    num_group: int = param(1, low=1, doc="Number of groups that the channels are divided into.")
    workspace: int = param(1024, low=0, doc="Accepted for compatibility; not used.")
    no_bias: bool = param(False, doc="Whether to disable the bias parameter.")
    cudnn_tune: str | None = param(
        None, choices=TUNING, doc="Accepted for compatibility; not used."
    )
    cudnn_off: bool = param(False, doc="Accepted for compatibility; not used.")
    layout: str | None = param(
        None, choices=LAYOUTS, doc="Order of the axes; None is NCW, NCHW or NCDHW."
    )

    def input_names(self) -> tuple[str, ...]:
        return self.inputs[:2] if self.no_bias else self.inputs

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        window = Window.of(self)
        data, out = self.shape_first(ins[0], "data"), self.shape_first(outs[0], "output")
        if data is None:
            return ins, outs
        if out is not None:
            data = (data[0] or out[0], data[1], *window.sources(data[2:], out[2:]))
        learned = [self.weight_shape(self.num_filter, data[1]), (self.num_filter,)]
        made = (data[0], self.num_filter, *window.sizes(data[2:]))
        return [self.shape_last(data), *learned][: len(ins)], [self.shape_last(made)]

    def forward(self, xp: Any, x: Any, w: Any, bias: Any = None) -> Any:
        y = convolve(xp, self.first(x), self.first(w), Window.of(self), self.num_group)
        return self.plus_bias(y, bias)

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        (x, w, *bias), (g,) = ins, grads
        dx, dw = self.gradient_of_data(g, w, x), self.gradient_of_weight(g, x)
        return [dx, dw, *(self.gradient_of_bias(g) for _ in bias)]

    def cost(self, ins: Types, outs: Types) -> Cost:
        return contraction(outs[0].size, ins[1].size, self.num_filter, ins, outs)


def contraction(size: int, weights: int, units: int, ins: Types, outs: Types) -> Cost:
    """`size` outputs of `units` units that have `weights` weights together."""
    return Cost(2 * size * (weights // max(units, 1)), total_bytes(ins, outs))


class _Bilinear(Convolving):
    """Parameters of the internal maps; the numbers of channels follow from their inputs."""

    internal = True
    kernel: Dims = param(low=1, doc="Kernel size.")
    stride: Dims = param((), low=1, doc="Step between windows.")
    dilate: Dims = param((), low=1, doc="Step between taps.")
    pad: Dims = param((), low=0, doc="Padding on both sides.")
    num_group: int = param(1, low=1, doc="Number of groups.")
    layout: str | None = param(None, choices=LAYOUTS, doc="Order of the axes.")


@register
class _convolve(_Bilinear):
    """Convolution without a bias, as gradients use it; the filters are counted by the weight."""

    inputs = ("data", "weight")

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        if ins[0] is None or ins[1] is None:
            return ins, outs
        data = self.shape_first(ins[0], "data")
        made = (data[0], ins[1][0], *Window.of(self).sizes(data[2:]))
        return [ins[0], self.weight_shape(ins[1][0], data[1])], [self.shape_last(made)]

    def forward(self, xp: Any, x: Any, w: Any) -> Any:
        return self.last(
            convolve(xp, self.first(x), self.first(w), Window.of(self), self.num_group)
        )

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        (x, w), (g,) = ins, grads
        return [self.gradient_of_data(g, w, x), self.gradient_of_weight(g, x)]

    def cost(self, ins: Types, outs: Types) -> Cost:
        return contraction(outs[0].size, ins[1].size, ins[1].shape[0], ins, outs)


class DataGradient(Convolving):
    """What the gradients of data share: data itself is needed until its spatial size is known."""

    shape_only = ("data",)
    spatial: Dims  # a parameter of each page

    def channels(self, weight: Shape) -> int:
        """Channels of the data that a weight, channels first, belongs to."""
        raise NotImplementedError(self.name)

    def input_names(self) -> tuple[str, ...]:
        return ("grad", "weight") if self.spatial else ("grad", "weight", "data")

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        if not self.spatial:
            return ins, [ins[2]]
        if ins[0] is None or ins[1] is None:
            return ins, outs
        channels = self.channels(self.shape_first(ins[1], "weight"))
        return ins, [self.shape_last((ins[0][0], channels, *self.spatial))]

    def specialize(self, ins: Entries, types: Types, outs: Types) -> Entry | None:
        if self.spatial:
            return None
        spatial = self.shape_first(types[2].shape, "data")[2:]
        return apply(self.name, *ins[:2], **self.given(), spatial=spatial)


@register
class _backward_Convolution_data(DataGradient, _Bilinear):
    """Gradient of a convolution's data: every output spreads its gradient over its window.

    Shapes: grad ``(N, F, *P)``, weight ``(F, C/G, *K)``, result ``(N, C, *S)``, the shape of data.
    """

    spatial: Dims = param((), doc="S, known once types are; the input data is then not needed.")

    def channels(self, weight: Shape) -> int:
        return weight[1] * self.num_group

    def forward(self, xp: Any, g: Any, w: Any, like: Any = None) -> Any:
        spatial = self.spatial or self.first(like).shape[2:]
        x = spread(xp, self.first(g), self.first(w), Window.of(self), self.num_group, spatial)
        return self.last(x)

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        g, w, *like = ins
        dg, dw = self.convolved(grads[0], w), self.gradient_of_weight(g, grads[0])
        return [dg, dw, *(None for _ in like)]

    def cost(self, ins: Types, outs: Types) -> Cost:
        return contraction(ins[0].size, ins[1].size, ins[1].shape[0], ins[:2], outs)


@register
class _backward_Convolution_weight(_Bilinear):
    """Gradient of a convolution's weight: correlation of output gradients with windows of data.

    Shapes: grad ``(N, F, *P)``, data ``(N, C, *S)``, result ``(F, C/G, *K)``.
    """

    inputs = ("grad", "data")

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        if ins[0] is None or ins[1] is None:
            return ins, outs
        grad, data = self.shape_first(ins[0], "grad"), self.shape_first(ins[1], "data")
        return ins, [self.weight_shape(grad[1], data[1])]

    def forward(self, xp: Any, g: Any, x: Any) -> Any:
        return self.last(
            correlate(xp, self.first(g), self.first(x), Window.of(self), self.num_group)
        )

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        g, x = ins
        return [self.convolved(x, grads[0]), self.gradient_of_data(g, grads[0], x)]

    def cost(self, ins: Types, outs: Types) -> Cost:
        return contraction(ins[0].size, outs[0].size, outs[0].shape[0], ins, outs)
