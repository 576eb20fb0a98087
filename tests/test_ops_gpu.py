"""The whole op suite on CuPy against float64 NumPy, forward and gradients; needs no Ray.

PYTHONPATH=. python3 -m pytest -m gpu
"""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest
from op_graphs import CASES, WITH_GRADIENT, Fed, forward_of, gradient_of
from samples import Sample

pytestmark = pytest.mark.gpu

# Sums run in another order; float32 keeps seven digits of each term, float16 three.
TOLERANCE = {"float64": 1e-9, "float32": 2e-4}
HALF = 2e-3

# Ops that solve or factorise lose digits by the condition of their matrix.
ILL_CONDITIONED = 100.0


def arrays_of(sample: Sample, dtype: str) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Inputs in `dtype`, and the very same numbers in float64."""
    narrow = [a.astype(dtype) if a.dtype.kind == "f" else a for a in sample.arrays()]
    return narrow, [a.astype("float64") if a.dtype.kind == "f" else a for a in narrow]


def tolerance_of(name: str, fed: Fed, dtype: str) -> float:
    """The error allowed, relative to the values."""
    passes_half = "float16" in str(fed.graph)
    allowed = HALF if passes_half else TOLERANCE[dtype]
    return allowed * (ILL_CONDITIONED if "linalg" in name else 1)


def compare(name: str, narrow: Fed, exact: Fed, dtype: str, xp: Any) -> None:
    """Values on the device and on the host; integers are equal, floats are close."""
    tolerance = tolerance_of(name, narrow, dtype)
    for made, plain, want in zip(narrow.run(xp), narrow.run(), exact.run(), strict=True):
        got = made.get()
        assert (got.dtype, got.shape) == (plain.dtype, plain.shape)
        if got.dtype.kind != "f":
            np.testing.assert_array_equal(got, plain)
            continue
        with np.errstate(over="ignore"):
            want = want.astype(got.dtype)
        finite = np.isfinite(want)
        np.testing.assert_array_equal(got[~finite], want[~finite])
        # Sums may cancel: an error is measured by the largest term, up to a thousand.
        scale = float(np.abs(want[finite]).max(initial=1.0))
        bound = tolerance * min(scale, 1000.0)
        np.testing.assert_allclose(got[finite], want[finite], rtol=tolerance, atol=bound)


@pytest.fixture(scope="session")
def cupy() -> Any:
    return importlib.import_module("cupy")


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(("name", "sample"), CASES)
def test_forward_equals_numpy(name: str, sample: Sample, dtype: str, cupy: Any) -> None:
    narrow, exact = arrays_of(sample, dtype)
    compare(name, forward_of(name, sample, narrow), forward_of(name, sample, exact), dtype, cupy)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(("name", "sample"), WITH_GRADIENT)
def test_gradient_equals_numpy(name: str, sample: Sample, dtype: str, cupy: Any) -> None:
    narrow, exact = arrays_of(sample, dtype)
    grads = gradient_of(name, sample, narrow), gradient_of(name, sample, exact)
    if grads[0] is not None and grads[1] is not None:
        compare(name, grads[0], grads[1], dtype, cupy)


def test_inputs_stay_as_they_are_on_the_device(cupy: Any) -> None:
    for case in CASES:
        name, sample = case.values
        fed = forward_of(name, sample)
        held = {entry: cupy.asarray(array) for entry, array in fed.feeds.items()}
        Fed(fed.graph, held).run(cupy)
        for entry, array in fed.feeds.items():
            np.testing.assert_array_equal(held[entry].get(), array, err_msg=name)
