"""Region proposals of a detector: anchors moved by predictions, filtered, doubles removed.

Ren et al., "Faster R-CNN" (2015). Boxes are corners in cells of the image, both included.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from raysym.errors import RuleError
from raysym.op import Cost, Op, Shapes, Types, register, total_bytes
from raysym.ops.boxes import suppress, take_rows
from raysym.ops.spatial import need
from raysym.params import Floats, param
from raysym.types import unify


def base_anchors(stride: int, ratios: Floats, scales: Floats) -> Any:
    """``(ratios * scales, 4)``: boxes around the first cell."""
    center = 0.5 * (stride - 1)
    made = []
    for ratio in ratios:
        # Rounded as in MXNet.
        width = math.floor(math.sqrt(math.floor(stride * stride / ratio)) + 0.5)
        height = math.floor(width * ratio + 0.5)
        for scale in scales:
            half = np.array([width * scale - 1, height * scale - 1]) / 2
            made.append([*(center - half), *(center + half)])
    return np.array(made)


class _Proposals(Op):
    """Parameters, shapes and kernel of both proposal ops."""

    kinds = "f"
    inputs = ("cls_prob", "bbox_pred", "im_info")
    outputs = ("output", "score")
    zero_gradient = True
    rpn_pre_nms_top_n: int = param(6000, doc="How many of the best boxes go into suppression.")
    rpn_post_nms_top_n: int = param(300, low=1, doc="How many boxes come out for each image.")
    threshold: float = param(0.7, doc="Boxes that overlap a better one by more are dropped.")
    rpn_min_size: int = param(16, doc="Boxes narrower or lower than this get the worst score.")
    scales: Floats = param((4.0, 8.0, 16.0, 32.0), doc="Sizes of anchors in strides.")
    ratios: Floats = param((0.5, 1.0, 2.0), doc="Ratios of height to width.")
    feature_stride: int = param(16, low=1, doc="Cells of the image for one of the feature map.")
    output_score: bool = param(False, doc="Whether the scores are visible as a second output.")
    iou_loss: bool = param(False, doc="Whether predictions are shifts of the corners, not encoded.")

    def check(self) -> None:
        if not self.scales or not self.ratios:
            raise RuleError("scales and ratios need a number each")

    def n_visible(self) -> int:
        return 2 if self.output_score else 1

    @property
    def n_anchors(self) -> int:
        """Anchors at each cell."""
        return len(self.scales) * len(self.ratios)

    def batch(self, n: int) -> int:
        """Images of which boxes come out, from those that went in."""
        return n

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        k = self.n_anchors
        cls = need(ins[0], 4, "cls_prob", axis1=2 * k)
        if cls is None:
            return ins, outs
        n, _, h, w = cls
        boxes = unify(ins[1], (n, 4 * k, h, w), "shape of bbox_pred")
        info = unify(ins[2], (n, 3), "shape of im_info")
        rows = self.batch(n) * self.rpn_post_nms_top_n
        return [cls, boxes, info], [(rows, 5), (rows, 1)]

    def forward(self, xp: Any, cls_prob: Any, bbox_pred: Any, im_info: Any) -> Any:
        n, _, h, w = cls_prob.shape
        k = self.n_anchors
        score = cls_prob[:, k:].transpose(0, 2, 3, 1).reshape(n, -1)
        deltas = bbox_pred.reshape(n, k, 4, h, w).transpose(0, 3, 4, 1, 2).reshape(n, -1, 4)
        boxes = self._moved(xp, self._anchors(xp, h, w, deltas.dtype), deltas)
        size = im_info[:, None, :2][..., ::-1]  # width, height
        last = xp.concatenate([size, size], axis=-1) - 1
        boxes = xp.minimum(xp.maximum(boxes, 0), last)
        boxes, score = self._filtered(xp, boxes, score, im_info, (h, w))
        rois, scores = self._best(xp, boxes, score)
        image = xp.repeat(xp.arange(self.batch(n)), self.rpn_post_nms_top_n)[:, None]
        made = xp.concatenate([image.astype(rois.dtype), rois.reshape(-1, 4)], axis=1)
        return made.astype(cls_prob.dtype), scores.reshape(-1, 1).astype(cls_prob.dtype)

    def _anchors(self, xp: Any, h: int, w: int, dtype: Any) -> Any:
        base = base_anchors(self.feature_stride, self.ratios, self.scales)
        x, y = np.meshgrid(np.arange(w), np.arange(h))
        shift = np.stack([x, y, x, y], axis=-1)[:, :, None, :] * self.feature_stride
        return xp.asarray((base + shift).reshape(-1, 4).astype(dtype))

    def _moved(self, xp: Any, anchors: Any, deltas: Any) -> Any:
        if self.iou_loss:
            return anchors + deltas
        size = anchors[:, 2:] - anchors[:, :2] + 1
        center = anchors[:, :2] + 0.5 * (size - 1) + deltas[..., :2] * size
        half = 0.5 * (xp.exp(deltas[..., 2:]) * size - 1)
        return xp.concatenate([center - half, center + half], axis=-1)

    def _filtered(
        self, xp: Any, boxes: Any, score: Any, im_info: Any, cells: tuple[int, int]
    ) -> tuple[Any, Any]:
        # Cells of the map that lie outside the (padded) image do not count.
        inner = xp.floor(im_info[:, :2] / self.feature_stride)[:, None, :]
        y, x = np.meshgrid(np.arange(cells[0]), np.arange(cells[1]), indexing="ij")
        row, column = (xp.asarray(np.repeat(a.reshape(-1), self.n_anchors)) for a in (y, x))
        score = xp.where((row >= inner[..., 0]) | (column >= inner[..., 1]), -1, score)
        least = self.rpn_min_size * im_info[:, 2:3]
        size = boxes[..., 2:] - boxes[..., :2] + 1
        small = (size < least[..., None]).any(axis=-1)
        grow = xp.where(small, least / 2, 0)[..., None]
        boxes = xp.concatenate([boxes[..., :2] - grow, boxes[..., 2:] + grow], axis=-1)
        return boxes, xp.where(small, -1, score)

    def _best(self, xp: Any, boxes: Any, score: Any) -> tuple[Any, Any]:
        total, post = score.shape[1], self.rpn_post_nms_top_n
        pre = self.rpn_pre_nms_top_n if self.rpn_pre_nms_top_n > 0 else total
        order = xp.argsort(-score, axis=1, kind="stable")[:, : min(pre, total)]
        boxes, score = take_rows(xp, boxes, order), xp.take_along_axis(score, order, 1)
        alive = xp.ones(score.shape, "bool")
        alive = suppress(xp, boxes, None, alive, self.threshold, cell=1.0)
        first = xp.argsort(~alive, axis=1, kind="stable")
        # Too few: they are repeated from the start.
        count = xp.minimum(alive.sum(axis=1, keepdims=True), post)
        index = xp.take_along_axis(first, xp.arange(post) % count, 1)
        return take_rows(xp, boxes, index), xp.take_along_axis(score, index, 1)

    def cost(self, ins: Types, outs: Types) -> Cost:
        boxes = ins[0].size / 2
        return Cost(30 * boxes + 20 * boxes * min(boxes, 6000), total_bytes(ins, outs))


@register
class _contrib_Proposal(_Proposals):
    """Regions of interest of one image.

    Shapes for k anchors at each cell: cls_prob ``(1, 2 k, h, w)`` (background first), bbox_pred
    ``(1, 4 k, h, w)``, im_info ``(1, 3)`` (height, width, scale); output
    ``(rpn_post_nms_top_n, 5)``: image and corners; score ``(rpn_post_nms_top_n, 1)``.
    """

    def batch(self, n: int) -> int:
        if n > 1:
            raise RuleError("takes one image", got=n, expected=1, fix="Use MultiProposal for more")
        return 1


@register
class _contrib_MultiProposal(_Proposals):
    """Regions of interest of several images; shapes as for Proposal, n times as many rows."""
