"""The loop over the first axis of arrays, ``_foreach``, and its gradient (see control_flow.py)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from raysym.errors import RuleError
from raysym.graph import apply_all
from raysym.op import DTypes, Entries, Grads, Shapes, register
from raysym.ops.control_flow import (
    COUNT,
    GRAPHS,
    GradientOfGraphs,
    WithGraphs,
    infer_body,
    seed_array,
    seeds_for,
)
from raysym.ops.subgraphs import derivative, run, run_derivative
from raysym.params import Dims, param
from raysym.types import unify, unify_dtypes


class _ForEach(WithGraphs):
    """Parameters of the loop over the first axis, and where its arrays go."""

    num_args: int = COUNT
    num_outputs: int = param(low=1, doc="Number of outputs: stacked ones, then final states.")
    num_out_data: int = param(low=0, doc="Number of outputs that are stacked over the steps.")
    in_state_locs: Dims = param(doc="Which variables of the body are states.")
    in_data_locs: Dims = param(doc="Which variables of the body are slices of the data.")
    remain_locs: Dims = param(doc="Which variables of the body are the same in every step.")
    graphs: str = GRAPHS

    @property
    def places(self) -> list[int]:
        """For each input of the node its variable of the body: data, states, the rest."""
        return [*self.in_data_locs, *self.in_state_locs, *self.remain_locs]

    @property
    def n_data(self) -> int:
        """Number of inputs that are cut into slices."""
        return len(self.in_data_locs)

    def state_slots(self) -> range:
        """Inputs that are initial states."""
        return range(self.n_data, self.n_data + len(self.in_state_locs))

    def kept_names(self) -> tuple[str, ...]:
        """States before every step, and the seeds of the steps if anything is random."""
        states = tuple(f"state{i}" for i in range(len(self.in_state_locs)))
        is_random = any(body.is_random for body in self.bodies())
        return (*states, "seeds") if is_random else states

    def arranged(self, per_input: Sequence[Any]) -> list[Any]:
        """Something for each input of the node in the order of the body's variables."""
        made: list[Any] = [None] * len(per_input)
        for place, item in zip(self.places, per_input, strict=True):
            made[place] = item
        return made

    def deal(self, which: str, ins: Sequence[Any], outs: Sequence[Any]) -> tuple[Any, Any]:
        """Shapes or dtypes of the node's inputs and visible outputs; slices count as slices."""
        (body,) = self.bodies()
        merge = unify if which == "shapes" else (lambda a, b: unify_dtypes([a, b]))
        ins, outs = list(ins), list(outs)
        for slot, out in zip(self.state_slots(), range(self.num_out_data, len(outs)), strict=True):
            ins[slot] = outs[out] = merge(ins[slot], outs[out])
        variables, heads = infer_body(body, which, self.arranged(ins), outs)
        made = [variables[place] for place in self.places]
        for slot, out in zip(self.state_slots(), range(self.num_out_data, len(outs)), strict=True):
            made[slot] = heads[out] = merge(made[slot], heads[out])
        return made, heads

    def deal_shapes(self, ins: Shapes, outs: Shapes) -> tuple[list[Any], list[Any], int]:
        """The same for shapes of whole arrays; the number of steps too (0: unknown)."""
        whole = [*ins[: self.n_data], *outs[: self.num_out_data]]
        for shape in whole:
            if shape == ():
                raise RuleError(
                    "data have no axis of steps", got=shape, expected="one axis or more"
                )
        (steps,) = _steps_of([shape[:1] for shape in whole if shape]) or (0,)
        cut_ins = [s and s[1:] if i < self.n_data else s for i, s in enumerate(ins)]
        cut_outs = [s and s[1:] if i < self.num_out_data else s for i, s in enumerate(outs)]
        # A slice of rank 0 says as much as any other shape.
        made, heads = self.deal("shapes", cut_ins, cut_outs)
        made = [_stacked(s, steps) if i < self.n_data else s for i, s in enumerate(made)]
        heads = [_stacked(s, steps) if i < self.num_out_data else s for i, s in enumerate(heads)]
        return made, heads, steps

    def kept_shapes(self, states: Sequence[Any], steps: int) -> list[Any]:
        """Shapes of what is kept."""
        made = [_stacked(shape, steps) for shape in states]
        return [*made, (steps,)] if self.random else made


def _steps_of(shapes: Sequence[Any]) -> Any:
    made = None
    for shape in shapes:
        made = unify(made, shape, "number of steps")
    return made


def _stacked(shape: Any, steps: int) -> Any:
    return None if shape is None else (steps, *shape)


@register
class _foreach(_ForEach):
    """Runs a body once for every row of the data, handing states from step to step.

    Inputs: data ``(steps, ...)``, then initial states, then arrays that every step sees. Outputs:
    what the steps put out, stacked ``(steps, ...)``, then the final states.
    """

    def saved_names(self) -> tuple[str, ...]:
        return self.kept_names()

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        if not self.graphs:
            return ins, outs
        made, heads, steps = self.deal_shapes(ins, outs[: self.num_outputs])
        states = [made[slot] for slot in self.state_slots()]
        return made, [*heads, *self.kept_shapes(states, steps)]

    def infer_dtype(self, ins: DTypes, outs: DTypes) -> tuple[DTypes, DTypes]:
        if not self.graphs:
            return ins, outs
        made, heads = self.deal("dtypes", ins, outs[: self.num_outputs])
        kept = [made[slot] for slot in self.state_slots()]
        return made, [*heads, *kept, *(["int64"] if self.random else [])]

    def forward(self, xp: Any, *arrays: Any) -> Any:
        self.refuse_updates("forward_updates")
        seeds, arrays = seeds_for(self, arrays)
        (body,) = self.bodies()
        k, n_out = self.n_data, self.num_out_data
        states = list(arrays[k : k + len(self.in_state_locs)])
        shared = arrays[k + len(states) :]
        steps = arrays[0].shape[0]
        seed_of = seeds(steps)
        shown: list[list[Any]] = []
        before: list[list[Any]] = []
        for t in range(steps):
            before.append(states)
            fed = self.arranged([*(a[t] for a in arrays[:k]), *states, *shared])
            made = run(body, xp, dict(zip(body.variables, fed, strict=True)), seed_of[t])
            shown.append(made[:n_out])
            states = made[n_out:]
        kept = [xp.stack(column) for column in zip(*before, strict=True)]
        stacked = [xp.stack(column) for column in zip(*shown, strict=True)]
        return (*stacked, *states, *kept, *seed_array(self, xp, seed_of))

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        self.refuse_updates("backward_updates")
        kept = outs[self.num_outputs :]
        return apply_all("_backward_foreach", *grads, *ins, *kept, **self.given())


@register
class _backward_foreach(_ForEach, GradientOfGraphs):
    """Runs the derivative of the body from the last step to the first."""

    def forward(self, xp: Any, *arrays: Any) -> Any:
        heads, inputs, kept = self.parts(arrays)
        k, n_states = self.n_data, len(self.in_state_locs)
        found = derivative(self.graphs, 0)
        drawn = len(kept) > n_states
        seeds = kept[n_states].tolist() if drawn else [0] * inputs[0].shape[0]
        dstates = list(heads[self.num_out_data :])
        slices: list[list[Any]] = []
        shared = [xp.zeros_like(a) for a in inputs[k + n_states :]]
        for t in range(inputs[0].shape[0] - 1, -1, -1):
            states = [state[t] for state in kept[:n_states]]
            fed = self.arranged([*(a[t] for a in inputs[:k]), *states, *inputs[k + n_states :]])
            above = [*(g[t] for g in heads[: self.num_out_data]), *dstates]
            made = run_derivative(found, xp, fed, above, seeds[t])
            ordered = [made[place] for place in self.places]
            slices.insert(0, ordered[:k])
            dstates = ordered[k : k + n_states]
            shared = [a + b for a, b in zip(shared, ordered[k + n_states :], strict=True)]
        stacked = [xp.stack(column) for column in zip(*slices, strict=True)]
        return (*stacked, *dstates, *shared)
