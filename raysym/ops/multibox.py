"""Single-shot detection: anchor boxes, their training targets, and detections from predictions.

Liu et al., "SSD: single shot multibox detector" (2016). Boxes are corners relative to the image.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from raysym.errors import RuleError
from raysym.op import Cost, Op, Shapes, Types, register, total_bytes
from raysym.ops.boxes import decode, encode, overlap, suppress, take_rows, to_centers
from raysym.ops.spatial import need
from raysym.params import Floats, param
from raysym.types import unify, unify_all

_VARIANCES = param((0.1, 0.1, 0.2, 0.2), doc="Scales of the encoded shifts and sizes.")


def _four(variances: Floats) -> None:
    if len(variances) != 4:
        raise RuleError("variances do not fit", got=variances, expected="4 numbers")


@register
class _contrib_MultiBoxPrior(Op):
    """Anchor boxes at every cell of a feature map: all sizes at ratios[0], sizes[0] at the others.

    Shapes: data ``(n, c, h, w)`` (only its size matters), output ``(1, h * w * k, 4)``,
    k = sizes + ratios - 1. The gradient is zero.
    """

    zero_gradient = True
    shape_only = ("data",)
    sizes: Floats = param((1.0,), doc="Sizes of boxes relative to the image.")
    ratios: Floats = param((1.0,), doc="Ratios of width to height.")
    clip: bool = param(False, doc="Whether to cut boxes off at the border of the image.")
    steps: Floats = param(
        (-1.0, -1.0), doc="Distance of cells in y and x; -1: 1 / size of the map."
    )
    offsets: Floats = param((0.5, 0.5), doc="Centre of the first box in y and x, in steps.")

    def check(self) -> None:
        if not self.sizes or not self.ratios:
            raise RuleError("sizes and ratios need a number each")
        if len(self.steps) != 2 or len(self.offsets) != 2:
            raise RuleError(
                "steps or offsets do not fit", got=(self.steps, self.offsets), expected="pairs"
            )

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        data = need(ins[0], 4, "data")
        if data is None:
            return ins, outs
        each = len(self.sizes) + len(self.ratios) - 1
        return [data], [(1, data[2] * data[3] * each, 4)]

    def forward(self, xp: Any, data: Any) -> Any:
        # Everything follows from parameters and the size of the map, so the host computes it.
        h, w = data.shape[2:]
        dy, dx = self.steps if min(self.steps) > 0 else (1 / h, 1 / w)
        y = (np.arange(h) + self.offsets[0]) * dy
        x = (np.arange(w) + self.offsets[1]) * dx
        centers = np.stack(np.meshgrid(x, y), axis=-1)[:, :, None, :]
        half = self._half_sizes(h / w)
        boxes = np.concatenate([centers - half, centers + half], axis=-1).reshape(1, -1, 4)
        return xp.asarray((np.clip(boxes, 0, 1) if self.clip else boxes).astype(data.dtype))

    def _half_sizes(self, aspect: float) -> Any:
        first = np.sqrt(self.ratios[0])
        pairs = [(size * aspect * first, size / first) for size in self.sizes]
        roots = np.sqrt(self.ratios[1:])
        pairs += [(self.sizes[0] * aspect * root, self.sizes[0] / root) for root in roots]
        return np.array(pairs) / 2


@register
class _contrib_MultiBoxTarget(Op):
    """Training targets: which anchors answer for which objects, and which are background.

    Every object takes the free anchor that overlaps it most; then anchors whose best overlap is
    above the threshold are positive as well. Shapes: anchor ``(1, a, 4)``, label ``(n, l, 5 or
    more)`` (class, corners; class -1 ends the list), cls_pred ``(n, classes, a)``; outputs: encoded
    shifts and their mask ``(n, 4 a)``, class + 1 or 0 for background ``(n, a)``. Zero gradient.
    """

    kinds = "f"
    inputs = ("anchor", "label", "cls_pred")
    outputs = ("loc_target", "loc_mask", "cls_target")
    zero_gradient = True
    overlap_threshold: float = param(0.5, doc="Overlap above which an anchor is positive.")
    ignore_label: float = param(-1.0, doc="Class target of anchors that do not count.")
    negative_mining_ratio: float = param(
        -1.0, doc="Background anchors for each positive one, the hardest; -1: all."
    )
    negative_mining_thresh: float = param(
        0.5, doc="Overlap below which an anchor may be mined as background."
    )
    minimum_negative_samples: int = param(0, doc="Accepted for compatibility; no effect.")
    variances: Floats = _VARIANCES

    def check(self) -> None:
        _four(self.variances)

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        anchor = need(ins[0], 3, "anchor", axis0=1, axis2=4)
        label, cls = need(ins[1], 3, "label"), need(ins[2], 3, "cls_pred")
        if label is not None and 0 < label[2] < 5:
            raise RuleError(
                "label does not fit", got=label, expected="5 numbers or more at the end"
            )
        (n,) = unify(label and label[:1], cls and cls[:1], "batch of label and cls_pred") or (0,)
        (a,) = unify(anchor and anchor[1:2], cls and cls[2:], "number of anchors") or (0,)
        made = [anchor and (1, a, 4), label and (n, *label[1:]), cls and (n, cls[1], a)]
        return made, [(n, 4 * a), (n, 4 * a), (n, a)]

    def forward(self, xp: Any, anchor: Any, label: Any, cls_pred: Any) -> Any:
        n, a = label.shape[0], anchor.shape[1]
        valid = xp.cumsum(label[..., 0] == -1, axis=1) == 0  # (n, l): before the first -1
        much = overlap(xp, anchor[:, :, None], label[:, None, :, 1:5])
        much = xp.where(valid[:, None, :], much, -1)
        match, positive, best = self._match(xp, much)
        background = self._background(xp, positive, best, cls_pred)
        background = background & valid.any(axis=1)[:, None]
        boxes = take_rows(xp, label, match)
        shifts = encode(xp, boxes[..., 1:5], anchor) / xp.asarray(self.variances, anchor.dtype)
        mask = xp.broadcast_to(positive[..., None], shifts.shape)
        targets = xp.where(background, 0, self.ignore_label)
        targets = xp.where(positive, boxes[..., 0] + 1, targets)
        made = (
            xp.where(mask, shifts, 0).reshape(n, 4 * a), mask.reshape(n, 4 * a), targets
        )  # fmt: skip
        return tuple(x.astype(anchor.dtype) for x in made)

    def _match(self, xp: Any, much: Any) -> tuple[Any, Any, Any]:
        """The object of every anchor, whether it is positive, and its best overlap, all (n, a)."""
        n, a, objects = much.shape
        match, best = much.argmax(axis=2), much.max(axis=2)
        taken = xp.zeros((n, a), "bool")
        done = xp.zeros((n, objects), "bool")
        for _ in range(objects):
            free = xp.where(taken[:, :, None] | done[:, None, :], -1, much).reshape(n, -1)
            at = free.argmax(axis=1)[:, None]
            found = xp.take_along_axis(free, at, 1) > 1e-6
            anchor = found & (xp.arange(a) == at // objects)
            match = xp.where(anchor, at % objects, match)
            taken = taken | anchor
            done = done | (found & (xp.arange(objects) == at % objects))
        enough = best > self.overlap_threshold if self.overlap_threshold > 0 else taken
        return match, taken | enough, best

    def _background(self, xp: Any, positive: Any, best: Any, cls_pred: Any) -> Any:
        if not self.negative_mining_ratio > 0:
            return ~positive
        count = positive.sum(axis=1, keepdims=True)
        wanted = xp.floor(count * np.float32(self.negative_mining_ratio))
        wanted = xp.minimum(wanted, positive.shape[1] - count)
        shares = xp.exp(cls_pred - cls_pred.max(axis=1, keepdims=True))
        chance = shares[:, 0] / shares.sum(axis=1)
        open_ = ~positive & (best < self.negative_mining_thresh)
        # The hardest are those that look least like background.
        order = xp.argsort(xp.where(open_, chance, xp.inf), axis=1, kind="stable")
        rank = xp.argsort(order, axis=1, kind="stable")
        return open_ & (rank < wanted)

    def cost(self, ins: Types, outs: Types) -> Cost:
        return Cost(20 * outs[2].size * ins[1].shape[1], total_bytes(ins, outs))


@register
class _contrib_MultiBoxDetection(Op):
    """Detections: the best class of every anchor, decoded boxes, doubles removed.

    Shapes: cls_prob ``(n, classes, a)``, loc_pred ``(n, 4 a)``, anchor ``(1, a, 4)``, output
    ``(n, a, 6)``: class (-1: none), score, corners; best first. The gradient is zero.
    """

    kinds = "f"
    inputs = ("cls_prob", "loc_pred", "anchor")
    zero_gradient = True
    clip: bool = param(True, doc="Whether to cut boxes off at the border of the image.")
    threshold: float = param(0.01, doc="Detections with lower scores are dropped.")
    background_id: int = param(0, doc="Accepted for compatibility; class 0 is the background.")
    nms_threshold: float = param(0.5, doc="Boxes that overlap a better one by this are dropped.")
    force_suppress: bool = param(False, doc="Whether boxes suppress those of other classes too.")
    variances: Floats = _VARIANCES
    nms_topk: int = param(-1, doc="How many of the best boxes stay before suppression; -1: all.")

    def check(self) -> None:
        _four(self.variances)

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        cls, loc = need(ins[0], 3, "cls_prob"), need(ins[1], 2, "loc_pred")
        anchor = need(ins[2], 3, "anchor", axis0=1, axis2=4)
        (a,) = unify(cls and cls[2:], anchor and anchor[1:2], "number of anchors") or (0,)
        (n,) = unify(cls and cls[:1], loc and loc[:1], "batch of cls_prob and loc_pred") or (0,)
        made = [cls and (n, cls[1], a), unify(loc, (n, 4 * a), "shape of loc_pred"), (1, a, 4)]
        return made, [unify_all([(n, a, 6), outs[0]])]

    def forward(self, xp: Any, cls_prob: Any, loc_pred: Any, anchor: Any) -> Any:
        n, _, a = cls_prob.shape
        kind, score = cls_prob[:, 1:].argmax(axis=1), cls_prob[:, 1:].max(axis=1)
        deltas = loc_pred.reshape(n, a, 4) * xp.asarray(self.variances, loc_pred.dtype)
        boxes = decode(xp, deltas, to_centers(xp, anchor))
        boxes = xp.clip(boxes, 0, 1) if self.clip else boxes
        valid = score >= self.threshold
        suppresses = 0 < self.nms_threshold <= 1
        # Without suppression the boxes keep the order of their anchors.
        keys = xp.where(valid, -score if suppresses else 0, xp.inf)
        order = xp.argsort(keys, axis=1, kind="stable")
        kind, score, valid = (xp.take_along_axis(x, order, 1) for x in (kind, score, valid))
        boxes = take_rows(xp, boxes, order)
        alive = self._alive(xp, kind, boxes, valid) if suppresses else valid
        rows = [xp.where(alive, kind, -1)[..., None], score[..., None], boxes]
        made = xp.concatenate([x.astype(cls_prob.dtype) for x in rows], axis=-1)
        return xp.where(valid[..., None], made, -1).astype(cls_prob.dtype, copy=False)

    def _alive(self, xp: Any, kind: Any, boxes: Any, valid: Any) -> Any:
        a = valid.shape[1]
        top = min(self.nms_topk, a) if self.nms_topk > 0 else a
        kinds = None if self.force_suppress else kind[:, :top]
        stay = suppress(xp, boxes[:, :top], kinds, valid[:, :top], self.nms_threshold, closed=True)
        return xp.concatenate([stay, xp.zeros_like(valid[:, top:])], axis=1)

    def cost(self, ins: Types, outs: Types) -> Cost:
        n, _, a = ins[0].shape
        return Cost(ins[0].size + 20 * n * a * a, total_bytes(ins, outs))
