"""First versions of convolution, pooling and batch normalisation, which old models still name."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from raysym.errors import RuleError
from raysym.graph import apply
from raysym.op import Cost, Entries, Grads, Op, Shapes, Types, register, total_bytes
from raysym.ops.convolution import Convolution
from raysym.ops.normalization import BatchNormalization
from raysym.ops.numeric import wide
from raysym.ops.pooling import lowest, pad_to_windows, reduce_windows, spread_windows
from raysym.ops.windows import Window, crop_spatial, pad_spatial
from raysym.params import Dims, param


@register
class Convolution_v1(Convolution):
    """The same as Convolution: ``y[n,f,p] = b[f] + sum x[n,c,p*stride - pad + k*dilate] w[f,c,k]``.

    Shapes as those of Convolution.
    """

    layout: str | None = param(
        None,
        choices=("NCHW", "NCDHW", "NHWC", "NDHWC"),
        doc="Order of the axes; None is NCHW or NCDHW.",
    )


@register
class BatchNorm_v1(BatchNormalization):
    """BatchNorm over axis 1 whose output var shows the variance. Shapes as those of BatchNorm."""

    spread = "var"
    eps: float = param(0.001, doc="Added to the variance, so that the division is safe.")
    momentum: float = param(0.9, doc="Share of the old value in a moving average.")
    fix_gamma: bool = param(True, doc="Keep gamma at 1: it is set to 1 and its gradient to 0.")
    use_global_stats: bool = param(False, doc="Normalise by the moving averages in training too.")
    output_mean_var: bool = param(False, doc="Show the outputs mean and var.")


class _OldPool(Op):
    """Parameters and geometry of Pooling_v1 and its gradient."""

    kinds = "f"
    work = "pooling"
    kernel: Dims = param((), low=1, doc="Window size: (h, w) or (d, h, w).")
    pool_type: str = param("max", choices=("avg", "max", "sum"), doc="What a window is reduced to.")
    global_pool: bool = param(False, doc="One window over everything; kernel, pad, stride unused.")
    pooling_convention: str = param(
        "valid", choices=("full", "valid"), doc="Round the number of windows up or down."
    )
    stride: Dims = param((), low=1, doc="Step between windows; 1 on every axis if left out.")
    pad: Dims = param((), low=0, doc="Zeros on both sides of each axis; 0 if left out.")

    dilate: Dims = ()

    def check(self) -> None:
        if not self.global_pool:
            Window.of(self).check()

    def window(self, spatial: Sequence[int]) -> Window:
        """The window for data of these spatial sizes."""
        return Window.whole(spatial) if self.global_pool else Window.of(self)

    def sizes(self, spatial: Sequence[int]) -> Dims:
        """Number of windows on each axis; 0 where the size is unknown."""
        if self.global_pool:
            return (1,) * len(spatial)
        window = Window.of(self)
        valid = window.sizes(spatial)
        if self.pooling_convention == "valid":
            return valid
        return window.sizes_rounded_up(spatial)

    def zero_padded(self, xp: Any, x: Any, window: Window, sizes: Dims) -> Any:
        """Data with their zeros, and behind them cells that no maximum sees."""
        zeros = pad_spatial(xp, x, window.pad, window.pad)
        bare = window._replace(pad=(0,) * len(window.pad))
        return pad_to_windows(xp, zeros, bare, sizes, lowest(xp, x))

    def cost(self, ins: Types, outs: Types) -> Cost:
        window = self.window(ins[-1].shape[2:])
        return Cost(outs[0].size * math.prod(window.kernel), total_bytes(ins, outs))


@register
class Pooling_v1(_OldPool):
    """``y[n,c,p] = max, mean or sum of x[n,c,s]`` over the window of p, by the old rules.

    Padding holds zeros that a maximum sees; a mean always divides by the size of the kernel; all
    cells that equal the maximum get its gradient. Shapes: data ``(N, C, *S)``, output
    ``(N, C, *P)`` with ``P = floor((S + 2 pad - kernel) / stride) + 1``, full: ``ceil``.
    """

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        data = ins[0]
        if data is None:
            return ins, outs
        wanted = (4, 5) if self.global_pool else (len(self.kernel) + 2,)
        if len(data) not in wanted:
            raise RuleError("data has a wrong rank", got=data, expected=f"one of {wanted} axes")
        return ins, [(*data[:2], *self.sizes(data[2:]))]

    def forward(self, xp: Any, data: Any) -> Any:
        sizes, window = self.sizes(data.shape[2:]), self.window(data.shape[2:])
        axes = range(len(sizes))
        if self.pool_type == "max":
            x = self.zero_padded(xp, data, window, sizes)
            return reduce_windows(x, window, sizes, axes, xp.maximum)
        x = pad_to_windows(xp, wide(data), window, sizes, 0)
        y = reduce_windows(x, window, sizes, axes, xp.add)
        y = y / math.prod(window.kernel) if self.pool_type == "avg" else y
        return y.astype(data.dtype, copy=False)

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        return [apply("_backward_Pooling_v1", grads[0], outs[0], ins[0], **self.given())]


@register
class _backward_Pooling_v1(_OldPool):
    """Gradient of Pooling_v1. Shapes: grad and output ``(N, C, *P)``, data and result alike."""

    internal = True
    inputs = ("grad", "output", "data")

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        return [ins[0], ins[0], ins[2]], [ins[2]]

    def forward(self, xp: Any, grad: Any, output: Any, data: Any) -> Any:
        sizes, window = grad.shape[2:], self.window(data.shape[2:])
        if self.pool_type == "max":
            return self._to_maxima(xp, grad, output, data, window)
        g = wide(grad)
        g = g / math.prod(window.kernel) if self.pool_type == "avg" else g
        dx = spread_windows(xp, g, window, data.shape[2:], sizes)
        return dx.astype(data.dtype, copy=False)

    def _to_maxima(self, xp: Any, grad: Any, output: Any, data: Any, window: Window) -> Any:
        x = self.zero_padded(xp, data, window, grad.shape[2:])
        dx = xp.zeros(x.shape, grad.dtype)
        for _, place in window.taps(grad.shape[2:]):
            dx[place] += xp.where(x[place] == output, grad, 0)
        return crop_spatial(dx, window.pad, data.shape[2:])
