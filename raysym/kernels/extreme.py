"""Places of the largest and smallest along rows, found in one pass.

Four running vectors keep the best so far and where it was; a NaN is better than all numbers, and of
equals the first wins.
"""

from __future__ import annotations

from typing import NamedTuple

from raysym.kernels.constants import lanes_constant, whole
from raysym.kernels.emit import IVEC, LANES, MASK, Emit, Index, Value, lanes_of
from raysym.kernels.shared import shared_nest
from raysym.kernels.specs import shared_maker
from raysym.kernels.typed import splat

_WAYS = 4
MOST = 1 << 31  # places are int32


class _Best(NamedTuple):
    """Vectors of values, and of their places."""

    value: Value
    place: Value


@shared_maker
def place_of_extreme(e: Emit, rows: int, count: int, largest: bool) -> None:
    """``(rows, count) -> (rows,)``, places as floats; arguments: data, result."""
    source, target = e.arg(0), e.arg(1)

    def row(i: Index) -> None:
        best = _along(e, e.at(source, e.times(i, count)), count, largest)
        place = e.b.extract_element(best.place, whole(IVEC.element, 0))
        e.store1(e.b.sitofp(place, e.kind), target, i)

    shared_nest(e, (rows,), row)


def _along(e: Emit, row: Value, count: int, largest: bool) -> _Best:
    full = count // (_WAYS * LANES) * _WAYS * LANES

    def better(best: _Best, i: Index, at: Index, lanes: int) -> _Best:
        value = e.load(row, at, lanes)
        value = value if largest else e.b.fneg(value)
        found = _wins(e, value, best.value)
        if lanes < LANES:
            found = e.b.and_(found, lanes_constant(MASK, *(lane < lanes for lane in range(LANES))))
        place = splat(e, e.b.trunc(e.const(i), IVEC.element))
        return _chosen(e, found, _Best(value, place), best)

    def step(i: Index, *flat: Value) -> list[Value]:
        made = [better(_Best(*flat[2 * j : 2 * j + 2]), i, e.plus(i, j * LANES), LANES)
                for j in range(_WAYS)]  # fmt: skip
        return [part for best in made for part in best]

    start = [e.number(-float("inf")), e.integer(0)] * _WAYS
    flat = e.loop(0, full, step, start, step=_WAYS * LANES) if full else start
    ways = [_Best(*flat[2 * j : 2 * j + 2]) for j in range(_WAYS)]
    for j, lanes in enumerate(lanes_of(count - full)):
        ways[j] = better(ways[j], full, full + j * LANES, lanes)
    return _joined(e, ways)


def _joined(e: Emit, ways: list[_Best]) -> _Best:
    """The best of all lanes, in every lane."""
    offsets = [lanes_constant(IVEC, *range(j * LANES, (j + 1) * LANES)) for j in range(_WAYS)]
    ways = [_Best(best.value, e.b.add(best.place, offset))
            for best, offset in zip(ways, offsets, strict=True)]  # fmt: skip
    best = ways[0]
    for other in ways[1:]:
        best = _of_two(e, best, other)
    for apart in (8, 4, 2, 1):
        order = [(lane + apart) % LANES for lane in range(LANES)]
        best = _of_two(e, best, _Best(*(e.shuffle(part, part, order) for part in best)))
    return best


def _of_two(e: Emit, a: _Best, b: _Best) -> _Best:
    """The better; of equals the one that comes first."""
    is_first = e.b.icmp_signed("<", b.place, a.place)
    is_tie = e.b.not_(e.b.or_(_wins(e, b.value, a.value), _wins(e, a.value, b.value)))
    return _chosen(e, e.b.or_(_wins(e, b.value, a.value), e.b.and_(is_tie, is_first)), b, a)


def _wins(e: Emit, x: Value, best: Value) -> Value:
    """True where x is larger, or NaN unlike the best."""
    is_number = e.b.fcmp_ordered("ord", best, best)
    return e.b.and_(e.b.fcmp_unordered(">", x, best), is_number)


def _chosen(e: Emit, condition: Value, a: _Best, b: _Best) -> _Best:
    return _Best(*(e.b.select(condition, x, y) for x, y in zip(a, b, strict=True)))
