"""Recurrent layers by generated kernels: every cell, direction and depth, forward and backward."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_kernels_ops import agree, reference

from raysym.op import make_op

MODES = ("rnn_relu", "rnn_tanh", "gru", "lstm")


def given_params(mode: str, units: int, layers: int, both: bool, shown: bool) -> dict[str, Any]:
    return {"mode": mode, "state_size": units, "num_layers": layers, "bidirectional": both,
            "state_outputs": shown}  # fmt: skip


def feeds(op: Any, data: tuple[int, int, int], dtype: str = "float32") -> list[np.ndarray]:
    """Inputs of the op; weights so small that relu cells do not grow from step to step."""
    rng = np.random.default_rng(sum(data))
    made = [rng.uniform(-1, 1, shape).astype(dtype) for shape in op.feed_shapes(data, None)]
    made[1] *= np.float32(op.state_size**-0.5)
    return made


def all_agree(params: dict[str, Any], data: tuple[int, int, int], dtype: str = "float32") -> None:
    """Forward, for inference and backward, generated kernels run and give the same numbers."""
    op: Any = make_op("RNN", params)
    inputs = feeds(op, data, dtype)
    assert agree(op, inputs, dtype)
    assert agree(make_op("_RNN_inference", params), inputs, dtype)
    outs = reference(op, inputs)
    shown = len(op.result_names())
    rng = np.random.default_rng(len(outs))
    heads = [rng.uniform(-1, 1, out.shape).astype(dtype) for out in outs[:shown]]
    assert agree(make_op("_backward_RNN", params), [*heads, *inputs, *outs[shown:]], dtype)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("shown", [False, True])
def test_two_layers_agree(mode: str, both: bool, shown: bool) -> None:
    all_agree(given_params(mode, 20, 2, both, shown), (4, 5, 7))


@given(
    mode=st.sampled_from(MODES),
    sizes=st.tuples(st.integers(1, 6), st.integers(1, 19), st.integers(1, 40)),
    units=st.integers(1, 40),
    layers=st.integers(1, 3),
    both=st.booleans(),
    shown=st.booleans(),
)
@settings(max_examples=6, deadline=None, derandomize=True, database=None)
def test_layers_of_any_size_agree(
    mode: str, sizes: tuple[int, int, int], units: int, layers: int, both: bool, shown: bool
) -> None:
    all_agree(given_params(mode, units, layers, both, shown), sizes)


@pytest.mark.parametrize("mode", MODES)
def test_one_step_meets_the_first_state(mode: str) -> None:
    all_agree(given_params(mode, 4, 1, both=True, shown=True), (1, 2, 3))


@pytest.mark.parametrize("mode", MODES)
def test_layers_of_doubles_agree(mode: str) -> None:
    all_agree(given_params(mode, 17, 2, mode != "lstm", True), (3, 4, 2), "float64")


@pytest.mark.parametrize(
    "special",
    [
        {"projection_size": 3},
        {"lstm_state_clip_min": -0.1, "lstm_state_clip_max": 0.2},
        {"num_layers": 2, "p": 0.5},
    ],
    ids=lambda special: next(iter(special)),
)
def test_the_reference_runs_what_has_no_kernel(special: dict[str, Any]) -> None:
    op: Any = make_op("RNN", {"mode": "lstm", "state_size": 5, "num_layers": 1, **special})
    assert not agree(op, feeds(op, (4, 3, 2)))
