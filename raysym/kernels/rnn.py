"""The recurrent op forward: all layers, directions and steps in one kernel.

Inputs of a layer are multiplied for all steps at once; a step multiplies h and runs the cell.
Layers show their states in two arrays in turn, the last one in the output. Without a gradient to
come, states are overwritten from step to step. Samples that are over keep theirs and show zeros.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from raysym.kernels.emit import Emit, Index, Value
from raysym.kernels.gemm import multiply, product_into
from raysym.kernels.moving import copy, pack_rows
from raysym.kernels.philox import BLOCKS, WORDS, draw
from raysym.kernels.rnn_layout import Recurrence, Track, chosen, is_valid, only, placed
from raysym.kernels.shared import groups, meet, own, shared_columns, shared_nest
from raysym.kernels.specs import shared_maker
from raysym.kernels.typed import like, load


class _Arrays(NamedTuple):
    """Arguments of the kernel: lists have an array for each part of a state."""

    x: Value
    parameters: Value
    first: Sequence[Value]
    lengths: Value | None
    output: Value
    last: Sequence[Value]  # none where final states are not shown
    states: Sequence[Value]  # those kept for the gradient, if any
    gates: Value | None  # the same
    masks: Value | None  # of what is dropped between layers
    space: dict[str, Value]
    key: Value | None  # of the random stream


class _Direction(NamedTuple):
    """One layer in one direction: its number, and where its rows lie."""

    k: int
    products: Value  # with the inputs
    own: Value  # products of one step with h, where they stay apart
    kept: Value | None
    tracks: Sequence[Track]
    shown: Value


@shared_maker
def rnn_forward(e: Emit, fields: tuple[str | int, ...], keeps: bool) -> None:
    """Arguments: data, parameters, states, [lengths,] output, [last states,] [kept ones, gates,
    masks,] space, [key of the random stream]."""
    g = Recurrence(*fields)  # type: ignore[arg-type]
    a = _arrays(e, g, keeps)
    x = a.x
    for layer in range(g.layers):
        is_last_in_turn = (g.layers - layer) % 2 == 1
        shown = a.output if is_last_in_turn else a.space["between"]
        if layer and g.drop is not None:
            _drop(e, g, a, g.drop, layer - 1, x)
        for side in range(g.directions):
            k = layer * g.directions + side
            direction = _direction(e, g, a, k, e.at(shown, side * g.shown))
            _input_products(e, g, a, direction, x)
            _steps(e, g, a, direction)
            if keeps and g.shows_states:
                for track, last, size in zip(direction.tracks, a.last, g.states, strict=True):
                    copy(e, track.at(e, g.last(k)), e.at(last, k * size), size)
        x = shown


def _arrays(e: Emit, g: Recurrence, keeps: bool) -> _Arrays:
    states, drops = g.cell.states, g.drop is not None
    counts = (1, 1, states, bool(g.lengths), 1, states * g.shows_states, states * keeps,
              bool(keeps and g.cell.kept), drops, 1, drops)  # fmt: skip
    number, groups = 0, []
    for count in counts:
        groups.append([e.arg(number + i) for i in range(count)])
        number += count
    (x,), (parameters,), first, lengths, (output,), last, kept, gates, masks, (space,), key = groups
    parts = placed(e, space, g.forward_parts(keeps))
    parts["product"] = own(e, parts["product"], g.forward_parts(keeps)["product"])
    return _Arrays(
        x, parameters, first, only(lengths), output, last, kept, only(gates), only(masks), parts,
        only(key),
    )  # fmt: skip


def _drop(e: Emit, g: Recurrence, a: _Arrays, p: float, number: int, x: Value) -> None:
    """Draw a mask and multiply what the next layer sees with it."""
    count, each = g.masked, 2 * WORDS
    first = number * count
    start = first // each
    turns = -(-(first + count - start * each) // (BLOCKS * each))
    draw(e, "float32", a.space["drawn"], a.key, start, turns)
    meet(e)
    scale = 1 / (1 - p) if p < 1 else 0.0
    mask = e.at(a.masks, first)

    def some(i: Index, n: int) -> None:
        drawn = load(e, "float32", a.space["drawn"], e.plus(i, first - start * each), 1, n)
        with e.numbers("float32"):
            is_kept = e.b.fcmp_ordered(">=", drawn, like(e, drawn, p))
        factor = e.b.select(is_kept, e.number(scale), e.zero)
        e.store(factor, mask, i, n)
        e.store(e.b.fmul(e.load(x, i, n), factor), x, i, n)

    shared_columns(e, count, some)
    meet(e)


def _direction(e: Emit, g: Recurrence, a: _Arrays, k: int, shown: Value) -> _Direction:
    kept = a.gates and e.at(a.gates, k * g.rows * g.cell.kept * g.units)
    in_place = kept is not None and g.keeps_gates_in_place()
    products = kept if in_place else a.space["gates"]
    return _Direction(k, products, a.space["own"], kept, _tracks(e, g, a, k), shown)


def _tracks(e: Emit, g: Recurrence, a: _Arrays, k: int) -> list[Track]:
    """Where the states of number `k` are and will be."""
    sizes = g.states
    first = [e.at(start, k * size) for start, size in zip(a.first, sizes, strict=True)]
    if a.states:
        states = [e.at(kept, k * g.steps * n) for kept, n in zip(a.states, sizes, strict=True)]
        return [Track(*each) for each in zip(first, states, sizes, strict=True)]
    if a.last:
        places = [e.at(last, k * size) for last, size in zip(a.last, sizes, strict=True)]
    else:
        places = [e.at(a.space["states"], sum(sizes[:i])) for i in range(g.cell.states)]
    for start, place, size in zip(first, places, sizes, strict=True):
        copy(e, start, place, size)
    return [Track(place, place, 0) for place in places]


def _input_products(e: Emit, g: Recurrence, a: _Arrays, d: _Direction, x: Value) -> None:
    """The inputs' part of all gates; then the recurrent weights go into panels."""
    bias, second = (e.at(a.parameters, at) for at in g.biases(d.k))
    w_in, w_own, w_projection = (e.at(a.parameters, at) for at in g.weights(d.k))
    if not g.cell.is_apart:
        bias = _sum(e, bias, second, a.space["bias"], g.gates)
    product_into(e, g.input_product(d.k), x, w_in, bias, d.products, a.space["product"])
    pack_rows(e, w_own, g.shown, a.space["panels"], g.shown, g.gates)
    if g.projection:
        pack_rows(e, w_projection, g.units, a.space["projection"], g.units, g.shown)
    meet(e)


def _sum(e: Emit, first: Value, second: Value, made: Value, count: int) -> Value:
    def add(i: Index, n: int) -> None:
        e.store(e.b.fadd(e.load(first, i, n), e.load(second, i, n)), made, i, n)

    shared_columns(e, count, add)
    meet(e)
    return made


class _Step(NamedTuple):
    """Arrays of one step, all samples: products, kept gates, states before and after."""

    time: Index
    products: Value
    own: Value
    kept: Value | None
    old: Sequence[Value]
    new: Sequence[Value]
    shown: Value


def _steps(e: Emit, g: Recurrence, a: _Arrays, d: _Direction) -> None:
    rows, panels = g.batch // groups(e, g.batch), a.space["panels"]
    shape = g.own_product()._replace(m=rows)
    own_bias = e.at(a.parameters, g.biases(d.k)[1])

    def step(number: Index, first: Index) -> None:
        s = _step(e, g, d, number)
        h, at = e.at(s.old[0], e.times(first, g.shown)), e.times(first, g.gates)
        if g.cell.is_apart:
            multiply(e, shape, h, panels, e.at(s.own, at), onto=False, bias=own_bias)
        else:
            multiply(e, shape, h, panels, e.at(s.products, at), onto=True)
        e.nest((rows,), lambda r: _sample(e, g, a, e.plus(first, r), s))
        if g.projection:
            _project(e, g, a, s, first, rows)

    def samples(i: Index) -> None:
        e.nest((g.steps,), lambda number: step(number, e.times(i, rows)))

    shared_nest(e, (g.batch // rows,), samples)
    meet(e)


def _step(e: Emit, g: Recurrence, d: _Direction, number: Index) -> _Step:
    time = g.time(e, d.k, number)
    return _Step(
        time,
        e.at(d.products, e.times(time, g.batch * g.gates)),
        d.own,
        d.kept and e.at(d.kept, e.times(time, g.batch * g.units * g.cell.kept)),
        [track.before(e, g, d.k, number) for track in d.tracks],
        [track.at(e, time) for track in d.tracks],
        e.at(d.shown, e.times(time, g.batch * g.width)),
    )


def _sample(e: Emit, g: Recurrence, a: _Arrays, r: Index, s: _Step) -> None:
    """The cell of one sample, some units at a time."""
    products, own = (e.at(rows, e.times(r, g.gates)) for rows in (s.products, s.own))
    valid = is_valid(e, g, a.lengths, r, s.time)
    first = 1 if g.projection else 0  # of the states that are done here

    def units(j: Index, n: int) -> None:
        places = [e.plus(j, i * g.units) for i in range(g.cell.gates)]
        gates = [e.load(products, place, n) for place in places]
        of_h = [e.load(own, place, n) for place in places] if g.cell.is_apart else []
        at = e.plus(e.times(r, g.units), j)
        old = [e.zero] * first + [e.load(p, at, n) for p in s.old[first:]]
        made = g.cell.forward(e, gates, of_h, old)
        if s.kept is not None:
            row = e.at(s.kept, e.times(r, g.cell.kept * g.units))
            for i, value in enumerate(made.kept):
                e.store(value, row, e.plus(j, i * g.units), n)
        for value, before, place in list(zip(made.states, old, s.new, strict=True))[first:]:
            e.store(chosen(e, valid, value, before), place, at, n)
        if g.projection:
            e.store(made.states[0], a.space["made"], at, n)
        else:
            _show(e, g, s, r, j, n, made.states[0], valid)

    e.columns(g.units, units)


def _show(
    e: Emit, g: Recurrence, s: _Step, r: Index, j: Index, n: int, h: Value, valid: Value | None
) -> None:
    e.store(chosen(e, valid, h, e.zero), s.shown, e.plus(e.times(r, g.width), j), n)


def _project(e: Emit, g: Recurrence, a: _Arrays, s: _Step, first: Index, rows: int) -> None:
    """The next h from what the units have made."""
    made, h = (e.at(a.space[name], e.times(first, n)) for name, n in
               (("made", g.units), ("h", g.shown)))  # fmt: skip
    shape = g.projected()._replace(m=rows)
    multiply(e, shape, made, a.space["projection"], h, onto=False)

    def sample(i: Index) -> None:
        r = e.plus(first, i)
        valid = is_valid(e, g, a.lengths, r, s.time)

        def some(j: Index, n: int) -> None:
            at = e.plus(e.times(r, g.shown), j)
            value = e.load(a.space["h"], at, n)
            e.store(chosen(e, valid, value, e.load(s.old[0], at, n)), s.new[0], at, n)
            _show(e, g, s, r, j, n, value, valid)

        e.columns(g.shown, some)

    e.nest((rows,), sample)
