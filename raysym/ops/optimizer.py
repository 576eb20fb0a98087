"""Optimizer updates as ops: the new weight is the output, new states are hidden outputs.

Running one writes the new states back (`forward_updates`); whoever calls it writes the weight.
Cast of characters: w weight, g gradient, c = clip(rescale * g), in float32 or float64.
``mp_`` forms keep a float32 master weight beside a float16 one and compute with the master.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

from raysym.errors import RuleError
from raysym.graph import Entry
from raysym.op import Cost, DTypes, Entries, Grads, Op, Shapes, Types, register, total_bytes
from raysym.ops.numeric import wide
from raysym.params import Param, param
from raysym.types import unify, unify_all, unify_dtypes

Step: TypeAlias = Callable[..., tuple[Any, ...]]
FLOPS = 12.0


class Update(Op):
    """An op that computes the new weight and, hidden, the new states."""

    kinds = "f"
    tuned = True

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        raise RuleError("an optimizer update is not differentiable")

    def forward_updates(self, ins: Entries, outs: Entries) -> dict[int, Entry]:
        first = self.n_visible()
        slots = [i for i, slot in enumerate(self.input_names()) if slot in self.aux]
        return {slot: outs[first + k] for k, slot in enumerate(slots)}

    def cost(self, ins: Types, outs: Types) -> Cost:
        return Cost(FLOPS * sum(t.size for t in outs), total_bytes(ins, outs))


class Rule(NamedTuple):
    """An optimizer: its states, parameters and the step that all its forms share.

    ``step(xp, op, w, g, *states, lr, wd)`` returns the new weight and the new states.
    """

    states: tuple[str, ...]
    params: dict[str, tuple[type, Param]]
    step: Step


def cast(made: Sequence[Any], like: Sequence[Any]) -> tuple[Any, ...]:
    """Every array in the dtype of its model."""
    return tuple(a.astype(b.dtype, copy=False) for a, b in zip(made, like, strict=True))


def rescaled(xp: Any, op: Any, g: Any) -> Any:
    """``clip(rescale_grad * g)``."""
    return clipped(xp, g * op.rescale_grad, op.clip_gradient)


def clipped(xp: Any, g: Any, bound: float) -> Any:
    """`g` within -bound and bound, unless bound is negative."""
    return xp.clip(g, -bound, bound) if bound >= 0 else g


# ----- parameters that many rows share

LR = (float, param(doc="Learning rate."))
WD = (float, param(0.0, doc="Weight decay: pull of every weight towards zero."))
RESCALE = (float, param(1.0, doc="Factor of the gradient."))
CLIP = (float, param(-1.0, doc="Bound of the rescaled gradient; negative: none."))
MOMENTUM = (float, param(0.0, doc="Decay of the running mean of gradients."))
_LAZY = (bool, param(True, doc="Accepted for compatibility; concerns sparse gradients only."))
_CLIP_WEIGHTS = (float, param(-1.0, doc="Bound of the new weights; negative: none."))
COMMON = {"wd": WD, "rescale_grad": RESCALE, "clip_gradient": CLIP}


def beta(default: float, what: str) -> tuple[type, Param]:
    """The decay of a running mean."""
    return float, param(default, low=0, high=1, doc=f"Decay of the running mean of {what}.")


def epsilon(default: float) -> tuple[type, Param]:
    """A small number that keeps divisors from zero."""
    return float, param(default, doc="Small number that keeps the divisor from zero.")


# ----- steps


def sgd(xp: Any, op: Any, w: Any, g: Any, *, lr: Any, wd: Any) -> tuple[Any, ...]:
    """``w - lr (c + wd w)``."""
    return ((1 - lr * wd) * w - lr * rescaled(xp, op, g),)


def sgd_mom(xp: Any, op: Any, w: Any, g: Any, m: Any, *, lr: Any, wd: Any) -> tuple[Any, ...]:
    """``m = momentum m - lr (c + wd w); w + m``."""
    m = op.momentum * m - lr * wd * w - lr * rescaled(xp, op, g)
    return w + m, m


def _nag(xp: Any, op: Any, w: Any, g: Any, m: Any, *, lr: Any, wd: Any) -> tuple[Any, ...]:
    c, m = rescaled(xp, op, g), op.momentum * m
    new = w - m + (op.momentum + 1) * (m - lr * (c + wd * w))
    # MXNet decays the momentum with the weight that it has just written.
    return new, m - lr * (c + wd * new)


def _adam(
    xp: Any, op: Any, w: Any, g: Any, mean: Any, var: Any, *, lr: Any, wd: Any
) -> tuple[Any, ...]:
    c = clipped(xp, g * op.rescale_grad + wd * w, op.clip_gradient)
    mean = op.beta1 * mean + (1 - op.beta1) * c
    var = op.beta2 * var + (1 - op.beta2) * c * c
    return w - lr * mean / (xp.sqrt(var) + op.epsilon), mean, var


def _rmsprop(xp: Any, op: Any, w: Any, g: Any, n: Any, *, lr: Any, wd: Any) -> tuple[Any, ...]:
    c = clipped(xp, g * op.rescale_grad + wd * w, op.clip_gradient)
    n = op.gamma1 * n + (1 - op.gamma1) * c * c
    return clipped(xp, w - lr * c / xp.sqrt(n + op.epsilon), op.clip_weights), n


def _rmspropalex(
    xp: Any, op: Any, w: Any, g: Any, n: Any, mean: Any, delta: Any, *, lr: Any, wd: Any
) -> tuple[Any, ...]:
    c = clipped(xp, g * op.rescale_grad + wd * w, op.clip_gradient)
    n = op.gamma1 * n + (1 - op.gamma1) * c * c
    mean = op.gamma1 * mean + (1 - op.gamma1) * c
    delta = op.gamma2 * delta - lr * c / xp.sqrt(n - mean * mean + op.epsilon)
    return clipped(xp, w + delta, op.clip_weights), n, mean, delta


def _ftrl(xp: Any, op: Any, w: Any, g: Any, z: Any, n: Any, *, lr: Any, wd: Any) -> tuple[Any, ...]:
    c = rescaled(xp, op, g)
    z = z + c - (xp.sqrt(n + c * c) - xp.sqrt(n)) * w / lr
    n = n + c * c
    new = (xp.sign(z) * op.lamda1 - z) / ((op.beta + xp.sqrt(n)) / lr + wd)
    return new * (xp.abs(z) > op.lamda1), z, n


def _ftml(
    xp: Any, op: Any, w: Any, g: Any, d: Any, v: Any, z: Any, *, lr: Any, wd: Any
) -> tuple[Any, ...]:
    c = clipped(xp, g * op.rescale_grad + wd * w, op.clip_grad)
    v = op.beta2 * v + (1 - op.beta2) * c * c
    now = (1 - op.beta1**op.t) / lr * (xp.sqrt(v / (1 - op.beta2**op.t)) + op.epsilon)
    z = op.beta1 * z + (1 - op.beta1) * c - (now - op.beta1 * d) * w
    return -z / now, now, v, z


def _signsgd(xp: Any, op: Any, w: Any, g: Any, *, lr: Any, wd: Any) -> tuple[Any, ...]:
    return ((1 - lr * wd) * w - lr * xp.sign(g),)


def _signum(xp: Any, op: Any, w: Any, g: Any, m: Any, *, lr: Any, wd: Any) -> tuple[Any, ...]:
    rest = 1 - op.momentum
    m = op.momentum * m - rest * wd * w - rest * rescaled(xp, op, g)
    return (1 - lr * op.wd_lh) * w + lr * xp.sign(m), m


def _adagrad(xp: Any, op: Any, w: Any, g: Any, h: Any, *, lr: Any, wd: Any) -> tuple[Any, ...]:
    c = rescaled(xp, op, g)
    h = h + c * c
    return w - lr * (c / xp.sqrt(h + op.epsilon) + wd * w), h


# ----- pages


class _Single(Update):
    """An update of one weight; weight, gradient and states have one shape and dtype."""

    inputs = ("weight", "grad")
    rule: Rule

    def forward(self, xp: Any, *arrays: Any) -> Any:
        lr, wd = self.lr, getattr(self, "wd", 0.0)  # type: ignore[attr-defined]
        made = self.rule.step(xp, self, *(wide(a) for a in arrays), lr=lr, wd=wd)
        return cast(made, [arrays[0], *arrays[2:]])


class _Mixed(Update):
    """The same with a float32 master of a float16 weight as the last state."""

    inputs = ("weight", "grad")
    rule: Rule

    def infer_dtype(self, ins: DTypes, outs: DTypes) -> tuple[DTypes, DTypes]:
        half = unify_dtypes([*ins[:2], outs[0]])
        masters = ["float32"] * (len(ins) - 2)
        return [half, half, *masters], [half, *masters]

    def forward(self, xp: Any, weight: Any, grad: Any, *states: Any) -> Any:
        lr, wd = self.lr, self.wd  # type: ignore[attr-defined]
        *kept, master = states
        new, *made = self.rule.step(xp, self, master, wide(grad), *kept, lr=lr, wd=wd)
        return cast([new, *made, new], [weight, *states])


def page(name: str, kind: type[Update], rule: Rule, doc: str, extra: tuple[str, ...] = ()) -> None:
    """Register the update `name`; `extra` are states beside those of the rule."""
    states = (*rule.states, *extra)
    facts = {
        "__doc__": doc,
        "__module__": __name__,
        "__annotations__": {key: of for key, (of, _) in rule.params.items()},
        **{key: declared for key, (_, declared) in rule.params.items()},
        "inputs": ("weight", "grad", *states),
        "aux": states,
        "outputs": ("output", *(f"new_{state}" for state in states)),
        "hidden": len(states),
        "rule": rule,
    }
    register(type(name, (kind,), facts))


SGD = Rule((), {"lr": LR, **COMMON, "lazy_update": _LAZY}, sgd)
SGD_MOM = Rule(("mom",), {"lr": LR, "momentum": MOMENTUM, **COMMON, "lazy_update": _LAZY}, sgd_mom)
NAG = Rule(("mom",), {"lr": LR, "momentum": MOMENTUM, **COMMON}, _nag)
_MEANS = {"beta1": beta(0.9, "gradients"), "beta2": beta(0.999, "their squares")}
_GAMMAS = {"gamma1": beta(0.95, "squares of gradients")}
ROWS: list[tuple[str, Rule, str]] = [
    ("sgd_update", SGD, "w - lr (c + wd w): plain gradient descent."),
    ("sgd_mom_update", SGD_MOM, "m = momentum m - lr (c + wd w); w + m: with momentum."),
    ("nag_mom_update", NAG, "Nesterov's accelerated gradient, as MXNet writes it."),
    (
        "signsgd_update",
        Rule((), {"lr": LR, **COMMON}, _signsgd),
        "(1 - lr wd) w - lr sign(g): only the sign of the gradient counts.",
    ),
    (
        "signum_update",
        Rule(
            ("mom",),
            {
                "lr": LR,
                "momentum": MOMENTUM,
                **COMMON,
                "wd_lh": (float, param(0.0, doc="Weight decay beside the momentum.")),
            },
            _signum,
        ),
        "m = momentum m - (1 - momentum)(c + wd w); (1 - lr wd_lh) w + lr sign(m).",
    ),
    (
        "adam_update",
        Rule(
            ("mean", "var"),
            {"lr": LR, **_MEANS, "epsilon": epsilon(1e-8), **COMMON, "lazy_update": _LAZY},
            _adam,
        ),
        "Adam: w - lr mean / (sqrt(var) + eps); the bias correction is in lr. Kingma & Ba (2014).",
    ),
    (
        "rmsprop_update",
        Rule(
            ("n",),
            {
                "lr": LR,
                **_GAMMAS,
                "epsilon": epsilon(1e-8),
                **COMMON,
                "clip_weights": _CLIP_WEIGHTS,
            },
            _rmsprop,
        ),
        "RMSProp: w - lr c / sqrt(n + eps), n a running mean of squares. Tieleman & Hinton (2012).",
    ),
    (
        "rmspropalex_update",
        Rule(
            ("n", "g", "delta"),
            {
                "lr": LR,
                **_GAMMAS,
                "gamma2": beta(0.9, "updates"),
                "epsilon": epsilon(1e-8),
                **COMMON,
                "clip_weights": _CLIP_WEIGHTS,
            },
            _rmspropalex,
        ),
        "Centred RMSProp with momentum. Graves (2013), equations 38 to 45.",
    ),
    (
        "ftrl_update",
        Rule(
            ("z", "n"),
            {
                "lr": LR,
                "lamda1": (float, param(0.01, doc="Strength of the L1 penalty.")),
                "beta": (float, param(1.0, doc="Offset of the learning rate's divisor.")),
                **COMMON,
            },
            _ftrl,
        ),
        "FTRL-proximal with L1 and L2 penalties. McMahan et al. (2013).",
    ),
    (
        "ftml_update",
        Rule(
            ("d", "v", "z"),
            {
                "lr": LR,
                "beta1": beta(0.6, "gradients"),
                "beta2": beta(0.999, "their squares"),
                "epsilon": epsilon(1e-8),
                "t": (int, param(low=1, doc="Number of this step, from 1.")),
                "wd": WD,
                "rescale_grad": RESCALE,
                "clip_grad": CLIP,
            },
            _ftml,
        ),
        "Follow the moving leader. Zheng & Kwok (2017).",
    ),
    (
        "_sparse_adagrad_update",
        Rule(
            ("history",),
            {
                "lr": LR,
                "epsilon": epsilon(1e-7),
                "wd": WD,
                "rescale_grad": RESCALE,
                "clip_gradient": CLIP,
            },
            _adagrad,
        ),
        "AdaGrad: w - lr (c / sqrt(h + eps) + wd w), h the sum of squares. Duchi et al. (2011).",
    ),
]
for _name, _rule, _doc in ROWS:
    page(_name, _Single, _rule, _doc)
for _name, _rule in (("sgd", SGD), ("sgd_mom", SGD_MOM), ("nag_mom", NAG)):
    page(
        f"mp_{_name}_update",
        _Mixed,
        _rule,
        f"{_name}_update computed on a float32 master of the weight.",
        ("weight32",),
    )


@register
class _contrib_group_adagrad_update(Update):
    """AdaGrad with one sum of squares for each row: w - lr c / sqrt(h + eps).

    Shapes: weight and grad ``(rows, ...)``, history ``(rows, 1)``.
    """

    inputs = ("weight", "grad", "history")
    aux = ("history",)
    outputs = ("output", "new_history")
    hidden = 1
    lr: float = LR[1]
    rescale_grad: float = RESCALE[1]
    clip_gradient: float = CLIP[1]
    epsilon: float = param(1e-5, doc="Small number that keeps the divisor from zero.")

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        weight = unify_all([ins[0], ins[1], outs[0]])
        history = unify(ins[2], weight and (weight[0], 1), "shape of history")
        return [weight, weight, history], [weight, history]

    def forward(self, xp: Any, weight: Any, grad: Any, history: Any) -> Any:
        w, h = wide(weight), wide(history)
        c = rescaled(xp, self, wide(grad))
        rows = math.prod(weight.shape[1:])
        h = h + xp.square(c).reshape(-1, rows).mean(axis=1, keepdims=True)
        root = xp.sqrt(h + self.epsilon).reshape(-1, *[1] * (weight.ndim - 1))
        return cast([w - self.lr * c / root, h], [weight, history])
