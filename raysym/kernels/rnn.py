"""The recurrent op forward: all layers, directions and steps in one kernel.

Inputs of a layer are multiplied for all steps at once; a step multiplies h and runs the cell.
Layers show their states in two arrays in turn, the last one in the output. Without a gradient to
come, states are overwritten from step to step.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from raysym.kernels.emit import Emit, Index, Value
from raysym.kernels.gemm import multiply, product_into
from raysym.kernels.moving import copy, pack_rows
from raysym.kernels.rnn_layout import Recurrence, Track, placed
from raysym.kernels.shared import groups, meet, own, shared_columns, shared_nest
from raysym.kernels.specs import shared_maker


class _Arrays(NamedTuple):
    """Arguments of the kernel: lists have an array for each part of a state."""

    x: Value
    parameters: Value
    first: Sequence[Value]
    output: Value
    last: Sequence[Value]  # none where final states are not shown
    states: Sequence[Value]  # those kept for the gradient, if any
    gates: Value | None  # the same
    space: dict[str, Value]


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
    """Arguments: data, parameters, states, output, [last states,] [kept ones, gates,] space."""
    g = Recurrence(*fields)  # type: ignore[arg-type]
    a = _arrays(e, g, keeps)
    x = a.x
    for layer in range(g.layers):
        is_last_in_turn = (g.layers - layer) % 2 == 1
        shown = a.output if is_last_in_turn else a.space["between"]
        for side in range(g.directions):
            k = layer * g.directions + side
            direction = _direction(e, g, a, k, e.at(shown, side * g.units))
            _input_products(e, g, a, direction, x)
            _steps(e, g, a, direction)
            if keeps and g.shows_states:
                for track, last in zip(direction.tracks, a.last, strict=True):
                    copy(e, track.at(e, g.last(k)), e.at(last, k * g.cells), g.cells)
        x = shown


def _arrays(e: Emit, g: Recurrence, keeps: bool) -> _Arrays:
    states = g.cell.states
    counts = (1, 1, states, 1, states * g.shows_states, states * keeps,
              bool(keeps and g.cell.kept), 1)  # fmt: skip
    number, groups = 0, []
    for count in counts:
        groups.append([e.arg(number + i) for i in range(count)])
        number += count
    (x,), (parameters,), first, (output,), last, kept, gates, (space,) = groups
    parts = placed(e, space, g.forward_parts(keeps))
    parts["product"] = own(e, parts["product"], g.forward_parts(keeps)["product"])
    return _Arrays(x, parameters, first, output, last, kept, gates[0] if gates else None, parts)


def _direction(e: Emit, g: Recurrence, a: _Arrays, k: int, shown: Value) -> _Direction:
    kept = a.gates and e.at(a.gates, k * g.rows * g.cell.kept * g.units)
    in_place = kept is not None and g.keeps_gates_in_place()
    products = kept if in_place else a.space["gates"]
    return _Direction(k, products, a.space["own"], kept, _tracks(e, g, a, k), shown)


def _tracks(e: Emit, g: Recurrence, a: _Arrays, k: int) -> list[Track]:
    """Where the states of number `k` are and will be."""
    first = [e.at(start, k * g.cells) for start in a.first]
    if a.states:
        states = [e.at(kept, k * g.rows * g.units) for kept in a.states]
        return [Track(*pair, g.cells) for pair in zip(first, states, strict=True)]
    if a.last:
        places = [e.at(last, k * g.cells) for last in a.last]
    else:
        places = [e.at(a.space["states"], i * g.cells) for i in range(g.cell.states)]
    for start, place in zip(first, places, strict=True):
        copy(e, start, place, g.cells)
    return [Track(place, place, 0) for place in places]


def _input_products(e: Emit, g: Recurrence, a: _Arrays, d: _Direction, x: Value) -> None:
    """The inputs' part of all gates; then the recurrent weights go into panels."""
    bias, second = (e.at(a.parameters, at) for at in g.biases(d.k))
    w_in, w_own = (e.at(a.parameters, at) for at in g.weights(d.k))
    if not g.cell.is_apart:
        bias = _sum(e, bias, second, a.space["bias"], g.gates)
    product_into(e, g.input_product(d.k), x, w_in, bias, d.products, a.space["product"])
    pack_rows(e, w_own, g.units, a.space["panels"], g.units, g.gates)
    meet(e)


def _sum(e: Emit, first: Value, second: Value, made: Value, count: int) -> Value:
    def add(i: Index, n: int) -> None:
        e.store(e.b.fadd(e.load(first, i, n), e.load(second, i, n)), made, i, n)

    shared_columns(e, count, add)
    meet(e)
    return made


class _Step(NamedTuple):
    """Arrays of one step, all samples: products, kept gates, states before and after."""

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
        time = g.time(e, d.k, number)
        s = _Step(
            e.at(d.products, e.times(time, g.batch * g.gates)),
            d.own,
            d.kept and e.at(d.kept, e.times(time, g.cells * g.cell.kept)),
            [track.before(e, g, d.k, number) for track in d.tracks],
            [track.at(e, time) for track in d.tracks],
            e.at(d.shown, e.times(time, g.batch * g.width)),
        )
        h, at = e.at(s.old[0], e.times(first, g.units)), e.times(first, g.gates)
        if g.cell.is_apart:
            multiply(e, shape, h, panels, e.at(s.own, at), onto=False, bias=own_bias)
        else:
            multiply(e, shape, h, panels, e.at(s.products, at), onto=True)
        e.nest((rows,), lambda r: _sample(e, g, e.plus(first, r), s))

    def samples(i: Index) -> None:
        e.nest((g.steps,), lambda number: step(number, e.times(i, rows)))

    shared_nest(e, (g.batch // rows,), samples)
    meet(e)


def _sample(e: Emit, g: Recurrence, r: Index, s: _Step) -> None:
    """The cell of one sample, some units at a time."""
    products, own = (e.at(rows, e.times(r, g.gates)) for rows in (s.products, s.own))
    shown = e.at(s.shown, e.times(r, g.width))

    def units(j: Index, n: int) -> None:
        places = [e.plus(j, i * g.units) for i in range(g.cell.gates)]
        gates = [e.load(products, place, n) for place in places]
        of_h = [e.load(own, place, n) for place in places] if g.cell.is_apart else []
        at = e.plus(e.times(r, g.units), j)
        made = g.cell.forward(e, gates, of_h, [e.load(old, at, n) for old in s.old])
        if s.kept is not None:
            row = e.at(s.kept, e.times(r, g.cell.kept * g.units))
            for i, value in enumerate(made.kept):
                e.store(value, row, e.plus(j, i * g.units), n)
        for value, place in zip(made.states, s.new, strict=True):
            e.store(value, place, at, n)
        e.store(made.states[0], shown, j, n)

    e.columns(g.units, units)
