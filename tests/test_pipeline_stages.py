"""Stages: several on one worker, side branches and joins; all give the bits of one process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from random_graphs import WIDTH, assert_same_bits, bind_random, random_symbol
from test_pipeline import SCHEDULES, chain, groups, train

import raysym as mx
from raysym.errors import PlanError
from raysym.planning import lean
from raysym.planning.lifetimes import uses
from raysym.planning.lower import lower, owners_of
from raysym.planning.plan import Instruction, Plan, Recv, Run, Send
from raysym.planning.stages import backward_stages, chunks_of, staged
from raysym.planning.step import training_step
from scheduler.pipeline import (
    Stages,
    interleaved,
    one_f_one_b,
    print_order,
    search,
    zero_bubble_free,
)


def in_turn(n_workers: int, **more: object) -> dict[str, object]:
    """Groups dealt out in turn: with two workers 0, 1, 0, 1."""
    return {"group2ctx": groups(n_workers), **more}


HALVES = {f"g{i}": mx.cpu(i // 2) for i in range(4)}


def step_plan(executor: mx.Executor) -> Plan:
    return executor._session.mode("step")[1]


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize(("n_workers", "n"), [(1, 2), (2, 2), (2, 4), (4, 4)])
def test_workers_with_several_stages_give_the_same_bits(
    schedule: str, n_workers: int, n: int
) -> None:
    reference = train(bind_random(chain(4), 1, micro_batches=n, schedule="gpipe"), 3)
    where = in_turn(n_workers, micro_batches=n, schedule=schedule)
    assert_same_bits(reference, train(bind_random(chain(4), 1, **where), 3))


def test_replicas_of_workers_with_several_stages_give_the_same_bits() -> None:
    reference = train(bind_random(chain(4), 1, micro_batches=4, schedule="gpipe"), 3)
    where = in_turn(2, micro_batches=2, schedule="interleaved", data_parallel=2)
    assert_same_bits(reference, train(bind_random(chain(4), 1, **where), 3))


def fewest_for_copies(budget: lean.Budget, plan: Plan) -> int:
    """Bytes of a plan as if every copy saved some: not all kernels gain by them here."""
    programs = (program for phases in plan.programs.values() for program in phases.values())
    return 10**6 - sum(map(len, programs))


@pytest.mark.parametrize("schedule", ["1f1b", "interleaved", "search", "zero_bubble_free"])
def test_values_that_are_made_again_give_the_same_bits(
    schedule: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lean.Budget, "peak", fewest_for_copies)
    reference = train(bind_random(chain(4), 1, micro_batches=4, schedule="gpipe"), 3)
    where = {"micro_batches": 4, "schedule": schedule, "memory": "minimal"}
    cut = in_turn(2) if schedule in ("interleaved", "search") else {"group2ctx": HALVES}
    executor = bind_random(chain(4), 1, **where, **cut)
    assert executor._session.mode("step")[0].copies
    assert_same_bits(reference, train(executor, 3))


# ----- networks with branches


def branching(rng: np.random.Generator, n_nodes: int, group_of: Callable[[int], int]) -> mx.Symbol:
    """Two data inputs, random joins and skips, a weight used in several places, three heads."""
    data, more = mx.sym.Variable("data"), mx.sym.Variable("more_data")
    tied = mx.sym.Variable("tied_weight", shape=(WIDTH, WIDTH))
    with mx.AttrScope(ctx_group=f"g{group_of(0)}"):
        pool = [more, data, data + more]
    for i in range(n_nodes):
        with mx.AttrScope(ctx_group=f"g{group_of(i)}"):
            a, b = (pool[int(k)] for k in rng.integers(max(0, len(pool) - 5), len(pool), 2))
            kinds = [
                lambda x, y, i: mx.sym.FullyConnected(x + y, num_hidden=WIDTH, name=f"fc{i}"),
                lambda x, y, i: mx.sym.FullyConnected(
                    x, tied, num_hidden=WIDTH, no_bias=True, name=f"tied{i}"
                ),
                lambda x, y, i: mx.sym.BatchNorm(x * y, name=f"bn{i}"),
                lambda x, y, i: mx.sym.Dropout(mx.sym.tanh(x) + y, p=0.3, name=f"drop{i}"),
            ]
            pool.append(kinds[int(rng.integers(len(kinds)))](a, b, i))
    with mx.AttrScope(ctx_group=f"g{group_of(n_nodes // 2)}"):
        middle = mx.sym.LinearRegressionOutput(pool[len(pool) // 2], name="middle")
    with mx.AttrScope(ctx_group=f"g{group_of(n_nodes - 1)}"):
        last = mx.sym.SoftmaxOutput(pool[-1] + pool[2], name="softmax")
        return mx.sym.Group([middle, last, mx.sym.BlockGrad(pool[-2])])


def bind_branching(symbol: mx.Symbol, seed: int, **where: object) -> mx.Executor:
    return bind_random(symbol, seed, more_data=(4, WIDTH), **where)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    n_workers=st.integers(1, 4),
    n=st.sampled_from([1, 2, 4]),
    schedule=st.sampled_from(["gpipe", "1f1b", "zero_bubble_h1", "zero_bubble_free", "search"]),
    request=st.sampled_from(["write", "add"]),
)
def test_branches_joins_and_shared_weights_give_the_same_bits(
    seed: int, n_workers: int, n: int, schedule: str, request: str
) -> None:
    symbol = branching(np.random.default_rng(seed), 10, lambda i: i * 4 // 10)
    where = {"micro_batches": n, "grad_req": request}
    reference = train(bind_branching(symbol, seed, schedule="gpipe", **where), 2)
    cut = {f"g{i}": mx.cpu(i * n_workers // 4) for i in range(4)}
    executor = bind_branching(symbol, seed, schedule=schedule, group2ctx=cut, **where)
    assert_same_bits(reference, train(executor, 2))


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    n_workers=st.integers(1, 4),
    n=st.sampled_from([1, 2, 4]),
    is_random=st.booleans(),
    schedule=st.sampled_from(["search", "1f1b", "zero_bubble_h1", "zero_bubble_free"]),
)
@example(1, 3, 2, True, "1f1b")  # a variable's gradient needs that of a stage before its worker's
@example(385714, 3, 2, True, "search")  # a gradient of zeros is made later than it could be
@example(654445, 4, 4, True, "zero_bubble_h1")  # shared weights tie stages that share no data flow
def test_any_cut_has_an_order(
    seed: int, n_workers: int, n: int, is_random: bool, schedule: str
) -> None:
    rng = np.random.default_rng(seed)
    spots = rng.integers(4, size=10) if is_random else np.arange(10) * 4 // 10
    symbol = branching(rng, 10, lambda i: int(spots[i]))
    reference = train(bind_branching(symbol, seed, micro_batches=n, schedule="gpipe"), 2)
    where = in_turn(n_workers, micro_batches=n, schedule=schedule)
    assert_same_bits(reference, train(bind_branching(symbol, seed, **where), 2))


# ----- orders of one's own


EVEN = Stages.even(2, 1.0, 1.0, 1.0)
OWN: dict[str, object] = {
    "a function": zero_bubble_free,
    "a function with its own cap": partial(zero_bubble_free, cap=2),
    "actions": one_f_one_b(2, 4),
    "lists of tuples": [[tuple(action) for action in row] for row in one_f_one_b(2, 4)],
    "text": print_order(one_f_one_b(2, 4)),
    "a timeline": search(EVEN, 4),
    "some backwards split, some not": "0F0 0F1 0F2 0I0 0F3 0W0 0B1 0I2 0W2 0B3\n"
    "1F0 1B0 1F1 1I1 1F2 1W1 1I2 1F3 1I3 1W2 1W3",
}
OWN_IN_TURN: dict[str, object] = {
    "a function": partial(interleaved, chunks=2),
    "text": print_order(interleaved(2, 4)),
    "a search": search(Stages.even(2, 1.0, 1.0, 1.0, chunks=2), 4, memory=2.0),
}


@pytest.mark.parametrize("own", OWN)
def test_orders_of_ones_own_give_the_same_bits(own: str) -> None:
    reference = train(bind_random(chain(4), 1, micro_batches=4, schedule="gpipe"), 2)
    executor = bind_random(chain(4), 1, micro_batches=4, schedule=OWN[own], group2ctx=HALVES)
    assert_same_bits(reference, train(executor, 2))


@pytest.mark.parametrize("own", OWN_IN_TURN)
def test_orders_of_ones_own_over_several_stages_give_the_same_bits(own: str) -> None:
    reference = train(bind_random(chain(4), 1, micro_batches=4, schedule="gpipe"), 2)
    where = in_turn(2, micro_batches=4, schedule=OWN_IN_TURN[own])
    assert_same_bits(reference, train(bind_random(chain(4), 1, **where), 2))


@pytest.mark.parametrize("schedule", ["1f1b", "zero_bubble_h1", "zero_bubble_free", "search"])
def test_states_that_gradients_of_inputs_read_give_the_same_bits(schedule: str) -> None:
    """The average of this penalty moves in every backward and is in the gradient of its input."""

    def sparse() -> mx.Symbol:
        with mx.AttrScope(ctx_group="g0"):
            net = mx.sym.FullyConnected(mx.sym.Variable("data"), num_hidden=WIDTH, name="fc0")
        with mx.AttrScope(ctx_group="g3"):
            net = mx.sym.IdentityAttachKLSparseReg(mx.sym.sigmoid(net), penalty=0.5, name="sparse")
            net = mx.sym.FullyConnected(net, num_hidden=WIDTH, name="fc1")
            return mx.sym.SoftmaxOutput(net, name="softmax")

    reference = train(bind_random(sparse(), 1, micro_batches=4, schedule="gpipe"), 2)
    where = {"micro_batches": 4, "schedule": schedule, "group2ctx": HALVES}
    assert_same_bits(reference, train(bind_random(sparse(), 1, **where), 2))


# ----- refusals


def refused(schedule: object, where: dict[str, object], n: int = 2) -> str:
    with pytest.raises(PlanError) as caught:
        bind_random(chain(4), 1, micro_batches=n, schedule=schedule, **where)
    return str(caught.value)


def test_schedules_that_do_not_fit_are_refused() -> None:
    names = "1f1b, gpipe, interleaved, search, zero_bubble_free, zero_bubble_h1"
    wanted = f"expected one of {names}, an order or its text such as '0F0 0B0'"
    assert refused("1f2b", in_turn(1)) == f"schedule: got '1f2b', {wanted}"
    assert refused(7, in_turn(1)) == f"schedule: got 7, {wanted}"
    assert refused("0F0 0X0", in_turn(1)) == (
        "schedule: pipeline action: got '0X0', expected text such as 1F0 or 0B2"
    )
    assert refused("interleaved", in_turn(4)) == (
        "schedule: interleaved: 2 micro-batches, expected a multiple of 4"
    )
    uneven = {"group2ctx": {f"g{i}": mx.cpu(int("0100"[i])) for i in range(4)}}
    assert refused("interleaved", uneven) == (
        "schedule 'interleaved': stages on: got cpu:0, cpu:1, cpu:0, "
        "expected all of cpu:0, cpu:1 in turn, each as often"
    )
    order = print_order(interleaved(2, 2))
    assert refused(order, {"group2ctx": HALVES}) == (
        "schedule: rank 0: stages: got [0, 2], expected [0], since the stages are on cpu:0, cpu:1"
    )


def test_an_order_of_one_stage_each_that_would_wait_for_ever_is_refused() -> None:
    text = refused(print_order(one_f_one_b(2, 4)), in_turn(2), 4)
    assert "deadlock" in text
    assert "of one stage per worker: the data flow goes through: got cpu:0, cpu:1, cpu:0" in text
    assert "by name" in text


# ----- what overlaps


def bodies(plan: Plan) -> Iterator[tuple[str, tuple[Instruction, ...]]]:
    for worker, phases in plan.programs.items():
        yield worker, phases["step"]


ANY_STEP = {
    "seed": st.integers(0, 10**6),
    "n_workers": st.integers(2, 4),
    "schedule": st.sampled_from(["gpipe", "search"]),
}


def any_step(seed: int, n_workers: int, schedule: str) -> Plan:
    symbol = random_symbol(np.random.default_rng(seed), 10, 4)
    where = in_turn(n_workers, micro_batches=2, schedule=schedule)
    return step_plan(bind_random(symbol, seed, **where))


@settings(max_examples=20, deadline=None)
@given(**ANY_STEP)
def test_values_are_sent_right_after_they_are_made(
    seed: int, n_workers: int, schedule: str
) -> None:
    plan = any_step(seed, n_workers, schedule)
    for _, body in bodies(plan):
        made: set[str] = set()  # by the last run
        for instruction in body:
            if isinstance(instruction, Run):
                made = set(instruction.outs)
            elif isinstance(instruction, Send):
                assert instruction.entry in made | set(plan.homes)


@settings(max_examples=20, deadline=None)
@given(**ANY_STEP)
def test_nobody_waits_for_a_message_before_it_is_needed(
    seed: int, n_workers: int, schedule: str
) -> None:
    for _, body in bodies(any_step(seed, n_workers, schedule)):
        waited: set[str] = set()  # for the next instruction that is no receive
        for instruction in body:
            if isinstance(instruction, Recv):
                waited.add(instruction.entry)
            else:
                assert waited <= uses([instruction])
                waited = set()


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), n_workers=st.integers(2, 4))
def test_work_that_needs_no_message_is_not_behind_one(seed: int, n_workers: int) -> None:
    """In each stage, runs stand in the order of the last message that they need."""
    symbol = random_symbol(np.random.default_rng(seed), 10, 4)
    session = bind_random(symbol, seed, **in_turn(n_workers))._session
    step = training_step(session.bound)
    one = lower(step, session.bound, session.placement, free=False)
    chunks = chunks_of(one, "forward")
    owners = owners_of(step, session.bound)
    stages = {
        "forward": chunks.stage_of,
        "backward": backward_stages(one, chunks, "backward", owners),
    }
    parts = staged(one, stages, len(chunks.workers))
    seen = 0
    for phases in parts.programs.values():
        for body in phases.values():
            seen += sum(isinstance(instruction, Run) for instruction in body)
            assert_in_order_of_messages(body, parts.homes)
    assert seen == str(one).count("\n    run ")


def assert_in_order_of_messages(body: tuple[Instruction, ...], homes: Mapping[str, str]) -> None:
    after: dict[str, int] = {}  # how many messages an entry needs
    n_messages = newest = 0
    for instruction in body:
        if isinstance(instruction, Recv):
            n_messages += 1
            after[instruction.entry] = n_messages
        elif isinstance(instruction, Run):
            now = max((after.get(arg, 0) for arg in instruction.args), default=0)
            after.update(dict.fromkeys(instruction.outs, now))
            if homes.keys().isdisjoint(instruction.outs):  # a home waits for its readers as well
                assert now >= newest
                newest = now
