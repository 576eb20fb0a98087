"""Kernels that bring rows together by index: added up, or the last one kept, always in one order.

Indexed in-place addition adds in no fixed order on a GPU. Here rows are sorted by index first
(stable, so duplicates keep their order), and every result row is one contiguous segment.
"""

from __future__ import annotations

from typing import Any

from raysym.ops.numeric import sum_dtype


def in_range(xp: Any, index: Any, length: int, mode: str = "clip") -> Any:
    """`index` as int64 (fractions dropped) inside ``0 .. length - 1``: clipped or wrapped."""
    whole = index.astype("int64")
    return whole % length if mode == "wrap" else xp.clip(whole, 0, length - 1)


def add_rows(xp: Any, rows: Any, index: Any, length: int) -> Any:
    """``(length, d)``: row i is the sum of those of ``rows (n, d)`` whose `index` is i."""
    order = xp.argsort(index, kind="stable")
    starts, ends = _segments(xp, index[order], length)
    wide = rows[order].astype(sum_dtype(rows.dtype), copy=False)
    # Empty segments may begin behind the last row; reduceat wants a row there.
    padded = xp.concatenate([wide, xp.zeros((1, *wide.shape[1:]), wide.dtype)])
    sums = xp.add.reduceat(padded, starts, axis=0)
    return xp.where((ends > starts)[:, None], sums, 0).astype(rows.dtype, copy=False)


def set_rows(xp: Any, base: Any, rows: Any, index: Any) -> Any:
    """``base (length, d)`` with row ``index[k]`` replaced by ``rows[k]``; the last one stays."""
    order = xp.argsort(index, kind="stable")
    starts, ends = _segments(xp, index[order], base.shape[0])
    last = order[xp.clip(ends - 1, 0, None)]
    return xp.where((ends > starts)[:, None], rows[last], base)


def _segments(xp: Any, ordered: Any, length: int) -> tuple[Any, Any]:
    every = xp.arange(length)
    return xp.searchsorted(ordered, every), xp.searchsorted(ordered, every, side="right")
