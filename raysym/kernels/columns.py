"""Gradients as matrix products over columns of windows.

Weight gradients: sums that outgrow the cache would be read and written again for every block of
pixels; over columns each stays in a register until it is complete. What that costs is one copy of
the data. Data gradients: few channels would leave most lanes of vectors empty; over all taps
together they fill them. What that costs is adding up the windows.
"""

from __future__ import annotations

from raysym.kernels.conv import padded, windows_of
from raysym.kernels.emit import LANES, Emit, Index, Value, lanes_of
from raysym.kernels.gemm import product_into
from raysym.kernels.geometry import Geometry
from raysym.kernels.moving import PANEL, copy, fill, write_transpose
from raysym.kernels.product import Product
from raysym.kernels.shared import meet, own, own_floats, shared_nest
from raysym.kernels.specs import shared_maker

_SUMS = 1 << 20  # floats of sums from which the copy pays (measured)
_FEW, _SOME_TAPS = 8, 4  # channels that fill half a vector, taps that fill it together
_BLOCK_BYTES = 1 << 19  # of windows that are added up before the next are made
_CELLS = 1 << 17  # of single cells, where a copy is no larger than the data


def has_columns(g: Geometry) -> bool:
    """True where the copy pays: for many sums of few pixels."""
    sums = g.f * _width(g)
    single = g.r == g.s == 1 and sums >= _CELLS
    return g.is_plain and (single or sums > _SUMS > _pixels(g) * PANEL)


def has_folds(g: Geometry) -> bool:
    """True where windows are added up: few channels, and no cell between windows."""
    meet = g.stride_h <= g.r and g.stride_w <= g.s
    return g.is_plain and meet and g.c <= _FEW and g.area >= _SOME_TAPS


def _width(g: Geometry) -> int:
    return g.c * g.r * g.s


def _pixels(g: Geometry) -> int:
    return g.n * g.out[0] * g.out[1]


def _product(g: Geometry) -> Product:
    return Product(g.f, _width(g), _pixels(g), turned_a=True)


def columns_space(g: Geometry) -> int:
    """Workspace in floats: padded data, columns, sums with channels last, and the product's."""
    return g.padded_floats() + (_pixels(g) + g.f) * _width(g) + _product(g).workspace()


@shared_maker
def columns_weight(e: Emit, fields: tuple[int, ...]) -> None:
    """Arguments: gradient of the result, data, gradient of the weight, workspace."""
    g = Geometry(*fields)
    grad, weight, space, area = e.arg(0), e.arg(2), e.arg(3), g.r * g.s
    x = padded(e, g, e.arg(1), space)
    columns = e.at(space, g.padded_floats())
    sums = weight if area == 1 else e.at(columns, _pixels(g) * _width(g))
    rest = e.at(columns, (_pixels(g) + g.f) * _width(g))
    rest = own(e, rest, _product(g).workspace())
    meet(e)
    _write_columns(e, g, x, columns)
    meet(e)
    product_into(e, _product(g), grad, columns, None, sums, rest)

    def turn(f: Index) -> None:
        at = e.times(f, _width(g))
        write_transpose(e, e.at(sums, at), g.c, e.at(weight, at), area, area, g.c)

    if area > 1:
        meet(e)
        shared_nest(e, (g.f,), turn)


def _write_columns(e: Emit, g: Geometry, x: Value, columns: Value) -> None:
    """Windows of the data, each in one row, taps before channels."""
    w = windows_of(g)
    _, rows, across = w.pixels

    def pixel(i: Index, r: Index, q: Index) -> None:
        source = e.at(x, *map(e.times, (i, r, q), w.x_steps))
        number = e.plus(e.times(i, rows * across), e.times(r, across), q)
        target = e.at(columns, e.times(number, _width(g)))

        def run(k: Index) -> None:
            copy(e, e.at(source, w.offset(e, k)), e.at(target, e.times(k, w.length)), w.length)

        e.nest((w.runs,), run)

    shared_nest(e, w.pixels, pixel)


# ----- the data gradient


def _rows_at_once(g: Geometry) -> int:
    """Rows of the gradient whose windows stay near: a divisor of all rows."""
    rows, across = g.out
    most = max(1, _BLOCK_BYTES // (4 * across * _width(g)))
    return max(d for d in range(1, rows + 1) if rows % d == 0 and d <= most)


def _folded(g: Geometry) -> Product:
    """The windows of some rows of the gradient."""
    return Product(_rows_at_once(g) * g.out[1], _width(g), g.f)


def _fold_places(g: Geometry) -> list[int]:
    """Floats up to: turned weights, an image with its padding, windows, the product's space."""
    high, wide = g.padded
    p = _folded(g)
    places = [0]
    for size in (g.f * _width(g), high * wide * g.c, p.m * p.n, p.workspace()):
        places.append(places[-1] + own_floats(size))
    return places


def folds_space(g: Geometry) -> int:
    """Workspace in floats."""
    return _fold_places(g)[-1]


@shared_maker
def folds_data(e: Emit, fields: tuple[int, ...]) -> None:
    """Arguments: gradient of the result, weight, gradient of the data, workspace."""
    g = Geometry(*fields)
    grad, weight, dx, space = (e.arg(i) for i in range(4))
    p, rows, (high, wide) = _folded(g), _rows_at_once(g), g.padded
    turned, image, windows, rest = (e.at(space, at) for at in _fold_places(g)[:-1])
    rest = own(e, rest, p.workspace())
    line = g.out[1] * g.f

    def turn(f: Index) -> None:
        at = e.times(f, _width(g))
        write_transpose(e, e.at(weight, at), g.area, e.at(turned, at), g.c, g.c, g.area)

    def block(i: Index, b: Index) -> None:
        first = e.plus(e.times(i, g.out[0]), e.times(b, rows))
        product_into(e, p, e.at(grad, e.times(first, line)), turned, None, windows, rest)
        meet(e)
        _fold(e, g, windows, e.at(image, e.times(b, rows * g.stride_h * wide * g.c)))
        meet(e)

    def one(i: Index) -> None:
        fill(e, image, high * wide * g.c)
        meet(e)
        e.nest((g.out[0] // rows,), lambda b: block(i, b))
        corner = (g.pad_h * wide + g.pad_w) * g.c

        def crop(r: Index) -> None:
            source = e.at(image, e.times(r, wide * g.c), corner)
            row = e.plus(e.times(i, g.h), r)
            copy(e, source, e.at(dx, e.times(row, g.w * g.c)), g.w * g.c)

        shared_nest(e, (g.h,), crop)
        meet(e)

    shared_nest(e, (g.f,), turn)
    meet(e)
    e.nest((g.n,), one)


def _fold(e: Emit, g: Geometry, windows: Value, image: Value) -> None:
    """Windows of some rows added to the image: each of its rows gets taps in order, from above."""
    rows, across, length = _rows_at_once(g), g.out[1], g.s * g.c
    high = (rows - 1) * g.stride_h + g.r

    def row(i: Index) -> None:
        place = e.at(image, e.times(i, g.padded[1] * g.c))

        def tap(r: Index) -> None:
            below = e.b.sub(e.const(i), r)
            number = e.share(below, g.stride_h)
            is_there = e.b.icmp_signed("==", e.times(number, g.stride_h), below)
            is_there = e.b.and_(is_there, e.b.icmp_unsigned("<", number, e.const(rows)))
            with e.b.if_then(is_there):
                source = e.plus(e.times(number, across * _width(g)), e.times(r, length))
                _add_line(e, g, e.at(windows, source), place)

        e.loop(0, g.r, tap)

    shared_nest(e, (high,), row)


def _add_line(e: Emit, g: Geometry, source: Value, place: Value) -> None:
    """Pixels that do not meet follow each other: nothing is read that is still being stored."""
    turns, length = -(-g.s // g.stride_w), g.s * g.c

    def pixel(q: Index) -> None:
        there = e.at(place, e.times(q, g.stride_w * g.c))
        here = e.at(source, e.times(q, _width(g)))
        for start, n in zip(range(0, length, LANES), lanes_of(length), strict=True):
            total = e.b.fadd(e.load(there, start, n), e.load(here, start, n))
            e.store(total, there, start, n)

    for first in range(min(turns, g.out[1])):
        count = len(range(first, g.out[1], turns))
        e.nest((count,), lambda k, first=first: pixel(e.plus(e.times(k, turns), first)))
