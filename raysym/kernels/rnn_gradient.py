"""The recurrent op backward: one sweep back in time, then the products of all steps at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from raysym.kernels.emit import LANES, Emit, Index, Value
from raysym.kernels.gemm import multiply, product_into
from raysym.kernels.moving import copy, fill, pack_columns
from raysym.kernels.reduce import sum_rows
from raysym.kernels.rnn_layout import Recurrence, Track, placed
from raysym.kernels.shared import groups, meet, own, shared_nest
from raysym.kernels.specs import shared_maker


class _Arrays(NamedTuple):
    """Arguments of the kernel: lists have an array for each part of a state."""

    dy: Value
    ends: Sequence[Value]  # gradients of the final states, if these are shown
    x: Value
    parameters: Value
    first: Sequence[Value]
    states: Sequence[Value]
    gates: Value | None
    dx: Value
    dparameters: Value
    dfirst: Sequence[Value]  # these run along while we go back
    space: dict[str, Value]


class _Direction(NamedTuple):
    """One layer in one direction: its number, its states and gates, its gradients."""

    k: int
    tracks: Sequence[Track]
    kept: Value | None
    dy: Value
    dstates: Sequence[Value]


@shared_maker
def rnn_backward(e: Emit, fields: tuple[str | int, ...]) -> None:
    """Arguments: gradients of the outputs, inputs of the op, kept values, results, space.

    Results are the gradients of data, parameters and first states.
    """
    g = Recurrence(*fields)  # type: ignore[arg-type]
    a = _arrays(e, g)
    dy = a.dy
    for layer in reversed(range(g.layers)):
        below = _below(e, g, a, layer)
        down = a.space["odd" if layer % 2 else "even"] if layer else a.dx
        for side in range(g.directions):
            d = _direction(e, g, a, layer * g.directions + side, e.at(dy, side * g.units))
            _start(e, g, a, d)
            _steps_back(e, g, a, d)
            _weight_gradients(e, g, a, d, below)
            _input_gradient(e, g, a, d, down, onto=side > 0)
            meet(e)
        dy = down


def _arrays(e: Emit, g: Recurrence) -> _Arrays:
    states = g.cell.states
    counts = (1, states * g.shows_states, 1, 1, states, states, bool(g.cell.kept), 1, 1, states, 1)
    number, groups = 0, []
    for count in counts:
        groups.append([e.arg(number + i) for i in range(count)])
        number += count
    (dy,), ends, (x,), (w,), first, kept, gates, (dx,), (dw,), dfirst, (space,) = groups
    parts = placed(e, space, g.backward_parts())
    parts["product"] = own(e, parts["product"], g.backward_parts()["product"])
    kept_gates = gates[0] if gates else None
    return _Arrays(dy, ends, x, w, first, kept, kept_gates, dx, dw, dfirst, parts)


def _below(e: Emit, g: Recurrence, a: _Arrays, layer: int) -> Value:
    """What a layer has seen: states of the layer before it, both directions side by side."""
    if layer == 0:
        return a.x
    size, before = g.rows * g.units, (layer - 1) * g.directions
    if g.directions == 1:
        return e.at(a.states[0], before * size)

    def row(r: Index) -> None:
        for side in range(g.directions):
            source = e.at(a.states[0], (before + side) * size, e.times(r, g.units))
            copy(e, source, e.at(a.space["below"], e.times(r, g.width), side * g.units), g.units)

    shared_nest(e, (g.rows,), row)
    return a.space["below"]


def _direction(e: Emit, g: Recurrence, a: _Arrays, k: int, dy: Value) -> _Direction:
    size = g.rows * g.units
    tracks = [
        Track(e.at(first, k * g.cells), e.at(states, k * size), g.cells)
        for first, states in zip(a.first, a.states, strict=True)
    ]
    kept = a.gates and e.at(a.gates, k * size * g.cell.kept)
    return _Direction(k, tracks, kept, dy, [e.at(grad, k * g.cells) for grad in a.dfirst])


def _start(e: Emit, g: Recurrence, a: _Arrays, d: _Direction) -> None:
    """Gradients of the final states."""
    for i, running in enumerate(d.dstates):
        if g.shows_states:
            copy(e, e.at(a.ends[i], d.k * g.cells), running, g.cells)
        else:
            fill(e, running, g.cells)


# ----- steps


class _Step(NamedTuple):
    """Arrays of one step, all samples."""

    kept: Value | None
    old: Sequence[Value]
    new: Sequence[Value]
    dy: Value
    dstates: Sequence[Value]
    grads: Sequence[Value]  # of the gates: to the inputs, and, where it differs, to h


def _gate_gradients(g: Recurrence, a: _Arrays) -> list[Value]:
    """Gradients of the gates as the inputs see them and, where it differs, as h does."""
    return [a.space[name] for name in ("to_inputs", "to_own")[: 1 + g.cell.is_apart]]


def _steps_back(e: Emit, g: Recurrence, a: _Arrays, d: _Direction) -> None:
    """Gradients of all gates and of the first states."""
    rows, panels = g.batch // groups(e, g.batch), a.space["panels"]
    shape = g.own_back()._replace(m=rows)
    w_own = e.at(a.parameters, g.weights(d.k)[1])
    pack_columns(e, w_own, g.units, panels, g.gates, g.units)
    meet(e)

    def step(back: Index, first: Index) -> None:
        number = e.plus(e.times(back, -1), g.steps - 1)
        time = g.time(e, d.k, number)
        s = _Step(
            d.kept and e.at(d.kept, e.times(time, g.cells * g.cell.kept)),
            [track.before(e, g, d.k, number) for track in d.tracks],
            [track.at(e, time) for track in d.tracks],
            e.at(d.dy, e.times(time, g.batch * g.width)),
            d.dstates,
            [e.at(grad, e.times(time, g.batch * g.gates)) for grad in _gate_gradients(g, a)],
        )
        e.nest((rows,), lambda r: _sample_back(e, g, e.plus(first, r), s))
        left = e.at(s.grads[-1], e.times(first, g.gates))
        running = e.at(d.dstates[0], e.times(first, g.units))
        multiply(e, shape, left, panels, running, onto=g.cell.passes)

    def samples(i: Index) -> None:
        e.nest((g.steps,), lambda back: step(back, e.times(i, rows)))

    shared_nest(e, (g.batch // rows,), samples)
    meet(e)


def _sample_back(e: Emit, g: Recurrence, r: Index, s: _Step) -> None:
    """The cell of one sample, some units at a time."""
    dy, row = e.at(s.dy, e.times(r, g.width)), e.times(r, g.units)
    kept = s.kept and e.at(s.kept, e.times(r, g.cell.kept * g.units))
    targets = [e.at(grad, e.times(r, g.gates)) for grad in s.grads]

    def units(j: Index, n: int) -> None:
        at = e.plus(row, j)
        gates = [e.load(kept, e.plus(j, i * g.units), n) for i in range(g.cell.kept)]
        old, new, grads = ([e.load(p, at, n) for p in ps] for ps in (s.old, s.new, s.dstates))
        grads[0] = e.b.fadd(grads[0], e.load(dy, j, n))
        back = g.cell.back(e, gates, old, new, grads)
        found = (back.to_inputs, back.to_own)
        for target, values in zip(targets, found, strict=False):
            for i, value in enumerate(values):
                e.store(value, target, e.plus(j, i * g.units), n)
        for value, place in zip(back.states, s.dstates, strict=True):
            if value is not None:
                e.store(value, place, at, n)

    e.columns(g.units, units)


# ----- products of all steps


def _weight_gradients(e: Emit, g: Recurrence, a: _Arrays, d: _Direction, x: Value) -> None:
    """Gradients of weights and biases from those of the gates."""
    grads, rest = _gate_gradients(g, a), a.space["product"]
    to_inputs, to_own, _ = g.back_products(d.k)
    w_in, w_own = (e.at(a.dparameters, at) for at in g.weights(d.k))
    product_into(e, to_inputs, grads[0], x, None, w_in, rest)
    product_into(e, to_own, grads[-1], _before_all(e, g, a, d), None, w_own, rest)
    biases = [e.at(a.dparameters, at) for at in g.biases(d.k)]
    for i, grad in enumerate(grads):
        _sum_samples(e, g, grad, biases[i:] if grad is grads[-1] else biases[:1])


def _before_all(e: Emit, g: Recurrence, a: _Arrays, d: _Direction) -> Value:
    """What every step has met of h."""
    before, h, later = a.space["before"], d.tracks[0], (g.steps - 1) * g.cells
    runs_back = d.k % g.directions
    copy(e, h.first, e.at(before, later if runs_back else 0), g.cells)
    if later:
        source, target = (g.cells, 0) if runs_back else (0, g.cells)
        copy(e, e.at(h.states, source), e.at(before, target), later)
    meet(e)
    return before


def _input_gradient(
    e: Emit, g: Recurrence, a: _Arrays, d: _Direction, dx: Value, onto: bool
) -> None:
    shape, w_in = g.back_products(d.k)[2], e.at(a.parameters, g.weights(d.k)[0])
    product_into(e, shape, a.space["to_inputs"], w_in, None, dx, a.space["product"], onto)


def _sum_samples(e: Emit, g: Recurrence, grads: Value, biases: Sequence[Value]) -> None:
    """Gradients of biases, the same for each that is given."""

    def finish(c: Index, lanes: Sequence[int], sums: Sequence[Value]) -> None:
        for j, (n, value) in enumerate(zip(lanes, sums, strict=True)):
            for bias in biases:
                e.store(value, bias, e.plus(c, j * LANES), n)

    def terms(r: Index, c: Index, n: int) -> list[Value]:
        return [e.load(grads, e.plus(e.times(r, g.gates), c), n)]

    sum_rows(e, g.rows, g.gates, 1, terms, finish)
