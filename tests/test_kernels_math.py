"""Vectorised exp, log, tanh, erf: error over float32, sampled densely, and the special values."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from kernel_calls import call
from oracles import special

import raysym.ops  # noqa: F401  (fills the registry)
from raysym.kernels.elementwise import ChainStep
from raysym.kernels.specs import Spec
from raysym.op import make_op

EXACT: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "exp": np.exp,
    "expm1": np.expm1,
    "log": np.log,
    "log1p": np.log1p,
    "tanh": np.tanh,
    "erf": special.erf,
}
SPECIAL = np.array(
    [0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -1.0, 1e-45, -1e-45, 1e-38, 88.72, 88.73, -87.5,
     -103.9, -104.5, 3.4e38, -3.4e38, 0.625, 0.92773],
    np.float32,
)  # fmt: skip


def computed(name: str, x: np.ndarray) -> np.ndarray:
    y = np.empty_like(x)
    step = ChainStep.of(make_op(name, {}), (0,))
    call(Spec("flat_map", (1, (step,), (1,))), x, y, x.size)
    return y


def ulps(name: str, x: np.ndarray) -> np.ndarray:
    """Distance from the exact value in units of its last place; 0 where both are not finite."""
    y = computed(name, x)
    with np.errstate(all="ignore"):
        exact = EXACT[name](x.astype(np.float64))
        rounded = exact.astype(np.float32)
        same = (rounded == y) | (np.isnan(rounded) & np.isnan(y))
        unit = np.spacing(np.abs(rounded)).astype(np.float64)
        distance = np.abs(y.astype(np.float64) - exact) / unit
    return np.where(same, np.minimum(np.nan_to_num(distance), 0.5), distance)


def floats(first: int, last: int, step: int) -> np.ndarray:
    """Every `step`-th float32 by its bits."""
    return np.arange(first, last, step, dtype=np.uint64).astype(np.uint32).view(np.float32)


@pytest.mark.parametrize("name", EXACT)
def test_error_is_at_most_two_ulps_over_all_float32(name: str) -> None:
    for first in range(0, 2**32, 2**28):
        worst = ulps(name, floats(first, first + 2**28, 2_003))
        assert worst.max() <= 2, (hex(first), worst.max())


@pytest.mark.sweep
@pytest.mark.parametrize("name", ["exp", "log", "tanh", "erf"])
def test_error_is_at_most_two_ulps_for_every_float32(name: str) -> None:
    for first in range(0, 2**32, 2**25):
        assert ulps(name, floats(first, first + 2**25, 1)).max() <= 2, hex(first)


@pytest.mark.parametrize("name", EXACT)
def test_special_values(name: str) -> None:
    assert ulps(name, SPECIAL).max() <= 2


@pytest.mark.parametrize("name", ["tanh", "erf", "expm1", "log1p"])
def test_the_sign_of_zero_is_kept(name: str) -> None:
    assert np.signbit(computed(name, np.array([0.0, -0.0], np.float32))).tolist() == [False, True]
