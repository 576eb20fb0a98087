"""Bounds: what is under way, what rests, what is copied."""

from __future__ import annotations

import importlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from processes import eventually, on, pids_of, stop
from random_graphs import WIDTH, bind_random
from test_pipeline import chain, contiguous
from thread_fleet import ThreadFleet

import raysym as mx
from raysym.planning.plan import Run
from raysym.runtime import diagnosis
from raysym.runtime.interpreter import Phase
from raysym.runtime.protocol import IN_FLIGHT
from raysym.runtime.pulse import read_pulse
from raysym.runtime.resident import ResidentRuntime
from raysym.runtime.transport import OBJECT_REF, OBJECT_STORE, SOCKET, TRANSPORTS
from raysym.runtime.transport.protocol import INLINE_NBYTES, SLOTS, WINDOW

# ----- what is under way


class Supply:
    """Batches without end; how many were taken at most before their results were there."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._shape = shape
        self.taken = self.given = self.most_ahead = 0

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        while True:
            self.taken += 1
            self.most_ahead = max(self.most_ahead, self.taken - self.given)
            yield {"data": np.full(self._shape, self.taken, np.float32)}

    def results(self, executor: mx.Executor, n: int) -> list[bytes]:
        """The first results of the executor."""
        found = []
        for outputs in executor.run(self):
            self.given += 1
            found.append(outputs[0].tobytes())
            if self.given == n:
                return found
        raise AssertionError("they have no end")


class Gate(mx.operator.CustomOp):
    """The identity, which takes as long as `hold` does."""

    hold: Callable[[], None] = staticmethod(lambda: None)

    def forward(self, is_train: Any, req: Any, in_data: Any, out_data: Any, aux: Any) -> None:
        Gate.hold()
        self.assign(out_data[0], req[0], in_data[0])


@mx.operator.register("bounds_gate")
class GateProp(mx.operator.CustomOpProp):
    """Its description."""

    def create_operator(self, ctx: Any, shapes: Any, dtypes: Any) -> mx.operator.CustomOp:
        return Gate()


class Edge:
    """Messages of one worker to another: those that have left it whole, and those taken in."""

    def __init__(self, fleet: ThreadFleet, source: str, target: str) -> None:
        self._source, self._target = fleet.hosts[source], target
        self._begun = self._sent = self._taken = 0
        self._watch_sender(self._source._exchange.channels[target])
        self._watch_receiver(fleet.hosts[target]._exchange.channels[source])

    def _watch_sender(self, channel: Any) -> None:
        send, flush = channel.send, channel.flush

        def counted_send(*message: Any) -> bool:
            self._begun += 1
            return counted(bool(send(*message)))

        def counted(is_done: bool) -> bool:
            self._sent = self._begun if is_done else self._sent
            return is_done

        channel.send, channel.flush = counted_send, lambda: counted(flush())

    def _watch_receiver(self, channel: Any) -> None:
        receive = channel.receive

        def counted_receive() -> Any:
            found = receive()
            self._taken += len(found)
            return found

        channel.receive = counted_receive

    def under_way_when_blocked(self) -> int:
        """How many are under way once the sender waits until more may be."""
        now = [0, -1]

        def is_blocked() -> bool:
            now[:] = self._sent - self._taken, now[0]
            return now[0] == now[1] and self._source.health().waits_for == (self._target, "room")

        assert eventually(is_blocked)
        return now[0]


def many_messages(n: int, width: int, runtime: Any) -> mx.Executor:
    """The second worker passes a gate, then takes `n` messages from the first."""
    with mx.AttrScope(ctx_group="g0"):
        parts = mx.sym.SliceChannel(mx.sym.Variable("data"), num_outputs=n, name="parts")
    with mx.AttrScope(ctx_group="g3"):
        gate = mx.sym.Custom(mx.sym.Variable("key"), op_type="bounds_gate", name="gate")
        net = mx.sym.MakeLoss(mx.sym.add_n(gate, *parts), name="loss")
    shapes = {"data": (2, n * width), "key": (2, width)}
    where = {"group2ctx": contiguous(2), "runtime": runtime, "grad_req": "null"}
    return net.simple_bind(mx.cpu(), **where, **shapes)


LARGE = INLINE_NBYTES // 4  # numbers in half of a message
BOUNDS = [(how, 3, WINDOW) for how in TRANSPORTS]
BOUNDS += [(OBJECT_STORE, LARGE, SLOTS), (SOCKET, LARGE, SLOTS), (OBJECT_REF, LARGE, WINDOW)]


@pytest.mark.parametrize(("transport", "width", "most"), BOUNDS)
def test_a_slow_consumer_bounds_messages_and_steps_under_way(
    transport: str, width: int, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime, seen = ResidentRuntime(ThreadFleet, 1, transport), []
    with many_messages(2 * most, width, runtime) as executor:
        fleet: Any = runtime.crew.fleet
        edge = Edge(fleet, "cpu:0", "cpu:1")
        monkeypatch.setattr(Gate, "hold", lambda: seen.append(edge.under_way_when_blocked()))
        supply = Supply(executor.arg_dict["data"].shape)
        assert len(set(supply.results(executor, 2 * IN_FLIGHT))) == 2 * IN_FLIGHT
    assert supply.most_ahead == IN_FLIGHT
    assert len(seen) >= 2 * IN_FLIGHT
    # Less where some were taken in early: what they cost comes back in batches.
    assert 0 < max(seen) <= most


@pytest.mark.ray
@pytest.mark.usefixtures("ray_session")
def test_a_stopped_worker_bounds_the_steps_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnosis, "STALL_S", 60.0)
    expected = Supply((4, WIDTH)).results(bind_random(chain(4), 1), 12)
    with bind_random(chain(4), 1, group2ctx=contiguous(2), runtime="ray") as executor:
        executor.step()
        pid, supply = pids_of(executor)["cpu:1"], Supply((4, WIDTH))
        mx.random.seed(0)
        stop(pid)
        timer = threading.Timer(1.0, os.kill, (pid, signal.SIGCONT))
        timer.start()
        assert supply.results(executor, 12) == expected
        timer.join()
    assert supply.most_ahead == IN_FLIGHT


# ----- what rests

SHARE = 0.1  # of a processor, for all workers together, beside what Ray itself uses


@pytest.mark.ray
@pytest.mark.usefixtures("ray_session")
def test_workers_that_rest_use_no_processor() -> None:
    """Of each transport, after steps; an actor that does nothing shows what Ray uses."""
    ray = importlib.import_module("ray")
    idle = idle_actor()
    executors = [
        bind_random(chain(4), 1, group2ctx=contiguous(2), runtime="ray", transport=how)
        for how in TRANSPORTS
    ]
    workers = [pid for executor in executors for pid in pids_of(executor).values()]
    for executor in executors:
        for _ in range(3):
            executor.step()[0].asnumpy()
    own = ray.get(idle.pid.remote())
    time.sleep(0.5)  # what was under way comes to its end
    before = [read_pulse(pid) for pid in (own, *workers)]
    time.sleep(3.0)
    after = [read_pulse(pid) for pid in (own, *workers)]
    for executor in executors:
        executor.close()
    ray.kill(idle)
    rays, *spent = (b.cpu_s - a.cpu_s for a, b in zip(before, after, strict=True))
    assert sum(spent) - len(workers) * rays < SHARE * (after[0].at_s - before[0].at_s)


def idle_actor() -> Any:
    class Idle:
        def pid(self) -> int:
            return os.getpid()

    return importlib.import_module("ray").remote(num_cpus=0)(Idle).remote()


# ----- what is copied

BIG = (400, 100)  # 160 kB: a slot


def bind_big(**where: Any) -> mx.Executor:
    with mx.AttrScope(ctx_group="g0"):
        net = mx.sym.exp(mx.sym.Variable("data"), name="made")
    with mx.AttrScope(ctx_group="g3"):
        net = mx.sym.tanh(net, name="read")
    where |= {"group2ctx": contiguous(2), "transport": OBJECT_STORE, "kernels": "reference"}
    return net.simple_bind(mx.cpu(), data=BIG, grad_req="null", **where)


def watch_input(host: Any, entry: str, found: list[Any]) -> None:
    """From now on the array that the kernel behind `entry` reads is put into `found`."""

    class Look:
        name, random = "Look", False

        def forward(self, xp: Any, array: Any) -> Any:
            found[:] = [array]
            return np.ones(1)

    program = list(host._engine.programs["inference"])
    at = next(i for i, one in enumerate(program) if type(one) is Run and entry in one.args)
    program.insert(at, Run(("_",), Look(), (entry,)))  # type: ignore[arg-type]
    host._engine.phases["inference"] = Phase(host._worker, tuple(program))


def watch_here(host: Any) -> None:
    host.found = []
    watch_input(host, "made", host.found)


def place_of_input(host: Any) -> tuple[bool, str]:
    """Whether the kernel has read a slot of the ring in place; and what memory that is."""
    (array,) = host.found
    address = array.__array_interface__["data"][0]
    slots = host._exchange.channels["cpu:0"]._in.values()
    is_slot = address in [slot.__array_interface__["data"][0] for slot in slots]
    return is_slot and not array.flags.writeable, memory_at(address)


def memory_at(address: int) -> str:
    """The line of the process's mappings that holds an address."""
    with open("/proc/self/maps") as maps:
        for line in maps:
            start, end = (int(number, 16) for number in line.split()[0].split("-"))
            if start <= address < end:
                return line
    return ""


@pytest.mark.ray
@pytest.mark.usefixtures("ray_session")
def test_a_large_array_is_read_where_it_lies_in_shared_memory() -> None:
    with bind_big(runtime="ray") as executor:
        executor.forward()
        on(executor, "cpu:1", watch_here)
        for _ in range(2 * SLOTS):
            executor.forward(data=np.ones(BIG, np.float32))
            is_slot, memory = on(executor, "cpu:1", place_of_input)
            assert is_slot
            assert "/dev/shm" in memory


class CountedSlot:
    """A slot of a ring whose writes are counted."""

    def __init__(self, slot: memoryview, written: list[int]) -> None:
        self._slot, self._written = slot, written

    def __setitem__(self, where: slice, body: memoryview) -> None:
        self._written.append(body.nbytes)
        self._slot[where] = body


def test_a_large_array_is_written_once_and_not_copied_when_it_is_read() -> None:
    runtime = ResidentRuntime(ThreadFleet, 1)
    with bind_big(runtime=runtime) as executor:
        executor.forward()
        fleet: Any = runtime.crew.fleet
        written: list[int] = []
        found: list[Any] = []
        channel = fleet.hosts["cpu:0"]._exchange.channels["cpu:1"]
        ring = [np.frombuffer(slot, np.uint8) for slot in channel._out.values()]
        channel._out = {i: CountedSlot(slot, written) for i, slot in channel._out.items()}
        watch_input(fleet.hosts["cpu:1"], "made", found)
        for i in range(1, 2 * SLOTS):
            executor.forward(data=np.full(BIG, i / 10, np.float32))
            (array,) = found
            assert any(np.shares_memory(array, slot) for slot in ring)
            assert np.array_equal(array, np.exp(np.full(BIG, i / 10, np.float32)))
            assert written == i * [array.nbytes]
            del array
            found.clear()
