"""Large messages are read where they arrived: at whichever address, and given back in time."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from random_graphs import assert_same_bits
from thread_fleet import ThreadFleet

pytest.importorskip("llvmlite")

from test_runtime_threads import trained, wide

from raysym.kernels.link import LinkedWorker, link
from raysym.op import make_op
from raysym.planning.plan import Instruction, Recv, Run, Send
from raysym.runtime.linked import LinkedEngines, LinkedRuntime
from raysym.runtime.protocol import StepKey
from raysym.runtime.resident import ResidentRuntime
from raysym.types import TensorType

SHAPE = (100, 200)
TANH = make_op("tanh", {})
KEY = StepKey(0, 0)


class Box:
    """Hands out whatever array it was given last."""

    array: Any = None

    def receiver(self, source: str, entry: str) -> Callable[[], Any]:
        return lambda: self.array

    def sender(self, to: str, entry: str) -> Callable[[Any], None]:
        return lambda array: None


def linked(
    *body: Instruction, shape: tuple[int, ...] = SHAPE, poison: bool = False
) -> tuple[LinkedWorker, Box, Any]:
    """A worker that runs the body, its mailbox, and the array of `out`."""
    kind = TensorType(shape, "float32")
    box, out = Box(), np.zeros(shape, np.float32)
    types = dict.fromkeys(("x", "y", "out"), kind)
    worker = link({"forward": body}, types, {"out": out}, mailbox=box, poison=poison)
    return worker, box, out


def message(shape: tuple[int, ...] = SHAPE, seed: int = 0) -> Any:
    array = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    array.flags.writeable = False
    return array


READ = Recv("x", "cpu:1"), Run(("out",), TANH, ("x",))


@pytest.mark.parametrize("poison", [False, True])
def test_kernels_read_each_message_where_it_is(poison: bool) -> None:
    worker, box, out = linked(*READ, poison=poison)
    for seed in range(3):
        box.array = message(seed=seed)
        worker.phases["forward"].advance(KEY, 0)
        assert np.allclose(out, np.tanh(box.array), rtol=1e-5)
        floats = worker.arena.view(np.float32)
        assert np.isnan(floats).all() if poison else not floats.any()  # nothing was copied there
        held = weakref.ref(box.array)
        box.array = None
        gc.collect()
        assert held() is None


def test_what_cannot_be_read_in_place_is_copied_and_the_next_is_not() -> None:
    worker, box, out = linked(*READ)
    for array in (message(), message((200, 100)).T, message(seed=1)):
        box.array = array
        worker.phases["forward"].advance(KEY, 0)
        assert np.allclose(out, np.tanh(array), rtol=1e-5)


@pytest.mark.parametrize(
    ("body", "shape"),
    [
        (READ, (10, 20)),  # copied faster
        ((READ[0], Send("x", "cpu:1"), READ[1]), SHAPE),  # sent on from the arena
    ],
)
def test_other_messages_are_copied(body: Any, shape: tuple[int, ...]) -> None:
    worker, box, out = linked(*body, shape=shape)
    box.array = message(shape)
    worker.phases["forward"].advance(KEY, 0)
    assert np.allclose(out, np.tanh(box.array), rtol=1e-5)
    copy = worker.arena.view(np.float32)[: box.array.size]
    assert copy.tobytes() == box.array.tobytes()


@pytest.mark.parametrize("transport", ["object_store", "socket", "object_ref"])
@pytest.mark.parametrize("parts", ["data_parallel", "micro_batches"])
def test_training_leaves_the_bits_of_one_process(transport: str, parts: str) -> None:
    want = trained(wide(micro_batches=2, runtime=LinkedRuntime()))
    runtime = ResidentRuntime(ThreadFleet, 1, transport, LinkedEngines())
    with wide(runtime=runtime, **{parts: 2}) as executor:
        assert_same_bits(want, trained(executor))
