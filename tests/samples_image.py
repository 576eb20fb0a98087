"""Samples of image ops."""

from __future__ import annotations

from typing import Any

import numpy as np
from samples import Sample

RANDOM = "random change of pixels"
FACTORS = {"min_factor": 0.5, "max_factor": 1.5}


def pixels(rng: np.random.Generator) -> Any:
    return rng.integers(0, 256, (4, 5, 3)).astype("uint8")


def changed(params: dict[str, Any], why: str = RANDOM) -> list[Sample]:
    return [
        Sample(params, [pixels], wrt=(), why=why),
        Sample(params, [(4, 5, 3)], low=0, high=255, wrt=(), why=why),
    ]


RECTANGLE = {"x": 1, "y": 2, "width": 3, "height": 2}

SAMPLES = {
    "_image_to_tensor": [
        Sample(
            {},
            [pixels],
            reference=lambda x: (x.transpose(2, 0, 1) / 255).astype("float32"),
            wrt=(),
            why="whole numbers",
        ),
        Sample({}, [(2, 4, 5, 3)], wrt=(), why="computes in float32: see the gradient op below"),
    ],
    "_backward_image_to_tensor": [
        Sample(
            {},
            [lambda rng: rng.normal(size=(3, 4, 5)).astype("float32"), (4, 5, 3)],
            reference=lambda g, x: (g.transpose(1, 2, 0) / np.float32(255)).astype("float64"),
            wrt=(),
            why="computes in float32",
        )
    ],
    "_image_normalize": [
        Sample({"mean": (0.4, 0.5, 0.6), "std": (0.2, 0.3, 0.25)}, [(3, 4, 5)], smooth=True),
        Sample({"mean": 0.5, "std": 2}, [(2, 3, 4, 5)], reference=lambda x: (x - 0.5) / 2),
    ],
    "_image_resize": [
        Sample({"size": (7, 6)}, [(4, 5, 3)], wrt=(), why="not differentiable"),
        Sample({"size": 3, "keep_ratio": True}, [(2, 7, 5, 3)], wrt=(), why="not differentiable"),
        Sample({"size": 8, "interp": 0}, [pixels], wrt=(), why="whole numbers"),
    ],
    "_image_crop": [
        Sample(RECTANGLE, [(4, 5, 3)], reference=lambda x: x[2:4, 1:4], smooth=True),
        Sample(RECTANGLE, [(2, 4, 5, 3)]),
    ],
    "_backward_image_crop": [Sample(RECTANGLE, [(2, 3, 4), (5, 6, 4)], wrt=(0,), smooth=True)],
    "_image_flip_left_right": [Sample({}, [(4, 5, 3)], reference=lambda x: x[:, ::-1])],
    "_image_flip_top_bottom": [Sample({}, [(4, 5, 3)], reference=lambda x: x[::-1])],
    "_image_random_brightness": changed(FACTORS),
    "_image_random_contrast": changed(FACTORS),
    "_image_random_saturation": changed(FACTORS),
    "_image_random_hue": changed({"min_factor": -0.1, "max_factor": 0.1}),
    "_image_random_color_jitter": changed(
        {"brightness": 0.2, "contrast": 0.3, "saturation": 0.4, "hue": 0.1}
    ),
    "_image_adjust_lighting": changed({"alpha": (0.1, -0.2, 0.3)}, "not differentiable"),
    "_image_random_lighting": changed({}),
    "_image_random_flip_left_right": changed({}),
    "_image_random_flip_top_bottom": changed({}),
}
