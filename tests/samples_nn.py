"""Samples of neural network layers."""

from samples import Sample

SAMPLES = {
    "FullyConnected": [
        Sample(
            {"num_hidden": 5},
            [(2, 3), (5, 3), (5,)],
            reference=lambda x, w, b: x @ w.T + b,
            smooth=True,
        ),
        Sample({"num_hidden": 5, "no_bias": True}, [(2, 3, 4), (5, 12)], smooth=True),
        Sample({"num_hidden": 5, "flatten": False}, [(2, 3, 4), (5, 4), (5,)], smooth=True),
        Sample({"num_hidden": 5, "no_bias": True}, [(2,), (5, 1)], smooth=True),
        Sample(
            {"num_hidden": 5},
            [(2, 3), (5, 3), (5,)],
            dtype="float16",
            wrt=(),
            why="float16 is too coarse for differences",
        ),
    ],
    "_rows": [Sample({}, [(2, 3, 4)], reference=lambda x: x.reshape(6, 4), smooth=True)],
}
