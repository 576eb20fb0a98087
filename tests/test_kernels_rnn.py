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
    made[1] *= np.dtype(dtype).type(op.state_size**-0.5)
    if op.use_sequence_length:  # none, some, all steps, and more than there are
        made[-1] = (np.arange(data[1]) % (data[0] + 2)).astype(dtype)
    return made


def all_agree(
    params: dict[str, Any], data: tuple[int, int, int], dtype: str = "float32", lengths: str = ""
) -> None:
    """Forward, for inference and backward, generated kernels run and give the same numbers."""
    op: Any = make_op("RNN", params)
    inputs = feeds(op, data, dtype)
    if lengths:
        inputs[-1] = inputs[-1].astype(lengths)
    assert agree(op, inputs, dtype)
    assert agree(make_op("_RNN_inference", {**params, "p": 0.0}), inputs, dtype)
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


LENGTHS = {"use_sequence_length": True}
CLIP = {"lstm_state_clip_min": -0.1, "lstm_state_clip_max": 0.2}
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    **{f"lengths of {mode}": (mode, LENGTHS) for mode in MODES},
    "projection": ("lstm", {"projection_size": 3}),
    "wide projection": ("lstm", {"projection_size": 37}),
    "projection and lengths": ("lstm", {"projection_size": 5, **LENGTHS}),
    "clipping": ("lstm", CLIP),
    "clipping of nan": ("lstm", {**CLIP, "lstm_state_clip_nan": True}),
    "all of it": ("lstm", {"projection_size": 18, "p": 0.4, **CLIP, **LENGTHS}),
    **{f"dropout of {mode}": (mode, {"p": 0.3}) for mode in MODES},
    "dropout of everything": ("gru", {"p": 1.0}),
}


KINDS = [("float32", True, False), ("float64", False, True)]  # dtype; both ways; states shown
CASES = [(name, *KINDS[i % 2]) for i, name in enumerate(VARIANTS) if name != "all of it"]


@pytest.mark.parametrize(
    ("variant", "dtype", "both", "shown"), [*CASES, *(("all of it", *kind) for kind in KINDS)]
)
def test_variants_agree(variant: str, dtype: str, both: bool, shown: bool) -> None:
    mode, more = VARIANTS[variant]
    all_agree({**given_params(mode, 17, 2, both, shown), **more}, (4, 5, 7), dtype)


def test_three_layers_draw_masks_behind_each_other() -> None:
    all_agree({**given_params("rnn_tanh", 3, 3, False, True), "p": 0.5}, (3, 5, 2))


@pytest.mark.parametrize("mode", ["gru", "lstm"])
def test_variants_of_one_layer_agree(mode: str) -> None:
    all_agree({**given_params(mode, 5, 1, True, True), "p": 0.5, **LENGTHS}, (3, 4, 2))


@pytest.mark.parametrize("kind", ["int32", "int64", "float64"])
def test_lengths_of_any_dtype_agree(kind: str) -> None:
    all_agree({**given_params("lstm", 5, 2, True, True), **LENGTHS}, (3, 4, 2), "float32", kind)


def test_variants_of_float16_agree() -> None:
    more = {"p": 0.5, **LENGTHS, **CLIP}
    all_agree({**given_params("lstm", 5, 2, True, True), **more}, (3, 4, 2), "float16")


def test_the_reference_runs_what_has_no_kernel() -> None:
    op: Any = make_op("RNN", {**given_params("lstm", 5, 2, False, False), **LENGTHS})
    made = feeds(op, (4, 3, 2))
    assert not agree(op, [*made[:-1], made[-1].astype("uint8")])
