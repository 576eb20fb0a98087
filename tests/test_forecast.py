"""Forecasts, predictions and profiles: what a cut should cost, and what it did."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import raysym as mx
import scheduler
from raysym.forecast import forecast
from raysym.ops.user_op import CustomOp, CustomOpProp, register
from raysym.planning.predict import predict

FAST = scheduler.Cluster.uniform(2, flops_per_s=1e9, bytes_per_s=1e9, overhead_s=0.0)


def net() -> mx.Symbol:
    data = mx.sym.Variable("data")
    for i in range(4):
        data = mx.sym.FullyConnected(data, num_hidden=64, name=f"fc{i}")
        data = mx.sym.Activation(data, act_type="tanh", name=f"tanh{i}")
    return mx.sym.SoftmaxOutput(data, name="softmax")


def test_a_forecast_needs_no_arrays_and_says_everything() -> None:
    text = str(forecast(net(), {"data": (32, 50)}, FAST))
    for word in ("cut", "cpu:0:", "cpu:1:", "predicted step time", "peak memory", "gap"):
        assert word in text


def test_training_costs_more_than_inference() -> None:
    train = forecast(net(), {"data": (32, 50)}, FAST)
    infer = forecast(net(), {"data": (32, 50)}, FAST, is_train=False)
    assert train.prediction.total_s > 2 * infer.prediction.total_s
    assert set(infer.prediction.phases) == {"inference"}


def test_pins_are_kept() -> None:
    with mx.AttrScope(ctx_group="a"):
        one = mx.sym.exp(mx.sym.Variable("data"), name="one")
    two = mx.sym.exp(one, name="two")
    made = forecast(two, {"data": (4, 5)}, FAST, group2ctx={"a": mx.cpu(1)})
    assert made.schedule.placement["one"] == "cpu:1"


def test_too_little_memory_is_refused() -> None:
    small = scheduler.Cluster.uniform(2, memory=1000.0)
    with pytest.raises(mx.PlacementError, match="memory"):
        forecast(net(), {"data": (32, 50)}, small)


def test_a_prediction_adds_up_by_hand() -> None:
    with mx.AttrScope(ctx_group="a"):
        left = mx.sym.square(mx.sym.Variable("data"), name="left")
    with mx.AttrScope(ctx_group="b"):
        right = mx.sym.square(left, name="right")
    groups = {"a": mx.cpu(0), "b": mx.cpu(1)}
    executor = right.simple_bind(mx.cpu(), grad_req="null", data=(10, 10), group2ctx=groups)
    executor.forward()
    cluster = scheduler.Cluster.uniform(2, flops_per_s=100.0, bytes_per_s=1e9, overhead_s=0.0)
    link = cluster.transfer_s(400.0, "cpu:0", "cpu:1")
    got = predict(executor.plan, cluster)
    # One second for each square and for the copy into the output, which counts as one as well.
    assert got.total_s == pytest.approx(3.0 + link, rel=1e-6)
    waits = [span for span in got.spans if span.what.startswith("wait")]
    assert [(w.worker, w.start) for w in waits] == [("cpu:1", 0.0)]


def two_exps() -> mx.Executor:
    with mx.AttrScope(ctx_group="a"):
        data = mx.sym.Variable("data")
        left = [mx.sym.exp(data * scale) for scale in (1.0, 2.0)]
    with mx.AttrScope(ctx_group="b"):
        both = left[0] + left[1]
    groups = {"a": mx.cpu(0), "b": mx.cpu(1)}
    return both.simple_bind(mx.cpu(), grad_req="null", data=(10, 10), group2ctx=groups)


def test_messages_share_a_link_and_bytes_are_counted() -> None:
    plan = two_exps().plan
    slow = scheduler.Link(bytes_per_s=400.0, latency_s=0.0)
    device = scheduler.Device("cpu:0", flops_per_s=1e12, bytes_per_s=1e12, overhead_s=0.0)
    other = scheduler.Device("cpu:1", flops_per_s=1e12, bytes_per_s=1e12, overhead_s=0.0)
    got = predict(plan, scheduler.Cluster((device, other), (slow,)))
    # Two arrays of 400 bytes, one after the other over one link of 400 bytes per second.
    assert got.total_s == pytest.approx(2.0, rel=1e-3)
    assert got.link_bytes["cpu:0", "cpu:1"] == 800.0
    assert got.peak_memory["cpu:1"] == 3 * 400.0


def test_noise_is_the_same_for_the_same_seed() -> None:
    plan = two_exps().plan
    seen = [predict(plan, FAST, noise=0.3, seed=seed).total_s for seed in (1, 1, 2)]
    assert seen[0] == seen[1] != seen[2]


def test_measured_seconds_override_the_formulas() -> None:
    executor = net().simple_bind(mx.cpu(), data=(32, 50))
    plan = executor.plan
    slow = predict(plan, FAST, {"fc0": 100.0})
    assert slow.total_s - predict(plan, FAST).total_s == pytest.approx(100.0, rel=1e-3)


def test_a_profile_covers_all_nodes_and_leaves_the_arrays_alone() -> None:
    executor = net().simple_bind(mx.cpu(), data=(32, 50))
    executor.arg_dict["data"][:] = 1.0
    before = executor.arg_dict["data"].asnumpy()
    found = executor.profile(steps=2)
    assert set(found.nodes) >= {"fc0", "tanh0", "fc3", "softmax"}
    assert all(seconds > 0 for seconds in found.runs.values())
    assert np.array_equal(executor.arg_dict["data"].asnumpy(), before)
    schedule = forecast(net(), {"data": (32, 50)}, FAST.measured(found.nodes)).schedule
    for slot in schedule.slots:
        assert slot.finish - slot.start == pytest.approx(found.nodes[slot.task], rel=1e-6)


def test_bind_takes_policy_and_objective() -> None:
    where = {"cluster": FAST, "runtime": "local", "policy": "heft", "objective": "makespan"}
    executor = net().simple_bind(mx.cpu(), data=(32, 50), **where)
    assert executor.schedule.objective == "makespan"
    executor.forward(is_train=True)
    executor.backward()


def test_an_unknown_policy_is_refused() -> None:
    with pytest.raises((ValueError, mx.MXNetError), match="no_such"):
        net().simple_bind(mx.cpu(), data=(32, 50), cluster=FAST, runtime="local", policy="no_such")


def test_a_node_and_its_gradients_cost_the_sum_of_their_kernels() -> None:
    rates = {"matmul": 1e9, "elementwise": 1e7}
    slow = scheduler.Cluster.uniform(1, flops_per_s=1.0, bytes_per_s=1e12, overhead_s=0.0)
    cluster = scheduler.Cluster((replace(slow.devices[0], rates=rates),))
    net_ = mx.sym.FullyConnected(mx.sym.Variable("data"), num_hidden=64, name="fc")
    made = forecast(net_, {"data": (32, 50)}, cluster)
    task = made.schedule.graph.tasks[made.schedule.graph.index["fc"]]
    assert task.kind == "matmul"
    products = [part for part in task.parts if part.kind == "matmul"]
    assert [part.flops for part in products] == [2 * 32 * 50 * 64] * 3  # y, dx, dw
    rest = sum(part.flops for part in task.parts) - sum(part.flops for part in products)
    seconds = sum(part.flops for part in products) / 1e9 + rest / 1e7
    slot = next(slot for slot in made.schedule.slots if slot.task == "fc")
    assert slot.finish - slot.start == pytest.approx(seconds, rel=1e-3)


def test_predictions_run_each_kernel_at_the_rate_of_its_class() -> None:
    executor = net().simple_bind(mx.cpu(), data=(32, 50))
    slow = replace(FAST.devices[0], rates={"matmul": 1e6})
    cluster = scheduler.Cluster((slow,))
    spans = {span.what: span.finish - span.start for span in predict(executor.plan, cluster).spans}
    same = {s.what: s.finish - s.start for s in predict(executor.plan, FAST).spans}
    assert spans["fc0"] == pytest.approx(2 * 32 * 50 * 64 / 1e6, rel=1e-6)
    assert spans["tanh0"] == pytest.approx(same["tanh0"], rel=1e-9)


def test_profiles_count_cpu_seconds_and_add_up() -> None:
    executor = net().simple_bind(mx.cpu(), data=(32, 50))
    begun = time.thread_time()
    found = executor.profile(steps=3)
    spent = time.thread_time() - begun
    assert 0 < 3 * sum(found.runs.values()) < spent


MEETING = threading.Barrier(2)


class Meet(CustomOp):
    """Goes on when two threads are here."""

    def forward(self, is_train: Any, req: Any, in_data: Any, out_data: Any, aux: Any) -> None:
        MEETING.wait(timeout=30)
        self.assign(out_data[0], req[0], in_data[0])


@register("forecast_meet")
class MeetProp(CustomOpProp):
    """One input, one output of its shape, no gradient."""

    def __init__(self) -> None:
        super().__init__(need_top_grad=False)

    def create_operator(self, ctx: Any, in_shapes: Any, in_dtypes: Any) -> CustomOp:
        return Meet()


def test_a_profile_keeps_as_many_cores_busy_as_it_is_told() -> None:
    """Nobody passes the node alone, so the steps went on at the same time."""
    data = mx.sym.Custom(mx.sym.Variable("data"), op_type="forecast_meet", name="meet")
    executor = mx.sym.square(data, name="square").simple_bind(
        mx.cpu(), grad_req="null", data=(4, 3)
    )
    found = executor.profile(steps=2, at_once=2)
    assert {"meet", "square"} <= set(found.runs)
    assert all(seconds > 0 for seconds in found.runs.values())


def test_a_profile_of_nobody_is_refused() -> None:
    executor = net().simple_bind(mx.cpu(), data=(32, 50))
    with pytest.raises(ValueError, match="at_once: got 0, expected at least 1"):
        executor.profile(at_once=0)
