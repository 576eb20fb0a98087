"""Samples of ops that make arrays from parameters."""

import numpy as np
from samples import Sample

ZERO = {"wrt": (), "why": "zero by design"}


def made(params, value):
    return Sample(params, [], reference=lambda: value, **ZERO)


SAMPLES = {
    "_zeros": [
        made({"shape": (2, 3)}, np.zeros((2, 3))),
        made({"shape": (3,), "dtype": "int64"}, np.zeros(3)),
    ],
    "_ones": [
        made({"shape": (2, 3)}, np.ones((2, 3))),
        made({"shape": 3, "dtype": "bool"}, np.ones(3)),
    ],
    "_full": [
        made({"shape": (2, 3), "value": 3.5}, np.full((2, 3), 3.5)),
        made({"shape": (2,), "value": -3.7, "dtype": "int32"}, np.full(2, -3)),
    ],
    "_zeros_without_dtype": [
        made({"shape": (2, 3)}, np.zeros((2, 3))),
        made({"shape": (2, 3), "dtype": 1}, np.zeros((2, 3))),
    ],
    "_arange": [
        made({"start": 4.0}, np.arange(4)),
        made({"start": 1, "stop": 9, "step": 2.5}, np.array([1, 3.5, 6, 8.5])),
        made({"start": 3, "stop": 0, "step": -1, "dtype": "int32"}, np.array([3, 2, 1])),
        made({"start": 0, "stop": 2, "repeat": 3}, np.array([0, 0, 0, 1, 1, 1])),
    ],
    "_linspace": [
        made({"start": -1, "stop": 2, "num": 4}, np.array([-1, 0, 1, 2])),
        made({"start": -1, "stop": 2, "num": 6, "endpoint": False}, np.arange(-1, 2, 0.5)),
    ],
    "_eye": [
        made({"N": 3}, np.eye(3)),
        made({"N": 3, "M": 4, "k": 1, "dtype": "float64"}, np.eye(3, 4, 1)),
        made({"N": 3, "M": 2, "k": -2}, np.eye(3, 2, -2)),
    ],
    "_contrib_arange_like": [
        Sample({}, [(3, 4)], reference=lambda x: np.arange(12).reshape(3, 4), **ZERO),
        Sample(
            {"axis": 1, "start": 2, "step": 0.5},
            [(3, 4)],
            reference=lambda x: np.array([2, 2.5, 3, 3.5]),
            **ZERO,
        ),
        Sample(
            {"axis": -1, "repeat": 3}, [(2, 4)], reference=lambda x: np.array([0, 0, 0, 1]), **ZERO
        ),
    ],
    "shape_array": [Sample({}, [(2, 3, 5)], reference=lambda x: np.array([2, 3, 5]), **ZERO)],
    "size_array": [Sample({}, [(2, 3, 5)], reference=lambda x: np.array([30]), **ZERO)],
}
