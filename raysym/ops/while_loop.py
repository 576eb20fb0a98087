"""The loop with a condition, ``_while_loop``, and its gradient (see control_flow.py)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from raysym.graph import apply_all
from raysym.op import DTypes, Entries, Grads, Shapes, register
from raysym.ops.control_flow import (
    COUNT,
    GRAPHS,
    GradientOfGraphs,
    WithGraphs,
    feed,
    infer_body,
    is_true,
    seed_array,
    seeds_for,
)
from raysym.ops.subgraphs import derivative, run, run_derivative
from raysym.params import Dims, param
from raysym.types import unify, unify_dtypes


class _While(WithGraphs):
    """Parameters of the loop: condition and body, each with its inputs of the node."""

    n_graphs = 2
    num_args: int = COUNT
    num_outputs: int = param(low=1, doc="Number of outputs: stacked ones, then loop variables.")
    num_out_data: int = param(low=0, doc="Number of outputs that are stacked over the steps.")
    max_iterations: int = param(low=1, doc="Largest number of steps; length of stacked outputs.")
    cond_input_locs: Dims = param(doc="Inputs that the condition reads.")
    func_input_locs: Dims = param(doc="Inputs that the body reads.")
    func_var_locs: Dims = param(doc="Which variables of the body are loop variables.")
    graphs: str = GRAPHS

    @property
    def var_slots(self) -> list[int]:
        """Inputs that are initial values of loop variables."""
        return [self.func_input_locs[place] for place in self.func_var_locs]

    def kept_names(self) -> tuple[str, ...]:
        """Number of steps, loop variables before each, and seeds if anything is random."""
        variables = tuple(f"var{i}" for i in range(len(self.func_var_locs)))
        is_random = any(body.is_random for body in self.bodies())
        return ("steps", *variables, *(("seeds",) if is_random else ()))

    def deal(self, which: str, ins: Sequence[Any], outs: Sequence[Any]) -> tuple[Any, Any]:
        """Shapes or dtypes of inputs and outputs; of stacked outputs those of one step."""
        merge = unify if which == "shapes" else (lambda a, b: unify_dtypes([a, b]))
        ins, outs = list(ins), list(outs)
        condition, body = self.bodies()
        pairs = list(zip(self.var_slots, range(self.num_out_data, len(outs)), strict=True))
        for slot, out in pairs:
            ins[slot] = outs[out] = merge(ins[slot], outs[out])
        given = [ins[place] for place in self.func_input_locs]
        variables, heads = infer_body(body, which, given, outs)
        for place, fact in zip(self.func_input_locs, variables, strict=True):
            ins[place] = merge(ins[place], fact)
        for slot, out in pairs:
            ins[slot] = heads[out] = merge(ins[slot], heads[out])
        given = [ins[place] for place in self.cond_input_locs]
        variables, _ = infer_body(condition, which, given, [None])
        for place, fact in zip(self.cond_input_locs, variables, strict=True):
            ins[place] = merge(ins[place], fact)
        return ins, heads


@register
class _while_loop(_While):
    """Runs a body while a condition on the loop variables holds, at most max_iterations times.

    Inputs: all that condition and body read. Outputs: what the steps put out, stacked
    ``(max_iterations, ...)`` with zeros behind the last step, then the final loop variables.
    """

    def saved_names(self) -> tuple[str, ...]:
        return self.kept_names()

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        if not self.graphs:
            return ins, outs
        n = self.num_out_data
        shown = [shape and shape[1:] for shape in outs[:n]]
        made, heads = self.deal("shapes", ins, [*shown, *outs[n : self.num_outputs]])
        longer = [None if s is None else (self.max_iterations, *s) for s in heads[:n]]
        before = [
            None if made[slot] is None else (self.max_iterations, *made[slot])
            for slot in self.var_slots
        ]
        seeds = [(self.max_iterations,)] if self.random else []
        return made, [*longer, *heads[n:], (1,), *before, *seeds]

    def infer_dtype(self, ins: DTypes, outs: DTypes) -> tuple[DTypes, DTypes]:
        if not self.graphs:
            return ins, outs
        made, heads = self.deal("dtypes", ins, outs[: self.num_outputs])
        before = [made[slot] for slot in self.var_slots]
        return made, [*heads, "int64", *before, *(["int64"] if self.random else [])]

    def forward(self, xp: Any, *arrays: Any) -> Any:
        self.refuse_updates("forward_updates")
        seed_of, arrays = seeds_for(self, arrays)
        seeds = seed_of(self.max_iterations)
        condition, body = self.bodies()
        current, shown, before = list(arrays), [], []
        for seed in seeds:
            (decision,) = run(condition, xp, feed(condition, self.cond_input_locs, current), seed)
            if not is_true(decision):
                break
            before.append([current[slot] for slot in self.var_slots])
            made = run(body, xp, feed(body, self.func_input_locs, current), seed)
            shown.append(made[: self.num_out_data])
            for slot, value in zip(self.var_slots, made[self.num_out_data :], strict=True):
                current[slot] = value
        stacked, kept = self._padded(xp, arrays, shown, before)
        last = [current[slot] for slot in self.var_slots]
        steps = xp.full(1, len(before), "int64")
        return (*stacked, *last, steps, *kept, *seed_array(self, xp, seeds))

    def _padded(
        self, xp: Any, arrays: Sequence[Any], shown: list[Any], before: list[Any]
    ) -> tuple[list[Any], list[Any]]:
        # Even without any step the results have a shape.
        free = [None] * self.n_values()
        _, shapes = self.infer_shape([a.shape for a in arrays], free)
        _, dtypes = self.infer_dtype([a.dtype.name for a in arrays], free)
        empty = [xp.zeros(*pair) for pair in zip(shapes, dtypes, strict=True)]
        n, first = self.num_out_data, self.num_outputs + 1
        parts = (empty[:n], shown), (empty[first : first + len(self.func_var_locs)], before)
        for targets, rows in parts:
            for t, row in enumerate(rows):
                for target, value in zip(targets, row, strict=True):
                    target[t] = value
        return parts[0][0], parts[1][0]

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        self.refuse_updates("backward_updates")
        kept = outs[self.num_outputs :]
        return apply_all("_backward_while_loop", *grads, *ins, *kept, **self.given())


@register
class _backward_while_loop(_While, GradientOfGraphs):
    """Runs the derivative of the body from the last step that ran to the first."""

    def forward(self, xp: Any, *arrays: Any) -> Any:
        heads, inputs, kept = self.parts(arrays)
        steps = int(kept[0][0])  # decides how often the derivative runs, so the host must know
        n_vars = len(self.func_var_locs)
        before = kept[1 : 1 + n_vars]
        seeds = kept[1 + n_vars].tolist() if len(kept) > 1 + n_vars else [0] * steps
        found = derivative(self.graphs, 1)
        stacked, dvars = heads[: self.num_out_data], list(heads[self.num_out_data :])
        grads = [xp.zeros_like(a) for a in inputs]
        current = list(inputs)
        for t in range(steps - 1, -1, -1):
            for slot, column in zip(self.var_slots, before, strict=True):
                current[slot] = column[t]
            fed = [current[place] for place in self.func_input_locs]
            made = run_derivative(found, xp, fed, [*(g[t] for g in stacked), *dvars], seeds[t])
            dvars = [made[place] for place in self.func_var_locs]
            for place, (slot, grad) in enumerate(zip(self.func_input_locs, made, strict=True)):
                if place not in self.func_var_locs:
                    grads[slot] = grads[slot] + grad
        for slot, grad in zip(self.var_slots, dvars, strict=True):
            grads[slot] = grads[slot] + grad
        return tuple(grads)
