"""Resizing images ``(batch, channel, height, width)``: one small matrix per axis, out = A x B^T.

The matrices follow from the sizes alone, so the gradient is the transposed pair.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from raysym.errors import RuleError
from raysym.graph import apply
from raysym.op import Cost, Entries, Grads, Op, Shapes, Types, register, total_bytes
from raysym.ops.numeric import wide
from raysym.params import Dims, param
from raysym.types import PartialShape, unify


def averages(size: int, out: int) -> Any:
    """``(out, size)``: row i averages the cells from floor(i size/out) to ceil((i+1) size/out)."""
    starts = np.arange(out) * size // out
    ends = -(-(np.arange(1, out + 1) * size) // out)
    cells = np.arange(size)
    inside = (cells >= starts[:, None]) & (cells < ends[:, None])
    return inside / inside.sum(axis=1, keepdims=True)


def interpolation(size: int, out: int, align_corners: bool) -> Any:
    """``(out, size)``: row i interpolates linearly between the two cells around its position."""
    if align_corners:
        position = np.arange(out) * ((size - 1) / (out - 1) if out > 1 else 0.0)
    else:
        position = np.maximum((np.arange(out) + 0.5) * (size / out) - 0.5, 0.0)
    low = np.minimum(position.astype(int), size - 1)
    high = np.minimum(low + 1, size - 1)
    matrix = np.zeros((out, size))
    np.add.at(matrix, (np.arange(out), low), 1 - (position - low))
    np.add.at(matrix, (np.arange(out), high), position - low)
    return matrix


def _apply_pair(xp: Any, rows: Any, x: Any, columns: Any) -> Any:
    y = wide(x)
    a, b = (xp.asarray(m.astype(y.dtype)) for m in (rows, columns))
    return xp.matmul(xp.matmul(a, y), b.T).astype(x.dtype, copy=False)


class _Resize(Op):
    """What both resizing ops and their gradients share."""

    kinds = "f"

    def pair(self, source: Dims, target: Dims) -> tuple[Any, Any]:
        """The matrices for height and width."""
        raise NotImplementedError

    def cost(self, ins: Types, outs: Types) -> Cost:
        # Two dense products; ins[0] and outs[0] are the images before and after, or reversed.
        (*_, h, w), (*_, oh, ow) = ins[0].shape, outs[0].shape
        planes = ins[0].size / max(h * w, 1)
        return Cost(2.0 * planes * (oh * h * w + oh * w * ow), total_bytes(ins, outs))


def _image(shape: PartialShape) -> PartialShape:
    if shape is not None and len(shape) != 4:
        raise RuleError(
            "data has a wrong rank", got=shape, expected="(batch, channel, height, width)"
        )
    return shape


class _ResizeGradient(_Resize):
    """Shared by the gradients: the image's size is taken from its type only."""

    internal = True
    inputs = ("out_grad", "data")
    shape_only = ("data",)

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        data = unify(ins[1], outs[0])
        return [ins[0], data], [data]

    def forward(self, xp: Any, out_grad: Any, data: Any) -> Any:
        rows, columns = self.pair(data.shape[2:], out_grad.shape[2:])
        return _apply_pair(xp, rows.T, out_grad, columns.T)


class _Averages(_Resize):
    """Parameters and matrices of adaptive average pooling."""

    output_size: Dims = param(
        (), low=1, doc="Height and width of the result; one number for both; none: 1 x 1."
    )

    def target(self) -> Dims:
        """Height and width of the result; more than two numbers mean none, as in MXNet."""
        size = self.output_size if len(self.output_size) <= 2 else ()
        return (1, 1) if not size else (size[0], size[-1])

    def pair(self, source: Dims, target: Dims) -> tuple[Any, Any]:
        return averages(source[0], target[0]), averages(source[1], target[1])


@register
class _contrib_AdaptiveAvgPooling2D(_Averages):
    """Average pooling to a given size; windows are as even as the sizes allow.

    Shapes: data ``(n, c, h, w)``, output ``(n, c, *output_size)``.
    """

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        data = _image(ins[0])
        return [data], [(*data[:2], *self.target()) if data else outs[0]]

    def forward(self, xp: Any, data: Any) -> Any:
        rows, columns = self.pair(data.shape[2:], self.target())
        return _apply_pair(xp, rows, data, columns)

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        name = "_backward_contrib_AdaptiveAvgPooling2D"
        return [apply(name, grads[0], ins[0], output_size=self.target())]


@register
class _backward_contrib_AdaptiveAvgPooling2D(_Averages, _ResizeGradient):
    """Spreads the gradient of every average evenly over its window."""

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        name = "_contrib_AdaptiveAvgPooling2D"
        return [apply(name, grads[0], output_size=self.target()), None]


class _Interpolation(_Resize):
    """Matrices of bilinear interpolation."""

    align_corners: bool

    def pair(self, source: Dims, target: Dims) -> tuple[Any, Any]:
        return (
            interpolation(source[0], target[0], self.align_corners),
            interpolation(source[1], target[1], self.align_corners),
        )


_ALIGN = param(True, doc="Whether corner cells of input and output have the same centres.")
_MODES = ("size", "odd_scale", "like", "to_even_down", "to_even_up", "to_odd_down", "to_odd_up")


@register
class _contrib_BilinearResize2D(_Interpolation):
    """Bilinear interpolation of images to another size.

    Shapes: data ``(n, c, h, w)``, output ``(n, c, height, width)``. The size comes from `height`
    and `width` or the scales (mode size), from the scales applied to size - 1 for odd sizes
    (odd_scale), from another image (like), or from rounding to even or odd sizes (to_even_down).
    """

    inputs = ("data", "like")
    shape_only = ("like",)
    height: int = param(1, low=1, doc="Height of the result in mode size.")
    width: int = param(1, low=1, doc="Width of the result in mode size.")
    scale_height: float | None = param(None, doc="Scale of the height; goes before height.")
    scale_width: float | None = param(None, doc="Scale of the width; goes before width.")
    mode: str = param("size", choices=_MODES, doc="Where the size of the result comes from.")
    align_corners: bool = _ALIGN

    def check(self) -> None:
        if self.mode == "odd_scale" and None in (self.scale_height, self.scale_width):
            raise RuleError("mode 'odd_scale' needs scale_height and scale_width")
        for name in ("scale_height", "scale_width"):
            scale = getattr(self, name)
            if scale is not None and not scale > 0:
                raise RuleError(f"{name} is not positive", got=scale, expected="above 0")

    def input_names(self) -> tuple[str, ...]:
        return self.inputs if self.mode == "like" else self.inputs[:1]

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        data, like = _image(ins[0]), _image(ins[-1])
        if data is None or like is None:
            return ins, outs
        if self.mode == "like":
            return ins, [(*data[:2], *like[2:])]
        size = (
            self._target(data[2], self.height, self.scale_height),
            self._target(data[3], self.width, self.scale_width),
        )
        return ins, [(*data[:2], *size)]

    def _target(self, size: int, given: int, scale: float | None) -> int:
        if self.mode == "size" and scale is None:
            return given
        if not size:
            return 0
        if self.mode == "size":
            return int(size * (scale or 1))
        if self.mode == "odd_scale":
            return int((size - size % 2) * (scale or 1)) + size % 2
        _, parity, way = self.mode.split("_")
        wrong = size % 2 != (parity == "odd")
        return size + wrong * (1 if way == "up" else -1)

    def forward(self, xp: Any, data: Any, like: Any = None) -> Any:
        (shape,) = self.infer_shape([data.shape, (data if like is None else like).shape], [None])[1]
        rows, columns = self.pair(data.shape[2:], (shape or ())[2:])
        return _apply_pair(xp, rows, data, columns)

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        name = "_backward_contrib_BilinearResize2D"
        made = apply(name, grads[0], ins[0], align_corners=self.align_corners)
        return [made, *[None] * (len(ins) - 1)]


@register
class _backward_contrib_BilinearResize2D(_Interpolation, _ResizeGradient):
    """Gives every cell its share of the gradients that were interpolated from it."""

    align_corners: bool = _ALIGN

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        name = "_contrib_BilinearResize2D"
        like = {"mode": "like", "align_corners": self.align_corners}
        return [apply(name, grads[0], ins[0], **like), None]
