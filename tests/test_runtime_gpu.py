"""Workers on GPUs: arrays on devices that refuse to mix with host arrays go through the host."""

from __future__ import annotations

import pickle
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from device_array import DeviceArray, PinnedMemory, StandIn
from random_graphs import assert_same_bits
from test_pipeline import everything
from thread_fleet import ThreadFleet

import raysym as mx
from raysym import device
from raysym.context import gpu
from raysym.runtime import host
from raysym.runtime.host import Mailbox
from raysym.runtime.interpreter import Clock
from raysym.runtime.orders import pickled, unpickled
from raysym.runtime.resident import ResidentRuntime
from raysym.runtime.transport import TRANSPORTS

GROUPS = {"g0": mx.cpu(0), "g1": mx.gpu(0), "g2": mx.gpu(1), "g3": mx.cpu(1)}


@pytest.fixture
def pretended_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "_cupy", StandIn)
    monkeypatch.setattr(device, "num_gpus", lambda: 2)


def bind(**where: Any) -> mx.Executor:
    """Four stages; what travels is too large for a message without a slot."""
    x = mx.sym.Variable("data")
    for i in range(4):
        with mx.AttrScope(ctx_group=f"g{i}"):
            x = mx.sym.FullyConnected(x, num_hidden=300, name=f"fc{i}")
            x = mx.sym.Activation(x, act_type="tanh", name=f"tanh{i}")
            if i == 3:
                x = mx.sym.LinearRegressionOutput(x, name="loss")
    executor = x.simple_bind(mx.cpu(), data=(64, 200), **where)
    rng = np.random.default_rng(0)
    for array in executor.arg_dict.values():
        array[:] = rng.uniform(-0.1, 0.1, array.shape)
    return executor


def trained(executor: mx.Executor) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    for _ in range(3):
        executor.step(data=rng.normal(size=(64, 200)).astype(np.float32))
    return everything(executor)


@pytest.mark.usefixtures("pretended_gpu")
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_workers_on_gpus_give_the_bits_of_one_process(transport: str) -> None:
    options: dict[str, Any] = {
        "micro_batches": 2,
        "optimizer": ("sgd_mom_update", {"lr": 0.1, "momentum": 0.9}),
    }
    runtime = ResidentRuntime(ThreadFleet, 1, transport)
    with bind(group2ctx=GROUPS, runtime=runtime, **options) as executor:
        found = trained(executor)
        fleet: Any = runtime.crew.fleet
        for name, one in fleet.hosts.items():
            kind = DeviceArray if name.startswith("gpu") else np.ndarray
            values = one._worker.values.values()
            assert values
            assert all(type(value) is kind for value in values)
    assert_same_bits(trained(bind(**options)), found)


@pytest.mark.usefixtures("pretended_gpu")
def test_what_a_gpu_has_received_is_its_own() -> None:
    """The slot of a ring is written again as soon as its view is gone."""
    slot = np.arange(6, dtype=np.float32)
    exchange = SimpleNamespace(name="gpu:0", recv=lambda *_: slot)
    array = Mailbox(exchange, 1.0, gpu(0), Clock()).receiver("cpu:0", "x")()
    slot[:] = -1
    assert isinstance(array, DeviceArray)
    assert np.array_equal(array.get(), np.arange(6))


@pytest.mark.usefixtures("pretended_gpu")
def test_what_a_gpu_sends_is_no_longer_its_own() -> None:
    """A message may wait for credit while kernels write into the array again."""
    sent: list[np.ndarray] = []
    exchange = SimpleNamespace(name="gpu:0", send=lambda to, key, array, s: sent.append(array))
    array = StandIn().array(np.arange(6, dtype=np.float32))
    Mailbox(exchange, 1.0, gpu(0), Clock()).sender("cpu:0", "x")(array)
    array[...] = -1
    assert np.array_equal(sent[0], np.arange(6))
    base = sent[0]
    while isinstance(base, np.ndarray):
        base = base.base
    assert isinstance(getattr(base, "obj", base), PinnedMemory)


@pytest.mark.gpu
@pytest.mark.parametrize("shape", [(), (0, 3), (5, 7)])
def test_a_copy_in_pinned_memory_is_a_copy(shape: tuple[int, ...]) -> None:
    with device.on_device(gpu(0)):
        array = device.array_module(gpu(0)).arange(35.0)[: int(np.prod(shape))].reshape(shape)
        found = device.to_pinned(array)
        wanted = array.get()
        array += 1
    assert found.shape == shape
    assert np.array_equal(found, wanted)


@pytest.mark.usefixtures("pretended_gpu")
def test_a_copy_that_fails_names_the_message(monkeypatch: pytest.MonkeyPatch) -> None:
    with bind(group2ctx=GROUPS, runtime=ResidentRuntime(ThreadFleet, 1)) as executor:
        executor.step()

        def no_room(*_: Any) -> None:
            raise MemoryError("out of memory on the device")

        with monkeypatch.context() as patch:
            patch.setattr(host, "place", no_room)
            with pytest.raises(MemoryError, match="out of memory on the device") as caught:
                executor.step()
        executor.step()
    note = "".join(caught.value.__notes__)
    assert note.startswith("worker gpu:")
    assert " from " in note
    assert " was copied at gpu(" in note


@pytest.mark.ray
@pytest.mark.parametrize(
    ("given", "visible", "number"),
    [("1", "1", 0), ("3", "1,3", 1), ("2", "", 2), ("GPU-b", "GPU-a,GPU-b", 1)],
)
def test_a_gpu_has_the_number_that_cuda_gives_it(given: str, visible: str, number: int) -> None:
    from raysym.runtime.ray import cuda_number

    assert cuda_number(given, visible) == number


# ----- errors that do not travel


class TwoPartsError(RuntimeError):
    """Cannot be made anew from its one argument, as CuPy's error for want of memory."""

    def __init__(self, wanted: int, had: int) -> None:
        super().__init__(f"wanted {wanted}, had {had}")


def test_an_error_that_cannot_be_made_anew_arrives_as_its_text() -> None:
    error = TwoPartsError(3, 2)
    error.add_note("dot 'fc': failed while running\n  on worker gpu:0")
    with pytest.raises(TypeError):
        pickle.loads(pickle.dumps(error))
    got = unpickled(pickled(error))
    assert type(got) is mx.MXNetError
    assert str(got) == (
        "TwoPartsError: wanted 3, had 2\ndot 'fc': failed while running\n  on worker gpu:0"
    )


def test_an_error_that_cannot_be_pickled_arrives_as_its_text() -> None:
    class LocalError(Exception):
        pass

    assert str(unpickled(pickled(LocalError("no")))) == "LocalError: no"


def test_other_errors_arrive_as_they_are() -> None:
    error = KeyError("x")
    error.add_note("on worker cpu:0")
    got = unpickled(pickled(error))
    assert type(got) is KeyError
    assert got.args == ("x",)
    assert got.__notes__ == ["on worker cpu:0"]
