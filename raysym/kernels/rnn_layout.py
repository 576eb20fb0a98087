"""The recurrent op in numbers: sizes, where parameters lie, and what its kernels need of memory.

The two directions of a layer follow each other in parameters and states: number `k` is a layer
and a direction. Whatever is kept lies as the op page says: states ``(L D, T, N, H)``, gates
``(L D, T, N, kept H)``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from raysym.kernels.emit import LANES, Emit, Index, Value
from raysym.kernels.moving import PANEL
from raysym.kernels.product import Product
from raysym.kernels.rnn_cells import CELLS, Cell


class Recurrence(NamedTuple):
    """Mode, T steps, N samples, I features, H units, L layers, D directions; are states shown."""

    mode: str
    steps: int
    batch: int
    features: int
    units: int
    layers: int
    directions: int
    shows_states: bool

    @property
    def cell(self) -> Cell:
        """The kind of cell."""
        return CELLS[self.mode]

    @property
    def cells(self) -> int:
        """Numbers of one state."""
        return self.batch * self.units

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
        return self.directions * self.units

    def inputs(self, k: int) -> int:
        """Features that number `k` sees."""
        return self.features if k < self.directions else self.width

    def weights(self, k: int) -> tuple[int, int]:
        """Where the two matrices of number `k` start in the packed parameters."""
        before = sum(self.gates * (self.inputs(i) + self.units) for i in range(k))
        return before, before + self.gates * self.inputs(k)

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
        return Product(self.batch, self.gates, self.units, turned_b=True)

    def own_back(self) -> Product:
        """The gradient of h from that of one step's gates; panels hold the columns."""
        return Product(self.batch, self.units, self.gates, turned_b=True)

    def back_products(self, k: int) -> tuple[Product, Product, Product]:
        """Gradients of the input weights, the recurrent weights, and the inputs."""
        return (
            Product(self.gates, self.inputs(k), self.rows, turned_a=True),
            Product(self.gates, self.units, self.rows, turned_a=True),
            Product(self.rows, self.inputs(k), self.gates),
        )

    # ----- memory

    def panels(self) -> int:
        """Floats of the packed recurrent weights, either way round."""
        wide = -(-self.gates // PANEL) * PANEL * self.units
        return max(wide, -(-self.units // PANEL) * PANEL * self.gates)

    def keeps_gates_in_place(self) -> bool:
        """True when kept gates lie where the products were."""
        return self.cell.kept > 0 and not self.cell.is_apart

    def forward_parts(self, keeps: bool) -> dict[str, int]:
        """The forward kernel's workspace: floats of each part."""
        numbers = range(self.layers * self.directions)
        is_kept = keeps and self.keeps_gates_in_place()
        runs_apart = not keeps and not self.shows_states
        return {
            "panels": self.panels(),
            "bias": self.gates,
            "between": self.rows * self.width if self.layers > 1 else 0,
            "gates": 0 if is_kept else self.rows * self.gates,
            "own": self.batch * self.gates if self.cell.is_apart else 0,
            "states": self.cell.states * self.cells if runs_apart else 0,
            "product": max(self.input_product(k).workspace() for k in numbers),
        }

    def backward_parts(self) -> dict[str, int]:
        """The backward kernel's workspace: floats of each part."""
        numbers = range(self.layers * self.directions)
        wide = self.rows * self.width
        return {
            "panels": self.panels(),
            "to_inputs": self.rows * self.gates,
            "to_own": self.rows * self.gates if self.cell.is_apart else 0,
            "before": self.rows * self.units,
            "below": wide if self.layers > 1 and self.directions > 1 else 0,
            "even": wide if self.layers > 2 else 0,
            "odd": wide if self.layers > 1 else 0,
            "product": max(p.workspace() for k in numbers for p in self.back_products(k)),
        }


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
