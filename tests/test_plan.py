"""Plans as text: what a placement becomes, that text reads back, and what the checker refuses."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_graphs import bind_random, random_symbol

import raysym as mx
from raysym.errors import PlacementError, PlanError
from raysym.planning.check import check
from raysym.planning.plan import Free, Plan, Recv, Run, Send, parse


def two_workers() -> mx.Executor:
    with mx.AttrScope(ctx_group="a"):
        left = mx.sym.exp(mx.sym.Variable("data"), name="left")
    with mx.AttrScope(ctx_group="b"):
        right = mx.sym.exp(left, name="right")
    where = {"a": mx.cpu(0), "b": mx.cpu(1)}
    return right.simple_bind(mx.cpu(), data=(2, 3), group2ctx=where)


def test_a_placement_becomes_this_plan() -> None:
    assert str(two_workers().plan) == "\n".join(
        [
            "cpu:0",
            "  home  data f32[2,3]",
            "  home  grad:data f32[2,3]",
            "  forward:",
            "    run   left f32[2,3] = exp(data)",
            "    send  left -> cpu:1",
            "  backward:",
            "    recv  right_backward <- cpu:1",
            "    run   left_backward f32[2,3] = elemwise_mul(right_backward, left)",
            "    free  right_backward",
            "    run   grad:data f32[2,3] = _copy(left_backward)",
            "    free  left_backward",
            "cpu:1",
            "  home  head_grad:0 f32[2,3]",
            "  home  output:0 f32[2,3]",
            "  forward:",
            "    recv  left <- cpu:0",
            "    run   right f32[2,3] = exp(left)",
            "    free  left",
            "    run   output:0 f32[2,3] = _copy(right)",
            "  backward:",
            "    run   right_backward f32[2,3] = elemwise_mul(head_grad:0, right)",
            "    send  right_backward -> cpu:0",
            "    free  right_backward",
        ]
    )


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), n_workers=st.integers(1, 4))
def test_text_and_pickle_read_back(seed: int, n_workers: int) -> None:
    symbol = random_symbol(np.random.default_rng(seed), 9, 4)
    groups = {f"g{i}": mx.cpu(i % n_workers) for i in range(4)}
    plan = bind_random(symbol, seed, group2ctx=groups).plan
    assert parse(str(plan)) == plan
    assert pickle.loads(pickle.dumps(plan)) == plan


def test_strange_names_read_back() -> None:
    odd = mx.sym.Variable("a, b = c(d; e)[1]") + mx.sym.Variable('it\'s "so"\n')
    executor = odd.simple_bind(mx.cpu(), **{"a, b = c(d; e)[1]": (2,)})
    assert parse(str(executor.plan)) == executor.plan


def test_a_line_that_cannot_be_read_is_named() -> None:
    with pytest.raises(PlanError, match="line 3: cannot read 'jump  x'"):
        parse("cpu:0\n  forward:\n    jump  x")


# ----- what the checker refuses


def plan_of(**programs: list) -> Plan:
    named = {f"cpu:{name[1:]}": {"forward": tuple(body)} for name, body in programs.items()}
    return Plan(named, {"x": "cpu:0"}, two_workers().plan.types)


def exp_of(out: str, arg: str) -> Run:
    run = next(i for i in two_workers().plan.programs["cpu:0"]["forward"] if isinstance(i, Run))
    return Run((out,), run.op, (arg,))


def test_a_good_plan_passes_and_tells_its_peak() -> None:
    plan = two_workers().plan
    assert check(plan) == {"cpu:0": 5 * 24, "cpu:1": 4 * 24}


def test_use_of_a_missing_entry_is_refused() -> None:
    with pytest.raises(PlanError, match=r"y is not on this worker(.|\n)*z = exp\(y\)   <-- here"):
        check(plan_of(w0=[exp_of("z", "y")]))


def test_use_after_free_is_refused() -> None:
    with pytest.raises(PlanError, match="y is not on this worker"):
        check(plan_of(w0=[exp_of("y", "x"), Free("y"), exp_of("z", "y")]))


def test_freeing_a_resident_entry_is_refused() -> None:
    with pytest.raises(PlanError, match="x is not here to be freed"):
        check(plan_of(w0=[Free("x")]))


def test_a_receive_without_a_send_is_refused() -> None:
    with pytest.raises(PlanError, match="cpu:0 never sends it"):
        check(plan_of(w0=[], w1=[Recv("x", "cpu:0")]))


def test_a_message_nobody_takes_is_refused() -> None:
    with pytest.raises(PlanError, match="cpu:0 sends x 1 times more often"):
        check(plan_of(w0=[Send("x", "cpu:1")], w1=[]))


def test_a_message_to_nobody_is_refused() -> None:
    with pytest.raises(PlanError, match="no worker cpu:7"):
        check(plan_of(w0=[Send("x", "cpu:7")]))


def test_a_deadlock_is_refused() -> None:
    first = [Recv("b", "cpu:1"), exp_of("a", "x"), Send("a", "cpu:1")]
    second = [Recv("a", "cpu:0"), exp_of("b", "a"), Send("b", "cpu:0")]
    with pytest.raises(PlanError, match="deadlock: cpu:1 would send it later, but waits as well"):
        check(plan_of(w0=first, w1=second))


def test_too_little_memory_is_refused_with_the_numbers() -> None:
    numbers = r"cpu:0 needs 120 bytes at .run   left_backward.*, has 50 .70 too many"
    with pytest.raises(PlacementError, match=numbers):
        check(two_workers().plan, {"cpu:0": 50})
