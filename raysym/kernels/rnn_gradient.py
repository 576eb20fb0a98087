"""The recurrent op backward: one sweep back in time, then the products of all steps at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from raysym.kernels.emit import LANES, Emit, Index, Value
from raysym.kernels.gate_math import tanh
from raysym.kernels.gemm import multiply, product_into
from raysym.kernels.moving import copy, fill, pack_columns
from raysym.kernels.reduce import sum_rows
from raysym.kernels.rnn_layout import Recurrence, Track, chosen, is_valid, only, placed
from raysym.kernels.shared import groups, meet, own, shared_columns, shared_nest
from raysym.kernels.specs import shared_maker


class _Arrays(NamedTuple):
    """Arguments of the kernel: lists have an array for each part of a state."""

    dy: Value
    ends: Sequence[Value]  # gradients of the final states, if these are shown
    x: Value
    parameters: Value
    first: Sequence[Value]
    lengths: Value | None
    states: Sequence[Value]
    gates: Value | None
    masks: Value | None
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
            d = _direction(e, g, a, layer * g.directions + side, e.at(dy, side * g.shown))
            _start(e, g, a, d)
            _steps_back(e, g, a, d)
            _weight_gradients(e, g, a, d, below)
            _input_gradient(e, g, a, d, down, onto=side > 0)
            meet(e)
        if layer and a.masks is not None:
            _through_mask(e, g, a, layer - 1, down)
        dy = down


def _arrays(e: Emit, g: Recurrence) -> _Arrays:
    states = g.cell.states
    counts = (1, states * g.shows_states, 1, 1, states, bool(g.lengths), states,
              bool(g.cell.kept), g.drop is not None, 1, 1, states, 1)  # fmt: skip
    number, groups = 0, []
    for count in counts:
        groups.append([e.arg(number + i) for i in range(count)])
        number += count
    (dy,), ends, (x,), (w,), first, lengths, kept, gates, masks, (dx,), (dw,), dfirst, (space,) = (
        groups
    )
    parts = placed(e, space, g.backward_parts())
    parts["product"] = own(e, parts["product"], g.backward_parts()["product"])
    return _Arrays(
        dy, ends, x, w, first, only(lengths), kept, only(gates), only(masks), dx, dw, dfirst, parts
    )


def _below(e: Emit, g: Recurrence, a: _Arrays, layer: int) -> Value:
    """What a layer has seen: states of the layer before it, both directions side by side."""
    if layer == 0:
        return a.x
    size, before = g.steps * g.states[0], (layer - 1) * g.directions
    if not g.shows_changed():
        return e.at(a.states[0], before * size)

    def row(time: Index, sample: Index) -> None:
        r = e.plus(e.times(time, g.batch), sample)
        valid = is_valid(e, g, a.lengths, sample, time)
        for side in range(g.directions):
            source = e.at(a.states[0], (before + side) * size, e.times(r, g.shown))
            at = e.plus(e.times(r, g.width), side * g.shown)
            mask = a.masks and e.at(a.masks, (layer - 1) * g.masked, at)
            _show_again(e, g, valid, source, mask, e.at(a.space["below"], at))

    shared_nest(e, (g.steps, g.batch), row)
    return a.space["below"]


def _show_again(
    e: Emit, g: Recurrence, valid: Value | None, source: Value, mask: Value | None, target: Value
) -> None:
    def some(j: Index, n: int) -> None:
        value = chosen(e, valid, e.load(source, j, n), e.zero)
        if mask is not None:
            value = e.b.fmul(value, e.load(mask, j, n))
        e.store(value, target, j, n)

    e.columns(g.shown, some)


def _through_mask(e: Emit, g: Recurrence, a: _Arrays, number: int, dx: Value) -> None:
    mask = e.at(a.masks, number * g.masked)
    shared_columns(e, g.masked, lambda i, n: e.store(
        e.b.fmul(e.load(dx, i, n), e.load(mask, i, n)), dx, i, n))  # fmt: skip
    meet(e)


def _direction(e: Emit, g: Recurrence, a: _Arrays, k: int, dy: Value) -> _Direction:
    tracks = [
        Track(e.at(first, k * size), e.at(states, k * g.steps * size), size)
        for first, states, size in zip(a.first, a.states, g.states, strict=True)
    ]
    kept = a.gates and e.at(a.gates, k * g.rows * g.units * g.cell.kept)
    running = [e.at(grad, k * size) for grad, size in zip(a.dfirst, g.states, strict=True)]
    return _Direction(k, tracks, kept, dy, running)


def _start(e: Emit, g: Recurrence, a: _Arrays, d: _Direction) -> None:
    """Gradients of the final states."""
    for i, (running, size) in enumerate(zip(d.dstates, g.states, strict=True)):
        if g.shows_states:
            copy(e, e.at(a.ends[i], d.k * size), running, size)
        else:
            fill(e, running, size)


# ----- steps


class _Step(NamedTuple):
    """Arrays of one step, all samples."""

    time: Index
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
    _, w_own, w_projection = (e.at(a.parameters, at) for at in g.weights(d.k))
    pack_columns(e, w_own, g.shown, panels, g.gates, g.shown)
    if g.projection:
        pack_columns(e, w_projection, g.units, a.space["projection"], g.shown, g.units)
    meet(e)
    # Of samples that are over, h keeps its gradient: what comes through the gates, 0, is added.
    onto = g.cell.passes or bool(g.lengths)

    def step(back: Index, first: Index) -> None:
        s = _step(e, g, a, d, e.plus(e.times(back, -1), g.steps - 1))
        if g.projection:
            _unproject(e, g, a, s, first, rows)
        e.nest((rows,), lambda r: _sample_back(e, g, a, e.plus(first, r), s))
        left = e.at(s.grads[-1], e.times(first, g.gates))
        running = e.at(d.dstates[0], e.times(first, g.shown))
        multiply(e, shape, left, panels, running, onto=onto)

    def samples(i: Index) -> None:
        e.nest((g.steps,), lambda back: step(back, e.times(i, rows)))

    shared_nest(e, (g.batch // rows,), samples)
    meet(e)


def _step(e: Emit, g: Recurrence, a: _Arrays, d: _Direction, number: Index) -> _Step:
    time = g.time(e, d.k, number)
    return _Step(
        time,
        d.kept and e.at(d.kept, e.times(time, g.batch * g.units * g.cell.kept)),
        [track.before(e, g, d.k, number) for track in d.tracks],
        [track.at(e, time) for track in d.tracks],
        e.at(d.dy, e.times(time, g.batch * g.width)),
        d.dstates,
        [e.at(grad, e.times(time, g.batch * g.gates)) for grad in _gate_gradients(g, a)],
    )


def _unproject(e: Emit, g: Recurrence, a: _Arrays, s: _Step, first: Index, rows: int) -> None:
    """The gradient of what the units have made, from that of h, which is kept for the weights."""
    dh = e.at(a.space["dh"], e.times(s.time, g.states[0]))

    def sample(i: Index) -> None:
        r = e.plus(first, i)
        valid = is_valid(e, g, a.lengths, r, s.time)

        def some(j: Index, n: int) -> None:
            at = e.plus(e.times(r, g.shown), j)
            before = e.load(s.dstates[0], at, n)
            whole = e.b.fadd(before, e.load(s.dy, e.plus(e.times(r, g.width), j), n))
            e.store(chosen(e, valid, whole, e.zero), dh, at, n)
            e.store(chosen(e, valid, e.zero, before), s.dstates[0], at, n)

        e.columns(g.shown, some)

    e.nest((rows,), sample)
    made = e.at(a.space["dmade"], e.times(first, g.units))
    shape, left = g.projected_back()._replace(m=rows), e.at(dh, e.times(first, g.shown))
    multiply(e, shape, left, a.space["projection"], made, onto=False)


def _sample_back(e: Emit, g: Recurrence, a: _Arrays, r: Index, s: _Step) -> None:
    """The cell of one sample, some units at a time."""
    row, kept = e.times(r, g.units), s.kept and e.at(s.kept, e.times(r, g.cell.kept * g.units))
    targets = [e.at(grad, e.times(r, g.gates)) for grad in s.grads]
    valid = is_valid(e, g, a.lengths, r, s.time)
    first = 1 if g.projection else 0  # of the states whose gradients are done here

    def units(j: Index, n: int) -> None:
        at = e.plus(row, j)
        gates = [e.load(kept, e.plus(j, i * g.units), n) for i in range(g.cell.kept)]
        old, new, running = (
            [e.zero] * first + [e.load(p, at, n) for p in ps[first:]]
            for ps in (s.old, s.new, s.dstates)
        )
        live = [_live(e, g, a, s, r, j, n, running[0], valid)]
        live += [chosen(e, valid, grad, e.zero) for grad in running[1:]]
        back = g.cell.back(e, gates, old, new, live)
        for target, values in zip(targets, (back.to_inputs, back.to_own), strict=False):
            for i, value in enumerate(values):
                e.store(value, target, e.plus(j, i * g.units), n)
        for i, value in list(enumerate(back.states))[first:]:
            if value is not None or g.lengths:
                made = chosen(e, valid, e.zero if value is None else value, running[i])
                e.store(made, s.dstates[i], at, n)

    e.columns(g.units, units)


def _live(
    e: Emit, g: Recurrence, a: _Arrays, s: _Step, r: Index, j: Index, n: int, running: Value,
    valid: Value | None,
) -> Value:  # fmt: skip
    """The gradient of what the units have made; 0 where the sample is over."""
    if g.projection:
        return e.load(a.space["dmade"], e.plus(e.times(r, g.units), j), n)
    whole = e.b.fadd(running, e.load(s.dy, e.plus(e.times(r, g.width), j), n))
    return chosen(e, valid, whole, e.zero)


# ----- products of all steps


def _weight_gradients(e: Emit, g: Recurrence, a: _Arrays, d: _Direction, x: Value) -> None:
    """Gradients of weights and biases from those of the gates."""
    grads, rest = _gate_gradients(g, a), a.space["product"]
    to_inputs, to_own, _, to_projection = g.back_products(d.k)
    w_in, w_own, w_projection = (e.at(a.dparameters, at) for at in g.weights(d.k))
    product_into(e, to_inputs, grads[0], x, None, w_in, rest)
    product_into(e, to_own, grads[-1], _before_all(e, g, a, d), None, w_own, rest)
    if g.projection:
        made = _made_again(e, g, a, d)
        product_into(e, to_projection, a.space["dh"], made, None, w_projection, rest)
    biases = [e.at(a.dparameters, at) for at in g.biases(d.k)]
    for i, grad in enumerate(grads):
        _sum_samples(e, g, grad, biases[i:] if grad is grads[-1] else biases[:1])


def _made_again(e: Emit, g: Recurrence, a: _Arrays, d: _Direction) -> Value:
    """What the units of an LSTM have made of all steps, ``o tanh(c)``."""
    made, c = a.space["made"], d.tracks[1].states

    def row(r: Index) -> None:
        at = e.times(r, g.units)
        o = e.at(d.kept, e.times(r, g.cell.kept * g.units), 3 * g.units)

        def units(j: Index, n: int) -> None:
            shown = tanh(e, e.load(c, e.plus(at, j), n))
            e.store(e.b.fmul(e.load(o, j, n), shown), made, e.plus(at, j), n)

        e.columns(g.units, units)

    shared_nest(e, (g.rows,), row)
    meet(e)
    return made


def _before_all(e: Emit, g: Recurrence, a: _Arrays, d: _Direction) -> Value:
    """What every step has met of h."""
    size = g.states[0]
    before, h, later = a.space["before"], d.tracks[0], (g.steps - 1) * size
    runs_back = d.k % g.directions
    copy(e, h.first, e.at(before, later if runs_back else 0), size)
    if later:
        source, target = (size, 0) if runs_back else (0, size)
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
