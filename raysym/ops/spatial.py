"""Sampling images on grids: GridGenerator, BilinearSampler and their sum, SpatialTransformer.

Grids ``(batch, 2, height, width)`` hold x and y between -1 (first cell) and 1 (last cell).
"""

from __future__ import annotations

from typing import Any, NamedTuple

from raysym.errors import RuleError
from raysym.graph import apply, apply_all
from raysym.op import Cost, Entries, Grads, Op, Shapes, Types, register, total_bytes
from raysym.ops.numeric import wide
from raysym.ops.rows import add_rows
from raysym.params import Dims, param
from raysym.types import PartialShape, unify


def regular_grid(xp: Any, size: Dims, dtype: Any) -> Any:
    """``(3, height * width)``: x, y and one at every cell of a regular grid."""
    h, w = size
    x = -1 + 2 * xp.arange(w, dtype="float64") / max(w - 1, 1)
    y = -1 + 2 * xp.arange(h, dtype="float64") / max(h - 1, 1)
    rows = [xp.tile(x, h), xp.repeat(y, w), xp.ones(h * w)]
    return xp.stack(rows).astype(dtype)


def affine_grid(xp: Any, theta: Any, size: Dims) -> Any:
    """``(batch, 2, *size)``: a regular grid moved by the 2 x 3 matrices ``theta (batch, 6)``."""
    moved = xp.matmul(theta.reshape(-1, 2, 3), regular_grid(xp, size, theta.dtype))
    return moved.reshape(theta.shape[0], 2, *size)


def affine_grid_back(xp: Any, grad: Any, size: Dims) -> Any:
    """Gradient of the matrices from that of the grid."""
    flat = grad.reshape(grad.shape[0], 2, size[0] * size[1])
    return xp.matmul(flat, regular_grid(xp, size, grad.dtype).T).reshape(-1, 6)


# ----- bilinear sampling


class Corner(NamedTuple):
    """One of the four cells around every sample position."""

    weight: Any  # (n, positions), zero outside the image
    index: Any  # (n, positions): row of the image as ``rows_of`` gives it
    along_x: Any  # derivative of the weight by x in cells
    along_y: Any


def rows_of(data: Any) -> Any:
    """An image ``(n, c, h, w)`` as rows of channels, ``(n * h * w, c)``."""
    return data.transpose(0, 2, 3, 1).reshape(-1, data.shape[1])


def corners(xp: Any, grid: Any, shape: Dims) -> list[Corner]:
    """The four cells around each position of `grid`, for an image of the given shape."""
    n, _, h, w = shape
    flat = grid.reshape(n, 2, -1)
    x, y = (flat[:, 0] + 1) * ((w - 1) / 2), (flat[:, 1] + 1) * ((h - 1) / 2)
    left, top = xp.floor(x), xp.floor(y)
    first = xp.arange(n)[:, None] * (h * w)
    made = []
    for dy in (0, 1):
        for dx in (0, 1):
            column, row = left + dx, top + dy
            inside = (column >= 0) & (column < w) & (row >= 0) & (row < h)
            wx, wy = 1 - xp.abs(x - column), 1 - xp.abs(y - row)
            at = xp.where(inside, row * w + column, 0).astype("int64") + first
            sx, sy = (1.0 if dx else -1.0), (1.0 if dy else -1.0)
            live = inside.astype(grid.dtype)
            made.append(Corner(live * wx * wy, at, live * sx * wy, live * wx * sy))
    return made


def sample(xp: Any, data: Any, grid: Any) -> Any:
    """``(n, c, *grid size)``: bilinear samples, zero outside the image."""
    n, c = data.shape[:2]
    rows = rows_of(data)
    made = sum(corner.weight[..., None] * rows[corner.index] for corner in
               corners(xp, grid, data.shape))  # fmt: skip
    return made.transpose(0, 2, 1).reshape(n, c, *grid.shape[2:])


def sample_back(xp: Any, grad: Any, data: Any, grid: Any) -> tuple[Any, Any]:
    """Gradients of the image and of the grid."""
    n, c, h, w = data.shape
    rows = rows_of(data)
    g = grad.reshape(n, c, -1).transpose(0, 2, 1)
    around = corners(xp, grid, data.shape)
    parts = xp.concatenate([(k.weight[..., None] * g).reshape(-1, c) for k in around])
    index = xp.concatenate([k.index.reshape(-1) for k in around])
    ddata = add_rows(xp, parts, index, n * h * w).reshape(n, h, w, c).transpose(0, 3, 1, 2)
    seen = [(g * rows[k.index]).sum(axis=-1) for k in around]
    dx = sum(s * k.along_x for s, k in zip(seen, around, strict=True)) * ((w - 1) / 2)
    dy = sum(s * k.along_y for s, k in zip(seen, around, strict=True)) * ((h - 1) / 2)
    return ddata, xp.stack([dx, dy], axis=1).reshape(grid.shape)


def need(shape: PartialShape, rank: int, what: str, **axes: int) -> PartialShape:
    """`shape`, refused unless it has `rank` axes; keyword ``axis1=2`` fixes the size of an axis."""
    if shape is None:
        return None
    if len(shape) != rank:
        raise RuleError(f"{what} has a wrong rank", got=shape, expected=f"{rank} axes")
    wanted = tuple(axes.get(f"axis{i}", 0) for i in range(rank))
    return unify(shape, wanted, f"shape of {what}")


# ----- the pages


class _Grid(Op):
    """Parameters of the grid generator and of its gradient."""

    kinds = "f"
    transform_type: str = param(
        choices=("affine", "warp"),
        doc="Data are matrices (affine) or a field of shifts in cells (warp).",
    )
    target_shape: Dims = param((0, 0), low=0, doc="Height and width of an affine grid.")

    def check(self) -> None:
        if self.transform_type == "affine" and (
            len(self.target_shape) != 2 or 0 in self.target_shape
        ):
            raise RuleError(
                "target_shape is missing", got=self.target_shape, expected="(height, width)"
            )


@register
class GridGenerator(_Grid):
    """Sampling grids for BilinearSampler.

    Shapes: affine: data ``(n, 6)`` (2 x 3 matrices by rows), output ``(n, 2, *target_shape)``;
    warp: data ``(n, 2, h, w)`` (shifts in x and y, in cells), output alike. The hidden output is
    the regular grid that is moved.
    """

    outputs = ("output", "grid_dst")
    hidden = 1

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        if self.transform_type == "affine":
            data = need(ins[0], 2, "data", axis1=6)
            h, w = self.target_shape
            return [data], [data and (data[0], 2, h, w), (3, h * w)]
        data = need(ins[0], 4, "data", axis1=2)
        size = data[2] * data[3] if data else 0
        return [data], [data, (3, size)]

    def forward(self, xp: Any, data: Any) -> Any:
        x = wide(data)
        if self.transform_type == "affine":
            made, size = affine_grid(xp, x, self.target_shape), self.target_shape
        else:
            size = data.shape[2:]
            cells = xp.asarray([max(size[1] - 1, 1) / 2, max(size[0] - 1, 1) / 2], x.dtype)
            base = regular_grid(xp, size, x.dtype)[:2].reshape(1, 2, *size)
            made = x / cells[:, None, None] + base
        return made.astype(data.dtype, copy=False), regular_grid(xp, size, data.dtype)

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        return [apply("_backward_GridGenerator", grads[0], **self.given())]


@register
class _backward_GridGenerator(_Grid):
    """Gradient of the matrices or of the field of shifts."""

    internal = True
    inputs = ("out_grad",)

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        if self.transform_type == "warp" or not ins[0]:
            return ins, [ins[0]] if self.transform_type == "warp" else outs
        return ins, [(ins[0][0], 6)]

    def forward(self, xp: Any, out_grad: Any) -> Any:
        g = wide(out_grad)
        if self.transform_type == "affine":
            made = affine_grid_back(xp, g, self.target_shape)
        else:
            h, w = g.shape[2:]
            scale = xp.asarray([2 / max(w - 1, 1), 2 / max(h - 1, 1)], g.dtype)
            made = g * scale[:, None, None]
        return made.astype(out_grad.dtype, copy=False)

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        # Linear: the forward map without its constant part, which cancels.
        zero = apply("zeros_like", grads[0])
        moved, base = (apply("GridGenerator", x, **self.given()) for x in (grads[0], zero))
        return [apply("elemwise_sub", moved, base)]


_CUDNN_OFF = param(None, doc="Accepted for compatibility; no effect.")


@register
class BilinearSampler(Op):
    """Bilinear samples of an image at the positions of a grid; zero outside the image.

    Shapes: data ``(n, c, h, w)``, grid ``(n, 2, oh, ow)`` (see GridGenerator), output
    ``(n, c, oh, ow)``. The hidden output holds the positions in cells, ``(n, oh, ow, 2)``.
    """

    kinds = "f"
    inputs = ("data", "grid")
    outputs = ("output", "tmp")
    hidden = 1
    cudnn_off: bool | None = _CUDNN_OFF

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        data, grid = need(ins[0], 4, "data"), need(ins[1], 4, "grid", axis1=2)
        if data is None or grid is None:
            return [data, grid], outs
        (n,) = unify(data[:1], grid[:1], "batch of data and grid") or (0,)
        out = (n, data[1], *grid[2:])
        return [(n, *data[1:]), (n, *grid[1:])], [out, (n, *grid[2:], 2)]

    def forward(self, xp: Any, data: Any, grid: Any) -> Any:
        made = sample(xp, wide(data), wide(grid)).astype(data.dtype, copy=False)
        h, w = data.shape[2:]
        cells = xp.asarray([(w - 1) / 2, (h - 1) / 2], grid.dtype)
        return made, (grid.transpose(0, 2, 3, 1) + 1) * cells

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        return apply_all("_backward_BilinearSampler", grads[0], *ins)

    def cost(self, ins: Types, outs: Types) -> Cost:
        return Cost(9 * outs[0].size + 40 * ins[1].size, total_bytes(ins, outs))


@register
class _backward_BilinearSampler(Op):
    """Gradients of image and grid."""

    internal = True
    inputs = ("out_grad", "data", "grid")
    outputs = ("data_grad", "grid_grad")

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        data, grid = unify(ins[1], outs[0]), unify(ins[2], outs[1])
        return [ins[0], data, grid], [data, grid]

    def forward(self, xp: Any, out_grad: Any, data: Any, grid: Any) -> Any:
        ddata, dgrid = sample_back(xp, *(wide(a) for a in (out_grad, data, grid)))
        return ddata.astype(data.dtype, copy=False), dgrid.astype(grid.dtype, copy=False)

    def cost(self, ins: Types, outs: Types) -> Cost:
        return Cost(30 * ins[0].size + 60 * ins[2].size, total_bytes(ins, outs))


@register
class SpatialTransformer(Op):
    """Samples an image on an affine grid: BilinearSampler(data, GridGenerator(loc)).

    Shapes: data ``(n, c, h, w)``, loc ``(n, 6)``, output ``(n, c, *target_shape)``. Hidden outputs:
    the regular grid ``(3, oh * ow)`` and the moved one ``(n, 2, oh * ow)``.
    Jaderberg et al., "Spatial transformer networks" (2015).
    """

    kinds = "f"
    inputs = ("data", "loc")
    outputs = ("output", "grid_dst", "grid_src")
    hidden = 2
    target_shape: Dims = param((0, 0), low=0, doc="Height and width of the result.")
    transform_type: str = param(choices=("affine",), doc="Kind of transformation.")
    sampler_type: str = param(choices=("bilinear",), doc="Kind of sampling.")
    cudnn_off: bool | None = _CUDNN_OFF

    def check(self) -> None:
        if len(self.target_shape) != 2 or 0 in self.target_shape:
            raise RuleError(
                "target_shape does not fit", got=self.target_shape, expected="(height, width)"
            )

    def infer_shape(self, ins: Shapes, outs: Shapes) -> tuple[Shapes, Shapes]:
        data, loc = need(ins[0], 4, "data"), need(ins[1], 2, "loc", axis1=6)
        cells = self.target_shape[0] * self.target_shape[1]
        (n,) = unify(data and data[:1], loc and loc[:1], "batch of data and loc") or (0,)
        channels = data[1] if data else 0
        out = (n, channels, *self.target_shape)
        return [data and (n, *data[1:]), (n, 6)], [out, (3, cells), (n, 2, cells)]

    def forward(self, xp: Any, data: Any, loc: Any) -> Any:
        grid = affine_grid(xp, wide(loc), self.target_shape)
        made = sample(xp, wide(data), grid).astype(data.dtype, copy=False)
        flat = grid.reshape(grid.shape[0], 2, -1).astype(loc.dtype, copy=False)
        return made, regular_grid(xp, self.target_shape, loc.dtype), flat

    def gradient(self, ins: Entries, outs: Entries, grads: Entries) -> Grads:
        params = {"transform_type": "affine", "target_shape": self.target_shape}
        grid = apply("GridGenerator", ins[1], **params)
        ddata, dgrid = apply_all("_backward_BilinearSampler", grads[0], ins[0], grid)
        return [ddata, apply("_backward_GridGenerator", dgrid, **params)]

    def cost(self, ins: Types, outs: Types) -> Cost:
        return Cost(9 * outs[0].size + 50 * outs[2].size, total_bytes(ins, outs))
