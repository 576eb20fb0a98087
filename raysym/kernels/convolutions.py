"""Lowerings of convolutions, deconvolutions and their gradients (see lowering.py).

Which kernel computes one depends on its shape and dtype alone: one matrix product, tiles at
Winograd's points, channels one by one, columns, or windows. Images of one axis have one row.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from raysym.kernels.columns import columns_space, folds_space, has_columns, has_folds
from raysym.kernels.conv import data_space, result_space, windows_of
from raysym.kernels.correlation import (
    data_tiles,
    forward_tiles,
    gradient_plan,
    has_tiles,
    product_plan,
)
from raysym.kernels.depthwise import depthwise_space, has_channels
from raysym.kernels.geometry import Geometry, phases_of
from raysym.kernels.lowering import Kernel, Types, lowering, product, shifted, turned
from raysym.kernels.moving import PANEL
from raysym.kernels.product import Product
from raysym.kernels.specs import Spec
from raysym.ops.windows import Window, channels_first
from raysym.types import Shape

_FILTERS = frozenset({("in", 0), ("out", 0)})
_BOTH = frozenset({("in", 0), ("in", 1)})


def _geometry(op: Any, window: Window, data: Shape, weight: Shape) -> Geometry:
    """The convolution in numbers."""
    n, c, *sides = channels_first(data, op.is_channel_last())
    d, h, w = _three(sides, 1)
    q, r, s = _three(window.kernel, 1)
    stride, pad, dilate = (
        _three(values, other)
        for values, other in ((window.stride, 1), (window.pad, 0), (window.dilate, 1))
    )
    flat = [number for values in (stride, pad, dilate) for number in values[1:]]
    deep = d, q, stride[0], pad[0], dilate[0]
    return Geometry._make([n, c, h, w, weight[0], r, s, *flat, op.num_group, *deep])


def _three(values: Sequence[int], other: int) -> list[int]:
    """Numbers of planes, rows and columns."""
    return [other] * (3 - len(values)) + list(values)


def _as_laid_out(kernel: Kernel, op: Any, g: Geometry, weight: int) -> Kernel:
    """The kernel for users whose images lie channels-last, and so do taps in their weights."""
    if not op.is_channel_last():
        return kernel
    return turned(kernel._replace(last=frozenset()), weight, (g.f, g.area, g.part[0]))


def _forward(op: Any, g: Geometry, reads: tuple[int, ...], dtype: str) -> Kernel:
    return _as_laid_out(_forward_kernel(g, reads, dtype), op, g, 1)


def _forward_kernel(g: Geometry, reads: tuple[int, ...], dtype: str) -> Kernel:
    bias = len(reads) == 3
    if g.is_product:
        p = Product(g.cells, g.f, g.c, turned_b=True, bias=bias)
        return product(p, reads)._replace(last=_FILTERS)
    if _has_tiles(g, dtype):
        space = product_plan(forward_tiles(g)).space
        return Kernel(Spec("tiled_forward", (tuple(g), bias)), reads, space, _FILTERS, width=g.f)
    if has_channels(g):
        spec = Spec("depthwise_forward", (tuple(g), bias))
        return Kernel(spec, reads, depthwise_space(g), _FILTERS)
    spec, gathers = Spec("conv_forward", (tuple(g), bias)), windows_of(g).gathers
    return Kernel(spec, reads, result_space(g), _FILTERS, width=g.f, gathers=gathers)


def _has_tiles(g: Geometry, dtype: str) -> bool:
    return dtype == "float32" and has_tiles(g)  # 36 points of doubles outgrow the registers


def _data(op: Any, g: Geometry, dtype: str) -> Kernel:
    return _as_laid_out(_data_kernel(g, dtype), op, g, 1)


def _data_kernel(g: Geometry, dtype: str) -> Kernel:
    if g.is_product:
        return product(Product(g.cells, g.c, g.f), (0, 1))._replace(last=_FILTERS)
    if _has_tiles(g, dtype):
        space = product_plan(data_tiles(g)).space
        return Kernel(Spec("tiled_data", (tuple(g),)), (0, 1), space, _FILTERS, width=g.c)
    if has_channels(g):
        return Kernel(Spec("depthwise_data", (tuple(g),)), (0, 1), depthwise_space(g), _FILTERS)
    if has_folds(g):
        return Kernel(Spec("folds_data", (tuple(g),)), (0, 1), folds_space(g), _FILTERS)
    whole = all(phase.is_live for phase in phases_of(g))
    spec, width = Spec("conv_data", (tuple(g),)), g.c if whole else 0
    return Kernel(spec, (0, 1), data_space(g), _FILTERS, width=width, gathers=True)


def _weight(op: Any, g: Geometry, reads: tuple[int, int], dtype: str) -> Kernel:
    return _as_laid_out(_weight_kernel(g, reads, dtype), op, g, 2)


def _weight_kernel(g: Geometry, reads: tuple[int, int], dtype: str) -> Kernel:
    if g.is_product and g.c > 2 * PANEL:  # fewer channels: their sums fit the windows' registers
        p = Product(g.f, g.c, g.cells, turned_a=True)
        return product(p, reads)._replace(last=_BOTH)
    if _has_tiles(g, dtype) and g.r == 3:  # of 5x5 filters, sums of direct products are closer
        space = gradient_plan(forward_tiles(g)).space
        return Kernel(Spec("tiled_weight", (tuple(g),)), reads, space, _BOTH)
    if has_channels(g):
        return Kernel(Spec("depthwise_weight", (tuple(g),)), reads, depthwise_space(g), _BOTH)
    if has_columns(g):
        return Kernel(Spec("columns_weight", (tuple(g),)), reads, columns_space(g), _BOTH)
    return Kernel(Spec("conv_weight", (tuple(g),)), reads, result_space(g), _BOTH)


# ----- convolution


@lowering("Convolution", "Convolution_v1", "_convolve", double=True, half=True, tail=True)
def _convolution(op: Any, ins: Types, outs: Types) -> Kernel:
    g = _geometry(op, Window.of(op), ins[0].shape, ins[1].shape)
    return _forward(op, g, tuple(range(len(ins))), ins[0].dtype)


@lowering("_backward_Convolution_data", double=True, half=True, tail=True)
def _convolution_data(op: Any, ins: Types, outs: Types) -> Kernel:
    g = _geometry(op, Window.of(op), outs[0].shape, ins[1].shape)
    return _data(op, g, ins[0].dtype)


@lowering("_backward_Convolution_weight", double=True, half=True)
def _convolution_weight(op: Any, ins: Types, outs: Types) -> Kernel:
    g = _geometry(op, Window.of(op), ins[1].shape, outs[0].shape)
    return _weight(op, g, (0, 1), ins[0].dtype)


# ----- deconvolution: of the convolution that maps its result to its data, the data gradient


def _turned_geometry(op: Any, data: Shape, made: Shape, weight: Shape) -> Geometry:
    window, _ = op.geometry(channels_first(data, op.is_channel_last())[2:])
    return _geometry(op, window, made, weight)


@lowering("Deconvolution", double=True, half=True, tail=True)
def _deconvolution(op: Any, ins: Types, outs: Types) -> Kernel:
    g = _turned_geometry(op, ins[0].shape, outs[0].shape, ins[1].shape)
    kernel = _data(op, g, ins[0].dtype)
    return shifted(kernel, g.cells, g.c) if len(ins) == 3 else kernel


@lowering("_backward_Deconvolution_data", double=True, half=True, tail=True)
def _deconvolution_data(op: Any, ins: Types, outs: Types) -> Kernel:
    g = _turned_geometry(op, outs[0].shape, ins[0].shape, ins[1].shape)
    return _forward(op, g, (0, 1), ins[0].dtype)


@lowering("_backward_Deconvolution_weight", double=True, half=True)
def _deconvolution_weight(op: Any, ins: Types, outs: Types) -> Kernel:
    g = _turned_geometry(op, ins[1].shape, ins[0].shape, outs[0].shape)
    return _weight(op, g, (1, 0), ins[0].dtype)
