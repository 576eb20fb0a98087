"""Convolution with one filter for each channel: tiles of pixels, vectors of channels.

There is nothing to share between channels. The sums of a tile of one or two rows of pixels stay in
registers, and so do their taps; each vector of the data is loaded once for all of its pixels. What
lies beside an image is left out, above and below it a line of zeros is read: nothing is padded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from raysym.kernels.conv import first_cell, taps_of
from raysym.kernels.emit import LANES, Emit, Index, Value
from raysym.kernels.geometry import Geometry, phases_of
from raysym.kernels.moving import fill, write_transpose
from raysym.kernels.planes import Plane, Tile, data_plane, forward_plane
from raysym.kernels.shared import apart, first_only, is_shared, meet, share_of, shared_nest
from raysym.kernels.specs import shared_maker

_TAPS = 25  # more would not stay in registers


def has_channels(g: Geometry) -> bool:
    """True for filters of single channels that are small enough."""
    return g.is_flat and g.groups == g.c == g.f > 1 and g.area <= _TAPS


def depthwise_space(g: Geometry) -> int:
    """Workspace in floats: taps with channels last, and a line of zeros."""
    return (g.area + max(g.w, g.out[1])) * g.c


# ----- makers


@shared_maker
def depthwise_forward(e: Emit, fields: tuple[int, ...], has_bias: bool) -> None:
    """Arguments: data, weight, [bias,] result, workspace."""
    g = Geometry(*fields)
    space, bias = e.arg(3 + has_bias), e.arg(2) if has_bias else None
    taps, zeros = _turned_taps(e, g, e.arg(1), space), _zero_line(e, g, space)
    meet(e)
    sums = _Sums(forward_plane(g), list(range(g.area)), e.arg(2 + has_bias))
    _slide(e, [sums], e.arg(0), taps, zeros, bias)


@shared_maker
def depthwise_data(e: Emit, fields: tuple[int, ...]) -> None:
    """Arguments: gradient of the result, weight, gradient of the data, workspace."""
    g = Geometry(*fields)
    grad, dx, space, phases = e.arg(0), e.arg(2), e.arg(3), phases_of(g)
    taps, zeros = _turned_taps(e, g, e.arg(1), space), _zero_line(e, g, space)
    if not all(p.is_live for p in phases):
        fill(e, dx, g.cells * g.c)
    meet(e)
    sums = [_Sums(data_plane(g, p), taps_of(g, p), e.at(dx, first_cell(g, p) * g.c))
            for p in phases if p.is_live]  # fmt: skip
    for count in dict.fromkeys(s.plane.groups(e) for s in sums):  # neighbouring rows together
        _slide(e, [s for s in sums if s.plane.groups(e) == count], grad, taps, zeros)


@shared_maker
def depthwise_weight(e: Emit, fields: tuple[int, ...]) -> None:
    """Arguments: gradient of the result, data, gradient of the weight, workspace."""
    g = Geometry(*fields)
    space, full = e.arg(3), g.c // LANES
    zeros = _zero_line(e, g, space)
    meet(e)
    if full:
        first, end = share_of(e, full) if is_shared(e) else (0, full)
        with apart(e):
            _if_any(e, first, end, lambda: _correlate(e, g, zeros, lambda body: e.loop(
                e.times(first, LANES), e.times(end, LANES), lambda c: body(c, LANES), step=LANES
            )))  # fmt: skip
    if g.c % LANES:
        with first_only(e):
            _correlate(e, g, zeros, lambda body: body(full * LANES, g.c % LANES))
    meet(e)
    write_transpose(e, space, g.c, e.arg(2), g.area, g.area, g.c)


def _if_any(e: Emit, first: Index, end: Index, body: Callable[[], None]) -> None:
    if isinstance(first, int):
        body()
    else:
        with e.b.if_then(e.b.icmp_signed("<", first, end)):
            body()


def _turned_taps(e: Emit, g: Geometry, weight: Value, space: Value) -> Value:
    """Weight ``(C, R S)`` as ``(R S, C)``, in the workspace."""
    write_transpose(e, weight, g.area, space, g.c, g.c, g.area)
    return space


def _zero_line(e: Emit, g: Geometry, space: Value) -> Value:
    """What is read above and below an image."""
    zeros = e.at(space, g.area * g.c)
    fill(e, zeros, max(g.w, g.out[1]) * g.c)
    return zeros


# ----- tiles


class _Sums(NamedTuple):
    """What is computed: the plane, the numbers of its taps in order, and where it is stored."""

    plane: Plane
    taps: Sequence[int]
    y: Value


class _Patch(NamedTuple):
    """A tile of one place: the lines of x that it reads, of y that it has, by offset and row."""

    plane: Plane
    tile: Tile
    column: Index
    lines: dict[int, Value]
    rows: list[Value]

    def cells(self, e: Emit, c: Index, lanes: int) -> Iterator[tuple[Value, list[tuple[int, ...]]]]:
        """The vectors of x with what reads them: (row, column, tap); taps come in order."""
        rows, columns, channels = self.plane.rows, self.plane.columns, self.plane.channels
        corner = e.plus(e.times(self.column, columns.stride * channels), c)
        for a, line in self.lines.items():
            for b in self.tile.seen:
                value = e.load(line, e.plus(corner, (columns.low + b) * channels), lanes)
                yield value, [(h, w, r * columns.taps + s)
                              for h, r in rows.readers(len(self.rows), a)
                              for w, s in columns.readers(self.tile.width, b)]  # fmt: skip

    def place(self, e: Emit, row: int, column: int, c: Index) -> Value:
        """Where y has a cell of the tile."""
        step = self.plane.columns.apart * self.plane.channels
        return e.at(self.rows[row], e.times(self.column, step), column * step, c)


def _slide(
    e: Emit, parts: Sequence[_Sums], x: Value, taps: Value, zeros: Value, bias: Value | None = None
) -> None:
    """``y[pixel, c] = sum of x[window of the pixel, c] taps[c] (+ bias)`` of parts, row by row."""
    plane = parts[0].plane

    def row(i: Index, r: Index) -> None:
        for part in parts:

            def patch(patch: _Patch, part: _Sums = part) -> None:
                e.columns(plane.channels, lambda c, n: _sum(e, part, patch, taps, bias, c, n))

            _each_patch(e, _Lines(part.plane, x, part.y, zeros, i, r), patch)

    shared_nest(e, (plane.images, plane.groups(e)), row)


def _sum(
    e: Emit, part: _Sums, patch: _Patch, taps: Value, bias: Value | None, c: Index, lanes: int
) -> None:
    factors = [e.load(taps, e.plus(c, t * part.plane.channels), lanes) for t in part.taps]
    width, start = patch.tile.width, e.zero if bias is None else e.load(bias, c, lanes)
    sums = [start] * (len(patch.rows) * width)
    for value, readers in patch.cells(e, c, lanes):
        for h, w, t in readers:
            sums[h * width + w] = e.fma(value, factors[t], sums[h * width + w])
    for i, total in enumerate(sums):
        e.store(total, patch.place(e, i // width, i % width, c), 0, lanes)


def _correlate(
    e: Emit, g: Geometry, zeros: Value, span: Callable[[Callable[[Index, int], None]], object]
) -> None:
    """``sums[tap, c] = sum over pixels of x[pixel + tap, c] grad[pixel, c]`` for a span of c."""
    plane, sums = forward_plane(g), e.arg(3)

    def clear(c: Index, n: int) -> None:
        for t in range(plane.area):
            e.store(e.zero, sums, e.plus(c, t * plane.channels), n)

    def some(patch: _Patch, c: Index, n: int) -> None:
        heads = {(h, w): e.load(patch.place(e, h, w, c), 0, n)
                 for h in range(len(patch.rows)) for w in range(patch.tile.width)}  # fmt: skip
        made: dict[int, Value] = {}
        for value, readers in patch.cells(e, c, n):
            for h, w, t in readers:
                made[t] = e.fma(value, heads[h, w], made.get(t, e.zero))
        for t, total in made.items():
            at = e.plus(c, t * plane.channels)
            e.store(e.b.fadd(e.load(sums, at, n), total), sums, at, n)

    def row(i: Index, r: Index) -> None:
        lines = _Lines(plane, e.arg(1), e.arg(0), zeros, i, r)
        _each_patch(e, lines, lambda patch: span(lambda c, n: some(patch, c, n)))

    span(clear)
    e.nest((plane.images, plane.groups(e)), row)


class _Lines(NamedTuple):
    """Some rows of an image: those of y, and what they read."""

    plane: Plane
    x: Value
    y: Value
    zeros: Value
    image: Index
    group: Index

    def read(self, e: Emit, offset: int) -> Value:
        """A line of x, or zeros beside the image."""
        rows, high = self.plane.rows, self.plane.height(e)
        wide = self.plane.columns.size * self.plane.channels
        number = e.plus(e.times(self.group, high * rows.stride), rows.low + offset)
        line = e.at(self.x, e.times(self.image, rows.size * wide), e.times(number, wide))
        if rows.is_inside(0, offset) and rows.is_inside(rows.cells - high, offset):
            return line
        inside = e.b.icmp_unsigned("<", e.const(number), e.const(rows.size))
        return e.b.select(inside, line, self.zeros)

    def written(self, e: Emit) -> list[Value]:
        """Where the rows of y begin."""
        rows, high = self.plane.rows, self.plane.height(e)
        wide = self.plane.columns.total * self.plane.channels
        first = e.times(self.group, high * rows.apart * wide)
        top = e.at(self.y, e.times(self.image, rows.total * wide), first)
        return [e.at(top, h * rows.apart * wide) for h in range(high)]


def _each_patch(e: Emit, lines: _Lines, body: Callable[[_Patch], object]) -> None:
    """All tiles of some rows."""
    plane = lines.plane
    read = {a: lines.read(e, a) for a in plane.rows.offsets(plane.height(e))}
    written = lines.written(e)
    for tile in plane.tiles(e):

        def one(q: Index, tile: Tile = tile) -> None:
            body(_Patch(plane, tile, q, read, written))

        if tile.end - tile.start == tile.width:
            one(tile.start)
        else:
            e.loop(tile.start, tile.end, one, step=tile.width)
