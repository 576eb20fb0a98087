"""The recurrent cells in vectors: what one step makes of gates and states, forward and back.

Gates are what the matrix products leave, one vector for each gate of some units; states (h,) or,
for LSTM, (h, c). The equations are those of the op page's cells.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple, TypeAlias

from raysym.kernels import vector_math as vm
from raysym.kernels.emit import Emit, Value
from raysym.kernels.gate_math import sigmoid, tanh

Vectors: TypeAlias = Sequence[Value]
# Lower and upper bound of a cell state, and whether NaN becomes the lower; () without.
Clip: TypeAlias = tuple[float, float, bool] | tuple[()]


class Made(NamedTuple):
    """What a step forward leaves: the next states, and what the gradient needs of the gates."""

    states: Vectors
    kept: Vectors


class Back(NamedTuple):
    """What a step back leaves.

    Gradients of the gates as the inputs see them and as the previous h does; of the previous
    states what does not come through the gates: nothing of h where a cell does not `pass` it.
    """

    to_inputs: Vectors
    to_own: Vectors
    states: Sequence[Value | None]


class Cell(NamedTuple):
    """A kind of cell.

    `gates`, `kept` and `states` count vectors. `is_apart`: the products with h are not added to
    those with the inputs. `passes`: a share of h goes by the gates.
    ``forward(e, gates, gates of h, old states)``, ``back(e, kept, old states, new states,
    gradients of the new states)``; those of h that are not apart are no vectors.
    """

    gates: int
    kept: int
    states: int
    is_apart: bool
    passes: bool
    forward: Callable[[Emit, Vectors, Vectors, Vectors], Made]
    back: Callable[[Emit, Vectors, Vectors, Vectors, Vectors], Back]


def _less_square(e: Emit, y: Value) -> Value:
    """The slope of a tanh whose value is y."""
    return e.b.fsub(e.number(1.0), e.b.fmul(y, y))


def _slope(e: Emit, y: Value) -> Value:
    """The slope of a sigmoid whose value is y."""
    return e.b.fmul(y, e.b.fsub(e.number(1.0), y))


# ----- plain cells


def _relu(e: Emit, gates: Vectors, own: Vectors, old: Vectors) -> Made:
    return Made([vm.at_least(e, gates[0], 0.0)], [])


def _relu_back(e: Emit, kept: Vectors, old: Vectors, new: Vectors, grads: Vectors) -> Back:
    is_on = e.b.fcmp_ordered(">", new[0], e.zero)
    pre = [e.b.fmul(grads[0], e.b.select(is_on, e.number(1.0), e.zero))]
    return Back(pre, pre, [None])


def _tanh(e: Emit, gates: Vectors, own: Vectors, old: Vectors) -> Made:
    return Made([tanh(e, gates[0])], [])


def _tanh_back(e: Emit, kept: Vectors, old: Vectors, new: Vectors, grads: Vectors) -> Back:
    pre = [e.b.fmul(grads[0], _less_square(e, new[0]))]
    return Back(pre, pre, [None])


# ----- GRU: r scales what the new gate sees of h


def _gru(e: Emit, gates: Vectors, own: Vectors, old: Vectors) -> Made:
    r, z = (sigmoid(e, e.b.fadd(gates[i], own[i])) for i in (0, 1))
    new = tanh(e, e.fma(r, own[2], gates[2]))
    h = e.fma(z, old[0], e.b.fmul(e.b.fsub(e.number(1.0), z), new))
    return Made([h], [r, z, new, own[2]])


def _gru_back(e: Emit, kept: Vectors, old: Vectors, new: Vectors, grads: Vectors) -> Back:
    b, dh = e.b, grads[0]
    r, z, made, hidden = kept
    dn = b.fmul(b.fmul(dh, b.fsub(e.number(1.0), z)), _less_square(e, made))
    dr = b.fmul(b.fmul(dn, hidden), _slope(e, r))
    dz = b.fmul(b.fmul(dh, b.fsub(old[0], made)), _slope(e, z))
    return Back([dr, dz, dn], [dr, dz, b.fmul(dn, r)], [b.fmul(dh, z)])


# ----- LSTM


def _lstm(e: Emit, gates: Vectors, own: Vectors, old: Vectors, clip: Clip = ()) -> Made:
    i, f, o = (sigmoid(e, gates[k]) for k in (0, 1, 3))
    new = tanh(e, gates[2])
    c = _clipped(e, e.fma(f, old[1], e.b.fmul(i, new)), clip)
    return Made([e.b.fmul(o, tanh(e, c)), c], [i, f, new, o])


def _lstm_back(
    e: Emit, kept: Vectors, old: Vectors, new: Vectors, grads: Vectors, clip: Clip = ()
) -> Back:
    b, dh = e.b, grads[0]
    i, f, made, o = kept
    shown = tanh(e, new[1])
    dc = b.fadd(grads[1], b.fmul(b.fmul(dh, o), _less_square(e, shown)))
    dc = _unclipped(e, new[1], dc, clip)
    pre = [
        b.fmul(b.fmul(dc, made), _slope(e, i)),
        b.fmul(b.fmul(dc, old[1]), _slope(e, f)),
        b.fmul(b.fmul(dc, i), _less_square(e, made)),
        b.fmul(b.fmul(dh, shown), _slope(e, o)),
    ]
    return Back(pre, pre, [None, b.fmul(dc, f)])


def _clipped(e: Emit, c: Value, clip: Clip) -> Value:
    if not clip:
        return c
    low, high, clips_nan = clip
    if clips_nan:
        c = e.b.select(e.b.fcmp_unordered("uno", c, c), e.number(low), c)
    return vm.at_most(e, vm.at_least(e, c, low), high)


def _unclipped(e: Emit, c: Value, dc: Value, clip: Clip) -> Value:
    """The gradient of a cell state before it was clipped: what was clipped sits on a bound."""
    if not clip:
        return dc
    low, high, _ = clip
    inside = e.b.and_(
        e.b.fcmp_ordered(">", c, e.number(low)), e.b.fcmp_ordered("<", c, e.number(high))
    )
    return e.b.select(inside, dc, e.zero)


def clipping(clip: Clip) -> Cell:
    """LSTM whose cell states are clipped."""
    forward, back = partial(_lstm, clip=clip), partial(_lstm_back, clip=clip)
    return CELLS["lstm"]._replace(forward=forward, back=back)


CELLS = {
    "rnn_relu": Cell(1, 0, 1, is_apart=False, passes=False, forward=_relu, back=_relu_back),
    "rnn_tanh": Cell(1, 0, 1, is_apart=False, passes=False, forward=_tanh, back=_tanh_back),
    "gru": Cell(3, 4, 1, is_apart=True, passes=True, forward=_gru, back=_gru_back),
    "lstm": Cell(4, 4, 2, is_apart=False, passes=False, forward=_lstm, back=_lstm_back),
}
