"""Generated kernels on Ray workers: the bits of one process, for every cut and schedule."""

from __future__ import annotations

import importlib
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from processes import alive, eventually, pids_of
from random_graphs import WIDTH, assert_same_bits, bind_random, random_symbol, train

import raysym as mx
from raysym.runtime.interpreter import Worker
from raysym.runtime.linked import Linked, LinkedEngines, LinkedRuntime

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_session")]
GENERATED = {"kernels": "generated"}


def groups(n: int) -> dict[str, mx.Context]:
    return {f"g{i}": mx.cpu(i % n) for i in range(4)}


def symbol(seed: int) -> mx.Symbol:
    return random_symbol(np.random.default_rng(seed), 10, 4)


def stepped(executor: mx.Executor, n_steps: int) -> dict[str, np.ndarray]:
    """What `n_steps` of `Executor.step`, then as many of `Executor.run`, leave behind."""
    mx.random.seed(7)
    rng = np.random.default_rng(3)
    batches = [{"data": rng.normal(size=(4, WIDTH)).astype(np.float32)} for _ in range(n_steps)]
    for batch in batches:
        executor.step(**batch)
    outputs = list(executor.run(batches))
    found = {f"step {i} {j}": o for i, made in enumerate(outputs) for j, o in enumerate(made)}
    found |= {f"grad {n}": g.asnumpy() for n, g in executor.grad_dict.items() if g is not None}
    return found | {f"aux {name}": a.asnumpy() for name, a in executor.aux_dict.items()}


@settings(
    max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(seed=st.integers(0, 10**6), n_workers=st.integers(1, 3))
def test_workers_give_the_bits_of_one_process(seed: int, n_workers: int) -> None:
    whole = train(bind_random(symbol(seed), seed, **GENERATED), 4)
    where = {"group2ctx": groups(n_workers), "runtime": "ray", **GENERATED}
    with bind_random(symbol(seed), seed, **where) as executor:
        assert_same_bits(whole, train(executor, 4))


def test_threads_of_workers_change_no_bit() -> None:
    def stepped_net(**where: object) -> list[np.ndarray]:
        x = mx.sym.Activation(mx.sym.Variable("data"), act_type="tanh")
        net = mx.sym.LinearRegressionOutput(mx.sym.FullyConnected(x, num_hidden=300), name="loss")
        with net.simple_bind(mx.cpu(), data=(64, 200), **GENERATED, **where) as executor:
            for name, array in executor.arg_dict.items():
                array[:] = np.random.default_rng(len(name)).normal(size=array.shape)
            executor.forward(is_train=True)
            executor.backward()
            return [a.asnumpy().copy() for a in (*executor.outputs, *executor.grad_dict.values())]

    alone, shared = stepped_net(), stepped_net(runtime="ray", threads=2)
    assert all(map(np.array_equal, alone, shared))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"micro_batches": 2, "schedule": "gpipe"},
        {"micro_batches": 2, "schedule": "1f1b"},
        {"data_parallel": 2},
        {"micro_batches": 2, "data_parallel": 2},
    ],
    ids=str,
)
def test_steps_give_the_bits_of_one_process(options: dict[str, object]) -> None:
    net = random_symbol(np.random.default_rng(5), 8, 2)
    options = {"group2ctx": {"g0": mx.cpu(0), "g1": mx.cpu(1)}, **GENERATED, **options}
    whole = stepped(bind_random(net, 1, **options), 3)
    with bind_random(net, 1, runtime="ray", **options) as executor:
        assert_same_bits(whole, stepped(executor, 3))
        assert set(executor._session.runtime.linked("step")) == set(
            executor._session.mode("step")[1].workers
        )


@pytest.mark.parametrize("transport", ["socket", "object_ref"])
def test_every_transport_copies_out_of_the_arena(transport: str) -> None:
    """Activations larger than a slot's inline limit, whose memory is used again at once."""
    value = mx.sym.Variable("data")
    for i in range(6):
        with mx.AttrScope(ctx_group=f"g{i % 2}"):
            value = mx.sym.tanh(value * 1.5)
    where = {"group2ctx": groups(2), "runtime": "ray", "transport": transport, **GENERATED}
    data = np.random.default_rng(0).normal(size=(64, 1000)).astype(np.float32)
    whole = value.simple_bind(mx.cpu(), grad_req="null", data=data.shape, **GENERATED)
    want = whole.forward(data=data)[0].asnumpy()
    with value.simple_bind(mx.cpu(), grad_req="null", data=data.shape, **where) as executor:
        for _ in range(3):
            assert np.array_equal(executor.forward(data=data)[0].asnumpy(), want)


def test_the_workers_tell_how_they_linked() -> None:
    where = {"group2ctx": groups(2), "runtime": "ray", **GENERATED}
    with bind_random(symbol(3), 3, **where) as executor:
        linkages = executor._session.runtime.linked("backward")
    assert set(linkages) == {"cpu:0", "cpu:1"}
    for linkage in linkages.values():
        assert linkage.text.startswith(f"arena {linkage.nbytes} bytes\nforward:\n")
        assert "(gemm)" in linkage.text


def test_a_monitor_on_workers_sees_what_one_process_sees() -> None:
    net = symbol(4)

    def seen(**where: object) -> list[tuple[bytes, bytes]]:
        found: list[tuple[bytes, bytes]] = []
        with bind_random(net, 4, **GENERATED, **where) as executor:
            mx.random.seed(1)
            executor.forward(is_train=True)
            executor.set_monitor_callback(
                lambda name, array: found.append((name, array.asnumpy().tobytes()))
            )
            executor.backward()
        return found

    one = seen(runtime="ray")
    assert one
    assert one == seen()


def test_a_failing_reference_kernel_names_node_and_worker() -> None:
    net = mx.sym.Embedding(mx.sym.Variable("words"), input_dim=5, output_dim=3, name="embed")
    where = {"runtime": "ray", **GENERATED}
    with net.simple_bind(mx.cpu(), words=(2,), embed_weight=(5, 3), **where) as executor:
        executor.forward(is_train=True)
        with pytest.raises(mx.MXNetError, match=r"_no_gradient(.|\n)*on worker cpu:0"):
            executor.backward(mx.nd.ones((2, 3)))


def test_linked_runtime_is_the_local_one_with_linked_workers() -> None:
    made = train(bind_random(symbol(6), 6, runtime=LinkedRuntime()), 2)
    assert_same_bits(made, train(bind_random(symbol(6), 6, **GENERATED), 2))


# ----- compiled in the background


@dataclass(frozen=True)
class Gated(LinkedEngines):
    """Compiles in the background, once a file is there; fails with what the file says."""

    gate: str = ""

    def open(self, worker: Worker) -> Linked:
        return GatedEngine(worker, Path(self.gate))


class GatedEngine(Linked):
    def __init__(self, worker: Worker, gate: Path) -> None:
        super().__init__(worker, background=True)
        self._gate = gate

    def _link(self, *what: Any) -> None:
        while not self._gate.exists():
            time.sleep(0.01)
        wrong = self._gate.read_text()
        if wrong:
            raise OSError(wrong)
        super()._link(*what)


def two_layers(**where: object) -> mx.Executor:
    value = mx.sym.Variable("data")
    for i in range(2):
        with mx.AttrScope(ctx_group=f"g{i}"):
            value = mx.sym.FullyConnected(value, num_hidden=30 + i, name=f"fc{i}")
            value = mx.sym.tanh(value)
    net = mx.sym.LinearRegressionOutput(value, name="loss")
    executor = net.simple_bind(mx.cpu(), data=(20, 40), group2ctx=groups(2), **where)
    rng = np.random.default_rng(0)
    for array in executor.arg_dict.values():
        array[:] = rng.normal(size=array.shape) * 0.3
    return executor


def one_step(executor: mx.Executor) -> dict[str, np.ndarray]:
    executor.forward(is_train=True)
    executor.backward()
    found = {n: g.asnumpy().copy() for n, g in executor.grad_dict.items() if g is not None}
    return found | {"output": executor.outputs[0].asnumpy().copy()}


def gated(gate: Path) -> mx.Executor:
    ray, door = map(importlib.import_module, ("ray", "raysym.runtime.ray"))
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # unknown to workers
    return two_layers(runtime=door.RayRuntime(engines=Gated(gate=str(gate))))


def test_first_steps_run_on_reference_kernels_and_later_ones_on_generated(tmp_path: Path) -> None:
    reference, generated = one_step(two_layers()), one_step(two_layers(**GENERATED))
    with gated(tmp_path / "gate") as executor:
        first = one_step(executor)
        (tmp_path / "gate").touch()
        linkages = executor._session.runtime.linked("forward")  # waits for what is being made
        later = one_step(executor)
    assert_same_bits(reference, first)
    assert set(linkages) == {"cpu:0", "cpu:1"}
    assert_same_bits(generated, later)
    for name, array in first.items():
        np.testing.assert_allclose(later[name], array, rtol=1e-4, atol=1e-5, err_msg=name)


def test_bind_compiles_in_the_background_of_workers() -> None:
    want = one_step(two_layers())
    with two_layers(runtime="ray", compiling="background", **GENERATED) as executor:
        for _ in range(3):  # whichever kernels are there
            for name, array in one_step(executor).items():
                np.testing.assert_allclose(array, want[name], rtol=1e-4, atol=1e-5, err_msg=name)
        assert executor._session.runtime.linked("backward")


def test_what_fails_to_compile_on_a_worker_is_raised_by_the_next_step(tmp_path: Path) -> None:
    with gated(tmp_path / "gate") as executor:
        one_step(executor)
        (tmp_path / "gate").write_text("no compiler")
        with pytest.raises(OSError, match="no compiler"):
            executor._session.runtime.linked("forward")
        with pytest.raises(OSError, match="no compiler"):
            executor.forward(is_train=True)


def test_close_does_not_wait_for_a_compiler(tmp_path: Path) -> None:
    executor = gated(tmp_path / "gate")
    one_step(executor)
    pids = pids_of(executor)
    executor.close()
    assert len(pids) == 2
    assert eventually(lambda: not any(map(alive, pids.values())))
