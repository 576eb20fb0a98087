"""The micro-kernel: products of a few rows and columns, whose sums stay in registers meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from raysym.kernels.emit import LANES, Emit, Index, Value
from raysym.kernels.moving import PANEL

UNROLL = 4


def nothing(k: Index) -> None:
    """No memory is needed later."""


def tile(
    e: Emit,
    a: Value,
    rows: Sequence[int],
    a_step: int,
    b: Value,
    b_step: int,
    depth: int,
    sums: Sequence[Value],
    lanes: Sequence[int],
    ahead: Callable[[Index], None] = nothing,
) -> list[Value]:
    """``sums[i][j] += sum_k a[rows[i] + k a_step] b[k b_step + 16 j]``, k from 0 in order.

    ``ahead(k)`` may ask for memory that is needed later.
    """
    width = len(lanes)

    def products(k: Index, count: int, *sums: Value) -> list[Value]:
        at_a, at_b, made = e.at(a, e.times(k, a_step)), e.at(b, e.times(k, b_step)), list(sums)
        ahead(k)
        for u in range(count):
            right = [e.load(at_b, u * b_step + j * LANES, n) for j, n in enumerate(lanes)]
            for i, row in enumerate(rows):
                left = e.splat(e.load1(at_a, row + u * a_step))
                for j in range(width):
                    made[i * width + j] = e.fma(left, right[j], made[i * width + j])
        return made

    full = depth // UNROLL * UNROLL
    made = list(sums)
    if full:
        made = e.loop(0, full, lambda k, *s: products(k, UNROLL, *s), made, step=UNROLL)
    return products(full, depth - full, *made) if depth - full else made


def register_groups(e: Emit, lanes: Sequence[int]) -> list[tuple[int, Sequence[int]]]:
    """Vectors of a panel whose sums fit the registers together, with the columns before them.

    Vectors of float64 take two registers each.
    """
    most = PANEL // LANES * 4 // e.nbytes
    return [(at * LANES, lanes[at : at + most]) for at in range(0, len(lanes), most)]


def prefetch_rows(
    e: Emit, place: Value, step: int, rows: int, vectors: int, k: Index, depth: int
) -> None:
    """The share of product `k` when `depth` products ask for the rows that a tile will write.

    A processor that meets all of them at once, when the tile is done, waits for each.
    """
    first = e.share(e.times(k, rows), depth)
    for more in range(-(-rows * UNROLL // max(UNROLL, depth))):
        for j in range(vectors):
            offset = e.plus(e.times(first, step), more * step + j * LANES)
            e.prefetch(place, offset, writes=True)
