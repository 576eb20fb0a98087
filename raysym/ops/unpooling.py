"""Gradients of pooling: what windows received goes back to their cells."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from raysym.graph import Entry, apply
from raysym.op import Cost, Entries, Grads, Shapes, Types, register, total_bytes
from raysym.ops.numeric import wide
from raysym.ops.pooling import (
    Pool,
    lowest,
    pad_to_windows,
    reduce_windows,
    spread_windows,
    window_places,
)
from raysym.ops.windows import Window, channels_first, channels_last, crop_spatial, final, first
from raysym.params import Dims, param
from raysym.types import Shape


def _stages(xp: Any, x: Any, window: Window, sizes: Dims) -> list[tuple[int, Any, Any]]:
    """Maxima along the last axis, then the one before, ...: (axis, what went in, what came out).

    Read backward these lead to the first maximum in row-major order: first the row, then the cell.
    """
    data = pad_to_windows(xp, x, window, sizes, lowest(xp, x))
    stages = []
    for axis in reversed(range(len(sizes))):
        made = reduce_windows(data, window, sizes, [axis], xp.maximum)
        stages.append((axis, data, made))
        data = made
    return stages


def _hits(xp: Any, stage: tuple[int, Any, Any], window: Window, n: int) -> Iterator[Any]:
    """For each tap its place and where it holds the first maximum of its window."""
    axis, data, made = stage
    free = xp.ones(made.shape, bool)
    for place in window_places(window, axis, n):
        hit = (data[place] == made) & free
        free &= ~hit
        yield place, hit


# ----- the pages


class _PoolGradient(Pool):
    """What the gradients share: the result is like the data."""

    internal = True
    inputs: ClassVar[tuple[str, ...]] = ("grad", "data")

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        return ins, [ins[1]]

    def cost(self, ins: Types, outs: Types) -> Cost:
        return Cost(2 * outs[0].size, total_bytes(ins, outs))

    def spread(self, xp: Any, g: Any, spatial: Shape) -> Any:
        """Every cell receives the sum of what its windows hold."""
        return spread_windows(xp, g, self.window(spatial), tuple(spatial), g.shape[2:])


@register
class _backward_Pooling_sum(_PoolGradient):
    """Gradient of sum and mean pooling: every cell receives from all windows that it is in.

    Shapes: grad ``(N, C, *P)``, result ``(N, C, *S)``, the shape of data.
    """

    shape_only = ("data",)
    spatial: Dims = param((), doc="S, known once types are; the input data is then not needed.")

    def input_names(self) -> tuple[str, ...]:
        return ("grad",) if self.spatial else ("grad", "data")

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        if not self.spatial:
            return ins, [ins[1]]
        grad = channels_first(ins[0], self.is_channel_last())
        if grad is None:
            return ins, outs
        return ins, [channels_last((*grad[:2], *self.spatial), self.is_channel_last())]

    def forward(self, xp: Any, grad: Any, like: Any = None) -> Any:
        last = self.is_channel_last()
        g = wide(first(grad, last))
        spatial = self.spatial or first(like, last).shape[2:]
        if self.pool_type == "avg":
            g = (g / self.divisors(xp, spatial, g.shape[2:])).astype(g.dtype, copy=False)
        return final(self.spread(xp, g, spatial).astype(grad.dtype, copy=False), last)

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        given = self.given_geometry()
        given.pop("spatial", None)
        return [apply("Pooling", grads[0], **given), None][: len(ins)]

    def specialize(self, ins: Entries, types: Types, outs: Types) -> Entry | None:
        if self.spatial:
            return None
        spatial = self.shape_first(types[1].shape)[2:]
        return apply(self.name, ins[0], **self.given(), spatial=spatial)


@register
class _backward_Pooling_lp(_PoolGradient):
    """Gradient of p-norm pooling: ``x^(p-1) sum(g / y^(p-1))`` over the windows of each cell.

    Windows whose norm is 0 give nothing. Shapes as those of Pooling.
    """

    inputs = ("grad", "data", "output")

    def forward(self, xp: Any, grad: Any, data: Any, output: Any) -> Any:
        last, power = self.is_channel_last(), (self.p_value or 1) - 1
        g, x, y = (wide(first(array, last)) for array in (grad, data, output))
        y = xp.where(y == 0, xp.inf, y).astype(y.dtype, copy=False)
        dx = self.spread(xp, g / y**power if power else g, x.shape[2:])
        dx = dx * x**power if power else dx
        return final(dx.astype(data.dtype, copy=False), last)


@register
class _backward_Pooling_max(_PoolGradient):
    """Gradient of max pooling: the first maximum of each window, in row-major order, gets all.

    Shapes: grad ``(N, C, *P)``, data and result ``(N, C, *S)``.
    """

    def forward(self, xp: Any, grad: Any, data: Any) -> Any:
        last = self.is_channel_last()
        g, x = first(grad, last), first(data, last)
        sizes, window = g.shape[2:], self.window(x.shape[2:])
        for stage in reversed(_stages(xp, x, window, sizes)):
            spread = xp.zeros(stage[1].shape, g.dtype)
            for place, hit in _hits(xp, stage, window, sizes[stage[0]]):
                spread[place] += xp.where(hit, g, 0)
            g = spread
        return final(crop_spatial(g, window.pad, x.shape[2:]), last)

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        return [apply("_pool_select", grads[0], ins[1], **self.given_geometry()), None]


@register
class _pool_select(_PoolGradient):
    """The first input's values where the second has the first maximum of each window.

    Shapes: values and data ``(N, C, *S)``, result ``(N, C, *P)``.
    """

    inputs = ("values", "data")

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        data = self.shape_first(ins[1])
        if data is None:
            return ins, outs
        made = (*data[:2], *self.sizes(data[2:]))
        return [ins[1], ins[1]], [channels_last(made, self.is_channel_last())]

    def forward(self, xp: Any, values: Any, data: Any) -> Any:
        last = self.is_channel_last()
        u, x = first(values, last), first(data, last)
        sizes, window = self.sizes(x.shape[2:]), self.window(x.shape[2:])
        u = pad_to_windows(xp, u, window, sizes, 0)
        for stage in _stages(xp, x, window, sizes):
            picked = xp.zeros(stage[2].shape, u.dtype)
            for place, hit in _hits(xp, stage, window, sizes[stage[0]]):
                picked += xp.where(hit, u[place], 0)
            u = picked
        return final(u, last)

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        return [apply("_backward_Pooling_max", grads[0], ins[1], **self.given_geometry()), None]
