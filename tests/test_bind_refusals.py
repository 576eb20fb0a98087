"""Options of bind that make no sense are refused by bind, with what came and what was expected."""

from __future__ import annotations

from typing import Any

import pytest

import raysym as mx
from raysym.errors import PlanError

GROUPS = {"front": mx.cpu(0), "back": mx.cpu(1)}
NUMBER = "a whole number from 1 on"
BOTH_WAYS = {(mx.cpu(0), mx.cpu(1)): "object_ref", (mx.cpu(1), mx.cpu(0)): "socket"}
ORDER = "one of 1f1b, gpipe, interleaved, search, zero_bubble_free, zero_bubble_h1, an order or its"
AXES = "a dict from names of arguments to axes or None"
UPDATE = r"an update op and its parameters, such as \('sgd_update', {'lr': 0.1}\)"


def network() -> mx.sym.Symbol:
    with mx.AttrScope(ctx_group="front"):
        front = mx.sym.FullyConnected(mx.sym.Variable("data"), num_hidden=6, name="fc1")
    with mx.AttrScope(ctx_group="back"):
        back = mx.sym.FullyConnected(front, num_hidden=3, name="fc2")
        return mx.sym.LinearRegressionOutput(back, name="out")


def bound(**options: Any) -> mx.Executor:
    where = {"group2ctx": GROUPS, "runtime": "local"}
    return network().simple_bind(mx.cpu(), data=(4, 5), **where, **options)


@pytest.mark.parametrize(
    ("option", "given", "expected"),
    [
        ("schedule", None, f"schedule: got None, expected {ORDER}"),
        ("batch_axes", 3, f"batch_axes: got 3, expected {AXES}"),
        ("batch_axes", {"data": "x"}, f"batch_axes: got {{'data': 'x'}}, expected {AXES}"),
        ("batch_axes", {"data": True}, f"batch_axes: got {{'data': True}}, expected {AXES}"),
        ("batch_axes", {"dat": 0}, r"got 'dat', expected one of data, .*'data'\?"),
        ("optimizer", "sgd_update", f"optimizer: got 'sgd_update', expected {UPDATE}"),
        ("optimizer", (3, {}), rf"optimizer: got \(3, {{}}\), expected {UPDATE}"),
        ("optimizer", ("sgd_update", {"lr": "x"}), "'sgd_update': .*got 'x', expected a number"),
        ("optimizer", ("sgd_updat", {}), "optimizer: 'sgd_updat': .*Did you mean 'sgd_update'?"),
        ("micro_batches", True, f"micro_batches: got True, expected {NUMBER}"),
    ],
)  # fmt: skip
def test_what_only_steps_use_is_refused_by_bind(option: str, given: Any, expected: str) -> None:
    with pytest.raises(PlanError, match=expected):
        bound(**{option: given})


@pytest.mark.parametrize(
    ("option", "given", "error", "expected"),
    [
        ("threads", 0, mx.MXNetError, f"threads: got 0, expected {NUMBER}"),
        ("threads", "2", mx.MXNetError, f"threads: got '2', expected {NUMBER}"),
        ("transport", "pigeon", mx.MXNetError, "transport: got 'pigeon', expected one of object_"),
        (
            "transport",
            {(mx.cpu(0), mx.cpu(1)): "pigeon"},
            mx.MXNetError,
            "transport of .* 'pigeon'",
        ),
        (
            "transport",
            {"cpu:0": "socket"},
            mx.MXNetError,
            "by pair: got 'cpu:0', expected two diff",
        ),
        ("transport", BOTH_WAYS, mx.MXNetError, "got socket, expected object_ref either way"),
        ("transport", {(mx.cpu(), mx.cpu()): "socket"}, mx.MXNetError, "expected two different"),
        ("memory", 0, TypeError, "memory: got 0, expected a number of bytes or 'minimal'"),
        ("memory", "least", TypeError, "memory: got 'least', expected a number of bytes or"),
        ("cluster", True, TypeError, "cluster: got True, expected a number of workers, a Cluster"),
    ],
)
def test_wrong_places_are_refused(option: str, given: Any, error: type, expected: str) -> None:
    with pytest.raises(error, match=expected):
        bound(**{option: given})


def test_a_refused_optimizer_leaves_the_one_before() -> None:
    executor = bound(optimizer=("sgd_update", {"lr": 0.5}))
    executor.arg_dict["fc2_bias"][:] = 2
    with pytest.raises(PlanError, match="optimizer: got 3, expected an update op"):
        executor.set_optimizer(3)  # type: ignore[arg-type]
    executor.step()
    # The bias reaches the output as it is: four rows of (2 - 0) / 3 outputs, times the rate.
    assert executor.arg_dict["fc2_bias"].asnumpy() == pytest.approx(2 - 0.5 * 4 * 2 / 3)


def test_backward_asks_for_a_forward_after_a_step() -> None:
    executor = bound(micro_batches=2)
    executor.step()
    assert executor.plan == executor.step_plan
    with pytest.raises(mx.MXNetError, match=r"what ran last: got step, expected a forward that"):
        executor.backward()
    executor.forward(is_train=True)
    executor.backward()
    assert executor.plan.phases == ("forward", "backward")


def test_forecasts_refuse_what_bind_refuses() -> None:
    with pytest.raises(TypeError, match="memory: got 'least', expected a number of bytes or"):
        mx.planned_memory(network(), {"data": (4, 5)}, memory="least")
