"""Boxes: overlap, suppression of doubles, matching, and their encoding relative to anchors.

A box is 4 numbers in the last axis: corner ``x1, y1, x2, y2`` or center ``x, y, width, height``.
"""

from __future__ import annotations

from typing import Any

from raysym.errors import RuleError
from raysym.graph import apply
from raysym.op import Cost, Entries, Grads, Op, Shapes, Types, register, total_bytes
from raysym.ops.rows import set_rows
from raysym.params import param
from raysym.types import PartialShape, unify

_FORMATS = ("center", "corner")


# ----- kernels that the detection pages share


def to_corners(xp: Any, boxes: Any) -> Any:
    """Center boxes as corner boxes."""
    half = boxes[..., 2:] / 2
    return xp.concatenate([boxes[..., :2] - half, boxes[..., :2] + half], axis=-1)


def to_centers(xp: Any, boxes: Any) -> Any:
    """Corner boxes as center boxes."""
    size = boxes[..., 2:] - boxes[..., :2]
    return xp.concatenate([boxes[..., :2] + size / 2, size], axis=-1)


def overlap(xp: Any, a: Any, b: Any, cell: float = 0.0) -> Any:
    """Intersection over union of corner boxes (broadcast); `cell` is added to all sizes."""
    low = xp.maximum(a[..., :2], b[..., :2])
    high = xp.minimum(a[..., 2:], b[..., 2:])
    shared = xp.prod(xp.maximum(high - low + cell, 0), axis=-1)
    area_a = xp.prod(xp.maximum(a[..., 2:] - a[..., :2] + cell, 0), axis=-1)
    area_b = xp.prod(xp.maximum(b[..., 2:] - b[..., :2] + cell, 0), axis=-1)
    union = area_a + area_b - shared
    return xp.where(union > 0, shared / xp.where(union > 0, union, 1), 0).astype(a.dtype)


def suppress(
    xp: Any, boxes: Any, kinds: Any, alive: Any, threshold: float, *, closed: bool = False,
    cell: float = 0.0,
) -> Any:  # fmt: skip
    """Greedy non-maximum suppression: which of the boxes ``(batch, n, 4)``, best first, stay.

    A box that stays removes all later ones of its kind (``kinds (batch, n)``, None: all alike) that
    overlap it by more than the threshold (`closed`: by as much). One pass over the n boxes; every
    step depends on the one before.
    """
    later = xp.arange(boxes.shape[1])
    for i in range(boxes.shape[1] - 1):
        much = overlap(xp, boxes[:, i : i + 1], boxes, cell)
        doubles = (much >= threshold) if closed else (much > threshold)
        doubles = doubles & alive[:, i : i + 1] & (later > i)
        if kinds is not None:
            doubles = doubles & (kinds == kinds[:, i : i + 1])
        alive = alive & ~doubles
    return alive


def encode(xp: Any, boxes: Any, anchors: Any) -> Any:
    """Corner boxes relative to corner anchors: shifts by the size, logarithms of the scales."""
    box, anchor = to_centers(xp, boxes), to_centers(xp, anchors)
    shift = (box[..., :2] - anchor[..., :2]) / anchor[..., 2:]
    return xp.concatenate([shift, xp.log(box[..., 2:] / anchor[..., 2:])], axis=-1)


def decode(xp: Any, deltas: Any, anchors: Any, clip: float = -1.0) -> Any:
    """The inverse of `encode` for center anchors; log scales are bounded by `clip` if positive."""
    scale = xp.minimum(deltas[..., 2:], clip) if clip > 0 else deltas[..., 2:]
    center = deltas[..., :2] * anchors[..., 2:] + anchors[..., :2]
    size = xp.exp(scale) * anchors[..., 2:]
    return to_corners(xp, xp.concatenate([center, size], axis=-1))


def take_rows(xp: Any, rows: Any, index: Any) -> Any:
    """``rows (batch, n, d)`` picked by ``index (batch, m)``."""
    return xp.take_along_axis(rows, index[..., None], 1)


# ----- the pages


@register
class _contrib_box_iou(Op):
    """Intersection over union of every pair of boxes.

    Shapes: lhs ``(*a, 4)``, rhs ``(*b, 4)``, output ``(*a, *b)``. The gradient is zero.
    """

    kinds = "f"
    inputs = ("lhs", "rhs")
    zero_gradient = True
    format: str = param("corner", choices=_FORMATS, doc="How boxes are written.")

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        if None in (ins[0], ins[1]):
            return ins, outs
        lhs, rhs = (self._boxes(shape) for shape in ins)
        return [lhs, rhs], [(*lhs[:-1], *rhs[:-1]) or (1,)]

    def _boxes(self, shape: PartialShape) -> tuple[int, ...]:
        if not shape or shape[-1] not in (0, 4):
            raise RuleError("boxes need a last axis of 4", got=shape, expected="(..., 4)")
        return (*shape[:-1], 4)

    def forward(self, xp: Any, lhs: Any, rhs: Any) -> Any:
        a, b = lhs.reshape(-1, 1, 4), rhs.reshape(1, -1, 4)
        if self.format == "center":
            a, b = to_corners(xp, a), to_corners(xp, b)
        made = overlap(xp, a, b)
        return made.reshape((*lhs.shape[:-1], *rhs.shape[:-1]) or (1,))

    def cost(self, ins: Types, outs: Types) -> Cost:
        return Cost(15 * outs[0].size, total_bytes(ins, outs))


@register
class _contrib_box_nms(Op):
    """Non-maximum suppression: the best boxes, sorted by score; freed places are filled with -1.

    Shapes: data ``(..., n, k)``, rows of class, score, four coordinates and what else there is;
    output alike. The hidden output holds the source row of each result (-1: none), and the gradient
    goes back to these rows.
    """

    kinds = "f"
    aliases = ("_contrib_box_non_maximum_suppression",)
    outputs = ("output0", "output1")
    hidden = 1
    overlap_thresh: float = param(0.5, doc="Boxes that overlap a better one by more are dropped.")
    valid_thresh: float = param(0.0, doc="Boxes with scores up to this are dropped at once.")
    topk: int = param(-1, doc="How many of the best boxes take part; -1: all.")
    coord_start: int = param(2, low=0, doc="Where the coordinates begin in a row.")
    score_index: int = param(1, low=0, doc="Where the score is in a row.")
    id_index: int = param(-1, doc="Where the class is in a row; -1: all boxes are of one class.")
    background_id: int = param(-1, doc="Class of boxes to be dropped.")
    force_suppress: bool = param(False, doc="Whether boxes suppress those of other classes too.")
    in_format: str = param("corner", choices=_FORMATS, doc="How input boxes are written.")
    out_format: str = param("corner", choices=_FORMATS, doc="How output boxes are written.")

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        data = unify(ins[0], outs[0])
        if data is None:
            return ins, outs
        least = max(self.coord_start + 4, self.score_index + 1, self.id_index + 1)
        if len(data) < 2 or (data[-1] and data[-1] < least):
            raise RuleError("data must be (..., boxes, row)", got=data, expected=f"rows >= {least}")
        return [data], [data, (*data[:-1], 1)]

    def forward(self, xp: Any, data: Any) -> Any:
        n, k = data.shape[-2:]
        rows = data.reshape(-1, n, k)
        scores, alive = rows[..., self.score_index], self._valid(rows)
        order = xp.argsort(xp.where(alive, -scores, xp.inf), axis=1, kind="stable")
        top = min(self.topk, n) if self.topk > 0 else n
        ranked = take_rows(xp, rows, order)
        alive = xp.take_along_axis(alive, order, 1)
        kept = self._suppressed(xp, ranked[:, :top], alive[:, :top])
        kept = xp.concatenate([kept, xp.zeros_like(alive[:, top:])], axis=1)
        first = xp.argsort(~kept, axis=1, kind="stable")  # those that stay, in order
        stays = xp.take_along_axis(kept, first, 1)[..., None]
        made = xp.where(stays, self._formatted(xp, take_rows(xp, ranked, first)), -1)
        source = take_rows(xp, order[..., None], first)
        record = xp.where(stays, source, -1).astype(data.dtype)
        made = made.astype(data.dtype, copy=False)
        return made.reshape(data.shape), record.reshape(*data.shape[:-1], 1)

    def _valid(self, rows: Any) -> Any:
        valid = rows[..., self.score_index] > self.valid_thresh
        if self.id_index >= 0:
            valid = valid & (rows[..., self.id_index].astype("int64") != self.background_id)
        return valid

    def _suppressed(self, xp: Any, ranked: Any, alive: Any) -> Any:
        boxes = ranked[..., self.coord_start : self.coord_start + 4]
        boxes = to_corners(xp, boxes) if self.in_format == "center" else boxes
        by_class = self.id_index >= 0 and not self.force_suppress
        kinds = ranked[..., self.id_index].astype("int64") if by_class else None
        return suppress(xp, boxes, kinds, alive, self.overlap_thresh)

    def _formatted(self, xp: Any, rows: Any) -> Any:
        if self.in_format == self.out_format:
            return rows
        a, b = self.coord_start, self.coord_start + 4
        convert = to_corners if self.out_format == "corner" else to_centers
        parts = [rows[..., :a], convert(xp, rows[..., a:b]), rows[..., b:]]
        return xp.concatenate(parts, axis=-1)

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        return [apply("_backward_contrib_box_nms", grads[0], outs[1])]

    def cost(self, ins: Types, outs: Types) -> Cost:
        n = ins[0].shape[-2]
        top = min(self.topk, n) if self.topk > 0 else n
        boxes = ins[0].size / max(ins[0].shape[-1], 1)
        return Cost(20 * boxes * top, total_bytes(ins, outs))


@register
class _backward_contrib_box_nms(Op):
    """Takes the gradient of every box that stayed back to the row it came from."""

    internal = True
    inputs = ("out_grad", "record")

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        data = unify(ins[0], outs[0])
        return [data, data and (*data[:-1], 1)], [data]

    def forward(self, xp: Any, out_grad: Any, record: Any) -> Any:
        n, k = out_grad.shape[-2:]
        source = record.reshape(-1, n).astype("int64")
        batch = xp.arange(source.shape[0])[:, None]
        # Places that hold no box write to one row behind the end.
        spare = source.size
        index = xp.where(source >= 0, source + batch * n, spare).reshape(-1)
        base = xp.zeros((spare + 1, k), out_grad.dtype)
        made = set_rows(xp, base, out_grad.reshape(-1, k), index)
        return made[:spare].reshape(out_grad.shape)


@register
class _contrib_bipartite_matching(Op):
    """Greedy matching of rows and columns by score: the best free pair first.

    Shapes: data ``(..., n, m)``; outputs: the column of every row ``(..., n)`` and the row of every
    column ``(..., m)``, -1 where there is none. The gradient is zero.
    """

    kinds = "f"
    outputs = ("output0", "output1")
    zero_gradient = True
    is_ascend: bool = param(False, doc="Whether low scores are good, not high ones.")
    threshold: float = param(doc="Pairs that are not better than this are not matched.")
    topk: int = param(-1, doc="How many pairs to match at most; -1: as many as there are.")

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        data = ins[0]
        if data is None:
            return ins, outs
        if len(data) < 2:
            raise RuleError("data has a wrong rank", got=data, expected="(..., rows, columns)")
        return ins, [data[:-1], (*data[:-2], data[-1])]

    def forward(self, xp: Any, data: Any) -> Any:
        n, m = data.shape[-2:]
        scores = data.reshape(-1, n * m)
        sign = -1 if self.is_ascend else 1
        scores, threshold = scores * sign, self.threshold * sign
        rows = xp.full((scores.shape[0], n), -1.0)
        columns = xp.full((scores.shape[0], m), -1.0)
        for _ in range(min(n, m, self.topk) if self.topk > 0 else min(n, m)):
            free = ((rows < 0)[:, :, None] & (columns < 0)[:, None, :]).reshape(scores.shape)
            left = xp.where(free & (scores > threshold), scores, -xp.inf)
            best = left.argmax(axis=1)[:, None]
            found = xp.take_along_axis(left, best, 1) > -xp.inf
            r, c = best // m, best % m
            rows = xp.where(found & (xp.arange(n) == r), c, rows)
            columns = xp.where(found & (xp.arange(m) == c), r, columns)
        lead = data.shape[:-2]
        made = rows.reshape(*lead, n), columns.reshape(*lead, m)
        return tuple(x.astype(data.dtype) for x in made)

    def cost(self, ins: Types, outs: Types) -> Cost:
        return Cost(5 * ins[0].size * min(ins[0].shape[-2:]), total_bytes(ins, outs))


@register
class _contrib_box_encode(Op):
    """Training targets of boxes: matched references relative to their anchors.

    Shapes: samples and matches ``(b, n)`` (1: positive; index of the reference), anchors
    ``(b, n, 4)`` and refs ``(b, m, 4)`` by corners, means and stds ``(4,)``; outputs: targets and
    masks ``(b, n, 4)``. The gradient is zero.
    """

    kinds = "f"
    inputs = ("samples", "matches", "anchors", "refs", "means", "stds")
    outputs = ("output0", "output1")
    zero_gradient = True

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        pairs = unify(ins[0], ins[1], "shapes of samples and matches")
        anchors = unify(ins[2], pairs and (*pairs, 4), "shape of anchors")
        made = [pairs, pairs, anchors, ins[3], unify(ins[4], (4,)), unify(ins[5], (4,))]
        return made, [anchors, anchors]

    def forward(
        self, xp: Any, samples: Any, matches: Any, anchors: Any, refs: Any, means: Any, stds: Any
    ) -> Any:
        index = xp.clip(matches.astype("int64"), 0, refs.shape[1] - 1)
        deltas = (encode(xp, take_rows(xp, refs, index), anchors) - means) / stds
        positive = (samples > 0.5)[..., None]
        mask = xp.broadcast_to(positive, anchors.shape).astype(anchors.dtype)
        return xp.where(positive, deltas, 0).astype(anchors.dtype, copy=False), mask


@register
class _contrib_box_decode(Op):
    """Boxes from their encoding relative to anchors, the inverse of box_encode, by corners.

    Shapes: data ``(b, n, 4)``, anchors ``(1, n, 4)``, output ``(b, n, 4)``. The gradient is zero.
    """

    kinds = "f"
    inputs = ("data", "anchors")
    zero_gradient = True
    std0: float = param(1.0, doc="Scale of the encoded shift in x.")
    std1: float = param(1.0, doc="Scale of the encoded shift in y.")
    std2: float = param(1.0, doc="Scale of the encoded width.")
    std3: float = param(1.0, doc="Scale of the encoded height.")
    clip: float = param(-1.0, doc="Upper bound of encoded sizes, if positive.")
    format: str = param("center", choices=_FORMATS, doc="How anchors are written.")

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        data = unify(ins[0], outs[0])
        if data is None:
            return ins, outs
        if len(data) != 3 or data[2] not in (0, 4):
            raise RuleError("data does not fit", got=data, expected="(batch, boxes, 4)")
        data = (*data[:2], 4)
        return [data, unify(ins[1], (1, *data[1:]), "shape of anchors")], [data]

    def forward(self, xp: Any, data: Any, anchors: Any) -> Any:
        stds = xp.asarray([self.std0, self.std1, self.std2, self.std3], data.dtype)
        centers = anchors if self.format == "center" else to_centers(xp, anchors)
        return decode(xp, data * stds, centers, self.clip).astype(data.dtype, copy=False)

    def cost(self, ins: Types, outs: Types) -> Cost:
        return Cost(10 * outs[0].size, total_bytes(ins, outs))
