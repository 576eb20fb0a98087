"""Samples of copies, constants, sums to a shape, dtype changes and choices."""

import base64

import numpy as np
from samples import Sample

ZERO = {"wrt": (), "why": "zero by design"}
ROUNDED = {"wrt": (), "why": "the result is rounded"}
BYTES = base64.b64encode(np.arange(6, dtype="int32").tobytes()).decode()


def bits(*shape, dtype="float64"):
    return lambda rng: rng.integers(0, 2, shape).astype(dtype)


def half(*shape):
    return lambda rng: rng.normal(size=shape).astype("float16")


def infinite(rng):
    return np.array([[1.0, np.inf], [2.0, 3.0]])


SAMPLES = {
    "add_n": [
        Sample(
            {"num_args": 3},
            [(2, 3), (2, 3), (2, 3)],
            reference=lambda a, b, c: a + b + c,
            smooth=True,
        ),
        Sample({"num_args": 1}, [(2, 3)], reference=lambda a: a, smooth=True),
    ],
    "_copy": [Sample({}, [(2, 3)], reference=lambda x: x, smooth=True)],
    "BlockGrad": [Sample({}, [(2, 3)], reference=lambda x: x, **ZERO)],
    "zeros_like": [Sample({}, [(2, 3)], reference=lambda x: 0 * x, **ZERO)],
    "ones_like": [Sample({}, [(2, 3)], reference=lambda x: 0 * x + 1, **ZERO)],
    "_constant": [
        Sample(
            {"shape": (2, 3), "dtype": "int32", "data": BYTES},
            [],
            reference=lambda: np.arange(6).reshape(2, 3),
        )
    ],
    "_sum_like": [
        Sample(
            {},
            [(2, 3, 5), (3, 1)],
            reference=lambda x, like: x.sum(axis=(0, 2)).reshape(3, 1),
            smooth=True,
        ),
        Sample({}, [(2, 3), (2, 3)], reference=lambda x, like: x, smooth=True),
    ],
    "_sum_to": [
        Sample(
            {"shape": (1, 5)},
            [(2, 3, 5)],
            reference=lambda x: x.sum(axis=(0, 1)).reshape(1, 5),
            smooth=True,
        ),
        Sample({"shape": (1,)}, [(2, 3)], reference=lambda x: x.sum().reshape(1), smooth=True),
    ],
    # It exists to fail when it is run; test_basic_ops.py says how.
    "_no_gradient": [],
    "Cast": [
        Sample({"dtype": "float64"}, [(2, 3)], reference=lambda x: x, smooth=True),
        Sample({"dtype": "int32"}, [(2, 3)], -5, 5, reference=np.trunc, **ROUNDED),
        Sample({"dtype": "bool"}, [bits(2, 3)], reference=lambda x: x != 0, **ROUNDED),
        Sample({"dtype": "float64"}, [half(2, 3)], reference=lambda x: x, **ROUNDED),
    ],
    "_cast_like": [
        Sample({}, [(2, 3), (5,)], reference=lambda x, like: x, smooth=True),
        Sample({}, [(2, 3), half(5)], reference=lambda x, y: x.astype("float16"), **ROUNDED),
    ],
    "amp_cast": [
        Sample({"dtype": "float16"}, [(2, 3)], reference=lambda x: x, smooth=True),
        Sample({"dtype": "float64"}, [half(2, 3)], reference=lambda x: x, **ROUNDED),
        Sample({"dtype": "float16"}, [bits(2, 3, dtype="int32")], reference=lambda x: x),
    ],
    "amp_multicast": [
        Sample({"num_outputs": 2}, [(2, 3), (5,)], reference=lambda a, b: (a, b), smooth=True),
        Sample({"num_outputs": 2}, [(2, 3), half(5)], reference=lambda a, b: (a, b), wrt=(0,)),
        Sample(
            {"num_outputs": 2, "cast_narrow": True},
            [(2, 3), half(5)],
            reference=lambda a, b: (a.astype("float16"), b),
            **ROUNDED,
        ),
    ],
    "where": [
        Sample({}, [bits(3, 5), (3, 5), (3, 5)], reference=np.where, wrt=(1, 2), smooth=True),
        Sample(
            {},
            [bits(3, dtype="int32"), (3, 5, 2), (3, 5, 2)],
            reference=lambda c, x, y: np.where(c[:, None, None], x, y),
            smooth=True,
        ),
    ],
    "all_finite": [
        Sample({}, [(2, 3)], reference=lambda x: np.ones(1), wrt=(), why="yes or no"),
        Sample({}, [infinite], reference=lambda x: np.zeros(1), wrt=(), why="yes or no"),
    ],
    "multi_all_finite": [
        Sample(
            {"num_arrays": 2},
            [(2, 3), (4, 5)],
            reference=lambda x, y: np.ones(1),
            wrt=(),
            why="yes or no",
        ),
        Sample(
            {"num_arrays": 2},
            [(2, 3), infinite],
            reference=lambda x, y: np.zeros(1),
            wrt=(),
            why="yes or no",
        ),
    ],
    "_contrib_allclose": [
        Sample(
            {},
            [(2, 3), (2, 3)],
            reference=lambda a, b: np.array([np.allclose(a, b)], "uint8"),
            wrt=(),
            why="yes or no",
        ),
        Sample(
            {"rtol": 0.5, "equal_nan": False},
            [lambda rng: np.array([1.0, 2.0, 3.0]), lambda rng: np.array([1.2, 2.1, 2.5])],
            reference=lambda a, b: np.ones(1, "uint8"),
            wrt=(),
            why="yes or no",
        ),
        Sample(
            {},
            [lambda rng: np.array([1.0, np.nan]), lambda rng: np.array([1.0, np.nan])],
            reference=lambda a, b: np.ones(1, "uint8"),
            wrt=(),
            why="yes or no",
        ),
    ],
}
