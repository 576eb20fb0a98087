"""The resident runtime on workers in threads: rings that grow, room for them, closing in time."""

from __future__ import annotations

import gc
import threading
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from processes import CLOSE_S, within
from random_graphs import assert_same_bits
from thread_fleet import ThreadFleet

import raysym as mx
from raysym.errors import PlacementError
from raysym.runtime.crew import Crew
from raysym.runtime.resident import ResidentRuntime
from raysym.runtime.transport import TRANSPORTS
from raysym.runtime.transport.protocol import SLOTS
from raysym.runtime.transport.ring import RingChannel

ROWS, N_INPUTS = 8, 200


class Napping(mx.operator.CustomOp):
    """Hands on what came in: at once the first time, and then when it is woken."""

    first, wake = threading.Event(), threading.Event()

    def forward(self, is_train: Any, req: Any, in_data: Any, out_data: Any, aux: Any) -> None:
        if self.first.is_set():
            self.wake.wait(60.0)  # lest a failed test keeps this thread for ever
        self.first.set()
        self.assign(out_data[0], req[0], in_data[0])

    def backward(
        self, req: Any, out_grad: Any, in_data: Any, out_data: Any, in_grad: Any, aux: Any
    ) -> None:
        self.assign(in_grad[0], req[0], out_grad[0])


@mx.operator.register("threads_nap")
class NappingProp(mx.operator.CustomOpProp):
    """Its description."""

    def create_operator(self, ctx: Any, shapes: Any, dtypes: Any) -> mx.operator.CustomOp:
        return Napping()


def wide(**where: Any) -> mx.Executor:
    """Weights and gradients that need slots, some larger than others; updates by `step`."""
    net = mx.sym.Variable("data")
    for i, width in enumerate((300, 300, 60, 300)):
        net = mx.sym.FullyConnected(net, num_hidden=width, no_bias=True, name=f"fc{i}")
        net = mx.sym.tanh(net)
    net = mx.sym.LinearRegressionOutput(net, name="loss")
    weights = [name for name in net.list_arguments() if name.endswith("weight")]
    requests = {"data": "null", "loss_label": "null", **dict.fromkeys(weights, "write")}
    update = ("sgd_update", {"lr": 0.1})
    executor = net.simple_bind(
        mx.cpu(), grad_req=requests, data=(ROWS, N_INPUTS), optimizer=update, **where
    )
    rng = np.random.default_rng(0)
    for array in executor.arg_dict.values():
        array[:] = rng.uniform(-0.3, 0.3, array.shape)
    return executor


def trained(executor: mx.Executor) -> dict[str, np.ndarray]:
    """Weights after steps in two calls, and then in one: other modes, with larger messages."""
    rng = np.random.default_rng(1)
    for _ in range(2):
        executor.forward(is_train=True)
        executor.backward()
    batches = [rng.normal(size=(ROWS, N_INPUTS)).astype(np.float32) for _ in range(6)]
    for _ in executor.run([{"data": batch} for batch in batches]):
        pass
    return {name: array.asnumpy() for name, array in executor.arg_dict.items()}


def test_rings_that_grow_between_modes_keep_the_bits() -> None:
    want = trained(wide(micro_batches=2))
    for _ in range(8):  # what went wrong once did so in one run of twenty
        runtime = ResidentRuntime(ThreadFleet, 1, "object_store")
        with wide(data_parallel=2, runtime=runtime) as executor:
            assert_same_bits(want, trained(executor))
            fleet: Any = runtime.crew.fleet
            rings = [c for h in fleet.hosts.values() for c in h._exchange.channels.values()]
            free = [len(c._credit.free) for c in rings if isinstance(c, RingChannel)]
            assert max(free) <= SLOTS


def ring_nbytes(runtime: ResidentRuntime) -> int:
    return sum(slots * size for slots, size in runtime.crew.rings.values())


def test_rings_that_were_replaced_are_let_go() -> None:
    runtime = ResidentRuntime(ThreadFleet, 1, "object_store")
    with wide(data_parallel=2, runtime=runtime) as executor:
        at_bind = ring_nbytes(runtime)
        executor.step()
        executor.step()
        gc.collect()
        fleet: Any = runtime.crew.fleet
        assert fleet.site.store.nbytes == ring_nbytes(runtime) > at_bind


def test_a_step_without_room_for_its_rings_is_refused_by_bind() -> None:
    room = {"here": float("inf")}

    class Small(ThreadFleet):
        def room(self) -> Mapping[str, float]:
            return room

    runtime = ResidentRuntime(Small, 1)
    with wide(data_parallel=2, runtime=runtime) as executor:
        at_bind = ring_nbytes(runtime)
        executor.step()
        assert ring_nbytes(runtime) > at_bind
        between = (at_bind + ring_nbytes(runtime)) / 2
    room["here"] = between / 0.8  # that share of a store may be rings
    with pytest.raises(PlacementError, match="object store of node here: the rings need"):
        wide(data_parallel=2, runtime=ResidentRuntime(Small, 1))


def test_a_load_that_was_interrupted_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    attach, left = Crew._attach, [1]

    def interrupted(self: Crew, *args: Any) -> None:
        if self.rings and left[0]:
            left[0] -= 1
            raise KeyboardInterrupt
        attach(self, *args)

    monkeypatch.setattr(Crew, "_attach", interrupted)
    runtime = ResidentRuntime(ThreadFleet, 1, deadline_s=20.0)
    with wide(data_parallel=2, runtime=runtime) as executor:
        with pytest.raises(KeyboardInterrupt):
            executor.step()
        executor.step()
        assert left == [0]
        assert np.isfinite(executor.arg_dict["fc0_weight"].asnumpy()).all()


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_an_executor_may_be_closed_twice(transport: str) -> None:
    executor = wide(data_parallel=2, runtime=ResidentRuntime(ThreadFleet, 1, transport))
    executor.forward()
    for _ in range(2):
        executor.close()
    assert executor.outputs[0].shape == (ROWS, 300)
    with pytest.raises(mx.WorkerError, match="it was closed"):
        executor.forward()


def test_close_waits_for_no_step_that_takes_long() -> None:
    class Leaving(ThreadFleet):
        def close(self) -> None:
            Napping.wake.set()  # a thread cannot be killed
            super().close()

    with mx.AttrScope(ctx_group="g0"):
        net = mx.sym.tanh(mx.sym.Variable("data"))
    with mx.AttrScope(ctx_group="g1"):
        net = mx.sym.MakeLoss(mx.sym.Custom(net, op_type="threads_nap", name="nap"))
    where = {"group2ctx": {"g0": mx.cpu(0), "g1": mx.cpu(1)}}
    executor = net.simple_bind(mx.cpu(), data=(3, 5), runtime=ResidentRuntime(Leaving, 1), **where)
    for event in (Napping.first, Napping.wake):
        event.clear()
    stream = executor.run([{}] * 20)
    next(stream)
    with within(CLOSE_S):
        executor.close()
    with pytest.raises(mx.WorkerError, match="it was closed"):
        next(stream)
    assert Napping.wake.is_set()
