"""The geometry of normalisations, and their first and second gradients.

Cast: x data, z the normalised data, g incoming gradient, inv the inverse standard deviation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from raysym.errors import RuleError
from raysym.graph import apply_all
from raysym.op import Cost, DTypes, Entries, Grads, Op, Shapes, Types, register, total_bytes
from raysym.ops.numeric import wide
from raysym.params import param
from raysym.types import PartialShape, Shape, normal_axis

KINDS = ("batch", "layer", "group", "instance")
SPREADS = ("inv", "std", "var")


class Geometry(NamedTuple):
    """Data seen as `view`, statistics over the axes `over`, parameters along the axis `channel`."""

    view: Shape
    over: tuple[int, ...]
    channel: int

    @staticmethod
    def of(kind: str, shape: Shape, axis: int, groups: int) -> Geometry:
        """How `kind` looks at data of this shape."""
        rank = len(shape)
        if kind in ("batch", "layer"):
            axis = normal_axis(axis, rank)
            others = tuple(i for i in range(rank) if i != axis)
            return Geometry(shape, others if kind == "batch" else (axis,), axis)
        if kind == "group":
            if shape[1] % groups:
                raise RuleError(
                    "channels must divide into groups", got=shape[1], expected=f"{groups} groups"
                )
            shape = (shape[0], groups, shape[1] // groups, *shape[2:])
        return Geometry(shape, tuple(range(2, len(shape))), 1)

    def kept(self) -> Shape:
        """Shape of statistics that broadcast to the view."""
        return tuple(1 if i in self.over else n for i, n in enumerate(self.view))

    def statistics(self, kind: str) -> Shape:
        """Shape in which users see the statistics."""
        if kind == "layer":
            return self.kept()
        return tuple(n for i, n in enumerate(self.view) if i not in self.over)

    def learned(self) -> Shape:
        """Shape of gamma and beta."""
        return (self.view[self.channel],)

    def along(self, values: Any) -> Any:
        """Gamma or beta in a shape that broadcasts to the view."""
        return values.reshape(-1, *(1,) * (len(self.view) - self.channel - 1))

    def summed(self, values: Any) -> Any:
        """Summed over all axes but that of gamma and beta."""
        axes = tuple(i for i in range(len(self.view)) if i != self.channel)
        return values.sum(axis=axes)

    def mean(self, values: Any) -> Any:
        """Means over the axes of the statistics."""
        return values.mean(axis=self.over, keepdims=True)

    def centred(self, values: Any, z: Any) -> Any:
        """What remains of `values` off the constants and off z: the map P of all gradients."""
        return values - self.mean(values) - z * self.mean(values * z)


class _Facts(Op):
    """Parameters of the gradient ops, and how they read their inputs."""

    work = "normalization"
    internal = True
    kind: str = param(choices=KINDS, doc="Which normalisation.")
    spread: str = param(choices=SPREADS, doc="What the input spread holds.")
    axis: int = param(1, doc="The axis of batch and layer normalisation.")
    num_groups: int = param(1, doc="The groups of group normalisation.")
    eps: float = param(doc="What was added to the variance.")
    scaled: bool = param(doc="Whether gamma is learned, and an input.")
    fixed: bool = param(doc="Whether mean and spread are constants rather than functions of data.")
    shown: bool = param(False, doc="Whether mean and spread have gradients, which are inputs.")

    def geometry(self, shape: Shape) -> Geometry:
        """How data of this shape is looked at."""
        return Geometry.of(self.kind, shape, self.axis, self.num_groups)

    def inverse(self, xp: Any, spread: Any) -> Any:
        """The inverse standard deviation."""
        if self.spread == "inv":
            return spread
        return 1 / spread if self.spread == "std" else 1 / xp.sqrt(spread + self.eps)

    def shapes(self, names: Sequence[str], data: PartialShape) -> list[PartialShape]:
        """Shapes of inputs or outputs by their names."""
        if data is None:
            return [None] * len(names)
        geometry = self.geometry(data)
        learned, shown = geometry.learned(), geometry.statistics(self.kind)
        kinds = {"data": data, "gamma": learned, "beta": learned, "mean": shown, "spread": shown}
        return [kinds[name.rpartition("_")[2]] for name in names]

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        data = ins[self.input_names().index("data")]
        names, made = self.input_names(), self.output_names()
        return self.shapes(names, data), self.shapes(made, data)

    def infer_dtype(self, ins: DTypes, outs: DTypes) -> tuple[DTypes, DTypes]:
        data, mean = (ins[self.input_names().index(name)] for name in ("data", "mean"))
        dtypes = [
            [data if name.endswith("data") else mean for name in names]
            for names in (self.input_names(), self.output_names())
        ]
        return dtypes[0], dtypes[1]

    def projected(self, geometry: Geometry, values: Any, z: Any) -> Any:
        """P of the values; the values themselves where the statistics are constants."""
        return values if self.fixed else geometry.centred(values, z)

    def read(self, xp: Any, arrays: Sequence[Any]) -> tuple[Geometry, dict[str, Any]]:
        """Inputs by name, seen as the geometry wants them; and z and inv."""
        got = dict(zip(self.input_names(), arrays, strict=True))
        geometry = self.geometry(got["data"].shape)
        seen = {name: wide(array) for name, array in got.items()}
        for name in seen:
            what = name.rpartition("_")[2]
            if what == "data":
                seen[name] = seen[name].reshape(geometry.view)
            elif what in ("gamma", "beta"):
                seen[name] = geometry.along(seen[name])
            else:
                seen[name] = seen[name].reshape(geometry.kept())
        seen["inv"] = self.inverse(xp, seen["spread"])
        seen["z"] = (seen["data"] - seen["mean"]) * seen["inv"]
        return geometry, seen

    def cost(self, ins: Types, outs: Types) -> Cost:
        return Cost(16 * math.prod(ins[0].shape), total_bytes(ins, outs))


@register
class _backward_normalize(_Facts):
    """``dx = inv P(gamma g)``, ``dgamma = sum g z``, ``dbeta = sum g``: gradients of normalisation.

    ``P(h) = h - mean(h) - z mean(h z)``, with means over the axes of the statistics, or the
    identity where those are constants. Shapes: grad_data, data and the first output alike,
    others as in the normalisation.
    """

    def input_names(self) -> tuple[str, ...]:
        scale = ("gamma",) if self.scaled else ()
        heads = ("grad_mean", "grad_spread") if self.shown else ()
        return ("grad_data", "data", *scale, "mean", "spread", *heads)

    def output_names(self) -> tuple[str, ...]:
        return ("data", "gamma", "beta") if self.scaled else ("data", "beta")

    def forward(self, xp: Any, *arrays: Any) -> Any:
        geometry, seen = self.read(xp, arrays)
        dx, *learned = (self._batch if self.kind == "batch" else self._any)(geometry, seen)
        if self.shown and not self.fixed:
            dx = dx + self._of_statistics(geometry, seen)
        learned = [array.astype(arrays[-1].dtype, copy=False) for array in learned]
        dx = dx.reshape(arrays[1].shape).astype(arrays[1].dtype, copy=False)
        return (dx, *learned)

    def _any(self, geometry: Geometry, seen: dict[str, Any]) -> list[Any]:
        g, z = seen["grad_data"], seen["z"]
        h = g * seen["gamma"] if self.scaled else g
        dx = seen["inv"] * self.projected(geometry, h, z)
        made = [geometry.summed(g * z)] if self.scaled else []
        return [dx, *made, geometry.summed(g)]

    def _batch(self, geometry: Geometry, seen: dict[str, Any]) -> list[Any]:
        # The same with fewer passes: gamma is constant within the statistics, whose means are the
        # gradients of gamma and beta up to the number of elements.
        g, z = seen["grad_data"], seen["z"]
        count = math.prod(geometry.view[i] for i in geometry.over)
        both, bias = geometry.mean(g * z), geometry.mean(g)
        dx = g.copy() if self.fixed else g - bias
        if not self.fixed:
            dx -= z * both
        dx *= seen["inv"] * seen.get("gamma", 1)
        made = [both.reshape(-1) * count] if self.scaled else []
        return [dx, *made, bias.reshape(-1) * count]

    def _of_statistics(self, geometry: Geometry, seen: dict[str, Any]) -> Any:
        # d mean = 1/m, d std = z/m, d var = 2 z/(inv m), d inv = -inv^2 z/m
        inv = seen["inv"]
        slope = {"std": 1, "var": 2 / inv, "inv": -inv * inv}[self.spread]
        count = math.prod(geometry.view[i] for i in geometry.over)
        return (seen["grad_mean"] + seen["grad_spread"] * slope * seen["z"]) / count

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        if self.shown:
            raise RuleError("second gradients stop where mean and variance are outputs")
        made = apply_all("_backward_backward_normalize", *grads, *ins, **self.given())
        dg, dx, *dgamma = made
        return [dg, dx, *dgamma, None, None]


@register
class _backward_backward_normalize(_Facts):
    """Gradients of `_backward_normalize`, mean and spread counted as functions of the data.

    With ``h = gamma g``, ``w = inv P(u)`` and heads u, v, t of dx, dgamma and dbeta:
    ``dg = gamma w + v z + t``, ``dgamma = sum g w`` and
    ``dx = inv P(v g - inv (u mean(h z) + h mean(u z))) - inv^2 z mean(u P(h))``.
    """

    def input_names(self) -> tuple[str, ...]:
        scale = ("gamma",) if self.scaled else ()
        heads = ("head_data", *(f"head_{name}" for name in (*scale, "beta")))
        return (*heads, "grad_data", "data", *scale, "mean", "spread")

    def output_names(self) -> tuple[str, ...]:
        return ("grad_data", "data", *(("gamma",) if self.scaled else ()))

    def forward(self, xp: Any, *arrays: Any) -> Any:
        geometry, seen = self.read(xp, arrays)
        g, u, z, inv = seen["grad_data"], seen["head_data"], seen["z"], seen["inv"]
        gamma, v = seen.get("gamma", 1), seen.get("head_gamma", 0)
        w = inv * self.projected(geometry, u, z)
        dg = gamma * w + v * z + seen["head_beta"]
        dx = self._of_data(geometry, g, gamma * g, u, v, z, inv)
        made = [array.reshape(arrays[0].shape) for array in (dg, dx)]
        made += [geometry.summed(g * w)] if self.scaled else []
        dtypes = [arrays[0].dtype, arrays[0].dtype, arrays[-1].dtype]
        return tuple(a.astype(d, copy=False) for a, d in zip(made, dtypes, strict=False))

    def _of_data(self, geometry: Geometry, g: Any, h: Any, u: Any, v: Any, z: Any, inv: Any) -> Any:
        if self.fixed:
            return inv * (v * g)
        inner = v * g - inv * (u * geometry.mean(h * z) + h * geometry.mean(u * z))
        bend = inv * inv * z * geometry.mean(u * geometry.centred(h, z))
        return inv * geometry.centred(inner, z) - bend
