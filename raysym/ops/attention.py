"""Multi-head attention on projections that lie interleaved: per head queries, keys, values.

One array ``(time, batch, heads * parts * d)`` holds `parts` kinds of projections; taken apart, a
kind is ``(batch * heads, time, d)``.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

from raysym.errors import RuleError
from raysym.graph import Entry, apply
from raysym.op import Cost, Entries, Grads, Op, Shapes, Types, register, total_bytes
from raysym.ops.matrix import contract
from raysym.params import param
from raysym.types import PartialShape, unify, unify_all


def taken(data: Any, heads: int, parts: int, part: int) -> Any:
    """One kind of projection: ``(time, batch, heads * parts * d) -> (batch * heads, time, d)``."""
    time, batch, width = data.shape
    split = data.reshape(time, batch * heads, parts, width // (heads * parts))
    return split[:, :, part].swapaxes(0, 1)


def taken_shape(data: PartialShape, heads: int, parts: int) -> PartialShape:
    """The shape that `taken` gives; RuleError when the width cannot be divided."""
    if data is None:
        return None
    if len(data) != 3:
        raise RuleError("projections have a wrong rank", got=data, expected="(time, batch, width)")
    if data[2] % (heads * parts):
        wanted = f"a multiple of {parts} x {heads} heads"
        raise RuleError("the width cannot be divided", got=data[2], expected=wanted)
    return (data[1] * heads, data[0], data[2] // (heads * parts))


@register
class _interleaved_part(Op):
    """One kind of the interleaved projections: queries, keys or values, by head."""

    internal = True
    heads: int = param(low=1, doc="Number of heads.")
    parts: int = param(low=1, doc="How many kinds of projections lie interleaved.")
    part: int = param(low=0, doc="Which kind.")

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        return ins, [taken_shape(ins[0], self.heads, self.parts)]

    def forward(self, xp: Any, data: Any) -> Any:
        return taken(data, self.heads, self.parts, self.part)

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        kinds = [grads[0] if i == self.part else None for i in range(self.parts)]
        return [interleaved(self.heads, *kinds)]

    def cost(self, ins: Types, outs: Types) -> Cost:
        return Cost(0.0, 2 * total_bytes((), outs))


@register
class _interleave(Op):
    """The inverse: kinds of projections, each ``(batch * heads, time, d)``, in one array."""

    internal = True
    variadic = "num_args"
    heads: int = param(low=1, doc="Number of heads.")
    num_args: int = param(low=1, doc="Number of kinds.")

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        shape = unify_all(ins)
        if shape is None:
            return ins, outs
        if len(shape) != 3 or shape[0] % self.heads:
            raise RuleError("heads do not fit", got=shape, expected="(batch * heads, time, d)")
        rows, time, depth = shape
        return [shape] * len(ins), [(time, rows // self.heads, self.heads * len(ins) * depth)]

    def forward(self, xp: Any, *kinds: Any) -> Any:
        rows, time, depth = kinds[0].shape
        split = xp.stack([kind.swapaxes(0, 1) for kind in kinds], axis=2)
        return split.reshape(time, rows // self.heads, self.heads * len(kinds) * depth)

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        return [part_of(grads[0], self.heads, len(ins), i) for i in range(len(ins))]

    def cost(self, ins: Types, outs: Types) -> Cost:
        return Cost(0.0, total_bytes(ins, outs))


def part_of(data: Entry, heads: int, parts: int, part: int) -> Entry:
    """Graph maths: one kind of the interleaved projections."""
    return apply("_interleaved_part", data, heads=heads, parts=parts, part=part)


def interleaved(heads: int, *kinds: Entry | None) -> Entry:
    """Graph maths: the kinds in one array; None is zeros."""
    like = next(kind for kind in kinds if kind is not None)
    row = [kind or apply("zeros_like", like) for kind in kinds]
    return apply("_interleave", *row, heads=heads, num_args=len(row))


class _Scores(Op):
    """Shared by products of queries and keys: ``(batch * heads, queries, keys)``, scaled."""

    kinds = "f"
    work = "matmul"
    parts: ClassVar[int]  # kinds of projections in the first input, which holds the queries
    heads: int = param(low=1, doc="Number of heads.")

    def scores(self, xp: Any, queries: Any, keys: Any) -> Any:
        """Every query times every key, over the square root of their length."""
        scale = queries.dtype.type(1 / math.sqrt(queries.shape[-1]))
        return contract(xp, queries * scale, keys.swapaxes(1, 2))

    def score_gradients(self, q: Entry, k: Entry, g: Entry, data: Entry) -> tuple[Entry, Entry]:
        """Gradients of queries and keys; `data` is the input that holds the queries."""

        def scaled(x: Entry) -> Entry:  # vectors are scaled: they are fewer than scores
            return apply("_scale_by_depth", x, data, depth_of=self.heads * self.parts)

        return scaled(apply("batch_dot", g, k)), apply("batch_dot", g, scaled(q), transpose_a=True)

    def cost(self, ins: Types, outs: Types) -> Cost:
        depth = ins[0].shape[2] // (self.heads * self.parts)
        return Cost(2 * outs[0].size * depth, total_bytes(ins, outs))


@register
class _scale_by_depth(Op):
    """The first input over the square root of the length of a head's vectors in the second."""

    internal = True
    inputs = ("data", "like")
    shape_only = ("like",)
    depth_of: int = param(low=1, doc="How many vectors lie along the last axis of `like`.")

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        data = unify(ins[0], outs[0])
        if ins[1] is not None and (not ins[1] or ins[1][-1] % self.depth_of):
            raise RuleError(
                "like does not hold so many vectors", got=ins[1], expected=self.depth_of
            )
        return [data, ins[1]], [data]

    def forward(self, xp: Any, data: Any, like: Any) -> Any:
        return data * data.dtype.type(1 / math.sqrt(like.shape[-1] // self.depth_of))

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        return [apply(self.name, grads[0], ins[1], depth_of=self.depth_of), None]


@register
class _contrib_interleaved_matmul_selfatt_qk(_Scores):
    """Scores of self-attention: ``(queries / sqrt(d)) x keys^T`` for every head.

    Shapes: ``(time, batch, heads * 3 * d) -> (batch * heads, time, time)``.
    """

    inputs = ("queries_keys_values",)
    parts = 3

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        shape = taken_shape(ins[0], self.heads, 3)
        return ins, [None if shape is None else (shape[0], shape[1], shape[1])]

    def forward(self, xp: Any, data: Any) -> Any:
        return self.scores(xp, taken(data, self.heads, 3, 0), taken(data, self.heads, 3, 1))

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        q, k = (part_of(ins[0], self.heads, 3, part) for part in (0, 1))
        return [interleaved(self.heads, *self.score_gradients(q, k, grads[0], ins[0]), None)]


@register
class _contrib_interleaved_matmul_encdec_qk(_Scores):
    """Scores of attention from decoder to encoder: ``(queries / sqrt(d)) x keys^T`` per head.

    Shapes: queries ``(m, batch, heads * d)``, keys_values ``(n, batch, heads * 2 * d)``, output
    ``(batch * heads, m, n)``.
    """

    inputs = ("queries", "keys_values")
    parts = 1

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        q, k = taken_shape(ins[0], self.heads, 1), taken_shape(ins[1], self.heads, 2)
        if q is None or k is None:
            return ins, outs
        unify((q[0], q[2]), (k[0], k[2]), "(batch * heads, d) of queries and keys")
        return ins, [(q[0], q[1], k[1])]

    def forward(self, xp: Any, queries: Any, keys_values: Any) -> Any:
        q = taken(queries, self.heads, 1, 0)
        return self.scores(xp, q, taken(keys_values, self.heads, 2, 0))

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        q, k = part_of(ins[0], self.heads, 1, 0), part_of(ins[1], self.heads, 2, 0)
        dq, dk = self.score_gradients(q, k, grads[0], ins[0])
        return [interleaved(self.heads, dq), interleaved(self.heads, dk, None)]


class _Values(Op):
    """Shared by weighted sums of values: attention x values, heads side by side again."""

    kinds = "f"
    work = "matmul"
    parts: ClassVar[int]  # kinds of projections in the first input; values are the last kind
    heads: int = param(low=1, doc="Number of heads.")

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        values, attention = taken_shape(ins[0], self.heads, self.parts), ins[1]
        if values is None:
            return ins, outs
        # In self-attention the queries are as many as the values.
        queries = ins[0][0] if self.parts == 3 and ins[0] is not None else 0
        attention = unify((values[0], queries, values[1]), attention, "shape of attention")
        if attention is None or ins[1] is None:
            return [ins[0], attention], outs
        return [ins[0], attention], [
            (attention[1], values[0] // self.heads, self.heads * values[2])
        ]

    def forward(self, xp: Any, data: Any, attention: Any) -> Any:
        made = contract(xp, attention, taken(data, self.heads, self.parts, self.parts - 1))
        rows, time, depth = made.shape
        return made.swapaxes(0, 1).reshape(time, rows // self.heads, self.heads * depth)

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        values = part_of(ins[0], self.heads, self.parts, self.parts - 1)
        g = part_of(grads[0], self.heads, 1, 0)
        dvalues = apply("batch_dot", ins[1], g, transpose_a=True)
        dattention = apply("batch_dot", g, values, transpose_b=True)
        return [interleaved(self.heads, *[None] * (self.parts - 1), dvalues), dattention]

    def cost(self, ins: Types, outs: Types) -> Cost:
        return Cost(2 * ins[1].size * outs[0].shape[2] / self.heads, total_bytes(ins, outs))


@register
class _contrib_interleaved_matmul_selfatt_valatt(_Values):
    """Values weighted by self-attention, heads side by side.

    Shapes: queries_keys_values ``(time, batch, heads * 3 * d)``, attention
    ``(batch * heads, time, time)``, output ``(time, batch, heads * d)``.
    """

    inputs = ("queries_keys_values", "attention")
    parts = 3


@register
class _contrib_interleaved_matmul_encdec_valatt(_Values):
    """Values of the encoder weighted by attention, heads side by side.

    Shapes: keys_values ``(n, batch, heads * 2 * d)``, attention ``(batch * heads, m, n)``, output
    ``(m, batch, heads * d)``.
    """

    inputs = ("keys_values", "attention")
    parts = 2
