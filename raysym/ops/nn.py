"""Neural network layers: fully connected."""

from __future__ import annotations

import math
from typing import Any

from raysym.graph import apply
from raysym.op import Cost, Entries, Grads, Op, Shapes, Types, register, total_bytes
from raysym.ops.maths import reshape_like
from raysym.ops.numeric import wide
from raysym.params import param
from raysym.types import PartialShape


@register
class FullyConnected(Op):
    """``y = x W^T + b``: every output unit looks at every input unit.

    Shapes: data ``(batch, ...)``, weight ``(num_hidden, features)``, bias ``(num_hidden,)``,
    output ``(batch, num_hidden)``; with ``flatten=False`` only the last axis is contracted and the
    output is ``data.shape[:-1] + (num_hidden,)``.
    """

    kinds = "f"
    work = "matmul"
    inputs = ("data", "weight", "bias")
    num_hidden: int = param(low=1, doc="Number of hidden nodes of the output.")
    no_bias: bool = param(False, doc="Whether to disable bias parameter.")
    flatten: bool = param(True, doc="Whether to collapse all but the first axis of the input.")

    def input_names(self) -> tuple[str, ...]:
        return self.inputs[:2] if self.no_bias else self.inputs

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        data = self._batch_from_output(ins[0], outs[0])
        if data is None:
            return ins, outs
        rest = data[1:] if self.flatten else data[-1:]
        width = 0 if 0 in rest else math.prod(rest)
        lead = data[:1] if self.flatten else data[:-1]
        learned = [(self.num_hidden, width), (self.num_hidden,)]
        return [data, *learned][: len(ins)], [(*lead, self.num_hidden)]

    def _batch_from_output(self, data: PartialShape, out: PartialShape) -> PartialShape:
        if not data or not out or data[0]:
            return data
        return (out[0], *data[1:])

    def forward(self, xp: Any, data: Any, weight: Any, bias: Any = None) -> Any:
        x = data.reshape(data.shape[0], -1) if self.flatten else data
        y = xp.matmul(wide(x), wide(weight).T)
        y = y if bias is None else y + bias
        return y.astype(data.dtype, copy=False)

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        (x, w, *bias), (g,) = ins, grads
        rows = apply("Flatten" if self.flatten else "_rows", x)
        g = g if self.flatten else apply("_rows", g)
        dx = reshape_like(apply("dot", g, w), x)
        dw = apply("dot", g, rows, transpose_a=True)
        return [dx, dw, *(apply("sum", g, axis=0) for _ in bias)]

    def cost(self, ins: Types, outs: Types) -> Cost:
        return Cost(2 * outs[0].size * ins[1].shape[1], total_bytes(ins, outs))


@register
class _rows(Op):
    """All axes but the last collapsed into one."""

    internal = True

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        data = ins[0]
        if data is None:
            return ins, outs
        lead = 0 if 0 in data[:-1] else math.prod(data[:-1])
        return ins, [(lead, data[-1])]

    def forward(self, xp: Any, data: Any) -> Any:
        return data.reshape(-1, data.shape[-1])

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        return [reshape_like(grads[0], ins[0])]
