"""Deconvolution, the transpose of convolution, and its gradients.

Cast: x data ``(N, C, *S)``, w weight ``(C, F/G, *K)``, y or g output ``(N, F, *P)``, G groups: what
a convolution with the same weight would map y to has the shape of x.
"""

from __future__ import annotations

from typing import Any

from raysym.errors import RuleError
from raysym.graph import apply
from raysym.op import Cost, Entries, Grads, Shapes, Types, register
from raysym.ops.convolution import (
    LAYOUTS,
    TUNING,
    Convolving,
    DataGradient,
    contraction,
)
from raysym.ops.convolving import convolve, correlate, spread
from raysym.ops.windows import Window
from raysym.params import Dims, param
from raysym.types import Shape


class _Deconvolving(Convolving):
    """Parameters and geometry of the page and its gradients."""

    kernel: Dims = param(low=1, doc="Kernel size: (w,), (h, w) or (d, h, w).")
    stride: Dims = param((), low=1, doc="Step of the output per cell of the data; 1 if left out.")
    dilate: Dims = param((), low=1, doc="Step between taps of the kernel; 1 if left out.")
    pad: Dims = param((), low=0, doc="Cells cut off on both sides of each output axis.")
    adj: Dims = param((), low=0, doc="Cells added behind each output axis; below the stride.")
    target_shape: Dims = param((), low=0, doc="Spatial output shape; sets pad and adj.")
    num_filter: int = param(low=1, doc="Number of channels of the output.")
    num_group: int = param(1, low=1, doc="Number of groups that the channels are divided into.")
    workspace: int = param(512, low=0, doc="Accepted for compatibility; not used.")
    no_bias: bool = param(True, doc="Whether to disable the bias parameter.")
    cudnn_tune: str | None = param(
        None, choices=TUNING, doc="Accepted for compatibility; not used."
    )
    cudnn_off: bool = param(False, doc="Accepted for compatibility; not used.")
    layout: str | None = param(
        None, choices=LAYOUTS, doc="Order of the axes; None is NCW, NCHW or NCDHW."
    )

    def check(self) -> None:
        super().check()
        window, rank = Window.of(self), len(self.kernel)
        for name, value in (("adj", self.adj), ("target_shape", self.target_shape)):
            if value and len(value) != rank:
                raise RuleError(f"{name} has a wrong rank", got=value, expected=f"{rank} axes")
        if self.has_target() and 0 in self.target_shape:
            raise RuleError("target_shape has zeros", got=self.target_shape, expected="all or none")
        if any(a >= s for a, s in zip(self.adj, window.stride, strict=False)):
            raise RuleError("adj must be below the stride", got=self.adj, expected=window.stride)

    def has_target(self) -> bool:
        """True when the output's shape is given, pad and adj follow."""
        return any(self.target_shape)

    def geometry(self, spatial: Dims) -> tuple[Window, Dims]:
        """The window for data of these sizes, and the sizes of the output (0: unknown)."""
        window, rank = Window.of(self), len(self.kernel)
        if not self.has_target():
            return window, window.transposed(spatial, self.adj or (0,) * rank)
        full = window._replace(pad=(0,) * rank).transposed(spatial, (0,) * rank)
        target = self.target_shape
        if any(n and n < t for n, t in zip(full, target, strict=True)):
            raise RuleError("target_shape is too big", got=target, expected=f"at most {full}")
        pad = tuple(max(0, n - t + 1) // 2 for n, t in zip(full, target, strict=True))
        return window._replace(pad=pad), tuple(
            t if n else 0 for n, t in zip(full, target, strict=True)
        )


@register
class Deconvolution(_Deconvolving):
    """``y[n,f,s*stride - pad + k*dilate] += x[n,c,s] w[c,f,k]``, plus ``b[f]``.

    Also called transposed convolution. Shapes: data ``(N, C, *S)``, weight
    ``(C, num_filter/num_group, *kernel)``, bias ``(num_filter,)``, output ``(N, num_filter, *P)``
    with ``P = stride (S - 1) + dilate (kernel - 1) + 1 - 2 pad + adj``; S has one to three axes. A
    target_shape sets P: what exceeds it is cut off, half of it (rounded up) in front.
    """

    inputs = ("data", "weight", "bias")

    def input_names(self) -> tuple[str, ...]:
        return self.inputs[:2] if self.no_bias else self.inputs

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        data = self.shape_first(ins[0], "data")
        if data is None:
            return ins, outs
        _, sizes = self.geometry(data[2:])
        if any(n and m < 1 for n, m in zip(data[2:], sizes, strict=True)):
            raise RuleError("output would be empty", got=sizes, expected="positive sizes")
        learned = [self.weight_shape(data[1], self.num_filter), (self.num_filter,)]
        made = (data[0], self.num_filter, *sizes)
        return [ins[0], *learned][: len(ins)], [self.shape_last(made)]

    def forward(self, xp: Any, x: Any, w: Any, bias: Any = None) -> Any:
        x, w = self.first(x), self.first(w)
        window, sizes = self.geometry(x.shape[2:])
        return self.plus_bias(spread(xp, x, w, window, self.num_group, sizes), bias)

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        (x, w, *bias), (g,) = ins, grads
        dx = apply("_backward_Deconvolution_data", g, w, x, **plain(self))
        dw = apply("_backward_Deconvolution_weight", g, x, **plain(self))
        return [dx, dw, *(self.gradient_of_bias(g) for _ in bias)]

    def cost(self, ins: Types, outs: Types) -> Cost:
        return contraction(ins[0].size, ins[1].size, ins[1].shape[0], ins, outs)


def plain(op: _Deconvolving) -> dict[str, Any]:
    """Parameters of a deconvolution without a bias."""
    unused = ("no_bias", "spatial", "workspace", "cudnn_tune", "cudnn_off")
    return {key: value for key, value in op.given().items() if key not in unused}


@register
class _backward_Deconvolution_data(DataGradient, _Deconvolving):
    """Gradient of a deconvolution's data: the convolution of the output's gradient.

    Shapes: grad ``(N, F, *P)``, weight ``(C, F/G, *K)``, result ``(N, C, *S)``, the shape of data.
    """

    internal = True
    spatial: Dims = param((), doc="S, known once types are; the input data is then not needed.")

    def channels(self, weight: Shape) -> int:
        return weight[0]

    def forward(self, xp: Any, g: Any, w: Any, like: Any = None) -> Any:
        spatial = self.spatial or self.first(like).shape[2:]
        window, _ = self.geometry(spatial)
        return self.last(convolve(xp, self.first(g), self.first(w), window, self.num_group))

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        g, w, *like = ins
        dg = apply("Deconvolution", grads[0], w, **plain(self))
        dw = apply("_backward_Deconvolution_weight", g, grads[0], **plain(self))
        return [dg, dw, *(None for _ in like)]

    def cost(self, ins: Types, outs: Types) -> Cost:
        return contraction(outs[0].size, ins[1].size, ins[1].shape[0], ins[:2], outs)


@register
class _backward_Deconvolution_weight(_Deconvolving):
    """Gradient of a deconvolution's weight: correlation of the data with windows of the output's.

    Shapes: grad ``(N, F, *P)``, data ``(N, C, *S)``, result ``(C, F/G, *K)``.
    """

    internal = True
    inputs = ("grad", "data")

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        data = self.shape_first(ins[1], "data")
        if data is None:
            return ins, outs
        return ins, [self.weight_shape(data[1], self.num_filter)]

    def forward(self, xp: Any, g: Any, x: Any) -> Any:
        g, x = self.first(g), self.first(x)
        window, _ = self.geometry(x.shape[2:])
        return self.last(correlate(xp, x, g, window, self.num_group))

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        g, x = ins
        dg = apply("Deconvolution", x, grads[0], **plain(self))
        dx = apply("_backward_Deconvolution_data", g, grads[0], x, **plain(self))
        return [dg, dx]

    def cost(self, ins: Types, outs: Types) -> Cost:
        return contraction(ins[1].size, outs[0].size, outs[0].shape[0], ins, outs)
