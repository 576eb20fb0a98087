"""Random choices: indices drawn with given probabilities, distinct classes, random order."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from raysym.errors import RuleError
from raysym.graph import apply
from raysym.op import DTypes, Entries, Grads, Op, Shapes, register
from raysym.ops.random import EACH, Sampler
from raysym.params import Dims, DType, param
from raysym.types import unify, unify_dtypes


@register
class _shuffle(Op):
    """The rows of the input (its elements, if it has one axis) in random order."""

    aliases = ("shuffle",)
    random = True

    def forward(self, xp: Any, rng: Any, data: Any) -> Any:
        return data[xp.asarray(rng.permutation(data.shape[0]))]


@register
class _sample_multinomial(Sampler):
    """Indices drawn with the probabilities along the last axis of the input.

    Shapes: data ``(..., k)``, indices ``(..., *shape)`` (``(1,)`` for one distribution and no
    shape). With ``get_prob`` a second output holds the logarithm of each drawn probability; its
    gradient flows to the data, which is what REINFORCE needs.
    """

    kinds = "f"
    aliases = ("sample_multinomial",)
    zero_gradient = False
    shape: Dims = EACH
    get_prob: bool = param(False, doc="Whether to return the log-probability of each draw as well.")
    dtype: DType = param(
        "int32",
        choices=("float16", "float32", "float64", "int32", "uint8"),
        doc="Data type of the indices.",
    )

    def output_names(self) -> tuple[str, ...]:
        return ("output0", "output1") if self.get_prob else ("output",)

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        data = ins[0]
        if data is None:
            return ins, outs
        if not data:
            raise RuleError("data does not fit", got=data, expected="an axis of probabilities")
        return ins, [(*data[:-1], *self.shape) or (1,)] * len(outs)

    def infer_dtype(self, ins: DTypes, outs: DTypes) -> tuple[DTypes, DTypes]:
        if not self.get_prob:
            return ins, [self.dtype]
        chance = unify_dtypes([ins[0], outs[1]])
        return [chance], [self.dtype, chance]

    def forward(self, xp: Any, rng: Any, data: Any) -> Any:
        lead, k = data.shape[:-1], data.shape[-1]
        u = xp.asarray(rng.random((*lead, *self.shape)).reshape(math.prod(lead), -1))
        chances = xp.minimum(xp.cumsum(data.reshape(-1, k), axis=1, dtype="float64"), 1.0)
        # All rows in one sorted list: row i lies between 2i and 2i+1.
        rows = xp.arange(chances.shape[0])[:, None]
        found = xp.searchsorted((chances + 2.0 * rows).ravel(), (u + 2.0 * rows).ravel(), "right")
        index = xp.minimum(found.reshape(u.shape) - rows * k, k - 1)
        shape = (*lead, *self.shape) or (1,)
        drawn = index.reshape(shape).astype(self.dtype)
        if not self.get_prob:
            return drawn
        return drawn, xp.log(xp.take_along_axis(data.reshape(-1, k), index, 1)).reshape(shape)

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        if not self.get_prob:
            return [None]
        return [apply("_backward_sample_multinomial", grads[1], ins[0], outs[0])]


@register
class _backward_sample_multinomial(Op):
    """Gradient of the logarithm of the drawn probabilities: g/p, added up where it was drawn."""

    internal = True
    inputs = ("out_grad", "data", "index")

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        return ins, [ins[1]]

    def infer_dtype(self, ins: DTypes, outs: DTypes) -> tuple[DTypes, DTypes]:
        dtype = unify_dtypes([ins[0], ins[1], outs[0]])
        return [dtype, dtype, ins[2]], [dtype]

    def forward(self, xp: Any, out_grad: Any, data: Any, index: Any) -> Any:
        k = data.shape[-1]
        at = index.reshape(data.size // k, -1).astype("int64")
        flat = at + xp.arange(at.shape[0])[:, None] * k
        parts = out_grad.reshape(at.shape).astype("float64") / data.reshape(-1)[flat]
        total = xp.bincount(flat.ravel(), weights=parts.ravel(), minlength=data.size)
        return total.reshape(data.shape).astype(data.dtype)


@register
class _sample_unique_zipfian(Sampler):
    """Distinct classes below range_max, drawn from a log-uniform (Zipfian) distribution.

    P(c) = log((c+2)/(c+1)) / log(range_max+1). Shapes: samples ``shape = (batch, n)``, each row
    without repetition, and the number of draws each row took, ``(batch,)``; both int64.
    """

    inputs = ()
    outputs = ("output0", "output1")
    range_max: int = param(low=1, doc="Number of classes.")
    shape: Dims | None = param(None, doc="Batch size and number of distinct classes in each row.")

    def check(self) -> None:
        if self.shape is not None and len(self.shape) != 2:
            raise RuleError("shape does not fit", got=self.shape, expected="two dimensions")
        if self.shape is not None and self.shape[1] > self.range_max:
            raise RuleError(
                "more classes than there are", got=self.shape[1], expected=self.range_max
            )

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        shape = unify(self.shape, outs[0])
        return [], [shape, shape and shape[:1]]

    def infer_dtype(self, ins: DTypes, outs: DTypes) -> tuple[DTypes, DTypes]:
        return [], ["int64", "int64"]

    def forward(self, xp: Any, rng: Any) -> Any:
        batch, n = self.shape or (0, 0)
        rows = [self._row(rng, n) for _ in range(batch)]
        samples = np.array([row for row, _ in rows], "int64").reshape(batch, n)
        return xp.asarray(samples), xp.asarray(np.array([took for _, took in rows], "int64"))

    def _row(self, rng: Any, n: int) -> tuple[list[int], int]:
        # How many draws it takes is itself the second result, so the loop is the definition.
        seen: dict[int, None] = {}
        took = 0
        while len(seen) < n:
            value = int(np.exp(rng.random() * np.log(self.range_max + 1))) - 1
            seen.setdefault(min(value, self.range_max - 1))
            took += 1
        return list(seen), took
