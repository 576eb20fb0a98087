"""Connectionist temporal classification: the loss over all alignments of labels with time steps.

Labels are extended by blanks: ``_ a _ b _``, S = 2L + 1 states. alpha[t, s] is the log-probability
of the steps up to t that end in state s, beta[t, s] that of the steps after t. Time is the only
Python loop; samples and states are vectors. Cast: T steps, N samples, C classes, L labels.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from raysym.errors import RuleError
from raysym.graph import apply
from raysym.op import Cost, DTypes, Entries, Grads, Op, Shapes, Types, register, total_bytes
from raysym.ops.numeric import wide
from raysym.ops.softmax import log_softmax_of
from raysym.params import param
from raysym.types import unify, unify_dtypes

# Stands for log 0: adding two of them does not make a NaN as -inf would.
NEVER = -1e30


class _States(NamedTuple):
    """The extended labels of a batch, and the lengths that end each sample."""

    classes: Any  # (N, S) class of each state
    skips: Any  # (N, S) whether a state may follow the one two before it
    last: Any  # (N, 1) index of the last state
    steps: Any  # (N, 1) number of time steps


@register
class CTCLoss(Op):
    """``-log sum over alignments of prod_t softmax(data)[t, class at t]``, a number per sample.

    Shapes: data ``(T, N, C)`` before the softmax, label ``(N, L)`` with ``L <= T``, data_lengths
    and label_lengths ``(N,)``, output ``(N,)``; a hidden output holds the gradient of data. With
    blank_label first class 0 is the blank and a label ends at its first 0; with last class C - 1 is
    the blank and a label ends at its first -1. Given label_lengths decide instead. A sample that no
    alignment fits has loss 0 and no gradient, as in MXNet. Source: Graves et al., ICML 2006.
    """

    kinds = "f"
    aliases = ("_contrib_CTCLoss", "_contrib_ctc_loss", "ctc_loss")
    inputs = ("data", "label", "data_lengths", "label_lengths")
    outputs = ("output0", "output1")
    hidden = 1
    use_data_lengths: bool = param(False, doc="Whether data_lengths is an input.")
    use_label_lengths: bool = param(False, doc="Whether label_lengths is an input.")
    blank_label: str = param("first", choices=("first", "last"), doc="Which class is the blank.")

    def input_names(self) -> tuple[str, ...]:
        given = (True, True, self.use_data_lengths, self.use_label_lengths)
        return tuple(name for name, is_used in zip(self.inputs, given, strict=True) if is_used)

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        data, label = ins[0], ins[1]
        if data is None:
            return ins, outs
        if len(data) != 3:
            raise RuleError("data has a wrong rank", got=data, expected="(T, N, C)")
        if label is not None and len(label) == 2 and data[0] and label[1] > data[0]:
            raise RuleError("more labels than time steps", got=label[1], expected=f"<= {data[0]}")
        label = label and unify(label, (data[1], 0), "label")
        return [data, label, *[(data[1],)] * (len(ins) - 2)], [(data[1],), data]

    def infer_dtype(self, ins: DTypes, outs: DTypes) -> tuple[DTypes, DTypes]:
        data = unify_dtypes([ins[0], *outs])
        return [data, *ins[1:]], [data, data]

    def forward(self, xp: Any, data: Any, label: Any, *lengths: Any) -> Any:
        logs = log_softmax_of(xp, wide(data), 2)
        states = self._states(xp, data.shape, label, list(lengths))
        emitted = xp.take_along_axis(logs, states.classes[None], axis=2)
        alpha, beta = _alphas(xp, emitted, states), _betas(xp, emitted, states)
        total = _logsumexp(xp, xp.where(_is_end(xp, states), alpha[-1], NEVER), 1)
        fits = total > NEVER / 2
        occupied = _occupied(xp, alpha + beta - xp.where(fits, total, 0)[:, None], states, logs)
        live = xp.arange(data.shape[0])[:, None] < states.steps[:, 0]
        grad = xp.where((live & fits)[:, :, None], xp.exp(logs) - occupied, 0)
        loss = xp.where(fits, -total, 0)
        return loss.astype(data.dtype, copy=False), grad.astype(data.dtype, copy=False)

    def _states(self, xp: Any, shape: tuple[int, ...], label: Any, lengths: list[Any]) -> _States:
        steps, samples, classes = shape
        is_first = self.blank_label == "first"
        label = label.astype(xp.int32)
        given = lengths.pop(0) if self.use_data_lengths else xp.full(samples, steps, xp.int32)
        if self.use_label_lengths:
            count = lengths.pop(0).astype(xp.int32)
        else:
            pad = 0 if is_first else -1
            count = (xp.cumsum(label == pad, axis=1) == 0).sum(axis=1)
        states = xp.full(
            (samples, 2 * label.shape[1] + 1), 0 if is_first else classes - 1, xp.int32
        )
        # Padding is never reached, but its class must lie inside the data.
        states[:, 1::2] = xp.clip(label, 0, classes - 1)
        skips = xp.zeros(states.shape, bool)
        skips[:, 3::2] = label[:, 1:] != label[:, :-1]
        return _States(states, skips, 2 * count[:, None], given.astype(xp.int32)[:, None])

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        heads = apply("expand_dims", apply("expand_dims", grads[0], axis=0), axis=2)
        return [apply("broadcast_mul", heads, outs[1]), *(None for _ in ins[1:])]

    def cost(self, ins: Types, outs: Types) -> Cost:
        states = 2 * ins[1].shape[1] + 1
        return Cost(12 * ins[0].size * states, total_bytes(ins, outs))


def _alphas(xp: Any, emitted: Any, states: _States) -> Any:
    """alpha ``(T, N, S)``; after a sample's last step it stays as it was."""
    index = xp.arange(emitted.shape[2])
    start = xp.where(index <= xp.minimum(states.last, 1), emitted[0], NEVER)
    # A sample without steps has not even begun.
    alphas = [xp.where(states.steps > 0, start, NEVER)]
    for t in range(1, emitted.shape[0]):
        moved = _arrivals(xp, alphas[-1], states.skips) + emitted[t]
        alphas.append(xp.where(t < states.steps, moved, alphas[-1]))
    return xp.stack(alphas)


def _betas(xp: Any, emitted: Any, states: _States) -> Any:
    """beta ``(T, N, S)``, without what is emitted at t itself."""
    end = xp.where(_is_end(xp, states), 0.0, NEVER).astype(emitted.dtype)
    betas = [end]
    for t in reversed(range(1, emitted.shape[0])):
        moved = _departures(xp, betas[-1] + emitted[t], states.skips)
        betas.append(xp.where(t < states.steps, moved, end))
    return xp.stack(betas[::-1])


def _is_end(xp: Any, states: _States) -> Any:
    """The last blank and the last label."""
    index = xp.arange(states.classes.shape[1])
    return (index <= states.last) & (index >= states.last - 1)


def _arrivals(xp: Any, a: Any, skips: Any) -> Any:
    """Log-sum over the states before: the same one, the one before, and two before if allowed."""
    never = xp.full((a.shape[0], 2), NEVER, a.dtype)
    one = xp.concatenate([never[:, :1], a[:, :-1]], axis=1)
    two = xp.concatenate([never, a[:, :-2]], axis=1)[:, : a.shape[1]]
    return xp.logaddexp(xp.logaddexp(a, one), xp.where(skips, two, NEVER))


def _departures(xp: Any, a: Any, skips: Any) -> Any:
    """Log-sum over the states after, the mirror image of `_arrivals`."""
    never = xp.full((a.shape[0], 2), NEVER, a.dtype)
    one = xp.concatenate([a[:, 1:], never[:, :1]], axis=1)
    two = xp.where(skips, a, NEVER)
    two = xp.concatenate([two[:, 2:], never], axis=1)[:, : a.shape[1]]
    return xp.logaddexp(xp.logaddexp(a, one), two)


def _logsumexp(xp: Any, a: Any, axis: int) -> Any:
    top = a.max(axis=axis, keepdims=True)
    return xp.log(xp.exp(a - top).sum(axis=axis)) + top.squeeze(axis)


def _occupied(xp: Any, logs: Any, states: _States, like: Any) -> Any:
    """Probability of each class at each step: ``(T, N, S)`` summed by class to ``(T, N, C)``."""
    hot = states.classes[:, :, None] == xp.arange(like.shape[2])
    made = xp.matmul(xp.exp(logs).swapaxes(0, 1), hot.astype(like.dtype))
    return made.swapaxes(0, 1)
