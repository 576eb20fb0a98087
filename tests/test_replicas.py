"""Replicas: any number of them gives the bits of the same micro-batches on one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from random_graphs import WIDTH, assert_same_bits, bind_random, random_symbol
from test_pipeline import SCHEDULES, chain, contiguous, everything, groups, train
from thread_fleet import ThreadFleet

import raysym as mx
from raysym.planning.plan import Plan, Recv, Run, Send, parse
from raysym.runtime.resident import ResidentRuntime
from raysym.runtime.transport import TRANSPORTS

INPUTS = {"data", "softmax_label"}
SHAPES = [(2, 1), (2, 2), (4, 1)]  # replicas and micro-batches of each
REQUESTS = ["write", "add"]


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    n_workers=st.integers(1, 3),
    shape=st.sampled_from(SHAPES),
    request=st.sampled_from(REQUESTS),
    whole=st.booleans(),
)
def test_any_number_of_replicas_gives_the_same_bits(
    seed: int, n_workers: int, shape: tuple[int, int], request: str, whole: bool
) -> None:
    symbol = random_symbol(np.random.default_rng(seed), 8, 4)
    replicas, n = shape
    where = {"schedule": "gpipe", "group2ctx": groups(n_workers), "grad_req": request}
    one = train(bind_random(symbol, seed, micro_batches=replicas * n, **where), 2, whole=False)
    many = bind_random(symbol, seed, micro_batches=n, data_parallel=replicas, **where)
    assert_same_bits(one, train(many, 2, whole))
    assert many._session.mode("step")[1].workers == many.plan.workers


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("request_", REQUESTS)
def test_any_schedule_of_replicas_gives_the_same_bits(schedule: str, request_: str) -> None:
    where = {"group2ctx": contiguous(2), "schedule": schedule, "grad_req": request_}
    one = train(bind_random(chain(4), 1, micro_batches=4, **where), 2)
    many = bind_random(chain(4), 1, micro_batches=2, data_parallel=2, **where)
    assert_same_bits(one, train(many, 2))


def test_replicas_of_workers_with_several_stages_give_the_same_bits() -> None:
    where = {"schedule": "interleaved", "group2ctx": groups(2), "grad_req": "add"}
    one = train(bind_random(chain(4), 1, micro_batches=4, **where), 2)
    many = bind_random(chain(4), 1, micro_batches=2, data_parallel=2, **where)
    assert_same_bits(one, train(many, 2))


@pytest.mark.parametrize("shape", SHAPES)
def test_inference_runs_on_all_replicas(shape: tuple[int, int]) -> None:
    replicas, n = shape
    one = bind_random(chain(4), 1, micro_batches=replicas * n)
    many = bind_random(chain(4), 1, micro_batches=n, data_parallel=replicas)
    for executor in (one, many):
        executor.step()
        executor.forward(is_train=False)
    assert_same_bits(everything(one), everything(many))
    programs = many.plan.programs
    assert len(programs) == replicas
    assert all(programs[worker]["inference"] for worker in programs)


@pytest.mark.parametrize("kernels", ["reference", "generated"])
@pytest.mark.parametrize("axis", [0, 1])
def test_heads_take_gradients_along_any_batch_axis(axis: int, kernels: str) -> None:
    if kernels == "generated":
        pytest.importorskip("llvmlite")
    net = mx.sym.broadcast_mul(mx.sym.Variable("x"), mx.sym.Variable("w", shape=(1, 1)))
    rng = np.random.default_rng(0)
    x, head = (mx.nd.array(rng.normal(size=(4, 4))) for _ in range(2))
    found = []
    for where in ({"micro_batches": 4}, {"micro_batches": 2, "data_parallel": 2}):
        executor = net.simple_bind(
            mx.cpu(), x=(4, 4), batch_axes={"x": axis}, kernels=kernels, **where
        )
        executor.arg_dict["w"][:] = 0.3
        executor.step(head, x=x)
        whole = everything(executor)
        executor.forward(is_train=True, x=x)
        executor.backward(head)
        assert_same_bits(whole, everything(executor))
        found.append(whole)
    assert_same_bits(*found)


# ----- three, whose rows and gradients do not part evenly


def of_three(executor: mx.Executor) -> dict[str, np.ndarray]:
    """What a stream of steps and then single steps leave behind."""
    mx.random.seed(5)
    rng = np.random.default_rng(0)
    batches = [{"data": rng.normal(size=(6, WIDTH)).astype(np.float32)} for _ in range(6)]
    outputs = {f"step {i}": x[0] for i, x in enumerate(executor.run(batches))}
    return {**outputs, **train(executor, 2)}


THREE = {"data": (6, WIDTH), "optimizer": ("sgd_mom_update", {"lr": 0.1, "momentum": 0.9})}


@settings(max_examples=8, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    n_workers=st.integers(1, 2),
    n=st.sampled_from([1, 2]),
    request=st.sampled_from(REQUESTS),
    transport=st.sampled_from([None, *TRANSPORTS]),
)
def test_three_replicas_give_the_bits_of_one(
    seed: int, n_workers: int, n: int, request: str, transport: str | None
) -> None:
    symbol = random_symbol(np.random.default_rng(seed), 8, 4)
    where = {"schedule": "gpipe", "grad_req": request, **THREE}
    one = of_three(bind_random(symbol, seed, micro_batches=3 * n, **where))
    where |= {"micro_batches": n, "data_parallel": 3, "group2ctx": groups(n_workers)}
    assert_same_bits(one, of_three(bind_random(symbol, seed, **where)))
    runtime = ResidentRuntime(ThreadFleet, 1, transport)
    with bind_random(symbol, seed, runtime=runtime, **where) as many:
        assert_same_bits(one, of_three(many))


# ----- plans


def single(n: int, **where: Any) -> Plan:
    """The step of `n` replicas of one worker, which update the parameters."""
    reqs = {a: "null" if a in INPUTS else "write" for a in chain(4).list_arguments()}
    optimizer = ("sgd_mom_update", {"lr": 0.1})
    executor = bind_random(
        chain(4), 1, data_parallel=n, grad_req=reqs, optimizer=optimizer, **where
    )
    return executor._session.mode("step")[1]


def gradients(plan: Plan, worker: str) -> list[str]:
    return [e for e, home in plan.homes.items() if home == worker and e.startswith("grad:")]


@pytest.mark.parametrize("n", [2, 4])
def test_every_replica_has_its_rows_only(n: int) -> None:
    plan = single(n)
    for r, worker in enumerate(plan.workers):
        assert plan.homes[f"part:{r}:data"] == worker
        assert plan.types[f"part:{r}:data"].shape == (4 // n, WIDTH)
        assert plan.types[f"part:{r}:output:0"].shape == (4 // n, WIDTH)
    sent = {i.entry for p in plan.programs.values() for i in p["step"] if type(i) is Send}
    assert not any(entry.startswith(("data", "softmax", "part:")) for entry in sent)


@pytest.mark.parametrize("n", [2, 4])
def test_additions_and_updates_are_shared_out(n: int) -> None:
    plan = single(n)
    held = [sum(plan.types[g].nbytes for g in gradients(plan, w)) for w in plan.workers]
    assert max(held) - min(held) <= WIDTH * WIDTH * 4
    for worker in plan.workers:
        runs = [i for i in plan.programs[worker]["step"] if type(i) is Run]
        own = set(gradients(plan, worker))
        assert {run.args[1] for run in runs if run.op.name == "sgd_mom_update"} == own
        assert {run.outs[0] for run in runs if run.outs[0] in plan.homes} >= own


@pytest.mark.parametrize("n", [2, 4])
def test_nobody_waits_for_a_replica_before_the_first_gradients_are_there(n: int) -> None:
    """Although BatchNorm changes states, and sets fixed gammas: gradients are what comes first."""
    plan = single(n)
    for worker in plan.workers:
        body = plan.programs[worker]["step"]
        first = next(x for x in body if type(x) is Recv)
        before = body[: body.index(first)]
        made = {out.rpartition("@")[0] for x in before if type(x) is Run for out in x.outs}
        assert first.entry.rpartition("@")[0] in made  # the same gradient of another replica
        assert "_backward" in first.entry


PLAN = """\
cpu:0
  home  part:0:data f32[2,3]
  home  fc_weight f32[2,3]
  home  part:0:output:0 f32[2,2]
  home  grad:fc_weight f32[2,3]
  step:
    run   data@0 f32[2,3] = slice_axis(part:0:data; axis=0, begin=0, end=2)
    run   fc@0 f32[2,2] = FullyConnected(data@0, fc_weight; num_hidden=2, no_bias=True)
    run   loss@0 f32[2,2] = MakeLoss(fc@0)
    free  fc@0
    run   part:0:output:0 f32[2,2] = _copy(loss@0)
    free  loss@0
    run   loss_backward@0 f32[2,2] = _full(; shape=(2, 2), value=1.0)
    run   fc_backward@0 f32[2,3] = Flatten(data@0)
    free  data@0
    run   fc_backward#1@0 f32[2,3] = dot(loss_backward@0, fc_backward@0; transpose_a=True)
    free  fc_backward@0
    free  loss_backward@0
    recv  fc_backward#1@1 <- cpu:1
    run   grad:fc_weight f32[2,3] = elemwise_add(fc_backward#1@0, fc_backward#1@1)
    free  fc_backward#1@0
    free  fc_backward#1@1
    run   fc_weight f32[2,3] = sgd_update(fc_weight, grad:fc_weight; lr=0.1)
    run   updated:fc_weight f32[2,3] = _copy(fc_weight)
    send  updated:fc_weight -> cpu:1
    free  updated:fc_weight
cpu:1
  home  part:1:data f32[2,3]
  home  copy:1:fc_weight f32[2,3]
  home  part:1:output:0 f32[2,2]
  step:
    run   data@1 f32[2,3] = slice_axis(part:1:data; axis=0, begin=0, end=2)
    run   fc@1 f32[2,2] = FullyConnected(data@1, copy:1:fc_weight; num_hidden=2, no_bias=True)
    run   loss@1 f32[2,2] = MakeLoss(fc@1)
    free  fc@1
    run   part:1:output:0 f32[2,2] = _copy(loss@1)
    free  loss@1
    run   loss_backward@1 f32[2,2] = _full(; shape=(2, 2), value=1.0)
    run   fc_backward@1 f32[2,3] = Flatten(data@1)
    free  data@1
    run   fc_backward#1@1 f32[2,3] = dot(loss_backward@1, fc_backward@1; transpose_a=True)
    free  fc_backward@1
    free  loss_backward@1
    send  fc_backward#1@1 -> cpu:0
    free  fc_backward#1@1
    recv  updated:fc_weight <- cpu:0
    run   copy:1:fc_weight f32[2,3] = _copy(updated:fc_weight)
    free  updated:fc_weight"""


def test_two_replicas_become_this_plan() -> None:
    net = mx.sym.FullyConnected(mx.sym.Variable("data"), num_hidden=2, no_bias=True, name="fc")
    net = mx.sym.MakeLoss(net, name="loss")
    executor = net.simple_bind(
        mx.cpu(),
        data=(4, 3),
        grad_req={"data": "null", "fc_weight": "write"},
        data_parallel=2,
        optimizer=("sgd_update", {"lr": 0.1}),
    )
    plan = executor._session.mode("step")[1]
    assert str(plan) == PLAN
    assert parse(str(plan)) == plan


# ----- on Ray


@pytest.mark.ray
@pytest.mark.usefixtures("ray_session")
@settings(
    max_examples=3, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    seed=st.integers(0, 10**6),
    transport=st.sampled_from(TRANSPORTS),
    n=st.sampled_from([1, 2]),
    request=st.sampled_from(REQUESTS),
    whole=st.booleans(),
)
def test_replicas_in_processes_give_the_bits_of_this_one(
    seed: int, transport: str, n: int, request: str, whole: bool
) -> None:
    symbol = random_symbol(np.random.default_rng(seed), 8, 4)
    one = train(bind_random(symbol, seed, micro_batches=2 * n, grad_req=request), 3)
    where = {"micro_batches": n, "data_parallel": 2, "grad_req": request}
    where |= {"group2ctx": groups(2), "schedule": "gpipe"}
    with bind_random(symbol, seed, runtime="ray", transport=transport, **where) as many:
        assert_same_bits(one, train(many, 3, whole))


@pytest.mark.ray
@pytest.mark.usefixtures("ray_session")
@pytest.mark.parametrize(("n", "request_"), [(1, "write"), (2, "add")])
def test_three_replicas_in_processes_give_the_bits_of_one(n: int, request_: str) -> None:
    """Gradients are added up where their parameter lives, or on the way from one to the next."""
    where = {"grad_req": request_, **THREE}
    one = of_three(bind_random(chain(4), 1, micro_batches=3 * n, **where))
    with bind_random(chain(4), 1, micro_batches=n, data_parallel=3, runtime="ray", **where) as many:
        assert len(many.step_plan.workers) == 3
        assert_same_bits(one, of_three(many))


@pytest.mark.ray
@pytest.mark.usefixtures("ray_session")
def test_large_replicas_in_processes_train_like_one() -> None:
    """Gradients of more than a message's inline size, an optimizer, and steps under way."""
    net = mx.sym.FullyConnected(mx.sym.Variable("data"), num_hidden=150, name="fc0")
    for i in range(1, 6):
        net = mx.sym.FullyConnected(mx.sym.tanh(net), num_hidden=150, name=f"fc{i}")
    net = mx.sym.LinearRegressionOutput(net, name="loss")
    reqs = {a: "null" if a in ("data", "loss_label") else "write" for a in net.list_arguments()}
    rng = np.random.default_rng(0)
    batches = [
        {name: rng.normal(size=(8, 150)).astype(np.float32) for name in ("data", "loss_label")}
        for _ in range(5)
    ]
    found = []
    for where in (
        {"micro_batches": 4},
        {"data_parallel": 4, "runtime": "ray"},
        {"data_parallel": 2, "micro_batches": 2, "runtime": "ray"},
    ):
        optimizer = ("adam_update", {"lr": 0.1})
        with net.simple_bind(
            mx.cpu(), data=(8, 150), grad_req=reqs, optimizer=optimizer, **where
        ) as executor:
            for array in executor.arg_dict.values():
                array[:] = np.random.default_rng(1).normal(size=array.shape) * 0.1
            outputs = {f"step {i}": x[0] for i, x in enumerate(executor.run(batches))}
            states = {k: a.asnumpy() for k, a in executor.state_dict.items()}
            found.append({**everything(executor), **outputs, **states})
    assert_same_bits(found[0], found[1])
    assert_same_bits(found[0], found[2])
