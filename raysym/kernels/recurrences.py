"""Lowering of the recurrent op: which kernel, for which layers and types."""

from __future__ import annotations

from typing import Any

from raysym.kernels.lowering import Kernel, Types, all_of, doubled, lowering
from raysym.kernels.rnn_layout import Recurrence, total
from raysym.kernels.specs import Spec

_LENGTHS = ("float32", "float64", "int32", "int64")


def _recurrence(op: Any, feeds: Types) -> Recurrence | None:
    """The layers in numbers; None if lengths are of a dtype that the kernels do not read."""
    length = feeds[-1].dtype if op.use_sequence_length else ""
    if length and length not in _LENGTHS:
        return None
    steps, batch, features = feeds[0].shape
    sizes = (steps, batch, features, op.state_size, op.num_layers, op.directions)
    low, high = op.lstm_state_clip_min, op.lstm_state_clip_max
    is_clipped = op.mode == "lstm" and low is not None
    return Recurrence(
        op.mode,
        *sizes,
        bool(op.state_outputs),
        op.projection_size or 0,
        (low, high, op.lstm_state_clip_nan) if is_clipped else (),
        length,
        op.p if op.p > 0 and op.num_layers > 1 else None,
    )


def _numbers(op: Any, feeds: Types) -> Types:
    """What is of the op's dtype: all but the lengths."""
    return feeds[:-1] if op.use_sequence_length else feeds


def _of_floats(kernel: Kernel, types: Types) -> Kernel | None:
    """The kernel for the dtype that all types are of, if there is one."""
    if all_of("float32", types):
        return kernel
    return doubled(kernel) if all_of("float64", types) else None


@lowering("RNN", "_RNN_inference", any_dtype=True, half=True)
def _rnn(op: Any, ins: Types, outs: Types) -> Kernel | None:
    g, keeps = _recurrence(op, ins), op.name == "RNN"
    if g is None:
        return None
    spec, space = Spec("rnn_forward", (tuple(g), keeps)), total(g.forward_parts(keeps))
    made = Kernel(spec, tuple(range(len(ins))), space, draws=g.drop is not None)
    return _of_floats(made, [*_numbers(op, ins), *outs])


@lowering("_backward_RNN", any_dtype=True, half=True)
def _rnn_gradient(op: Any, ins: Types, outs: Types) -> Kernel | None:
    first = len(op.result_names())
    end = first + len(op.feed_names())
    feeds = ins[first:end]
    g = _recurrence(op, feeds)
    if g is None:
        return None
    made = Kernel(
        Spec("rnn_backward", (tuple(g),)), tuple(range(len(ins))), total(g.backward_parts())
    )
    return _of_floats(made, [*ins[:first], *_numbers(op, feeds), *ins[end:], *outs])
