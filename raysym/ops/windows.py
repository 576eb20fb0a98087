"""Sliding windows over the spatial axes of arrays: sizes, taps, and columns of windows both ways.

Axes are ``(batch, channel, *spatial)``. A tap is one position inside the kernel: the values of all
windows at that tap are one strided slice of the padded array.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

from raysym.errors import RuleError
from raysym.params import Dims
from raysym.types import PartialShape


class Windowed(Protocol):
    """An op page with the usual window parameters."""

    kernel: Dims
    stride: Dims
    dilate: Dims
    pad: Dims


class Window(NamedTuple):
    """Kernel, stride, dilation and padding: one number per spatial axis."""

    kernel: Dims
    stride: Dims
    dilate: Dims
    pad: Dims

    @staticmethod
    def of(op: Windowed) -> Window:
        """The window of an op page; parameters that were left out are filled in."""
        rank = len(op.kernel)
        ones, zeros = (1,) * rank, (0,) * rank
        return Window(op.kernel, op.stride or ones, op.dilate or ones, op.pad or zeros)

    @staticmethod
    def whole(data: Sequence[int]) -> Window:
        """The one window that covers data of these spatial sizes."""
        ones = (1,) * len(data)
        return Window(tuple(data), ones, ones, (0,) * len(data))

    def check(self) -> None:
        """Refuse kernels of more than three axes and parameters of another rank."""
        rank = len(self.kernel)
        if not 1 <= rank <= 3:
            raise RuleError("kernel has a wrong rank", got=self.kernel, expected="1, 2 or 3 axes")
        for name, value in self._asdict().items():
            if len(value) != rank:
                raise RuleError(f"{name} has a wrong rank", got=value, expected=f"{rank} axes")

    def spans(self) -> Dims:
        """Cells that the dilated kernel covers."""
        return tuple(d * (k - 1) + 1 for k, d in zip(self.kernel, self.dilate, strict=True))

    def padded(self, data: Sequence[int]) -> Dims:
        """Spatial sizes after padding."""
        return tuple(n + 2 * p for n, p in zip(data, self.pad, strict=True))

    def sizes(self, data: Sequence[int]) -> Dims:
        """Number of windows along each axis; 0 where the size of the data is unknown."""
        for i, (n, span, p) in enumerate(zip(data, self.spans(), self.pad, strict=True)):
            if n and span > n + 2 * p:
                raise RuleError(
                    "kernel size exceeds the padded input",
                    got=f"{span} cells on spatial axis {i}",
                    expected=f"at most {n + 2 * p}",
                )
        rows = zip(data, self.padded(data), self.spans(), self.stride, strict=True)
        return tuple((m - span) // s + 1 if n else 0 for n, m, span, s in rows)

    def sizes_rounded_up(self, data: Sequence[int]) -> Dims:
        """`sizes` if a last window may hang over the edge; for windows without dilation."""
        rows = zip(data, self.padded(data), self.kernel, self.stride, strict=True)
        return tuple(1 - (k - m) // s if n else 0 for n, m, k, s in rows)

    def sources(self, data: Sequence[int], out: Sequence[int]) -> Dims:
        """Unknown sizes of the data filled in from the number of windows where the stride is 1."""
        rows = zip(data, out, self.spans(), self.stride, self.pad, strict=True)
        return tuple(
            n or (m + span - 1 - 2 * p if m and s == 1 else 0) for n, m, span, s, p in rows
        )

    def transposed(self, data: Sequence[int], adj: Sequence[int]) -> Dims:
        """Spatial sizes that `data` is spread to by the transposed window (0 stays unknown)."""
        rows = zip(data, self.spans(), self.stride, self.pad, adj, strict=True)
        return tuple(s * (n - 1) + span - 2 * p + a if n else 0 for n, span, s, p, a in rows)

    def is_pointwise(self) -> bool:
        """True when windows are single cells of the unpadded data."""
        return all(k == 1 for k in self.kernel) and not any(self.pad)

    def cells(self, x: Any) -> Any:
        """The cells that pointwise windows look at."""
        return x[(slice(None), slice(None), *(slice(None, None, s) for s in self.stride))]

    def reversed(self) -> tuple[slice, ...]:
        """Slices that turn a kernel round on all axes."""
        return (slice(None, None, -1),) * len(self.kernel)

    def turned(self) -> Window:
        """The window of the transposed map, for strides of 1."""
        pad = tuple(span - 1 - p for span, p in zip(self.spans(), self.pad, strict=True))
        return self._replace(pad=pad)

    def taps(self, sizes: Sequence[int]) -> Iterator[tuple[Dims, tuple[slice, ...]]]:
        """Every tap, row by row, and its slice of a padded array with `sizes` windows."""
        for tap in itertools.product(*map(range, self.kernel)):
            rows = zip(tap, sizes, self.stride, self.dilate, strict=True)
            places = (slice(t * d, t * d + s * (n - 1) + 1, s) for t, n, s, d in rows)
            yield tap, (slice(None), slice(None), *places)


def channels_first(shape: PartialShape, last: bool) -> Any:
    """A shape as (batch, channel, *spatial), given one with the channel last."""
    return (shape[0], shape[-1], *shape[1:-1]) if last and shape else shape


def channels_last(shape: PartialShape, last: bool) -> Any:
    """The inverse of `channels_first`."""
    return (shape[0], *shape[2:], shape[1]) if last and shape else shape


def first(array: Any, last: bool) -> Any:
    """A view of an array with the channel at axis 1, given one with the channel last."""
    rank = array.ndim
    return array.transpose(0, rank - 1, *range(1, rank - 1)) if last else array


def final(array: Any, last: bool) -> Any:
    """The inverse of `first`."""
    return array.transpose(0, *range(2, array.ndim), 1) if last else array


def pad_spatial(xp: Any, x: Any, before: Sequence[int], after: Sequence[int], fill: Any = 0) -> Any:
    """`x` with `fill` around its spatial axes."""
    if not any(before) and not any(after):
        return x
    rows = list(zip(x.shape[2:], before, after, strict=True))
    padded = xp.full((*x.shape[:2], *(n + b + a for n, b, a in rows)), fill, x.dtype)
    padded[(slice(None), slice(None), *(slice(b, b + n) for n, b, _ in rows))] = x
    return padded


def crop_spatial(x: Any, pad: Sequence[int], sizes: Sequence[int]) -> Any:
    """The view of `x` that `pad_spatial` put into the middle."""
    places = (slice(p, p + n) for p, n in zip(pad, sizes, strict=True))
    return x[(slice(None), slice(None), *places)]


def columns(xp: Any, padded: Any, window: Window, sizes: Sequence[int]) -> Any:
    """A view of all windows of a padded array: ``(channel, *kernel, batch, *sizes)``."""
    batch, channel, *steps = padded.strides
    inner = [step * d for step, d in zip(steps, window.dilate, strict=True)]
    outer = [step * s for step, s in zip(steps, window.stride, strict=True)]
    shape = (padded.shape[1], *window.kernel, padded.shape[0], *sizes)
    strides = (channel, *inner, batch, *outer)
    return xp.lib.stride_tricks.as_strided(padded, shape, strides)
