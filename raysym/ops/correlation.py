"""Correlation of two feature maps over a neighbourhood of displacements (optical flow)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from raysym.errors import RuleError
from raysym.graph import apply_all
from raysym.op import Cost, Entries, Grads, Op, Shapes, Types, register, total_bytes
from raysym.ops.numeric import wide
from raysym.ops.spatial import need
from raysym.ops.windows import crop_spatial, pad_spatial
from raysym.params import Dims, param
from raysym.types import Shape, unify


class _Correlated(Op):
    """Parameters and geometry of Correlation and its gradient."""

    kinds = "f"
    work = "convolution"
    kernel_size: int = param(1, low=1, doc="Side of the patches that are compared; odd.")
    max_displacement: int = param(1, low=0, doc="Largest displacement along each axis.")
    stride1: int = param(1, low=1, doc="Step between the patches of the first input.")
    stride2: int = param(1, low=1, doc="Step between displacements.")
    pad_size: int = param(0, low=0, doc="Zeros around both inputs.")
    is_multiply: bool = param(True, doc="Compare by products (or else by absolute differences).")

    def check(self) -> None:
        if self.kernel_size % 2 == 0:
            raise RuleError("kernel_size is even", got=self.kernel_size, expected="an odd number")

    def shifts(self) -> Iterator[tuple[int, int, int]]:
        """Number, vertical and horizontal size of every displacement."""
        reach = self.max_displacement // self.stride2
        steps = [i * self.stride2 for i in range(-reach, reach + 1)]
        for number, (dy, dx) in enumerate((dy, dx) for dy in steps for dx in steps):
            yield number, dy, dx

    def n_shifts(self) -> int:
        """Number of displacements."""
        return (2 * (self.max_displacement // self.stride2) + 1) ** 2

    def size(self, image: Dims) -> Dims:
        """Height and width of the result (0 where unknown)."""
        border = self.max_displacement + (self.kernel_size - 1) // 2
        inner = [n + 2 * self.pad_size - 2 * border if n else 0 for n in image]
        if any(n and m < 1 for n, m in zip(image, inner, strict=True)):
            raise RuleError(
                "neighbourhood and kernel exceed the padded input",
                got=image,
                expected="larger data",
            )
        return tuple(math.ceil(m / self.stride1) for m in inner)

    def taps(self, size: Dims) -> Iterator[tuple[int, int, tuple[slice, slice]]]:
        """Every cell of a patch as the slices of a padded image that hold it."""
        for ky in range(self.kernel_size):
            for kx in range(self.kernel_size):
                starts = (self.max_displacement + ky, self.max_displacement + kx)
                rows = zip(starts, size, strict=True)
                yield ky, kx, tuple(slice(a, a + self.stride1 * (n - 1) + 1, self.stride1)
                                    for a, n in rows)  # type: ignore[misc]  # fmt: skip

    def padded(self, xp: Any, x: Any) -> Any:
        """The image in computing precision with zeros around."""
        pad = (self.pad_size, self.pad_size)
        return pad_spatial(xp, wide(x), pad, pad)

    def moved(self, slices: tuple[slice, slice], dy: int, dx: int) -> tuple[slice, slice]:
        """The same slices displaced."""
        (a, b) = slices
        return slice(a.start + dy, a.stop + dy, a.step), slice(b.start + dx, b.stop + dx, b.step)

    def flops(self, out: Shape, channels: int) -> float:
        """Operations of one pass over all displacements."""
        return 2.0 * math.prod(out) * channels * self.kernel_size**2


@register
class Correlation(_Correlated):
    """Mean product (or absolute difference) of patches of two images, for every displacement.

    Shapes: data1 and data2 ``(n, c, h, w)``; output ``(n, d, oh, ow)`` with one channel for every
    displacement, d = (2 floor(max_displacement/stride2) + 1)^2. Hidden outputs: both inputs padded,
    channels last. Dosovitskiy et al., "FlowNet" (2015).
    """

    inputs = ("data1", "data2")
    outputs = ("output", "tmp1", "tmp2")
    hidden = 2

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        data = need(unify(ins[0], ins[1], "shapes of data1 and data2"), 4, "data")
        if data is None:
            return ins, outs
        n, c, *image = data
        kept = (n, *(m + 2 * self.pad_size if m else 0 for m in image), c)
        return [data, data], [(n, self.n_shifts(), *self.size(tuple(image))), kept, kept]

    def forward(self, xp: Any, data1: Any, data2: Any) -> Any:
        a, b = self.padded(xp, data1), self.padded(xp, data2)
        size = self.size(data1.shape[2:])
        scale = 1 / (self.kernel_size**2 * data1.shape[1])
        maps = [self._compare(xp, a, b, size, dy, dx) * scale for _, dy, dx in self.shifts()]
        kept = [x.transpose(0, 2, 3, 1) for x in (a, b)]
        made = (xp.stack(maps, axis=1), *kept)
        return tuple(x.astype(data1.dtype, copy=False) for x in made)

    def _compare(self, xp: Any, a: Any, b: Any, size: Dims, dy: int, dx: int) -> Any:
        total = 0
        for _, _, here in self.taps(size):
            x = a[(slice(None), slice(None), *here)]
            y = b[(slice(None), slice(None), *self.moved(here, dy, dx))]
            total = total + ((x * y) if self.is_multiply else xp.abs(x - y)).sum(axis=1)
        return total

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        return apply_all("_backward_Correlation", grads[0], *ins, **self.given())

    def cost(self, ins: Types, outs: Types) -> Cost:
        return Cost(self.flops(outs[0].shape, ins[0].shape[1]), total_bytes(ins, outs))


@register
class _backward_Correlation(_Correlated):
    """Gradients of both images."""

    internal = True
    inputs = ("out_grad", "data1", "data2")
    outputs = ("data1_grad", "data2_grad")

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        data = unify(ins[1], ins[2])
        return [ins[0], data, data], [data, data]

    def forward(self, xp: Any, out_grad: Any, data1: Any, data2: Any) -> Any:
        a, b = self.padded(xp, data1), self.padded(xp, data2)
        da, db = xp.zeros_like(a), xp.zeros_like(b)
        g = wide(out_grad) / (self.kernel_size**2 * data1.shape[1])
        size = out_grad.shape[2:]
        for number, dy, dx in self.shifts():
            for _, _, here in self.taps(size):
                at = (slice(None), slice(None), *here)
                to = (slice(None), slice(None), *self.moved(here, dy, dx))
                part_a, part_b = self._pull(xp, g[:, number, None], a[at], b[to])
                da[at] += part_a
                db[to] += part_b
        pad, image = (self.pad_size, self.pad_size), data1.shape[2:]
        made = (crop_spatial(x, pad, image) for x in (da, db))
        return tuple(x.astype(data1.dtype, copy=False) for x in made)

    def _pull(self, xp: Any, g: Any, x: Any, y: Any) -> tuple[Any, Any]:
        if self.is_multiply:
            return g * y, g * x
        toward = g * xp.where(x >= y, 1, -1).astype(x.dtype)
        return toward, -toward

    def cost(self, ins: Types, outs: Types) -> Cost:
        return Cost(2 * self.flops(ins[0].shape, ins[1].shape[1]), total_bytes(ins, outs))
