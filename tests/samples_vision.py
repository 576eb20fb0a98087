"""Samples of resizing, sampling on grids, correlation and regions of interest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from samples import Sample

ONCE = "second order is not offered"


def rois(n: int, size: float) -> Callable[[np.random.Generator], Any]:
    """Boxes around, beside and across the border of images of that size, for two images."""

    def make(rng: np.random.Generator) -> Any:
        x, y = np.sort(rng.uniform(-1, size, (2, n, 2)), axis=-1)
        image = rng.integers(0, 2, n)
        return np.stack([image, x[:, 0], y[:, 0], x[:, 1], y[:, 1]], axis=1)

    return make


def grid(*shape: int) -> Callable[[np.random.Generator], Any]:
    return lambda rng: rng.uniform(-1.2, 1.2, shape)


def affine(n: int) -> Callable[[np.random.Generator], Any]:
    return lambda rng: (
        np.tile([0.7, 0.1, 0.05, -0.2, 0.8, 0.1], (n, 1)) + rng.normal(0, 0.05, (n, 6))
    )


def pooled(x: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    h, w = x.shape[2:]
    out = np.zeros((*x.shape[:2], *size))
    for i in range(size[0]):
        for j in range(size[1]):
            rows = slice(i * h // size[0], -(-(i + 1) * h // size[0]))
            columns = slice(j * w // size[1], -(-(j + 1) * w // size[1]))
            out[:, :, i, j] = x[:, :, rows, columns].mean(axis=(2, 3))
    return out


def correlated(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """kernel_size=1, max_displacement=1, pad_size=1."""
    h, w = a.shape[2:]
    b = np.pad(b, ((0, 0), (0, 0), (1, 1), (1, 1)))
    shifts = [(dy, dx) for dy in range(3) for dx in range(3)]
    return np.stack([(a * b[:, :, y : y + h, x : x + w]).mean(axis=1) for y, x in shifts], axis=1)


def roi_pooled(x: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """pooled_size=(2, 3), spatial_scale=0.5."""
    out = np.zeros((len(boxes), x.shape[1], 2, 3))
    for r, (image, *corners) in enumerate(boxes):
        x1, y1, x2, y2 = np.floor(np.array(corners) * 0.5 + 0.5).astype(int)
        height, width = max(y2 - y1 + 1, 1) / 2, max(x2 - x1 + 1, 1) / 3
        for i in range(2):
            for j in range(3):
                top, bottom = int(np.floor(i * height)) + y1, int(np.ceil((i + 1) * height)) + y1
                left, right = int(np.floor(j * width)) + x1, int(np.ceil((j + 1) * width)) + x1
                part = x[int(image), :, max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
                if part.size:
                    out[r, :, i, j] = part.max(axis=(1, 2))
    return out


POOL = {"pooled_size": (2, 3), "spatial_scale": 0.5}
AFFINE = {"transform_type": "affine", "target_shape": (4, 3)}
WARP = {"transform_type": "warp"}
SCALES = {"mode": "odd_scale", "scale_height": 1.5, "scale_width": 0.6}
RESIZE_MODES = ("to_even_down", "to_even_up", "to_odd_down", "to_odd_up")
CORRELATION = {"kernel_size": 3, "max_displacement": 2, "pad_size": 3}
STRIDED = {"max_displacement": 3, "pad_size": 3, "stride1": 2, "stride2": 2}

SAMPLES = {
    "_contrib_AdaptiveAvgPooling2D": [
        Sample({}, [(2, 3, 4, 5)], reference=lambda x: pooled(x, (1, 1)), smooth=True),
        Sample(
            {"output_size": (2, 3)},
            [(2, 4, 5, 7)],
            reference=lambda x: pooled(x, (2, 3)),
            smooth=True,
        ),
        Sample({"output_size": 6}, [(1, 2, 4, 5)], reference=lambda x: pooled(x, (6, 6))),
    ],
    "_backward_contrib_AdaptiveAvgPooling2D": [
        Sample({"output_size": (2, 3)}, [(1, 4, 2, 3), (1, 4, 5, 7)], wrt=(0,), smooth=True)
    ],
    "_contrib_BilinearResize2D": [
        Sample({"height": 7, "width": 3}, [(1, 2, 4, 5)], smooth=True),
        Sample({"height": 7, "width": 3, "align_corners": False}, [(1, 2, 4, 5)], smooth=True),
        Sample({"scale_height": 1.5, "scale_width": 0.5}, [(1, 2, 4, 6)]),
        Sample(SCALES, [(1, 2, 4, 7)]),
        Sample({"mode": "like"}, [(1, 2, 4, 5), (1, 3, 6, 7)], wrt=(0,), smooth=True),
        *(Sample({"mode": mode}, [(1, 2, 4, 5)]) for mode in RESIZE_MODES),
    ],
    "_backward_contrib_BilinearResize2D": [
        Sample({}, [(1, 2, 7, 3), (1, 2, 4, 5)], wrt=(0,), smooth=True),
        Sample({"align_corners": False}, [(1, 2, 7, 3), (1, 2, 4, 5)], wrt=(0,), smooth=True),
    ],
    "GridGenerator": [Sample(AFFINE, [(2, 6)], smooth=True), Sample(WARP, [(3, 2, 4, 5)])],
    "_backward_GridGenerator": [
        Sample(AFFINE, [(3, 2, 4, 3)], smooth=True),
        Sample(WARP, [(3, 2, 4, 5)], smooth=True),
    ],
    "BilinearSampler": [Sample({}, [(3, 4, 5, 6), grid(3, 2, 4, 7)], tol=1e-5)],
    "_backward_BilinearSampler": [
        Sample({}, [(2, 3, 4, 7), (2, 3, 5, 6), grid(2, 2, 4, 7)], wrt=(), why=ONCE)
    ],
    "SpatialTransformer": [
        Sample({**AFFINE, "sampler_type": "bilinear"}, [(2, 3, 5, 6), affine(2)], tol=1e-5)
    ],
    "Correlation": [
        Sample({"pad_size": 1}, [(2, 3, 4, 5), (2, 3, 4, 5)], reference=correlated),
        Sample(CORRELATION, [(2, 3, 4, 5), (2, 3, 4, 5)]),
        Sample(STRIDED, [(1, 2, 7, 6), (1, 2, 7, 6)]),
        Sample({**STRIDED, "is_multiply": False}, [(1, 2, 7, 6), (1, 2, 7, 6)]),
    ],
    "_backward_Correlation": [
        Sample(CORRELATION, [(2, 25, 4, 5), (2, 3, 4, 5), (2, 3, 4, 5)], wrt=(), why=ONCE)
    ],
    "ROIPooling": [Sample(POOL, [(2, 3, 7, 6), rois(4, 12)], reference=roi_pooled, wrt=(0,))],
    "_backward_ROIPooling": [
        Sample(
            POOL,
            [
                (4, 3, 2, 3),
                (2, 3, 7, 6),
                rois(4, 12),
                lambda rng: rng.integers(-1, 42, (4, 3, 2, 3)).astype("float64"),
            ],
            wrt=(),
            why=ONCE,
        )
    ],
    "_contrib_ROIAlign": [
        Sample(POOL, [(2, 4, 7, 6), rois(5, 12)], wrt=(0,), smooth=True),
        Sample({**POOL, "sample_ratio": 2, "aligned": True}, [(2, 4, 7, 5), rois(3, 12)], wrt=(0,)),
        Sample(
            {**POOL, "sample_ratio": 3, "position_sensitive": True},
            [(2, 12, 7, 5), rois(3, 12)],
            wrt=(0,),
            smooth=True,
        ),
    ],
    "_backward_ROIAlign": [
        Sample(POOL, [(5, 4, 2, 3), (2, 4, 7, 6), rois(5, 12)], wrt=(0,), smooth=True)
    ],
}
