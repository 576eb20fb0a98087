"""Batch and layer normalisation, forward and backward, on rows of channels.

Batch statistics are sums of differences from the first row, so that large means cost no digits.
Cast: x data ``(rows, C)``, g incoming gradient, inv the inverse standard deviation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from raysym.kernels.emit import LANES, Emit, Index, Value
from raysym.kernels.epilogue import ALONE, Results, Tail
from raysym.kernels.reduce import fold_along, sum_rows
from raysym.kernels.shared import meet, shared_nest
from raysym.kernels.specs import shared_maker
from raysym.kernels.typed import root


def _inverse_root(e: Emit, variance: Value, eps: float) -> Value:
    return e.b.fdiv(e.number(1.0), root(e, e.b.fadd(variance, e.number(eps))))


@shared_maker
def batch_norm(
    e: Emit, rows: int, channels: int, eps: float, scaled: bool, tail: Tail = ALONE
) -> None:
    """Arguments: x, [gamma,] beta, those of the tail with y, mean, inv."""
    x, gamma, beta = e.arg(0), e.arg(1) if scaled else None, e.arg(1 + scaled)
    y = Results.of(e, 2 + scaled, tail)
    mean, inv = (e.arg(2 + scaled + y.count + i) for i in range(2))

    def terms(r: Index, c: Index, n: int) -> list[Value]:
        d = e.b.fsub(e.load(x, e.plus(e.times(r, channels), c), n), e.load(x, c, n))
        return [d, e.b.fmul(d, d)]

    def finish(c: Index, lanes: Sequence[int], sums: Sequence[Value]) -> None:
        for j, n in enumerate(lanes):
            column, share = e.plus(c, j * LANES), e.number(1 / rows)
            shift = e.b.fmul(sums[j], share)
            square = e.b.fmul(sums[len(lanes) + j], share)
            variance = _not_below_zero(e, e.b.fsub(square, e.b.fmul(shift, shift)))
            e.store(e.b.fadd(e.load(x, column, n), shift), mean, column, n)
            e.store(_inverse_root(e, variance, eps), inv, column, n)

    sum_rows(e, rows, channels, 2, terms, finish)
    meet(e)
    _normalize(e, rows, channels, x, gamma, beta, mean, inv, y)


def _not_below_zero(e: Emit, x: Value) -> Value:
    return e.b.select(e.b.fcmp_ordered("<", x, e.zero), e.zero, x)


def _normalize(
    e: Emit, rows: int, channels: int, x: Value, gamma: Value | None, beta: Value, mean: Value,
    inv: Value, y: Results,
) -> None:  # fmt: skip
    def row(r: Index) -> None:
        start = e.times(r, channels)

        def cells(c: Index, n: int) -> None:
            scale = e.load(inv, c, n)
            scale = scale if gamma is None else e.b.fmul(scale, e.load(gamma, c, n))
            d = e.b.fsub(e.load(x, e.plus(start, c), n), e.load(mean, c, n))
            y.put(e.fma(d, scale, e.load(beta, c, n)), e.plus(start, c), c, n)

        e.columns(channels, cells)

    shared_nest(e, (rows,), row)


@shared_maker
def batch_norm_gradient(e: Emit, rows: int, channels: int, scaled: bool) -> None:
    """Arguments: g, x, [gamma,] mean, inv, dx, [dgamma,] dbeta, workspace of 3 C."""
    g, x, gamma = e.arg(0), e.arg(1), e.arg(2) if scaled else None
    mean, inv, dx = (e.arg(2 + scaled + i) for i in range(3))
    dgamma = e.arg(5 + scaled) if scaled else None
    dbeta, space = e.arg(5 + 2 * scaled), e.arg(6 + 2 * scaled)

    def terms(r: Index, c: Index, n: int) -> list[Value]:
        at = e.plus(e.times(r, channels), c)
        head = e.load(g, at, n)
        return [head, e.b.fmul(head, e.b.fsub(e.load(x, at, n), e.load(mean, c, n)))]

    def finish(c: Index, lanes: Sequence[int], sums: Sequence[Value]) -> None:
        for j, n in enumerate(lanes):
            column = e.plus(c, j * LANES)
            scale = e.load(inv, column, n)
            bias, both = sums[j], e.b.fmul(sums[len(lanes) + j], scale)
            e.store(bias, dbeta, column, n)
            if dgamma is not None:
                e.store(both, dgamma, column, n)
            slope = e.b.fmul(e.b.fmul(both, scale), e.number(1 / rows))
            scale = scale if gamma is None else e.b.fmul(scale, e.load(gamma, column, n))
            facts = (e.b.fmul(bias, e.number(1 / rows)), slope, scale)
            for i, fact in enumerate(facts):
                e.store(fact, space, e.plus(column, i * channels), n)

    sum_rows(e, rows, channels, 2, terms, finish)
    meet(e)
    _spread_gradient(e, rows, channels, (g, x, mean, space, dx))


def _spread_gradient(e: Emit, rows: int, channels: int, arrays: Sequence[Value]) -> None:
    """``dx = scale (g - bias - (x - mean) slope)`` with the facts that lie in the workspace."""
    g, x, mean, space, dx = arrays

    def row(r: Index) -> None:
        def cells(c: Index, n: int) -> None:
            at = e.plus(e.times(r, channels), c)
            bias, slope, scale = (e.load(space, e.plus(c, i * channels), n) for i in range(3))
            d = e.b.fsub(e.load(x, at, n), e.load(mean, c, n))
            head = e.b.fsub(e.b.fsub(e.load(g, at, n), bias), e.b.fmul(d, slope))
            e.store(e.b.fmul(head, scale), dx, at, n)

        e.columns(channels, cells)

    shared_nest(e, (rows,), row)


# ----- layer normalisation


@shared_maker
def layer_norm(e: Emit, rows: int, width: int, eps: float, tail: Tail = ALONE) -> None:
    """Arguments: x, gamma, beta, those of the tail with y, mean, std."""
    x, gamma, beta = (e.arg(i) for i in range(3))
    y = Results.of(e, 3, tail)
    means, stds = (e.arg(3 + y.count + i) for i in range(2))

    def row(r: Index) -> None:
        start = e.at(x, e.times(r, width))
        share = e.scalar(1 / width)
        total = fold_along(e, width, e.zero, lambda c, n: e.load(start, c, n), e.b.fadd)
        mean = e.b.fmul(e.sum_lanes(total), share)
        centre = e.splat(mean)

        def square(c: Index, n: int) -> Value:
            d = e.keep(e.b.fsub(e.load(start, c, n), centre), n)
            return e.b.fmul(d, d)

        spread = e.sum_lanes(fold_along(e, width, e.zero, square, e.b.fadd))
        variance = e.splat(e.b.fmul(spread, share))
        std = root(e, e.b.fadd(variance, e.number(eps)))
        inv = e.b.fdiv(e.number(1.0), std)
        e.store1(mean, means, r)
        e.store(std, stds, r, 1)

        def cells(c: Index, n: int) -> None:
            z = e.b.fmul(e.b.fsub(e.load(start, c, n), centre), inv)
            made = e.fma(z, e.load(gamma, c, n), e.load(beta, c, n))
            y.put(made, e.plus(e.times(r, width), c), c, n)

        e.columns(width, cells)

    shared_nest(e, (rows,), row)


class _Layer(NamedTuple):
    """Arrays of the gradient of layer normalisation, and how their elements are read."""

    e: Emit
    width: int
    g: Value
    x: Value
    gamma: Value
    means: Value
    stds: Value

    def statistics(self, r: Index) -> tuple[Value, Value]:
        """Mean and inverse deviation of a row, in all lanes."""
        e = self.e
        inv = e.b.fdiv(e.number(1.0), e.splat(e.load1(self.stds, r)))
        return e.splat(e.load1(self.means, r)), inv

    def read(self, r: Index, c: Index, n: int, row: tuple[Value, Value]) -> tuple[Value, Value]:
        """The incoming gradient and z, 0 behind the end of a row."""
        e, at = self.e, self.e.plus(self.e.times(r, self.width), c)
        z = e.b.fmul(e.b.fsub(e.load(self.x, at, n), row[0]), row[1])
        return e.load(self.g, at, n), z


@shared_maker
def layer_norm_gradient(e: Emit, rows: int, width: int) -> None:
    """Arguments: g, x, gamma, mean, std, dx, dgamma, dbeta."""
    layer = _Layer(e, width, *(e.arg(i) for i in range(5)))
    dx, dgamma, dbeta = (e.arg(i) for i in range(5, 8))
    shared_nest(e, (rows,), lambda r: _layer_row(layer, r, dx))

    def terms(r: Index, c: Index, n: int) -> list[Value]:
        head, z = layer.read(r, c, n, layer.statistics(r))
        return [head, e.b.fmul(head, z)]

    def finish(c: Index, lanes: Sequence[int], sums: Sequence[Value]) -> None:
        for j, n in enumerate(lanes):
            e.store(sums[j], dbeta, e.plus(c, j * LANES), n)
            e.store(sums[len(lanes) + j], dgamma, e.plus(c, j * LANES), n)

    sum_rows(e, rows, width, 2, terms, finish)


def _layer_row(layer: _Layer, r: Index, dx: Value) -> None:
    """``dx = inv (h - mean h - z mean(h z))`` with ``h = gamma g``."""
    e, width, row = layer.e, layer.width, layer.statistics(r)

    def parts(c: Index, n: int) -> tuple[Value, Value]:
        head, z = layer.read(r, c, n, row)
        return e.b.fmul(head, e.load(layer.gamma, c, n)), z

    def share(term: Callable[[Index, int], Value]) -> Value:
        total = e.sum_lanes(fold_along(e, width, e.zero, term, e.b.fadd))
        return e.splat(e.b.fmul(total, e.scalar(1 / width)))

    flat = share(lambda c, n: parts(c, n)[0])
    bent = share(lambda c, n: e.b.fmul(*parts(c, n)))

    def cells(c: Index, n: int) -> None:
        h, z = parts(c, n)
        made = e.b.fsub(e.b.fsub(h, flat), e.b.fmul(z, bent))
        e.store(e.b.fmul(made, row[1]), dx, e.plus(e.times(r, width), c), n)

    e.columns(width, cells)
