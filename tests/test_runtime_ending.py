"""Nothing is left: no process, socket, descriptor, mapping or object, however an executor ends."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from processes import CLOSE_S, alive, eventually, pids_of, sockets, stop, within
from test_pipeline import contiguous

import raysym as mx
from raysym.planning.plan import Plan
from raysym.runtime.interpreter import INTERPRETED
from raysym.runtime.transport import TRANSPORTS, Address, Port

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_session")]
BIG = (400, 100)  # 160 kB: more than travels inline
ROOT = Path(__file__).parent.parent


def bind_big(transport: str | None = None) -> mx.Executor:
    with mx.AttrScope(ctx_group="g0"):
        net = mx.sym.exp(mx.sym.Variable("data"))
    with mx.AttrScope(ctx_group="g3"):
        net = mx.sym.exp(net)
    where = {"group2ctx": contiguous(2), "runtime": "ray", "transport": transport}
    return net.simple_bind(mx.cpu(), data=BIG, **where)


def free_store() -> float:
    import ray

    return float(ray.available_resources().get("object_store_memory", 0.0))


def shared_memory() -> set[str]:
    """Files of shared memory that this process maps."""
    maps = Path("/proc/self/maps").read_text().splitlines()
    return {line.split()[-1] for line in maps if "/dev/shm" in line}


def close(executor: mx.Executor) -> None:
    executor.close()


def kill_and_close(executor: mx.Executor) -> None:
    os.kill(pids_of(executor)["cpu:0"], signal.SIGKILL)
    executor.close()


def stop_and_close(executor: mx.Executor) -> None:
    stop(pids_of(executor)["cpu:0"])
    executor.close()


def drop(executor: mx.Executor) -> None:
    """The caller drops it."""


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("end", [close, kill_and_close, stop_and_close, drop])
def test_nothing_is_left_behind(end: Callable[[mx.Executor], None], transport: str) -> None:
    bind_big(transport).close()  # what Ray itself opens for the first time stays
    gc.collect()
    shm, store = shared_memory(), free_store()
    unix, tcp = sockets("unix"), sockets("tcp")
    executor = bind_big(transport)
    executor.forward(is_train=True)
    exchange, pids = executor._session.runtime.crew.exchange, pids_of(executor).values()
    assert len(exchange.channels) == 2
    assert all(alive(pid) for pid in pids)
    with within(CLOSE_S):
        end(executor)
    del executor
    gc.collect()
    assert eventually(lambda: not any(alive(pid) for pid in pids))
    assert eventually(lambda: exchange._epoll.closed)
    assert eventually(lambda: sockets("unix") <= unix)
    assert eventually(lambda: sockets("tcp") <= tcp)
    assert eventually(lambda: shared_memory() <= shm)
    assert eventually(lambda: free_store() >= store)


# ----- workers that do not start

PLAN = Plan({"cpu:0": {}, "cpu:1": {}}, {})


def no_engine(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The processes start, the workers in them do not."""

    class NoEngines:
        def open(self, worker: Any) -> Any:
            raise ValueError("no engine")

    return NoEngines()


def no_way_to_the_second(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The driver has reached one worker when it fails to reach the next."""
    reach = Port.open

    def open_channel(port: Port, address: Address, peer: str, transport: str) -> Any:
        address = address._replace(unix="nobody") if peer == "cpu:1" else address
        return reach(port, address, peer, transport)

    monkeypatch.setattr(Port, "open", open_channel)
    return INTERPRETED


def groups_held() -> int:
    """Placement groups that have not been given back."""
    import ray

    groups = ray.util.placement_group_table().values()
    return sum(group["state"] != "REMOVED" for group in groups)


@pytest.mark.parametrize(
    ("hinder", "why"),
    [
        (no_engine, "worker cpu:[01] could not be made: ValueError: no engine"),
        (no_way_to_the_second, "cannot reach cpu:1"),
    ],
)
def test_workers_that_do_not_start_leave_nothing_behind(
    hinder: Callable[[pytest.MonkeyPatch], Any], why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from raysym.runtime.ray import RayRuntime

    bind_big().close()
    gc.collect()
    groups, unix, tcp = groups_held(), sockets("unix"), sockets("tcp")
    runtime = RayRuntime(engines=hinder(monkeypatch))
    with pytest.raises(mx.WorkerError, match=why):
        runtime.load(PLAN, {})
    with pytest.raises(mx.WorkerError, match=f"cannot go on: its workers did not start: .*{why}"):
        runtime.load(PLAN, {})
    assert runtime.crew.exchange._epoll.closed
    assert groups_held() == groups
    assert eventually(lambda: sockets("unix") <= unix)
    assert eventually(lambda: sockets("tcp") <= tcp)


SCRIPT = """
import sys
import numpy as np
import test_runtime_ending as t

executor = t.bind_big()
print(*t.pids_of(executor).values(), flush=True)
try:
    while True:
        executor.forward(is_train=True, data=np.ones(t.BIG, np.float32))
        print("step", flush=True)
finally:
    if "close" in sys.argv:
        executor.close()
"""


@pytest.mark.parametrize("how", ["close", "nothing"])
def test_an_interrupted_program_ends_and_leaves_nothing(how: str) -> None:
    import ray

    store = free_store()
    address = ray.get_runtime_context().gcs_address
    environment = {**os.environ, "RAY_ADDRESS": address, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT, how],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as program:
        assert program.stdout is not None
        pids = [int(word) for word in program.stdout.readline().split()]
        assert program.stdout.readline() == "step\n"
        os.killpg(program.pid, signal.SIGINT)
        _, complaints = program.communicate(timeout=180)
    assert "KeyboardInterrupt" in complaints
    assert len(pids) == 2
    assert eventually(lambda: not any(alive(pid) for pid in pids))
    assert eventually(lambda: free_store() >= store)
