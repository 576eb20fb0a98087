"""Samples of the samplers and of the densities."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from oracles import stats
from samples import Sample

DRAWN = "random numbers: the gradient is zero"

PARAMETERS: dict[str, dict[str, Any]] = {
    "uniform": {"low": -0.5, "high": 2.5},
    "normal": {"loc": 0.5, "scale": 2.0},
    "gamma": {"alpha": 0.5, "beta": 2.0},
    "exponential": {"lam": 3.0},
    "poisson": {"lam": 3.5},
    "negative_binomial": {"k": 3, "p": 0.3},
    "generalized_negative_binomial": {"mu": 3.0, "alpha": 0.3},
}


def positive(*shape: int) -> Callable[[np.random.Generator], Any]:
    return lambda rng: rng.uniform(0.2, 0.9, shape)


def counts(*shape: int) -> Callable[[np.random.Generator], Any]:
    return lambda rng: rng.integers(0, 6, shape).astype("float64")


def simplex(*shape: int) -> Callable[[np.random.Generator], Any]:
    def make(rng: np.random.Generator) -> Any:
        parts = rng.uniform(0.1, 1.0, shape)
        return parts / parts.sum(axis=-1, keepdims=True)

    return make


def samplers(name: str, values: dict[str, Any]) -> dict[str, list[Sample]]:
    arrays = [positive(2, 3)] * len(values)
    return {
        f"_random_{name}": [
            Sample({**values, "shape": (2, 3)}, [], wrt=(), why=DRAWN),
            Sample({**values, "shape": (4,), "dtype": "float16"}, [], wrt=(), why=DRAWN),
        ],
        f"_random_{name}_like": [
            Sample(values, [(2, 3)], wrt=(), why=DRAWN),
            Sample(values, [(2, 3)], wrt=(), why=DRAWN, dtype="float16"),
        ],
        f"_sample_{name}": [
            Sample({"shape": (4, 5)}, arrays, wrt=(), why=DRAWN),
            Sample({"dtype": "float64"}, arrays, wrt=(), why=DRAWN),
        ],
    }


def densities(
    name: str, sample: Any, parameters: list[Any], reference: Callable[..., Any], *, discrete: bool
) -> dict[str, list[Sample]]:
    first = 1 if discrete else 0
    drawn = Sample({}, [sample, *parameters]).arrays()[0].shape
    out_shape = drawn[:-1] if name == "dirichlet" else drawn  # a draw of it is a vector
    wrt = tuple(range(first, len(parameters) + 1))
    why = "gradient of a density: second order is not offered"
    return {
        f"_random_pdf_{name}": [
            Sample({}, [sample, *parameters], reference=reference, wrt=wrt, tol=1e-5),
            Sample(
                {"is_log": True},
                [sample, *parameters],
                reference=lambda *arrays: np.log(reference(*arrays)),
                wrt=wrt,
                tol=1e-5,
            ),
        ],
        f"_backward_random_pdf_{name}": [
            Sample({"is_log": flag}, [out_shape, sample, *parameters], wrt=(), why=why)
            for flag in (False, True)
        ],
    }


def scattered(g: np.ndarray, p: np.ndarray, index: np.ndarray) -> np.ndarray:
    total = np.zeros_like(p)
    for row in range(len(p)):
        for weight, at in zip(g[row], index[row], strict=True):
            total[row, at] += weight / p[row, at]
    return total


def column(a: np.ndarray) -> np.ndarray:
    return a[..., None]


SAMPLES = {
    "_random_randint": [
        Sample({"low": -3, "high": 10, "shape": (2, 3)}, [], wrt=(), why=DRAWN),
        Sample({"low": 0, "high": 2**40, "shape": (4,), "dtype": "int64"}, [], wrt=(), why=DRAWN),
    ],
    "_shuffle": [Sample({}, [(5, 3)], wrt=(), why="not differentiable")],
    "_sample_multinomial": [
        Sample({}, [simplex(4)], wrt=(), why=DRAWN),
        Sample({"shape": (3,)}, [simplex(2, 5)], wrt=(), why=DRAWN),
        Sample(
            {"shape": (3, 4), "get_prob": True},
            [simplex(2, 5)],
            wrt=(),
            why="its gradient needs the same draws again; its gradient op is checked below",
        ),
        Sample({"shape": (7,), "dtype": "uint8"}, [simplex(2, 3, 5)], wrt=(), why=DRAWN),
    ],
    "_backward_sample_multinomial": [
        Sample(
            {},
            [(2, 3), simplex(2, 5), lambda rng: rng.integers(0, 5, (2, 3)).astype("int32")],
            reference=scattered,
            wrt=(),
            why="second order is not offered",
        )
    ],
    "_sample_unique_zipfian": [
        Sample({"range_max": 50, "shape": (2, 7)}, [], wrt=(), why="integers")
    ],
}
for row, given in PARAMETERS.items():
    SAMPLES |= samplers(row, given)

ROWS: list[tuple[str, Any, list[Any], Callable[..., Any], bool]] = [
    (
        "uniform",
        (2, 3),
        [lambda rng: rng.uniform(-3, -2, (2,)), lambda rng: rng.uniform(1, 2, (2,))],
        lambda x, low, high: column(1 / (high - low)) + 0 * x,
        False,
    ),
    (
        "normal",
        (2, 3, 4),
        [(2, 3), positive(2, 3)],
        lambda x, mu, sigma: stats.norm.pdf(x, column(mu), column(sigma)),
        False,
    ),
    (
        "gamma",
        positive(2, 3),
        [positive(2), positive(2)],
        lambda x, a, b: stats.gamma.pdf(x, column(a), scale=1 / column(b)),
        False,
    ),
    (
        "exponential",
        positive(2, 3),
        [positive(2)],
        lambda x, lam: stats.expon.pdf(x, scale=1 / column(lam)),
        False,
    ),
    (
        "poisson",
        counts(2, 3),
        [positive(2)],
        lambda x, lam: stats.poisson.pmf(x, column(lam)),
        True,
    ),
    (
        "negative_binomial",
        counts(2, 3),
        [positive(2), positive(2)],
        lambda x, k, p: stats.nbinom.pmf(x, column(k), column(p)),
        True,
    ),
    (
        "generalized_negative_binomial",
        counts(2, 3),
        [positive(2), positive(2)],
        lambda x, mu, a: stats.nbinom.pmf(x, column(1 / a), column(1 / (mu * a + 1))),
        True,
    ),
    (
        "dirichlet",
        simplex(2, 4, 3),
        [positive(2, 3)],
        lambda x, a: np.array(
            [[stats.dirichlet.pdf(v, a[i]) for v in x[i]] for i in range(len(a))]
        ),
        False,
    ),
]
for row, sample, parameters, reference, discrete in ROWS:
    SAMPLES |= densities(row, sample, parameters, reference, discrete=discrete)
