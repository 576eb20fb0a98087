"""Micro-batches: any schedule and any cut gives the bits of the micro-batches one by one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_graphs import WIDTH, assert_same_bits, bind_random, random_symbol

import raysym as mx
from raysym.errors import PlanError
from raysym.planning.plan import parse

SCHEDULES = ["gpipe", "1f1b", "zero_bubble_h1", "zero_bubble_free", "interleaved", "search"]


def groups(n: int) -> dict[str, mx.Context]:
    return {f"g{i}": mx.cpu(i % n) for i in range(4)}


def train(executor: mx.Executor, n_steps: int, whole: bool = True) -> dict[str, np.ndarray]:
    """What `n_steps` of SGD leave behind, by `step` or by forward and backward."""
    mx.random.seed(7)
    rng = np.random.default_rng(3)
    for _ in range(n_steps):
        data = rng.normal(size=executor.arg_dict["data"].shape).astype(np.float32)
        if whole:
            executor.step(data=data)
        else:
            executor.forward(is_train=True, data=data)
            executor.backward()
        for name, grad in executor.grad_dict.items():
            if grad is not None and name not in ("data", "softmax_label"):
                executor.arg_dict[name][:] = executor.arg_dict[name] - 0.05 * grad
    return everything(executor)


def everything(executor: mx.Executor) -> dict[str, np.ndarray]:
    found = {f"arg {name}": a.asnumpy() for name, a in executor.arg_dict.items()}
    found |= {f"grad {n}": g.asnumpy() for n, g in executor.grad_dict.items() if g is not None}
    found |= {f"aux {name}": a.asnumpy() for name, a in executor.aux_dict.items()}
    return found | {f"out {i}": o.asnumpy() for i, o in enumerate(executor.outputs)}


def chain(n: int) -> mx.Symbol:
    """Stages g0 .. g(n-1), with a skip edge from the first to the last."""
    x = first = None
    for i in range(n):
        with mx.AttrScope(ctx_group=f"g{i}"):
            x = mx.sym.Variable("data") if x is None else x
            x = mx.sym.FullyConnected(x, num_hidden=WIDTH, name=f"fc{i}")
            x = mx.sym.BatchNorm(x, name=f"bn{i}")
            x = mx.sym.Activation(x, act_type="tanh", name=f"act{i}")
            first = x if first is None else first
    with mx.AttrScope(ctx_group=f"g{n - 1}"):
        return mx.sym.SoftmaxOutput(x + first, name="softmax")


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    n_workers=st.integers(1, 4),
    n=st.sampled_from([1, 2, 4]),
    whole=st.booleans(),
    request=st.sampled_from(["write", "add"]),
)
def test_any_cut_of_any_graph_gives_the_same_bits(
    seed: int, n_workers: int, n: int, whole: bool, request: str
) -> None:
    symbol = random_symbol(np.random.default_rng(seed), 8, 4)
    where = {"micro_batches": n, "schedule": "gpipe", "grad_req": request}
    reference = train(bind_random(symbol, seed, **where), 2, whole=False)
    cut = bind_random(symbol, seed, group2ctx=groups(n_workers), **where)
    assert_same_bits(reference, train(cut, 2, whole))


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("n_workers", [1, 2, 4])
def test_any_schedule_gives_the_same_bits(schedule: str, n_workers: int) -> None:
    reference = train(bind_random(chain(4), 1, micro_batches=4, schedule="gpipe"), 3)
    where = {"group2ctx": contiguous(n_workers), "micro_batches": 4, "schedule": schedule}
    assert_same_bits(reference, train(bind_random(chain(4), 1, **where), 3))


def contiguous(n: int) -> dict[str, mx.Context]:
    return {f"g{i}": mx.cpu(i * n // 4) for i in range(4)}


@pytest.mark.parametrize("n", [2, 4])
def test_a_step_is_its_micro_batches_one_by_one(n: int) -> None:
    pipelined = bind_random(chain(4), 1, group2ctx=contiguous(4), micro_batches=n)
    alone = chain(4).simple_bind(mx.cpu(), data=(4 // n, WIDTH))
    for source, target in (
        (pipelined.arg_dict, alone.arg_dict),
        (pipelined.aux_dict, alone.aux_dict),
    ):
        for name, array in target.items():
            if array.shape == source[name].shape:
                array[:] = source[name]
    whole = {name: pipelined.arg_dict[name].asnumpy() for name in ("data", "softmax_label")}
    totals: dict[str, np.ndarray] = {}
    outputs = []
    for part in range(n):
        rows = slice(part * 4 // n, (part + 1) * 4 // n)
        alone.forward(is_train=True, **{name: array[rows] for name, array in whole.items()})
        alone.backward()
        outputs.append(alone.outputs[0].asnumpy())
        for name, grad in alone.grad_dict.items():
            if grad is not None and name.startswith(("fc", "bn")):
                now = grad.asnumpy()
                totals[name] = totals[name] + now if name in totals else now
    pipelined.step()
    assert pipelined.outputs[0].asnumpy().tobytes() == np.concatenate(outputs).tobytes()
    for name, total in totals.items():
        assert pipelined.grad_dict[name].asnumpy().tobytes() == total.tobytes(), name
    for name, array in alone.aux_dict.items():
        assert pipelined.aux_dict[name].asnumpy().tobytes() == array.asnumpy().tobytes(), name


def test_without_batch_norm_micro_batches_add_up_to_the_batch() -> None:
    net = mx.sym.FullyConnected(mx.sym.Variable("data"), num_hidden=3, name="fc")
    net = mx.sym.SoftmaxOutput(net, name="softmax")
    rng = np.random.default_rng(0)
    feeds = {"data": rng.normal(size=(8, 5)).astype(np.float32), "softmax_label": np.arange(8) % 3}
    grads = []
    for n in (1, 4):
        executor = net.simple_bind(mx.cpu(), data=(8, 5), micro_batches=n)
        executor.arg_dict["fc_weight"][:] = 0.1
        executor.step(**feeds)
        grads.append(executor.grad_dict["fc_weight"].asnumpy())
    np.testing.assert_allclose(*grads, rtol=1e-5)


def test_a_stream_of_steps_yields_the_outputs_of_each() -> None:
    rng = np.random.default_rng(0)
    batches = [{"data": rng.normal(size=(4, WIDTH)).astype(np.float32)} for _ in range(9)]
    one, many = (bind_random(chain(4), 1, group2ctx=contiguous(2)) for _ in range(2))
    expected = []
    for batch in batches:
        expected.append(one.step(**batch)[0].asnumpy())
    found = [outputs[0] for outputs in many.run(batches)]
    assert [x.tobytes() for x in found] == [x.tobytes() for x in expected]
    assert_same_bits(everything(one), everything(many))


def test_a_stream_that_is_left_early_does_no_harm() -> None:
    executor = bind_random(chain(4), 1)
    batches = [{"data": np.full((4, WIDTH), i, np.float32)} for i in range(9)]
    for _ in executor.run(batches):
        break
    alone = bind_random(chain(4), 1)
    assert executor.step(**batches[0])[0].shape == alone.step(**batches[0])[0].shape


# ----- plans


PLAN = """\
cpu:0
  home  data f32[4,3]
  home  fc_weight f32[2,3]
  home  grad:fc_weight f32[2,3]
  step:
    run   data@0 f32[2,3] = slice_axis(data; axis=0, begin=0, end=2)
    run   fc@0 f32[2,2] = FullyConnected(data@0, fc_weight; num_hidden=2, no_bias=True)
    send  fc@0 -> cpu:1
    free  fc@0
    run   data@1 f32[2,3] = slice_axis(data; axis=0, begin=2, end=4)
    run   fc@1 f32[2,2] = FullyConnected(data@1, fc_weight; num_hidden=2, no_bias=True)
    send  fc@1 -> cpu:1
    free  fc@1
    run   fc_backward@0 f32[2,3] = Flatten(data@0)
    free  data@0
    recv  loss_backward@0 <- cpu:1
    run   fc_backward#1@0 f32[2,3] = dot(loss_backward@0, fc_backward@0; transpose_a=True)
    free  fc_backward@0
    free  loss_backward@0
    run   fc_backward@1 f32[2,3] = Flatten(data@1)
    free  data@1
    recv  loss_backward@1 <- cpu:1
    run   fc_backward#1@1 f32[2,3] = dot(loss_backward@1, fc_backward@1; transpose_a=True)
    free  fc_backward@1
    free  loss_backward@1
    run   grad:fc_weight f32[2,3] = elemwise_add(fc_backward#1@0, fc_backward#1@1)
    free  fc_backward#1@0
    free  fc_backward#1@1
cpu:1
  home  output:0 f32[4,2]
  step:
    recv  fc@0 <- cpu:0
    run   loss@0 f32[2,2] = MakeLoss(fc@0)
    free  fc@0
    run   loss_backward@0 f32[2,2] = _full(; shape=(2, 2), value=1.0)
    send  loss_backward@0 -> cpu:0
    free  loss_backward@0
    recv  fc@1 <- cpu:0
    run   loss@1 f32[2,2] = MakeLoss(fc@1)
    free  fc@1
    run   output:0 f32[4,2] = Concat(loss@0, loss@1; num_args=2, dim=0)
    free  loss@0
    free  loss@1
    run   loss_backward@1 f32[2,2] = _full(; shape=(2, 2), value=1.0)
    send  loss_backward@1 -> cpu:0
    free  loss_backward@1"""


def test_a_pipeline_becomes_this_plan() -> None:
    with mx.AttrScope(ctx_group="g0"):
        net = mx.sym.FullyConnected(mx.sym.Variable("data"), num_hidden=2, no_bias=True, name="fc")
    with mx.AttrScope(ctx_group="g3"):
        net = mx.sym.MakeLoss(net, name="loss")
    where = {"group2ctx": contiguous(2), "micro_batches": 2, "schedule": "1f1b"}
    reqs = {"data": "null", "fc_weight": "write"}
    executor = net.simple_bind(mx.cpu(), data=(4, 3), grad_req=reqs, **where)
    assert str(executor._session.mode("step")[1]) == PLAN


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), n_workers=st.integers(1, 4))
def test_the_text_of_a_pipeline_reads_back(seed: int, n_workers: int) -> None:
    symbol = random_symbol(np.random.default_rng(seed), 8, 4)
    where = {"group2ctx": groups(n_workers), "micro_batches": 2, "schedule": "gpipe"}
    plan = bind_random(symbol, seed, **where).plan
    assert parse(str(plan)) == plan


def test_an_order_can_be_given_as_text() -> None:
    order = "0F0 0F1 0B0 0B1\n1F0 1B0 1F1 1B1"
    where = {"group2ctx": contiguous(2), "micro_batches": 2}
    reference = train(bind_random(chain(4), 1, **where), 1)
    assert_same_bits(reference, train(bind_random(chain(4), 1, schedule=order, **where), 1))


def test_an_order_that_deadlocks_is_refused() -> None:
    order = "0F0 0B0 0F1 0B1\n1F0 1F1 1B0 1B1"
    with pytest.raises(PlanError, match="deadlock"):
        bind_random(chain(4), 1, group2ctx=contiguous(2), micro_batches=2, schedule=order)


@pytest.mark.parametrize(
    ("order", "why"),
    [
        ("0F0 0B0 0F1 0B1", "got 1 ranks, expected 2"),
        ("0F1 0F0 0B0 0B1\n1F0 1B0 1F1 1B1", r"rank 0: stage 0: F out of order: got \[1, 0\]"),
        ("0F0 0B0\n1F0 1B0", r"stage 0: F: got \[0\], expected all of 2 micro-batches"),
        ("0F0 0F1 0I0 0B1 0W0\n1F0 1B0 1F1 1B1", r"stage 0: W out of order: got \[1, 0\]"),
        ("0F0 0F1 0W0 0I0 0B1\n1F0 1B0 1F1 1B1", "micro-batch 0: got FWI, expected FB or FIW"),
        ("1F0 1F1 1B0 1B1\n0F0 0B0 0F1 0B1", r"rank 0: stages: got \[1\], expected \[0\], since"),
        ("2F0 2F1 2B0 2B1\n1F0 1B0 1F1 1B1", r"rank 0: stages: got \[2\], expected \[0\], since"),
    ],
)
def test_an_order_that_does_not_fit_is_refused(order: str, why: str) -> None:
    with pytest.raises(PlanError, match=why):
        bind_random(chain(4), 1, group2ctx=contiguous(2), micro_batches=2, schedule=order)


def test_a_monitor_sees_every_micro_batch() -> None:
    executor = bind_random(chain(2), 1, micro_batches=2)
    seen: list[tuple[bytes, tuple[int, ...]]] = []
    executor.set_monitor_callback(lambda name, array: seen.append((name, array.shape)))
    executor.step()
    assert seen.count((b"fc0_output", (2, WIDTH))) == 2
    assert seen.count((b"softmax_output", (2, WIDTH))) == 2
