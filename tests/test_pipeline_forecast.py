"""What a pipeline should cost: pictures of orders, predictions of the very plan, the command."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from test_pipeline import chain

import raysym as mx
import scheduler
from raysym.forecast import forecast
from raysym.planning.plan import Run
from raysym.planning.predict import predict
from scheduler.pipeline import Stages, interleaved, one_f_one_b
from scheduler.pipeline import run as timeline

FAST = scheduler.Cluster.uniform(
    2, flops_per_s=1e9, bytes_per_s=1e12, overhead_s=0.0
)  # products cost, all else next to nothing


def products(n: int, size: int = 64) -> mx.Symbol:
    """A chain of `n` equal products, each followed by its activation."""
    net = mx.sym.Variable("data")
    for i in range(n):
        net = mx.sym.FullyConnected(net, num_hidden=size, no_bias=True, name=f"fc{i}")
        net = mx.sym.Activation(net, act_type="relu", name=f"relu{i}")
    return mx.sym.LinearRegressionOutput(net, name="loss")


def test_the_picture_of_an_order_has_a_line_for_each_stage() -> None:
    order = interleaved(2, 2)
    lines = str(timeline(order, Stages.even(2, 1.0, 1.0, 1.0, chunks=2))).splitlines()
    rows = [line.partition(" |") for line in lines]
    assert [name for name, _, _ in rows] == [f"rank {s % 2} stage {s}" for s in (0, 2, 1, 3)]
    first = [row.index("F") for _, _, row in rows]
    assert first[0] < first[2] < first[1] < first[3]  # in the order of the data flow
    for pair in (rows[:2], rows[2:]):  # a rank does one thing at a time
        busy = [{i for i, cell in enumerate(row) if cell in "FB"} for _, _, row in pair]
        assert not busy[0] & busy[1]
    plain = str(timeline(one_f_one_b(2, 2), Stages.even(2, 1.0, 1.0, 1.0)))
    assert [line[:8] for line in plain.splitlines()] == ["rank 0 |", "rank 1 |"]


def test_a_prediction_shows_the_micro_batches_of_each_worker() -> None:
    made = forecast(products(4), {"data": (64, 64)}, FAST, policy="contiguous", micro_batches=2)
    assert list(made.prediction.phases) == ["step"]
    lines = made.prediction.chart()
    assert [line.partition(" |")[0] for line in lines] == ["cpu:0", "cpu:1"]
    rows = [line.partition("|")[2] for line in lines]
    assert rows[0].index("0") < rows[0].index("1") < rows[0].index("a") < rows[0].index("b")
    assert rows[1].index("a") < rows[1].index("1")  # backward of the first before the second
    assert "\n".join(lines) in str(made)


def test_the_plan_of_a_step_takes_as_long_as_its_order_says() -> None:
    made = forecast(products(4), {"data": (64 * 4, 64)}, FAST, policy="contiguous", micro_batches=4)
    # The gradient of the data is asked for as well, so that all layers are three products.
    product_s = 2 * 64**3 / 1e9
    stages = Stages.even(2, 2 * product_s, 2 * product_s, 2 * product_s)
    expected = timeline(one_f_one_b(2, 4), stages).makespan
    assert made.prediction.total_s == pytest.approx(expected, rel=0.05)


def test_interleaving_shortens_the_predicted_step() -> None:
    seconds = {}
    shapes = {"data": (64 * 4, 64)}
    for schedule, policy in (
        ("1f1b", "contiguous"),
        ("interleaved", scheduler.in_turn),
        ("interleaved", partial(scheduler.in_turn, chunks=4)),
    ):
        made = forecast(
            products(8), shapes, FAST, policy=policy, micro_batches=4, schedule=schedule
        )
        seconds[schedule, str(policy)] = made.prediction.total_s
    one, two, four = seconds.values()
    assert one > two > four


def test_the_search_is_predicted_to_be_no_slower_than_1f1b() -> None:
    shapes = {"data": (64 * 4, 64)}
    seconds = [
        forecast(
            products(6), shapes, FAST, policy="contiguous", micro_batches=4, schedule=schedule
        ).prediction.total_s
        for schedule in ("1f1b", "search")
    ]
    assert seconds[1] <= seconds[0] * 1.001  # small kernels count a little differently


def test_the_plan_of_a_bound_step_can_be_predicted() -> None:
    groups = {f"g{i}": mx.cpu(i % 2) for i in range(4)}
    where = {"micro_batches": 2, "schedule": "interleaved", "group2ctx": groups}
    executor = chain(4).simple_bind(mx.cpu(), data=(4, 6), **where)
    found = predict(executor.step_plan, FAST)
    assert found.total_s > 0
    assert {span.worker for span in found.spans} == {"cpu:0", "cpu:1"}


def test_a_profile_of_micro_batches_counts_each_and_all_of_them() -> None:
    """It predicts the step's plan, and a node takes as long as all of its micro-batches."""
    executor = products(2).simple_bind(mx.cpu(), data=(8, 64), micro_batches=2)
    found = executor.profile(steps=2)
    programs = [body for one in executor.step_plan.programs.values() for body in one.values()]
    named = {one.outs[0] for body in programs for one in body if isinstance(one, Run)}
    assert named <= set(found.runs)
    assert {"fc0", "relu0", "fc1", "relu1", "loss"} <= set(found.nodes)
    parts = [name for name in found.runs if name.startswith(("fc1@", "fc1_backward"))]
    assert {"fc1@0", "fc1@1", "fc1_backward@0", "fc1_backward@1"} <= set(parts)
    assert found.nodes["fc1"] == pytest.approx(sum(found.runs[name] for name in parts))


def test_pieces_dealt_out_in_turn_refuse_pins() -> None:
    graph = scheduler.TaskGraph((scheduler.Task("a", flops=1.0, pin="cpu:0"),), ())
    with pytest.raises(scheduler.ScheduleError, match="in_turn: task a is pinned to cpu:0"):
        scheduler.in_turn(graph, FAST)


# ----- the options of bind


STEPS: dict[str, dict[str, Any]] = {
    "replicas": {"data_parallel": 2},
    "replicas of a pipeline": {"data_parallel": 2, "micro_batches": 2, "schedule": "gpipe"},
    "updates": {"optimizer": ("sgd_mom_update", {"lr": 0.1, "momentum": 0.9})},
    "replicas with updates": {"data_parallel": 2, "optimizer": ("adam_update", {"lr": 0.1})},
    "little memory": {"micro_batches": 2, "memory": "minimal"},
    "little memory with generated kernels": {
        "optimizer": ("sgd_update", {"lr": 0.1}),
        "memory": "minimal",
        "kernels": "generated",
    },
    "data that is not cut": {"micro_batches": 2, "batch_axes": {"scale": None}},
}


def scaled(n: int) -> mx.Symbol:
    """A chain whose data has a factor that is the same for all rows."""
    net = mx.sym.broadcast_mul(mx.sym.Variable("data"), mx.sym.Variable("scale", shape=(1, 1)))
    for i in range(n):
        net = mx.sym.FullyConnected(net, num_hidden=16, name=f"fc{i}")
        net = mx.sym.Activation(net, act_type="tanh", name=f"tanh{i}")
    return mx.sym.LinearRegressionOutput(net, name="loss")


@pytest.mark.parametrize("options", STEPS.values(), ids=STEPS)
def test_a_forecast_is_of_the_plan_that_bind_makes(options: dict[str, Any]) -> None:
    if "kernels" in options:
        pytest.importorskip("llvmlite")
    net, shapes = scaled(6), {"data": (8, 12)}
    requests = {name: "write" for name in net.list_arguments() if name[:2] == "fc"}
    fixed = set(net.list_arguments()) - set(requests)
    made = forecast(net, shapes, FAST, policy="contiguous", fixed=fixed, **options)
    where = {"cluster": FAST, "policy": "contiguous", "runtime": "local", **options}
    executor = net.simple_bind(mx.cpu(), grad_req=requests, **shapes, **where)
    assert str(made.plan) == str(executor.step_plan)
    assert set(made.prediction.peak_memory) == set(executor.step_plan.workers)


def test_gradients_that_are_brought_together_and_updates_take_their_time() -> None:
    """One weight of 24 bytes on two replicas: its gradient travels to the owner, it comes back."""
    net = mx.sym.FullyConnected(mx.sym.Variable("data"), num_hidden=2, no_bias=True, name="fc")
    net = mx.sym.MakeLoss(net, name="loss")
    link = scheduler.Link(bytes_per_s=1e3, latency_s=1.0)
    quick = scheduler.Device("cpu:0", flops_per_s=1e15, bytes_per_s=1e15, overhead_s=0.0)
    one = scheduler.Cluster((quick,), (link,))
    options: dict[str, Any] = {"optimizer": ("sgd_update", {"lr": 0.1}), "fixed": {"data"}}
    shapes = {"data": (4, 3)}
    alone = forecast(net, shapes, one, **options)
    assert alone.prediction.total_s == pytest.approx(0.0, abs=1e-6)
    assert [span.what for span in alone.prediction.spans].count("fc_weight") == 1
    both = forecast(net, shapes, one, data_parallel=2, **options)
    assert [device.name for device in both.cluster.devices] == ["cpu:0", "cpu:1"]
    assert both.prediction.link_bytes == {("cpu:0", "cpu:1"): 24.0, ("cpu:1", "cpu:0"): 24.0}
    assert both.prediction.total_s == pytest.approx(2 * (1.0 + 24 / 1e3), rel=1e-6)
    assert "cpu:1: replicas" in str(both)
    assert "cpu:1: peak memory" in str(both)


def test_replicas_have_devices_and_links_like_those_of_the_first() -> None:
    devices = (scheduler.Device("cpu:0", memory=7e6), scheduler.Device("cpu:1", memory=8e6))
    fast = scheduler.Link("cpu:0", "cpu:1", bytes_per_s=1e11, channel="bus")
    two = scheduler.Cluster(devices, (fast, scheduler.Link()))
    made = forecast(products(4), {"data": (64, 64)}, two, policy="contiguous", data_parallel=2)
    assert [(d.name, d.memory) for d in made.cluster.devices] == [
        ("cpu:0", 7e6),
        ("cpu:1", 8e6),
        ("cpu:2", 7e6),
        ("cpu:3", 8e6),
    ]
    a, b, c, d = made.cluster.devices
    assert made.cluster.link(c, d) == replace(fast, a="cpu:2", b="cpu:3", channel="bus#1")
    assert made.cluster.link(a, b) == fast
    assert made.cluster.link(a, c) == made.cluster.link(b, c) == scheduler.Link()


def test_options_of_bind_are_refused_by_a_forecast_as_well() -> None:
    shapes = {"data": (64, 64)}
    for options, why in (
        ({"data_parallel": 0}, "data_parallel: got 0"),
        ({"optimizer": ("no_such", {})}, "optimizer: 'no_such'"),
        ({"memory": 1000}, "memory: got 1000 bytes"),
        ({"data_parallel": 3}, "64"),
    ):
        with pytest.raises(mx.MXNetError, match=why):
            forecast(products(4), shapes, FAST, **options)
