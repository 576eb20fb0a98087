"""Lowerings of normalisation, pooling, softmax, losses and attention (see lowering.py)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from raysym.kernels.attention import Heads
from raysym.kernels.lowering import Kernel, Types, lowering
from raysym.kernels.pool import Pools
from raysym.kernels.specs import Spec
from raysym.types import TensorType, normal_axis

_IN, _OUT = ("in", 0), ("out", 0)
_OVER_FIRST = ((0, 0),)  # the result may lie where the data lies


# ----- normalisation


def _rows(data: TensorType) -> tuple[int, int]:
    channels = data.shape[1]
    return data.size // channels, channels


@lowering("BatchNorm", tail=True, double=True)
def _batch_norm(op: Any, ins: Types, outs: Types) -> Kernel | None:
    if op.use_global_stats or normal_axis(op.axis, len(ins[0].shape)) != 1:
        return None
    scaled = not op.fix_gamma
    args = (*_rows(ins[0]), op.eps, scaled)
    reads = (0, 1, 2) if scaled else (0, 2)
    layout = frozenset({_IN, _OUT})
    return Kernel(Spec("batch_norm", args), reads, 0, layout, _OVER_FIRST, args[1], loops=True)


@lowering("LayerNorm", tail=True, double=True)
def _layer_norm(op: Any, ins: Types, outs: Types) -> Kernel | None:
    shape = ins[0].shape
    if normal_axis(op.axis, len(shape)) != len(shape) - 1:
        return None
    args = (ins[0].size // shape[-1], shape[-1], op.eps)
    return Kernel(Spec("layer_norm", args), (0, 1, 2), width=shape[-1], loops=True)


@lowering("_backward_normalize", double=True)
def _normalize_gradient(op: Any, ins: Types, outs: Types) -> Kernel | None:
    shape = ins[0].shape
    axis = normal_axis(op.axis, len(shape)) if op.kind in ("batch", "layer") else -1
    if op.fixed or op.shown:
        return None
    reads = tuple(range(len(ins)))
    if op.kind == "batch" and op.spread == "inv" and axis == 1:
        rows, channels = _rows(ins[0])
        spec = Spec("batch_norm_gradient", (rows, channels, op.scaled))
        layout = frozenset({_IN, ("in", 1), _OUT})
        return Kernel(spec, reads, 3 * channels, layout, ((0, 0), (1, 0)))
    if op.kind == "layer" and op.spread == "std" and axis == len(shape) - 1 and op.scaled:
        return Kernel(Spec("layer_norm_gradient", (ins[0].size // shape[-1], shape[-1])), reads)
    return None


# ----- pooling


def _pools(op: Any, data: TensorType, made: TensorType) -> Pools | None:
    """The pooling in numbers; None if it is none of the generated kind."""
    if len(data.shape) != 4 or op.is_channel_last() or op.pooling_convention == "same":
        return None
    n, c, h, w = data.shape
    window = op.window((h, w))
    rows, columns = made.shape[2:]
    kernel, stride, pad = window.kernel, window.stride, window.pad
    pools = Pools(n, h, w, c, rows, columns, _pair(kernel), _pair(stride), _pair(pad))
    return pools if _all_windows_meet(pools) else None


def _pair(values: Sequence[int]) -> tuple[int, int]:
    return values[0], values[1]


def _all_windows_meet(g: Pools) -> bool:
    rows = zip((g.h, g.w), (g.rows, g.columns), g.kernel, g.stride, g.pad, strict=True)
    return all(pad < kernel and (count - 1) * stride - pad < size
               for size, count, kernel, stride, pad in rows)  # fmt: skip


def _mean_scale(op: Any, g: Pools) -> float | None:
    """What multiplies the sum of a window, if that is the same for all."""
    if op.pool_type == "sum":
        return 1.0
    if op.pool_type != "avg":
        return None
    constant = op.pooling_convention == "valid" and (
        op.count_include_pad is not False or not any(g.pad)
    )
    return 1.0 / math.prod(g.kernel) if constant else None


@lowering("Pooling", double=True)
def _pooling(op: Any, ins: Types, outs: Types) -> Kernel | None:
    g = _pools(op, ins[0], outs[0])
    if g is None:
        return None
    layout = frozenset({_IN, _OUT})
    if op.pool_type == "max":
        return Kernel(Spec("pool_max", (tuple(g),)), (0,), 0, layout)
    scale = _mean_scale(op, g)
    return None if scale is None else Kernel(Spec("pool_sum", (tuple(g), scale)), (0,), 0, layout)


@lowering("_backward_Pooling_max", double=True)
def _pooling_max_gradient(op: Any, ins: Types, outs: Types) -> Kernel | None:
    g = _pools(op, ins[1], ins[0])
    if g is None:
        return None
    layout = frozenset({_IN, ("in", 1), _OUT})
    # Windows that tile the data are read as a whole before their gradient is written.
    inplace = ((1, 0),) if g.is_exact() else ()
    return Kernel(Spec("pool_max_gradient", (tuple(g),)), (0, 1), 0, layout, inplace)


@lowering("_backward_Pooling_sum", double=True)
def _pooling_sum_gradient(op: Any, ins: Types, outs: Types) -> Kernel | None:
    g = _pools(op, outs[0], ins[0])
    scale = None if g is None else _mean_scale(op, g)
    if g is None or scale is None:
        return None
    return Kernel(Spec("pool_sum_gradient", (tuple(g), scale)), (0,), 0, frozenset({_IN, _OUT}))


# ----- softmax and losses


def _softmax_rows(rows: int, width: int, logarithm: bool) -> Kernel:
    spec = Spec("softmax_rows", (rows, width, logarithm))
    waits = not logarithm  # powers, until their sum is known
    return Kernel(spec, (0,), inplace=_OVER_FIRST, width=width, gathers=waits, loops=True)


@lowering("softmax", "log_softmax", tail=True)
def _softmax(op: Any, ins: Types, outs: Types) -> Kernel | None:
    shape = ins[0].shape
    is_last = normal_axis(op.axis, len(shape)) == len(shape) - 1
    if len(ins) > 1 or not is_last or op.temperature not in (None, 1.0):
        return None
    return _softmax_rows(ins[0].size // shape[-1], shape[-1], op.name == "log_softmax")


@lowering("SoftmaxActivation", tail=True)
def _softmax_activation(op: Any, ins: Types, outs: Types) -> Kernel | None:
    shape = ins[0].shape
    if op.mode == "channel" and len(shape) > 2:
        return None
    return _softmax_rows(shape[0], ins[0].size // shape[0], False)


@lowering("_backward_softmax", "_backward_log_softmax", tail=True)
def _softmax_gradient(op: Any, ins: Types, outs: Types) -> Kernel | None:
    shape = ins[0].shape
    if not op.flatten and normal_axis(op.axis, len(shape)) != len(shape) - 1:
        return None
    width = ins[0].size // shape[0] if op.flatten else shape[-1]
    args = (ins[0].size // width, width, op.scale, op.name == "_backward_log_softmax")
    spec = Spec("softmax_gradient", args)
    return Kernel(spec, (0, 1), inplace=((0, 0), (1, 0)), width=width, loops=True)


@lowering("SoftmaxOutput", tail=True)
def _softmax_output(op: Any, ins: Types, outs: Types) -> Kernel | None:
    rows, classes, positions = op.view(ins[0].shape)
    if positions != 1:
        return None
    return _softmax_rows(rows, classes, False)


@lowering("_backward_SoftmaxOutput")
def _softmax_output_gradient(op: Any, ins: Types, outs: Types) -> Kernel | None:
    rows, classes, positions = op.view(ins[0].shape)
    plain = not (op.out_grad or op.use_ignore or op.smooth_alpha or op.multi_output)
    if positions != 1 or not plain or op.normalization == "valid" or ins[1].size != rows:
        return None
    if ins[1].shape == ins[0].shape:  # probabilities, not classes
        return None
    scale = op.grad_scale / (rows if op.normalization == "batch" else 1)
    return Kernel(Spec("class_gradient", (rows, classes, scale)), (0, 1))


# ----- attention


def _heads(op: Any, data: TensorType, parts: int) -> Heads:
    time, batch, width = data.shape
    return Heads(time, batch, op.heads, parts, width // (op.heads * parts))


@lowering("_contrib_interleaved_matmul_selfatt_qk", double=True, half=True)
def _scores(op: Any, ins: Types, outs: Types) -> Kernel:
    h = _heads(op, ins[0], 3)
    spec = Spec("attention_scores", (tuple(h), 1 / math.sqrt(h.depth)))
    return Kernel(spec, (0,), h.key_floats())


@lowering("_contrib_interleaved_matmul_selfatt_valatt", double=True, half=True)
def _values(op: Any, ins: Types, outs: Types) -> Kernel:
    h = _heads(op, ins[0], 3)
    return Kernel(Spec("attention_values", (tuple(h),)), (0, 1), h.value_floats())


@lowering("_interleave", double=True, tail=True)
def _interleave(op: Any, ins: Types, outs: Types) -> Kernel:
    h = _heads(op, outs[0], op.num_args)
    return Kernel(Spec("interleave", (tuple(h),)), tuple(range(len(ins))), width=h.row, loops=True)
