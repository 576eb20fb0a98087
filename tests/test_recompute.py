"""Recompute: no bit changes, budgets hold, and the plan says what is made again."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_calls import kernels
from random_graphs import assert_same_bits, bind_random, random_symbol, train

import raysym as mx
from raysym.passes.recompute import best_cuts
from raysym.planning.plan import Run
from raysym.runtime.linked import LinkedRuntime
from raysym.runtime.local import LocalRuntime

SEEDS = st.integers(0, 10**6)
RUNTIMES = {
    "reference": LocalRuntime,
    "generated": lambda: LinkedRuntime(kernels=kernels()),
    "poisoned": lambda: LinkedRuntime(kernels=kernels(), poison=True),
}


def work(executor: mx.Executor, mode: str = "training") -> int:
    return max(kinds.work for kinds in executor.memory(mode).values())


def groups(n: int) -> dict[str, mx.Context]:
    return {f"g{i}": mx.cpu(i % n) for i in range(4)}


@pytest.mark.parametrize("kind", RUNTIMES)
@settings(max_examples=5, deadline=None)
@given(seed=SEEDS, n_nodes=st.integers(2, 20), n_workers=st.integers(1, 3))
def test_no_bit_depends_on_what_is_made_again(
    kind: str, seed: int, n_nodes: int, n_workers: int
) -> None:
    symbol = random_symbol(np.random.default_rng(seed), n_nodes, 4)
    where = {"group2ctx": groups(n_workers)}
    plain = bind_random(symbol, seed, runtime=RUNTIMES[kind](), **where)
    least = bind_random(symbol, seed, runtime=RUNTIMES[kind](), memory="minimal", **where)
    assert work(least) <= work(plain)
    assert_same_bits(train(plain, 2), train(least, 2))


@pytest.mark.parametrize("kind", ["reference", "generated"])
@settings(max_examples=5, deadline=None)
@given(seed=SEEDS, n_nodes=st.integers(8, 20), share=st.floats(0, 1))
def test_every_budget_between_least_and_plain_is_kept(
    kind: str, seed: int, n_nodes: int, share: float
) -> None:
    symbol = random_symbol(np.random.default_rng(seed), n_nodes, 4)
    plain = bind_random(symbol, seed, runtime=RUNTIMES[kind]())
    least = bind_random(symbol, seed, runtime=RUNTIMES[kind](), memory="minimal")
    least.forward(is_train=False)  # which may need more than training
    floor = max(work(least, mode) for mode in ("training", "inference"))
    budget = int(floor + share * max(0, work(plain) - floor))
    made = bind_random(symbol, seed, runtime=RUNTIMES[kind](), memory=budget)
    assert work(made) <= budget
    assert_same_bits(train(plain, 1), train(made, 1))


# ----- what is made again


def chain(n: int, width: int = 64) -> mx.Symbol:
    x = mx.sym.Variable("data")
    for i in range(n):
        x = mx.sym.FullyConnected(x, num_hidden=width, name=f"fc{i}")
        x = mx.sym.Activation(x, act_type="tanh", name=f"act{i}")
    return mx.sym.LinearRegressionOutput(x, name="loss")


def bound(net: mx.Symbol, **options: object) -> mx.Executor:
    return net.simple_bind(mx.cpu(), data=(64, 64), **options)


def again(executor: mx.Executor) -> list[str]:
    body = executor.plan.programs["cpu:0"]["backward"]
    names = [run.outs[0] for run in body if type(run) is Run]
    return [name.removesuffix("_again") for name in names if name.endswith("_again")]


def test_a_chain_needs_about_the_root_of_its_bytes() -> None:
    plain, least = bound(chain(36)), bound(chain(36), memory="minimal")
    assert work(least) < 0.5 * work(plain)
    made = again(least)
    assert len(made) == len(set(made))  # each value once
    assert set(made) <= {"loss", *(f"{kind}{i}" for kind in ("fc", "act") for i in range(36))}


def test_values_are_made_again_when_backward_gets_to_them() -> None:
    made = again(bound(chain(36), memory="minimal"))
    numbers = [int(name.removeprefix("fc")) for name in made if name.startswith("fc")]
    falls = [a for a, b in pairwise(numbers) if b < a]
    assert numbers != sorted(numbers)
    assert falls == sorted(falls, reverse=True)  # segment by segment from the end


def test_random_numbers_and_updates_are_not_made_again() -> None:
    x = mx.sym.BatchNorm(mx.sym.Variable("data"), name="bn")
    for i in range(6):
        x = mx.sym.Dropout(mx.sym.tanh(x, name=f"tanh{i}"), name=f"drop{i}")
    executor = bound(mx.sym.LinearRegressionOutput(x, name="loss"), memory="minimal")
    bodies = executor.plan.programs["cpu:0"]
    runs = [i for body in bodies.values() for i in body if type(i) is Run]
    assert [r.outs[0] for r in runs if r.op.random] == [f"drop{i}" for i in range(6)]
    assert sum("bn_moving_mean" in run.outs for run in runs) == 1


def test_a_budget_that_cannot_be_kept_names_the_least() -> None:
    with pytest.raises(mx.MXNetError, match=r"memory: got 1000 bytes, expected at least \d+"):
        bound(chain(6), memory=1000)


@pytest.mark.parametrize("given", ["small", 0, -5, 1.5, True])
def test_other_budgets_are_refused(given: object) -> None:
    with pytest.raises(TypeError, match=r"memory: got .*, expected a number of bytes or"):
        bound(chain(2), memory=given)


def test_memory_and_debug_str_tell_bytes_by_kind() -> None:
    executor = bound(chain(2))
    found = executor.memory()["cpu:0"]
    square = 64 * 64 * 4
    assert found.arguments == 4 * square + 2 * 256
    assert found.gradients == 3 * square + 2 * 256  # the label has none
    assert (found.auxiliary, found.states, found.heads) == (0, 0, square)
    assert found.total == found.arguments + found.gradients + found.heads + found.work
    text = executor.debug_str()
    assert f"cpu:0: arguments {found.arguments}, gradients {found.gradients}" in text
    assert text.endswith(f"Total {found.work / 2**20:.4g} MB allocated")


def test_the_arena_is_what_was_planned() -> None:
    used = LinkedRuntime(kernels=kernels())
    executor = bound(chain(8), runtime=used, memory="minimal")
    assert used.workers[0].nbytes == work(executor)


# ----- where to cut


@given(
    st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), min_size=1, max_size=10),
    st.integers(1, 60),
)
def test_cuts_are_the_cheapest_there_are(pairs: list[tuple[int, int]], limit: int) -> None:
    weights, costs = [p[0] for p in pairs], [p[1] for p in pairs]

    def cost(ends: tuple[int, ...]) -> float:
        edges = [0, *(end + 1 for end in ends), len(weights)]
        parts = [weights[a:b] for a, b in pairwise(edges)]
        if any(sum(part) > limit and len(part) > 1 for part in parts):
            return float("inf")
        return sum(costs[end] for end in ends)

    places = range(len(weights) - 1)
    ways = [[i for i in places if mask >> i & 1] for mask in range(2 ** len(places))]
    assert cost(tuple(best_cuts(weights, costs, limit))) == min(cost(tuple(way)) for way in ways)
