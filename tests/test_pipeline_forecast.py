"""What a pipeline should cost: pictures of orders, predictions of the very plan, the command."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
from test_cli import run
from test_pipeline import chain

import raysym as mx
import scheduler
from raysym.forecast import forecast
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


def test_pieces_dealt_out_in_turn_refuse_pins() -> None:
    graph = scheduler.TaskGraph((scheduler.Task("a", flops=1.0, pin="cpu:0"),), ())
    with pytest.raises(scheduler.ScheduleError, match="in_turn: task a is pinned to cpu:0"):
        scheduler.in_turn(graph, FAST)


def test_the_command_takes_a_schedule(tmp_path: Path) -> None:
    products(4).save(str(tmp_path / "net.json"))
    FAST.save(tmp_path / "two.toml")
    options = ["--cluster", str(tmp_path / "two.toml"), "--shapes", "data:64,64"]
    options += ["--policy", "contiguous", "--micro-batches", "4"]
    status, text = run("plan", str(tmp_path / "net.json"), *options, "--schedule", "zero_bubble_h1")
    assert status == 0
    assert "(step " in text
    assert "cpu:1 |" in text
    status, text = run("plan", str(tmp_path / "net.json"), *options, "--schedule", "1f2b")
    assert status == 1
    assert "schedule: got '1f2b'" in text
