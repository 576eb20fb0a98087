"""Softmax with cross-entropy: the loss head SoftmaxOutput, and softmax_cross_entropy as a number.

Cast: p probabilities, n samples, k classes, S positions that share a sample.
"""

from __future__ import annotations

import math
from typing import Any

from raysym.errors import RuleError
from raysym.graph import Entry, apply
from raysym.op import Cost, Entries, Grads, Op, Shapes, Types, register, total_bytes
from raysym.ops.maths import mul
from raysym.ops.numeric import wide
from raysym.ops.softmax import log_softmax_of, softmax_of
from raysym.params import param
from raysym.types import PartialShape, is_known, unify


class _SoftmaxLoss(Op):
    """Parameters and geometry of SoftmaxOutput and of its gradient."""

    kinds = "f"
    grad_scale: float = param(1.0, doc="Multiplies the gradient.")
    ignore_label: float = param(-1.0, doc="The label that use_ignore and valid leave out.")
    multi_output: bool = param(False, doc="Classes lie along axis 1, with a label per position.")
    use_ignore: bool = param(False, doc="Whether positions with ignore_label get no gradient.")
    preserve_shape: bool = param(False, doc="Classes lie along the last axis.")
    normalization: str = param(
        "null",
        choices=("batch", "null", "valid"),
        doc="Divide the gradient by nothing, by the batch size or by the labels not ignored.",
    )
    out_grad: bool = param(
        False, doc="Whether the output multiplies the gradient (as MXNet 1.9.1 does)."
    )
    smooth_alpha: float = param(
        0.0, low=0, high=1, doc="Probability taken from the label and shared by other classes."
    )

    def view(self, shape: tuple[int, ...]) -> tuple[int, int, int]:
        """Data seen as (samples, classes, positions)."""
        if self.multi_output:
            return shape[0], shape[1], math.prod(shape[2:])
        if self.preserve_shape:
            return math.prod(shape[:-1]), shape[-1], 1
        return shape[0], math.prod(shape[1:]), 1

    def cost(self, ins: Types, outs: Types) -> Cost:
        return Cost(12 * outs[0].size, total_bytes(ins, outs))


@register
class SoftmaxOutput(_SoftmaxLoss):
    """Softmax whose gradient is that of its cross-entropy with the label: ``p - onehot(label)``.

    Shapes: output like data. By default the softmax goes over all axes but the first and the label
    is ``data.shape[:-1]``; with ``multi_output`` over axis 1 and the label is ``(n, S)`` (or with
    the axes of the positions apart, or ``(n, 1, ...)``); with ``preserve_shape`` over the last
    axis. A label of the data's shape holds probabilities: the gradient is ``grad_scale (p -
    label)``, without normalisation, ignoring or smoothing. The gradient of ``multi_output`` is
    divided by S as well unless normalization is valid. Labels that are no class subtract nothing.
    The head gradient is ignored; with ``out_grad`` the gradient is multiplied by the output.
    """

    aliases = ("Softmax",)
    inputs = ("data", "label")
    labels = ("label",)
    needs_head_grad = False

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        data, label = ins
        if data is None:
            return ins, outs
        if len(data) < 2:
            raise RuleError("data has a wrong rank", got=data, expected="at least 2 axes")
        return [data, label if label == data else self._label(data, label)], [data]

    def _label(self, data: tuple[int, ...], label: PartialShape) -> PartialShape:
        if not self.multi_output:
            holds_probabilities = label is not None and len(label) == len(data)
            return unify(label, data if holds_probabilities else data[:-1], "label")
        places = data[2:]
        flat = (data[0], 0 if 0 in places else math.prod(places))
        if label is None or not is_known(label) or not is_known(data):
            return flat if label is None else label
        if label in (flat, (data[0], *places), (data[0], 1, *places)):
            return label
        raise RuleError("label does not fit", got=label, expected=f"{flat} or {data}")

    def forward(self, xp: Any, data: Any, label: Any) -> Any:
        rows = wide(data).reshape(self.view(data.shape))
        return softmax_of(xp, rows, 1).reshape(data.shape).astype(data.dtype, copy=False)

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        # MXNet 1.9.1 takes the output for the head gradient here; its numbers are the contract.
        heads = [outs[0]] if self.out_grad else []
        return [apply("_backward_SoftmaxOutput", outs[0], ins[1], *heads, **self.given()), None]

    def add_to_grad(self, ins: Entries, outs: Entries, old: Entry, grad: Entry) -> Entry | None:
        return grad  # as MXNet does


@register
class _backward_SoftmaxOutput(_SoftmaxLoss):
    """``grad_scale (p - target) / count``. Shapes: output and result alike; label as there."""

    internal = True

    def input_names(self) -> tuple[str, ...]:
        return ("output", "label", "grad") if self.out_grad else ("output", "label")

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        return ins, [ins[0]]

    def forward(self, xp: Any, output: Any, label: Any, grad: Any = None) -> Any:
        p = wide(output)
        if label.shape == output.shape:
            dx = self.grad_scale * (p - label)
        else:
            dx = self._of_classes(xp, p.reshape(self.view(p.shape)), label).reshape(p.shape)
        dx = dx if grad is None else dx * grad
        return dx.astype(output.dtype, copy=False)

    def _of_classes(self, xp: Any, p: Any, label: Any) -> Any:
        n, k, positions = p.shape
        # Data of more axes than the label can tell apart: the first label of each sample counts.
        label = label.reshape(n, -1)[:, :positions].astype(xp.int32)[:, None, :]
        dx = p - self._target(xp, xp.arange(k).reshape(1, k, 1) == label, k)
        ignored = label == int(self.ignore_label)
        if self.use_ignore:
            dx = xp.where(ignored, 0, dx)
        return (dx * self._scale(xp, ignored)).astype(p.dtype, copy=False)

    def _target(self, xp: Any, hit: Any, k: int) -> Any:
        if not self.smooth_alpha or self.multi_output:
            return hit
        return xp.where(hit, 1 - self.smooth_alpha, self.smooth_alpha / max(k - 1, 1))

    def _scale(self, xp: Any, ignored: Any) -> Any:
        n, _, positions = ignored.shape
        if self.normalization == "valid":
            return self.grad_scale / xp.maximum((~ignored).sum(), 1)
        return self.grad_scale / positions / (n if self.normalization == "batch" else 1)


@register
class softmax_cross_entropy(Op):
    """``-sum_i log softmax(data)[i, label[i]]``, a number of shape ``(1,)``.

    Shapes: data ``(n, k)``, label ``(n,)``. Differentiable in the data only. A label that is no
    class counts as one of probability 1e-8, as in MXNet.
    """

    kinds = "f"
    inputs = ("data", "label")

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        data, label = ins
        if data is None:
            return ins, [(1,)]
        if len(data) != 2:
            raise RuleError("data has a wrong rank", got=data, expected="(n, k)")
        return [data, unify(label, data[:1], "label")], [(1,)]

    def forward(self, xp: Any, data: Any, label: Any) -> Any:
        logs, hit = log_softmax_of(xp, wide(data), 1), _hits(xp, data, label)
        total = xp.where(hit, logs, 0).sum() + math.log(1e-8) * (~hit.any(axis=1)).sum()
        return (-total).reshape(1).astype(data.dtype)

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        return [apply("_backward_softmax_cross_entropy", grads[0], *ins), None]

    def cost(self, ins: Types, outs: Types) -> Cost:
        return Cost(12 * ins[0].size, total_bytes(ins, outs))


def _hits(xp: Any, data: Any, label: Any) -> Any:
    return xp.arange(data.shape[1]) == label.astype(xp.int32)[:, None]


@register
class _backward_softmax_cross_entropy(Op):
    """``g (softmax(data) - onehot(label))``. Shapes: grad ``(1,)``, data and result ``(n, k)``."""

    internal = True
    inputs = ("grad", "data", "label")

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        return ins, [ins[1]]

    def forward(self, xp: Any, grad: Any, data: Any, label: Any) -> Any:
        made = grad * (softmax_of(xp, wide(data), 1) - _hits(xp, data, label))
        return made.astype(data.dtype, copy=False)

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        (g, x, label), (u,) = ins, grads
        unit = apply(self.name, apply("ones_like", g), x, label)
        scaled = apply("broadcast_mul", u, apply("expand_dims", g, axis=0))
        dx = apply("_backward_softmax", scaled, apply("softmax", x), axis=-1)
        return [apply("sum", mul(u, unit)), dx, None]

    def cost(self, ins: Types, outs: Types) -> Cost:
        return Cost(12 * outs[0].size, total_bytes(ins, outs))
