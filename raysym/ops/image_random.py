"""Random changes of images ``(height, width, channel)``, channels red, green, blue.

Numbers are drawn on the host; whole-number pixels stay in their range, fractions are dropped.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from raysym.errors import RuleError
from raysym.op import Cost, Op, Shapes, Types, register, total_bytes
from raysym.ops.image import image_shape, saturated
from raysym.params import Floats, param
from raysym.types import unify

# Weights of red, green and blue in the brightness of a pixel.
_LUMA = (0.299, 0.587, 0.114)
# Principal components of ImageNet's colours times their deviations. Krizhevsky et al. (2012).
_COMPONENTS = (
    (55.46 * -0.5675, 4.794 * 0.7192, 1.148 * 0.4009),
    (55.46 * -0.5808, 4.794 * -0.0045, 1.148 * -0.8140),
    (55.46 * -0.5836, 4.794 * -0.6948, 1.148 * 0.4203),
)


def _gray(xp: Any, image: Any) -> Any:
    if image.shape[-1] == 1:
        return image
    return (image * xp.asarray(_LUMA, image.dtype)).sum(axis=-1, keepdims=True)


def _brightness(xp: Any, image: Any, factor: Any) -> Any:
    return image * factor


def _contrast(xp: Any, image: Any, factor: Any) -> Any:
    return image * factor + (1 - factor) * _gray(xp, image).mean()


def _saturation(xp: Any, image: Any, factor: Any) -> Any:
    return image * factor + (1 - factor) * _gray(xp, image)


def _hue(xp: Any, image: Any, turn: Any) -> Any:
    """The colours turned by `turn` of the full circle, lightness and saturation kept (HLS)."""
    if image.shape[-1] == 1:
        return image
    r, g, b = (image[..., i] / 255 for i in range(3))
    top, low = xp.maximum(xp.maximum(r, g), b), xp.minimum(xp.minimum(r, g), b)
    span = top - low
    light = (top + low) / 2
    divisor = xp.where(span > 0, span, 1)
    hue = xp.where(
        top == r,
        (g - b) / divisor,
        xp.where(top == g, 2 + (b - r) / divisor, 4 + (r - g) / divisor),
    )
    hue = (hue / 6 + turn) % 1
    wide = xp.where(light < 0.5, top + low, 2 - top - low)
    saturation = span / xp.where(wide > 0, wide, 1)
    chroma = (1 - xp.abs(2 * light - 1)) * saturation
    shifts = (0.0, 8.0, 4.0)
    parts = [_channel(xp, hue, light, chroma, shift) for shift in shifts]
    return xp.stack(parts, axis=-1) * 255


def _channel(xp: Any, hue: Any, light: Any, chroma: Any, shift: float) -> Any:
    # The closed form of HSL to RGB: a clipped triangle wave over the circle.
    k = (shift + 12 * hue) % 12
    return light - chroma / 2 * xp.maximum(xp.minimum(xp.minimum(k - 3, 9 - k), 1), -1)


def _lighting(xp: Any, image: Any, alphas: Any) -> Any:
    if image.shape[-1] == 1:
        return image
    shift = [sum(c * a for c, a in zip(row, alphas, strict=True)) for row in _COMPONENTS]
    return image + xp.asarray(shift, image.dtype)


class _Change(Op):
    """Shared by all: one image in, one out, no gradient."""

    kinds = "fiu"

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        data = image_shape(unify(ins[0], outs[0]), batched=False)
        if data is not None and data[2] not in (0, 1, 3):
            raise RuleError("data does not fit", got=data, expected="1 or 3 channels at the end")
        return [data], [data]

    def cost(self, ins: Types, outs: Types) -> Cost:
        return Cost(10 * outs[0].size, total_bytes(ins, outs))


def _wide(data: Any) -> Any:
    return data.astype("float64" if data.dtype.itemsize > 4 else "float32")


def _random_factor(name: str, change: Callable[..., Any], doc: str) -> None:
    def check(self: Any) -> None:
        if self.min_factor > self.max_factor:
            raise RuleError("min_factor exceeds max_factor", self.min_factor, self.max_factor)

    def forward(self: Any, xp: Any, rng: Any, data: Any) -> Any:
        factor = rng.uniform(self.min_factor, self.max_factor)
        return saturated(xp, change(xp, _wide(data), factor), data.dtype)

    facts = {
        "__doc__": doc,
        "__module__": __name__,
        "__annotations__": {"min_factor": float, "max_factor": float},
        "min_factor": param(doc="Smallest factor."),
        "max_factor": param(doc="Largest factor."),
        "random": True,
        "check": check,
        "forward": forward,
    }
    register(type(f"_image_random_{name}", (_Change,), facts))


_random_factor("brightness", _brightness, "All pixels times a random factor.")
_random_factor("contrast", _contrast, "Distances from the mean brightness times a random factor.")
_random_factor("saturation", _saturation, "Distances from gray times a random factor.")
_random_factor("hue", _hue, "Colours turned by a random part of the circle.")


@register
class _image_random_color_jitter(_Change):
    """Random brightness, contrast, saturation and hue, in random order."""

    random = True
    brightness: float = param(low=0, doc="Brightness factors are from 1 - this to 1 + this.")
    contrast: float = param(low=0, doc="Contrast factors are from 1 - this to 1 + this.")
    saturation: float = param(low=0, doc="Saturation factors are from 1 - this to 1 + this.")
    hue: float = param(low=0, doc="Hues turn by -this to this, in parts of the circle.")

    def forward(self, xp: Any, rng: Any, data: Any) -> Any:
        changes = (_brightness, _contrast, _saturation, _hue)
        spans = (self.brightness, self.contrast, self.saturation, self.hue)
        image = _wide(data)
        for i in rng.permutation(4).tolist():
            if spans[i] > 0:
                center = 0.0 if changes[i] is _hue else 1.0
                factor = rng.uniform(max(center - spans[i], center - 1), center + spans[i])
                image = changes[i](xp, image, factor)
        return saturated(xp, image, data.dtype)


@register
class _image_adjust_lighting(_Change):
    """Adds a mixture of the principal components of natural colours."""

    alpha: Floats = param(doc="Weight of each of the three components.")

    def check(self) -> None:
        if len(self.alpha) != 3:
            raise RuleError("alpha does not fit", got=self.alpha, expected="three numbers")

    def forward(self, xp: Any, data: Any) -> Any:
        return saturated(xp, _lighting(xp, _wide(data), self.alpha), data.dtype)


@register
class _image_random_lighting(_Change):
    """Adds a random mixture of the principal components of natural colours."""

    random = True
    alpha_std: float = param(0.05, low=0, doc="Standard deviation of the mixture's weights.")

    def forward(self, xp: Any, rng: Any, data: Any) -> Any:
        alphas = rng.normal(0, self.alpha_std, 3)
        return saturated(xp, _lighting(xp, _wide(data), alphas), data.dtype)


class _RandomFlip(_Change):
    random = True
    axis: int

    def forward(self, xp: Any, rng: Any, data: Any) -> Any:
        return xp.flip(data, self.axis) if rng.random() < 0.5 else data


@register
class _image_random_flip_left_right(_RandomFlip):
    """The image or its mirror image, by chance."""

    axis = 1


@register
class _image_random_flip_top_bottom(_RandomFlip):
    """The image or the image upside down, by chance."""

    axis = 0
