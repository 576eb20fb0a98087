"""im2col and col2im: sliding windows laid out as the columns of a matrix, and back."""

from __future__ import annotations

import math
from typing import Any

from raysym.errors import RuleError
from raysym.graph import apply
from raysym.op import Cost, Entries, Grads, Op, Shapes, Types, make_op, register, total_bytes
from raysym.ops.numeric import sum_dtype
from raysym.ops.windows import Window, columns, crop_spatial, pad_spatial
from raysym.params import REQUIRED, Dims, Param, param
from raysym.types import unify

_SIZE = Param(REQUIRED, "Spatial size of the image.", low=1)


class _Windows(Op):
    """Shared by both directions: the window and its parameters."""

    kernel: Dims = param(low=1, doc="Size of the window: (w,), (h, w) or (d, h, w).")
    stride: Dims = param((), low=1, doc="Step between windows; default 1.")
    dilate: Dims = param((), low=1, doc="Step between taps of a window; default 1.")
    pad: Dims = param((), low=0, doc="Zeros around the data; default none.")

    def check(self) -> None:
        Window.of(self).check()

    def taps(self) -> int:
        """Number of cells of a window."""
        return math.prod(self.kernel)

    def window(self) -> dict[str, Any]:
        """The window as parameters."""
        return {name: getattr(self, name) for name in ("kernel", "stride", "dilate", "pad")}

    def cost(self, ins: Types, outs: Types) -> Cost:
        return Cost(0.0, total_bytes(ins, outs))


@register
class im2col(_Windows):
    """All windows as columns: ``(n, c, *spatial) -> (n, c * prod(kernel), number of windows)``."""

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        data = ins[0]
        if data is None:
            return ins, outs
        if len(data) != len(self.kernel) + 2:
            raise RuleError("data has a wrong rank", got=data, expected=f"kernel {self.kernel} + 2")
        sizes = Window.of(self).sizes(data[2:])
        number = 0 if 0 in sizes else math.prod(sizes)
        return ins, [(data[0], data[1] * self.taps(), number)]

    def forward(self, xp: Any, data: Any) -> Any:
        window = Window.of(self)
        sizes = window.sizes(data.shape[2:])
        padded = pad_spatial(xp, data, window.pad, window.pad)
        made = xp.moveaxis(columns(xp, padded, window, sizes), 1 + len(sizes), 0)
        return made.reshape(data.shape[0], data.shape[1] * self.taps(), math.prod(sizes))

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        return [apply("_backward_im2col", grads[0], ins[0], **self.window())]


def folded(xp: Any, data: Any, window: Window, spatial: Dims) -> Any:
    """Columns added up where windows overlap: ``(n, c * taps, windows) -> (n, c, *spatial)``."""
    sizes, taps = window.sizes(spatial), math.prod(window.kernel)
    parts = data.reshape(data.shape[0], data.shape[1] // taps, taps, *sizes)
    made = xp.zeros((*parts.shape[:2], *window.padded(spatial)), sum_dtype(data.dtype))
    # One tap of all windows at a time: their cells do not overlap.
    for number, (_, place) in enumerate(window.taps(sizes)):
        made[place] += parts[:, :, number]
    return crop_spatial(made, window.pad, spatial).astype(data.dtype, copy=False)


@register
class col2im(_Windows):
    """Columns put back as windows; where they overlap they are added up.

    Shapes: ``(n, c * prod(kernel), number of windows) -> (n, c, *output_size)``.
    """

    params = {"output_size": _SIZE.bind("output_size", Dims), **_Windows.params}
    output_size: Dims

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        data = ins[0]
        if data is None:
            return ins, outs
        if len(self.output_size) != len(self.kernel):
            raise RuleError("output_size does not fit", got=self.output_size, expected=self.kernel)
        number = math.prod(Window.of(self).sizes(self.output_size))
        if len(data) != 3 or data[1] % self.taps() or data[2] not in (0, number):
            raise RuleError(
                "data are no columns of these windows",
                got=data,
                expected=f"(n, multiple of {self.taps()}, {number})",
            )
        return ins, [(data[0], data[1] // self.taps(), *self.output_size)]

    def forward(self, xp: Any, data: Any) -> Any:
        return folded(xp, data, Window.of(self), self.output_size)

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        return [apply("im2col", grads[0], **self.window())]

    def cost(self, ins: Types, outs: Types) -> Cost:
        return Cost(ins[0].size, total_bytes(ins, outs))


@register
class _backward_im2col(_Windows):
    """Columns added up into an image of the shape of the second input."""

    internal = True
    inputs = ("grad", "like")
    shape_only = ("like",)

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        like = unify(ins[1], outs[0])
        _, (grad,) = make_op("im2col", self.window()).infer_shape([like], [None])
        return [unify(ins[0], grad, "shape of the head gradient"), like], [like]

    def forward(self, xp: Any, grad: Any, like: Any) -> Any:
        return folded(xp, grad, Window.of(self), like.shape[2:])

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        return [apply("im2col", grads[0], **self.window()), None]

    def cost(self, ins: Types, outs: Types) -> Cost:
        return Cost(ins[0].size, total_bytes(ins[:1], outs))
