"""The recurrent cells: one time step forward and backward, and the loop over a layer's steps.

Cast of characters: T steps, N samples, H units, P outputs (= H unless projected), G gates;
``wide`` arrays only (float32 or float64). A state is a tuple: (h,) or, for LSTM, (h, c).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

State: TypeAlias = tuple[Any, ...]


class Weights(NamedTuple):
    """One layer's weights in one direction, or their gradients."""

    i2h: Any  # (G*H, inputs)
    h2h: Any  # (G*H, P)
    h2r: Any  # (P, H), or None without projection
    i2h_bias: Any  # (G*H,)
    h2h_bias: Any  # (G*H,)


class StepBack(NamedTuple):
    """What one step back yields."""

    to_inputs: Any  # gradient of the gates as the input sees them (N, G*H)
    to_hidden: Any  # the same as the previous hidden state sees them (N, G*H)
    state: State  # gradient of the previous state


class Trace(NamedTuple):
    """What a layer's forward run leaves: every state (T, N, ..) and every step's gates."""

    states: State
    gates: Any  # (T, N, kept*H), or None


def sigmoid(xp: Any, x: Any) -> Any:
    """1 / (1 + e^-x); through tanh, which does not overflow."""
    return 0.5 * xp.tanh(0.5 * x) + 0.5


class PlainCell:
    """``h' = act(W x + U h + b)``, act = relu or tanh."""

    gates, kept = 1, 0

    def __init__(self, is_relu: bool) -> None:
        self.is_relu = is_relu

    def bias(self, xp: Any, w: Weights) -> Any:
        """What is added to ``W x`` for all steps at once."""
        return w.i2h_bias + w.h2h_bias

    def step(self, xp: Any, w: Weights, wx: Any, state: State) -> tuple[State, Any]:
        """The next state from ``wx = W x + bias`` (N, G*H), and the gates to keep."""
        pre = wx + state[0] @ w.h2h.T
        return ((xp.maximum(pre, 0) if self.is_relu else xp.tanh(pre)),), None

    def back(
        self, xp: Any, w: Weights, gates: Any, old: State, new: State, grad: State
    ) -> StepBack:
        """Gradients from that of the next state."""
        (h,) = new
        pre = grad[0] * ((h > 0) if self.is_relu else 1 - h * h)
        return StepBack(pre, pre, (pre @ w.h2h,))


class GruCell:
    """``r, z = σ(..)``, ``n = tanh(W x + b + r (U h + c))``, ``h' = (1-z) n + z h``."""

    gates, kept = 3, 4

    def bias(self, xp: Any, w: Weights) -> Any:
        """The new gate's hidden bias is scaled by r, so it cannot be added beforehand."""
        n = w.h2h_bias.shape[0] // 3
        added = xp.concatenate([w.h2h_bias[: 2 * n], xp.zeros_like(w.h2h_bias[2 * n :])])
        return w.i2h_bias + added

    def step(self, xp: Any, w: Weights, wx: Any, state: State) -> tuple[State, Any]:
        (h,) = state
        size = h.shape[-1]
        uh = h @ w.h2h.T
        rz = sigmoid(xp, wx[:, : 2 * size] + uh[:, : 2 * size])
        r, z = rz[:, :size], rz[:, size:]
        hidden = uh[:, 2 * size :] + w.h2h_bias[2 * size :]
        n = xp.tanh(wx[:, 2 * size :] + r * hidden)
        return ((1 - z) * n + z * h,), xp.concatenate([rz, n, hidden], axis=1)

    def back(
        self, xp: Any, w: Weights, gates: Any, old: State, new: State, grad: State
    ) -> StepBack:
        (h,), (dh,) = old, grad
        r, z, n, hidden = xp.split(gates, 4, axis=1)
        dn = dh * (1 - z) * (1 - n * n)
        dr = dn * hidden * r * (1 - r)
        dz = dh * (h - n) * z * (1 - z)
        to_hidden = xp.concatenate([dr, dz, dn * r], axis=1)
        to_inputs = xp.concatenate([dr, dz, dn], axis=1)
        return StepBack(to_inputs, to_hidden, (to_hidden @ w.h2h + dh * z,))


class LstmCell:
    """``c' = f c + i g``, ``h' = o tanh(c')``, optionally projected; c' optionally clipped."""

    gates, kept = 4, 4

    def __init__(self, low: float | None, high: float | None, clips_nan: bool) -> None:
        self.low, self.high, self.clips_nan = low, high, clips_nan

    def bias(self, xp: Any, w: Weights) -> Any:
        return w.i2h_bias + w.h2h_bias

    def step(self, xp: Any, w: Weights, wx: Any, state: State) -> tuple[State, Any]:
        h, c = state
        i, f, g, o = xp.split(wx + h @ w.h2h.T, 4, axis=1)
        i, f, g, o = sigmoid(xp, i), sigmoid(xp, f), xp.tanh(g), sigmoid(xp, o)
        c = self._clip(xp, f * c + i * g)
        out = o * xp.tanh(c)
        h = out if w.h2r is None else out @ w.h2r.T
        return (h, c), xp.concatenate([i, f, g, o], axis=1)

    def back(
        self, xp: Any, w: Weights, gates: Any, old: State, new: State, grad: State
    ) -> StepBack:
        i, f, g, o = xp.split(gates, 4, axis=1)
        dh, dc = grad
        tanh_c = xp.tanh(new[1])
        dout = dh if w.h2r is None else dh @ w.h2r
        dc = self._clip_back(new[1], dc + dout * o * (1 - tanh_c * tanh_c))
        di, df = dc * g * i * (1 - i), dc * old[1] * f * (1 - f)
        dg, do = dc * i * (1 - g * g), dout * tanh_c * o * (1 - o)
        pre = xp.concatenate([di, df, dg, do], axis=1)
        return StepBack(pre, pre, (pre @ w.h2h, dc * f))

    def _clip(self, xp: Any, c: Any) -> Any:
        if self.low is None:
            return c
        if self.clips_nan:  # fmax and fmin prefer the number
            return xp.fmin(xp.fmax(c, self.low), self.high)
        return xp.minimum(xp.maximum(c, self.low), self.high)

    def _clip_back(self, c: Any, dc: Any) -> Any:
        # A clipped value sits on the bound.
        return dc if self.low is None else dc * ((c > self.low) & (c < self.high))


Cell: TypeAlias = PlainCell | GruCell | LstmCell


# ----- a layer in one direction


def run_layer(
    xp: Any, cell: Cell, w: Weights, x: Any, state: State, order: Sequence[int], valid: Any
) -> Trace:
    """All steps in `order`; where ``valid`` (T, N, 1) is false, a sample keeps its state."""
    wx = x @ w.i2h.T + cell.bias(xp, w)
    states: list[State] = [()] * len(order)
    gates: list[Any] = [None] * len(order)
    for t in order:
        new, gates[t] = cell.step(xp, w, wx[t], state)
        state = new if valid is None else _select(xp, valid[t], new, state)
        states[t] = state
    stacked = tuple(xp.stack(column) for column in zip(*states, strict=True))
    return Trace(stacked, xp.stack(gates) if cell.kept else None)


def run_layer_back(
    xp: Any,
    cell: Cell,
    w: Weights,
    x: Any,
    first: State,
    trace: Trace,
    order: Sequence[int],
    valid: Any,
    dy: Any,
    grad: State,
) -> tuple[Any, State, Weights]:
    """Gradients of x, of the first state and of the weights.

    `dy` (T, N, P) is the gradient of the outputs, `grad` that of the last state.
    """
    n = len(order)
    to_inputs, to_hidden, outs = [None] * n, [None] * n, [None] * n
    for k in range(n - 1, -1, -1):
        t = order[k]
        old = first if k == 0 else tuple(s[order[k - 1]] for s in trace.states)
        new = tuple(s[t] for s in trace.states)
        grad = (grad[0] + dy[t], *grad[1:])
        live = grad if valid is None else tuple(g * valid[t] for g in grad)
        back = cell.back(xp, w, None if trace.gates is None else trace.gates[t], old, new, live)
        to_inputs[t], to_hidden[t], outs[t] = back.to_inputs, back.to_hidden, live[0]
        grad = back.state if valid is None else _select(xp, valid[t], back.state, grad)
    before = _shifted(xp, first[0], trace.states[0], order)
    d_in, d_hid = xp.stack(to_inputs), xp.stack(to_hidden)
    weights = Weights(
        _outer(d_in, x),
        _outer(d_hid, before),
        None if w.h2r is None else _outer(xp.stack(outs), _unprojected(xp, trace)),
        d_in.sum(axis=(0, 1)),
        d_hid.sum(axis=(0, 1)),
    )
    return d_in @ w.i2h, grad, weights


def _select(xp: Any, valid: Any, new: State, old: State) -> State:
    return tuple(xp.where(valid, a, b) for a, b in zip(new, old, strict=True))


def _shifted(xp: Any, first: Any, hidden: Any, order: Sequence[int]) -> Any:
    forward = order[0] == 0
    parts = [first[None], hidden[:-1]] if forward else [hidden[1:], first[None]]
    return xp.concatenate(parts)


def _outer(a: Any, b: Any) -> Any:
    return a.reshape(-1, a.shape[-1]).T @ b.reshape(-1, b.shape[-1])


def _unprojected(xp: Any, trace: Trace) -> Any:
    return trace.gates[..., -trace.states[1].shape[-1] :] * xp.tanh(trace.states[1])
