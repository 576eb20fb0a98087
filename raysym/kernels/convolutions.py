"""Lowerings of convolutions, deconvolutions and their gradients (see lowering.py).

Which kernel computes one depends on its shape alone: one matrix product, tiles at Winograd's
points, channels one by one, or windows. Images of one axis are images of one row.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from raysym.kernels.columns import columns_space, has_columns
from raysym.kernels.conv import data_space, result_space
from raysym.kernels.correlation import (
    data_tiles,
    forward_tiles,
    gradient_plan,
    has_tiles,
    product_plan,
)
from raysym.kernels.depthwise import depthwise_space, has_channels
from raysym.kernels.geometry import Geometry
from raysym.kernels.lowering import Kernel, Types, lowering, product
from raysym.kernels.moving import PANEL
from raysym.kernels.product import Product
from raysym.kernels.specs import Spec
from raysym.ops.windows import Window
from raysym.types import Shape

_FILTERS = frozenset({("in", 0), ("out", 0)})
_BOTH = frozenset({("in", 0), ("in", 1)})


def _geometry(op: Any, window: Window, data: Shape, weight: Shape) -> Geometry | None:
    """The convolution in numbers, or None if it is none of the generated kind."""
    if len(op.kernel) > 2 or op.is_channel_last():
        return None
    h, w = _pair(data[2:], 1)
    pairs = zip((window.kernel, window.stride, window.pad, window.dilate), (1, 1, 0, 1),
                strict=True)  # fmt: skip
    numbers = [n for values, other in pairs for n in _pair(values, other)]
    return Geometry._make([data[0], data[1], h, w, weight[0], *numbers, op.num_group])


def _pair(values: Sequence[int], other: int) -> tuple[int, int]:
    return (other, values[0]) if len(values) == 1 else (values[0], values[1])


def _forward(g: Geometry, reads: tuple[int, ...]) -> Kernel:
    bias = len(reads) == 3
    if g.is_product:
        p = Product(g.n * g.h * g.w, g.f, g.c, turned_b=True, bias=bias)
        return product(p, reads)._replace(last=_FILTERS)
    if has_tiles(g):
        space = product_plan(forward_tiles(g)).space
        return Kernel(Spec("tiled_forward", (tuple(g), bias)), reads, space, _FILTERS)
    if has_channels(g):
        spec = Spec("depthwise_forward", (tuple(g), bias))
        return Kernel(spec, reads, depthwise_space(g), _FILTERS)
    return Kernel(Spec("conv_forward", (tuple(g), bias)), reads, result_space(g), _FILTERS)


def _data(g: Geometry) -> Kernel:
    if g.is_product:
        return product(Product(g.n * g.h * g.w, g.c, g.f), (0, 1))._replace(last=_FILTERS)
    if has_tiles(g):
        space = product_plan(data_tiles(g)).space
        return Kernel(Spec("tiled_data", (tuple(g),)), (0, 1), space, _FILTERS)
    if has_channels(g):
        return Kernel(Spec("depthwise_data", (tuple(g),)), (0, 1), depthwise_space(g), _FILTERS)
    return Kernel(Spec("conv_data", (tuple(g),)), (0, 1), data_space(g), _FILTERS)


def _weight(g: Geometry, reads: tuple[int, int]) -> Kernel:
    if g.is_product and g.c > 2 * PANEL:  # fewer channels: their sums fit the windows' registers
        p = Product(g.f, g.c, g.n * g.h * g.w, turned_a=True)
        return product(p, reads)._replace(last=_BOTH)
    if has_tiles(g) and g.r == 3:  # of 5x5 filters, the sums of direct products are closer
        space = gradient_plan(forward_tiles(g)).space
        return Kernel(Spec("tiled_weight", (tuple(g),)), reads, space, _BOTH)
    if has_channels(g):
        return Kernel(Spec("depthwise_weight", (tuple(g),)), reads, depthwise_space(g), _BOTH)
    if has_columns(g):
        return Kernel(Spec("columns_weight", (tuple(g),)), reads, columns_space(g), _BOTH)
    return Kernel(Spec("conv_weight", (tuple(g),)), reads, result_space(g), _BOTH)


# ----- convolution


@lowering("Convolution", "_convolve")
def _convolution(op: Any, ins: Types, outs: Types) -> Kernel | None:
    g = _geometry(op, Window.of(op), ins[0].shape, ins[1].shape)
    return None if g is None else _forward(g, tuple(range(len(ins))))


@lowering("_backward_Convolution_data")
def _convolution_data(op: Any, ins: Types, outs: Types) -> Kernel | None:
    g = _geometry(op, Window.of(op), outs[0].shape, ins[1].shape)
    return None if g is None else _data(g)


@lowering("_backward_Convolution_weight")
def _convolution_weight(op: Any, ins: Types, outs: Types) -> Kernel | None:
    g = _geometry(op, Window.of(op), ins[1].shape, outs[0].shape)
    return None if g is None else _weight(g, (0, 1))


# ----- deconvolution: of the convolution that maps its result to its data, the data gradient


@lowering("Deconvolution")
def _deconvolution(op: Any, ins: Types, outs: Types) -> Kernel | None:
    if len(ins) == 3:  # the kernels of data gradients add no bias
        return None
    window, _ = op.geometry(ins[0].shape[2:])
    g = _geometry(op, window, outs[0].shape, ins[1].shape)
    return None if g is None else _data(g)


@lowering("_backward_Deconvolution_data")
def _deconvolution_data(op: Any, ins: Types, outs: Types) -> Kernel | None:
    window, _ = op.geometry(outs[0].shape[2:])
    g = _geometry(op, window, ins[0].shape, ins[1].shape)
    return None if g is None else _forward(g, (0, 1))


@lowering("_backward_Deconvolution_weight")
def _deconvolution_weight(op: Any, ins: Types, outs: Types) -> Kernel | None:
    window, _ = op.geometry(ins[1].shape[2:])
    g = _geometry(op, window, ins[0].shape, outs[0].shape)
    return None if g is None else _weight(g, (1, 0))
