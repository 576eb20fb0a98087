"""Samples of elementwise ops."""

import numpy as np

from samples import Sample

SAMPLES = {
    "exp": [Sample({}, [(2, 3)], reference=np.exp, smooth=True)],
    "square": [Sample({}, [(2, 3)], reference=np.square, smooth=True)],
    "floor": [Sample({}, [(2, 3)], low=-3, high=3, reference=np.floor, wrt=(), why="zero by design")],
}
