"""Loss heads that pass data through and make up their own gradient: regression, SVM, MakeLoss."""

from __future__ import annotations

import math
from typing import Any, ClassVar

from raysym.errors import RuleError
from raysym.graph import Entry, apply
from raysym.op import Entries, Grads, Op, Shapes, register
from raysym.ops.elementwise import sigmoid
from raysym.ops.maths import add, div, minus_from, times
from raysym.ops.numeric import wide
from raysym.params import param
from raysym.types import PartialShape, is_known, unify

# ----- regression


class _Regression(Op):
    """Shared by the regression heads; the label has as many elements per sample as the data."""

    kinds = "f"
    inputs = ("data", "label")
    labels = ("label",)
    needs_head_grad = False
    signs = False
    grad_scale: float = param(1.0, doc="Multiplies the gradient.")

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        data, label = ins
        if data is None:
            return ins, outs
        return [data, self._label(data, label)], [data]

    def _label(self, data: tuple[int, ...], label: PartialShape) -> PartialShape:
        if label is None:  # a column is met by a plain vector of labels
            return data[:1] if len(data) == 2 and data[1] == 1 else data
        if not is_known(label) or not is_known(data):
            return label
        if label[:1] != data[:1] or math.prod(label) != math.prod(data):
            raise RuleError("label does not fit", got=label, expected=data)
        return label

    def forward(self, xp: Any, data: Any, label: Any) -> Any:
        return data

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        given = {"grad_scale": self.grad_scale, "signs": self.signs}
        return [apply("_backward_regression", outs[0], ins[1], **given), None]

    def add_to_grad(self, ins: Entries, outs: Entries, old: Entry, grad: Entry) -> Entry | None:
        given = {"grad_scale": self.grad_scale, "signs": self.signs}
        return apply("_added_regression", outs[0], ins[1], old, **given)


@register
class LinearRegressionOutput(_Regression):
    """The data itself; its gradient is that of squared error: ``grad_scale (x - label) / m``.

    m is the number of labels per sample. Shapes: output like data; label like data, or any shape
    of equal size and batch. The head gradient is ignored.
    """


@register
class LogisticRegressionOutput(_Regression):
    """``y = 1 / (1 + e^-x)`` with the gradient of cross-entropy: ``grad_scale (y - label) / m``.

    m is the number of labels per sample. Shapes: output like data; label like data, or any shape
    of equal size and batch. The head gradient is ignored.
    """

    def forward(self, xp: Any, data: Any, label: Any) -> Any:
        return sigmoid(xp, data)


@register
class MAERegressionOutput(_Regression):
    """The data itself; its gradient is that of absolute error: ``grad_scale sign(x - label) / m``.

    As in MXNet the sign is -1 where both are equal. m is the number of labels per sample. Shapes:
    output like data; label like data, or any shape of equal size and batch. The head gradient is
    ignored.
    """

    signs = True


@register
class _backward_regression(Op):
    """``grad_scale (y - label) / m``, or with ``signs`` of its sign. Output and result alike."""

    internal = True
    inputs: ClassVar[tuple[str, ...]] = ("output", "label")
    grad_scale: float = param(doc="Multiplies the gradient.")
    signs: bool = param(doc="Whether only the sign of the difference counts.")

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        return ins, [ins[0]]

    def forward(self, xp: Any, output: Any, label: Any, *old: Any) -> Any:
        y, label = wide(output), wide(label).reshape(output.shape)
        gap = xp.where(y > label, 1, -1) if self.signs else y - label
        scale = self.grad_scale * output.shape[0] / output.size
        return self.scaled(gap, scale, *old).astype(output.dtype, copy=False)

    def scaled(self, gap: Any, scale: float) -> Any:
        """The gradient from the difference."""
        return gap * scale


@register
class _added_regression(_backward_regression):
    """``(old + y - label) (1 + grad_scale / m)``: what MXNet 1.9.1 takes for old + gradient."""

    inputs = ("output", "label", "old")

    def scaled(self, gap: Any, scale: float, old: Any = 0) -> Any:
        return (old + gap) * (1 + scale)


# ----- MakeLoss


@register
class MakeLoss(Op):
    """The data itself, taken for a loss: its gradient is the constant ``grad_scale / count``.

    Shapes: output like data. count is 1 (null), the product of all axes but the last (batch: the
    batch size of a matrix, 1 of a vector), or the number of elements above ``valid_thresh``, at
    least 1. The head gradient is ignored.
    """

    needs_head_grad = False
    grad_scale: float = param(1.0, doc="The gradient of each element before normalisation.")
    valid_thresh: float = param(0.0, doc="Elements above it count for normalization='valid'.")
    normalization: str = param(
        "null", choices=("batch", "null", "valid"), doc="What the gradient is divided by."
    )

    def forward(self, xp: Any, data: Any) -> Any:
        return data

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        return [apply("_backward_MakeLoss", ins[0], **self.given())]


@register
class _backward_MakeLoss(Op):
    """``grad_scale / count`` everywhere. Data and result alike."""

    internal = True
    grad_scale: float = param(1.0, doc="The gradient before normalisation.")
    valid_thresh: float = param(0.0, doc="Elements above it are valid.")
    normalization: str = param(
        "null", choices=("batch", "null", "valid"), doc="What the gradient is divided by."
    )

    def forward(self, xp: Any, data: Any) -> Any:
        if self.normalization == "valid":
            count = xp.maximum((data > self.valid_thresh).sum(), 1)
            return (xp.ones_like(data) * (self.grad_scale / count)).astype(data.dtype)
        return xp.full(data.shape, self._constant(data.shape), data.dtype)

    def _constant(self, shape: tuple[int, ...]) -> float:
        # MXNet sees data of any rank as a matrix of rows along the last axis.
        return self.grad_scale / (math.prod(shape[:-1]) if self.normalization == "batch" else 1)

    def specialize(self, ins: Entries, types: Any, outs: Any) -> Entry | None:
        if self.normalization == "valid":
            return None
        shape, dtype = types[0]
        return apply("_full", shape=shape, dtype=dtype, value=self._constant(shape))


@register
class make_loss(Op):
    """The data itself, taken for a loss: its gradient is 1; the head gradient is ignored.

    Shapes: the output, named loss, is like data.
    """

    outputs = ("loss",)
    needs_head_grad = False

    def forward(self, xp: Any, data: Any) -> Any:
        return data

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        return [apply("ones_like", ins[0])]


# ----- support vector machine


class _Margin(Op):
    """Parameters of SVMOutput and its gradient."""

    margin: float = param(1.0, doc="How far scores should be from 0.")
    regularization_coefficient: float = param(1.0, doc="Multiplies the gradient.")
    use_linear: bool = param(False, doc="Linear hinge (L1) instead of the squared one (L2).")


@register
class SVMOutput(_Margin):
    """The data itself; its gradient is that of a one-against-all hinge loss.

    With r the coefficient: for the label's class ``-2 r max(0, margin - x)``, for the others
    ``2 r max(0, margin + x)``; with ``use_linear`` ``-r`` and ``r`` where the maximum is positive.
    Shapes: data and output ``(n, k)``, label ``(n,)``. The head gradient is ignored.
    """

    kinds = "f"
    inputs = ("data", "label")
    labels = ("label",)
    needs_head_grad = False

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        data, label = ins
        if data is None:
            return ins, outs
        return [data, unify(label, data[:-1], "label")], [data]

    def forward(self, xp: Any, data: Any, label: Any) -> Any:
        return data

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        return [apply("_backward_SVMOutput", outs[0], ins[1], **self.given()), None]

    def add_to_grad(self, ins: Entries, outs: Entries, old: Entry, grad: Entry) -> Entry | None:
        return grad  # as MXNet does


@register
class _backward_SVMOutput(_Margin):
    """The hinge gradient of SVMOutput. Shapes: output and result ``(n, k)``, label ``(n,)``."""

    internal = True
    inputs = ("output", "label")

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        return ins, [ins[0]]

    def forward(self, xp: Any, output: Any, label: Any) -> Any:
        hit = xp.arange(output.shape[-1]) == label.astype(xp.int32)[..., None]
        sign = xp.where(hit, -1, 1)
        gap = self.margin + sign * wide(output)
        size = gap > 0 if self.use_linear else 2 * xp.maximum(gap, 0)
        made = self.regularization_coefficient * sign * size
        return made.astype(output.dtype, copy=False)


# ----- sparseness


@register
class IdentityAttachKLSparseReg(Op):
    """The data itself; its gradient gains ``penalty (-t / a + (1 - t) / (1 - a))``.

    That is the gradient of the divergence between the target t and the average activation a of each
    channel, a moving average over batches that every backward moves before using it. The data are
    meant to lie between 0 and 1. Shapes: data and output ``(n, C, ...)``, moving_avg ``(C,)``.
    """

    kinds = "f"
    inputs = ("data", "moving_avg")
    aux = ("moving_avg",)
    sparseness_target: float = param(0.1, low=0, high=1, doc="The target t.")
    penalty: float = param(0.001, doc="Multiplies the divergence.")
    momentum: float = param(0.9, low=0, high=1, doc="Share of the old value in the average.")

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        data = unify(ins[0], outs[0])
        if data is None:
            return ins, outs
        if len(data) < 2:
            raise RuleError("data has a wrong rank", got=data, expected="at least 2 axes")
        return [data, (data[1],)], [data]

    def forward(self, xp: Any, data: Any, moving_avg: Any) -> Any:
        return data

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        average, t = self._average(ins), self.sparseness_target
        low = div(times(apply("ones_like", average), -t), average)
        high = div(times(apply("ones_like", average), 1 - t), minus_from(1.0, average))
        pull = times(add(low, high), self.penalty)
        return [add(grads[0], apply("_channel_scale", apply("ones_like", ins[0]), pull)), None]

    def backward_updates(self, ins: Entries, outs: Entries) -> dict[int, Entry]:
        return {1: self._average(ins)}

    def _average(self, ins: Entries) -> Entry:
        batch = apply("mean", ins[0], axis=1, exclude=True)
        return add(times(ins[1], self.momentum), times(batch, 1 - self.momentum))
