"""Samples of ops on padded sequences."""

import numpy as np
from samples import Sample


def lengths(*values, dtype="float64"):
    return lambda rng: np.array(values, dtype)


def kept(x, n, value, batch_first=False):
    made = x.copy()
    for i, end in enumerate(np.trunc(n).astype(int)):
        if batch_first:
            made[i, end:] = value
        else:
            made[end:, i] = value
    return made


def turned(x, n):
    made = x.copy()
    for i, end in enumerate(np.trunc(n).astype(int)):
        made[:end, i] = x[:end, i][::-1]
    return made


USE = {"use_sequence_length": True}

SAMPLES = {
    "SequenceMask": [
        Sample({}, [(4, 3, 2)], reference=lambda x: x, smooth=True),
        Sample(
            {**USE, "value": -2.5},
            [(4, 3, 2), lengths(0, 5, 2.7)],
            reference=lambda x, n: kept(x, n, -2.5),
            wrt=(0,),
            smooth=True,
        ),
        Sample(
            {**USE, "axis": 1},
            [(3, 4), lengths(1, 4, 3, dtype="int32")],
            reference=lambda x, n: kept(x, n, 0, batch_first=True),
            wrt=(0,),
            smooth=True,
        ),
    ],
    "SequenceReverse": [
        Sample({}, [(4, 3, 2)], reference=lambda x: x[::-1], smooth=True),
        Sample(
            USE,
            [(5, 4, 2), lengths(1, 5, 3.5, 2)],
            reference=turned,
            wrt=(0,),
            smooth=True,
        ),
        Sample(USE, [(4, 3), lengths(2, 0, 4, dtype="int32")], reference=turned, wrt=(0,)),
    ],
    "SequenceLast": [
        Sample({}, [(4, 3, 2)], reference=lambda x: x[-1], smooth=True),
        Sample({"axis": 1}, [(3, 4)], reference=lambda x: x[:, -1], smooth=True),
        Sample(
            USE,
            [(4, 3, 2), lengths(1, 4, 2.7)],
            reference=lambda x, _: x[[0, 3, 1], [0, 1, 2]],
            wrt=(0,),
            smooth=True,
        ),
        Sample(
            {**USE, "axis": 1},
            [(3, 4), lengths(0, 9, 2, dtype="int32")],
            reference=lambda x, _: x[[0, 1, 2], [0, 3, 1]],
            wrt=(0,),
            smooth=True,
        ),
    ],
    "_backward_SequenceLast": [
        Sample(
            {"axis": 1},
            [(3, 2), lengths(1, 4, 2), (3, 4, 2)],
            reference=lambda g, *_: g[:, None] * (np.arange(4) == [[0], [3], [1]])[..., None],
            wrt=(0,),
            smooth=True,
        ),
        Sample({"shape": (4, 3)}, [(3,), lengths(1, 4, 2)], wrt=(0,), smooth=True),
    ],
}
