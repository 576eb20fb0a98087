"""Parameters, shapes and the packing of weights that the pages of the recurrent op share.

Dimensions: T steps, N samples, L layers, D directions, H state_size, P projection_size or H.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

from raysym.errors import RuleError
from raysym.op import DTypes, Op
from raysym.ops.numeric import wide
from raysym.ops.rnn_cells import Cell, GruCell, LstmCell, PlainCell, State, Weights
from raysym.params import param
from raysym.types import PartialShape, Shape


class Feeds(NamedTuple):
    """The inputs of the op, in computing precision."""

    data: Any
    parameters: Any
    state: Any
    cell: Any
    valid: Any  # (T, N, 1), or None without sequence lengths


class Recurrent(Op):
    """Parameters and geometry that the op, its inference form and its gradient share."""

    kinds = "f"
    work = "matmul"
    inputs = ("data", "parameters", "state", "state_cell", "sequence_length")
    state_size: int = param(low=1, doc="Number of units of each layer.")
    num_layers: int = param(low=1, doc="Number of stacked layers.")
    bidirectional: bool = param(False, doc="Whether to run over the sequence both ways.")
    mode: str = param(
        choices=("rnn_relu", "rnn_tanh", "lstm", "gru"), doc="The kind of recurrent cell."
    )
    p: float = param(0.0, low=0, high=1, doc="Dropout between layers: chance to drop a value.")
    state_outputs: bool = param(False, doc="Whether to return the final states as well.")
    projection_size: int | None = param(
        None, low=1, doc="LSTM only: size to which hidden states are projected."
    )
    lstm_state_clip_min: float | None = param(
        None, doc="Lower bound of LSTM cell states; needs lstm_state_clip_max."
    )
    lstm_state_clip_max: float | None = param(
        None, doc="Upper bound of LSTM cell states; needs lstm_state_clip_min."
    )
    lstm_state_clip_nan: bool = param(
        False, doc="Whether clipping also replaces NaN in LSTM cell states by a bound."
    )
    use_sequence_length: bool = param(
        False, doc="Whether sequence_length gives the number of valid steps of each sample."
    )

    def check(self) -> None:
        if self.projection_size is not None and self.mode != "lstm":
            raise RuleError("projection_size is not for this mode", got=self.mode, expected="lstm")
        if (self.lstm_state_clip_min is None) != (self.lstm_state_clip_max is None):
            raise RuleError("lstm_state_clip_min and lstm_state_clip_max come together")

    # ----- geometry

    @property
    def directions(self) -> int:
        """D."""
        return 2 if self.bidirectional else 1

    @property
    def width(self) -> int:
        """P."""
        return self.projection_size or self.state_size

    def feed_names(self) -> tuple[str, ...]:
        """The inputs that these parameters call for."""
        cell = ("state_cell",) if self.mode == "lstm" else ()
        length = ("sequence_length",) if self.use_sequence_length else ()
        return (*self.inputs[:3], *cell, *length)

    def result_names(self) -> tuple[str, ...]:
        """The outputs that users see."""
        states = ("output", "state_output", "statecell_output")
        return states[: len(self.cell_state()) + 1] if self.state_outputs else states[:1]

    def cell_state(self) -> tuple[str, ...]:
        """Names of the parts of a state."""
        return ("state", "state_cell") if self.mode == "lstm" else ("state",)

    def kept_names(self) -> tuple[str, ...]:
        """What the gradient needs: states, gates and dropout masks of all layers."""
        gates = ("gates",) if self.cell().kept else ()
        mask = ("mask",) if self.p > 0 and self.num_layers > 1 else ()
        return (*(f"all_{part}" for part in self.cell_state()), *gates, *mask)

    def cell(self) -> Cell:
        """The cell of this mode."""
        if self.mode == "lstm":
            bounds = self.lstm_state_clip_min, self.lstm_state_clip_max
            return LstmCell(*bounds, self.lstm_state_clip_nan)
        return GruCell() if self.mode == "gru" else PlainCell(self.mode == "rnn_relu")

    def weight_shapes(self, inputs: int) -> Iterator[list[Shape]]:
        """For each layer and direction the shapes of its matrices, in packing order."""
        rows = self.cell().gates * self.state_size
        for layer in range(self.num_layers):
            width = inputs if layer == 0 else self.directions * self.width
            shapes: list[Shape] = [(rows, width), (rows, self.width)]
            if self.projection_size is not None:
                shapes.append((self.width, self.state_size))
            yield from [shapes] * self.directions

    def n_parameters(self, inputs: int) -> int:
        """Length of the packed parameters for `inputs` features."""
        matrices = [math.prod(s) for shapes in self.weight_shapes(inputs) for s in shapes]
        biases = 2 * self.cell().gates * self.state_size * self.num_layers * self.directions
        return sum(matrices) + biases

    def feed_shapes(self, data: Shape, length: PartialShape) -> list[PartialShape]:
        """Shapes of all inputs."""
        _, n, inputs = data
        cells = self.num_layers * self.directions
        states: list[PartialShape] = [(cells, n, self.width), (cells, n, self.state_size)]
        return [
            data,
            (self.n_parameters(inputs) if inputs else 0,),
            *states[: len(self.cell_state())],
            *([(n,)] if self.use_sequence_length else []),
        ]

    def result_shapes(self, data: Shape) -> list[PartialShape]:
        """Shapes of what users see."""
        t, n, _ = data
        cells = self.num_layers * self.directions
        states = [(cells, n, self.width), (cells, n, self.state_size)]
        return [(t, n, self.directions * self.width), *states[: len(self.result_names()) - 1]]

    def kept_shapes(self, data: Shape) -> list[PartialShape]:
        """Shapes of what the gradient needs."""
        t, n, _ = data
        cells = self.num_layers * self.directions
        shapes: dict[str, PartialShape] = {
            "all_state": (cells, t, n, self.width),
            "all_state_cell": (cells, t, n, self.state_size),
            "gates": (cells, t, n, self.cell().kept * self.state_size),
            "mask": (self.num_layers - 1, t, n, self.directions * self.width),
        }
        return [shapes[name] for name in self.kept_names()]

    def feed_dtypes(self, dtype: str | None, ins: DTypes) -> list[str | None]:
        """All inputs are alike; sequence lengths may be of any dtype."""
        n = len(self.feed_names()) - self.use_sequence_length
        return [dtype] * n + [ins[-1] or dtype] * self.use_sequence_length

    def matmul_flops(self, data: Shape) -> float:
        """Operations of all matrix products forward."""
        weights = sum(math.prod(s) for shapes in self.weight_shapes(data[2]) for s in shapes)
        return 2.0 * data[0] * data[1] * weights

    # ----- arrays

    def read(self, xp: Any, arrays: tuple[Any, ...]) -> Feeds:
        """The inputs by name, widened; lengths as a mask of valid steps."""
        named = dict(zip(self.feed_names(), arrays, strict=True))
        length, valid = named.get("sequence_length"), None
        data = wide(named["data"])
        if length is not None:
            valid = xp.arange(data.shape[0])[:, None, None] < length[None, :, None]
        cell = wide(named["state_cell"]) if self.mode == "lstm" else None
        return Feeds(data, wide(named["parameters"]), wide(named["state"]), cell, valid)

    def unpack(self, flat: Any, inputs: int) -> list[Weights]:
        """Views of the packed parameters for every layer and direction."""
        at, matrices, made = 0, [], []
        for shapes in self.weight_shapes(inputs):
            parts = []
            for shape in shapes:
                size = math.prod(shape)
                parts.append(flat[at : at + size].reshape(shape))
                at += size
            matrices.append(parts)
        rows = self.cell().gates * self.state_size
        for i2h, h2h, *h2r in matrices:
            biases = flat[at : at + rows], flat[at + rows : at + 2 * rows]
            made.append(Weights(i2h, h2h, h2r[0] if h2r else None, *biases))
            at += 2 * rows
        return made

    def order(self, k: int, steps: int) -> range:
        """The order of steps of layer-and-direction `k`."""
        return range(steps - 1, -1, -1) if k % self.directions else range(steps)

    def first_state(self, feeds: Feeds, k: int) -> State:
        """The given initial state of layer-and-direction `k`."""
        return (feeds.state[k],) if feeds.cell is None else (feeds.state[k], feeds.cell[k])


def pack(xp: Any, grads: list[Weights]) -> Any:
    """The inverse of `unpack`."""
    matrices = [m.reshape(-1) for g in grads for m in g[:3] if m is not None]
    biases = [b for g in grads for b in (g.i2h_bias, g.h2h_bias)]
    return xp.concatenate([*matrices, *biases])
