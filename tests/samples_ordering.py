"""Samples of ops that search and sort."""

import numpy as np
from samples import Sample

ZERO = {"wrt": (), "why": "zero by design"}
SHAPE = (3, 4, 5)


def distinct(rng):
    """Values at least 1 apart, in random order."""
    return rng.permutation(60).reshape(SHAPE).astype("float64")


def tied(rng):
    return rng.integers(0, 3, (4, 7)).astype("float64")


def first_of(f, axis, keepdims=False):
    return lambda x: f(x, axis=axis, keepdims=keepdims)


def flipped(x, axis):
    return np.flip(np.sort(x, axis), axis)


def descending(x):
    return np.argsort(-x, axis=-1, kind="stable")


def searches(f):
    return [
        Sample({"axis": 1}, [distinct], reference=first_of(f, 1), **ZERO),
        Sample({"axis": -1, "keepdims": True}, [tied], reference=first_of(f, -1, True), **ZERO),
        Sample({}, [distinct], reference=lambda x: f(x).reshape(1), **ZERO),
        Sample({"keepdims": True}, [tied], reference=lambda x: f(x).reshape(1, 1), **ZERO),
    ]


def mask_of_2(x):
    mask = np.zeros_like(x)
    np.put_along_axis(mask, descending(x)[:, :2], 1, -1)
    return mask


def ordered(params, reference, maker=distinct, **kind):
    return Sample(params, [maker], reference=reference, **kind)


SAMPLES = {
    "argmax": searches(np.argmax),
    "argmin": searches(np.argmin),
    "argmax_channel": [
        Sample({}, [distinct], reference=first_of(np.argmax, 1), wrt=(), why="an index")
    ],
    "sort": [
        ordered({}, lambda x: np.sort(x, -1), smooth=True),
        ordered({"axis": 1, "is_ascend": False}, lambda x: flipped(x, 1), smooth=True),
        ordered({"axis": None}, lambda x: np.sort(x.ravel()), smooth=True),
        ordered(
            {"axis": 0}, lambda x: (np.sort(x, 0), np.argsort(x, 0, kind="stable")), tied, **ZERO
        ),
    ],
    "argsort": [
        ordered({}, lambda x: np.argsort(x, -1, kind="stable"), tied, **ZERO),
        ordered({"is_ascend": False, "dtype": "int32"}, descending, tied, **ZERO),
        ordered({"axis": None}, lambda x: np.argsort(x.ravel()), **ZERO),
    ],
    "topk": [
        ordered({}, lambda x: descending(x)[..., :1], tied, **ZERO),
        ordered({"k": 2, "dtype": "int64"}, lambda x: descending(x)[..., :2], tied, **ZERO),
        ordered({"k": 2, "ret_typ": "value"}, lambda x: flipped(x, -1)[..., :2], smooth=True),
        ordered(
            {"k": 3, "ret_typ": "both", "axis": 1, "is_ascend": True, "dtype": "float64"},
            lambda x: (np.sort(x, 1)[:, :3], np.argsort(x, 1)[:, :3]),
        ),
        ordered({"k": 2, "ret_typ": "mask"}, mask_of_2, tied, **ZERO),
        ordered({"k": 4, "ret_typ": "value", "axis": None}, lambda x: flipped(x.ravel(), 0)[:4]),
        ordered({"k": 0, "ret_typ": "value"}, lambda x: flipped(x, -1), smooth=True),
    ],
    "_put_along": [
        Sample(
            {"axis": 1},
            [(2, 2), lambda rng: np.array([[0.0, 2], [2, 1]]), (2, 3)],
            reference=lambda g, i, x: np.array([[g[0, 0], 0, g[0, 1]], [0, g[1, 1], g[1, 0]]]),
            wrt=(0, 2),
            smooth=True,
        ),
        Sample({"axis": None}, [(2,), lambda rng: np.array([4, 1]), (2, 3)], smooth=True),
    ],
    "_take_along": [
        Sample(
            {"axis": 1},
            [(2, 3), lambda rng: np.array([[0.0, 2], [2, 1]])],
            reference=lambda x, i: np.take_along_axis(x, i.astype(int), 1),
            wrt=(0,),
            smooth=True,
        ),
        Sample({"axis": None}, [(2, 3), lambda rng: np.array([4, 1])], smooth=True),
    ],
}
