"""What can be asked of workers while steps are under way: snapshots, and what they do."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
import pytest
from random_graphs import assert_same_bits
from test_runtime_threads import N_INPUTS, ROWS, wide
from thread_fleet import ThreadFleet

import raysym as mx
from raysym.executor import Snapshot
from raysym.runtime.resident import ResidentRuntime

BATCHES = [
    {"data": np.random.default_rng(i).normal(size=(ROWS, N_INPUTS)).astype(np.float32)}
    for i in range(8)
]
MOMENTUM = ("sgd_mom_update", {"lr": 0.1, "momentum": 0.9})
S = 60.0  # more than anything here takes, on a loaded machine as well


def bound(runtime: str, transport: str | None = None) -> mx.Executor:
    """In this process, or two replicas on threads or on Ray: the same slices of the batch."""
    made = ResidentRuntime(ThreadFleet, 1, transport) if runtime == "threads" else runtime
    parts = "micro_batches" if runtime == "local" else "data_parallel"
    executor = wide(runtime=made, **{parts: 2})
    executor.set_optimizer(MOMENTUM)
    return executor


def numbers(snapshot: Snapshot) -> dict[str, np.ndarray]:
    """All but the data of the step."""
    kinds = {**snapshot.args, **snapshot.auxs, **snapshot.states}
    return {name: array.asnumpy() for name, array in kinds.items() if name != "data"}


@pytest.fixture(scope="module")
def after() -> list[dict[str, np.ndarray]]:
    """The numbers after each number of steps in this process."""
    executor = bound("local")
    found = [numbers(executor.snapshot())]
    for batch in BATCHES:
        executor.step(**batch)
        found.append(numbers(executor.snapshot()))
    return found


@pytest.mark.parametrize(
    ("runtime", "transport"),
    [
        ("local", None),
        ("threads", "object_store"),
        ("threads", "socket"),
        pytest.param("ray", None, marks=pytest.mark.ray),
    ],
)
def test_training_goes_on_from_a_snapshot(
    runtime: str, transport: str | None, after: Any, request: pytest.FixtureRequest
) -> None:
    if runtime == "ray":
        request.getfixturevalue("ray_session")
    with bound(runtime, transport) as executor:
        for batch in BATCHES[:3]:
            executor.step(**batch)
        snapshot = executor.snapshot()
        assert_same_bits(numbers(snapshot), after[3])
        for batch in BATCHES[3:5]:
            executor.step(**batch)
        assert_same_bits(numbers(executor.snapshot()), after[5])
        executor.restore(snapshot)
        for batch in BATCHES[3:]:
            executor.step(**batch)
        assert_same_bits(numbers(executor.snapshot()), after[8])
    with bound("local") as other:
        other.restore(snapshot)
        other.step(**BATCHES[3])
        assert_same_bits(numbers(other.snapshot()), after[4])


def test_a_snapshot_in_the_middle_of_a_stream_is_of_the_steps_begun(after: Any) -> None:
    begun = []
    with bound("threads") as executor:
        steps = executor.run(begun.append(batch) or batch for batch in BATCHES)
        next(steps)
        assert 1 < len(begun) < len(BATCHES)
        assert_same_bits(numbers(executor.snapshot()), after[len(begun)])
        assert len(list(steps)) == len(BATCHES) - 1
        assert_same_bits(numbers(executor.snapshot()), after[8])
        fleet: Any = executor._session.runtime.crew.fleet
        assert not any(host._aside for host in fleet.hosts.values())


def test_what_was_written_and_not_used_yet_is_in_the_snapshot() -> None:
    with bound("threads") as executor:
        executor.step(**BATCHES[0])
        executor.arg_dict["fc0_weight"][:] = 7
        assert (executor.snapshot().args["fc0_weight"].asnumpy() == 7).all()


@pytest.mark.parametrize("runtime", ["local", "threads"])
def test_a_snapshot_before_the_first_step_brings_that_back(runtime: str, after: Any) -> None:
    with bound(runtime) as executor:
        snapshot = executor.snapshot()
        assert set(snapshot.states) == set(executor.state_dict)
        for batch in BATCHES[:2]:
            executor.step(**batch)
        executor.restore(snapshot)
        executor.step(**BATCHES[0])
        assert_same_bits(numbers(executor.snapshot()), after[1])


def test_masters_in_a_snapshot_follow_weights_that_were_written() -> None:
    net = mx.sym.FullyConnected(mx.sym.Variable("data"), num_hidden=2, no_bias=True, name="fc")
    net = mx.sym.LinearRegressionOutput(net, name="loss")
    types = {"data": "float16", "fc_weight": "float16", "loss_label": "float16"}
    executor = net.simple_bind(
        mx.cpu(), data=(3, 4), type_dict=types, optimizer=("mp_sgd_update", {"lr": 0.0})
    )
    executor.step()
    executor.arg_dict["fc_weight"][:] = 1
    executor.restore(executor.snapshot())
    executor.step()
    assert (executor.arg_dict["fc_weight"].asnumpy() == 1).all()


def test_states_of_another_optimizer_are_refused_before_anything_is_written() -> None:
    executor = bound("local")
    executor.step(**BATCHES[0])
    snapshot = executor.snapshot()
    executor.set_optimizer(("sgd_update", {"lr": 0.1}))
    executor.step(**BATCHES[1])
    before = numbers(executor.snapshot())
    assert executor.snapshot().states == {}
    wrong = "restore: states of the optimizer: got mom:fc0_weight, mom.*, expected none"
    with pytest.raises(ValueError, match=wrong):
        executor.restore(snapshot)
    assert_same_bits(numbers(executor.snapshot()), before)


def test_copies_that_nobody_collected_are_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    with bound("threads") as executor:
        executor.step(**BATCHES[0])
        crew: Any = executor._session.runtime.crew
        hosts = crew.fleet.hosts.values()

        def interrupted(*_: Any) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(crew, "call", interrupted)
        with pytest.raises(KeyboardInterrupt):
            executor.snapshot()
        monkeypatch.undo()
        assert any(host._aside for host in hosts)
        executor.step(**BATCHES[1])
        assert not any(host._aside for host in hosts)


class Holding(mx.operator.CustomOp):
    """Waits until it is let go."""

    let_go = threading.Event()

    def forward(self, is_train: Any, req: Any, in_data: Any, out_data: Any, aux: Any) -> None:
        assert self.let_go.wait(S)
        self.assign(out_data[0], req[0], in_data[0])


@mx.operator.register("snapshot_hold")
class HoldingProp(mx.operator.CustomOpProp):
    """Its description."""

    def create_operator(self, ctx: Any, shapes: Any, dtypes: Any) -> mx.operator.CustomOp:
        return Holding()


def test_workers_say_what_they_do_while_a_step_is_under_way() -> None:
    with mx.AttrScope(ctx_group="g0"):
        net = mx.sym.Custom(mx.sym.Variable("data"), op_type="snapshot_hold", name="hold")
    with mx.AttrScope(ctx_group="g1"):
        net = mx.sym.tanh(net, name="squash")
    where = {"group2ctx": {"g0": mx.cpu(0), "g1": mx.cpu(1)}}
    runtime = ResidentRuntime(ThreadFleet, 1)
    with net.simple_bind(mx.cpu(), data=(3, 5), runtime=runtime, **where) as executor:
        assert set(executor.health().values()) <= {"rests after step -1", "rests after step 0"}
        step = threading.Thread(target=executor.forward)
        step.start()
        waiting = "waits for hold from cpu:0 in step 1, inference instruction 0: "
        ends = time.monotonic() + S
        while not executor.health()["cpu:1"].startswith(waiting):
            assert time.monotonic() < ends
        doing = executor.health()["cpu:0"]
        assert doing.startswith("computes in step 1, inference instruction 0: ")
        assert "Custom" in doing
        Holding.let_go.set()
        step.join()
    assert executor.health() == {}
