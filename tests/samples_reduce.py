"""Samples of reductions, norms, moments, running sums and histograms."""

import numpy as np
from samples import Sample

MODES = [
    ({}, None),
    ({"axis": 1}, (1,)),
    ({"axis": (0, -1)}, (0, 2)),
    ({"axis": (1,), "exclude": True}, (0, 2)),
    ({"axis": (0, 2), "keepdims": True}, (0, 2)),
    ({"axis": (), "keepdims": True}, None),
    ({"axis": (0, 1, 2), "exclude": True}, ()),
]
SHAPE = (2, 3, 5)


def reduced(f, axis, keepdims):
    """The reference for one mode: numpy's reduction; a scalar has shape (1,)."""

    def oracle(x):
        y = np.asarray(f(x, axis=axis, keepdims=keepdims))
        return y if y.shape else y.reshape(1)

    return oracle


def with_nan(rng):
    x = rng.uniform(0.3, 2, (3, 5))
    x[1, 2] = np.nan
    return x


def bytes_(rng):
    return rng.integers(0, 200, (3, 5)).astype("uint8")


def family(f, smooth):
    return [
        Sample(
            params,
            [SHAPE],
            0.3,
            2,
            reference=reduced(f, axis, params.get("keepdims", False)),
            smooth=smooth,
        )
        for params, axis in MODES
    ]


def square_sum(x, axis, keepdims):
    return (x * x).sum(axis=axis, keepdims=keepdims)


SAMPLES = {
    "sum": family(np.sum, True),
    "mean": family(np.mean, True),
    "prod": family(np.prod, True),
    "nansum": family(np.nansum, True),
    "nanprod": family(np.nanprod, True),
    "max": family(np.max, False),
    "min": family(np.min, False),
    "_square_sum": family(square_sum, True),
}
SAMPLES["nansum"].append(
    Sample({"axis": 0}, [with_nan], reference=lambda x: np.nansum(x, 0), wrt=(), why="has NaN")
)
SAMPLES["nanprod"].append(
    Sample({"axis": 0}, [with_nan], reference=lambda x: np.nanprod(x, 0), wrt=(), why="has NaN")
)
SAMPLES["sum"] += [
    Sample({}, [bytes_], reference=lambda x: x.sum(dtype="uint8").reshape(1)),
    Sample(
        {},
        [(30, 200)],
        0,
        1,
        dtype="float16",
        reference=lambda x: x.astype(float).sum().astype("float16").reshape(1),
        wrt=(),
        why="float16, to see that it is accumulated in float32",
    ),
]
SAMPLES["mean"].append(
    Sample({"axis": 1}, [bytes_], reference=lambda x: x.sum(axis=1, dtype=int) // 5)
)
SAMPLES["_spread"] = [
    Sample({"axis": (1,)}, [(2, 5), SHAPE], reference=lambda g, x: g[:, None] + 0 * x, smooth=True),
    Sample({}, [(1,), SHAPE], reference=lambda g, x: g + 0 * x, smooth=True),
    Sample(
        {"axis": (0, 2), "mean": True},
        [(1, 3, 1), SHAPE],
        reference=lambda g, x: g / 10 + 0 * x,
        smooth=True,
    ),
    Sample({"axis": (1,), "exclude": True, "mean": True}, [(3,), SHAPE], smooth=True),
]
SAMPLES["norm"] = [
    Sample(
        {"ord": ord_, **params},
        [SHAPE],
        0.3,
        2,
        reference=reduced(f, axis, params.get("keepdims", False)),
        smooth=True,
    )
    for ord_, f in (
        (1, lambda x, **kind: np.abs(x).sum(**kind)),
        (2, lambda x, **kind: np.sqrt((x * x).sum(**kind))),
    )
    for params, axis in (MODES[0], MODES[1], MODES[2], MODES[4])
]
SAMPLES["norm"].append(
    Sample(
        {"out_dtype": "float32"},
        [SHAPE],
        reference=lambda x: np.linalg.norm(x).reshape(1),
        wrt=(),
        why="rounded to float32",
    )
)
SAMPLES["moments"] = [
    Sample(
        {"axes": (0, 2)},
        [SHAPE],
        reference=lambda x: (x.mean(axis=(0, 2)), x.var(axis=(0, 2))),
        smooth=True,
    ),
    Sample({"axes": (-1,), "keepdims": True}, [SHAPE], smooth=True),
    Sample({}, [SHAPE], reference=lambda x: (x.mean().reshape(1), x.var().reshape(1)), smooth=True),
]
SAMPLES["_np_cumsum"] = [
    Sample({"axis": 1}, [SHAPE], reference=lambda x: np.cumsum(x, 1), smooth=True),
    Sample({"axis": -1}, [SHAPE], reference=lambda x: np.cumsum(x, -1), smooth=True),
    Sample({}, [SHAPE], reference=np.cumsum, smooth=True),
    Sample(
        {"axis": 0, "dtype": "float64"},
        [lambda rng: rng.integers(0, 9, (3, 5))],
        reference=lambda x: np.cumsum(x, 0, dtype=float),
    ),
]
SAMPLES["_cumsum_back"] = [
    Sample(
        {"axis": 1}, [SHAPE], reference=lambda x: np.cumsum(x[:, ::-1], 1)[:, ::-1], smooth=True
    ),
    Sample({}, [SHAPE], reference=lambda x: np.cumsum(x.ravel()[::-1])[::-1], smooth=True),
]
SAMPLES["_histogram"] = [
    Sample(
        {"bin_cnt": 4, "range": (-2.0, 2.0)},
        [(3, 5)],
        -2.5,
        2.5,
        reference=lambda x: np.histogram(x, 4, (-2.0, 2.0)),
        wrt=(),
        why="counts",
    ),
    Sample(
        {},
        [
            lambda rng: rng.integers(0, 9, (3, 5)).astype("float64"),
            lambda rng: np.array([0.0, 3, 4, 8]),
        ],
        reference=lambda x, edges: np.histogram(x, edges),
        wrt=(),
        why="counts",
    ),
]
