"""Image ops on arrays ``(height, width, channel)`` or ``(batch, height, width, channel)``."""

from __future__ import annotations

from typing import Any, NamedTuple

from raysym.errors import RuleError
from raysym.graph import apply
from raysym.op import Cost, DTypes, Entries, Grads, Op, Shapes, Types, register, total_bytes
from raysym.ops.numeric import widen
from raysym.ops.resize import interpolation
from raysym.params import Dims, Floats, param
from raysym.types import PartialShape, unify


class Size(NamedTuple):
    """Height and width."""

    height: int
    width: int


def image_shape(shape: PartialShape, batched: bool = True) -> PartialShape:
    """The shape, refused unless it has three axes (or four, where batches are taken)."""
    if shape is not None and len(shape) not in ((3, 4) if batched else (3,)):
        wanted = "(height, width, channel)" + (" with or without a batch" if batched else "")
        raise RuleError("data is no image", got=shape, expected=wanted)
    return shape


def saturated(xp: Any, wide: Any, dtype: Any) -> Any:
    """`wide` in `dtype`; whole numbers are kept in range, fractions dropped."""
    if dtype.kind == "f":
        return wide.astype(dtype)
    limits = xp.iinfo(dtype)
    return xp.clip(wide, limits.min, limits.max).astype(dtype)


@register
class _image_to_tensor(Op):
    """Pixels 0..255 as numbers 0..1 in float32, channels first.

    Shapes: data ``(h, w, c)`` or ``(n, h, w, c)``, output ``(c, h, w)`` or ``(n, c, h, w)``.
    """

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        data = image_shape(ins[0])
        return [data], [(*data[:-3], data[-1], *data[-3:-1]) if data else outs[0]]

    def infer_dtype(self, ins: DTypes, outs: DTypes) -> tuple[DTypes, DTypes]:
        return ins, ["float32"]

    def forward(self, xp: Any, data: Any) -> Any:
        return xp.moveaxis(data, -1, -3).astype("float32") / xp.float32(255)

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        return [apply("_backward_image_to_tensor", grads[0], ins[0])]


@register
class _backward_image_to_tensor(Op):
    """Gradient of the pixels: a 255th, channels last."""

    internal = True
    inputs = ("out_grad", "data")
    shape_only = ("data",)

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        data = unify(ins[1], outs[0])
        return [ins[0], data], [data]

    def infer_dtype(self, ins: DTypes, outs: DTypes) -> tuple[DTypes, DTypes]:
        return ["float32", ins[1]], [ins[1]]

    def forward(self, xp: Any, out_grad: Any, data: Any) -> Any:
        return (xp.moveaxis(out_grad, -3, -1) / xp.float32(255)).astype(data.dtype)


@register
class _image_normalize(Op):
    """``(x - mean) / std`` for every channel of images with channels first.

    Shapes: data ``(c, h, w)`` or ``(n, c, h, w)``, c = 1 or 3, output alike.
    """

    mean: Floats = param((0.0, 0.0, 0.0, 0.0), doc="Mean of each channel, or one for all.")
    std: Floats = param((1.0, 1.0, 1.0, 1.0), doc="Deviation of each channel, or one for all.")

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        data = unify(ins[0], outs[0])
        if data is None:
            return ins, outs
        if len(data) not in (3, 4) or data[-3] not in (0, 1, 3):
            raise RuleError(
                "data does not fit", got=data, expected="(1 or 3 channels, height, width)"
            )
        for name in ("mean", "std"):
            n = len(getattr(self, name))
            if data[-3] and name in self.given() and n not in (1, data[-3]):
                raise RuleError(f"{name} needs 1 number or one for each channel", n, data[-3])
        return [data], [data]

    def _columns(self, xp: Any, channels: int, dtype: Any) -> tuple[Any, Any]:
        pairs = (self.mean, self.std)
        rows = [p[:channels] if len(p) > 1 else p * channels for p in pairs]
        mean, std = (xp.asarray(row, dtype).reshape(-1, 1, 1) for row in rows)
        return mean, std

    def forward(self, xp: Any, data: Any) -> Any:
        wide = widen(data)
        mean, std = self._columns(xp, data.shape[-3], wide.dtype)
        return ((wide - mean) / std).astype(data.dtype, copy=False)

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        # Linear in the image: the same op without a mean.
        return [apply("_image_normalize", grads[0], std=self.std)]

    def cost(self, ins: Types, outs: Types) -> Cost:
        return Cost(2 * outs[0].size, total_bytes(ins, outs))


@register
class _image_resize(Op):
    """Images of another size, by the nearest pixel or linear interpolation between four.

    Shapes: data ``(..., h, w, c)``, output ``(..., height, width, c)``.
    """

    kinds = "fiu"
    size: Dims = param((), low=1, doc="Width and height; one number: both, or the shorter side.")
    keep_ratio: bool = param(
        False, doc="Whether a single number is the size of the shorter side only."
    )
    interp: int = param(
        1, low=0, high=4, doc="0: nearest pixel, 1: bilinear; others are not offered."
    )

    def check(self) -> None:
        if len(self.size) not in (1, 2):
            raise RuleError(
                "size does not fit", got=self.size, expected="one number or (width, height)"
            )
        if self.interp > 1:
            raise RuleError("interpolation is not offered", got=self.interp, expected="0 or 1")

    def _target(self, h: int, w: int) -> Size:
        if len(self.size) == 2:
            return Size(self.size[1], self.size[0])
        (side,) = self.size
        if not self.keep_ratio:
            return Size(side, side)
        return Size(h * side // w, side) if h > w else Size(side, w * side // h)

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        data = image_shape(ins[0])
        if data is None or 0 in data[-3:-1]:
            return ins, outs
        return [data], [(*data[:-3], *self._target(*data[-3:-1]), data[-1])]

    def forward(self, xp: Any, data: Any) -> Any:
        h, w = data.shape[-3:-1]
        target = self._target(h, w)
        if self.interp == 0:
            rows, columns = (
                xp.arange(new) * old // new for new, old in zip(target, (h, w), strict=True)
            )
            return data[..., rows[:, None], columns, :]
        wide = data.astype("float64" if data.dtype.itemsize > 4 else "float32")
        a, b = (
            xp.asarray(interpolation(old, new, False).astype(wide.dtype))
            for new, old in zip(target, (h, w), strict=True)
        )
        made = xp.einsum("ih,jw,...hwc->...ijc", a, b, wide, optimize=True)
        return saturated(xp, made if data.dtype.kind == "f" else xp.rint(made), data.dtype)

    def cost(self, ins: Types, outs: Types) -> Cost:
        return Cost(8 * outs[0].size, total_bytes(ins, outs))


@register
class _image_crop(Op):
    """A rectangle of an image.

    Shapes: data ``(..., h, w, c)``, output ``(..., height, width, c)``.
    """

    x: int = param(low=0, doc="Left border of the rectangle.")
    y: int = param(low=0, doc="Upper border of the rectangle.")
    width: int = param(low=1, doc="Width of the rectangle.")
    height: int = param(low=1, doc="Height of the rectangle.")

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        data = image_shape(ins[0])
        if data is None:
            return ins, outs
        right, bottom = self.x + self.width, self.y + self.height
        if (data[-2] and right > data[-2]) or (data[-3] and bottom > data[-3]):
            raise RuleError("the rectangle leaves the image", got=f"{right} x {bottom}",
                            expected=f"within {data[-2]} x {data[-3]}")  # fmt: skip
        return [data], [(*data[:-3], self.height, self.width, data[-1])]

    def forward(self, xp: Any, data: Any) -> Any:
        rows = slice(self.y, self.y + self.height)
        return data[..., rows, self.x : self.x + self.width, :]

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        return [apply("_backward_image_crop", grads[0], ins[0], **self.given())]


@register
class _backward_image_crop(_image_crop):
    """The gradient of the rectangle amid zeros."""

    internal = True
    inputs = ("out_grad", "data")
    shape_only = ("data",)

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        data = unify(ins[1], outs[0])
        return [ins[0], data], [data]

    def forward(self, xp: Any, out_grad: Any, data: Any) -> Any:  # type: ignore[override]
        made = xp.zeros(data.shape, out_grad.dtype)
        made[..., self.y : self.y + self.height, self.x : self.x + self.width, :] = out_grad
        return made

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        return [apply("_image_crop", grads[0], **self.given()), None]


class _Flip(Op):
    axis: int

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        data = image_shape(unify(ins[0], outs[0]), batched=False)
        return [data], [data]

    def forward(self, xp: Any, data: Any) -> Any:
        return xp.flip(data, self.axis)

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        return [apply(self.name, grads[0])]


@register
class _image_flip_left_right(_Flip):
    """The mirror image ``(h, w, c)``."""

    axis = 1


@register
class _image_flip_top_bottom(_Flip):
    """The image ``(h, w, c)`` upside down."""

    axis = 0
