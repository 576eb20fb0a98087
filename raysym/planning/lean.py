"""Steps that fit into memory: forward values are dropped until the plan needs no more than allowed.

What counts is what the runtime would plan for values that come and go, on the worker that needs
most; resident arrays are not in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeAlias

from raysym.errors import PlacementError, sentence
from raysym.graph import Graph
from raysym.passes.recompute import Choice, Forward, choices, make_again
from raysym.planning.plan import Plan
from raysym.planning.step import Step, phase_of
from raysym.planning.tasks import node_cost

MINIMAL = "minimal"
_TRIALS = 8  # plans that are made before the best is taken
_SLACK = 1.1  # "minimal" may take so much more than the least where that saves work

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
    """The step and plan with the least extra work that fit; PlacementError if none does."""
    limit = -1 if budget.limit == MINIMAL else int(budget.limit)
    tried: list[_Trial] = []
    for choice in (None, *_worth_trying(step, limit)):
        leaner = step if choice is None else with_copies(step, choice)
        plan = planner(leaner)
        tried.append(_Trial(budget.peak(plan), choice.flops if choice else 0.0, leaner, plan))
        if tried[-1].peak <= limit:
            return leaner, plan
    least = min(trial.peak for trial in tried)
    if budget.limit != MINIMAL:
        raise PlacementError(
            f"memory: got {limit} bytes, expected at least {least}: values that come and "
            f"go need so many in {' and '.join(step.phases)}, recomputed or not"
        )
    small = [trial for trial in tried if trial.peak <= _SLACK * least]
    best = min(small, key=lambda trial: (trial.flops, trial.peak))
    return best.step, best.plan


class _Trial(NamedTuple):
    peak: int
    flops: float
    step: Step
    plan: Plan


def _worth_trying(step: Step, limit: int) -> Iterable[Choice]:
    """Choices that may fit, the least work first, then those that seem the smallest."""
    if len(step.phases) < 2:
        return []
    found = choices(_forward(step))
    smallest = sorted(found, key=lambda choice: choice.nbytes)[:_TRIALS]
    fitting = [choice for choice in found if choice.nbytes <= limit][:_TRIALS]
    return dict.fromkeys([*fitting, *sorted(smallest, key=lambda choice: choice.flops)])


def _forward(step: Step) -> Forward:
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
