"""Kernels that bring rows together by index: added up, or the last one kept, always in one order.

Indexed in-place addition adds in no fixed order on a GPU, and how long the longest run of equal
indices is could only be learned by waiting for it. So rows are sorted by index (stable: duplicates
keep their order) and added up along runs by doubling: after k rounds every row holds the sum of
the last 2^k rows of its run, and the last row of a run holds all of it.
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
    order, taken, last = _runs(xp, index, length)
    ordered = index[order]
    place = xp.arange(index.size) - xp.searchsorted(ordered, ordered)
    sums = rows[order].astype(sum_dtype(rows.dtype))
    step = 1
    while step < index.size:
        inside = place[step:, None] >= step
        earlier = xp.where(inside, sums[:-step], 0)
        sums[step:] += earlier
        step *= 2
    return xp.where(taken, sums[last], 0).astype(rows.dtype, copy=False)


def set_rows(xp: Any, base: Any, rows: Any, index: Any) -> Any:
    """``base (length, d)`` with row ``index[k]`` replaced by ``rows[k]``; the last one stays."""
    order, taken, last = _runs(xp, index, base.shape[0])
    return xp.where(taken, rows[order[last]], base)


def _runs(xp: Any, index: Any, length: int) -> tuple[Any, Any, Any]:
    """The sorting order; for every row of the result: is it there, and where its run ends."""
    order = xp.argsort(index, kind="stable")
    ordered, every = index[order], xp.arange(length)
    ends = xp.searchsorted(ordered, every, side="right")
    taken = ends > xp.searchsorted(ordered, every)
    return order, taken[:, None], xp.clip(ends - 1, 0, None)
