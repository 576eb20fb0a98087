"""Which generated kernel computes an op: spec, order of arguments, workspace, layouts.

A row for every op page that has one. `lower` returns None where the reference kernel must run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

from raysym.kernels.conv import Geometry, data_space
from raysym.kernels.correlation import (
    data_tiles,
    forward_tiles,
    gradient_plan,
    has_tiles,
    product_plan,
)
from raysym.kernels.pages import traced
from raysym.kernels.product import Product
from raysym.kernels.specs import Spec
from raysym.op import Op
from raysym.ops.reduce import reduced_axes
from raysym.types import TensorType

Types: TypeAlias = Sequence[TensorType]


class Kernel(NamedTuple):
    """One call: arguments are `reads` (positions of inputs), all outputs, then the workspace.

    `last`: positions of inputs and outputs that lie channels-last, ``("in", 0), ("out", 0)``.
    `inplace`: an input and an output that may share memory, as each element of the output is
    written after everything that depends on that element of the input has been read.
    """

    spec: Spec
    reads: tuple[int, ...]
    space: int = 0  # floats
    last: frozenset[tuple[str, int]] = frozenset()
    inplace: tuple[tuple[int, int], ...] = ()


Lowering: TypeAlias = Callable[[Any, Types, Types], Kernel | None]
LOWERINGS: dict[str, Lowering] = {}
_ANY_DTYPE: set[str] = set()


def lowering(*names: str, any_dtype: bool = False) -> Callable[[Lowering], Lowering]:
    """Enter a lowering under the names of op pages; it sees float32 only, or looks for itself."""

    def enter(function: Lowering) -> Lowering:
        LOWERINGS.update(dict.fromkeys(names, function))
        _ANY_DTYPE.update(names if any_dtype else ())
        return function

    return enter


def lower(op: Op, ins: Types, outs: Types) -> Kernel | None:
    """The generated kernel of an op on these types, or None."""
    found = LOWERINGS.get(op.name)
    if found is not None and (op.name in _ANY_DTYPE or all_float32([*ins, *outs])):
        kernel = found(op, ins, outs)
        if kernel is not None:
            return kernel
    made = traced(op, tuple(ins), tuple(outs))
    return made and Kernel(made.spec, made.reads, -(-made.nbytes // 4))


def all_float32(types: Types) -> bool:
    """True when everything is float32 and nothing is empty."""
    return all(t.dtype == "float32" and t.size for t in types)


# ----- matrix products


def product(p: Product, reads: Sequence[int]) -> Kernel:
    """The kernel of a matrix product."""
    return Kernel(Spec("gemm", (tuple(p),)), tuple(reads), p.workspace())


@lowering("FullyConnected")
def _fully_connected(op: Any, ins: Types, outs: Types) -> Kernel:
    n, k = ins[1].shape
    m = ins[0].size // k
    bias = len(ins) == 3
    return product(Product(m, n, k, turned_b=True, bias=bias), range(len(ins)))


@lowering("dot")
def _dot(op: Any, ins: Types, outs: Types) -> Kernel | None:
    if any(len(t.shape) != 2 for t in ins):
        return None
    return _matrices(op, ins, 1)


@lowering("batch_dot")
def _batch_dot(op: Any, ins: Types, outs: Types) -> Kernel | None:
    if any(len(t.shape) != 3 for t in ins):
        return None
    return _matrices(op, ins, ins[0].shape[0])


def _matrices(op: Any, ins: Types, count: int) -> Kernel:
    a, b = (t.shape[-2:] for t in ins)
    m, k = a[::-1] if op.transpose_a else a
    n = b[0] if op.transpose_b else b[1]
    p = Product(m, n, k, bool(op.transpose_a), bool(op.transpose_b), repeats=count)
    return product(p, (0, 1))


# ----- sums


@lowering("sum", "mean")
def _sum(op: Any, ins: Types, outs: Types) -> Kernel | None:
    shape = ins[0].shape
    axes = reduced_axes(op.axis, len(shape), op.exclude)
    if not axes or axes != tuple(range(axes[0], axes[-1] + 1)):
        return _around_channel(op, shape, axes)
    lead, rest = math.prod(shape[: axes[0]]), math.prod(shape[axes[-1] + 1 :])
    count = math.prod(shape[i] for i in axes)
    return Kernel(Spec("sum_axis", (lead, count, rest, op.name == "mean")), (0,))


def _around_channel(op: Any, shape: Sequence[int], axes: Sequence[int]) -> Kernel | None:
    """Sums over all axes but axis 1 of images are taken where these lie channels-last."""
    if op.name != "sum" or len(shape) != 4 or tuple(axes) != (0, 2, 3):
        return None
    rows = shape[0] * shape[2] * shape[3]
    return Kernel(Spec("sum_axis", (1, rows, shape[1], False)), (0,), 0, frozenset({("in", 0)}))


# ----- convolution


_FILTERS = frozenset({("in", 0), ("out", 0)})


def _geometry(op: Any, data: TensorType, weight: TensorType) -> Geometry | None:
    """The convolution in numbers, or None if it is none of the generated kind."""
    if len(op.kernel) != 2 or op.num_group != 1 or op.is_channel_last():
        return None
    if any(d != 1 for d in op.dilate):
        return None
    (sh, sw), (ph, pw) = op.stride or (1, 1), op.pad or (0, 0)
    if ph >= op.kernel[0] or pw >= op.kernel[1]:
        return None
    n, c, h, w = data.shape
    r, s = op.kernel
    return Geometry(n, c, h, w, weight.shape[0], r, s, sh, sw, ph, pw)


def _is_product(g: Geometry) -> bool:
    """True when the windows are single cells: the convolution is one matrix product."""
    return (g.r, g.s, g.stride_h, g.stride_w, g.pad_h, g.pad_w) == (1, 1, 1, 1, 0, 0)


@lowering("Convolution", "_convolve")
def _convolution(op: Any, ins: Types, outs: Types) -> Kernel | None:
    g = _geometry(op, ins[0], ins[1])
    if g is None:
        return None
    bias = len(ins) == 3
    if _is_product(g):
        p = Product(g.n * g.h * g.w, g.f, g.c, turned_b=True, bias=bias)
        return product(p, range(len(ins)))._replace(last=_FILTERS)
    if has_tiles(g):
        spec, space = Spec("tiled_forward", (tuple(g), bias)), product_plan(forward_tiles(g)).space
        return Kernel(spec, tuple(range(len(ins))), space, _FILTERS)
    spec = Spec("conv_forward", (tuple(g), bias))
    return Kernel(spec, tuple(range(len(ins))), g.space(), _FILTERS)


@lowering("_backward_Convolution_data")
def _convolution_data(op: Any, ins: Types, outs: Types) -> Kernel | None:
    g = _geometry(op, outs[0], ins[1])
    if g is None:
        return None
    if _is_product(g):
        return product(Product(g.n * g.h * g.w, g.c, g.f), (0, 1))._replace(last=_FILTERS)
    if has_tiles(g):
        space = product_plan(data_tiles(g)).space
        return Kernel(Spec("tiled_data", (tuple(g),)), (0, 1), space, _FILTERS)
    return Kernel(Spec("conv_data", (tuple(g),)), (0, 1), data_space(g), _FILTERS)


@lowering("_backward_Convolution_weight")
def _convolution_weight(op: Any, ins: Types, outs: Types) -> Kernel | None:
    g = _geometry(op, ins[1], outs[0])
    if g is None:
        return None
    both = frozenset({("in", 0), ("in", 1)})
    if has_tiles(g) and g.r == 3:  # of 5x5 filters, the sums of direct products are closer
        space = gradient_plan(forward_tiles(g)).space
        return Kernel(Spec("tiled_weight", (tuple(g),)), (0, 1), space, both)
    return Kernel(Spec("conv_weight", (tuple(g),)), (0, 1), g.space(), both)
