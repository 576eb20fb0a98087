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


def transposed(x, w, sizes, *, stride, dilate, pad):
    """Transposed convolution by the definition: every cell adds its kernel to the output."""
    spans = [d * (k - 1) + 1 for d, k in zip(dilate, w.shape[2:], strict=True)]
    full = [s * (n - 1) + m for s, n, m in zip(stride, x.shape[2:], spans, strict=True)]
    sizes = list(sizes)
    y = np.zeros(
        (x.shape[0], w.shape[1], *(max(f, n + p) for f, n, p in zip(full, sizes, pad, strict=True)))
    )
    for place in np.ndindex(*x.shape[2:]):
        for tap in np.ndindex(*w.shape[2:]):
            at = tuple(i * s + k * d for i, s, k, d in zip(place, stride, tap, dilate, strict=True))
            cells = x[(slice(None), slice(None), *place)] @ w[(slice(None), slice(None), *tap)]
            y[(slice(None), slice(None), *at)] += cells
    return y[
        (slice(None), slice(None), *(slice(p, p + n) for p, n in zip(pad, sizes, strict=True)))
    ]


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
        Sample(PLAIN, [(2, 5, 7, 6), (4, 5, 3, 2)], smooth=True),
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
    "Deconvolution": [
        Sample({"kernel": (3, 2), "num_filter": 6}, [(2, 5, 3, 4), (5, 6, 3, 2)], smooth=True),
        Sample(
            {**PLAIN, "num_filter": 3, "no_bias": False, "adj": (1, 0)},
            [(2, 4, 3, 5), (4, 3, 3, 2), (3,)],
            reference=lambda x, w, b: (
                transposed(x, w, (6, 3), stride=(2, 1), dilate=(1, 2), pad=(1, 2))
                + b.reshape(-1, 1, 1)
            ),
            smooth=True,
        ),
        Sample({**GROUPED, "num_filter": 6}, [(3, 4, 7), (4, 3, 3)], smooth=True),
        Sample(
            {"kernel": (3, 2), "stride": (2, 3), "target_shape": (6, 8), "num_filter": 3},
            [(2, 4, 3, 5), (4, 3, 3, 2)],
            reference=lambda x, w: transposed(
                x, w, (6, 8), stride=(2, 3), dilate=(1, 1), pad=(1, 3)
            ),
            smooth=True,
        ),
        Sample({**LAST, "num_filter": 3}, [(2, 4, 5, 4), (4, 3, 2, 3)], smooth=True),
    ],
    "_backward_Deconvolution_data": [
        Sample(
            {**PLAIN, "num_filter": 3},
            [(2, 3, 5, 3), (4, 3, 3, 2), (2, 4, 3, 5)],
            wrt=(0, 1),
            smooth=True,
        ),
        Sample(
            {
                "kernel": (3,),
                "stride": (2,),
                "target_shape": (6,),
                "num_filter": 5,
                "spatial": (3,),
            },
            [(2, 5, 6), (4, 5, 3)],
            smooth=True,
        ),
    ],
    "_backward_Deconvolution_weight": [
        Sample({**PLAIN, "num_filter": 3}, [(2, 3, 5, 3), (2, 4, 3, 5)], smooth=True)
    ],
    "UpSampling": [
        Sample(
            {"scale": 2, "sample_type": "nearest", "num_args": 1},
            [(2, 3, 4, 5)],
            reference=lambda x: x.repeat(2, 2).repeat(2, 3),
            smooth=True,
        ),
        Sample(
            {"scale": 2, "sample_type": "nearest", "num_args": 2},
            [(2, 3, 4, 6), (2, 5, 2, 3)],
            reference=lambda x, y: np.concatenate(
                [x.repeat(2, 2).repeat(2, 3), y.repeat(4, 2).repeat(4, 3)], axis=1
            ),
            smooth=True,
        ),
        Sample(
            {"scale": 3, "sample_type": "nearest", "num_args": 2, "multi_input_mode": "sum"},
            [(2, 5, 2, 4), (2, 5, 1, 2)],
            reference=lambda x, y: x.repeat(3, 2).repeat(3, 3) + y.repeat(6, 2).repeat(6, 3),
            smooth=True,
        ),
        Sample(
            {"scale": 3, "sample_type": "bilinear", "num_args": 1, "num_filter": 3},
            [(2, 3, 4, 6), (3, 1, 5, 5)],
            reference=lambda x, w: np.concatenate(
                [
                    transposed(
                        x[:, [c]], w[[c]], (12, 18), stride=(3, 3), dilate=(1, 1), pad=(1, 1)
                    )
                    for c in range(3)
                ],
                axis=1,
            ),
            smooth=True,
        ),
    ],
    "_enlarge": [Sample({}, [(2, 3, 4, 5), (2, 3, 8, 15)], wrt=(0,), smooth=True)],
    "_backward_UpSampling": [
        Sample({}, [(2, 3, 8, 15), (2, 3, 4, 5)], wrt=(0,), smooth=True),
        Sample(
            {"spatial": (2, 5)},
            [(2, 3, 4, 5)],
            reference=lambda g: g.reshape(2, 3, 2, 2, 5).sum(3),
        ),
    ],
    "Convolution_v1": [
        Sample(
            {"kernel": (3, 2), "num_filter": 4, "stride": (2, 1)},
            [(2, 5, 7, 6), (4, 5, 3, 2), (4,)],
            reference=lambda x, w, b: naive(x, w, b, stride=(2, 1), dilate=(1, 1), pad=(0, 0)),
        )
    ],
}
