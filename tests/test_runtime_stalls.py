"""Stalls: workers that are stopped or wait for nothing are named; who computes, at the deadline."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from processes import CLOSE_S, STALL_S, alive, eventually, on, pids_of, stop, stopped, within
from random_graphs import assert_same_bits, bind_random
from test_pipeline import chain, contiguous, train

import raysym as mx
from raysym.errors import StallError
from raysym.planning.plan import Plan, Recv, Run, Send
from raysym.runtime.diagnosis import _Sight
from raysym.runtime.host import Health
from raysym.runtime.interpreter import Phase, Where
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
            with within(STALL_S), pytest.raises(StallError) as caught:
                executor.step()
            with within(CLOSE_S):
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
        data = np.ones(executor.arg_dict["data"].shape, np.float32)
        with stopped(pids_of(executor)["cpu:1"]), within(STALL_S):
            with pytest.raises(StallError, match="cpu:1 does not"):
                executor.forward(data=data)
        with pytest.raises(mx.WorkerError, match="cannot go on: nothing moves any more"):
            executor.forward()


def test_close_does_not_wait_for_a_stopped_worker_and_leaves_no_process() -> None:
    executor = two_stages()
    executor.step()
    pid = pids_of(executor)["cpu:1"]
    stop(pid)
    with within(CLOSE_S):
        executor.close()
    assert eventually(lambda: not alive(pid))


def test_a_test_that_waits_for_too_long_fails() -> None:
    late = "not done after 10 times the 0.01 s that are promised"
    with pytest.raises(pytest.fail.Exception, match=late), within(0.01):
        threading.Event().wait()


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
    code = f"import time; end = time.monotonic() + {seconds}\nwhile time.monotonic() < end: pass"
    subprocess.run([sys.executable, "-c", code], check=True)


def sleeps(seconds: float) -> None:
    time.sleep(seconds)


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


@pytest.mark.parametrize(
    "kernel", [busy, busy_with_the_interpreter_locked, waits_for_a_child, sleeps]
)
def test_a_long_computation_is_no_stall(
    kernel: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    import raysym.runtime.diagnosis as diagnosis

    monkeypatch.setattr(diagnosis, "STALL_S", 0.6)
    with two_stages() as executor:
        executor.step()
        on(executor, "cpu:0", insert, 2, kernel, 5.0)
        assert executor.step()[0].asnumpy().shape == (4, 6)


def test_a_kernel_that_sleeps_with_the_interpreter_locked_is_a_stall() -> None:
    """Its worker cannot answer, and does not run: like one that was stopped."""
    with two_stages() as executor:
        executor.step()
        on(executor, "cpu:0", insert, 2, hang_with_the_interpreter_locked)
        with within(STALL_S), pytest.raises(StallError) as caught:
            executor.step()
    waits, hangs = str(caught.value).splitlines()[1:]
    assert re.match(r"  worker cpu:1 waits for \w+ from cpu:0 in step 2, step instruction", waits)
    assert "cpu:0 does not answer, its process sleeps, before step" in hangs


# ----- the deadline of a step


def for_ever() -> None:
    while True:
        pass


@pytest.mark.parametrize("kernel", [hang, for_ever])
def test_a_kernel_without_end_is_named_when_the_deadline_is_over(
    kernel: Callable[[], None],
) -> None:
    with two_stages(deadline_s=2.0) as executor:
        line = executor.plan.line(executor.step_plan.programs["cpu:0"]["step"][2])
        executor.step()
        on(executor, "cpu:0", insert, 2, kernel)
        with within(2.0), pytest.raises(StallError) as caught:
            executor.step()
        with pytest.raises(mx.WorkerError, match="cannot go on: no answer within 2 s, the dead"):
            executor.step()
    first, computes, waits = str(caught.value).splitlines()
    assert first == "step 2: no answer within 2 s, the deadline_s of bind, from cpu:0, cpu:1:"
    found = re.fullmatch(
        r"  worker cpu:0 has computed for (\d\.\d) s in step 2, step instruction 2: (.*)", computes
    )
    assert found is not None
    assert 0.0 < float(found[1])
    assert found[2] == line  # of the program as the driver knows it
    assert re.match(r"  worker cpu:1 waits for \w+ from cpu:0 in step 2, step instr", waits)


class Sleeper(mx.operator.CustomOp):
    """The identity, after a while."""

    def forward(self, is_train: Any, req: Any, in_data: Any, out_data: Any, aux: Any) -> None:
        time.sleep(float(in_data[1].asnumpy()[0]))
        self.assign(out_data[0], req[0], in_data[0])


@mx.operator.register("stalls_sleeper")
class SleeperProp(mx.operator.CustomOpProp):
    """The second input: for how many seconds."""

    def __init__(self) -> None:
        super().__init__(need_top_grad=True)

    def list_arguments(self) -> list[str]:
        return ["data", "seconds"]

    def infer_shape(self, in_shape: list[Any]) -> tuple[Any, ...]:
        return [in_shape[0], (1,)], [in_shape[0]], []

    def create_operator(self, ctx: Any, in_shapes: Any, in_dtypes: Any) -> mx.operator.CustomOp:
        return Sleeper()


def bound_sleeper(kernels: str, **where: Any) -> mx.Executor:
    """On two workers: tanh, the sleeper, and its reader."""
    with mx.AttrScope(ctx_group="g0"):
        net = mx.sym.tanh(mx.sym.Variable("data"), name="before")
        net = mx.sym.Custom(net, mx.sym.Variable("seconds"), op_type="stalls_sleeper", name="nap")
        net = mx.sym.tanh(net, name="behind")
    with mx.AttrScope(ctx_group="g3"):
        net = mx.sym.tanh(net, name="reader")
    where |= {"group2ctx": contiguous(2), "runtime": "ray", "kernels": kernels}
    return net.simple_bind(mx.cpu(), grad_req="null", data=(3, 5), **where)


@pytest.mark.parametrize("kernels", ["reference", "generated"])
def test_an_operator_that_sleeps_is_no_stall_and_one_that_sleeps_on_is_named(kernels: str) -> None:
    if kernels == "generated":
        pytest.importorskip("llvmlite")
    with bound_sleeper(kernels, deadline_s=8.0) as executor:
        executor.forward(seconds=np.array([5.0], np.float32))  # longer than stalls may last
        assert np.array_equal(executor.outputs[0].asnumpy(), np.zeros((3, 5)))
        with within(8.0), pytest.raises(StallError) as caught:
            executor.forward(seconds=np.array([1000.0], np.float32))
    computes = str(caught.value).splitlines()[1]
    assert re.match(r"  worker cpu:0 has computed for \d\.\d s in step \d, inference", computes)
    assert "nap" in computes
    assert "Custom" in computes


@pytest.mark.parametrize("deadline_s", [0, -1.0, float("nan"), "soon"])
def test_deadlines_that_are_none_are_refused(deadline_s: Any) -> None:
    with pytest.raises(mx.MXNetError, match=r"deadline_s: got .*, expected seconds, more"):
        two_stages(deadline_s=deadline_s)


# ----- messages


def knot(executor: mx.Executor, cpu0: Any, cpu1: Any) -> str:
    """The stall that these programs end in."""
    runtime = executor._session.runtime
    programs = {"cpu:0": {"knot": cpu0}, "cpu:1": {"knot": cpu1}}
    runtime.load(Plan(programs, {}, executor.plan.types), {})
    with within(STALL_S), pytest.raises(StallError) as caught:
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
    assert "worker cpu:1 rests after step 1" in message


# ----- pulses


def test_a_late_answer_is_no_stall_before_it_has_been_late_for_long() -> None:
    """Who waits and has answered so far may be looked at from outside for a while."""
    resting = Pulse(10.0, 1.0, "SS")
    health = Health(1, "step", Where(3, True), ("cpu:0", "x"), 7)
    sight = _Sight("cpu:1", 0.0)
    for second in range(10):
        sight.hear(health, float(second))
    assert (sight.at_rest, sight.since, sight.waits_for) == (True, 0.0, ("cpu:0", "x"))
    sight.asked = 9.5
    for at_s in (10.0, 10.5):
        sight.look_at(resting._replace(at_s=at_s), at_s)
    assert (sight.at_rest, sight.since, sight.waits_for) == (True, 9.5, None)


def test_a_pulse_shows_who_runs() -> None:
    at_rest = Pulse(0.0, 1.0, "SST")
    assert is_at_rest(at_rest, at_rest._replace(at_s=1.0, cpu_s=1.04))
    assert not is_at_rest(at_rest, at_rest._replace(at_s=1.0, cpu_s=1.2))
    for state in "RD":  # waits for a processor, or for the disk
        assert not is_at_rest(at_rest, at_rest._replace(at_s=1.0, states=f"S{state}"))


def test_the_pulse_of_a_process_counts_its_processor_time() -> None:
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as child:
        before = read_pulse(child.pid)
        assert eventually(lambda: read_pulse(child.pid).cpu_s > before.cpu_s + 0.2)
        assert not is_at_rest(before, read_pulse(child.pid))
        child.kill()
    assert read_pulse(2**22 + 1).states == ""
