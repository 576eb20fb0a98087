"""Optimizer updates with decoupled weight decay or layer-wise rates: AdamW, LAMB, LARS.

Cast of characters as in optimizer.py.
"""

from __future__ import annotations

from typing import Any, ClassVar

from raysym.errors import RuleError
from raysym.op import DTypes, Op, Shapes, register
from raysym.ops.numeric import wide
from raysym.ops.optimizer import CLIP, LR, RESCALE, Update, cast, clipped, rescaled
from raysym.params import param
from raysym.types import unify, unify_all, unify_dtypes

BETA1 = param(0.9, low=0, high=1, doc="Decay of the running mean of gradients.")
BETA2 = param(0.999, low=0, high=1, doc="Decay of the running mean of their squares.")
BIAS_CORRECTION = param(True, doc="Whether to correct running means for their start at zero.")
LOWER_BOUND = param(-1.0, doc="Lower bound of the weights' norm; negative: none.")
UPPER_BOUND = param(-1.0, doc="Upper bound of the weights' norm; negative: none.")
_EPSILON = "Small number that keeps the divisor from zero."


def adamw(
    xp: Any, op: Any, arrays: tuple[Any, ...], scale: Any, lr: float, eta: float, wd: float
) -> tuple[Any, ...]:
    """AdamW: new w, mean and var of arrays w, g, mean, var.

    A scale of zero, infinity or NaN (a step lost to overflow) leaves all as it was.
    """
    w, g, mean, var = arrays
    c = clipped(xp, g * scale, op.clip_gradient)
    new_mean = op.beta1 * mean + (1 - op.beta1) * c
    new_var = op.beta2 * var + (1 - op.beta2) * c * c
    step = eta * (lr * new_mean / (xp.sqrt(new_var) + op.epsilon) + wd * w)
    good = is_usable(xp, scale)
    pairs = ((w - step, w), (new_mean, mean), (new_var, var))
    return tuple(xp.where(good, new, old) for new, old in pairs)


def is_usable(xp: Any, scale: Any) -> Any:
    """False where the scale of the gradient says that the step is lost."""
    return xp.isfinite(scale) & (scale != 0)


def lamb_direction(
    xp: Any, op: Any, arrays: tuple[Any, ...], t: int, wd: float
) -> tuple[Any, Any, Any]:
    """LAMB's first half: direction, new mean and new var of arrays w, g, mean, var."""
    w, g, mean, var = arrays
    c = rescaled(xp, op, g)
    mean = op.beta1 * mean + (1 - op.beta1) * c
    var = op.beta2 * var + (1 - op.beta2) * c * c
    fix = op.bias_correction
    m = mean / (1 - op.beta1**t) if fix else mean
    v = var / (1 - op.beta2**t) if fix else var
    return m / (xp.sqrt(v) + op.epsilon) + wd * w, mean, var


def lamb_step(xp: Any, op: Any, w: Any, direction: Any, r1: Any, r2: Any, lr: float) -> Any:
    """LAMB's second half: the step scaled by the ratio of the norms r1 of w and r2 of it."""
    bounded = xp.maximum(r1, op.lower_bound) if op.lower_bound >= 0 else r1
    bounded = xp.minimum(bounded, op.upper_bound) if op.upper_bound >= 0 else bounded
    usable = (bounded != 0) & (r2 != 0)
    ratio = xp.where(usable, bounded / xp.where(usable, r2, 1), 1)
    return w - lr * ratio * direction


def mixed_dtypes(ins: DTypes, outs: DTypes, halves: tuple[int, ...]) -> list[str | None]:
    """Dtypes of inputs of which those at `halves` are alike and all others float32."""
    half = unify_dtypes([ins[i] for i in halves])
    return [half if i in halves else "float32" for i in range(len(ins))]


@register
class _adamw_update(Update):
    """AdamW: w - eta (lr mean / (sqrt(var) + eps) + wd w). Loshchilov & Hutter (2017).

    ``rescale_grad (1,)`` is an input; when it is 0, infinite or NaN nothing changes.
    """

    inputs: ClassVar[tuple[str, ...]] = ("weight", "grad", "mean", "var", "rescale_grad")
    aux: ClassVar[tuple[str, ...]] = ("mean", "var")
    outputs: ClassVar[tuple[str, ...]] = ("output", "new_mean", "new_var")
    hidden = 2
    lr: float = LR[1]
    beta1: float = BETA1
    beta2: float = BETA2
    epsilon: float = param(1e-8, doc=_EPSILON)
    wd: float = param(0.0, doc="Weight decay, not scaled by lr.")
    eta: float = param(doc="Factor of the whole step, as a schedule gives it.")
    clip_gradient: float = CLIP[1]

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        shape = unify_all([*ins[:-1], *outs])
        return [*[shape] * (len(ins) - 1), unify(ins[-1], (1,))], [shape] * len(outs)

    def infer_dtype(self, ins: DTypes, outs: DTypes) -> tuple[DTypes, DTypes]:
        dtype = unify_dtypes([*ins[:-1], *outs])
        return [*[dtype] * (len(ins) - 1), ins[-1] or "float32"], [dtype] * len(outs)

    def forward(self, xp: Any, *arrays: Any) -> Any:
        *given, scale = arrays
        weight, _, *states = given
        wides = tuple(wide(a) for a in given)
        made = adamw(xp, self, wides, scale.astype(wides[0].dtype), self.lr, self.eta, self.wd)
        return cast(made, [weight, *states])


@register
class _mp_adamw_update(_adamw_update):
    """_adamw_update computed on a float32 master of the weight."""

    inputs = ("weight", "grad", "mean", "var", "weight32", "rescale_grad")
    aux = ("mean", "var", "weight32")
    outputs = ("output", "new_mean", "new_var", "new_weight32")
    hidden = 3

    def infer_dtype(self, ins: DTypes, outs: DTypes) -> tuple[DTypes, DTypes]:
        made = mixed_dtypes(ins, outs, (0, 1))
        return made, [made[0], *["float32"] * 3]

    def forward(self, xp: Any, *arrays: Any) -> Any:
        weight, grad, mean, var, master, scale = arrays
        given = (master, wide(grad), mean, var)
        new, *rest = adamw(xp, self, given, scale, self.lr, self.eta, self.wd)
        shown = xp.where(is_usable(xp, scale), new, weight)
        return cast([shown, *rest, new], [weight, mean, var, master])


@register
class lamb_update_phase1(Update):
    """First half of LAMB: the direction mean / (sqrt(var) + eps) + wd w. You et al. (2019)."""

    inputs: ClassVar[tuple[str, ...]] = ("weight", "grad", "mean", "var")
    aux: ClassVar[tuple[str, ...]] = ("mean", "var")
    outputs: ClassVar[tuple[str, ...]] = ("output", "new_mean", "new_var")
    hidden = 2
    beta1: float = BETA1
    beta2: float = BETA2
    epsilon: float = param(1e-6, doc=_EPSILON)
    t: int = param(low=1, doc="Number of this step, from 1.")
    bias_correction: bool = BIAS_CORRECTION
    wd: float = param(doc="Weight decay.")
    rescale_grad: float = RESCALE[1]
    clip_gradient: float = CLIP[1]

    def forward(self, xp: Any, *arrays: Any) -> Any:
        given = tuple(wide(a) for a in arrays)
        made = lamb_direction(xp, self, given, self.t, self.wd)
        return cast(made, [arrays[0], *arrays[2:]])


@register
class mp_lamb_update_phase1(lamb_update_phase1):
    """lamb_update_phase1 computed on a float32 master of the weight; the direction is float32."""

    inputs = ("weight", "grad", "mean", "var", "weight32")

    def infer_dtype(self, ins: DTypes, outs: DTypes) -> tuple[DTypes, DTypes]:
        return mixed_dtypes(ins, outs, (0, 1)), ["float32"] * 3

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        shape = unify_all([*ins, *outs])
        return [shape] * 5, [shape] * 3

    def forward(self, xp: Any, *arrays: Any) -> Any:
        _, grad, mean, var, master = arrays
        return lamb_direction(xp, self, (master, wide(grad), mean, var), self.t, self.wd)


@register
class lamb_update_phase2(Update):
    """Second half of LAMB: w - lr (r1 / r2) g.

    ``g`` is the direction of phase 1; ``r1 (1,)`` and ``r2 (1,)`` the norms of the weight and of
    the direction; a norm of zero makes their ratio 1.
    """

    inputs: ClassVar[tuple[str, ...]] = ("weight", "g", "r1", "r2")
    lr: float = LR[1]
    lower_bound: float = LOWER_BOUND
    upper_bound: float = UPPER_BOUND

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        shape = unify_all([ins[0], ins[1], *ins[4:], *outs])
        norms = [unify(norm, (1,)) for norm in ins[2:4]]
        return [shape, shape, *norms, *[shape] * (len(ins) - 4)], [shape] * len(outs)

    def forward(self, xp: Any, *arrays: Any) -> Any:
        weight, direction, r1, r2 = (wide(a) for a in arrays)
        return lamb_step(xp, self, weight, direction, r1, r2, self.lr).astype(arrays[0].dtype)


@register
class mp_lamb_update_phase2(lamb_update_phase2):
    """lamb_update_phase2 computed on a float32 master of the weight."""

    inputs = ("weight", "g", "r1", "r2", "weight32")
    aux = ("weight32",)
    outputs = ("output", "new_weight32")
    hidden = 1

    def infer_dtype(self, ins: DTypes, outs: DTypes) -> tuple[DTypes, DTypes]:
        half = unify_dtypes([ins[0], outs[0]])
        return [half, *["float32"] * 4], [half, "float32"]

    def forward(self, xp: Any, *arrays: Any) -> Any:
        weight, direction, r1, r2, master = arrays
        new = lamb_step(xp, self, master, direction, r1, r2, self.lr)
        return cast([new, new], [weight, master])


@register
class multi_lars(Op):
    """Layer-wise learning rates: lr eta |w| / (|g| + wd |w| + eps). You et al. (2017).

    All inputs ``(n,)``: rates, sums of squares of weights and of gradients, decays; output
    alike. A layer whose weights or gradients are zero keeps its rate.
    """

    kinds = "f"
    inputs = ("lrs", "weights_sum_sq", "grads_sum_sq", "wds")
    zero_gradient = True
    eta: float = param(doc="Trust coefficient.")
    eps: float = param(doc=_EPSILON)
    rescale_grad: float = RESCALE[1]

    def forward(self, xp: Any, lrs: Any, weights: Any, grads: Any, wds: Any) -> Any:
        w, g = xp.sqrt(weights), xp.sqrt(grads) * self.rescale_grad
        rate = self.eta * w / (g + wds * w + self.eps)
        return xp.where((weights > 0) & (grads > 0), lrs * rate, lrs).astype(lrs.dtype)


@register
class multi_sum_sq(Op):
    """Sum of squares of each input, ``(num_arrays,)`` in float32; the gradient is zero."""

    variadic = "num_arrays"
    zero_gradient = True
    num_arrays: int = param(low=1, doc="Number of inputs.")

    def input_names(self) -> tuple[str, ...]:
        return tuple(f"array_{i}" for i in range(self.num_arrays))

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        return ins, [(self.num_arrays,)]

    def infer_dtype(self, ins: DTypes, outs: DTypes) -> tuple[DTypes, DTypes]:
        if len({dtype for dtype in ins if dtype}) > 1:
            raise RuleError("inputs differ in dtype", got=", ".join(map(str, ins)), expected="one")
        return [unify_dtypes(ins)] * len(ins), ["float32"]

    def forward(self, xp: Any, *arrays: Any) -> Any:
        return xp.stack([xp.square(wide(a)).sum().astype("float32") for a in arrays])
