"""The recurrent op in numbers: sizes, where parameters lie, and what its kernels need of memory.

The two directions of a layer follow each other in parameters and states: number `k` is a layer
and a direction. Whatever is kept lies as the op page says: states ``(L D, T, N, H)``, gates
``(L D, T, N, kept H)``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from raysym.kernels.emit import LANES, Emit, Index, Value
from raysym.kernels.moving import PANEL
from raysym.kernels.product import Product
from raysym.kernels.rnn_cells import CELLS, Cell, Clip, clipping
from raysym.kernels.typed import load1

DRAWN_MORE = 32  # numbers around those of a mask that are drawn with them


class Recurrence(NamedTuple):
    """Mode, T steps, N samples, I features, H units, L layers, D directions; are states shown.

    `projection`: numbers of h if these are not the units' own; `lengths`: the dtype of the samples'
    numbers of steps, if there are any; `drop`: how probably numbers between layers are left out.
    """

    mode: str
    steps: int
    batch: int
    features: int
    units: int
    layers: int
    directions: int
    shows_states: bool
    projection: int = 0
    clip: Clip = ()
    lengths: str = ""
    drop: float | None = None

    @property
    def cell(self) -> Cell:
        """The kind of cell."""
        return clipping(self.clip) if self.clip else CELLS[self.mode]

    @property
    def shown(self) -> int:
        """Numbers of h of one sample."""
        return self.projection or self.units

    @property
    def states(self) -> list[int]:
        """Numbers of each part of a state, h first."""
        return [self.batch * self.shown, self.batch * self.units][: self.cell.states]

    @property
    def masked(self) -> int:
        """Numbers of one mask between layers."""
        return self.rows * self.width

    @property
    def rows(self) -> int:
        """Samples of all steps."""
        return self.steps * self.batch

    @property
    def gates(self) -> int:
        """Numbers of all gates of one sample: rows of a weight."""
        return self.cell.gates * self.units

    @property
    def width(self) -> int:
        """Numbers that a layer shows of one sample."""
        return self.directions * self.shown

    def inputs(self, k: int) -> int:
        """Features that number `k` sees."""
        return self.features if k < self.directions else self.width

    def weights(self, k: int) -> tuple[int, int, int]:
        """Where the matrices of number `k` start in the packed parameters, the projection last."""
        more = self.projection * self.units
        before = sum(self.gates * (self.inputs(i) + self.shown) + more for i in range(k))
        own = before + self.gates * self.inputs(k)
        return before, own, own + self.gates * self.shown

    def biases(self, k: int) -> tuple[int, int]:
        """Where its two biases start."""
        start = self.weights(self.layers * self.directions)[0] + 2 * self.gates * k
        return start, start + self.gates

    # ----- steps

    def time(self, e: Emit, k: int, step: Index) -> Index:
        """The place in time of a step: the second direction runs back."""
        return e.plus(e.times(step, -1), self.steps - 1) if k % self.directions else step

    def last(self, k: int) -> int:
        """The place in time of the last step."""
        return 0 if k % self.directions else self.steps - 1

    # ----- products

    def input_product(self, k: int) -> Product:
        """``gates = x W^T + bias`` of all steps."""
        return Product(self.rows, self.gates, self.inputs(k), turned_b=True, bias=True)

    def own_product(self) -> Product:
        """``h W^T`` of one step."""
        return Product(self.batch, self.gates, self.shown, turned_b=True)

    def own_back(self) -> Product:
        """The gradient of h from that of one step's gates; panels hold the columns."""
        return Product(self.batch, self.shown, self.gates, turned_b=True)

    def projected(self) -> Product:
        """h of one step from what the units make."""
        return Product(self.batch, self.shown, self.units, turned_b=True)

    def projected_back(self) -> Product:
        """The gradient of that; panels hold the columns."""
        return Product(self.batch, self.units, self.shown, turned_b=True)

    def back_products(self, k: int) -> tuple[Product, Product, Product, Product]:
        """Gradients of the input weights, the recurrent weights, the inputs, the projection."""
        return (
            Product(self.gates, self.inputs(k), self.rows, turned_a=True),
            Product(self.gates, self.shown, self.rows, turned_a=True),
            Product(self.rows, self.inputs(k), self.gates),
            Product(self.shown, self.units, self.rows, turned_a=True),
        )

    # ----- memory

    def panels(self) -> int:
        """Floats of the packed recurrent weights, either way round."""
        return _panels(self.gates, self.shown)

    def projection_panels(self) -> int:
        """The same of the projection."""
        return _panels(self.projection, self.units) if self.projection else 0

    def keeps_gates_in_place(self) -> bool:
        """True when kept gates lie where the products were."""
        return self.cell.kept > 0 and not self.cell.is_apart

    def forward_parts(self, keeps: bool) -> dict[str, int]:
        """The forward kernel's workspace: floats of each part.

        Products come last: behind the first thread's memory for them lies that of the others.
        """
        numbers = range(self.layers * self.directions)
        is_kept = keeps and self.keeps_gates_in_place()
        runs_apart = not keeps and not self.shows_states
        return {
            "panels": self.panels(),
            "bias": self.gates,
            "between": self.rows * self.width if self.layers > 1 else 0,
            "gates": 0 if is_kept else self.rows * self.gates,
            "own": self.batch * self.gates if self.cell.is_apart else 0,
            "states": sum(self.states) if runs_apart else 0,
            "drawn": 0 if self.drop is None else self.masked + DRAWN_MORE,
            **self._projection_parts({"made": self.batch * self.units, "h": self.states[0]}),
            "product": max(self.input_product(k).workspace() for k in numbers),
        }

    def backward_parts(self) -> dict[str, int]:
        """The backward kernel's workspace in the same way."""
        numbers = range(self.layers * self.directions)
        wide = self.rows * self.width
        return {
            "panels": self.panels(),
            "to_inputs": self.rows * self.gates,
            "to_own": self.rows * self.gates if self.cell.is_apart else 0,
            "before": self.rows * self.shown,
            "below": wide if self.layers > 1 and self.shows_changed() else 0,
            "even": wide if self.layers > 2 else 0,
            "odd": wide if self.layers > 1 else 0,
            **self._projection_parts({
                "made": self.rows * self.units, "dmade": self.batch * self.units,
                "dh": self.rows * self.shown,
            }),
            "product": max(p.workspace() for k in numbers for p in self.back_products(k)),
        }  # fmt: skip

    def shows_changed(self) -> bool:
        """True when the next layer sees something else than the states of one direction."""
        return self.directions > 1 or bool(self.lengths) or self.drop is not None

    def _projection_parts(self, parts: Mapping[str, int]) -> dict[str, int]:
        return {"projection": self.projection_panels(), **parts} if self.projection else {}


def _panels(rows: int, columns: int) -> int:
    """Floats of a matrix in panels of its rows or of its columns."""
    return max(-(-a // PANEL) * PANEL * b for a, b in ((rows, columns), (columns, rows)))


def total(parts: Mapping[str, int]) -> int:
    """Floats of a workspace; parts begin at full vectors."""
    return sum(_rounded(size) for size in parts.values())


def placed(e: Emit, space: Value, parts: Mapping[str, int]) -> dict[str, Value]:
    """Where the parts of a workspace begin."""
    at, found = 0, {}
    for name, size in parts.items():
        found[name] = e.at(space, at)
        at += _rounded(size)
    return found


def _rounded(size: int) -> int:
    return -(-size // LANES) * LANES


class Track(NamedTuple):
    """A state over time: before the first step at `first`, later where steps have left it.

    `stride`: floats from one time to the next; 0 where steps overwrite it, the first included.
    """

    first: Value
    states: Value
    stride: int

    def at(self, e: Emit, time: Index) -> Value:
        """The state that a time leaves."""
        return e.at(self.states, e.times(time, self.stride))

    def before(self, e: Emit, g: Recurrence, k: int, step: Index) -> Value:
        """The state that a step meets."""
        if not self.stride:
            return self.states
        if isinstance(step, int):
            return self.first
        earlier = self.at(e, g.time(e, k, e.plus(step, -1)))
        return e.b.select(e.b.icmp_signed("==", step, e.const(0)), self.first, earlier)


def only(found: Sequence[Value]) -> Value | None:
    """What a list of at most one holds."""
    return found[0] if found else None


def is_valid(e: Emit, g: Recurrence, lengths: Value | None, sample: Index, time: Index) -> Value:
    """Whether a sample has this step, as a bit; None where all have it."""
    if lengths is None:
        return None
    length = load1(e, g.lengths, lengths, sample)
    if g.lengths.startswith("int"):
        return e.b.icmp_signed("<", e.const(time), length)
    return e.b.fcmp_ordered("<", e.b.sitofp(e.const(time), length.type), length)


def chosen(e: Emit, valid: Value | None, value: Value, other: Value) -> Value:
    """One vector or the other."""
    return value if valid is None else e.b.select(valid, value, other)
