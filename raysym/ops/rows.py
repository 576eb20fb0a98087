"""Kernels that bring rows together by index: added up, or the last one kept, always in one order.

Indexed in-place addition adds in no fixed order on a GPU, and how long the longest run of equal
indices is could only be learned by waiting for it. So rows are sorted by index (stable: duplicates
keep their order) and added up along runs by doubling: after k rounds every row holds the sum of
the last 2^k rows of its run, and the last row of a run holds all of it. Then every row of a run
writes the same, so that it does not matter which one is written last.
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
    ordered = index[order]
    place = xp.arange(index.size) - xp.searchsorted(ordered, ordered)
    sums = rows[order].astype(sum_dtype(rows.dtype), copy=False)
    step = 1
    while step < index.size:
        inside = place[step:, None] >= step
        # A new array: source and target of the addition overlap.
        earlier = xp.where(inside, sums[:-step], sums.dtype.type(0))
        sums[step:] += earlier
        step *= 2
    made = xp.zeros((length, *rows.shape[1:]), rows.dtype)
    made[ordered] = sums[_ends(xp, ordered)].astype(rows.dtype, copy=False)
    return made


def set_rows(xp: Any, base: Any, rows: Any, index: Any) -> Any:
    """``base (length, d)`` with row ``index[k]`` replaced by ``rows[k]``; the last one stays."""
    order = xp.argsort(index, kind="stable")
    ordered = index[order]
    made = base.copy()
    made[ordered] = rows[order[_ends(xp, ordered)]]
    return made


def _ends(xp: Any, ordered: Any) -> Any:
    """For every row the last one of its run."""
    return xp.searchsorted(ordered, ordered, side="right") - 1
