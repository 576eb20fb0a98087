"""Stalls: workers that are stopped, hang or wait for nothing are named; who computes is not."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from processes import alive, eventually, on, pids_of, stop, stopped
from random_graphs import assert_same_bits, bind_random
from test_pipeline import chain, contiguous, train

import raysym as mx
from raysym.errors import StallError
from raysym.planning.plan import Plan, Recv, Run, Send
from raysym.runtime.diagnosis import _Sight
from raysym.runtime.host import Health
from raysym.runtime.interpreter import Phase
from raysym.runtime.protocol import StepKey
from raysym.runtime.pulse import Pulse, is_at_rest, read_pulse
from raysym.runtime.transport import TRANSPORTS

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_session")]


def two_stages(**where: Any) -> mx.Executor:
    return bind_random(chain(4), 1, group2ctx=contiguous(2), runtime="ray", **where)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_stopped_worker_is_a_stall_that_names_it(transport: str) -> None:
    whole = train(bind_random(chain(4), 1), 2)
    with two_stages(transport=transport) as executor:
        executor.step()
        with stopped(pids_of(executor)["cpu:0"]):
            with pytest.raises(StallError) as caught:
                executor.step()
            executor.close()
    waits, silent = str(caught.value).splitlines()[1:]
    assert re.match(
        r"  worker cpu:1 waits for \w+ from cpu:0 in step 2, step instruction \d+: recv ", waits
    )
    assert "worker cpu:0 does not answer, its process was stopped, before step instr" in silent
    assert silent.endswith("-> cpu:1")
    with two_stages(transport=transport) as executor:
        assert_same_bits(whole, train(executor, 2))


def test_a_stopped_worker_that_nobody_waits_for_is_named() -> None:
    with two_stages() as executor:
        executor.step()
        with stopped(pids_of(executor)["cpu:1"]), pytest.raises(StallError, match="cpu:1 does not"):
            executor.forward(data=np.ones(executor.arg_dict["data"].shape, np.float32))
        with pytest.raises(mx.WorkerError, match="cannot go on: nothing moves any more"):
            executor.forward()


def test_close_does_not_wait_for_a_stopped_worker_and_leaves_no_process() -> None:
    executor = two_stages()
    executor.step()
    pid = pids_of(executor)["cpu:1"]
    stop(pid)
    executor.close()
    assert eventually(lambda: not alive(pid))


# ----- kernels


def busy(seconds: float) -> None:
    end = time.monotonic() + seconds
    x = np.ones((300, 300))
    while time.monotonic() < end:
        x = np.tanh(x @ x)


def busy_with_the_interpreter_locked(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pow(3, 1_500_000)


def waits_for_a_child(seconds: float) -> None:
    import subprocess

    code = f"import time; end = time.monotonic() + {seconds}\nwhile time.monotonic() < end: pass"
    subprocess.run([sys.executable, "-c", code], check=True)


def hang() -> None:
    import threading

    threading.Event().wait()


def hang_with_the_interpreter_locked() -> None:
    import ctypes

    ctypes.PyDLL(None).sleep(1000)


def insert(host: Any, position: int, what: Callable[..., None], *args: Any) -> None:
    """Put an instruction that calls `what` before the one at `position`."""

    class Call:
        name, random = "Call", False

        def forward(self, xp: Any) -> Any:
            what(*args)
            return np.ones(1)

    program = list(host._engine.programs["step"])
    program.insert(position, Run(("called",), Call(), ()))
    host._engine.phases["step"] = Phase(host._worker, tuple(program))


@pytest.mark.parametrize("kernel", [busy, busy_with_the_interpreter_locked, waits_for_a_child])
def test_a_long_computation_is_no_stall(
    kernel: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    import raysym.runtime.diagnosis as diagnosis

    monkeypatch.setattr(diagnosis, "STALL_S", 0.6)
    with two_stages() as executor:
        executor.step()
        on(executor, "cpu:0", insert, 2, kernel, 5.0)
        assert executor.step()[0].asnumpy().shape == (4, 6)


@pytest.mark.parametrize("kernel", [hang, hang_with_the_interpreter_locked])
def test_a_kernel_that_sleeps_for_ever_is_a_stall(kernel: Callable[[], None]) -> None:
    with two_stages() as executor:
        executor.step()
        on(executor, "cpu:0", insert, 2, kernel)
        with pytest.raises(StallError) as caught:
            executor.step()
    waits, hangs = str(caught.value).splitlines()[1:]
    assert re.match(r"  worker cpu:1 waits for \w+ from cpu:0 in step 2, step instruction", waits)
    answers = kernel is hang
    assert ("cpu:0 sleeps in step 2, step instruction 2: " in hangs) == answers
    assert ("cpu:0 does not answer, its process sleeps, before step" in hangs) != answers


# ----- messages


def knot(executor: mx.Executor, cpu0: Any, cpu1: Any) -> str:
    """The stall that these programs end in."""
    runtime = executor._session.runtime
    programs = {"cpu:0": {"knot": cpu0}, "cpu:1": {"knot": cpu1}}
    runtime.load(Plan(programs, {}, executor.plan.types), {})
    with pytest.raises(StallError) as caught:
        runtime.run("knot", StepKey(0, 0))
    return str(caught.value)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_workers_that_wait_for_each_other_are_a_stall_that_is_shown(transport: str) -> None:
    with two_stages(transport=transport) as executor:
        message = knot(
            executor,
            (Recv("b", "cpu:1"), Send("fc0_weight", "cpu:1")),
            (Recv("a", "cpu:0"), Send("fc3_weight", "cpu:0")),
        )
    assert "these workers wait for each other" in message
    assert "worker cpu:0 waits for b from cpu:1 in step 1, knot instruction 0: recv  b" in message
    assert "worker cpu:1 waits for a from cpu:0 in step 1, knot instruction 0: recv  a" in message


def test_a_message_that_never_comes_is_a_stall_that_ends_at_who_has_nothing_to_do() -> None:
    with two_stages() as executor:
        message = knot(executor, (Recv("b", "cpu:1"),), (Send("fc3_weight", "cpu:0"),))
    assert "worker cpu:0 waits for b from cpu:1 in step 1, knot instruction 0: recv  b" in message
    assert "worker cpu:1 waits for an order from driver in step 1, knot" in message


# ----- pulses


def test_a_late_answer_is_no_stall_before_it_has_been_late_for_long() -> None:
    """Who waits and has answered so far may be looked at from outside for a while."""
    resting = Pulse(10.0, 1.0, 0.5, "SS")
    health = Health(1, "step", 3, ("cpu:0", "x"), 7, resting)
    sight = _Sight("cpu:1", 0.0)
    for second in range(10):
        sight.hear(health, float(second))
    assert (sight.at_rest, sight.since, sight.waits_for) == (True, 0.0, ("cpu:0", "x"))
    sight.asked = 9.5
    for at_s in (10.0, 10.5):
        sight.look_at(resting._replace(at_s=at_s), at_s)
    assert (sight.at_rest, sight.since, sight.waits_for) == (True, 9.5, None)


def test_a_pulse_shows_who_runs() -> None:
    at_rest = Pulse(0.0, 1.0, 0.5, "SST")
    assert is_at_rest(at_rest, at_rest._replace(at_s=1.0, cpu_s=1.04))
    assert not is_at_rest(at_rest, at_rest._replace(at_s=1.0, cpu_s=1.2))
    assert not is_at_rest(at_rest, at_rest._replace(at_s=1.0, thread_s=0.501))
    for state in "RD":  # waits for a processor, or for the disk
        assert not is_at_rest(at_rest, at_rest._replace(at_s=1.0, states=f"S{state}"))


def test_the_pulse_of_this_process_counts_its_processor_time() -> None:
    import threading

    before = read_pulse(os.getpid(), threading.get_native_id())
    busy(0.2)
    now = read_pulse(os.getpid(), threading.get_native_id())
    assert now.thread_s > before.thread_s
    assert not is_at_rest(before, now)
    assert read_pulse(2**22 + 1).states == ""
