"""The LSTM op: all layers and steps in one kernel, forward and backward.

Inputs of a layer are multiplied for all steps at once; a step adds ``h W^T`` and runs the cell in
place. What the gradient needs lies as the op page says: states ``(L, T, N, H)``, activated gates
``(L, T, N, 4 H)`` in the order i, f, g, o. One direction, no projection, dropout or lengths.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from raysym.kernels import vector_math as vm
from raysym.kernels.emit import LANES, Emit, Index, Value
from raysym.kernels.gemm import multiply, product_into
from raysym.kernels.moving import PANEL, copy, fill, pack_columns, pack_rows
from raysym.kernels.product import Product
from raysym.kernels.reduce import sum_rows
from raysym.kernels.shared import groups, meet, own, shared_columns, shared_nest
from raysym.kernels.specs import shared_maker


class Lstm(NamedTuple):
    """T steps, N samples, I features, H units, L layers; whether final states are outputs."""

    steps: int
    batch: int
    features: int
    units: int
    layers: int
    shows_states: bool

    @property
    def cells(self) -> int:
        """Numbers of one state."""
        return self.batch * self.units

    @property
    def rows(self) -> int:
        """Samples of all steps."""
        return self.steps * self.batch

    def inputs(self, layer: int) -> int:
        """Features that a layer sees."""
        return self.units if layer else self.features

    def weights(self, layer: int) -> tuple[int, int]:
        """Where a layer's two matrices start in the packed parameters."""
        before = sum(4 * self.units * (self.inputs(k) + self.units) for k in range(layer))
        return before, before + 4 * self.units * self.inputs(layer)

    def biases(self, layer: int) -> int:
        """Where a layer's two biases start."""
        return self.weights(self.layers)[0] + 8 * self.units * layer

    def input_product(self, layer: int) -> Product:
        """``gates = x W^T + bias`` of all steps."""
        return Product(self.rows, 4 * self.units, self.inputs(layer), turned_b=True, bias=True)

    def panels(self) -> int:
        """Floats of the packed recurrent weights, either way round."""
        wide = -(-4 * self.units // PANEL) * PANEL * self.units
        return max(wide, -(-self.units // PANEL) * PANEL * 4 * self.units)

    def back_products(self, layer: int) -> tuple[Product, Product, Product]:
        """Gradients of the input weights, the recurrent weights, and the inputs."""
        gates, inputs = 4 * self.units, self.inputs(layer)
        return (
            Product(gates, inputs, self.rows, turned_a=True),
            Product(gates, self.units, self.rows, turned_a=True),
            Product(self.rows, inputs, gates),
        )

    def product_space(self) -> int:
        """Workspace of the products of inputs, in floats."""
        return max(self.input_product(k).workspace() for k in range(self.layers))

    def back_product_space(self) -> int:
        """Workspace of the products of gradients, in floats."""
        return max(p.workspace() for k in range(self.layers) for p in self.back_products(k))

    def forward_space(self) -> int:
        """Workspace of the forward kernel, in floats."""
        return 4 * self.units + self.panels() + self.product_space()

    def backward_space(self) -> int:
        """Workspace of the backward kernel, in floats."""
        return 6 * self.rows * self.units + self.panels() + self.back_product_space()


@shared_maker
def lstm_forward(e: Emit, fields: tuple[int, ...], keeps: bool) -> None:
    """Arguments: data, parameters, states, cells, output, [last states,] [kept ones,] space.

    Without `keeps`, states and gates lie in front of the rest of the workspace.
    """
    g = Lstm(*fields)  # type: ignore[arg-type]
    x, parameters, first_h, first_c, output = (e.arg(i) for i in range(5))
    at = 5 + 2 * g.shows_states
    size = g.rows * g.units
    if keeps:
        all_h, all_c, gates, space = (e.arg(at + i) for i in range(4))
    else:
        all_h, all_c, gates, space = (e.at(e.arg(at), i * g.layers * size) for i in (0, 1, 2, 6))
    for layer in range(g.layers):
        h, c = e.at(all_h, layer * size), e.at(all_c, layer * size)
        own = e.at(gates, layer * 4 * size)
        start_h, start_c = e.at(first_h, layer * g.cells), e.at(first_c, layer * g.cells)
        _input_gates(e, g, layer, x, parameters, own, space)
        meet(e)
        _steps_forward(e, g, (own, h, c), (start_h, start_c), e.at(space, 4 * g.units))
        meet(e)
        if g.shows_states:
            last = (g.steps - 1) * g.cells
            copy(e, e.at(h, last), e.at(e.arg(5), layer * g.cells), g.cells)
            copy(e, e.at(c, last), e.at(e.arg(6), layer * g.cells), g.cells)
        x = h
    copy(e, x, output, size)


def _input_gates(
    e: Emit, g: Lstm, layer: int, x: Value, parameters: Value, gates: Value, space: Value
) -> None:
    """The inputs' part of all gates; then the recurrent weights go into panels."""
    wide = 4 * g.units
    first = e.at(parameters, g.biases(layer))
    second = e.at(first, wide)
    shared_columns(
        e,
        wide,
        lambda i, n: e.store(e.b.fadd(e.load(first, i, n), e.load(second, i, n)), space, i, n),
    )
    meet(e)
    w_in, w_own = g.weights(layer)
    rest = own(e, e.at(space, wide + g.panels()), g.product_space())
    product_into(e, g.input_product(layer), x, e.at(parameters, w_in), space, gates, rest)
    pack_rows(e, e.at(parameters, w_own), g.units, e.at(space, wide), g.units, wide)


def _steps_forward(
    e: Emit, g: Lstm, arrays: tuple[Value, Value, Value], start: tuple[Value, Value], panels: Value
) -> None:
    rows = g.batch // groups(e, g.batch)
    shape = Product(rows, 4 * g.units, g.units, turned_b=True)

    def samples(i: Index) -> None:
        at = e.times(i, rows * g.units)
        gates = e.at(arrays[0], e.times(i, 4 * rows * g.units))
        h, c, first_h, first_c = (e.at(array, at) for array in (*arrays[1:], *start))

        def step(t: Index) -> None:
            old_h, old_c = _before(e, g, t, h, first_h), _before(e, g, t, c, first_c)
            now = e.at(gates, e.times(t, 4 * g.cells))
            multiply(e, shape, old_h, panels, now, onto=True)
            new_h, new_c = e.at(h, e.times(t, g.cells)), e.at(c, e.times(t, g.cells))
            e.nest((rows,), lambda r: _cell(e, g, r, now, old_c, new_h, new_c))

        e.nest((g.steps,), step)

    shared_nest(e, (g.batch // rows,), samples)


def _before(e: Emit, g: Lstm, t: Index, states: Value, start: Value) -> Value:
    """The state before step t."""
    if isinstance(t, int):
        return start
    earlier = e.at(states, e.times(t, g.cells), -g.cells)
    return e.b.select(e.b.icmp_signed("==", t, e.const(0)), start, earlier)


def _cell(
    e: Emit, g: Lstm, r: Index, gates: Value, old_c: Value, new_h: Value, new_c: Value
) -> None:
    own, at = e.at(gates, e.times(r, 4 * g.units)), e.times(r, g.units)

    def units(j: Index, n: int) -> None:
        raw = [e.load(own, e.plus(j, k * g.units), n) for k in range(4)]
        i, f, o = (vm.sigmoid(e, raw[k]) for k in (0, 1, 3))
        new = vm.tanh(e, raw[2])
        c = e.fma(f, e.load(old_c, e.plus(at, j), n), e.b.fmul(i, new))
        for k, value in enumerate((i, f, new, o)):
            e.store(value, own, e.plus(j, k * g.units), n)
        e.store(c, new_c, e.plus(at, j), n)
        e.store(e.b.fmul(o, vm.tanh(e, c)), new_h, e.plus(at, j), n)

    e.columns(g.units, units)


# ----- backward


class _Kept(NamedTuple):
    """Arrays of one layer: states and gates, first states, and the running gradients."""

    h: Value
    c: Value
    gates: Value
    start_h: Value
    start_c: Value
    dh: Value
    dc: Value

    def of_rows(self, e: Emit, first: Index, units: int) -> _Kept:
        """The same from a row of the batch on."""
        at = e.times(first, units)
        moved = _Kept(*(e.at(array, at) for array in self))
        return moved._replace(gates=e.at(self.gates, e.times(at, 4)))


@shared_maker
def lstm_backward(e: Emit, fields: tuple[int, ...]) -> None:
    """Arguments: gradients of the outputs, inputs of the op, kept values, results, space.

    Results are the gradients of data, parameters, first states and first cells.
    """
    g = Lstm(*fields)  # type: ignore[arg-type]
    heads = 1 + 2 * g.shows_states
    x, parameters, first_h, first_c = (e.arg(heads + i) for i in range(4))
    all_h, all_c, gates = (e.arg(heads + 4 + i) for i in range(3))
    dx, dparameters, dh, dc, space = (e.arg(heads + 7 + i) for i in range(5))
    size = g.rows * g.units
    dy = e.arg(0)
    for layer in reversed(range(g.layers)):
        at, cell = layer * size, layer * g.cells
        kept = _Kept(
            e.at(all_h, at), e.at(all_c, at), e.at(gates, 4 * at), e.at(first_h, cell),
            e.at(first_c, cell), e.at(dh, cell), e.at(dc, cell),
        )  # fmt: skip
        for i, running in enumerate((kept.dh, kept.dc)):
            if g.shows_states:
                copy(e, e.at(e.arg(1 + i), cell), running, g.cells)
            else:
                fill(e, running, g.cells)
        below = e.at(all_h, at - size) if layer else x
        target = e.at(space, 5 * size) if layer else dx
        _steps_back(e, g, layer, parameters, kept, dy, space)
        _gradients(e, g, layer, below, parameters, kept, dparameters, target, space)
        dy = target


def _steps_back(
    e: Emit, g: Lstm, layer: int, parameters: Value, kept: _Kept, dy: Value, space: Value
) -> None:
    """Gradients of all gates, into the first part of the workspace."""
    panels = e.at(space, 6 * g.rows * g.units)
    own = e.at(parameters, g.weights(layer)[1])
    pack_columns(e, own, g.units, panels, 4 * g.units, g.units)
    meet(e)
    rows = g.batch // groups(e, g.batch)
    shape = Product(rows, g.units, 4 * g.units, turned_b=True)

    def samples(i: Index) -> None:
        own, first = kept.of_rows(e, e.times(i, rows), g.units), e.times(i, rows * g.units)

        def step(back: Index) -> None:
            t = e.plus(e.times(back, -1), g.steps - 1)
            at = e.times(t, g.cells)
            dgates = e.at(space, e.times(t, 4 * g.cells), e.times(first, 4))
            old_c = _before(e, g, t, own.c, own.start_c)
            gates = e.at(own.gates, e.times(t, 4 * g.cells))
            moved = own._replace(c=e.at(own.c, at), gates=gates)
            head = e.at(dy, at, first)
            e.nest((rows,), lambda r: _cell_back(e, g, r, moved, old_c, head, dgates))
            multiply(e, shape, dgates, panels, own.dh, onto=False)

        e.nest((g.steps,), step)

    shared_nest(e, (g.batch // rows,), samples)
    meet(e)


def _cell_back(
    e: Emit, g: Lstm, r: Index, kept: _Kept, old_c: Value, dy: Value, dgates: Value
) -> None:
    b, one, row = e.b, e.number(1.0), e.times(r, g.units)
    gates, out = e.at(kept.gates, e.times(r, 4 * g.units)), e.at(dgates, e.times(r, 4 * g.units))

    def slope(y: Value) -> Value:
        return b.fmul(y, b.fsub(one, y))

    def units(j: Index, n: int) -> None:
        at = e.plus(row, j)
        i, f, new, o = (e.load(gates, e.plus(j, k * g.units), n) for k in range(4))
        shown = vm.tanh(e, e.load(kept.c, at, n))
        dh = b.fadd(e.load(kept.dh, at, n), e.load(dy, at, n))
        dc = b.fmul(b.fmul(dh, o), b.fsub(one, b.fmul(shown, shown)))
        dc = b.fadd(e.load(kept.dc, at, n), dc)
        found = (
            b.fmul(b.fmul(dc, new), slope(i)),
            b.fmul(b.fmul(dc, e.load(old_c, at, n)), slope(f)),
            b.fmul(b.fmul(dc, i), b.fsub(one, b.fmul(new, new))),
            b.fmul(b.fmul(dh, shown), slope(o)),
        )
        for k, value in enumerate(found):
            e.store(value, out, e.plus(j, k * g.units), n)
        e.store(b.fmul(dc, f), kept.dc, at, n)

    e.columns(g.units, units)


def _gradients(
    e: Emit,
    g: Lstm,
    layer: int,
    x: Value,
    parameters: Value,
    kept: _Kept,
    dparameters: Value,
    dx: Value,
    space: Value,
) -> None:
    """Gradients of a layer's weights, biases and inputs from those of its gates."""
    size, wide = g.rows * g.units, 4 * g.units
    before = e.at(space, 4 * size)
    rest = own(e, e.at(space, 6 * size + g.panels()), g.back_product_space())
    copy(e, kept.start_h, before, g.cells)
    if g.steps > 1:
        copy(e, kept.h, e.at(before, g.cells), size - g.cells)
    meet(e)
    to_inputs, to_own, down = g.back_products(layer)
    w_in, w_own = g.weights(layer)
    product_into(e, to_inputs, space, x, None, e.at(dparameters, w_in), rest)
    product_into(e, to_own, space, before, None, e.at(dparameters, w_own), rest)
    product_into(e, down, space, e.at(parameters, w_in), None, dx, rest)
    bias = e.at(dparameters, g.biases(layer))

    def finish(c: Index, lanes: Sequence[int], sums: Sequence[Value]) -> None:
        for j, (n, value) in enumerate(zip(lanes, sums, strict=True)):
            for start in (0, wide):
                e.store(value, bias, e.plus(c, start + j * LANES), n)

    def terms(r: Index, c: Index, n: int) -> list[Value]:
        return [e.load(space, e.plus(e.times(r, wide), c), n)]

    sum_rows(e, g.rows, wide, 1, terms, finish)
    meet(e)
