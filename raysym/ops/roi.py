"""Pooling over regions of interest: boxes ``(batch index, x1, y1, x2, y2)`` cut from images.

Boxes decide how many cells each window has, so the kernels read them (a few numbers per box) on
the host where the sizes of windows are needed; images never leave the device.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np

from raysym.errors import RuleError
from raysym.graph import apply
from raysym.op import Cost, DTypes, Entries, Grads, Op, Shapes, Types, register, total_bytes
from raysym.ops.numeric import wide
from raysym.ops.rows import add_rows
from raysym.ops.spatial import need, rows_of
from raysym.params import Dims, param
from raysym.types import PartialShape, unify, unify_dtypes


class _Regions(Op):
    """Parameters and rules that the region ops share."""

    kinds = "f"
    inputs: ClassVar[tuple[str, ...]] = ("data", "rois")
    pooled_size: Dims = param(low=1, doc="Height and width of the result.")
    spatial_scale: float = param(
        low=0, high=1, doc="Size of the image relative to the coordinates of the boxes."
    )

    def check(self) -> None:
        if len(self.pooled_size) != 2:
            raise RuleError(
                "pooled_size does not fit", got=self.pooled_size, expected="(height, width)"
            )

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        data, rois = need(ins[0], 4, "data"), need(ins[1], 2, "rois", axis1=5)
        if data is None or rois is None:
            return [data, rois], outs
        shape = (rois[0], self.channels(data[1]), *self.pooled_size)
        return [data, rois], [shape] * len(outs)

    def channels(self, channels: int) -> int:
        """Channels of the result."""
        return channels

    def infer_dtype(self, ins: DTypes, outs: DTypes) -> tuple[DTypes, DTypes]:
        dtype = unify_dtypes([*ins, *outs])
        return [dtype] * len(ins), [dtype] * len(outs)


class _RegionsGradient(_Regions):
    """Shared by the gradients, which flow to the image only; its values do not matter."""

    internal = True
    shape_only = ("data",)

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        data: PartialShape = unify(ins[1], outs[0])
        return [ins[0], data, *ins[2:]], [data]

    def cost(self, ins: Types, outs: Types) -> Cost:
        return Cost(10 * ins[0].size, total_bytes(ins, outs))


# ----- maximum


def _windows(rois: Any, scale: float, pooled: Dims, image: Dims) -> Any:
    """``(r, 2, max(pooled), 2)``: first and last+1 row (column) of every bin, on the host."""
    # float32 as in MXNet, whose rounding decides where bins begin.
    boxes = np.asarray(rois.tolist(), "float32").reshape(-1, 5)
    corners = boxes[:, 1:] * np.float32(scale)
    rounded = np.where(corners >= 0, np.floor(corners + 0.5), np.ceil(corners - 0.5))
    made = np.zeros((len(boxes), 2, max(pooled), 2), int)
    for axis, (low, high) in enumerate(((1, 3), (0, 2))):
        start = rounded[:, low]
        extent = np.maximum(rounded[:, high] - start + 1, 1).astype("float32")
        step = (extent / np.float32(pooled[axis]))[:, None]
        bins = np.arange(pooled[axis], dtype="float32")
        first = np.floor(bins * step) + start[:, None]
        last = np.ceil((bins + 1) * step) + start[:, None]
        made[:, axis, : pooled[axis], 0] = np.clip(first, 0, image[axis])
        made[:, axis, : pooled[axis], 1] = np.clip(last, 0, image[axis])
    return made


@register
class ROIPooling(_Regions):
    """Maximum of every bin of every box; corners are rounded and belong to the box.

    Shapes: data ``(n, c, h, w)``, rois ``(r, 5)``, output ``(r, c, *pooled_size)``. An empty bin
    gives 0. The hidden output holds the cell of each maximum (-1: empty). No gradient flows to the
    boxes. Girshick, "Fast R-CNN" (2015).
    """

    outputs = ("output", "maxidx")
    hidden = 1

    def forward(self, xp: Any, data: Any, rois: Any) -> Any:
        n, c, h, w = data.shape
        bounds = _windows(rois, self.spatial_scale, self.pooled_size, (h, w))
        images = np.asarray(rois[:, 0].tolist(), int)
        values = xp.zeros((len(rois), c, *self.pooled_size), data.dtype)
        cells = xp.full(values.shape, -1, data.dtype)
        for r, i, j, top, bottom, left, right in self._bins(bounds):
            if 0 <= images[r] < n and top < bottom and left < right:
                part = data[images[r], :, top:bottom, left:right].reshape(c, -1)
                best = part.argmax(axis=1)
                values[r, :, i, j] = xp.take_along_axis(part, best[:, None], 1)[:, 0]
                width = right - left
                cells[r, :, i, j] = (best // width + top) * w + best % width + left
        return values, cells

    def _bins(self, bounds: Any) -> Iterator[tuple[int, ...]]:
        for r, (rows, columns) in enumerate(bounds.tolist()):
            for i in range(self.pooled_size[0]):
                for j in range(self.pooled_size[1]):
                    yield r, i, j, *rows[i], *columns[j]

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        name = "_backward_ROIPooling"
        return [apply(name, grads[0], *ins, outs[1], **self.given()), None]

    def cost(self, ins: Types, outs: Types) -> Cost:
        _, _, h, w = ins[0].shape
        return Cost(outs[0].size * h * w / math.prod(self.pooled_size), total_bytes(ins, outs))


@register
class _backward_ROIPooling(_RegionsGradient):
    """Adds every bin's gradient to the cell of its maximum."""

    inputs = ("out_grad", "data", "rois", "maxidx")

    def forward(self, xp: Any, out_grad: Any, data: Any, rois: Any, maxidx: Any) -> Any:
        n, c, h, w = data.shape
        image = xp.clip(rois[:, 0], 0, n - 1).astype("int64")[:, None, None, None]
        plane = image * c + xp.arange(c)[:, None, None]
        cell = maxidx.astype("int64")
        index = xp.where(cell >= 0, plane * h * w + cell, 0)
        parts = xp.where(cell >= 0, wide(out_grad), 0).reshape(-1, 1)
        made = add_rows(xp, parts, index.reshape(-1), n * c * h * w)
        return made.reshape(data.shape).astype(data.dtype, copy=False)


# ----- bilinear average


class _Aligned(_Regions):
    """Parameters of ROIAlign and its gradient, and where its samples lie."""

    sample_ratio: int = param(
        -1, doc="Samples along each axis of a bin; -1: as many as the bin has cells."
    )
    position_sensitive: bool = param(
        False, doc="Whether each bin reads channels of its own (R-FCN)."
    )
    aligned: bool = param(False, doc="Whether boxes are shifted by half a cell.")

    def channels(self, channels: int) -> int:
        if not self.position_sensitive:
            return channels
        bins = math.prod(self.pooled_size)
        if channels % bins:
            raise RuleError("channels must be a multiple of the bins", got=channels, expected=bins)
        return channels // bins

    def groups(self, rois: Any) -> Iterator[tuple[Any, Dims]]:
        """Boxes (as a slice) with the number of samples in each of their bins."""
        if self.sample_ratio > 0:
            yield slice(None), (self.sample_ratio, self.sample_ratio)
            return
        for r, (_, x1, y1, x2, y2) in enumerate(rois.tolist()):
            sizes = ((y2 - y1) * self.spatial_scale, (x2 - x1) * self.spatial_scale)
            pairs = zip(sizes, self.pooled_size, strict=True)
            least = 0.0 if self.aligned else 1.0
            yield slice(r, r + 1), tuple(max(math.ceil(max(s, least) / p), 1) for s, p in pairs)

    def corners(self, xp: Any, rois: Any, image: Dims, samples: Dims) -> Iterator[tuple[Any, Any]]:
        """For each of four neighbours: cell ``(r, ph, pw, sh, sw)`` and weight of all samples."""
        n, h, w = image
        (y, iny), (x, inx) = (self._positions(xp, rois, axis, samples, size)
                              for axis, size in enumerate((h, w)))  # fmt: skip
        inside = iny[:, :, None, :, None] & inx[:, None, :, None, :]
        inside = inside & ((rois[:, 0] >= 0) & (rois[:, 0] < n))[:, None, None, None, None]
        first = xp.clip(rois[:, 0], 0, n - 1).astype("int64") * (h * w)
        for row, wy in _neighbours(xp, y, h):
            for column, wx in _neighbours(xp, x, w):
                cell = row[:, :, None, :, None] * w + column[:, None, :, None, :]
                weight = wy[:, :, None, :, None] * wx[:, None, :, None, :] * inside
                yield cell + first[:, None, None, None, None], weight / math.prod(samples)

    def _positions(self, xp: Any, rois: Any, axis: int, samples: Dims, size: int) -> Any:
        low, high = ((2, 4), (1, 3))[axis]
        shift = 0.5 if self.aligned else 0.0
        start = rois[:, low] * self.spatial_scale - shift
        extent = rois[:, high] * self.spatial_scale - shift - start
        extent = extent if self.aligned else xp.maximum(extent, 1.0)
        bins = xp.arange(self.pooled_size[axis])[:, None]
        offset = bins + (xp.arange(samples[axis]) + 0.5) / samples[axis]
        step = (extent / self.pooled_size[axis])[:, None, None]
        position = start[:, None, None] + offset.astype(rois.dtype) * step
        return xp.maximum(position, 0.0), (position >= -1) & (position <= size)

    def channel_of_bins(self, xp: Any, c: int) -> Any:
        """``(channels out, ph, pw)``: the channel that each bin reads."""
        ph, pw = self.pooled_size
        bins = xp.arange(ph * pw).reshape(ph, pw)
        return xp.arange(c // (ph * pw))[:, None, None] * (ph * pw) + bins


def _neighbours(xp: Any, position: Any, size: int) -> Iterator[tuple[Any, Any]]:
    low = xp.minimum(xp.floor(position), size - 1)
    high = xp.minimum(low + 1, size - 1)
    part = xp.where(low >= size - 1, 0.0, position - low).astype(position.dtype)
    yield low.astype("int64"), 1 - part
    yield high.astype("int64"), part


@register
class _contrib_ROIAlign(_Aligned):
    """Average of bilinear samples in every bin of every box; nothing is rounded.

    Shapes: data ``(n, c, h, w)``, rois ``(r, 5)``, output ``(r, c, *pooled_size)``; position
    sensitive: ``c / (ph * pw)`` channels. No gradient flows to the boxes.
    He et al., "Mask R-CNN" (2017).
    """

    def forward(self, xp: Any, data: Any, rois: Any) -> Any:
        image = (data.shape[0], *data.shape[2:])
        rows, boxes = rows_of(wide(data)), wide(rois)
        made = []
        for part, samples in self.groups(rois):
            total = 0
            for cell, weight in self.corners(xp, boxes[part], image, samples):
                total = total + self._read(xp, rows, cell, weight.astype(rows.dtype))
            made.append(total)
        return xp.concatenate(made).astype(data.dtype, copy=False)

    def _read(self, xp: Any, rows: Any, cell: Any, weight: Any) -> Any:
        if not self.position_sensitive:
            read = (rows[cell] * weight[..., None]).sum(axis=(3, 4))
            return read.transpose(0, 3, 1, 2)
        channel = self.channel_of_bins(xp, rows.shape[1])[..., None, None]
        return (rows[cell[:, None], channel] * weight[:, None]).sum(axis=(4, 5))

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        return [apply("_backward_ROIAlign", grads[0], *ins, **self.given()), None]

    def cost(self, ins: Types, outs: Types) -> Cost:
        samples = max(self.sample_ratio, 2) ** 2
        return Cost(8.0 * outs[0].size * samples, total_bytes(ins, outs))


@register
class _backward_ROIAlign(_Aligned, _RegionsGradient):
    """Adds every bin's gradient to the cells that its samples read."""

    inputs = ("out_grad", "data", "rois")

    def forward(self, xp: Any, out_grad: Any, data: Any, rois: Any) -> Any:
        n, c, h, w = data.shape
        g, boxes = wide(out_grad), wide(rois)
        parts, index = [], []
        for part, samples in self.groups(rois):
            for cell, weight in self.corners(xp, boxes[part], (n, h, w), samples):
                rows, at = self._spread(xp, g[part], cell, weight.astype(g.dtype), c)
                parts.append(rows)
                index.append(at)
        width = parts[0].shape[1]
        total = add_rows(xp, xp.concatenate(parts), xp.concatenate(index), n * h * w * c // width)
        made = total.reshape(n, h, w, c).transpose(0, 3, 1, 2)
        return made.astype(data.dtype, copy=False)

    def _spread(self, xp: Any, g: Any, cell: Any, weight: Any, c: int) -> tuple[Any, Any]:
        if not self.position_sensitive:
            rows = g.transpose(0, 2, 3, 1)[:, :, :, None, None] * weight[..., None]
            return rows.reshape(-1, c), cell.reshape(-1)
        channel = self.channel_of_bins(xp, c)[..., None, None]
        rows = g[..., None, None] * weight[:, None]
        return rows.reshape(-1, 1), (cell[:, None] * c + channel).reshape(-1)

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        return [apply("_contrib_ROIAlign", grads[0], ins[2], **self.given()), None, None]
