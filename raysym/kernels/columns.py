"""Weight gradients as one deep matrix product over columns of windows.

Sums that outgrow the cache would be read and written again for every block of pixels; over
columns each stays in a register until it is complete. What that costs is one copy of the data.
"""

from __future__ import annotations

from raysym.kernels.conv import padded, windows_of
from raysym.kernels.emit import Emit, Index, Value
from raysym.kernels.gemm import product_into
from raysym.kernels.geometry import Geometry
from raysym.kernels.moving import PANEL, copy, write_transpose
from raysym.kernels.product import Product
from raysym.kernels.shared import meet, own, shared_nest
from raysym.kernels.specs import shared_maker

_SUMS = 1 << 20  # floats of sums from which the copy pays (measured)
_CELLS = 1 << 17  # of single cells, where a copy is no larger than the data


def has_columns(g: Geometry) -> bool:
    """True where the copy pays: for many sums of few pixels."""
    sums = g.f * _width(g)
    single = g.r == g.s == 1 and sums >= _CELLS
    return g.is_plain and (single or sums > _SUMS > _pixels(g) * PANEL)


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
