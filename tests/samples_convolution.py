"""Samples of convolution and its gradients, deconvolution and up-sampling."""

from itertools import product

import numpy as np
from samples import Sample


def naive(x, w, bias=None, *, stride, dilate, pad, groups=1):
    """Convolution by the definition, one tap of one filter at a time."""
    rank = x.ndim - 2
    x = np.pad(x, [(0, 0), (0, 0), *((p, p) for p in pad)])
    span = [d * (k - 1) + 1 for d, k in zip(dilate, w.shape[2:], strict=True)]
    sizes = [(n - m) // s + 1 for n, m, s in zip(x.shape[2:], span, stride, strict=True)]
    y = np.zeros((x.shape[0], w.shape[0], *sizes))
    each = w.shape[0] // groups
    for f, c, tap in product(
        range(w.shape[0]), range(w.shape[1]), product(*map(range, w.shape[2:]))
    ):
        places = tuple(
            slice(tap[i] * dilate[i], tap[i] * dilate[i] + stride[i] * sizes[i], stride[i])
            for i in range(rank)
        )
        y[:, f] += w[(f, c, *tap)] * x[(slice(None), f // each * w.shape[1] + c, *places)]
    return y if bias is None else y + bias.reshape(-1, *(1,) * rank)


def nhwc(x, w, bias):
    """The same with the channels last."""
    y = naive(
        np.moveaxis(x, -1, 1), np.moveaxis(w, -1, 1), bias, stride=(2, 1), dilate=(1, 2), pad=(1, 0)
    )
    return np.moveaxis(y, 1, -1)


PLAIN = {"kernel": (3, 2), "stride": (2, 1), "dilate": (1, 2), "pad": (1, 2)}
GROUPED = {"kernel": (3,), "num_group": 2, "pad": (1,)}
LAST = {"kernel": (3, 2), "stride": (2, 1), "dilate": (1, 2), "pad": (1, 0), "layout": "NHWC"}

SAMPLES = {
    "Convolution": [
        Sample(
            {**PLAIN, "num_filter": 4},
            [(2, 3, 7, 6), (4, 3, 3, 2), (4,)],
            reference=lambda x, w, b: naive(x, w, b, stride=(2, 1), dilate=(1, 2), pad=(1, 2)),
            smooth=True,
        ),
        Sample(
            {**GROUPED, "num_filter": 6, "no_bias": True},
            [(3, 4, 7), (6, 2, 3)],
            reference=lambda x, w: naive(x, w, stride=(1,), dilate=(1,), pad=(1,), groups=2),
            smooth=True,
        ),
        Sample(
            {"kernel": (2, 1, 3), "num_filter": 5},
            [(2, 3, 4, 6, 7), (5, 3, 2, 1, 3), (5,)],
            reference=lambda x, w, b: naive(
                x, w, b, stride=(1, 1, 1), dilate=(1, 1, 1), pad=(0, 0, 0)
            ),
        ),
        Sample(
            {"kernel": (1, 1), "stride": (2, 3), "num_filter": 5},
            [(2, 3, 6, 7), (5, 3, 1, 1), (5,)],
            reference=lambda x, w, b: naive(x, w, b, stride=(2, 3), dilate=(1, 1), pad=(0, 0)),
            smooth=True,
        ),
        Sample(
            {"kernel": (3, 3), "pad": (1, 1), "num_filter": 3, "num_group": 3, "no_bias": True},
            [(2, 3, 5, 6), (3, 1, 3, 3)],
            reference=lambda x, w: naive(x, w, stride=(1, 1), dilate=(1, 1), pad=(1, 1), groups=3),
        ),
        Sample({**LAST, "num_filter": 4}, [(2, 7, 6, 3), (4, 3, 2, 3), (4,)], reference=nhwc),
        Sample(
            {"kernel": (3,), "num_filter": 2, "workspace": 64, "cudnn_tune": "off"},
            [(2, 3, 5), (2, 3, 3), (2,)],
            dtype="float16",
            wrt=(),
            why="float16 is too coarse for differences",
        ),
    ],
    "_convolve": [
        Sample(PLAIN, [(2, 3, 7, 6), (4, 3, 3, 2)], smooth=True),
        Sample(LAST, [(2, 7, 6, 3), (4, 3, 2, 3)], smooth=True),
    ],
    "_backward_Convolution_data": [
        Sample(PLAIN, [(2, 4, 4, 8), (4, 3, 3, 2), (2, 3, 7, 6)], wrt=(0, 1), smooth=True),
        Sample({**GROUPED, "spatial": (7,)}, [(3, 6, 7), (6, 2, 3)], smooth=True),
        Sample(LAST, [(2, 4, 4, 4), (4, 3, 2, 3), (2, 7, 6, 3)], wrt=(0, 1), smooth=True),
    ],
    "_backward_Convolution_weight": [
        Sample(PLAIN, [(2, 4, 4, 8), (2, 3, 7, 6)], smooth=True),
        Sample(GROUPED, [(3, 6, 7), (3, 4, 7)], smooth=True),
        Sample(LAST, [(2, 4, 4, 4), (2, 7, 6, 3)], smooth=True),
    ],
}
