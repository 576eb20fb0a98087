"""Random numbers in generated kernels are NumPy's to the bit: masks do not depend on what runs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from kernel_calls import linked_op
from test_kernels_ops import reference, uniform

from raysym.kernels.link import LinkedWorker
from raysym.op import Op, call_kernel, make_op
from raysym.random_state import generator
from raysym.runtime.protocol import StepKey
from raysym.types import TensorType


def linked(op: Op, arrays: list[np.ndarray]) -> tuple[list[np.ndarray], LinkedWorker]:
    outs = [TensorType(w.shape, w.dtype.name) for w in reference(op, arrays)]
    return linked_op(op, arrays, outs)


def assert_same_bits(op: Op, arrays: list[np.ndarray]) -> None:
    made, worker = linked(op, arrays)
    assert not worker.found.uncovered
    for got, want in zip(made, reference(op, arrays), strict=True):
        assert got.tobytes() == want.tobytes()


SHAPES = [(1,), (7,), (16,), (17, 3), (5, 4, 13), (70, 90)]


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_masks_of_dropout_are_those_of_the_reference(dtype: str, shape: tuple[int, ...]) -> None:
    for p in (0.0, 0.3, 1.0):
        assert_same_bits(make_op("Dropout", {"p": p}), [uniform(*shape).astype(dtype)])


def test_masks_shared_along_axes_are_those_of_the_reference() -> None:
    assert_same_bits(make_op("Dropout", {"p": 0.4, "axes": (1,)}), [uniform(9, 5, 7)])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_uniform_numbers_are_those_of_the_reference(dtype: str, shape: tuple[int, ...]) -> None:
    params = {"low": -0.3, "high": 2.6}
    like = uniform(*shape).astype(dtype)
    assert_same_bits(make_op("_random_uniform_like", params), [like])
    assert_same_bits(make_op("_random_uniform", {**params, "shape": shape, "dtype": dtype}), [])
    assert_same_bits(make_op("LeakyReLU", {"act_type": "rrelu"}), [like])


def test_every_step_has_a_mask_of_its_own() -> None:
    op, x = make_op("Dropout", {}), uniform(13, 11)
    made, worker = linked(op, [x])
    seen = set()
    for key in (StepKey(0, 1), StepKey(0, 2), StepKey(5, 1), StepKey(-3, 2**40), StepKey(0, 1)):
        worker.phases["forward"].advance(key, 0)
        want = call_kernel(op, np, [x], generator(key.seed, "out0", key.step))
        assert made[1].tobytes() == want[1].tobytes()
        seen.add(made[1].tobytes())
    assert len(seen) == 4


class _drawn(Op):
    """Several draws from one stream, one behind the other."""

    random = True
    inputs = ("data",)
    counts: tuple[int, ...] = ()
    dtypes: tuple[str, ...] = ()

    def infer_shape(self, ins: Any, outs: Any) -> tuple[Any, Any]:
        return ins, [(sum(self.counts),)]

    def infer_dtype(self, ins: Any, outs: Any) -> tuple[Any, Any]:
        return ins, ["float64"]

    def forward(self, xp: Any, rng: Any, data: Any) -> Any:
        drawn = zip(self.counts, self.dtypes, strict=True)
        parts = [xp.asarray(rng.random(n, dtype)).astype("float64") for n, dtype in drawn]
        return xp.concatenate(parts)


def drawing(*draws: tuple[int, str]) -> Op:
    """An op that makes these draws."""
    counts, dtypes = zip(*draws, strict=True)
    return type("_drawn", (_drawn,), {"counts": counts, "dtypes": dtypes})({})


def test_draws_of_one_stream_follow_each_other() -> None:
    op = drawing((5, "float32"), (9, "float32"), (3, "float64"), (8, "float64"), (40, "float32"))
    assert_same_bits(op, [uniform(2)])


def test_half_a_word_that_is_kept_for_later_is_left_to_the_reference() -> None:
    """NumPy keeps it while words are drawn: no place in the stream says so."""
    made, worker = linked(drawing((5, "float32"), (2, "float64")), [uniform(2)])
    assert worker.found.uncovered == {"_drawn": 1}
    assert np.all(made[0] < 1)


@pytest.mark.parametrize("name", ["_random_normal", "_random_exponential", "_shuffle"])
def test_draws_that_reject_numbers_are_left_to_the_reference(name: str) -> None:
    arrays = [uniform(6)] if name == "_shuffle" else []
    params = {} if arrays else {"shape": (6,)}
    _, worker = linked(make_op(name, params), arrays)
    assert worker.found.uncovered == {name: 1}
