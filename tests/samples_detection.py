"""Samples of boxes, anchors, detections and proposals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from samples import Sample

ZERO = "the gradient is zero"
Maker = Callable[[np.random.Generator], Any]


def boxes(*lead: int) -> Maker:
    def make(rng: np.random.Generator) -> Any:
        low = rng.uniform(0, 0.6, (*lead, 2))
        return np.concatenate([low, low + rng.uniform(0.05, 0.4, (*lead, 2))], axis=-1)

    return make


def rows(*lead: int) -> Maker:
    def make(rng: np.random.Generator) -> Any:
        # Classes are truncated: between whole numbers a small step does not change them.
        kind = rng.integers(-1, 3, (*lead, 1)) + 0.5
        return np.concatenate([kind, rng.uniform(0, 1, (*lead, 1)), boxes(*lead)(rng)], axis=-1)

    return make


def labels(n: int, count: int) -> Maker:
    def make(rng: np.random.Generator) -> Any:
        made = np.concatenate([rng.integers(0, 3, (n, count, 1)), boxes(n, count)(rng)], axis=-1)
        made[0, 2:] = -1
        return made

    return make


def shares(*shape: int) -> Maker:
    def make(rng: np.random.Generator) -> Any:
        parts = rng.uniform(0.1, 1, shape)
        return parts / parts.sum(axis=1, keepdims=True)

    return make


def whole(low: int, high: int, *shape: int) -> Maker:
    return lambda rng: rng.integers(low, high, shape).astype("float64")


def iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    out = np.zeros((len(a), len(b)))
    for i, (ax, ay, ar, ab) in enumerate(a):
        for j, (bx, by, br, bb) in enumerate(b):
            shared = max(min(ar, br) - max(ax, bx), 0) * max(min(ab, bb) - max(ay, by), 0)
            out[i, j] = shared / ((ar - ax) * (ab - ay) + (br - bx) * (bb - by) - shared)
    return out


def matched(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """threshold=0.3."""
    row, column = np.full(scores.shape[0], -1.0), np.full(scores.shape[1], -1.0)
    for at in np.argsort(-scores, axis=None):
        i, j = divmod(int(at), scores.shape[1])
        if row[i] < 0 and column[j] < 0 and scores[i, j] > 0.3:
            row[i], column[j] = j, i
    return row, column


def sample(params: dict[str, Any], inputs: list[Any], **more: Any) -> Sample:
    return Sample(params, inputs, wrt=(), why=ZERO, **more)


def proposals(n: int, k: int) -> list[Any]:
    size = lambda rng: np.tile([50.0, 60.0, 1.5], (n, 1))  # noqa: E731  (a maker like the others)
    return [shares(n, 2 * k, 4, 5), (n, 4 * k, 4, 5), size]


SMALL = {"scales": (1, 2), "ratios": (0.5, 1.3), "rpn_post_nms_top_n": 6, "rpn_min_size": 4}

SAMPLES = {
    "_contrib_box_iou": [
        sample({}, [boxes(4), boxes(3)], reference=iou),
        sample({"format": "center"}, [boxes(2, 5), boxes(3)]),
    ],
    "_contrib_box_nms": [
        Sample({"id_index": 0, "overlap_thresh": 0.3}, [rows(2, 9)]),
        Sample({"overlap_thresh": 0.2, "topk": 5, "valid_thresh": 0.1}, [rows(11)]),
        Sample(
            {"out_format": "center", "force_suppress": True},
            [rows(7)],
            wrt=(),
            why=("the gradient goes back as it came, without the conversion, as in MXNet"),
        ),
    ],
    "_backward_contrib_box_nms": [
        Sample(
            {},
            [(2, 4, 6), lambda rng: np.array([[[2], [0], [-1], [-1]], [[3], [1], [0], [-1.0]]])],
            wrt=(),
            why="second order is not offered",
        )
    ],
    "_contrib_bipartite_matching": [
        sample({"threshold": 0.3}, [(4, 6)], low=0, reference=matched),
        sample({"threshold": 0.6, "is_ascend": True, "topk": 2}, [(2, 5, 3)], low=0),
    ],
    "_contrib_box_encode": [
        sample(
            {},
            [whole(-1, 2, 2, 5), whole(0, 3, 2, 5), boxes(2, 5), boxes(2, 3), (4,), boxes()],
        )
    ],
    "_contrib_box_decode": [
        sample({"std0": 0.1, "std1": 0.2, "std2": 0.3, "std3": 0.4}, [(2, 5, 4), boxes(1, 5)]),
        sample({"format": "corner", "clip": 0.5}, [(2, 5, 4), boxes(1, 5)]),
    ],
    "_contrib_MultiBoxPrior": [
        sample({"sizes": (0.5, 0.3), "ratios": (1, 2, 0.5)}, [(2, 3, 4, 5)]),
        sample({"clip": True, "steps": (0.3, 0.2), "offsets": (0.1, 0.7)}, [(2, 3, 4, 5)]),
    ],
    "_contrib_MultiBoxTarget": [
        sample({}, [boxes(1, 9), labels(2, 4), (2, 3, 9)]),
        sample(
            {"negative_mining_ratio": 1.5, "overlap_threshold": 0.3},
            [boxes(1, 9), labels(2, 4), (2, 3, 9)],
        ),
    ],
    "_contrib_MultiBoxDetection": [
        sample({}, [shares(2, 4, 9), (2, 36), boxes(1, 9)]),
        sample(
            {"nms_topk": 5, "force_suppress": True, "clip": False},
            [shares(2, 4, 9), (2, 36), boxes(1, 9)],
        ),
    ],
    "_contrib_Proposal": [sample({**SMALL, "output_score": True}, proposals(1, 4))],
    "_contrib_MultiProposal": [
        sample(SMALL, proposals(2, 4)),
        sample({**SMALL, "iou_loss": True, "rpn_pre_nms_top_n": 20}, proposals(3, 4)),
    ],
}
