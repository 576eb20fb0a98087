"""Normalisation to mean 0 and variance 1 over a set of axes: batch, layer, group, instance.

All are one map, ``y = gamma * (x - mean) / sqrt(var + eps) + beta``; they differ in the axes that
statistics are taken over and in the axis along which gamma and beta vary. Cast: x data, z the
normalised data, g incoming gradient, m mean, inv the inverse standard deviation.
"""

from __future__ import annotations

from typing import Any, ClassVar

from raysym.errors import RuleError
from raysym.graph import Entry, apply, apply_all
from raysym.op import Cost, DTypes, Entries, Grads, Op, Shapes, Types, register, total_bytes
from raysym.ops.maths import above, add, mul, plus, power, times
from raysym.ops.normalizing import Geometry
from raysym.ops.numeric import wide
from raysym.params import param
from raysym.types import Shape, unify_dtypes


class _Normalization(Op):
    """Shared by all pages: kind, geometry, the forward map and its gradient."""

    kinds = "f"
    work = "normalization"
    kind: ClassVar[str]
    spread: ClassVar[str]  # what the third output shows: inv = 1/std, std or var
    axis: int = 1
    num_groups: int = 1
    eps: float
    output_mean_var = False
    fix_gamma = False
    use_global_stats = False

    def n_visible(self) -> int:
        return 3 if self.output_mean_var else 1

    def geometry(self, shape: Shape) -> Geometry:
        """How data of this shape is looked at."""
        return Geometry.of(self.kind, shape, self.axis, self.num_groups)

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        data = ins[0]
        if data is None:
            return ins, outs
        if len(data) < 2:
            raise RuleError("data has a wrong rank", got=data, expected="at least 2 axes")
        geometry = self.geometry(data)
        shown = geometry.statistics(self.kind)
        return [data, *[geometry.learned()] * (len(ins) - 1)], [data, shown, shown]

    def normalized(self, xp: Any, data: Any, gamma: Any, beta: Any, moments: Any) -> Any:
        """``gamma (x - mean) / sqrt(var + eps) + beta`` and the statistics to show."""
        geometry = self.geometry(data.shape)
        x = wide(data).reshape(geometry.view)
        mean = moments[0] if moments else geometry.mean(x)
        y = x - mean
        var = moments[1] if moments else geometry.mean(xp.square(y))
        inv = 1 / xp.sqrt(var + self.eps)
        self._scale(y, geometry, inv, gamma)
        y += geometry.along(wide(beta))
        shown = {"inv": inv, "std": 1 / inv, "var": var}[self.spread]
        shape = geometry.statistics(self.kind)
        seen = [s.reshape(shape).astype(beta.dtype, copy=False) for s in (mean, shown)]
        return (y.reshape(data.shape).astype(data.dtype, copy=False), *seen)

    def _scale(self, y: Any, geometry: Geometry, inv: Any, gamma: Any) -> None:
        # In place, and in one pass where the factors are few.
        if self.fix_gamma:
            y *= inv
        elif geometry.channel in geometry.over:
            y *= inv
            y *= geometry.along(wide(gamma))
        else:
            y *= inv * geometry.along(wide(gamma))

    def forward(self, xp: Any, data: Any, gamma: Any, beta: Any) -> Any:
        return self.normalized(xp, data, gamma, beta, None)

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        scale = [] if self.fix_gamma else [ins[1]]
        made = apply_all(
            "_backward_normalize", grads[0], ins[0], *scale, *outs[1:], *grads[1:], **self._facts()
        )
        dgamma = None if self.fix_gamma else made[1]
        return [made[0], dgamma, made[-1], *(None for _ in ins[3:])]

    def _facts(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "spread": self.spread,
            "axis": self.axis,
            "num_groups": self.num_groups,
            "eps": self.eps,
            "scaled": not self.fix_gamma,
            "fixed": self.use_global_stats,
            "shown": self.output_mean_var,
        }

    def cost(self, ins: Types, outs: Types) -> Cost:
        return Cost(8 * outs[0].size, total_bytes(ins, outs))


class BatchNormalization(_Normalization):
    """Shared by the batch normalisations: moving averages as auxiliary states."""

    kind = "batch"
    spread = "inv"
    inputs = ("data", "gamma", "beta", "moving_mean", "moving_var")
    aux = ("moving_mean", "moving_var")
    outputs = ("output", "mean", "var")
    hidden = 2
    momentum: float

    def variable_attrs(self, slot: str) -> dict[str, str]:
        starts = {"moving_mean": '["zero", {}]', "moving_var": '["one", {}]'}
        return {"__init__": starts[slot]} if slot in starts else {}

    def infer_dtype(self, ins: DTypes, outs: DTypes) -> tuple[DTypes, DTypes]:
        data = unify_dtypes([ins[0], outs[0]])
        if data is None:
            return ins, outs
        # Statistics of float16 data would overflow or lose their digits in float16.
        learned = "float32" if data == "float16" else data
        return [data, *[learned] * 4], [data, learned, learned]

    def forward(self, xp: Any, data: Any, gamma: Any, beta: Any, *moving: Any) -> Any:
        geometry = self.geometry(data.shape)
        fixed = [array.reshape(geometry.kept()) for array in moving]
        return self.normalized(xp, data, gamma, beta, fixed if self.use_global_stats else None)

    def for_inference(self, ins: Entries) -> Entries | None:
        if self.use_global_stats:
            return None
        return apply_all(self.name, *ins, **{**self.given(), "use_global_stats": True})

    def forward_updates(self, ins: Entries, outs: Entries) -> dict[int, Entry]:
        return {1: apply("ones_like", ins[1])} if self.fix_gamma else {}

    def backward_updates(self, ins: Entries, outs: Entries) -> dict[int, Entry]:
        if self.use_global_stats:
            return {}
        mean, var = outs[1], outs[2]
        if self.spread == "inv":
            var = plus(power(var, -2.0), -self.eps)
        return {3: self._moved(ins[3], mean), 4: self._moved(ins[4], var)}

    def _moved(self, old: Entry, new: Entry) -> Entry:
        return add(times(old, self.momentum), times(new, 1 - self.momentum))


@register
class BatchNorm(BatchNormalization):
    """``y = gamma (x - mean) / sqrt(var + eps) + beta`` with mean and variance of the batch.

    Statistics are per channel (`axis`), over all other axes; the variance is biased. Inference and
    ``use_global_stats`` take the moving averages instead, which every backward moves once. Shapes:
    data of two or more axes, all others ``(C,)``. Outputs: output, mean and, under the name var,
    ``1 / sqrt(var + eps)``. Source: Ioffe and Szegedy, arXiv:1502.03167.
    """

    eps: float = param(0.001, doc="Added to the variance, so that the division is safe.")
    momentum: float = param(0.9, doc="Share of the old value in a moving average.")
    fix_gamma: bool = param(True, doc="Keep gamma at 1: it is set to 1 and its gradient to 0.")
    use_global_stats: bool = param(False, doc="Normalise by the moving averages in training too.")
    output_mean_var: bool = param(False, doc="Show the outputs mean and var.")
    axis: int = param(1, doc="The channel axis; may count from the end.")
    cudnn_off: bool = param(False, doc="Accepted for compatibility; not used.")
    min_calib_range: float | None = param(None, doc="Accepted for compatibility; not used.")
    max_calib_range: float | None = param(None, doc="Accepted for compatibility; not used.")


@register
class _contrib_BatchNormWithReLU(BatchNorm):
    """``max(BatchNorm(x), 0)``. Shapes, parameters and outputs as those of BatchNorm."""

    def forward(self, xp: Any, data: Any, gamma: Any, beta: Any, *moving: Any) -> Any:
        y, *shown = super().forward(xp, data, gamma, beta, *moving)
        return (xp.maximum(y, 0), *shown)

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        return super().gradient(ins, outs, [mul(grads[0], above(outs[0], 0.0)), *grads[1:]])


@register
class _contrib_SyncBatchNorm(BatchNormalization):
    """Batch normalisation over axis 1; the output var shows the variance.

    In MXNet `ndev` devices with one `key` share statistics; here a graph sees its whole batch
    wherever it runs, so both are accepted and not used. Shapes as those of BatchNorm.
    """

    spread = "var"
    eps: float = param(0.001, doc="Added to the variance, so that the division is safe.")
    momentum: float = param(0.9, doc="Share of the old value in a moving average.")
    fix_gamma: bool = param(True, doc="Keep gamma at 1: it is set to 1 and its gradient to 0.")
    use_global_stats: bool = param(False, doc="Normalise by the moving averages in training too.")
    output_mean_var: bool = param(False, doc="Show the outputs mean and var.")
    ndev: int = param(1, doc="Accepted for compatibility; not used.")
    key: str = param(doc="Accepted for compatibility; not used.")


@register
class LayerNorm(_Normalization):
    """``y = gamma (x - mean) / sqrt(var + eps) + beta`` with statistics along one axis.

    Shapes: data of two or more axes, gamma and beta ``(data.shape[axis],)``. Outputs: output, mean
    and ``std = sqrt(var + eps)`` in the data's shape with 1 at `axis`. Source: arXiv:1607.06450.
    """

    kind, spread = "layer", "std"
    inputs = ("data", "gamma", "beta")
    outputs = ("output", "mean", "std")
    hidden = 2
    axis: int = param(-1, doc="The axis to normalise; may count from the end.")
    eps: float = param(1e-5, doc="Added to the variance, so that the division is safe.")
    output_mean_var: bool = param(False, doc="Show the outputs mean and std.")


@register
class GroupNorm(_Normalization):
    """``y = gamma (x - mean) / sqrt(var + eps) + beta`` per sample and group of channels.

    Shapes: data ``(N, C, ...)``, gamma and beta ``(num_groups,)``, as in MXNet 1.9. Outputs:
    output, mean and ``std = sqrt(var + eps)``, both ``(N, num_groups)``. Source: arXiv:1803.08494.
    """

    kind, spread = "group", "std"
    inputs = ("data", "gamma", "beta")
    outputs = ("output", "mean", "std")
    hidden = 2
    num_groups: int = param(1, low=1, doc="Number of groups that the channels are divided into.")
    eps: float = param(1e-5, doc="Added to the variance, so that the division is safe.")
    output_mean_var: bool = param(False, doc="Show the outputs mean and std.")


@register
class InstanceNorm(_Normalization):
    """``y = gamma (x - mean) / sqrt(var + eps) + beta`` per sample and channel.

    Shapes: data ``(N, C, ...)``, gamma and beta ``(C,)``; hidden outputs mean and var ``(N, C)``.
    Source: arXiv:1607.08022.
    """

    kind, spread = "instance", "var"
    inputs = ("data", "gamma", "beta")
    outputs = ("output", "mean", "var")
    hidden = 2
    eps: float = param(0.001, doc="Added to the variance, so that the division is safe.")
