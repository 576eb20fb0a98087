"""What goes over the wires: an order and a report per worker and step; no actor is called."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from random_graphs import WIDTH
from test_pipeline import contiguous
from thread_fleet import ThreadFleet

import raysym as mx
from raysym.runtime import patience
from raysym.runtime.resident import ResidentRuntime
from raysym.runtime.transport import TRANSPORTS
from raysym.runtime.transport.protocol import CONTROL

N_STEPS = 5


@pytest.fixture(autouse=True)
def _nobody_is_asked_for_its_health(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers that are silent for long are called, as may happen on a loaded machine."""
    monkeypatch.setattr(patience, "PROBE_S", 60.0)


def deep(depth: int) -> mx.Symbol:
    """Stages g0 .. g3 of `depth` layers each."""
    net = mx.sym.Variable("data")
    for i in range(4 * depth):
        with mx.AttrScope(ctx_group=f"g{i // depth}"):
            net = mx.sym.FullyConnected(net, num_hidden=WIDTH, name=f"fc{i}")
            net = mx.sym.tanh(net, name=f"tanh{i}")
    with mx.AttrScope(ctx_group="g3"):
        return mx.sym.SoftmaxOutput(net, name="softmax")


class Watched:
    """A fleet whose calls are counted."""

    def __init__(self, fleet: Any) -> None:
        self._fleet, self.calls = fleet, Counter[str]()

    def __getattr__(self, name: str) -> Any:
        self.calls[name] += 1
        return getattr(self._fleet, name)


class Traffic:
    """The messages between the driver and its workers from now on, by worker and entry."""

    def __init__(self, runtime: Any) -> None:
        self.sent, self.received = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
        for peer, channel in runtime.crew.exchange.channels.items():
            self._watch(peer, channel)
        self.fleet = runtime.crew.fleet = Watched(runtime.crew.fleet)

    def _watch(self, peer: str, channel: Any) -> None:
        send, receive = channel.send, channel.receive

        def counted_send(key: Any, array: Any) -> bool:
            self.sent[peer, key[2]] += 1
            return bool(send(key, array))

        def counted_receive() -> Any:
            found = receive()
            self.received.update((peer, key[2]) for key, _ in found)
            return found

        channel.send, channel.receive = counted_send, counted_receive


def bind_deep(depth: int, n_workers: int, rows: int = 8, **where: Any) -> mx.Executor:
    shape = {"data": (rows, WIDTH)}
    executor = deep(depth).simple_bind(mx.cpu(), group2ctx=contiguous(n_workers), **where, **shape)
    executor.step()  # workers are told their programs before the first one
    return executor


def batches(executor: mx.Executor) -> list[dict[str, np.ndarray]]:
    shape = executor.arg_dict["data"].shape
    return [{"data": np.full(shape, i, np.float32)} for i in range(N_STEPS)]


def assert_one_each(traffic: Traffic, workers: tuple[str, ...], n_steps: int) -> None:
    """So many orders and reports for each worker, and nothing else."""
    orders = {(worker, CONTROL): n_steps for worker in workers}
    assert traffic.sent == orders
    assert traffic.received == orders
    assert not traffic.fleet.calls


@pytest.mark.parametrize("transport", [None, *TRANSPORTS])
@pytest.mark.parametrize(
    ("n_workers", "n", "replicas", "depth"),
    [(1, 1, 1, 6), (2, 8, 1, 1), (4, 4, 1, 6), (2, 2, 4, 1)],
)
def test_a_step_is_one_order_and_one_report_per_worker(
    n_workers: int, n: int, replicas: int, depth: int, transport: str | None
) -> None:
    """Whatever the number of micro-batches, replicas and ops is."""
    runtime = ResidentRuntime(ThreadFleet, 1, transport)
    where = {"micro_batches": n, "data_parallel": replicas, "runtime": runtime}
    with bind_deep(depth, n_workers, **where) as executor:
        workers = executor.step_plan.workers
        assert len(workers) == n_workers * replicas
        traffic = Traffic(runtime)
        for batch in batches(executor):
            executor.step(**batch)
        assert_one_each(traffic, workers, N_STEPS)
        assert len(list(executor.run(batches(executor)))) == N_STEPS  # outputs ride on reports
        assert_one_each(traffic, workers, 2 * N_STEPS)


@pytest.mark.parametrize("transport", [None, *TRANSPORTS])
def test_a_phase_is_an_order_to_those_who_have_something_to_do(transport: str | None) -> None:
    runtime = ResidentRuntime(ThreadFleet, 1, transport)
    with bind_deep(3, 4, micro_batches=2, runtime=runtime) as executor:
        executor.forward(is_train=True)
        executor.backward()
        workers, traffic = executor.plan.workers, Traffic(runtime)
        for batch in batches(executor):
            executor.forward(is_train=True, **batch)
            executor.backward()
        assert_one_each(traffic, workers, 2 * N_STEPS)


def test_a_fetch_asks_the_home_alone() -> None:
    runtime = ResidentRuntime(ThreadFleet, 1)
    with bind_deep(2, 4, runtime=runtime) as executor:
        homes = executor.step_plan.homes
        traffic = Traffic(runtime)
        for array in executor.outputs:
            array.asnumpy()
        assert_one_each(traffic, (homes["output:0"],), 1)


def test_what_is_large_follows_its_order_once_and_only_to_its_home() -> None:
    rows = 4_000  # 96 kB of data
    runtime = ResidentRuntime(ThreadFleet, 1)
    with bind_deep(2, 4, rows, micro_batches=4, runtime=runtime) as executor:
        home, workers = executor.step_plan.homes["data"], executor.step_plan.workers
        traffic = Traffic(runtime)
        for batch in batches(executor):
            executor.step(**batch)
        assert traffic.sent.pop((home, "data")) == N_STEPS
        assert_one_each(traffic, workers, N_STEPS)


@pytest.mark.ray
@pytest.mark.usefixtures("ray_session")
def test_a_step_on_actors_is_one_order_and_one_report_per_worker() -> None:
    with bind_deep(4, 2, micro_batches=4, runtime="ray") as executor:
        workers, traffic = executor.step_plan.workers, Traffic(executor._session.runtime)
        assert len(list(executor.run(batches(executor)))) == N_STEPS
        assert_one_each(traffic, workers, N_STEPS)
