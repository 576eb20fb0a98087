"""Winograd's transforms: short correlations by products at six points.

A tile of ``m`` results of a correlation with ``r`` taps, ``m + r = 7``, is
``A' ((G g) * (B' d))``: 6 products in place of ``m r``, 36 of 144 in two dimensions (Lavin and
Gray 2016). The points 0, +-5/8, +-3/2, infinity cost float32 about half a digit; those of the
paper cost more than one (Barabasz et al. 2020). Points in pairs let both signs share their sums.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import NamedTuple, TypeAlias

from raysym.kernels.emit import Emit, Value

POINTS = (Fraction(0), Fraction(5, 8), Fraction(-5, 8), Fraction(3, 2), Fraction(-3, 2))
SIDE = len(POINTS) + 1  # values of a tile along one axis
AREA = SIDE * SIDE

Matrix: TypeAlias = Sequence[Sequence[Fraction]]
Line: TypeAlias = list[Value]


class Transforms(NamedTuple):
    """The matrices of tiles of `m` results: data B' (6, 6), taps G (6, r), results A (6, m)."""

    data: Matrix
    taps: Matrix
    results: Matrix


def transforms(m: int) -> Transforms:
    """The matrices of one tile size."""
    others = [[q for q in POINTS if q != p] for p in POINTS]
    sizes = [_value_at(_product(rest), p) for p, rest in zip(POINTS, others, strict=True)]
    data = [[*_product(rest), Fraction(0)] for rest in others] + [_product(POINTS)]
    pairs = zip(_powers(SIDE + 1 - m), [*sizes, Fraction(1)], strict=True)
    return Transforms(data, [[x / size for x in row] for row, size in pairs], _powers(m))


def _powers(count: int) -> list[list[Fraction]]:
    last = [Fraction(int(i == count - 1)) for i in range(count)]  # the point at infinity
    return [[p**i for i in range(count)] for p in POINTS] + [last]


def _product(roots: Sequence[Fraction]) -> list[Fraction]:
    """Coefficients of the polynomial with these roots, lowest first."""
    made = [Fraction(1)]
    for root in roots:
        made = [a - root * b for a, b in zip([Fraction(0), *made], [*made, Fraction(0)],
                                             strict=True)]  # fmt: skip
    return made


def _value_at(polynomial: Sequence[Fraction], x: Fraction) -> Fraction:
    return sum((c * x**i for i, c in enumerate(polynomial)), Fraction(0))


# ----- along one axis


def to_points(e: Emit, matrix: Matrix, line: Sequence[Value]) -> Line:
    """``matrix line`` for a matrix with a row for each point."""
    made = [_combined(e, matrix[0], line)]
    for positive in (1, 3):
        row = matrix[positive]
        even = _combined(e, [x if i % 2 == 0 else Fraction(0) for i, x in enumerate(row)], line)
        lead = next(x for i, x in reversed(list(enumerate(row))) if i % 2 and x)
        odd = _combined(e, [x / lead if i % 2 else Fraction(0) for i, x in enumerate(row)], line)
        made += [e.fma(odd, e.number(float(lead)), even), e.fma(odd, e.number(-float(lead)), even)]
    return [*made, _combined(e, matrix[-1], line)]


def from_points(e: Emit, matrix: Matrix, line: Sequence[Value]) -> Line:
    """``matrix' line`` for a matrix with a row for each point."""
    b = e.b
    sums = [b.fadd(line[1], line[2]), b.fadd(line[3], line[4])]
    differences = [b.fsub(line[1], line[2]), b.fsub(line[3], line[4])]
    made = []
    for i in range(len(matrix[0])):
        column = [matrix[j][i] for j in (0, 1, 3, 5)]
        pairs = differences if i % 2 else sums
        made.append(_combined(e, column, [line[0], *pairs, line[5]]))
    return made


def _combined(e: Emit, factors: Sequence[Fraction], line: Sequence[Value]) -> Value:
    """The sum of ``factor value``; those with factor 1 first, as they need no product."""
    terms = [(float(f), v) for f, v in zip(factors, line, strict=True) if f]
    total: Value = None
    for factor, value in sorted(terms, key=lambda term: term[0] != 1.0):
        if total is None:
            total = value if factor == 1.0 else e.b.fmul(value, e.number(factor))
        elif factor == 1.0:
            total = e.b.fadd(total, value)
        else:
            total = e.fma(value, e.number(factor), total)
    return total


# ----- along both axes


def both_ways(along: Callable[[Line], Line], square: Sequence[Line]) -> list[Line]:
    """`along` on the columns of a square of values, then on the rows."""
    columns = [along([row[j] for row in square]) for j in range(len(square[0]))]
    return [along([column[i] for column in columns]) for i in range(len(columns[0]))]
