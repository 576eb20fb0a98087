"""Every op page on every sample, linked: the generated kernels agree with the reference ones."""

from __future__ import annotations

import numpy as np
import pytest
from kernel_calls import linked_op
from samples import SAMPLES, Sample

import raysym.ops  # noqa: F401  (fills the registry)
from raysym.errors import MXNetError
from raysym.op import Op, call_kernel, make_op
from raysym.random_state import generator
from raysym.types import TensorType

CASES = [
    pytest.param(name, sample, id=f"{name}-{i}")
    for name, samples in SAMPLES.items()
    for i, sample in enumerate(samples)
]


def single(sample: Sample, dtype: str = "float32") -> list[np.ndarray]:
    """The sample's inputs with another dtype in place of float64."""
    arrays = sample.arrays()
    return [np.ascontiguousarray(a.astype(dtype) if a.dtype == np.float64 else a) for a in arrays]


def reference(op: Op, arrays: list[np.ndarray]) -> tuple[np.ndarray, ...]:
    """What the page's kernel makes, with the random numbers that `linked_op` draws."""
    with np.errstate(all="ignore"):
        return call_kernel(op, np, arrays, generator(0, "out0", 1))


# float16 is rounded after every operation by both kernels, but not after the same ones everywhere.
TOLERANCE = {"float64": 1e-12, "float32": 1e-5, "float16": 4e-3}


def agree(op: Op, arrays: list[np.ndarray], dtype: str = "float32") -> bool:
    """Compare both kernels; True when a generated one ran."""
    wants = reference(op, arrays)
    outs = [TensorType(w.shape, w.dtype.name) for w in wants]
    copies = [a.copy() for a in arrays]
    gots, worker = linked_op(op, arrays, outs)
    for got, want in zip(gots, wants, strict=True):
        size = np.abs(np.nan_to_num(want, posinf=0, neginf=0)).max(initial=1)
        rtol = max(TOLERANCE[dtype], TOLERANCE.get(want.dtype.name, 0))
        np.testing.assert_allclose(got, want, rtol=rtol, atol=rtol / 5 * float(size))
    for array, copy in zip(arrays, copies, strict=True):
        np.testing.assert_array_equal(array, copy)  # inputs are not written
    return not worker.found.uncovered


@pytest.mark.parametrize(("name", "sample"), CASES)
def test_linked_equals_reference(name: str, sample: Sample) -> None:
    agree(make_op(name, sample.params), single(sample))


@pytest.mark.parametrize("dtype", ["float64", "float16"])
@pytest.mark.parametrize(("name", "sample"), CASES)
def test_linked_equals_reference_in_other_dtypes(name: str, sample: Sample, dtype: str) -> None:
    op, arrays = make_op(name, sample.params), single(sample, dtype)
    try:
        types = [TensorType(a.shape, a.dtype.name) for a in arrays]
        op.infer_dtype([t.dtype for t in types], [None] * op.n_values())
        reference(op, arrays)
    except (MXNetError, TypeError, ValueError, AttributeError) as error:
        pytest.skip(f"the reference takes no {dtype}: {error}")
    agree(op, arrays, dtype)


def uniform(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).uniform(-1, 1, shape).astype(np.float32)


IMAGE = uniform(3, 5, 9, 7)
COVERED = {
    "fully connected": ("FullyConnected", {"num_hidden": 37}, [(29, 33), (37, 33), (37,)]),
    "deep product": ("dot", {}, [(17, 700), (700, 35)]),
    "turned product": ("dot", {"transpose_a": True}, [(70, 59), (70, 65)]),
    "both turned": ("dot", {"transpose_a": True, "transpose_b": True}, [(41, 3), (64, 41)]),
    "product of any rank": ("dot", {"transpose_b": True}, [(3, 5, 4), (2, 7, 4)]),
    "turned product of any rank": ("dot", {"transpose_a": True}, [(4, 3, 5), (4, 7)]),
    "batches of products": ("batch_dot", {}, [(2, 3, 5, 4), (2, 3, 4, 7)]),
    "batch of products": ("batch_dot", {"transpose_b": True}, [(4, 15, 18), (4, 33, 18)]),
    "sum of rows": ("sum", {"axis": 1}, [(3, 70)]),
    "sum of columns": ("sum", {"axis": 0}, [(30, 70)]),
    "sum inside": ("mean", {"axis": 1}, [(3, 5, 7)]),
    "sum of everything": ("sum", {}, [(3, 5, 70)]),
    "sum around channels": ("sum", {"axis": 1, "exclude": True}, [(3, 5, 4, 7)]),
    "broadcast middle": ("broadcast_mul", {}, [(3, 1, 33), (3, 4, 1)]),
    "broadcast row": ("broadcast_sub", {}, [(40, 33), (1, 33)]),
    "layer norm": ("LayerNorm", {}, [(7, 45), (45,), (45,)]),
    "batch norm": ("BatchNorm", {"fix_gamma": False}, [(6, 20, 3, 5), *[(20,)] * 4]),
    "softmax": ("softmax", {}, [(5, 3, 77)]),
    "log softmax": ("log_softmax", {}, [(5, 129)]),
    "scores": ("_contrib_interleaved_matmul_selfatt_qk", {"heads": 2}, [(19, 3, 2 * 3 * 5)]),
    "values": (
        "_contrib_interleaved_matmul_selfatt_valatt", {"heads": 2}, [(19, 3, 30), (6, 19, 19)],
    ),
    "square filters": (
        "Convolution", {"kernel": (3, 3), "num_filter": 35, "pad": (1, 1)},
        [(2, 19, 9, 8), (35, 19, 3, 3), (35,)],
    ),
    "strided filters": (
        "Convolution", {"kernel": (3, 2), "num_filter": 6, "stride": (2, 3), "pad": (1, 0),
                        "no_bias": True}, [(3, 4, 11, 20), (6, 4, 3, 2)],
    ),
    "single cells": (
        "Convolution", {"kernel": (1, 1), "num_filter": 40}, [(2, 33, 5, 4), (40, 33, 1, 1), (40,)],
    ),
    "wide images": (
        "Convolution", {"kernel": (5, 5), "num_filter": 3, "pad": (2, 2), "no_bias": True},
        [(1, 2, 6, 70), (3, 2, 5, 5)],
    ),
    "data gradient": (
        "_backward_Convolution_data", {"kernel": (3, 3), "stride": (2, 2), "pad": (1, 1),
                                       "spatial": (8, 9)}, [(2, 6, 4, 5), (6, 35, 3, 3)],
    ),
    "data gradient with gaps": (
        "_backward_Convolution_data", {"kernel": (1, 1), "stride": (2, 2), "spatial": (8, 9)},
        [(2, 6, 4, 5), (6, 5, 1, 1)],
    ),
    "weight gradient": (
        "_backward_Convolution_weight", {"kernel": (3, 3), "pad": (1, 1)},
        [(2, 35, 8, 9), (2, 19, 8, 9)],
    ),
    "maximum": ("Pooling", {"kernel": (3, 3), "stride": (2, 2), "pad": (1, 1)}, [(2, 18, 9, 7)]),
    "full convention": (
        "Pooling", {"kernel": (3, 2), "stride": (2, 2), "pooling_convention": "full"},
        [(2, 5, 8, 7)],
    ),
    "mean": ("Pooling", {"kernel": (2, 2), "stride": (2, 2), "pool_type": "avg"}, [(2, 5, 8, 6)]),
    "global": ("Pooling", {"global_pool": True, "pool_type": "avg"}, [(2, 20, 5, 6)]),
    "lstm": (
        "RNN", {"state_size": 20, "num_layers": 2, "mode": "lstm", "state_outputs": True},
        [(3, 5, 7), (80 * 7 + 80 * 20 * 3 + 320,), (2, 5, 20), (2, 5, 20)],
    ),
    "lstm for inference": (
        "_RNN_inference", {"state_size": 20, "num_layers": 2, "mode": "lstm"},
        [(3, 5, 7), (80 * 7 + 80 * 20 * 3 + 320,), (2, 5, 20), (2, 5, 20)],
    ),
    "lstm of every kind": (
        "RNN", {"state_size": 5, "num_layers": 2, "mode": "lstm", "projection_size": 3, "p": 0.5,
                "lstm_state_clip_min": -0.1, "lstm_state_clip_max": 0.2,
                "use_sequence_length": True},
        [(3, 5, 7), (430,), (2, 5, 3), (2, 5, 5), (5,)],
    ),
    "gru": (
        "RNN", {"state_size": 18, "num_layers": 1, "mode": "gru", "bidirectional": True},
        [(3, 5, 7), (2 * 54 * (7 + 18 + 2),), (2, 5, 18)],
    ),
    "classes": ("SoftmaxOutput", {}, [(6, 35), (6,)]),
}  # fmt: skip


@pytest.mark.parametrize("case", COVERED)
def test_generated_kernels_run_and_agree(case: str) -> None:
    name, params, shapes = COVERED[case]
    assert agree(make_op(name, params), [uniform(*shape) for shape in shapes])


@pytest.mark.parametrize(
    "case",
    ["both turned", "batch of products", "deep product", "fully connected", "scores",
     "turned product", "values"],
)  # fmt: skip
def test_products_of_doubles_run_and_agree(case: str) -> None:
    name, params, shapes = COVERED[case]
    rng = np.random.default_rng(len(case))
    arrays = [rng.uniform(-1, 1, shape) for shape in shapes]
    assert agree(make_op(name, params), arrays, "float64")


@pytest.mark.parametrize("side", ["lhs", "rhs"])
@pytest.mark.parametrize("turns", [(False, False), (False, True), (True, False), (True, True)])
def test_gradients_of_products_of_any_rank_agree(side: str, turns: tuple[bool, bool]) -> None:
    lhs = (4, 3, 5) if turns[0] else (3, 5, 4)
    rhs = (2, 7, 4) if turns[1] else (4, 2, 7)
    params = {"side": side, "transpose_a": turns[0], "transpose_b": turns[1]}
    pair = (uniform(*rhs), uniform(*lhs)) if side == "lhs" else (uniform(*lhs), uniform(*rhs))
    assert agree(make_op("_backward_dot", params), [uniform(3, 5, 2, 7), *pair])


@pytest.mark.parametrize("name", ["argmax", "argmin"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("columns", [1, 13, 64, 150])
def test_places_of_extremes_are_those_of_the_first(name: str, dtype: str, columns: int) -> None:
    """Ties, infinities and NaN among few different numbers."""
    rng = np.random.default_rng(columns)
    rows = rng.choice([0.0, -0.0, 1, -1, 2, np.inf, -np.inf], (40, columns)).astype(dtype)
    rows[:4] = -np.inf
    rows[4:8] = np.inf
    rows[rng.random(rows.shape) < 0.004] = np.nan
    assert agree(make_op(name, {"axis": 1}), [rows], dtype)


def test_the_gradient_of_a_maximum_goes_to_the_first() -> None:
    tied = np.round(uniform(2, 5, 9, 7) * 2)
    params = {"kernel": (3, 3), "stride": (2, 2), "pad": (1, 1)}
    op = make_op("_backward_Pooling_max", params)
    grad = uniform(*reference(make_op("Pooling", params), [tied])[0].shape)
    assert agree(op, [grad, tied])


@pytest.mark.parametrize("labels", [[0, 3, 34, 1], [-1, 35, 1e9, np.nan]])
def test_labels_that_are_no_class_subtract_nothing(labels: list[float]) -> None:
    op = make_op("_backward_SoftmaxOutput", {"grad_scale": 0.5})
    p = np.abs(uniform(4, 35))
    got, worker = linked_op(op, [p, np.array(labels, np.float32)], [TensorType((4, 35), "float32")])
    want = 0.5 * p
    for row, label in enumerate(labels):
        if 0 <= label < 35:
            want[row, int(label)] -= 0.5
    np.testing.assert_allclose(got[0], want, rtol=1e-6, atol=1e-7)
    assert not worker.found.uncovered


def test_what_has_no_kernel_runs_its_reference() -> None:
    x = uniform(4, 6)
    got, worker = linked_op(make_op("argsort", {}), [x], [TensorType((4, 6), "float32")])
    np.testing.assert_array_equal(got[0], np.argsort(x))
    assert worker.found.uncovered == {"argsort": 1}


@pytest.mark.parametrize("dtype", ["float64", "float16", "int32"])
def test_other_dtypes_have_kernels_too(dtype: str) -> None:
    x = np.arange(12).reshape(3, 4).astype(dtype)
    got, worker = linked_op(make_op("square", {}), [x], [TensorType((3, 4), dtype)])
    np.testing.assert_array_equal(got[0], x * x)
    assert not worker.found.uncovered
