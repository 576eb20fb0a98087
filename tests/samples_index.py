"""Samples of ops that look up and write by index."""

import numpy as np
from samples import Sample


def whole(low, high, *shape):
    """A maker of float indices, duplicates and places outside included."""
    return lambda rng: rng.integers(low, high, shape).astype("float64") + 0.25


def given(*values, dtype="int64"):
    return lambda rng: np.array(values, dtype)


def added(shape, axis):
    """Sum of the head gradient's parts at clipped indices along an axis."""

    def reference(grad, index, *_):
        made = np.zeros(shape)
        places = np.clip(np.trunc(index).astype(int), 0, shape[axis] - 1)
        np.add.at(made, (slice(None),) * axis + (places,), grad)
        return made

    return reference


NO_INDEX = "indices have no gradient"
COORDINATES = given([0, 2, -1, 0], [1, 3, 2, 1])

SAMPLES = {
    "Embedding": [
        Sample(
            {"input_dim": 5, "output_dim": 3},
            [whole(-1, 7, 2, 4), (5, 3)],
            reference=lambda i, w: w[np.clip(np.trunc(i).astype(int), 0, 4)],
            wrt=(1,),
            smooth=True,
        ),
        Sample(
            {"input_dim": 5, "output_dim": 3, "dtype": "float64", "sparse_grad": True},
            [given(1, 4, 1, 0, dtype="int32"), (5, 3)],
            reference=lambda i, w: w[i],
            wrt=(1,),
        ),
    ],
    "_contrib_SparseEmbedding": [
        Sample(
            {"input_dim": 5, "output_dim": 3},
            [given(1, 4, 1, 0), (5, 3)],
            reference=lambda i, w: w[i],
            wrt=(1,),
        )
    ],
    "take": [
        Sample(
            {},
            [(4, 3), whole(-2, 7, 5, 2)],
            reference=lambda a, i: a[np.clip(np.trunc(i).astype(int), 0, 3)],
            wrt=(0,),
            smooth=True,
        ),
        Sample(
            {"axis": -2, "mode": "wrap"},
            [(2, 5, 3), given([-1, 7], [0, 12], [3, 3])],
            reference=lambda a, i: a[:, i % 5],
            wrt=(0,),
            smooth=True,
        ),
        Sample(
            {"axis": 1, "mode": "raise"},
            [(2, 5), given(0, 4, 4)],
            reference=lambda a, i: a[:, i],
            wrt=(0,),
        ),
    ],
    "_backward_take": [
        Sample(
            {"axis": 1},
            [(2, 6, 3), whole(-2, 7, 6), (2, 4, 3)],
            reference=added((2, 4, 3), 1),
            wrt=(0,),
            smooth=True,
        ),
        Sample(
            {"shape": (4, 3)},
            [(5, 2, 3), whole(0, 4, 5, 2)],
            reference=added((4, 3), 0),
            wrt=(0,),
            smooth=True,
        ),
    ],
    "pick": [
        Sample(
            {},
            [(2, 3, 4), whole(-1, 6, 2, 3)],
            reference=lambda x, i: np.take_along_axis(
                x, np.clip(np.trunc(i), 0, 3).astype(int)[..., None], 2
            )[..., 0],
            wrt=(0,),
            smooth=True,
        ),
        Sample(
            {"axis": 1, "keepdims": True, "mode": "wrap"},
            [(2, 3, 4), whole(-9, 9, 2, 1, 4)],
            reference=lambda x, i: np.take_along_axis(x, np.trunc(i).astype(int) % 3, 1),
            wrt=(0,),
            smooth=True,
        ),
        Sample({"axis": 0}, [(3,), given(2)], reference=lambda x, i: x[i], wrt=(0,)),
    ],
    "_backward_pick": [
        Sample(
            {"axis": 1},
            [(2, 4), given([0, 2, 1, 1], [2, 0, 9, 1]), (2, 3, 4)],
            wrt=(0,),
            smooth=True,
        ),
        Sample(
            {"shape": (2, 3)},
            [(2,), given(2, -4)],
            reference=lambda g, _: np.array([[0, 0, g[0]], [g[1], 0, 0]]),
            wrt=(0,),
            smooth=True,
        ),
    ],
    "batch_take": [
        Sample(
            {},
            [(4, 3), given(0, 2, 5, -1, dtype="int32")],
            reference=lambda a, _: a[np.arange(4), [0, 2, 2, 0]],
            wrt=(0,),
            smooth=True,
        )
    ],
    "one_hot": [
        Sample(
            {"depth": 3},
            [given(-1.0, 1.7, 9.0, 0.0, -0.5, dtype="float64")],
            reference=lambda _: np.eye(3)[[0, 1, 0, 0, 0]] * np.array([[0, 1, 0, 1, 1]]).T,
            wrt=(),
            why="zero everywhere",
        ),
        Sample(
            {"depth": 4, "on_value": 2.5, "off_value": -1.0, "dtype": "int32"},
            [given([0, 3], [1, 7], [2, 2])],
            reference=lambda i: np.where(i[..., None] == np.arange(4), 2, -1),
            wrt=(),
            why="zero everywhere",
        ),
    ],
    "fill_element_0index": [
        Sample(
            {},
            [(4, 3), (4,), given(0.0, 2.0, 1.0, 5.0, dtype="float64")],
            reference=lambda x, v, _: np.where(
                np.eye(3)[[0, 2, 1, 0]] * [[1], [1], [1], [0]], v[:, None], x
            ),
            wrt=(),
            why="not differentiable, as in MXNet",
        )
    ],
    "gather_nd": [
        Sample(
            {},
            [(3, 4, 5), COORDINATES],
            reference=lambda x, i: x[i[0], i[1]],
            wrt=(0,),
            smooth=True,
        ),
        Sample(
            {},
            [(3, 4), whole(0, 3, 2, 5, 1)],
            reference=lambda x, i: x[tuple(np.trunc(i).astype(int))],
            wrt=(0,),
        ),
        Sample({}, [(3, 4), given([2], [1])], reference=lambda x, i: x[2:, 1], wrt=(0,)),
    ],
    "_backward_gather_nd": [
        Sample(
            {},
            [(4, 5), COORDINATES, (3, 4, 5)],
            reference=lambda g, i, _: np.stack(
                [
                    sum((g[k] * (i[0, k] % 3 == r) * (i[1, k] == c) for k in range(4)), np.zeros(5))
                    for r in range(3)
                    for c in range(4)
                ]
            ).reshape(3, 4, 5),
            wrt=(0,),
            smooth=True,
        )
    ],
    "scatter_nd": [
        Sample(
            {"shape": (3, 4, 2)},
            [(3, 2), given([0, 2, -1], [1, 3, 2])],
            reference=lambda x, _: np.stack(
                [
                    [x[0] * (c == 1) for c in range(4)],
                    np.zeros((4, 2)),
                    [x[1] * (c == 3) + x[2] * (c == 2) for c in range(4)],
                ]
            ),
            wrt=(0,),
            smooth=True,
        ),
        Sample(
            {"shape": (2, 3)},
            [(3,), given([0, 1, 0], [1, 0, 1])],
            reference=lambda x, _: np.array([[0, x[2], 0], [x[1], 0, 0]]),
            wrt=(),
            why="the gradient of a covered duplicate is that of MXNet, not the derivative",
        ),
    ],
    "_scatter_set_nd": [
        Sample(
            {"shape": (3, 4)},
            [(3, 4), (2,), given([0, 2], [1, 3])],
            reference=lambda x, y, _: np.where(
                np.arange(12).reshape(3, 4) == 1,
                y[0],
                np.where(np.arange(12).reshape(3, 4) == 11, y[1], x),
            ),
            wrt=(0, 1),
            smooth=True,
        )
    ],
    "_contrib_index_copy": [
        Sample(
            {},
            [(4, 3), given(2, 0), (2, 3)],
            reference=lambda old, _, new: np.stack([new[1], old[1], new[0], old[3]]),
            wrt=(0, 2),
            smooth=True,
        ),
        Sample(
            {},
            [(4, 3), given(2, 2), (2, 3)],
            reference=lambda old, _, new: np.stack([old[0], old[1], new[1], old[3]]),
            wrt=(0,),
        ),
    ],
    "_contrib_index_array": [
        Sample(
            {},
            [(2, 3)],
            reference=lambda x: np.stack(np.indices((2, 3)), -1),
            wrt=(),
            why="zero everywhere",
        ),
        Sample(
            {"axes": (-1, 0)},
            [(2, 3, 4)],
            reference=lambda x: np.stack(np.indices((2, 3, 4))[[2, 0]], -1),
            wrt=(),
            why="zero everywhere",
        ),
    ],
    "_ravel_multi_index": [
        Sample(
            {"shape": (3, 6)},
            [given([1, 2, 0], [3, 4, 5], dtype="float64")],
            reference=lambda i: np.array([9.0, 16.0, 5.0]),
            wrt=(),
            why="indices",
        ),
        Sample(
            {"shape": (-1, 4, 5)},
            [given([1, 9, 0], [3, 2, 0], [4, 1, 2])],
            reference=lambda i: np.array([39, 191, 2]),
        ),
    ],
    "_unravel_index": [
        Sample(
            {"shape": (-1, 6)},
            [given(9, 16, 0, dtype="float64")],
            reference=lambda i: np.array([[1.0, 2, 0], [3, 4, 0]]),
            wrt=(),
            why="indices",
        ),
        Sample(
            {"shape": (3, 4, 5)},
            [given([39, 51, 2], [0, 7, 59])],
            reference=lambda i: np.stack(np.unravel_index(i, (3, 4, 5))),
        ),
    ],
    "_contrib_boolean_mask": [],  # refused at inference: nothing can be run
}
