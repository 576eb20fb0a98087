"""Ops on padded sequences: mask what lies behind the end, take the last step, reverse.

Time is axis 0 or 1 and the batch is the other one; `sequence_length` holds one length a sample.
"""

from __future__ import annotations

from typing import Any

from raysym.errors import RuleError
from raysym.graph import apply
from raysym.op import Cost, DTypes, Entries, Grads, Op, Shapes, Types, register, total_bytes
from raysym.ops.index import IntoZerosByIndex
from raysym.ops.numeric import scalar_of
from raysym.ops.rows import in_range
from raysym.params import param
from raysym.types import PartialShape, unify, unify_dtypes

_AXIS = "The time axis: 0 or 1; the other one is the batch."
_USE = "Whether there is an input of lengths; otherwise all samples are full."


class _Sequence(Op):
    """Shared by the ops below: one input, or two with lengths."""

    inputs = ("data", "sequence_length")
    use_sequence_length: bool
    axis: int

    def input_names(self) -> tuple[str, ...]:
        return self.inputs if self.use_sequence_length else self.inputs[:1]

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        data = ins[0]
        if data is None:
            return ins, outs
        if len(data) < 2:
            raise RuleError("data has a wrong rank", got=data, expected="at least two axes")
        lengths = [unify(length, (data[1 - self.axis],), "number of lengths") for length in ins[1:]]
        return [data, *lengths], [self._result(data)]

    def _result(self, data: tuple[int, ...]) -> PartialShape:
        return data

    def infer_dtype(self, ins: DTypes, outs: DTypes) -> tuple[DTypes, DTypes]:
        dtype = unify_dtypes([ins[0], outs[0]])
        return [dtype, *(length or dtype for length in ins[1:])], [dtype]

    def cost(self, ins: Types, outs: Types) -> Cost:
        return Cost(0.0, total_bytes(ins, outs))


def _by_time(vector: Any, data: Any, axis: int) -> Any:
    """A vector of the batch (or of time) in the rank of the data, whose axis it lies along."""
    shape = [1] * data.ndim
    shape[axis] = vector.size
    return vector.reshape(shape)


def _steps(xp: Any, data: Any, axis: int) -> Any:
    return _by_time(xp.arange(data.shape[axis]), data, axis)


@register
class SequenceMask(_Sequence):
    """The data with all steps from a sample's length on set to `value`; they get no gradient."""

    use_sequence_length: bool = param(False, doc=_USE)
    value: float = param(0.0, doc="What the masked steps are set to.")
    axis: int = param(0, low=0, high=1, doc=_AXIS)

    def forward(self, xp: Any, data: Any, lengths: Any = None) -> Any:
        if lengths is None:
            return data
        ends = _by_time(lengths.astype("int64"), data, 1 - self.axis)
        return xp.where(_steps(xp, data, self.axis) < ends, data, scalar_of(data.dtype, self.value))

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        given = {**self.given(), "value": 0.0}
        return [apply("SequenceMask", grads[0], *ins[1:], **given), *[None] * (len(ins) - 1)]


@register
class SequenceReverse(_Sequence):
    """The first `length` steps of every sample in reverse order; the rest stays where it is."""

    use_sequence_length: bool = param(False, doc=_USE)
    axis: int = param(0, low=0, high=0, doc="The time axis: only 0.")

    def forward(self, xp: Any, data: Any, lengths: Any = None) -> Any:
        if lengths is None:
            return xp.flip(data, 0)
        ends = _by_time(lengths.astype("int64"), data, 1)
        steps = _steps(xp, data, 0)
        sources = xp.where(steps < ends, ends - 1 - steps, steps)
        return xp.take_along_axis(data, xp.clip(sources, 0, data.shape[0] - 1), 0)

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        back = apply("SequenceReverse", grads[0], *ins[1:], **self.given())
        return [back, *[None] * (len(ins) - 1)]


@register
class SequenceLast(_Sequence):
    """The last step of every sample: ``(time, batch, ...) -> (batch, ...)``.

    Lengths below 1 or above the time axis are clipped.
    """

    use_sequence_length: bool = param(False, doc=_USE)
    axis: int = param(0, low=0, high=1, doc=_AXIS)

    def _result(self, data: tuple[int, ...]) -> PartialShape:
        return (data[1 - self.axis], *data[2:])

    def forward(self, xp: Any, data: Any, lengths: Any = None) -> Any:
        if lengths is None:
            return data[-1] if self.axis == 0 else data[:, -1]
        last = _last(xp, data, lengths, self.axis)
        return xp.take_along_axis(data, last, self.axis).squeeze(self.axis)

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        if not self.use_sequence_length:
            step = apply("expand_dims", grads[0], axis=self.axis)
            place = {"axis": self.axis, "begin": -1, "end": None}
            return [apply("_backward_slice_axis", step, ins[0], **place)]
        return [apply("_backward_SequenceLast", grads[0], ins[1], ins[0], axis=self.axis), None]


def _last(xp: Any, data: Any, lengths: Any, axis: int) -> Any:
    places = in_range(xp, lengths.astype("int64") - 1, data.shape[axis])
    return _by_time(places, data, 1 - axis)


@register
class _backward_SequenceLast(IntoZerosByIndex):
    """Zeros with the head gradient in the last step of every sample."""

    page = "SequenceLast"
    axis: int = param(0, low=0, high=1, doc=_AXIS)

    def place(self) -> dict[str, Any]:
        return {"use_sequence_length": True, "axis": self.axis}

    def fill(self, xp: Any, zeros: Any, *arrays: Any) -> Any:
        grad, lengths = arrays
        last = _last(xp, zeros, lengths, self.axis)
        hit = _steps(xp, zeros, self.axis) == last
        return xp.where(hit, xp.expand_dims(grad, self.axis), zeros)
