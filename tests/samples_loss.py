"""Samples of loss heads and losses."""

import itertools

import numpy as np
from oracles import special
from samples import Sample

MADE_UP = "the gradient of a loss head is made up, not the derivative of its output"


def head(params, inputs, reference=None, **more):
    """A loss head: only its output can be compared."""
    return Sample(params, inputs, reference=reference, wrt=(), why=MADE_UP, **more)


def labels(*shape, classes):
    """A maker of class numbers, held as floats."""
    return lambda rng: rng.integers(0, classes, shape).astype("float64")


def probabilities(*shape):
    """A maker of rows that sum to 1."""
    return lambda rng: rng.dirichlet(np.ones(shape[-1]), shape[:-1])


def onehot(label, k):
    return (np.arange(k) == label[..., None]).astype(float)


def same(x, *_):
    return x


def cross_entropy_slope(p, label):
    return p - onehot(label, p.shape[-1])


def ignoring(p, label):
    """Label 1 is ignored; the gradient is divided by the number of the others."""
    kept = label != 1
    return 0.5 * cross_entropy_slope(p, label) * kept[:, None] / max(kept.sum(), 1)


def smoothed(p, label):
    target = onehot(label, 5) * (0.9 - 0.1 / 4) + 0.1 / 4
    return (p - target) / 4


def positionwise(p, label):
    """Classes along axis 1, divided by the positions."""
    return (p - np.moveaxis(onehot(label, 5), -1, 1)) / 4


def hinge(x, label):
    sign = 1 - 2 * onehot(label, 4)
    return 2 * 0.5 * sign * np.maximum(0, 0.7 + sign * x)


def hinge_linear(x, label):
    sign = 1 - 2 * onehot(label, 4)
    return sign * (0.7 + sign * x > 0)


def log_sum_over_alignments(x, label, steps, blank):
    """CTC by enumerating all paths, one sample at a time."""
    logs = special.log_softmax(x, -1)
    found = []
    for n, wanted in enumerate(label):
        total = -np.inf
        for path in itertools.product(range(x.shape[2]), repeat=steps[n]):
            merged = [c for c, _ in itertools.groupby(path) if c != blank]
            if merged == list(wanted):
                total = np.logaddexp(total, sum(logs[t, n, c] for t, c in enumerate(path)))
        found.append(-total)
    return np.array(found)


def ctc_first(x, label):
    return log_sum_over_alignments(x, [[1, 2], [2]], [4, 4], 0)


def ctc_last(x, label):
    return log_sum_over_alignments(x, [[0, 0], [1]], [4, 4], 2)


def ctc_lengths(x, label, steps, counts):
    return log_sum_over_alignments(x, [[1], [2, 1]], [3, 4], 0)


CROSS = "softmax_cross_entropy"
BACK = "_backward_SoftmaxOutput"

SAMPLES = {
    "SoftmaxOutput": [
        head({}, [(4, 5), labels(4, classes=5)], lambda x, _: special.softmax(x, 1)),
        head({}, [(2, 3, 4), labels(2, 3, classes=4)]),
        head(
            {"multi_output": True},
            [(3, 5, 4), labels(3, 4, classes=5)],
            lambda x, _: special.softmax(x, 1),
        ),
        head({"multi_output": True}, [(3, 5, 2, 4), labels(3, 1, 2, 4, classes=5)]),
        head(
            {"preserve_shape": True},
            [(2, 3, 4), labels(2, 3, classes=4)],
            lambda x, _: special.softmax(x, -1),
        ),
        head({}, [(2, 3), (2, 3)]),
        head({}, [(2, 3), lambda rng: np.array([1, 2], "float16")], dtype="float16"),
    ],
    BACK: [
        head({}, [probabilities(4, 5), labels(4, classes=5)], cross_entropy_slope),
        head(
            {
                "use_ignore": True,
                "ignore_label": 1,
                "normalization": "valid",
                "grad_scale": 0.5,
            },
            [probabilities(7, 5), labels(7, classes=3)],
            ignoring,
        ),
        head(
            {"smooth_alpha": 0.1, "normalization": "batch"},
            [probabilities(4, 5), labels(4, classes=5)],
            smoothed,
        ),
        head({"multi_output": True}, [(3, 5, 4), labels(3, 4, classes=5)], positionwise),
        head(
            {"multi_output": True, "normalization": "batch"},
            [(3, 5, 4), labels(3, 4, classes=5)],
            lambda p, label: positionwise(p, label) / 3,
        ),
        head(
            {"multi_output": True, "normalization": "valid"},
            [(3, 5, 4), lambda rng: np.array([[1, 2, -1, 0]] * 3, "float64")],
            lambda p, label: 4 * positionwise(p, label) / 9,
        ),
        head(
            {"preserve_shape": True, "normalization": "batch"},
            [probabilities(2, 3, 4), labels(2, 3, classes=4)],
            lambda p, label: cross_entropy_slope(p, label) / 6,
        ),
        head({"grad_scale": 2}, [(2, 3), (2, 3)], lambda p, label: 2 * (p - label)),
        head(
            {"out_grad": True},
            [probabilities(4, 5), labels(4, classes=5), (4, 5)],
            lambda p, label, g: g * cross_entropy_slope(p, label),
        ),
        head({}, [(2, 3, 4), labels(2, 3, classes=4)]),
    ],
    CROSS: [
        Sample(
            {},
            [(4, 5), labels(4, classes=5)],
            wrt=(0,),
            reference=lambda x, n: -(special.log_softmax(x, 1) * onehot(n, 5)).sum()[None],
            smooth=True,
        ),
        Sample(
            {},
            [(2, 3), lambda rng: np.array([1.0, 7.0])],
            reference=lambda x, _: -(special.log_softmax(x, 1)[0, 1] + np.log(1e-8))[None],
            wrt=(),
            why="MXNet gives a label that is no class the gradient p of a constant",
        ),
    ],
    "_backward_softmax_cross_entropy": [
        Sample({}, [(1,), (4, 5), labels(4, classes=5)], wrt=(0, 1), smooth=True)
    ],
    "LinearRegressionOutput": [head({}, [(3, 4), (3, 4)], same), head({}, [(3, 1), (3,)], same)],
    "LogisticRegressionOutput": [
        head({}, [(3, 4), (3, 4)], lambda x, _: special.expit(x)),
        head({"grad_scale": 2}, [(3, 4), (3, 2, 2)], lambda x, _: special.expit(x)),
    ],
    "MAERegressionOutput": [head({}, [(3, 4), (3, 4)], same)],
    "_backward_regression": [
        head({"grad_scale": 0.5, "signs": False}, [(3, 4), (3, 4)], lambda y, n: 0.5 * (y - n) / 4),
        head(
            {"grad_scale": 2, "signs": True},
            [(3, 4), (3, 2, 2)],
            lambda y, n: np.sign(y - n.reshape(3, 4)) / 2,
        ),
        head(
            {"grad_scale": 1, "signs": True},
            [lambda rng: np.ones((2, 1)), lambda rng: np.ones(2)],
            lambda y, n: -y,
        ),
    ],
    "_added_regression": [
        head(
            {"grad_scale": 0.5, "signs": False},
            [(3, 4), (3, 4), (3, 4)],
            lambda y, n, old: (old + y - n) * (1 + 0.5 / 4),
        )
    ],
    "MakeLoss": [head({"normalization": "batch"}, [(3, 4)], same)],
    "_backward_MakeLoss": [
        head({"grad_scale": 3}, [(3, 4)], lambda x: np.full((3, 4), 3.0)),
        head({"normalization": "batch"}, [(3, 4)], lambda x: np.full((3, 4), 1 / 3)),
        head(
            {"normalization": "valid", "valid_thresh": 0.2},
            [(3, 4)],
            lambda x: np.full((3, 4), 1 / (x > 0.2).sum()),
        ),
    ],
    "make_loss": [head({}, [(3, 4)], same)],
    "SVMOutput": [head({}, [(3, 4), labels(3, classes=4)], same)],
    "_backward_SVMOutput": [
        head(
            {"margin": 0.7, "regularization_coefficient": 0.5},
            [(3, 4), labels(3, classes=4)],
            hinge,
        ),
        head({"margin": 0.7, "use_linear": True}, [(3, 4), labels(3, classes=4)], hinge_linear),
    ],
    "IdentityAttachKLSparseReg": [
        Sample(
            {"penalty": 0.01},
            [(3, 4), (4,)],
            low=0.2,
            high=0.8,
            reference=same,
            wrt=(),
            why="the gradient of the penalty is added to that of the output",
        )
    ],
    "CTCLoss": [
        Sample(
            {},
            [(4, 2, 3), lambda rng: np.array([[1.0, 2.0], [2.0, 0.0]])],
            reference=ctc_first,
            wrt=(0,),
        ),
        Sample(
            {"blank_label": "last"},
            [(4, 2, 3), lambda rng: np.array([[0.0, 0.0], [1.0, -1.0]])],
            reference=ctc_last,
            wrt=(0,),
        ),
        Sample(
            {"use_data_lengths": True, "use_label_lengths": True},
            [
                (4, 2, 3),
                lambda rng: np.array([[1, 1], [2, 1]], "int32"),
                lambda rng: np.array([3, 4], "int32"),
                lambda rng: np.array([1, 2], "int32"),
            ],
            reference=ctc_lengths,
            wrt=(0,),
        ),
        Sample(
            {},
            [(3, 2, 4), lambda rng: np.array([[1.0, 1, 2], [0, 0, 0]])],
            reference=lambda x, _: np.array([0, -special.log_softmax(x, -1)[:, 1, 0].sum()]),
            wrt=(0,),
        ),
    ],
}
