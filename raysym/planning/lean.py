"""Steps that fit into memory: forward values are dropped until the plan needs no more than allowed.

What counts is what the runtime would plan for values that come and go, on the worker that needs
most; resident arrays are not in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import NamedTuple, TypeAlias

from raysym.errors import PlacementError, sentence
from raysym.graph import Graph, Node
from raysym.passes.recompute import (
    Choice,
    Forward,
    choice_of,
    choices,
    droppable,
    every_choice,
    make_again,
)
from raysym.planning.plan import Plan
from raysym.planning.step import Step, phase_of
from raysym.planning.tasks import node_cost

MINIMAL = "minimal"
_FEW = 8  # nodes that may be dropped: every choice is planned, unless the graph is large
_TRIALS = 8  # likely choices that are planned where there are more
_STARTS = 3  # of these are changed
_PLANNED_NODES = 100_000  # of all choices: some seconds
_CHANGED_NODES = 10_000  # that are planned to see whether small changes help: a few seconds

# Bytes that a runtime plans on each worker for values that come and go.
Measure: TypeAlias = Callable[[Plan], Mapping[str, int]]
Planner: TypeAlias = Callable[[Step], Plan]


@dataclass(frozen=True)
class Budget:
    """Bytes for values that come and go, on each worker; "minimal": as few as can be."""

    limit: int | str
    measure: Measure

    def __post_init__(self) -> None:
        """TypeError for what is no limit."""
        given = self.limit
        is_bytes = isinstance(given, int) and not isinstance(given, bool) and given > 0
        if given != MINIMAL and not is_bytes:
            wanted = f"a number of bytes or {MINIMAL!r}"
            raise TypeError(sentence("memory", repr(given), wanted))

    def peak(self, plan: Plan) -> int:
        """Bytes on the worker that needs most."""
        return max(self.measure(plan).values(), default=0)


def within(budget: Budget, step: Step, planner: Planner) -> tuple[Step, Plan]:
    """The step and plan with the least extra work that fit; PlacementError if none does.

    "minimal": those that need the fewest bytes, and of these the least work. What a choice needs is
    known by planning it. With at most 8 nodes that backward needs and that may be dropped all
    choices are planned, if that takes seconds: none is better. Else segments are cut first (see
    `passes.recompute`) and then single nodes and pairs are changed while that helps, for seconds:
    nothing is proven of the result, but that no budget of as many bytes is refused.
    """
    smallest = budget.limit == MINIMAL
    best = _Search(budget, step, planner, -1 if smallest else int(budget.limit)).best()
    if not smallest and best.peak > int(budget.limit):
        best = _Search(budget, step, planner, -1).best()
    if not smallest and best.peak > int(budget.limit):
        raise PlacementError(
            f"memory: got {budget.limit} bytes, expected at least {best.peak}: values that come "
            f"and go need so many in {' and '.join(step.phases)}, recomputed or not"
        )
    return best.step, best.plan


class _Trial(NamedTuple):
    peak: int
    choice: Choice
    step: Step
    plan: Plan


class _Search:
    """Plans choices and compares them by what the runtime would really need."""

    def __init__(self, budget: Budget, step: Step, planner: Planner, limit: int) -> None:
        self.budget, self.step, self.planner, self.limit = budget, step, planner, limit

    def best(self) -> _Trial:
        """Of all choices if they are few; else of some likely ones, changed while that helps."""
        plain = self.trial(Choice(frozenset()))
        if plain.peak <= self.limit or len(self.step.phases) < 2:
            return plain
        forward = forward_of(self.step)
        nodes = droppable(forward)
        n_planned = len(self.step.graph.nodes) << len(nodes)
        if len(nodes) <= _FEW and n_planned <= _PLANNED_NODES:
            return self._first(every_choice(forward), plain)[0]
        likely = [*_likely(choices(forward), self.limit), choice_of(forward, {*nodes})]
        starts = self._first(likely, plain)
        most = _CHANGED_NODES // len(self.step.graph.nodes) // len(starts)
        moves = _moves(forward, nodes, most)
        ends = [self._changed(start, forward, moves, most) for start in starts]
        return min(ends, key=self.rank)

    def trial(self, choice: Choice) -> _Trial:
        """A choice and its plan."""
        leaner = with_copies(self.step, choice) if choice.dropped else self.step
        plan = self.planner(leaner)
        return _Trial(self.budget.peak(plan), choice, leaner, plan)

    def rank(self, trial: _Trial) -> tuple[int, float, int]:
        """The lower the better: bytes that are too many, then work."""
        return max(trial.peak, self.limit), trial.choice.flops, trial.peak

    def _first(self, found: Iterable[Choice], plain: _Trial) -> list[_Trial]:
        """The first that fits, else the best ones, the very best first."""
        best = [plain]
        for choice in found:
            best = sorted([*best, self.trial(choice)], key=self.rank)[:_STARTS]
            if best[0].peak <= self.limit:
                return best[:1]
        return best

    def _changed(
        self, best: _Trial, forward: Forward, moves: Sequence[frozenset[Node]], most: int
    ) -> _Trial:
        """The best after changes that help, one move at a time; `most` plans are made."""
        tried = {best.choice.dropped}
        at = 0
        while at < len(moves) and len(tried) <= most:
            choice = choice_of(forward, best.choice.dropped ^ moves[at])
            at += 1
            is_dear = best.peak <= self.limit and choice.flops >= best.choice.flops
            if choice.dropped not in tried and not is_dear:
                tried.add(choice.dropped)
                better = min(best, self.trial(choice), key=self.rank)
                if better is not best:
                    best, at = better, 0
        return best


def _moves(forward: Forward, nodes: Sequence[Node], most: int) -> list[frozenset[Node]]:
    """Nodes to be dropped if they are kept and kept if they are dropped.

    Single ones first, the largest of all first, then pairs, those that are near each other first.
    """
    size = {node: sum(forward.nbytes[e] for e in node.entries()) for node in nodes}
    single = ((node,) for node in sorted(nodes, key=lambda node: -size[node]))
    pairs = (pair for far in range(1, len(nodes)) for pair in zip(nodes, nodes[far:], strict=False))
    return [frozenset(move) for move in islice(chain(single, pairs), most)]


def _likely(found: Sequence[Choice], limit: int) -> Iterable[Choice]:
    """Choices that may fit, the least work first, then those that seem the smallest."""
    smallest = sorted(found, key=lambda choice: choice.nbytes)[:_TRIALS]
    fitting = [choice for choice in found if choice.nbytes <= limit][:_TRIALS]
    return dict.fromkeys([*fitting, *sorted(smallest, key=lambda choice: choice.flops)])


def forward_of(step: Step) -> Forward:
    """The part of a step that runs first, and what of it is read later."""
    phases = phase_of(step)
    first = step.phases[0]
    nodes = [n for n in step.graph.nodes if phases.get(n) == first and not n.is_variable]
    here = {*nodes}
    later = {
        entry
        for node in step.graph.nodes
        if node not in here
        for entry in node.inputs
        if entry.node in here
    }
    changed = {store.owner for store in step.stores if store.late and store.phase == first}
    sizes = {entry: kind.nbytes for entry, kind in step.types.items()}
    return Forward(
        nodes, later, sizes, lambda node: float(node_cost(node, step.types).flops), changed
    )


def with_copies(step: Step, choice: Choice) -> Step:
    """The step whose backward makes the dropped values again."""
    phases, first = phase_of(step), step.phases[0]
    forward = {node for node in step.graph.nodes if phases.get(node) == first}
    later, copy_of = make_again(step.graph, forward, choice.dropped)
    stores = tuple(
        store if store.phase == first else store._replace(entry=later.get(store.entry, store.entry))
        for store in step.stores
    )
    graph = Graph.of(store.entry for store in stores)
    old_of = {new: old for old, new in later.items()}
    nodes = {new.node: old.node for new, old in old_of.items()}
    entries = [entry for node in graph.nodes for entry in node.entries()]
    return replace(
        step,
        graph=graph,
        stores=stores,
        origin={node: step.origin[nodes.get(node, node)] for node in graph.nodes},
        types={entry: step.types[old_of.get(entry, entry)] for entry in entries},
        copies=frozenset(copy_of).intersection(graph.nodes),
    )
