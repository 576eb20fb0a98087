"""Nothing is left: no process, socket, descriptor, mapping or object, however an executor ends."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from test_pipeline import contiguous

import raysym as mx
from raysym.runtime.transport import TRANSPORTS

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


def pids_of(executor: mx.Executor) -> list[int]:
    import ray

    actors = executor._session.runtime._actors.values()
    return [process.pid for process in ray.get([actor.process.remote() for actor in actors])]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def sockets(kind: str) -> set[str]:
    """Inodes of the sockets of a kind that this process has open: listed in /proc/net."""
    lines = [line.split() for line in Path(f"/proc/net/{kind}").read_text().splitlines()[1:]]
    inodes = {line[6] if kind == "unix" else line[9] for line in lines}
    return inodes & {link.removeprefix("socket:[").rstrip("]") for link in descriptors()}


def descriptors() -> list[str]:
    """What the descriptors of this process are."""
    found = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{fd}"))
        except FileNotFoundError:  # that of the listing itself
            continue
    return found


def free_store() -> float:
    import ray

    return float(ray.available_resources().get("object_store_memory", 0.0))


def shared_memory() -> set[str]:
    """Files of shared memory that this process maps."""
    maps = Path("/proc/self/maps").read_text().splitlines()
    return {line.split()[-1] for line in maps if "/dev/shm" in line}


def eventually(what: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 30
    while not what() and time.monotonic() < deadline:
        time.sleep(0.1)
    return what()


def close(executor: mx.Executor) -> None:
    executor.close()


def kill_and_close(executor: mx.Executor) -> None:
    os.kill(pids_of(executor)[0], signal.SIGKILL)
    executor.close()


def stop_and_close(executor: mx.Executor) -> None:
    os.kill(pids_of(executor)[0], signal.SIGSTOP)
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
    exchange, pids = executor._session.runtime._exchange, pids_of(executor)
    assert len(exchange.channels) == 2
    assert all(alive(pid) for pid in pids)
    end(executor)
    del executor
    gc.collect()
    assert eventually(lambda: not any(alive(pid) for pid in pids))
    assert eventually(lambda: exchange._epoll.closed)
    assert eventually(lambda: sockets("unix") <= unix)
    assert eventually(lambda: sockets("tcp") <= tcp)
    assert eventually(lambda: shared_memory() <= shm)
    assert eventually(lambda: free_store() >= store)


SCRIPT = """
import sys
import numpy as np
import test_runtime_ending as t

executor = t.bind_big()
print(*t.pids_of(executor), flush=True)
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
        _, complaints = program.communicate(timeout=60)
    assert "KeyboardInterrupt" in complaints
    assert len(pids) == 2
    assert eventually(lambda: not any(alive(pid) for pid in pids))
    assert eventually(lambda: free_store() >= store)
