"""Every op in every dtype that it accepts: what is inferred comes out, and the numbers are sane.

float16 must be close to float32 on the same inputs, which it is only where sums are accumulated in
float32. Integers must be the truncated real result, wrapped around as in C.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pytest
from op_graphs import CASES
from samples import Sample

from raysym.errors import MXNetError
from raysym.graph import Graph, Node, variable
from raysym.op import CANONICAL, call_kernel, make_op
from raysym.passes.infer import infer_dtypes

FLOATS = ("float16", "float32", "float64")
OTHERS = ("int8", "uint8", "int32", "int64", "bool")

PUBLIC = [case for case in CASES if not CANONICAL[case.values[0]].internal]


def arrays_in(sample: Sample, dtype: str) -> list[np.ndarray]:
    """The sample's inputs with all float64 ones in `dtype`; integers spread from -3 to 3."""
    arrays = sample.arrays()
    if dtype in FLOATS:
        return [a.astype(dtype) if a.dtype == np.float64 else a for a in arrays]
    whole = [np.trunc(3 * np.nan_to_num(a, posinf=3, neginf=-3)) for a in arrays]
    signed = [np.abs(a) if dtype in ("uint8", "bool") else a for a in whole]
    return [
        s.astype(dtype) if a.dtype == np.float64 else a for s, a in zip(signed, arrays, strict=True)
    ]


def inferred(name: str, sample: Sample, arrays: Sequence[np.ndarray]) -> list[str] | None:
    """Dtypes of all values, None where the op refuses these inputs."""
    op = make_op(name, sample.params)
    entries = [variable(slot) for slot in op.input_names()]
    node = Node(op, "node", entries)
    known = {e: a.dtype.name for e, a in zip(entries, arrays, strict=True)}
    try:
        facts = infer_dtypes(Graph.of(node.entries()), known)
    except MXNetError as error:
        refusal = str(error)
    else:
        return [str(facts.get(entry)) for entry in node.entries()]
    # Control flow is refused by the nodes of its graphs.
    assert re.match(r"\w+ '\w*': [^\n]+: got [^\n]+, expected [^\n]+", refusal)
    return None


def run(name: str, sample: Sample, arrays: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
    rng = np.random.Generator(np.random.Philox(key=[0, 1]))
    with np.errstate(all="ignore"):
        return call_kernel(make_op(name, sample.params), np, arrays, rng)


def check_dtypes(name: str, sample: Sample, dtype: str) -> tuple[np.ndarray, ...] | None:
    """The values in `dtype`, after a look at their types; None where it is refused."""
    arrays = arrays_in(sample, dtype)
    types = inferred(name, sample, arrays)
    if types is None:
        return None
    made = run(name, sample, arrays)
    assert [value.dtype.name for value in made] == types
    return made


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(("name", "sample"), CASES)
def test_floats_come_out_as_inferred(name: str, sample: Sample, dtype: str) -> None:
    check_dtypes(name, sample, dtype)


@pytest.mark.parametrize("dtype", OTHERS)
@pytest.mark.parametrize(("name", "sample"), PUBLIC)
def test_other_dtypes_come_out_as_inferred(name: str, sample: Sample, dtype: str) -> None:
    check_dtypes(name, sample, dtype)


# ----- float16 against float32


@pytest.mark.parametrize(("name", "sample"), CASES)
def test_float16_is_close_to_float32(name: str, sample: Sample) -> None:
    narrow = check_dtypes(name, sample, "float16")
    if narrow is None:
        return
    wide = [
        a.astype("float32") if a.dtype == np.float16 else a for a in arrays_in(sample, "float16")
    ]
    for got, want in zip(narrow, run(name, sample, wide), strict=True):
        if got.dtype != np.float16:
            np.testing.assert_allclose(got, want, rtol=2e-3, atol=2e-3)
            continue
        with np.errstate(over="ignore"):
            rounded = want.astype("float16")
        finite = np.isfinite(rounded)
        np.testing.assert_array_equal(got[~finite], rounded[~finite])
        scale = float(np.abs(rounded[finite]).max(initial=1.0))
        np.testing.assert_allclose(got[finite], rounded[finite], rtol=2e-3, atol=2e-3 * scale)


ONES = 4096  # float16 cannot count beyond 2048


@pytest.mark.parametrize(
    ("name", "shapes", "params"),
    [
        ("dot", [(1, ONES), (ONES, 1)], {}),
        ("batch_dot", [(2, 1, ONES), (2, ONES, 1)], {}),
        ("FullyConnected", [(1, ONES), (1, ONES)], {"num_hidden": 1, "no_bias": True}),
        (
            "Convolution",
            [(1, 64, 8, 8), (1, 64, 8, 8)],
            {"kernel": (8, 8), "num_filter": 1, "no_bias": True},
        ),
        ("Deconvolution", [(1, ONES, 1), (ONES, 1, 1)], {"kernel": (1,), "num_filter": 1}),
        ("Pooling", [(1, 1, 64, 64)], {"kernel": (64, 64), "pool_type": "sum"}),
        ("sum", [(ONES,)], {}),
        ("nansum", [(ONES,)], {}),
        ("_square_sum", [(ONES, 1)], {"axis": 0}),
        ("_np_cumsum", [(ONES,)], {}),
        ("_sum_to", [(ONES,)], {"shape": (1,)}),
        ("add_n", [(1,)] * ONES, {"num_args": ONES}),
    ],
)
def test_float16_sums_are_accumulated_in_float32(name: str, shapes: list, params: dict) -> None:
    ones = [np.ones(shape, "float16") for shape in shapes]
    made = call_kernel(make_op(name, params), np, ones)[0]
    assert made.dtype == np.float16
    assert made.max() == ONES


def test_float16_gradients_of_repeated_indices_are_accumulated_in_float32() -> None:
    zeros = np.zeros(ONES, "int32")
    inputs = [np.ones((ONES, 1), "float16"), zeros, np.ones((3, 1), "float16")]
    made = call_kernel(make_op("_backward_take", {}), np, inputs)[0]
    assert made.ravel().tolist() == [ONES, 0, 0]


# ----- integers against float64

# Ops whose integers are not the truncated real numbers, and why.
OTHER_INTEGERS = {
    "a scalar is cast to the integer type before it takes part, as in MXNet": """
        _mul_scalar _div_scalar _power_scalar _rpower_scalar _rmod_scalar""",
    "images stay within the range of their type instead of wrapping around": """
        _image_random_brightness _image_random_contrast _image_random_saturation
        _image_random_color_jitter _image_adjust_lighting""",
}
LISTED = {name for names in OTHER_INTEGERS.values() for name in names.split()}


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32"])
@pytest.mark.parametrize(("name", "sample"), [c for c in PUBLIC if c.values[0] not in LISTED])
def test_integers_are_the_truncated_real_result(name: str, sample: Sample, dtype: str) -> None:
    made = check_dtypes(name, sample, dtype)
    if made is None:
        return
    real = [a.astype("float64") if a.dtype == dtype else a for a in arrays_in(sample, dtype)]
    for got, want in zip(made, run(name, sample, real), strict=True):
        if got.dtype != np.dtype(dtype) or want.dtype != np.float64:
            continue
        sane = np.isfinite(want) & (np.abs(want) < 2**31)
        bits = 8 * got.dtype.itemsize
        off = (got[sane].astype("int64") - np.trunc(want[sane]).astype("int64")) % 2**bits
        assert set(np.minimum(off, 2**bits - off).tolist()) <= {0, 1}
