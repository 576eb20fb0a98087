"""Elements of lazy arrays at places that other lazy arrays give, and the places of extremes."""

from __future__ import annotations

from typing import Any

import numpy as np

from raysym.kernels.expressions import IOTA, Call, Fetch, Leaf, Untraceable, dtype_of, viewed
from raysym.kernels.lazy import (
    Lazy,
    as_lazy,
    broadcast,
    call,
    cast,
    summing,
    whole,
)
from raysym.types import Shape

_MOST_SUMS = 64


def select(condition: Any, a: Any, b: Any) -> Lazy:
    """``where(condition, a, b)``."""
    recorder = next(v.recorder for v in (condition, a, b) if isinstance(v, Lazy))
    common = np.result_type(dtype_of(a), dtype_of(b))
    parts = [cast(as_lazy(recorder, condition, "bool"), "bool")]
    parts += [cast(as_lazy(recorder, v, common), common.name) for v in (a, b)]
    shape = np.broadcast_shapes(*(p.shape for p in parts))
    test, yes, no = (broadcast(p, shape) for p in parts)
    node = Call("select", common.name, (test.node, yes.node, no.node))
    return Lazy(recorder, node, shape)


def places(x: Lazy, axis: int) -> Lazy:
    """The index along an axis, of length 1 on all others."""
    shape = tuple(n if i == axis else 1 for i, n in enumerate(x.shape))
    steps = tuple(int(i == axis) for i in range(x.ndim))
    return Lazy(x.recorder, Leaf(IOTA, "int64", 0, steps), shape)


def cumsum(x: Lazy, axis: int | None = None, dtype: Any = None) -> Lazy:
    """Running sums along an axis: of a short one, each by itself."""
    x = x.reshape(-1) if axis is None else x
    axis = (axis or 0) % x.ndim
    if x.shape[axis] > _MOST_SUMS:
        raise Untraceable("long running sums")
    lead = (slice(None),) * axis
    shape = (*x.shape[: axis + 1], *x.shape[axis:])
    seen = broadcast(x[(*lead, None)], shape)
    ahead = call("less", places(seen, axis), places(seen, axis + 1))
    kind = summing(x, dtype)
    return select(ahead, 0, cast(seen, kind)).folded("add", axis + 1, False, kind)


def first(kind: str) -> Any:
    """A function: the first place of an extreme, or of a NaN."""

    def run(x: Lazy, axis: int | None = None) -> Lazy:
        x = x.reshape(-1) if axis is None else x
        axis = (axis or 0) % x.ndim
        best = x.folded(kind, axis, True, x.node.dtype)
        hit = call("equal", x, best)
        if x.dtype.kind == "f":
            hit = call("logical_or", hit, call("isnan", x))
        # Vectors of int32 are half as long as those of int64.
        number = "int32" if x.shape[axis] < 1 << 31 else "int64"
        none = x.recorder.constant(x.shape[axis], (), number)
        found = select(hit, places(x, axis).astype(number), none)
        return found.folded("minimum", axis, False, number).astype("int64")

    return run


def _inside(index: Lazy, length: int) -> Lazy:
    """Places along an axis; those outside of it are its ends."""
    return call("minimum", call("maximum", index.astype("int64"), 0), length - 1)


def _fetched(x: Lazy, axis: int, index: Lazy, shape: Shape, view: Any) -> Lazy:
    """Elements at `index` (broadcast to `shape`) along an axis; what lies outside is clipped.

    `view` gives an array without that axis the new shape.
    """
    leaf, length = x.stored().node, x.shape[axis]
    assert isinstance(leaf, Leaf)
    rest = (*x.shape[:axis], *x.shape[axis + 1 :])
    strides = (*leaf.strides[:axis], *leaf.strides[axis + 1 :])
    inner = Leaf(leaf.buffer, leaf.dtype, leaf.offset, strides)
    places = (broadcast(_inside(index, length), shape).node,)
    node = Fetch(viewed(inner, rest, view), places, (leaf.strides[axis],))
    return Lazy(x.recorder, node, shape)


def take(x: Lazy, index: Lazy, axis: int = 0) -> Lazy:
    """NumPy's, but indices outside are clipped."""
    axis %= x.ndim
    lead, tail = x.shape[:axis], x.shape[axis + 1 :]
    shape = (*lead, *index.shape, *tail)
    spread = index.reshape((1,) * len(lead) + index.shape + (1,) * len(tail))
    new = (slice(None),) * len(lead) + (None,) * index.ndim
    return _fetched(x, axis, spread, shape, lambda a: np.broadcast_to(a[(*new, ...)], shape))


def take_along_axis(x: Lazy, index: Lazy, axis: int) -> Lazy:
    """NumPy's, but indices outside are clipped."""
    axis %= x.ndim
    shape = np.broadcast_shapes(
        index.shape, tuple(1 if i == axis else n for i, n in enumerate(x.shape))
    )
    new = (slice(None),) * axis
    return _fetched(x, axis, index, shape, lambda a: np.broadcast_to(a[(*new, None, ...)], shape))


def put_along_axis(x: Lazy, index: Lazy, value: Any, axis: int) -> None:
    """NumPy's, for one place along the axis."""
    axis %= x.ndim
    if index.shape[axis] != 1:
        raise Untraceable("several places along an axis")
    x.become(select(places(x, axis) == index, value, x))


def fetched(x: Lazy, key: Any) -> Lazy:
    """``x[i, j, ...]`` for arrays of integers, one for each of the first axes; negatives wrap."""
    index = key if isinstance(key, tuple) else (key,)
    if not all(isinstance(i, Lazy) and i.dtype.kind in "iu" for i in index):
        raise Untraceable("indices of several kinds")
    leaf, count = whole(x.stored()), len(index)
    lead, tail = np.broadcast_shapes(*(i.shape for i in index)), x.shape[count:]
    shape = (*lead, *tail)
    nodes = []
    for i, length in zip(index, x.shape, strict=False):
        i = i.astype("int64")
        inside = _inside(select(i < 0, i + length, i), length)
        spread = inside.reshape((1,) * (len(lead) - i.ndim) + i.shape + (1,) * len(tail))
        nodes.append(broadcast(spread, shape).node)
    rest = Leaf(leaf.buffer, leaf.dtype, leaf.offset, leaf.strides[count:])
    seen = viewed(rest, tail, lambda a: np.broadcast_to(a, shape))
    return Lazy(x.recorder, Fetch(seen, tuple(nodes), leaf.strides[:count]), shape)
