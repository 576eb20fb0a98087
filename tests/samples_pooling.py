"""Samples of pooling and its gradients."""

import itertools

import numpy as np
from samples import Sample


def spread_out(*shape):
    """A maker of values that are far apart, so that no step changes which one is the largest."""
    return lambda rng: (rng.permutation(np.prod(shape)) / 10 - 2).reshape(shape)


def windows(x, kernel, stride, pad, convention="valid"):
    """All windows by the definition: output position, the cells inside the data, clipped area."""
    over = [n + 2 * p - k for n, k, p in zip(x.shape[2:], kernel, pad, strict=True)]
    up = convention == "full"
    sizes = [(-(-o // s) if up else o // s) + 1 for o, s in zip(over, stride, strict=True)]
    for position in itertools.product(*map(range, sizes)):
        start = [i * s - p for i, s, p in zip(position, stride, pad, strict=True)]
        rows = zip(start, kernel, x.shape[2:], pad, strict=True)
        area = np.prod([min(a + k, n + p) - a for a, k, n, p in rows])
        rows = zip(start, kernel, x.shape[2:], strict=True)
        yield (
            (*sizes,),
            position,
            x[(slice(None), slice(None), *(slice(max(a, 0), min(a + k, n)) for a, k, n in rows))],
            area,
        )


def pooled(x, how, kernel, stride, pad, convention="valid"):
    """`how(cells, clipped area)` of every window."""
    out = None
    for sizes, position, cells, area in windows(x, kernel, stride, pad, convention):
        out = np.zeros((*x.shape[:2], *sizes)) if out is None else out
        out[(slice(None), slice(None), *position)] = how(cells.reshape(*x.shape[:2], -1), area)
    return out


def largest(cells, area):
    return cells.max(-1)


def mean_of_padded(cells, area):
    return cells.sum(-1) / area


def mean(cells, area):
    return cells.mean(-1)


def cubic(cells, area):
    return np.cbrt((cells**3).sum(-1))


MAX = {"kernel": (3, 2), "stride": (2, 1), "pad": (1, 0)}
AVG = {"kernel": (3, 2), "stride": (2, 2), "pad": (1, 1), "pool_type": "avg"}
LP = {"kernel": (2, 3), "stride": (1, 2), "pool_type": "lp"}
FULL = {"kernel": (2, 2), "stride": (2, 3), "pooling_convention": "full"}

SAMPLES = {
    "Pooling": [
        Sample(
            MAX,
            [spread_out(2, 3, 7, 6)],
            reference=lambda x: pooled(x, largest, (3, 2), (2, 1), (1, 0)),
            smooth=True,
        ),
        Sample(
            AVG,
            [(2, 3, 7, 6)],
            reference=lambda x: pooled(x, mean_of_padded, (3, 2), (2, 2), (1, 1)),
            smooth=True,
        ),
        Sample(
            {**AVG, "count_include_pad": False},
            [(2, 3, 7, 6)],
            reference=lambda x: pooled(x, mean, (3, 2), (2, 2), (1, 1)),
            smooth=True,
        ),
        Sample(
            {**FULL, "pool_type": "avg"},
            [(2, 3, 5, 7)],
            reference=lambda x: pooled(x, mean_of_padded, (2, 2), (2, 3), (0, 0), "full"),
            smooth=True,
        ),
        Sample(
            FULL,
            [spread_out(2, 3, 5, 7)],
            reference=lambda x: pooled(x, largest, (2, 2), (2, 3), (0, 0), "full"),
            smooth=True,
        ),
        Sample(
            {"kernel": (2, 1, 3), "pool_type": "sum", "pad": (1, 0, 2)},
            [(2, 3, 4, 5, 6)],
            reference=lambda x: pooled(x, lambda c, a: c.sum(-1), (2, 1, 3), (1, 1, 1), (1, 0, 2)),
            smooth=True,
        ),
        Sample(
            {**LP, "p_value": 2},
            [(2, 3, 5, 7)],
            reference=lambda x: pooled(
                x, lambda c, a: np.sqrt((c**2).sum(-1)), (2, 3), (1, 2), (0, 0)
            ),
        ),
        Sample(
            {**LP, "p_value": 3},
            [(2, 3, 5, 7)],
            low=0.3,
            reference=lambda x: pooled(x, cubic, (2, 3), (1, 2), (0, 0)),
        ),
        Sample(
            {**LP, "p_value": 1},
            [(2, 3, 5, 7)],
            reference=lambda x: pooled(x, lambda c, a: c.sum(-1), (2, 3), (1, 2), (0, 0)),
        ),
        Sample(
            {"global_pool": True, "pool_type": "avg"},
            [(2, 3, 5, 4)],
            reference=lambda x: x.mean((2, 3), keepdims=True),
            smooth=True,
        ),
        Sample(
            {"global_pool": True, "kernel": (7,)},
            [spread_out(2, 3, 5)],
            reference=lambda x: x.max(2, keepdims=True),
            smooth=True,
        ),
        Sample(
            {**MAX, "layout": "NHWC"},
            [spread_out(2, 7, 6, 3)],
            reference=lambda x: np.moveaxis(
                pooled(np.moveaxis(x, -1, 1), largest, (3, 2), (2, 1), (1, 0)), 1, -1
            ),
            smooth=True,
        ),
        Sample({**AVG, "layout": "NHWC"}, [(2, 7, 6, 3)], smooth=True),
        Sample(
            {"kernel": (2,), "stride": (2,), "pooling_convention": "same"},
            [spread_out(2, 3, 5)],
            reference=lambda x: np.stack(
                [x[..., :2].max(-1), x[..., 2:4].max(-1), x[..., 4]], axis=-1
            ),
        ),
        Sample(
            {"kernel": (2,), "pool_type": "avg", "cudnn_off": True},
            [(2, 3, 5)],
            dtype="float16",
            wrt=(),
            why="float16 is too coarse for differences",
        ),
    ],
    "_backward_Pooling_sum": [
        Sample(AVG, [(2, 3, 4, 4), (2, 3, 7, 6)], wrt=(0,), smooth=True),
        Sample({"kernel": (2,), "pool_type": "sum", "spatial": (5,)}, [(2, 3, 4)], smooth=True),
    ],
    "_backward_Pooling_lp": [
        Sample(
            {**LP, "p_value": 2},
            [(2, 3, 4, 3), (2, 3, 5, 7), (2, 3, 4, 3)],
            wrt=(),
            why="it has no gradient of its own",
        )
    ],
    "_backward_Pooling_max": [
        Sample(MAX, [(2, 3, 4, 5), spread_out(2, 3, 7, 6)], wrt=(0,), smooth=True)
    ],
    "_pool_select": [
        Sample(MAX, [(2, 3, 7, 6), spread_out(2, 3, 7, 6)], wrt=(0,), smooth=True),
        Sample({**FULL, "layout": "NHWC"}, [(2, 5, 7, 3), (2, 5, 7, 3)], wrt=(0,), smooth=True),
    ],
    "Pooling_v1": [
        Sample(
            {"kernel": (3, 2), "stride": (2, 1), "pool_type": "avg", "pad": (1, 0)},
            [(2, 3, 7, 6)],
            reference=lambda x: pooled(
                np.pad(x, [(0, 0), (0, 0), (1, 1), (0, 0)]), mean, (3, 2), (2, 1), (0, 0)
            ),
        ),
        Sample(
            {"kernel": (3, 2), "stride": (2, 1), "pad": (1, 0)},
            [spread_out(2, 3, 7, 6)],
            reference=lambda x: pooled(
                np.pad(x, [(0, 0), (0, 0), (1, 1), (0, 0)]), largest, (3, 2), (2, 1), (0, 0)
            ),
        ),
        Sample(
            FULL,
            [spread_out(2, 3, 5, 7)],
            reference=lambda x: pooled(x, largest, (2, 2), (2, 3), (0, 0), "full"),
        ),
        Sample(
            {"global_pool": True, "pool_type": "sum"},
            [(2, 3, 5, 4)],
            reference=lambda x: x.sum((2, 3), keepdims=True),
        ),
    ],
    "_backward_Pooling_v1": [
        Sample(
            {"kernel": (2,)},
            [(1, 1, 3), lambda rng: np.ones((1, 1, 3)), lambda rng: np.ones((1, 1, 4))],
            reference=lambda g, y, x: (
                np.pad(g, [(0, 0), (0, 0), (0, 1)]) + np.pad(g, [(0, 0), (0, 0), (1, 0)])
            ),
            wrt=(),
            why="it has no gradient of its own",
        )
    ],
}
