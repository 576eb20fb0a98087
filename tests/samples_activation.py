"""Samples of activations, softmax and dropout."""

import numpy as np
from oracles import special
from samples import Sample


def away(*shape):
    """A maker of numbers of both signs, none of them near 0."""
    return lambda rng: rng.choice([-1.0, 1.0], shape) * rng.uniform(0.2, 2, shape)


def lengths(rng):
    return np.array([[3, 0, 4], [1, 4, 2]], "int32")


def masked(x, length):
    """Softmax of the first elements of each row."""
    y = np.zeros_like(x)
    for i, j in zip(*length.nonzero(), strict=True):
        y[i, j, : length[i, j]] = special.softmax(x[i, j, : length[i, j]])
    return y


FUNCTIONS = {
    "relu": lambda x: np.maximum(x, 0),
    "sigmoid": special.expit,
    "tanh": np.tanh,
    "softrelu": lambda x: np.logaddexp(0, x),
    "softsign": lambda x: x / (1 + abs(x)),
}
LEAKY = {
    "leaky": lambda x: np.where(x > 0, x, 0.25 * x),
    "elu": lambda x: np.where(x > 0, x, 0.25 * np.expm1(x)),
    "selu": lambda x: 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543773 * np.expm1(x)),
    "gelu": lambda x: x * special.ndtr(x),
}
COARSE = "float16 is too coarse for differences"
DRAWN = "every run draws another mask"

SAMPLES = {
    "Activation": [
        *(
            Sample({"act_type": name}, [away(2, 3, 4)], reference=formula, smooth=True)
            for name, formula in FUNCTIONS.items()
        ),
        Sample(
            {"act_type": "softrelu"}, [(2, 3)], low=-90, high=90, reference=FUNCTIONS["softrelu"]
        ),
        Sample({"act_type": "sigmoid"}, [(2, 3)], dtype="float16", wrt=(), why=COARSE),
    ],
    "LeakyReLU": [
        *(
            Sample({"act_type": name}, [away(2, 3, 4)], reference=formula, smooth=True)
            for name, formula in LEAKY.items()
        ),
        Sample({"slope": 0.1}, [away(2, 3)], reference=lambda x: np.where(x > 0, x, 0.1 * x)),
        Sample(
            {"act_type": "prelu"},
            [away(2, 3, 4), (3,)],
            reference=lambda x, gamma: np.where(x > 0, x, gamma[:, None] * x),
            smooth=True,
        ),
        Sample(
            {"act_type": "prelu"},
            [away(2, 3, 4), (1,)],
            reference=lambda x, gamma: np.where(x > 0, x, gamma * x),
            smooth=True,
        ),
        Sample(
            {"act_type": "prelu"},
            [away(2, 3, 4), (1, 3, 1)],
            reference=lambda x, gamma: np.where(x > 0, x, gamma * x),
        ),
        Sample({"act_type": "prelu"}, [away(4), (1,)]),
        Sample({"act_type": "rrelu", "lower_bound": 0.2}, [away(2, 3)], wrt=(), why=DRAWN),
        Sample({"act_type": "gelu"}, [(2, 3)], dtype="float16", wrt=(), why=COARSE),
    ],
    "_channel_scale": [
        Sample({}, [(2, 3, 4), (3,)], reference=lambda x, g: x * g[:, None], smooth=True)
    ],
    "_channel_sum": [
        Sample({}, [(2, 3, 4), (3,)], reference=lambda x, g: x.sum((0, 2)), wrt=(0,), smooth=True),
        Sample({}, [(2, 3, 4), (1,)], reference=lambda x, g: x.sum()[None], wrt=(0,), smooth=True),
    ],
    "SoftmaxActivation": [
        Sample(
            {},
            [(2, 3, 4)],
            reference=lambda x: special.softmax(x, (1, 2)),
            smooth=True,
        ),
        Sample(
            {"mode": "channel"},
            [(2, 3, 4)],
            reference=lambda x: special.softmax(x, 1),
            smooth=True,
        ),
    ],
    "softmax": [
        Sample({}, [(2, 3, 4)], reference=lambda x: special.softmax(x, -1), smooth=True),
        Sample(
            {"axis": 1, "temperature": 2.5},
            [(2, 3, 4)],
            reference=lambda x: special.softmax(x / 2.5, 1),
            smooth=True,
        ),
        Sample({"use_length": True}, [(2, 3, 4), lengths], reference=masked, smooth=True),
        Sample(
            {"use_length": True, "axis": 1},
            [(2, 4, 3), lambda rng: np.array([[3, 1, 4], [1, 4, 2]], "float64")],
            reference=lambda x, n: masked(x.swapaxes(1, 2), n.astype(int)).swapaxes(1, 2),
            wrt=(0,),
        ),
        Sample({"dtype": "float64"}, [(2, 3)], dtype="float32", wrt=(), why="float32 data"),
        Sample({}, [(2, 3)], dtype="float16", wrt=(), why=COARSE),
    ],
    "softmin": [
        Sample({"axis": 0}, [(2, 3)], reference=lambda x: special.softmax(-x, 0), smooth=True),
        Sample({"temperature": 0.5}, [(2, 3)], reference=lambda x: special.softmax(-2 * x, -1)),
    ],
    "log_softmax": [
        Sample({}, [(2, 3, 4)], reference=lambda x: special.log_softmax(x, -1), smooth=True),
        Sample(
            {"axis": 1, "temperature": 0.5},
            [(2, 3, 4)],
            reference=lambda x: special.log_softmax(2 * x, 1),
            smooth=True,
        ),
        Sample({"dtype": "float32"}, [(2, 3)], dtype="float16", wrt=(), why=COARSE),
    ],
    "_backward_softmax": [
        Sample({"axis": -1, "scale": 0.5}, [(2, 3, 4), (2, 3, 4)], smooth=True),
        Sample({"axis": 1, "flatten": True}, [(2, 3, 4), (2, 3, 4)], smooth=True),
    ],
    "_backward_log_softmax": [
        Sample({"axis": 1, "scale": 0.5}, [(2, 3, 4), (2, 3, 4)], smooth=True)
    ],
    "Dropout": [
        Sample({"p": 0.3}, [(3, 4, 5)]),
        Sample({"axes": (0, -1)}, [(3, 4, 5)]),
        Sample({"p": 0, "mode": "always"}, [(3, 4)], reference=lambda x: (x, x**0)),
        Sample({"p": 1.0}, [(3, 4)], reference=lambda x: (0 * x, 0 * x)),
        Sample({"cudnn_off": None}, [(3, 4)], dtype="float16", wrt=(), why=COARSE),
    ],
}
