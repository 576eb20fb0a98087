"""Loops and branches: ops that run graphs. Their gradients run the graphs' derivatives.

Cast of characters: a body is a graph; its variables are fed from inputs of the node by the
``*_locs`` parameters, as in MXNet's files. Gradients compute the body's values again, step by step
backwards, from the loop variables that forward kept (and from its seeds, so that random nodes draw
the same). Nodes inside must not write into variables: to train moving averages there is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from raysym.errors import RuleError
from raysym.graph import Entry, Graph, apply_all
from raysym.op import (
    Cost,
    DTypes,
    Entries,
    Grads,
    Op,
    Shapes,
    Types,
    make_op,
    register,
    total_bytes,
)
from raysym.ops.subgraphs import (
    Body,
    decode,
    derivative,
    encode,
    passes,
    run,
    run_derivative,
)
from raysym.params import Dims, param
from raysym.types import unify, unify_dtypes

GRAPHS = param("", doc="The graphs as text; made by the functions that build control flow.")
COUNT = param(low=1, doc="Number of inputs and graphs together.")


class WithGraphs(Op):
    """Shared by the ops and their gradients: graphs in a string, inputs counted with them."""

    n_graphs: ClassVar[int] = 1
    inputs = ()
    num_args: int
    num_outputs: int
    graphs: str

    def bodies(self) -> tuple[Body, ...]:
        """The graphs; none before they are known."""
        return decode(self.graphs)

    def subgraphs(self) -> tuple[Graph, ...]:
        return tuple(body.graph for body in self.bodies())

    def luggage(self) -> tuple[Any, ...]:
        """What the ops inside need."""
        nodes = [node for body in self.bodies() for node in body.graph.nodes]
        return tuple(dict.fromkeys(piece for node in nodes for piece in node.op.luggage()))

    def with_subgraphs(self, graphs: Sequence[Graph]) -> Op:
        if len(graphs) != self.n_graphs:
            raise RuleError("wrong number of graphs", got=len(graphs), expected=self.n_graphs)
        return make_op(self.name, {**self.given(), "graphs": encode(graphs)})

    def refuse_updates(self, rule: str) -> None:
        """RuleError where a node inside would change a state, by `rule` of its page."""
        for node in (node for body in self.bodies() for node in body.graph.nodes):
            updated = getattr(node.op, rule)(node.inputs, node.entries())
            if any(slot in updated for slot in node.aux_slots()):
                raise RuleError(
                    "a state that a graph inside changes would be lost",
                    got=f"{node.op.name} '{node.name}'",
                    fix="Keep it outside, or set use_global_stats where there is such a parameter",
                )

    @property
    def n_inputs(self) -> int:
        """Number of arrays that the node takes."""
        return self.num_args - self.n_graphs

    def input_names(self) -> tuple[str, ...]:
        return tuple(f"data{i}" for i in range(self.n_inputs))

    def output_names(self) -> tuple[str, ...]:
        if self.num_outputs == 1:
            return ("output",)
        return tuple(f"output{i}" for i in range(self.num_outputs))

    @property
    def random(self) -> bool:  # type: ignore[override]
        """Whether any graph draws numbers."""
        return any(body.is_random for body in self.bodies())

    def for_inference(self, ins: Entries) -> Entries | None:
        text = encode([passes().for_inference(body.graph)[0] for body in self.bodies()])
        if text == self.graphs:
            return None
        return apply_all(self.name, *ins, **{**self.given(), "graphs": text})

    def cost(self, ins: Types, outs: Types) -> Cost:
        # The types inside are not known here: an operation for each node and element outside.
        nodes = sum(len(body.graph.nodes) for body in self.bodies())
        size = sum(t.size for t in (*ins, *outs))
        return Cost(float(nodes * size), total_bytes(ins, outs))


def infer_body(body: Body, which: str, ins: Sequence[Any], outs: Sequence[Any]) -> tuple[Any, Any]:
    """Shapes or dtypes of a body's variables and outputs, from what is known of them."""
    known = {entry: fact for entry, fact in zip(body.variables, ins, strict=True) if fact}
    for entry, fact in zip(body.graph.outputs, outs, strict=True):
        if fact and entry not in known:
            known[entry] = fact
    engine = passes().infer_shapes if which == "shapes" else passes().infer_dtypes
    facts = engine(body.graph, known)
    return [facts.get(e) for e in body.variables], [facts.get(e) for e in body.graph.outputs]


def seeds_for(op: Op, arrays: tuple[Any, ...]) -> tuple[Any, tuple[Any, ...]]:
    """A function that draws the seeds of so many steps, and the arrays without the generator."""
    if not op.random:
        return (lambda steps: [0] * steps), arrays
    rng = arrays[0]
    return (lambda steps: rng.integers(2**62, size=steps).tolist()), arrays[1:]


def seed_array(op: Op, xp: Any, seeds: list[int]) -> list[Any]:
    """The seeds as a value to keep; nothing where nothing is random."""
    return [xp.asarray(seeds, "int64")] if op.random else []


def is_true(array: Any) -> bool:
    """A condition on the host: which graph runs next depends on it, so the device must be asked."""
    if array.size != 1:
        raise RuleError("a condition must be one number", got=array.shape)
    return bool(array.reshape(-1)[0])


def feed(body: Body, places: Sequence[int], arrays: Sequence[Any]) -> dict[Entry, Any]:
    """Values of a body's variables, which stand at `places` among the arrays."""
    return dict(zip(body.variables, (arrays[place] for place in places), strict=True))


class GradientOfGraphs(WithGraphs):
    """Shared by the gradients: inputs are head gradients, the op's inputs, and what it kept."""

    internal = True

    def kept_names(self) -> tuple[str, ...]:
        """What the op kept."""
        raise NotImplementedError

    def input_names(self) -> tuple[str, ...]:
        heads = tuple(f"grad{i}" for i in range(self.num_outputs))
        return (*heads, *super().input_names(), *self.kept_names())

    def output_names(self) -> tuple[str, ...]:
        return tuple(f"data{i}_grad" for i in range(self.n_inputs))

    @property
    def random(self) -> bool:  # type: ignore[override]
        """Draws nothing anew: random nodes get the seeds that forward kept."""
        return False

    def for_inference(self, ins: Entries) -> Entries | None:
        return None

    def parts(self, items: Sequence[Any]) -> tuple[Sequence[Any], Sequence[Any], Sequence[Any]]:
        """Head gradients, inputs of the op, what it kept."""
        a, b = self.num_outputs, self.num_outputs + self.n_inputs
        return items[:a], items[a:b], items[b:]

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        return ins, [unify(a, b) for a, b in zip(self.parts(ins)[1], outs, strict=True)]

    def infer_dtype(self, ins: DTypes, outs: DTypes) -> tuple[DTypes, DTypes]:
        return ins, [unify_dtypes(pair) for pair in zip(self.parts(ins)[1], outs, strict=True)]


# ----- branches


class _Branches(WithGraphs):
    """Parameters of the branch: condition, then, else, each with its inputs of the node."""

    n_graphs = 3
    num_args: int = COUNT
    num_outputs: int = param(low=1, doc="Number of outputs of either branch.")
    cond_input_locs: Dims = param(doc="Inputs that the condition reads.")
    then_input_locs: Dims = param(doc="Inputs that the first branch reads.")
    else_input_locs: Dims = param(doc="Inputs that the second branch reads.")
    graphs: str = GRAPHS

    def locs(self, which: int) -> Dims:
        """Inputs that graph number `which` reads."""
        return (self.cond_input_locs, self.then_input_locs, self.else_input_locs)[which]

    def kept_names(self) -> tuple[str, ...]:
        """Which branch ran, and the seed if anything is random."""
        is_random = any(body.is_random for body in self.bodies())
        return ("taken", "seed") if is_random else ("taken",)

    def deal(self, which: str, ins: Sequence[Any], outs: Sequence[Any]) -> tuple[Any, Any]:
        """Shapes or dtypes of inputs and outputs, from what all three graphs say."""
        merge = unify if which == "shapes" else (lambda a, b: unify_dtypes([a, b]))
        ins, outs = list(ins), list(outs)
        for number, body in enumerate(self.bodies()):
            places = self.locs(number)
            heads = outs if number else [None]
            given = [ins[place] for place in places]
            variables, made = infer_body(body, which, given, heads)
            for place, fact in zip(places, variables, strict=True):
                ins[place] = merge(ins[place], fact)
            if number:
                outs = [merge(a, b) for a, b in zip(outs, made, strict=True)]
        return ins, outs


@register
class _cond(_Branches):
    """Runs one of two graphs, as a third one decides; only the one that ran has a gradient.

    Inputs: all that the three graphs read. Both branches put out the same shapes and dtypes.
    """

    def saved_names(self) -> tuple[str, ...]:
        return self.kept_names()

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        if not self.graphs:
            return ins, outs
        made, heads = self.deal("shapes", ins, outs[: self.num_outputs])
        return made, [*heads, *[(1,)] * len(self.saved_names())]

    def infer_dtype(self, ins: DTypes, outs: DTypes) -> tuple[DTypes, DTypes]:
        if not self.graphs:
            return ins, outs
        made, heads = self.deal("dtypes", ins, outs[: self.num_outputs])
        return made, [*heads, *["int64"] * len(self.saved_names())]

    def forward(self, xp: Any, *arrays: Any) -> Any:
        self.refuse_updates("forward_updates")
        seed_of, arrays = seeds_for(self, arrays)
        (seed,) = seed_of(1)
        bodies = self.bodies()
        (decision,) = run(bodies[0], xp, feed(bodies[0], self.locs(0), arrays), seed)
        taken = 1 if is_true(decision) else 2
        made = run(bodies[taken], xp, feed(bodies[taken], self.locs(taken), arrays), seed)
        return (*made, xp.full(1, taken, "int64"), *seed_array(self, xp, [seed]))

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        self.refuse_updates("backward_updates")
        kept = outs[self.num_outputs :]
        return apply_all("_backward_cond", *grads, *ins, *kept, **self.given())


@register
class _backward_cond(_Branches, GradientOfGraphs):
    """Runs the derivative of the branch that was taken."""

    def forward(self, xp: Any, *arrays: Any) -> Any:
        heads, inputs, kept = self.parts(arrays)
        taken = int(kept[0][0])  # a number that the host must know, like the condition itself
        seed = int(kept[1][0]) if len(kept) > 1 else 0
        places = self.locs(taken)
        fed = [inputs[place] for place in places]
        made = run_derivative(derivative(self.graphs, taken), xp, fed, heads, seed)
        grads = dict(zip(places, made, strict=True))
        return tuple(grads.get(i, xp.zeros_like(a)) for i, a in enumerate(inputs))
