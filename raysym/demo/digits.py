"""The data: scikit-learn's bundled handwritten digits, split into a training and a test set."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from raysym.errors import MXNetError

Array: TypeAlias = "np.ndarray[Any, Any]"

TEST_SHARE = 5  # every fifth image of each class is held out
SIDE, LARGEST = 8, 16  # images are 8 x 8 pixels with values from 0 to 16


@dataclass(frozen=True)
class Digits:
    """Images ``f32[n,1,8,8]`` from 0 to 1 and labels ``f32[n]`` from 0 to 9."""

    train_images: Array
    train_labels: Array
    test_images: Array
    test_labels: Array


def load_digits(seed: int) -> Digits:
    """The digits in random order, the classes equally frequent in both sets.

    Raises MXNetError when scikit-learn, which brings the data, is not installed.
    """
    try:
        datasets = importlib.import_module("sklearn.datasets")
    except ImportError:
        raise MXNetError(
            "demo: scikit-learn, which brings the digits, is not installed: "
            "pip install 'raysym[demo]'"
        ) from None
    images, labels = datasets.load_digits(return_X_y=True)
    images = (images / LARGEST).astype(np.float32).reshape(-1, 1, SIDE, SIDE)
    held_out, kept = _split(labels, np.random.default_rng(seed))
    labels = labels.astype(np.float32)
    return Digits(images[kept], labels[kept], images[held_out], labels[held_out])


def _split(labels: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """Positions of the test set and of the training set."""
    order = rng.permutation(len(labels))
    rank_in_class = np.empty(len(labels), dtype=int)
    for digit in np.unique(labels):
        own = order[labels[order] == digit]
        rank_in_class[own] = np.arange(len(own))
    is_test = rank_in_class[order] % TEST_SHARE == 0
    return order[is_test], order[~is_test]
