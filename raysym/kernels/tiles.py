"""Tiles of images and filters as matrices at the points of Winograd's transforms, and back.

Channels stay innermost: a transform works on vectors of 16 of them. A `Cube` holds one matrix for
each point of a tile, rows of tiles (or of the depth of filters) by channels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from raysym.kernels.emit import LANES, Emit, Index, Value
from raysym.kernels.epilogue import Results
from raysym.kernels.moving import PANEL, copy, fill
from raysym.kernels.shared import shared_nest
from raysym.kernels.winograd import (
    AREA,
    SIDE,
    Line,
    Matrix,
    Transforms,
    both_ways,
    from_points,
    to_points,
    transforms,
)

_SKEW = LANES  # floats between the matrices of two points, or all would want the same cache lines


class Tiles(NamedTuple):
    """A correlation of stride 1: images ``(n, h, w, c)``, results ``(n, rows, columns, f)``."""

    n: int
    h: int
    w: int
    c: int
    rows: int
    columns: int
    f: int
    r: int  # taps along either side
    pad: tuple[int, int]

    @property
    def m(self) -> int:
        """Results along the side of a tile."""
        return SIDE + 1 - self.r

    @property
    def high(self) -> int:
        """Lines of tiles of an image."""
        return -(-self.rows // self.m)

    @property
    def wide(self) -> int:
        """Tiles of a line."""
        return -(-self.columns // self.m)

    @property
    def lines(self) -> int:
        """Lines of tiles of all images."""
        return self.n * self.high

    @property
    def panels(self) -> int:
        """Panels of filters."""
        return -(-self.f // PANEL)

    @property
    def strip_width(self) -> int:
        """Columns of the data that a line of tiles reads, padding included."""
        return self.wide * self.m + self.r - 1

    def strip_floats(self) -> int:
        """Data of a line of tiles."""
        return SIDE * self.strip_width * self.c

    def matrices(self) -> Transforms:
        """The transforms of such tiles."""
        return transforms(self.m)


class Filters(NamedTuple):
    """Filters as users see them: floats between two of a panel, and between two of the depth.

    The ``r r`` taps of one pair lie together; `turned`: last tap first.
    """

    weight: Value
    step: int
    depth_step: int
    r: int
    turned: bool = False


class Cube(NamedTuple):
    """A matrix for each point of a tile, one behind the other."""

    e: Emit
    base: Value
    rows: int
    width: int

    def matrix(self, point: Index) -> Value:
        """The matrix of a point."""
        return self.e.at(self.base, self.e.times(point, cube_floats(self.rows, self.width, 1)))

    def write(self, square: list[Line], offset: Index, lanes: int = LANES) -> None:
        """One vector for each point."""
        for i, value in enumerate(value for line in square for value in line):
            self.e.store(value, self.matrix(i), offset, lanes)

    def read(self, offset: Index) -> list[Line]:
        """One vector of each point."""
        found = [self.e.load(self.matrix(i), offset) for i in range(AREA)]
        return [found[i : i + SIDE] for i in range(0, AREA, SIDE)]


def cube_floats(rows: int, width: int, points: int = AREA) -> int:
    """Memory of a cube, or of some of its matrices."""
    return points * (rows * width + _SKEW)


# ----- tiles of images


def read_data(
    e: Emit, t: Tiles, x: Value, strip: Value, made: Cube, first: Index, lines: int
) -> None:
    """Transform the data of `lines` lines of tiles; `strip` is zero beside it; shared."""
    matrix, width = t.matrices().data, t.strip_width * t.c

    def line(i: Index) -> None:
        _fill_strip(e, t, x, strip, e.plus(first, i))

        def one(q: Index) -> None:
            source = e.at(strip, e.times(q, t.m * t.c))
            row = e.times(e.plus(e.times(i, t.wide), q), t.c)

            def cells(c: Index, n: int) -> None:
                square = [[e.load(source, e.plus(c, a * width + b * t.c), n) for b in range(SIDE)]
                          for a in range(SIDE)]  # fmt: skip
                made.write(_at_points(e, matrix, square), e.plus(row, c), n)

            e.columns(t.c, cells)

        e.nest((t.wide,), one)

    shared_nest(e, (lines,), line)


def _at_points(e: Emit, matrix: Matrix, square: list[Line]) -> list[Line]:
    return both_ways(lambda line: to_points(e, matrix, line), square)


def _from_points(e: Emit, matrix: Matrix, square: list[Line]) -> list[Line]:
    return both_ways(lambda line: from_points(e, matrix, line), square)


def _split(e: Emit, t: Tiles, line: Index) -> tuple[Index, Index]:
    """The image of a line of tiles, and its number there."""
    return (line, 0) if t.high == 1 else (e.share(line, t.high), e.rest(line, t.high))


def _fill_strip(e: Emit, t: Tiles, x: Value, strip: Value, line: Index) -> None:
    """The rows of an image that a line of tiles reads, zeros where it has none."""
    image, down = _split(e, t, line)
    source = e.at(x, e.times(image, t.h * t.w * t.c))

    def row(i: Index) -> None:
        at = e.plus(i, e.times(down, t.m), -t.pad[0])
        place = e.at(strip, e.times(i, t.strip_width * t.c), t.pad[1] * t.c)
        with e.b.if_else(e.b.icmp_unsigned("<", e.const(at), e.const(t.h))) as (inside, beside):
            with inside:
                copy(e, e.at(source, e.times(at, t.w * t.c)), place, t.w * t.c)
            with beside:
                fill(e, place, t.w * t.c)

    e.loop(0, SIDE, row)


def read_results(
    e: Emit, t: Tiles, y: Value, made: Cube, first: Index, lines: int, lanes: list[int],
    spare: Value,
) -> None:  # fmt: skip
    """The adjoint of `write_results`; `spare` holds zeros."""
    matrix = t.matrices().results

    def one(places: list[list[Line]], at: int, n: int, row: Index) -> None:
        square = [[e.load(place, at, n) for (place,) in line] for line in places]
        made.write(_at_points(e, matrix, square), row)

    _each_square(e, t, [y], first, lines, lanes, spare, one)


def write_results(
    e: Emit, t: Tiles, made: Cube, y: Results, first: Index, lines: int, lanes: list[int],
    spare: Value, bias: Value | None,
) -> None:  # fmt: skip
    """Transform a panel of results back; `y` and `bias` begin with it, `spare` is overwritten."""
    matrix = t.matrices().results

    def one(places: list[list[Line]], at: int, n: int, row: Index) -> None:
        for line, values in zip(places, _from_points(e, matrix, made.read(row)), strict=True):
            for place, value in zip(line, values, strict=True):
                sum_ = value if bias is None else e.b.fadd(value, e.load(bias, at, n))
                y.at_places(place).put(sum_, at, at, n)

    _each_square(e, t, y.places, first, lines, lanes, spare, one)


def _each_square(
    e: Emit, t: Tiles, arrays: list[Value], first: Index, lines: int, lanes: list[int],
    spare: Value, body: Callable[[list[list[Line]], int, int, Index], None],
) -> None:  # fmt: skip
    """``body(places, offset there, lanes, offset in the cube)`` for all vectors of all tiles.

    For each result of a tile, the places are those in all arrays.
    """

    def one(i: Index, q: Index) -> None:
        row = e.times(e.plus(e.times(i, t.wide), q), PANEL)
        each = [_places(e, t, array, (e.plus(first, i), q), spare) for array in arrays]
        places = [
            [list(some) for some in zip(*line, strict=True)] for line in zip(*each, strict=True)
        ]
        for j, n in enumerate(lanes):
            body(places, j * LANES, n, e.plus(row, j * LANES))

    e.nest((lines, t.wide), one)


def _places(e: Emit, t: Tiles, y: Value, tile: tuple[Index, Index], spare: Value) -> list[Line]:
    """Where the results of a tile lie: those beyond the image in `spare`."""
    (image, down), across = _split(e, t, tile[0]), tile[1]
    corner = e.at(y, e.times(image, t.rows * t.columns * t.f),
                  e.times(down, t.m * t.columns * t.f), e.times(across, t.m * t.f))  # fmt: skip

    def place(a: int, b: int) -> Value:
        there = e.at(corner, (a * t.columns + b) * t.f)
        for size, i, at in ((t.rows, down, a), (t.columns, across, b)):
            if at >= size % t.m > 0:
                inside = e.b.icmp_signed("<", e.const(e.plus(e.times(i, t.m), at)), e.const(size))
                there = e.b.select(inside, there, spare)
        return there

    return [[place(a, b) for b in range(t.m)] for a in range(t.m)]


# ----- filters


def read_filters(e: Emit, g: Filters, made: Cube, start: Index, lanes: list[int]) -> None:
    """Transform the panel of filters that begins at `start`."""
    matrix, area = transforms(SIDE + 1 - g.r).taps, g.r * g.r

    def one(k: Index) -> None:
        for j, n in enumerate(lanes):
            taps = _taps(e, g, _pair(e, g, start, k, j), n)
            taps = taps[::-1] if g.turned else taps
            square = [taps[i : i + g.r] for i in range(0, area, g.r)]
            made.write(_at_points(e, matrix, square), e.plus(e.times(k, PANEL), j * LANES))

    e.loop(0, made.rows, one)


def write_filters(e: Emit, g: Filters, made: Cube, start: Index, lanes: list[int]) -> None:
    """The adjoint of `read_filters`, from sums over all tiles."""
    matrix = transforms(SIDE + 1 - g.r).taps

    def one(k: Index) -> None:
        for j, n in enumerate(lanes):
            square = _from_points(e, matrix, made.read(e.plus(e.times(k, PANEL), j * LANES)))
            taps = [value for line in square for value in line]
            first = _pair(e, g, start, k, j)
            for at in range(0, len(taps), LANES):
                some = taps[at : at + LANES]
                rows = e.transposed(some + [e.zero] * (LANES - len(some)))
                for i in range(n):
                    e.store(rows[i], first, i * g.step + at, len(some))

    e.loop(0, made.rows, one)


def _pair(e: Emit, g: Filters, start: Index, k: Index, j: int) -> Value:
    return e.at(g.weight, e.times(start, g.step), e.times(k, g.depth_step), j * LANES * g.step)


def _taps(e: Emit, g: Filters, first: Value, lanes: int) -> list[Value]:
    """A vector over neighbouring filters for each tap; zeros behind the last filter."""
    found: list[Value] = []
    for at in range(0, g.r * g.r, LANES):
        n = min(LANES, g.r * g.r - at)
        rows = [e.load(first, i * g.step + at, n) for i in range(lanes)]
        found += e.transposed(rows + [e.zero] * (LANES - lanes))[:n]
    return found
