"""Pooling: windows reduced to their maximum, mean, sum or p-norm, axis by axis.

A maximum (or sum) over a box is the maximum (sum) over its columns and then its rows, so k1 + k2
passes do for k1 k2 taps, and a global pool is an ordinary window as large as the data.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from raysym.errors import RuleError
from raysym.graph import apply
from raysym.op import Cost, DTypes, Entries, Grads, Op, Shapes, Types, register, total_bytes
from raysym.ops.numeric import wide
from raysym.ops.windows import (
    Window,
    channels_first,
    channels_last,
    crop_spatial,
    final,
    first,
    pad_spatial,
)
from raysym.params import Dims, param
from raysym.types import PartialShape, unify_dtypes

LAYOUTS = ("NCW", "NCHW", "NCDHW", "NWC", "NHWC", "NDHWC")


class Pool(Op):
    """Parameters and geometry that Pooling and its gradients share."""

    kinds = "f"
    work = "pooling"
    kernel: Dims = param((), low=1, doc="Window size: (w,), (h, w) or (d, h, w).")
    pool_type: str = param(
        "max", choices=("avg", "lp", "max", "sum"), doc="What a window is reduced to."
    )
    global_pool: bool = param(False, doc="One window over everything; kernel, pad, stride unused.")
    cudnn_off: bool = param(False, doc="Accepted for compatibility; not used.")
    pooling_convention: str = param(
        "valid",
        choices=("full", "same", "valid"),
        doc="Number of windows: valid rounds down, full rounds up, same is ceil(size / stride).",
    )
    stride: Dims = param((), low=1, doc="Step between windows; 1 on every axis if left out.")
    pad: Dims = param((), low=0, doc="Padding on both sides of each axis; 0 if left out.")
    p_value: int | None = param(
        None, low=1, high=3, doc="The p of an lp pool: 1, 2 or 3; required there."
    )
    count_include_pad: bool | None = param(
        None, doc="Whether padding counts in the divisor of an average; None means it does."
    )
    layout: str | None = param(
        None, choices=LAYOUTS, doc="Order of the axes; None is NCW, NCHW or NCDHW."
    )

    dilate: Dims = ()

    def check(self) -> None:
        if not self.global_pool:
            Window.of(self).check()
        if self.pool_type == "lp" and self.p_value is None:
            raise RuleError("p_value is missing", expected="1, 2 or 3 with pool_type='lp'")
        if self.pooling_convention == "same":
            self._check_same()

    def _check_same(self) -> None:
        if self.pool_type != "max" or len(self.kernel) != 1 or any(self.pad):
            raise RuleError(
                "pooling_convention 'same' is not supported here",
                got=f"pool_type={self.pool_type}, kernel={self.kernel}, pad={self.pad}",
                expected="max pooling of one axis without pad",
            )

    def is_channel_last(self) -> bool:
        """True for NHWC and its kin."""
        return self.layout is not None and self.layout.endswith("C")

    def window(self, spatial: Sequence[int]) -> Window:
        """The window for data of these spatial sizes."""
        return Window.whole(spatial) if self.global_pool else Window.of(self)

    def sizes(self, spatial: Sequence[int]) -> Dims:
        """Number of windows on each axis; 0 where the size is unknown."""
        if self.global_pool:
            return (1,) * len(spatial)
        window = Window.of(self)
        valid = window.sizes(spatial)  # also refuses kernels larger than the data
        if self.pooling_convention == "valid":
            return valid
        if self.pooling_convention == "same":
            return tuple(-(-n // s) for n, s in zip(spatial, window.stride, strict=True))
        return window.sizes_rounded_up(spatial)

    def shape_first(self, shape: PartialShape) -> Any:
        """A data shape as (batch, channel, *spatial) once its rank is found right."""
        wanted = {len(self.kernel) + 2} if self.kernel and not self.global_pool else {3, 4, 5}
        if shape is not None and len(shape) not in wanted:
            ranks = " or ".join(map(str, sorted(wanted)))
            raise RuleError("data has a wrong rank", got=shape, expected=f"{ranks} axes")
        return channels_first(shape, self.is_channel_last())

    def infer_dtype(self, ins: DTypes, outs: DTypes) -> tuple[DTypes, DTypes]:
        dtype = unify_dtypes([*ins, *outs])
        if dtype is not None and not dtype.startswith("float"):
            raise RuleError("pooling is for floating point data", got=dtype, expected="a float")
        return [dtype] * len(ins), [dtype] * len(outs)

    def divisors(self, xp: Any, spatial: Dims, sizes: Dims) -> Any:
        """Cells that each window's mean is taken over: a number, or an array of all windows."""
        window, include = self.window(spatial), self.count_include_pad is not False
        if self.pooling_convention == "valid" and (include or not any(window.pad)):
            return math.prod(window.kernel)
        total: Any = 1
        for axis, (size, n) in enumerate(zip(spatial, sizes, strict=True)):
            count = _clipped(xp, window, axis, size, n, include)
            total = total * count.reshape(-1, *(1,) * (len(sizes) - axis - 1))
        return total

    def given_geometry(self) -> dict[str, Any]:
        """Parameters for the gradient ops."""
        return {key: value for key, value in self.given().items() if key != "cudnn_off"}


def _clipped(xp: Any, window: Window, axis: int, size: int, n: int, include: bool) -> Any:
    # Windows end at the padded edge at most; those that lie outside altogether count one cell.
    pad = window.pad[axis]
    start = xp.arange(n) * window.stride[axis] - pad
    end = xp.minimum(start + window.kernel[axis], size + pad)
    if not include:
        start, end = xp.maximum(start, 0), xp.minimum(end, size)
    return xp.maximum(end - start, 1)


# ----- kernels on (batch, channel, *spatial)


def pad_to_windows(xp: Any, x: Any, window: Window, sizes: Dims, fill: Any) -> Any:
    """`x` with `fill` on both sides, and behind as far as the last windows reach."""
    return pad_spatial(xp, x, window.pad, overhang(x.shape[2:], window, sizes), fill)


def overhang(spatial: Sequence[int], window: Window, sizes: Dims) -> Dims:
    """How many cells the last windows reach beyond the data, on each axis."""
    rows = zip(spatial, window.kernel, window.stride, window.pad, sizes, strict=True)
    return tuple(max(0, (m - 1) * s + k - n - p) for n, k, s, p, m in rows)


def window_places(window: Window, axis: int, n: int) -> Iterator[tuple[slice, ...]]:
    """Slices of all windows' first, second, ... cells along one spatial axis."""
    stride = window.stride[axis]
    for tap in range(window.kernel[axis]):
        lead = (slice(None),) * (axis + 2)
        yield (*lead, slice(tap, tap + stride * (n - 1) + 1, stride))


def reduce_windows(x: Any, window: Window, sizes: Dims, axes: Sequence[int], how: Any) -> Any:
    """Windows of a padded array combined by a ufunc along some axes, one after the other."""
    for axis in axes:
        places = list(window_places(window, axis, sizes[axis]))
        total = x[places[0]].copy()
        for place in places[1:]:
            how(total, x[place], out=total)
        x = total
    return x


def spread_windows(xp: Any, g: Any, window: Window, spatial: Dims, sizes: Dims) -> Any:
    """The adjoint of summing windows: every cell receives the sum of its windows' values."""
    over = overhang(spatial, window, sizes)
    full = [n + p + o for n, p, o in zip(spatial, window.pad, over, strict=True)]
    for axis in reversed(range(len(sizes))):
        x = xp.zeros((*g.shape[: axis + 2], full[axis], *g.shape[axis + 3 :]), g.dtype)
        for place in window_places(window, axis, sizes[axis]):
            x[place] += g
        g = x
    return crop_spatial(g, window.pad, spatial)


def lowest(xp: Any, x: Any) -> Any:
    """What the maximum of no cells is: the lowest finite number."""
    return xp.finfo(x.dtype).min


# ----- the pages


@register
class Pooling(Pool):
    """``y[n,c,p] = max, mean, sum or p-norm of x[n,c,s]`` over the window of p.

    Shapes: data ``(N, C, *S)``, output ``(N, C, *P)``, S of one to three axes. Valid convention:
    ``P = floor((S + 2 pad - kernel) / stride) + 1``, full: ``ceil`` instead. A maximum never sees
    the padding and its gradient goes to the first maximum. A mean divides by the part of the window
    inside the padded data, or inside the data without ``count_include_pad``. The p-norm is
    ``(sum x^p)^(1/p)`` with signs kept, as MXNet computes it.
    """

    def n_stored(self) -> int:
        """MXNet's oneDNN kernel of a maximum has a workspace as a second output."""
        return 2 if self.pool_type == "max" and self.kernel and not self.is_channel_last() else 1

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        data = self.shape_first(ins[0])
        if data is None:
            return ins, outs
        made = (*data[:2], *self.sizes(data[2:]))
        return ins, [channels_last(made, self.is_channel_last())]

    def forward(self, xp: Any, x: Any) -> Any:
        data = first(x, self.is_channel_last())
        spatial = data.shape[2:]
        sizes, window = self.sizes(spatial), self.window(spatial)
        if self.pool_type == "max":
            y = pad_to_windows(xp, data, window, sizes, lowest(xp, data))
            y = reduce_windows(y, window, sizes, range(len(sizes)), xp.maximum)
        else:
            y = self._sum(xp, wide(data), window, sizes)
        return final(y.astype(x.dtype, copy=False), self.is_channel_last())

    def _sum(self, xp: Any, data: Any, window: Window, sizes: Dims) -> Any:
        if self.pool_type == "lp" and self.p_value != 1:
            data = data**self.p_value
        y = pad_to_windows(xp, data, window, sizes, 0)
        y = reduce_windows(y, window, sizes, range(len(sizes)), xp.add)
        if self.pool_type == "avg":
            return (y / self.divisors(xp, data.shape[2:], sizes)).astype(y.dtype, copy=False)
        if self.pool_type == "lp" and self.p_value != 1:
            return xp.sqrt(y) if self.p_value == 2 else xp.cbrt(y)
        return y

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        given = self.given_geometry()
        if self.pool_type == "max":
            return [apply("_backward_Pooling_max", grads[0], ins[0], **given)]
        if self.pool_type == "lp":
            return [apply("_backward_Pooling_lp", grads[0], ins[0], outs[0], **given)]
        return [apply("_backward_Pooling_sum", grads[0], ins[0], **given)]

    def cost(self, ins: Types, outs: Types) -> Cost:
        data = channels_first(ins[0].shape, self.is_channel_last())
        return Cost(outs[0].size * math.prod(self.window(data[2:]).kernel), total_bytes(ins, outs))
