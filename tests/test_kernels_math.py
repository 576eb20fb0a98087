"""Vectorised exp, log, tanh, erf: error over float32, sampled densely, and the special values."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from kernel_calls import call
from oracles import special
from ulp_kernel import GATES, MEASURED, SEEN, worst

import raysym.ops  # noqa: F401  (fills the registry)
from raysym.kernels.elementwise import ChainStep
from raysym.kernels.maps import step_of
from raysym.kernels.pages import formula
from raysym.kernels.specs import Spec
from raysym.op import make_op
from raysym.planning.plan import Run
from raysym.types import TensorType

EXACT: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "exp": np.exp,
    "expm1": np.expm1,
    "log": np.log,
    "log1p": np.log1p,
    "tanh": np.tanh,
    "erf": special.erf,
}
CIRCULAR = {"sin": np.sin, "cos": np.cos, "tan": np.tan}  # whose float64 is NumPy's
SPECIAL = np.array(
    [0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -1.0, 1e-45, -1e-45, 1e-38, 88.72, 88.73, -87.5,
     -103.9, -104.5, 3.4e38, -3.4e38, 0.625, 0.92773],
    np.float32,
)  # fmt: skip


def computed(name: str, x: np.ndarray) -> np.ndarray:
    y = np.empty_like(x)
    kind = TensorType(x.shape, "float32")
    step = step_of(Run(("y",), make_op(name, {}), ("x",)), {"x": kind, "y": kind})
    assert step is not None
    call(Spec("flat_map", (1, (step,), (1,))), x, y, x.size)
    return y


def ulps(name: str, x: np.ndarray) -> np.ndarray:
    """Distance from the exact value in units of its last place; 0 where both are not finite."""
    y = computed(name, x)
    with np.errstate(all="ignore"):
        exact = (EXACT | CIRCULAR)[name](x.astype(np.float64))
        rounded = exact.astype(np.float32)
        same = (rounded == y) | (np.isnan(rounded) & np.isnan(y))
        unit = np.spacing(np.abs(rounded)).astype(np.float64)
        distance = np.abs(y.astype(np.float64) - exact) / unit
    return np.where(same, np.minimum(np.nan_to_num(distance), 0.5), distance)


def gates(name: str, x: np.ndarray) -> np.ndarray:
    """What a function of recurrent cells makes of some numbers."""
    y, padded = np.empty(16, np.float32), np.resize(x, 16)
    call(Spec("gate_values", (name,)), padded, y)
    return y[: x.size]


def floats(first: int, last: int, step: int) -> np.ndarray:
    """Every `step`-th float32 by its bits."""
    return np.arange(first, last, step, dtype=np.uint64).astype(np.uint32).view(np.float32)


@pytest.mark.parametrize("name", [*EXACT, *CIRCULAR])
def test_error_is_at_most_two_ulps_over_all_float32(name: str) -> None:
    for first in range(0, 2**32, 2**28):
        found = ulps(name, floats(first, first + 2**28, 20_011))
        assert found.max() <= 2, (hex(first), found.max())


@pytest.mark.parametrize("name", MEASURED)
def test_error_against_float64_code_is_at_most_two_ulps(name: str) -> None:
    for first in range(0, 2**32, 2**28):
        assert worst(name, first, first + 2**28, 2_003) <= 2, hex(first)


@pytest.mark.sweep
@pytest.mark.parametrize("name", MEASURED)
def test_error_is_at_most_two_ulps_for_every_float32(name: str) -> None:
    for first in range(0, 2**32, 2**28):
        assert worst(name, first, first + 2**28) <= 2, hex(first)


@pytest.mark.parametrize("name", GATES)
def test_error_of_gates_is_at_most_two_ulps(name: str) -> None:
    for first, last in SEEN[name]:
        assert 0 < worst(name, first, last, 2_003) <= 2, hex(first)


@pytest.mark.sweep
@pytest.mark.parametrize("name", GATES)
def test_error_of_gates_is_at_most_two_ulps_for_every_float32(name: str) -> None:
    for first, last in SEEN[name]:
        assert worst(name, first, last) <= 2, hex(first)


def test_gates_saturate_and_keep_nan() -> None:
    x = np.array([-np.inf, -200.0, 200.0, np.inf, np.nan], np.float32)
    sigmoid, tanh = (gates(name, x) for name in GATES)
    np.testing.assert_allclose(sigmoid[:2], 1.6458e-38, rtol=1e-3)
    assert sigmoid[2:4].tolist() == [1, 1]
    assert tanh[:4].tolist() == [-1, -1, 1, 1]
    assert np.isnan([sigmoid[4], tanh[4]]).all()


DOUBLE = {
    **EXACT,
    "log2": np.log2,
    "log10": np.log10,
    "cbrt": np.cbrt,
    "sinh": np.sinh,
    "cosh": np.cosh,
    "arcsinh": np.arcsinh,
    "arccosh": np.arccosh,
    "arctanh": np.arctanh,
    "arcsin": np.arcsin,
    "arccos": np.arccos,
    "arctan": np.arctan,
}


def doubles() -> np.ndarray:
    """Numbers of every size and sign, more of them where functions bend."""
    rng = np.random.default_rng(0)
    size = np.concatenate([10.0 ** rng.uniform(-300, 300, 40_000), rng.uniform(0, 3, 40_000)])
    edges = [0.0, np.inf, np.nan, 1.0, 709.7, 709.8, 745.0, 746.0, 5e-324, 1e-310]
    both = np.concatenate([size, 10.0 ** rng.uniform(-8, 3, 80_000), edges])
    return np.concatenate([both, -both])


def traced(name: str, x: np.ndarray) -> np.ndarray:
    """What the code of an op's page makes of numbers."""
    y, kind = np.empty_like(x), TensorType(x.shape, x.dtype.name)
    made = formula(make_op(name, {}), (kind,), (kind,))
    assert made is not None
    step = ChainStep("", (made.program, made.results), (0,))
    call(Spec("flat_map", (1, (step,), (1,), kind.dtype)), x, y, x.size)
    return y


@pytest.mark.parametrize("name", DOUBLE)
def test_float64_code_agrees_with_numpy(name: str) -> None:
    x = doubles()
    y = traced(name, x)
    with np.errstate(all="ignore"):
        want = DOUBLE[name](x)
    # Four units: both have errors, and NumPy's are up to 1.5 or so.
    np.testing.assert_allclose(y, want, rtol=9e-16, atol=5e-323)


def angles() -> np.ndarray:
    """Of every size and sign; near multiples of an eighth of a turn; the one nearest to one."""
    rng = np.random.default_rng(0)
    size = 10.0 ** np.concatenate([rng.uniform(-300, 308, 40_000), rng.uniform(-3, 20, 80_000)])
    near = np.arange(1, 20_000) * (np.pi / 4)
    both = np.concatenate([size, near, [0.0, 2.0**28, 6381956970095103 * 2.0**797, 5e-324]])
    return np.concatenate([both, -both])


# float64 is measured against long double, which has 11 bits more.
@pytest.mark.parametrize(("name", "most"), [("sin", 0.8), ("cos", 0.8), ("tan", 2.3)])
def test_circular_functions_of_float64_are_near_the_exact_ones(name: str, most: float) -> None:
    x = angles()
    want = getattr(np, name)(x.astype("longdouble"))
    unit = np.spacing(np.abs(want).astype(np.float64))
    assert (np.abs(traced(name, x) - want) / unit).max() < most
    assert np.isnan(traced(name, np.array([np.inf, -np.inf, np.nan]))).all()
    assert np.signbit(traced(name, np.array([-0.0]))) == (name != "cos")


GAMMA = {
    "gamma": special.gamma,
    "gammaln": special.gammaln,
    "_digamma": special.digamma,
    "_trigamma": lambda x: special.polygamma(1, x),
}
# Relative to 1 or to the value, whichever is more; of gamma where that is finite.
GAMMA_ERROR = {"gamma": 1e-13, "gammaln": 1e-14, "_digamma": 1e-14, "_trigamma": 1e-14}


def gamma_arguments(dtype: str) -> np.ndarray:
    rng = np.random.default_rng(0)
    # SciPy's digamma has errors of 1e-11 nearer to poles.
    near = np.arange(-20, 34) + rng.uniform(0.01, 0.99, (500, 54))
    some = np.concatenate([near.ravel(), 10.0 ** rng.uniform(-8, 2, 20_000), [171.0, 0.5, 1, 2]])
    return np.ascontiguousarray(some.astype(dtype))


@pytest.mark.parametrize("name", GAMMA)
def test_gamma_functions_of_float64_are_near_those_of_scipy(name: str) -> None:
    x = gamma_arguments("float64")
    want = GAMMA[name](x)
    error = np.abs(traced(name, x) - want) / np.maximum(1, np.abs(want))
    assert error.max() < GAMMA_ERROR[name]


def float32_ulps(got: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """Distance in units of the last place of float32; 0 where both round to infinity or NaN."""
    with np.errstate(over="ignore"):
        rounded = exact.astype(np.float32)
    same = (rounded == got) | (np.isnan(rounded) & np.isnan(got))
    with np.errstate(invalid="ignore"):
        distance = np.abs(got - exact) / np.spacing(np.abs(rounded)).astype(np.float64)
    return np.where(same, 0, distance)


# Computed in float64 and rounded: the nearest number but where the rounding is a near tie.
@pytest.mark.parametrize("name", GAMMA)
def test_gamma_functions_of_float32_are_the_nearest_numbers(name: str) -> None:
    x = gamma_arguments("float32")
    assert float32_ulps(traced(name, x), GAMMA[name](x.astype(np.float64))).max() < 0.501


@pytest.mark.parametrize(("dtype", "most"), [("float32", 0.501), ("float64", 10)])
def test_the_inverse_error_function_is_near_the_exact_one(dtype: str, most: float) -> None:
    rng = np.random.default_rng(0)
    size = np.concatenate([rng.uniform(0, 1, 50_000), 1 - 10.0 ** rng.uniform(-7, 0, 50_000)])
    x = np.concatenate([size, -size]).astype(dtype)
    want = special.erfinv(x.astype(np.float64))
    if dtype == "float32":
        assert float32_ulps(traced("erfinv", x), want).max() < most
    else:
        assert (np.abs(traced("erfinv", x) - want) / np.spacing(np.abs(want))).max() < most


@pytest.mark.parametrize(
    ("name", "x", "want"),
    [
        ("gamma", [0.0, -3.0, np.inf, 171.8, 5.0], [np.inf, np.nan, np.inf, np.inf, 24.0]),
        ("gammaln", [0.0, -3.0, np.inf, 1e300], [np.inf, np.inf, np.inf, 6.897755278982137e302]),
        ("erfinv", [1.0, -1.0, 1.5, 0.0], [np.inf, -np.inf, np.nan, 0.0]),
    ],
)
def test_ends_of_special_functions(name: str, x: list[float], want: list[float]) -> None:
    np.testing.assert_allclose(traced(name, np.array(x)), want, rtol=1e-15)


@pytest.mark.parametrize("name", [*EXACT, *CIRCULAR])
def test_special_values(name: str) -> None:
    assert ulps(name, SPECIAL).max() <= 2


@pytest.mark.parametrize("name", ["tanh", "erf", "expm1", "log1p", "sin", "tan"])
def test_the_sign_of_zero_is_kept(name: str) -> None:
    assert np.signbit(computed(name, np.array([0.0, -0.0], np.float32))).tolist() == [False, True]


# ----- powers

ENDS = np.array(
    [0.0, 1.0, 2.0, 0.5, 3.0, 1.5, np.inf, np.nan, 1e-40, 1e-45, 1e38, 2.0**24, 2.0**24 - 1],
    np.float32,
)


def powers(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    made, kind = np.empty_like(x), TensorType(x.shape, x.dtype.name)
    types = {"x": kind, "y": kind, "z": kind}
    step = step_of(Run(("z",), make_op("_power", {}), ("x", "y")), types)
    assert step is not None
    call(Spec("flat_map", (2, (step,), (2,), kind.dtype)), x, y, made, x.size)
    return made


# float64 is measured against long double, which has 11 bits more.
@pytest.mark.parametrize(
    ("dtype", "exact", "most", "size"),
    [("float32", "float64", 0.55, 87), ("float64", "longdouble", 1.2, 708)],
)
def test_powers_are_near_the_exact_ones(dtype: str, exact: str, most: float, size: float) -> None:
    rng = np.random.default_rng(0)
    x = np.exp(rng.choice([0.9 * size, 2, 0.01], 200_000) * rng.uniform(-1, 1, 200_000))
    x = x.astype(dtype)
    y = (rng.uniform(-1, 1, x.size) * size / np.abs(np.log(x.astype(float)))).astype(dtype)
    want = np.power(x.astype(exact), y.astype(exact))
    unit = np.spacing(want.astype(dtype)).astype(np.float64)
    assert (np.abs(powers(x, y) - want) / unit).max() < most


@pytest.mark.parametrize(("dtype", "rtol"), [("float32", 1.2e-7), ("float64", 9e-16)])
def test_powers_of_special_values_are_those_of_c(dtype: str, rtol: float) -> None:
    ends = np.concatenate([ENDS, -ENDS]).astype(dtype)
    x, y = (a.ravel().copy() for a in np.meshgrid(ends, ends))
    with np.errstate(all="ignore"):
        want = np.power(x.astype(np.float64), y.astype(np.float64)).astype(dtype)
    got = powers(x, y)
    np.testing.assert_allclose(got, want, rtol=rtol)  # roundings may differ where ties are near
    numbers = ~np.isnan(want)
    np.testing.assert_array_equal(np.signbit(got[numbers]), np.signbit(want[numbers]))
