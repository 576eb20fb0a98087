"""Samples of normalisations and their gradients."""

import numpy as np
from samples import Sample


def normalized(x, gamma, beta, over, channel, eps):
    """By the definition, for parameters along one axis."""
    shape = [1] * x.ndim
    shape[channel] = -1
    z = (x - x.mean(over, keepdims=True)) / np.sqrt(x.var(over, keepdims=True) + eps)
    return gamma.reshape(shape) * z + beta.reshape(shape)


def batch(axis, over):
    def formula(x, gamma, beta, mean, var):
        inv = 1 / np.sqrt(x.var(over) + 0.001)
        return normalized(x, gamma, beta, over, axis, 0.001), x.mean(over), inv

    return formula


def by_moving_averages(x, gamma, beta, mean, var):
    z = (x - mean.reshape(-1, 1)) / np.sqrt(var.reshape(-1, 1) + 0.01)
    return gamma.reshape(-1, 1) * z + beta.reshape(-1, 1), mean, 1 / np.sqrt(var + 0.01)


def grouped(x, gamma, beta):
    y = normalized(x.reshape(2, 3, 2, 5), gamma, beta, (2, 3), 1, 1e-5)
    return y.reshape(x.shape)


def responses(x):
    """LRN with 3 channels, by the definition."""
    around = np.pad(x**2, [(0, 0), (1, 1), (0, 0), (0, 0)])
    base = 2 + 0.5 / 3 * (around[:, :-2] + around[:, 1:-1] + around[:, 2:])
    return x * base**-0.75, base


def length(x, axes):
    return np.sqrt((x**2).sum(axes, keepdims=True))


def positive(*shape):
    """A maker of variances."""
    return lambda rng: rng.uniform(0.5, 2.0, shape)


FREE = {"fix_gamma": False}
BATCH = [(4, 3, 5), (3,), (3,), (3,), positive(3)]
WRT = (0, 1, 2)
FACTS = {"kind": "batch", "spread": "inv", "eps": 0.001, "scaled": True, "fixed": False}
LAYER = {"kind": "layer", "spread": "std", "axis": -1, "eps": 0.001, "fixed": False}
NONE_YET = "mean and spread count as functions of the data, which differences cannot see"


def heads(*shapes):
    """Inputs of the second gradient: three heads and what the first gradient takes."""
    return [shapes[0], (3,), (3,), shapes[0], shapes[0], (3,), *shapes[1:]]


SAMPLES = {
    "BatchNorm": [
        Sample(FREE, BATCH, reference=batch(1, (0, 2)), wrt=WRT, smooth=True),
        Sample(
            {"output_mean_var": True},
            BATCH,
            wrt=(0, 2),
            reference=lambda x, gamma, beta, *_: normalized(x, gamma**0, beta, (0, 2), 1, 0.001),
        ),
        Sample({"momentum": 0.8, "cudnn_off": True}, BATCH, wrt=(0, 2), smooth=True),
        Sample(
            {**FREE, "use_global_stats": True, "eps": 0.01},
            BATCH,
            reference=by_moving_averages,
            wrt=WRT,
            smooth=True,
        ),
        Sample(
            {**FREE, "axis": -1},
            [(4, 5, 2, 3), (3,), (3,), (3,), positive(3)],
            reference=batch(3, (0, 1, 2)),
            wrt=WRT,
            smooth=True,
        ),
        Sample(
            FREE,
            [
                lambda rng: rng.normal(size=(4, 3)).astype("float16"),
                *(lambda rng: rng.uniform(0.5, 1, 3).astype("float32"),) * 4,
            ],
            wrt=(),
            why="float16 is too coarse for differences",
        ),
    ],
    "_contrib_BatchNormWithReLU": [Sample(FREE, BATCH, wrt=WRT, smooth=True)],
    "_contrib_SyncBatchNorm": [
        Sample({"key": "bn", **FREE}, BATCH, wrt=WRT, smooth=True),
        Sample({"key": "bn", "ndev": 2, "output_mean_var": True}, BATCH, wrt=(0, 2)),
    ],
    "LayerNorm": [
        Sample(
            {},
            [(2, 4, 5), (5,), (5,)],
            reference=lambda x, gamma, beta: normalized(x, gamma, beta, 2, 2, 1e-5),
            smooth=True,
        ),
        Sample(
            {"axis": 1, "eps": 0.01},
            [(2, 4, 5), (4,), (4,)],
            reference=lambda x, gamma, beta: normalized(x, gamma, beta, 1, 1, 0.01),
            smooth=True,
        ),
        Sample({"output_mean_var": True}, [(2, 4, 5), (5,), (5,)]),
        Sample(
            {},
            [(2, 5), (5,), (5,)],
            dtype="float16",
            wrt=(),
            why="float16 is too coarse for differences",
        ),
    ],
    "GroupNorm": [
        Sample({"num_groups": 3}, [(2, 6, 5), (3,), (3,)], reference=grouped, smooth=True),
        Sample({"output_mean_var": True}, [(2, 3, 4, 5), (1,), (1,)]),
    ],
    "InstanceNorm": [
        Sample(
            {},
            [(2, 3, 4, 5), (3,), (3,)],
            reference=lambda x, gamma, beta: normalized(x, gamma, beta, (2, 3), 1, 0.001),
            smooth=True,
        )
    ],
    "_backward_normalize": [
        Sample(FACTS, [(4, 3, 5), (4, 3, 5), (3,), (3,), positive(3)], wrt=(0, 2)),
        Sample(
            {**FACTS, "scaled": False, "fixed": True},
            [(4, 3, 5), (4, 3, 5), (3,), positive(3)],
            wrt=(0, 1),
        ),
        Sample(
            {**LAYER, "scaled": True, "shown": True},
            [(4, 3), (4, 3), (3,), (4, 1), positive(4, 1), (4, 1), (4, 1)],
            wrt=(),
            why="second gradients stop where mean and variance are outputs",
        ),
    ],
    "_backward_backward_normalize": [
        Sample(FACTS, heads((4, 3, 5), (3,), positive(3)), wrt=(), why=NONE_YET),
        Sample(
            {**LAYER, "scaled": True}, heads((4, 3), (4, 1), positive(4, 1)), wrt=(), why=NONE_YET
        ),
    ],
    "BatchNorm_v1": [
        Sample(FREE, BATCH, wrt=WRT, smooth=True),
        Sample({**FREE, "output_mean_var": True}, BATCH, wrt=WRT),
    ],
    "LRN": [
        Sample({"nsize": 3, "alpha": 0.5}, [(2, 5, 3, 4)], reference=responses, smooth=True),
        Sample({"nsize": 7}, [(2, 3, 4)], smooth=True),
    ],
    "_channel_window": [Sample({"nsize": 3}, [(2, 5, 3)], smooth=True)],
    "L2Normalization": [
        Sample({}, [(2, 3, 4)], reference=lambda x: x / length(x, (1, 2)), smooth=True),
        Sample(
            {"mode": "channel"},
            [(2, 3, 4, 5)],
            reference=lambda x: x / length(x, 1),
            smooth=True,
        ),
        Sample(
            {"mode": "spatial", "eps": 1e-3},
            [(2, 3, 4, 5)],
            reference=lambda x: x / np.sqrt(length(x, (2, 3)) ** 2 + 1e-3),
            smooth=True,
        ),
    ],
}
