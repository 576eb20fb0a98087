"""What is recomputed against brute force: every set of kept values of small chains, planned."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import raysym as mx
from raysym.graph import Entry, node_names, split_variables
from raysym.passes.infer import infer
from raysym.passes.recompute import Choice, may_drop
from raysym.planning.footprint import interpreted_bytes
from raysym.planning.lean import MINIMAL, Budget, Measure, forward_of, with_copies, within
from raysym.planning.lower import lower
from raysym.planning.plan import Plan
from raysym.planning.step import Bound, Step, training_step
from raysym.planning.tasks import node_cost
from raysym.runtime.linked import LinkedEngines
from raysym.simple_bind import simple_types

MEASURES: dict[str, Measure] = {
    "reference": interpreted_bytes,
    "generated": LinkedEngines().work_bytes,
}
Layer = Callable[[mx.Symbol, np.random.Generator], mx.Symbol]
LAYERS: list[Layer] = [
    lambda x, rng: mx.sym.FullyConnected(x, num_hidden=int(rng.integers(8, 400))),
    lambda x, rng: mx.sym.FullyConnected(x, num_hidden=int(rng.integers(8, 400)), no_bias=True),
    lambda x, rng: mx.sym.Activation(x, act_type=str(rng.choice(["tanh", "relu", "sigmoid"]))),
    lambda x, rng: mx.sym.BatchNorm(x),
    lambda x, rng: mx.sym.softmax(x),
    lambda x, rng: mx.sym.exp(x),
]


class Case(NamedTuple):
    step: Step
    plan_of: Callable[[Step], Plan]


def chain(seed: int, n: int) -> Case:
    """A training step of a chain of `n` layers, of random sizes and costs, and a loss."""
    rng = np.random.default_rng(seed)
    x = mx.sym.Variable("data")
    for _ in range(n):
        x = LAYERS[rng.integers(len(LAYERS))](x, rng)
    graph = mx.sym.LinearRegressionOutput(x, name="loss").graph
    args, aux = split_variables(graph)
    types = simple_types(graph, args, {"data": (32, int(rng.integers(20, 200)))}, None)
    known = {Entry(node): types[Entry(node)] for node in (*args, *aux)}
    asked = {Entry(node): "write" for node in args if node.name not in ("data", "loss_label")}
    bound = Bound(graph, node_names(graph), known, infer(graph, known), asked)
    placement = dict.fromkeys(graph.nodes, "cpu:0")
    return Case(training_step(bound), lambda step: lower(step, bound, placement))


def work(step: Step) -> float:
    """Flops of what a step makes again."""
    return float(sum(node_cost(node, step.types).flops for node in step.copies))


def brute_force(case: Case, budget: Budget) -> list[tuple[int, float]]:
    """Planned bytes and extra work of every set of forward values that may be dropped."""
    forward = forward_of(case.step)
    nodes = [node for node in forward.nodes if may_drop(node, forward.changed)]
    found: dict[frozenset[str], tuple[int, float]] = {}
    for kept in product([True, False], repeat=len(nodes)):
        dropped = frozenset(n for n, keep in zip(nodes, kept, strict=True) if not keep)
        step = with_copies(case.step, Choice(dropped)) if dropped else case.step
        again = frozenset(node.name for node in step.copies)
        if again not in found:  # others drop what backward does not need
            found[again] = budget.peak(case.plan_of(step)), work(step)
    return list(found.values())


SEEDS, LENGTHS = st.integers(0, 10**6), st.integers(1, 7)  # and the loss


@pytest.mark.parametrize("kind", MEASURES)
@settings(max_examples=8, deadline=None)
@given(seed=SEEDS, n=LENGTHS)
def test_nothing_needs_less_than_the_minimum_of_a_chain(kind: str, seed: int, n: int) -> None:
    case, budget = chain(seed, n), Budget(MINIMAL, MEASURES[kind])
    step, plan = within(budget, case.step, case.plan_of)
    assert (budget.peak(plan), work(step)) == min(brute_force(case, budget))


@pytest.mark.parametrize("kind", MEASURES)
@settings(max_examples=8, deadline=None)
@given(seed=SEEDS, n=LENGTHS, share=st.floats(0, 1))
def test_nothing_that_fits_into_a_budget_takes_less_work(
    kind: str, seed: int, n: int, share: float
) -> None:
    case = chain(seed, n)
    found = sorted(brute_force(case, Budget(MINIMAL, MEASURES[kind])))
    limit = max(1, found[int(share * (len(found) - 1))][0])
    budget = Budget(limit, MEASURES[kind])
    step, plan = within(budget, case.step, case.plan_of)
    assert budget.peak(plan) <= limit
    assert work(step) == min(flops for peak, flops in found if peak <= limit)
