"""The fused recurrent op: all layers, directions and time steps in one node.

Dimensions: T steps, N samples, L layers, D directions, H state_size, P projection_size or H.
"""

from __future__ import annotations

from typing import Any

from raysym.errors import RuleError
from raysym.graph import apply_all
from raysym.op import Cost, DTypes, Entries, Grads, Shapes, Types, register, total_bytes
from raysym.ops.numeric import wide
from raysym.ops.rnn_cells import State, Trace, Weights, run_layer, run_layer_back
from raysym.ops.rnn_layout import Feeds, Recurrent, pack
from raysym.types import unify_dtypes


@register
class RNN(Recurrent):
    """Stacked recurrent layers over a whole sequence: plain (relu, tanh), LSTM or GRU.

    Shapes: data ``(T, N, I)``, state (and state_cell) ``(L*D, N, P)`` (``(L*D, N, H)``), output
    ``(T, N, D*P)``. ``parameters`` is flat: for every layer and direction i2h ``(G*H, I)``, h2h
    ``(G*H, P)`` and, with projection, h2r ``(P, H)``; then for every layer and direction the i2h
    and h2h biases. Gates: lstm i, f, g, o; gru r, z, n. With sequence lengths, outputs past the end
    are zero, final states are those of the last valid step, and the second direction starts there.
    """

    random = True

    def input_names(self) -> tuple[str, ...]:
        return self.feed_names()

    def output_names(self) -> tuple[str, ...]:
        return self.result_names()

    def saved_names(self) -> tuple[str, ...]:
        return self.kept_names()

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        data = ins[0]
        if data is None:
            return ins, outs
        if len(data) != 3:
            raise RuleError("data has a wrong rank", got=data, expected="(steps, batch, features)")
        kept = self.kept_shapes(data) if self.saved_names() else []
        return self.feed_shapes(data, ins[-1]), [*self.result_shapes(data), *kept]

    def infer_dtype(self, ins: DTypes, outs: DTypes) -> tuple[DTypes, DTypes]:
        n = len(self.feed_names()) - self.use_sequence_length
        dtype = unify_dtypes([*ins[:n], *outs[: len(self.result_names())]])
        kept = "float32" if dtype == "float16" else dtype
        results = [dtype] * len(self.result_names())
        return self.feed_dtypes(dtype, ins), [*results, *[kept] * len(self.saved_names())]

    def forward(self, xp: Any, rng: Any, *arrays: Any) -> Any:
        feeds = self.read(xp, arrays)
        weights = self.unpack(feeds.parameters, feeds.data.shape[2])
        x, traces, masks = feeds.data, [], []
        for layer in range(self.num_layers):
            if layer and self.p > 0:
                masks.append(self._mask(xp, rng, x))
                x = x * masks[-1]
            made = [
                self._run(xp, feeds, weights[k], x, k)
                for k in range(layer * self.directions, (layer + 1) * self.directions)
            ]
            traces += made
            x = xp.concatenate([self._shown(feeds, trace.states[0]) for trace in made], axis=-1)
        dtype = arrays[0].dtype
        results = [x, *self._last(xp, traces)][: len(self.result_names())]
        kept = self._kept(xp, traces, masks)
        return (*(a.astype(dtype, copy=False) for a in results), *kept)

    def _mask(self, xp: Any, rng: Any, x: Any) -> Any:
        keep = xp.asarray(rng.random(x.shape, "float32") >= self.p)
        return keep.astype(x.dtype) * (1 / (1 - self.p) if self.p < 1 else 0.0)

    def _run(self, xp: Any, feeds: Feeds, w: Weights, x: Any, k: int) -> Trace:
        order = self.order(k, x.shape[0])
        return run_layer(xp, self.cell(), w, x, self.first_state(feeds, k), order, feeds.valid)

    def _shown(self, feeds: Feeds, hidden: Any) -> Any:
        return hidden if feeds.valid is None else hidden * feeds.valid

    def _last(self, xp: Any, traces: list[Trace]) -> list[Any]:
        ends = [self.order(k, t.states[0].shape[0])[-1] for k, t in enumerate(traces)]
        return [
            xp.stack([t.states[part][end] for t, end in zip(traces, ends, strict=True)])
            for part in range(len(self.cell_state()))
        ]

    def _kept(self, xp: Any, traces: list[Trace], masks: list[Any]) -> list[Any]:
        parts = [[t.states[i] for t in traces] for i in range(len(self.cell_state()))]
        if self.cell().kept:
            parts.append([t.gates for t in traces])
        if masks:
            parts.append(masks)
        return [xp.stack(part) for part in parts]

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        kept = outs[len(self.result_names()) :]
        made = apply_all("_backward_RNN", *grads, *ins, *kept, **self.given())
        return [*made, None] if self.use_sequence_length else made

    def for_inference(self, ins: Entries) -> Entries | None:
        return apply_all("_RNN_inference", *ins, **{**self.given(), "p": 0.0})

    def cost(self, ins: Types, outs: Types) -> Cost:
        gates = 10.0 * sum(t.size for t in outs)
        return Cost(self.matmul_flops(ins[0].shape) + gates, total_bytes(ins, outs))


@register
class _RNN_inference(RNN):
    """RNN without dropout, keeping nothing for a gradient."""

    internal = True
    random = False

    def saved_names(self) -> tuple[str, ...]:
        return ()

    def forward(self, xp: Any, *arrays: Any) -> Any:
        return super().forward(xp, None, *arrays)

    def _kept(self, xp: Any, traces: list[Trace], masks: list[Any]) -> list[Any]:
        return []

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        raise RuleError("the inference form of RNN has no gradient", fix="Differentiate RNN")

    def for_inference(self, ins: Entries) -> Entries | None:
        return None


@register
class _backward_RNN(Recurrent):
    """Gradients of data, parameters and initial states of RNN, by one sweep back in time."""

    internal = True

    def input_names(self) -> tuple[str, ...]:
        heads = tuple(f"{name}_grad" for name in self.result_names())
        return (*heads, *self.feed_names(), *self.kept_names())

    def output_names(self) -> tuple[str, ...]:
        return tuple(f"{name}_grad" for name in ("data", "parameters", *self.cell_state()))

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        data = ins[len(self.result_names())]
        if data is None:
            return ins, outs
        feeds = self.feed_shapes(data, None)
        wanted = feeds[: len(self.output_names())]
        return [*self.result_shapes(data), *feeds, *self.kept_shapes(data)], wanted

    def infer_dtype(self, ins: DTypes, outs: DTypes) -> tuple[DTypes, DTypes]:
        heads, feeds = len(self.result_names()), len(self.feed_names())
        dtype = unify_dtypes([*ins[: heads + 1], *outs])
        kept = "float32" if dtype == "float16" else dtype
        between = self.feed_dtypes(dtype, ins[heads : heads + feeds])
        return [*[dtype] * heads, *between, *[kept] * len(self.kept_names())], [dtype] * len(outs)

    def forward(self, xp: Any, *arrays: Any) -> Any:
        heads, n = len(self.result_names()), len(self.feed_names())
        feeds = self.read(xp, arrays[heads : heads + n])
        kept = dict(zip(self.kept_names(), arrays[heads + n :], strict=True))
        dy, *ends = [wide(g) for g in arrays[:heads]]
        weights = self.unpack(feeds.parameters, feeds.data.shape[2])
        grads: list[Weights] = []
        starts: list[State] = []
        for layer in range(self.num_layers - 1, -1, -1):
            x = self._layer_input(xp, feeds, kept, layer)
            made = [
                self._back(xp, feeds, kept, weights[k], x, k, part, ends)
                for k, part in enumerate(
                    xp.split(dy, self.directions, axis=-1), layer * self.directions
                )
            ]
            dy = sum(dx for dx, _, _ in made)
            if layer and "mask" in kept:
                dy = dy * kept["mask"][layer - 1]
            starts = [start for _, start, _ in made] + starts
            grads = [w for _, _, w in made] + grads
        results = [dy, pack(xp, grads), *(xp.stack(part) for part in zip(*starts, strict=True))]
        return tuple(a.astype(arrays[0].dtype, copy=False) for a in results)

    def _layer_input(self, xp: Any, feeds: Feeds, kept: dict[str, Any], layer: int) -> Any:
        if layer == 0:
            return feeds.data
        below = slice((layer - 1) * self.directions, layer * self.directions)
        x = xp.concatenate(list(kept["all_state"][below]), axis=-1)
        x = x if feeds.valid is None else x * feeds.valid
        return x * kept["mask"][layer - 1] if "mask" in kept else x

    def _back(
        self, xp: Any, feeds: Feeds, kept: dict[str, Any], w: Weights, x: Any, k: int,
        dy: Any, ends: list[Any],
    ) -> tuple[Any, State, Weights]:  # fmt: skip
        states = tuple(kept[f"all_{part}"][k] for part in self.cell_state())
        trace = Trace(states, kept["gates"][k] if "gates" in kept else None)
        zero = tuple(xp.zeros_like(part[0]) for part in states)
        last = tuple(end[k] for end in ends) or zero
        shown = dy if feeds.valid is None else dy * feeds.valid
        order = self.order(k, x.shape[0])
        first = self.first_state(feeds, k)
        return run_layer_back(xp, self.cell(), w, x, first, trace, order, feeds.valid, shown, last)

    def cost(self, ins: Types, outs: Types) -> Cost:
        data = ins[len(self.result_names())].shape
        return Cost(2 * self.matmul_flops(data) + 20.0 * ins[0].size, total_bytes(ins, outs))
