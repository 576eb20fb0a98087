"""Optimizer updates of many weights in one op: the arrays of each weight lie side by side.

Inputs are named ``weight_0, grad_0, mom_0, weight_1, ...``; visible outputs are the new weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from raysym.errors import RuleError
from raysym.op import DTypes, Shapes, register
from raysym.ops.numeric import wide
from raysym.ops.optimizer import CLIP, MOMENTUM, RESCALE, Step, Update, cast, sgd, sgd_mom
from raysym.ops.optimizer_lamb import (
    BETA1,
    BETA2,
    BIAS_CORRECTION,
    LOWER_BOUND,
    UPPER_BOUND,
    adamw,
    is_usable,
    lamb_direction,
    lamb_step,
)
from raysym.params import Dims, Floats, param
from raysym.types import unify, unify_all, unify_dtypes

_COUNT = param(1, low=1, doc="Number of weights.")
_LRS = param(doc="Learning rate of each weight.")
_WDS = param(doc="Weight decay of each weight.")


class Many(Update):
    """Shared by all: arrays by weight, extra inputs behind them."""

    count = "num_weights"  # the parameter that counts the weights
    slots: tuple[str, ...] = ("weight", "grad")  # the arrays of each weight
    extra: tuple[str, ...] = ()
    per_weight: tuple[str, ...] = ("lrs", "wds")  # parameters with a number for each weight

    @property
    def n(self) -> int:
        """Number of weights."""
        count: int = getattr(self, self.count)
        return count

    @property
    def states(self) -> tuple[str, ...]:
        """The arrays of each weight that the op renews besides the weight."""
        return self.slots[2:]

    @property
    def is_mixed(self) -> bool:
        """Whether each weight has a float32 master."""
        return "weight32" in self.slots

    @property
    def aux(self) -> tuple[str, ...]:  # type: ignore[override]
        """States of all weights."""
        return tuple(f"{state}_{i}" for i in range(self.n) for state in self.states)

    def check(self) -> None:
        for name in self.per_weight:
            numbers = getattr(self, name)
            if len(numbers) != self.n:
                raise RuleError(f"{name} needs a number for each weight", len(numbers), self.n)

    def input_names(self) -> tuple[str, ...]:
        own = (f"{slot}_{i}" for i in range(self.n) for slot in self.slots)
        return (*own, *self.extra)

    def output_names(self) -> tuple[str, ...]:
        shown = [f"output{i}" for i in range(self.n)] if self.n > 1 else ["output"]
        return (*shown, *(f"new_{name}" for name in self.aux))

    def n_visible(self) -> int:
        return self.n

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        k = len(self.slots)
        shapes = [unify_all([*ins[i * k : (i + 1) * k], outs[i]]) for i in range(self.n)]
        extra = [unify(shape, (self.extra_size(),)) for shape in ins[self.n * k :]]
        repeated = [shape for shape in shapes for _ in self.slots]
        hidden = [shape for shape in shapes for _ in self.states]
        return [*repeated, *extra], [*shapes, *hidden]

    def extra_size(self) -> int:
        """Length of the inputs behind the weights' arrays."""
        return self.n

    def infer_dtype(self, ins: DTypes, outs: DTypes) -> tuple[DTypes, DTypes]:
        k, n = len(self.slots), self.n
        own = [dtype for i in range(n) for dtype in self._alike(ins[i * k : (i + 1) * k])]
        dtype = unify_dtypes([*own, *outs[:n]])
        kept = "float32" if self.is_mixed else dtype
        extra = [given or "float32" for given in ins[n * k :]]
        slots = [dtype, dtype, *[kept] * (k - 2)]
        return [*slots * n, *extra], [*[dtype] * n, *[kept] * (n * (k - 2))]

    def _alike(self, dtypes: DTypes) -> DTypes:
        return dtypes[:2] if self.is_mixed else dtypes

    def forward(self, xp: Any, *arrays: Any) -> Any:
        k = len(self.slots)
        extra = arrays[self.n * k :]
        weights, states = [], []
        for i in range(self.n):
            own = arrays[i * k : (i + 1) * k]
            new, *rest = self._one(xp, i, own, extra)
            weights.append(new)
            states += rest
        return (*weights, *states)

    def _one(self, xp: Any, i: int, own: Sequence[Any], extra: Sequence[Any]) -> Sequence[Any]:
        weight, grad, *states = own
        if self.is_mixed:
            *kept, master = states
            new, *rest = self.step(xp, i, (master, wide(grad), *kept), extra)
            shown = self.shown(xp, new, weight, extra)
            return cast([shown, *rest, new], [weight, *states])
        made = self.step(xp, i, tuple(wide(a) for a in own), extra)
        return cast(made, [weight, *states])

    def shown(self, xp: Any, master: Any, weight: Any, extra: Sequence[Any]) -> Any:
        """The new weight, given its new master and the old weight."""
        return master

    def step(
        self, xp: Any, i: int, arrays: tuple[Any, ...], extra: Sequence[Any]
    ) -> tuple[Any, ...]:
        """New weight and states of weight number `i`."""
        raise NotImplementedError


# ----- gradient descent


class _Descent(Many):
    """Shared by these: rates and decays are parameters, or inputs behind the arrays."""

    rule: ClassVar[Step]
    lrs: Floats
    wds: Floats

    def step(
        self, xp: Any, i: int, arrays: tuple[Any, ...], extra: Sequence[Any]
    ) -> tuple[Any, ...]:
        lrs, wds = extra if self.extra else (self.lrs, self.wds)
        return self.rule(xp, self, *arrays, lr=lrs[i], wd=wds[i])


class _Sgd(_Descent):
    rule = staticmethod(sgd)
    lrs: Floats = _LRS
    wds: Floats = _WDS
    rescale_grad: float = RESCALE[1]
    clip_gradient: float = CLIP[1]
    num_weights: int = _COUNT


class _SgdMomentum(_Descent):
    rule = staticmethod(sgd_mom)
    lrs: Floats = _LRS
    wds: Floats = _WDS
    momentum: float = MOMENTUM[1]
    rescale_grad: float = RESCALE[1]
    clip_gradient: float = CLIP[1]
    num_weights: int = _COUNT


class _PreloadedSgd(_Descent):
    rule = staticmethod(sgd)
    extra = ("lrs", "wds")
    per_weight = ()
    rescale_grad: float = RESCALE[1]
    clip_gradient: float = CLIP[1]
    num_weights: int = _COUNT


class _PreloadedSgdMomentum(_Descent):
    rule = staticmethod(sgd_mom)
    extra = ("lrs", "wds")
    per_weight = ()
    momentum: float = MOMENTUM[1]
    rescale_grad: float = RESCALE[1]
    clip_gradient: float = CLIP[1]
    num_weights: int = _COUNT


# ----- AdamW and LAMB


class _AdamW(Many):
    extra = ("rescale_grad",)
    per_weight = ("lrs", "wds", "etas")
    lrs: Floats = _LRS
    beta1: float = BETA1
    beta2: float = BETA2
    epsilon: float = param(1e-8, doc="Small number that keeps the divisor from zero.")
    wds: Floats = _WDS
    etas: Floats = param(doc="Factor of the whole step of each weight.")
    clip_gradient: float = CLIP[1]
    num_weights: int = _COUNT

    def extra_size(self) -> int:
        return 1

    def shown(self, xp: Any, master: Any, weight: Any, extra: Sequence[Any]) -> Any:
        return xp.where(is_usable(xp, extra[0]), master, weight)

    def step(
        self, xp: Any, i: int, arrays: tuple[Any, ...], extra: Sequence[Any]
    ) -> tuple[Any, ...]:
        scale = extra[0].astype(arrays[0].dtype)
        return adamw(xp, self, arrays, scale, self.lrs[i], self.etas[i], self.wds[i])


class _Lamb(Many):
    count = "num_tensors"
    per_weight = ("learning_rates", "wds", "step_count")
    learning_rates: Floats = _LRS
    beta1: float = BETA1
    beta2: float = BETA2
    epsilon: float = param(1e-6, doc="Small number that keeps the divisor from zero.")
    wds: Floats = _WDS
    rescale_grad: float = RESCALE[1]
    lower_bound: float = LOWER_BOUND
    upper_bound: float = UPPER_BOUND
    clip_gradient: float = CLIP[1]
    bias_correction: bool = BIAS_CORRECTION
    step_count: Dims = param(low=1, doc="Number of this step for each weight, from 1.")
    num_tensors: int = _COUNT

    def step(
        self, xp: Any, i: int, arrays: tuple[Any, ...], extra: Sequence[Any]
    ) -> tuple[Any, ...]:
        w = arrays[0]
        t, wd = self.step_count[i], self.wds[i]
        direction, mean, var = lamb_direction(xp, self, arrays, t, wd)
        r1, r2 = (xp.sqrt(xp.square(x).sum()) for x in (w, direction))
        lr = self.learning_rates[i]
        return lamb_step(xp, self, w, direction, r1, r2, lr), mean, var


def _pages(name: str, kind: type[Many], states: tuple[str, ...], doc: str) -> None:
    prefix, middle = (
        ("preloaded_multi_", name) if kind.extra == ("lrs", "wds") else ("multi_", name)
    )
    prefix = prefix if name.startswith("sgd") else "_multi_"
    for mixed in ("", "mp_"):
        slots = ("weight", "grad", *states, *(("weight32",) if mixed else ()))
        words = f"{doc}{' on float32 masters' if mixed else ''}, of many weights at once."
        facts = {"__doc__": words, "__module__": __name__, "slots": slots, "inputs": ("data",)}
        register(type(f"{prefix}{mixed}{middle}_update", (kind,), facts))


_pages("sgd", _Sgd, (), "sgd_update")
_pages("sgd_mom", _SgdMomentum, ("mom",), "sgd_mom_update")
_pages("sgd", _PreloadedSgd, (), "sgd_update with rates and decays as inputs")
_pages("sgd_mom", _PreloadedSgdMomentum, ("mom",), "sgd_mom_update with rates and decays as inputs")
_pages("adamw", _AdamW, ("mean", "var"), "_adamw_update")
_pages("lamb", _Lamb, ("mean", "var"), "Both phases of LAMB")
