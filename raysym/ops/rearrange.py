"""Ops that rearrange images and matrices: Pad, Crop, depth to space, diagonals, assigned slices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from raysym.errors import RuleError
from raysym.graph import apply
from raysym.op import Cost, DTypes, Entries, Grads, Op, Shapes, Types, register, total_bytes
from raysym.ops.numeric import scalar_of, sum_axes
from raysym.ops.slicing import Cut, IntoZeros
from raysym.params import Dims, param
from raysym.types import PartialShape, unify_dtypes

_T = TypeVar("_T")
_MODES = ("constant", "edge", "reflect")


class _Border(Op):
    """Shared by padding and its gradient."""

    mode: str = param(choices=_MODES, doc="What the border is made of.")
    pad_width: Dims = param(low=0, doc="Width before and after each axis, one pair an axis.")
    constant_value: float = param(0.0, doc="The value of a constant border.")

    def check(self) -> None:
        if len(self.pad_width) not in (8, 10) or any(self.pad_width[:4]):
            raise RuleError(
                "pad_width does not fit",
                got=self.pad_width,
                expected="a pair for each of 4 or 5 axes, zeros for the first two",
            )

    def pairs(self) -> list[tuple[int, int]]:
        """Widths before and after every axis."""
        return list(zip(self.pad_width[::2], self.pad_width[1::2], strict=True))

    def resized(self, shape: PartialShape, sign: int) -> PartialShape:
        """The shape with the border added (1) or taken away (-1)."""
        if shape is None:
            return None
        if len(shape) != len(self.pad_width) // 2:
            raise RuleError("pad_width does not fit the rank", got=shape, expected=self.pad_width)
        made = [
            dim and dim + sign * sum(pair) for dim, pair in zip(shape, self.pairs(), strict=True)
        ]
        for dim, pair in zip(shape if sign > 0 else made, self.pairs(), strict=True):
            if dim < 0 or (dim and self.mode == "reflect" and max(pair) >= dim):
                raise RuleError(
                    "the border is too wide for the axis", got=pair, expected=f"below {dim}"
                )
        return tuple(made)

    def place(self) -> dict[str, Any]:
        """The parameters that say where the border is."""
        return {"mode": self.mode, "pad_width": self.pad_width}

    def cost(self, ins: Types, outs: Types) -> Cost:
        return Cost(0.0, total_bytes(ins, outs))


@register
class Pad(_Border):
    """Images and volumes with a border: a constant, the edge repeated, or mirrored at the edge.

    Shapes: ``(n, c, h, w)`` or ``(n, c, d, h, w)``; the first two axes cannot be padded.
    """

    aliases = ("pad",)

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        return ins, [self.resized(ins[0], 1)]

    def forward(self, xp: Any, data: Any) -> Any:
        if self.mode == "constant":
            fill = {"constant_values": scalar_of(data.dtype, self.constant_value)}
            return xp.pad(data, self.pairs(), mode="constant", **fill)
        return xp.pad(data, self.pairs(), mode=self.mode)

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        return [apply("_backward_Pad", grads[0], **self.place())]


@register
class _backward_Pad(_Border):
    """The head gradient without the border, whose gradients go to where its values came from."""

    internal = True
    inputs = ("grad",)

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        return ins, [self.resized(ins[0], -1)]

    def forward(self, xp: Any, grad: Any) -> Any:
        for axis, (before, after) in enumerate(self.pairs()):
            if before or after:
                grad = self._fold(xp, grad.swapaxes(0, axis), before, after).swapaxes(0, axis)
        return grad

    def _fold(self, xp: Any, grad: Any, before: int, after: int) -> Any:
        """`grad` with the border along axis 0 added to its sources."""
        end = grad.shape[0] - after
        inner, head, tail = grad[before:end].copy(), grad[:before], grad[end:]
        if self.mode == "edge":
            inner[0] += sum_axes(head, 0)
            inner[-1] += sum_axes(tail, 0)
        elif self.mode == "reflect":
            last = inner.shape[0] - 1
            inner[1 : before + 1] += head[::-1]
            inner[last - after : last] += tail[::-1]
        return inner

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        return [apply("Pad", grads[0], **self.place())]


@register
class Crop(Op):
    """A window of an image: of size `h_w`, or as high and wide as the second input.

    Shapes: ``(n, c, h, w)``; the window begins at `offset` or lies in the middle.
    """

    inputs = ("data",)
    variadic = "num_args"
    shape_only = ("arg1",)
    num_args: int = param(low=1, high=2, doc="Number of inputs: data, and maybe one for the size.")
    offset: Dims = param((0, 0), low=0, doc="First row and column of the window.")
    h_w: Dims = param((0, 0), low=0, doc="Height and width of the window with one input.")
    center_crop: bool = param(False, doc="Take the middle of the image instead of offset.")

    def check(self) -> None:
        if len(self.offset) != 2 or len(self.h_w) != 2:
            raise RuleError(
                "offset or h_w does not fit", got=(self.offset, self.h_w), expected="pairs"
            )
        if self.num_args == 1 and 0 in self.h_w:
            raise RuleError("the window has no size", got=f"h_w={self.h_w}", expected="at least 1")

    def cut(self, shape: Sequence[int], like: Sequence[int]) -> Cut:
        """The slices of an image for a window of this size; RuleError if it lies outside."""
        first, size = self.offset, self.size(like)
        if self.center_crop:
            first = tuple((n - m) // 2 for n, m in zip(shape[2:], size, strict=True))
        for n, begin, m in zip(shape[2:], first, size, strict=True):
            if n and m and (begin < 0 or begin + m > n):
                raise RuleError(
                    "the window lies outside", got=f"{begin}:{begin + m}", expected=f"within 0:{n}"
                )
        rows = (slice(begin, begin + m) for begin, m in zip(first, size, strict=True))
        return (slice(None), slice(None), *rows)

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        if any(shape is not None and len(shape) != 4 for shape in ins):
            raise RuleError("inputs have a wrong rank", got=tuple(ins), expected="four axes")
        data, like = ins[0], ins[-1] or (0, 0, 0, 0)
        if data is None:
            return ins, outs
        self.cut(data, like)
        return ins, [(*data[:2], *self.size(like))]

    def size(self, like: Sequence[int]) -> Sequence[int]:
        """Height and width of the window."""
        return like[2:] if self.num_args == 2 else self.h_w

    def infer_dtype(self, ins: DTypes, outs: DTypes) -> tuple[DTypes, DTypes]:
        dtype = unify_dtypes([ins[0], outs[0]])
        return [dtype, *(like or dtype for like in ins[1:])], [dtype]

    def forward(self, xp: Any, data: Any, like: Any = None) -> Any:
        return data[self.cut(data.shape, () if like is None else like.shape)]

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        place = {"offset": self.offset, "center_crop": self.center_crop}
        return [apply("_backward_Crop", grads[0], ins[0], **place), *[None] * (len(ins) - 1)]

    def cost(self, ins: Types, outs: Types) -> Cost:
        return Cost(0.0, 2 * total_bytes((), outs))


@register
class _backward_Crop(IntoZeros):
    """Zeros with the head gradient in the window that `Crop` took."""

    page = "Crop"
    offset: Dims = param((0, 0), low=0, doc="First row and column of the window.")
    center_crop: bool = param(False, doc="The window lies in the middle.")

    def place(self) -> dict[str, Any]:
        return {"num_args": 2, "offset": self.offset, "center_crop": self.center_crop}

    def others(self, ins: Sequence[_T]) -> Sequence[_T]:
        return ins[:1]


# ----- blocks of pixels as channels


class _Blocks(Op):
    """Shared by the two ops that trade channels for pixels."""

    block_size: int = param(low=1, doc="Height and width of a block.")

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        data = ins[0]
        if data is None:
            return ins, outs
        if len(data) != 4:
            raise RuleError("data has a wrong rank", got=data, expected="four axes")
        return ins, [self._traded(*data)]

    def _traded(self, n: int, c: int, h: int, w: int) -> tuple[int, ...]:
        raise NotImplementedError

    def cost(self, ins: Types, outs: Types) -> Cost:
        return Cost(0.0, total_bytes(ins, outs))


@register
class depth_to_space(_Blocks):
    """Channels unfolded into blocks of pixels: ``(n, c, h, w) -> (n, c / b^2, h b, w b)``."""

    def _traded(self, n: int, c: int, h: int, w: int) -> tuple[int, ...]:
        b = self.block_size
        if c % b**2:
            raise RuleError("channels cannot be unfolded", got=c, expected=f"a multiple of {b**2}")
        return n, c // b**2, h * b, w * b

    def forward(self, xp: Any, data: Any) -> Any:
        (n, c, h, w), b = data.shape, self.block_size
        blocks = data.reshape(n, b, b, c // b**2, h, w).transpose(0, 3, 4, 1, 5, 2)
        return blocks.reshape(self._traded(n, c, h, w))

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        return [apply("space_to_depth", grads[0], block_size=self.block_size)]


@register
class space_to_depth(_Blocks):
    """Blocks of pixels folded into channels: ``(n, c, h, w) -> (n, c b^2, h / b, w / b)``."""

    def _traded(self, n: int, c: int, h: int, w: int) -> tuple[int, ...]:
        b = self.block_size
        if h % b or w % b:
            raise RuleError("pixels cannot be folded", got=(h, w), expected=f"multiples of {b}")
        return n, c * b**2, h // b, w // b

    def forward(self, xp: Any, data: Any) -> Any:
        (n, c, h, w), b = data.shape, self.block_size
        blocks = data.reshape(n, c, h // b, b, w // b, b).transpose(0, 3, 5, 1, 2, 4)
        return blocks.reshape(self._traded(n, c, h, w))

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        return [apply("depth_to_space", grads[0], block_size=self.block_size)]
