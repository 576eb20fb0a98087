"""Steps that fit into memory: forward values are dropped until the plan needs no more than allowed.

What counts is what the runtime would plan for values that come and go, on the worker that needs
most; resident arrays are not in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from raysym.errors import PlacementError
from raysym.graph import Graph
from raysym.passes.recompute import Choice, Forward, choices, make_again
from raysym.planning.plan import Plan
from raysym.planning.step import Step, phase_of
from raysym.planning.tasks import node_cost

MINIMAL = "minimal"
_TRIALS = 6  # plans that are made before the best is taken

# Bytes that a runtime plans on each worker for values that come and go.
Measure: TypeAlias = Callable[[Plan], Mapping[str, int]]
Planner: TypeAlias = Callable[[Step], Plan]


@dataclass(frozen=True)
class Budget:
    """Bytes for values that come and go, on each worker; "minimal": as few as can be."""

    limit: int | str
    measure: Measure

    def peak(self, plan: Plan) -> int:
        """Bytes on the worker that needs most."""
        return max(self.measure(plan).values(), default=0)


def within(budget: Budget, step: Step, planner: Planner) -> tuple[Step, Plan]:
    """The step and plan with the least extra work that fit; PlacementError if none does."""
    plan = planner(step)
    best, best_peak = (step, plan), budget.peak(plan)
    limit = -1 if budget.limit == MINIMAL else int(budget.limit)
    if best_peak <= limit:
        return best
    found = choices(_forward(step)) if len(step.phases) == 2 else []
    for choice in _trials(found, limit):
        leaner = with_copies(step, choice)
        plan = planner(leaner)
        peak = budget.peak(plan)
        if peak < best_peak:
            best, best_peak = (leaner, plan), peak
        if peak <= limit:
            return leaner, plan
    if budget.limit != MINIMAL:
        raise PlacementError(
            f"bind: memory: got {limit} bytes, expected at least {best_peak}: values that come and "
            f"go need so many in {' and '.join(step.phases)}, recomputed or not"
        )
    return best


def _trials(found: Sequence[Choice], limit: int) -> Iterable[Choice]:
    """Choices worth a plan: those that may fit, the least work first, then the smallest."""
    smallest = sorted(found, key=lambda choice: choice.nbytes)[:_TRIALS]
    fitting = [choice for choice in found if choice.nbytes <= limit]
    return dict.fromkeys([*fitting[:_TRIALS], *smallest])


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
