"""Pages that add up what is in images, and do so where these lie channels-last.

The order of a sum depends on how numbers lie. That no bit depends on who else has to do with them,
such a page lies so or not by its parameters and shapes alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from raysym.op import Op
from raysym.ops.reduce import reduced_axes
from raysym.types import Shape, normal_axis

Condition: TypeAlias = Callable[[Any, Shape], bool]  # op page, shape of its first input


def _always(op: Any, shape: Shape) -> bool:
    return True


def _over_channels(op: Any, shape: Shape) -> bool:
    return len(shape) > 3 and normal_axis(op.axis, len(shape)) == 1


def _by_channel(op: Any, shape: Shape) -> bool:
    return normal_axis(op.axis, len(shape)) == 1


def _of_images(op: Any, shape: Shape) -> bool:
    """Over all positions, or over channels if these are kept as 1."""
    axes = reduced_axes(op.axis, len(shape), op.exclude)
    over_channels = op.keepdims and axes == (1,)
    return len(shape) > 3 and (over_channels or axes == tuple(range(2, len(shape))))


def _to_channels(op: Any, shape: Shape) -> bool:
    """A sum over positions, and perhaps samples, but not channels."""
    kept = (1,) * (len(shape) - len(op.shape)) + tuple(op.shape)
    return len(shape) > 3 and kept[1] == shape[1] and math.prod(kept[2:]) == 1


def _of_channels(op: Any, shape: Shape) -> bool:
    return bool(op.mode in ("channel", "spatial"))


PAGES: dict[str, Condition] = {
    **dict.fromkeys(("max", "min", "sum", "mean"), _of_images),
    **dict.fromkeys(("softmax", "softmin", "log_softmax"), _over_channels),
    **dict.fromkeys(
        ("_backward_softmax", "_backward_log_softmax"),
        lambda op, shape: not op.flatten and _over_channels(op, shape),
    ),
    **dict.fromkeys(("SoftmaxOutput", "_backward_SoftmaxOutput"), lambda op, _: op.multi_output),
    **dict.fromkeys(("SoftmaxActivation", "L2Normalization"), _of_channels),
    **dict.fromkeys(("BatchNorm", "_contrib_BatchNormWithReLU"), _by_channel),
    **dict.fromkeys(("BatchNorm_v1", "_contrib_SyncBatchNorm"), _always),
    **dict.fromkeys(("InstanceNorm", "GroupNorm"), _always),
    "_backward_normalize": lambda op, shape: op.kind != "layer" and _by_channel(op, shape),
    "_backward_Pad": lambda op, _: op.mode == "edge",
    **dict.fromkeys(("_backward_UpSampling", "_channel_sum"), _always),
    "_sum_to": _to_channels,
}


def lies_last(op: Op, shapes: Sequence[Shape]) -> bool:
    """True when the page adds up what is in images, and reads and makes them channels-last."""
    holds = PAGES.get(op.name)
    return holds is not None and len(shapes[0]) > 2 and holds(op, shapes[0])
