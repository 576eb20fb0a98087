"""Dropout: elements set to zero at random while training."""

from __future__ import annotations

from typing import Any

from raysym.graph import apply
from raysym.op import Cost, Entries, Grads, Op, Shapes, Types, register, total_bytes
from raysym.params import Dims, param
from raysym.types import PartialShape, normal_axis


@register
class Dropout(Op):
    """``y = x mask / (1 - p)``: each element is kept with probability ``1 - p``.

    Shapes: output like data; the hidden output mask, which holds ``1 / (1 - p)`` and 0, has size 1
    along `axes`. Inference passes the data through unless mode is always. With ``p = 1`` nothing is
    left and the gradient is 0. Source: Srivastava et al., JMLR 15 (2014).
    """

    kinds = "f"
    random = True
    outputs = ("output", "mask")
    hidden = 1
    p: float = param(0.5, low=0, high=1, doc="Probability that an element is dropped.")
    mode: str = param(
        "training",
        choices=("always", "training"),
        doc="Drop in training only, or in inference too.",
    )
    axes: Dims = param((), doc="Axes along which all elements share one decision.")
    cudnn_off: bool | None = param(False, doc="Accepted for compatibility; not used.")

    def mask_shape(self, shape: PartialShape) -> Any:
        """The data's shape with 1 along the shared axes."""
        if shape is None:
            return None
        shared = {normal_axis(axis, len(shape)) for axis in self.axes}
        return tuple(1 if i in shared else n for i, n in enumerate(shape))

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        return ins, [ins[0], self.mask_shape(ins[0])]

    def forward(self, xp: Any, rng: Any, data: Any) -> Any:
        # Drawn in one dtype, so that the dtype of the data does not change the mask.
        kept = xp.asarray(rng.random(self.mask_shape(data.shape), "float32") >= self.p)
        scale = 1 / (1 - self.p) if self.p < 1 else 0.0
        mask = kept.astype(data.dtype) * data.dtype.type(scale)
        return data * mask, mask

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        return [apply("broadcast_mul" if self.axes else "elemwise_mul", outs[1], grads[0])]

    def for_inference(self, ins: Entries) -> Entries | None:
        if self.mode == "always":
            return None
        return [ins[0], apply("ones_like", ins[0])]

    def cost(self, ins: Types, outs: Types) -> Cost:
        return Cost(outs[0].size + 10 * outs[1].size, total_bytes(ins, outs))
