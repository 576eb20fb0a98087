"""Softmax along rows, its logarithm, their gradients, and the gradient of SoftmaxOutput."""

from __future__ import annotations

import math

from raysym.kernels import vector_math as vm
from raysym.kernels.emit import I64, Emit, Index, Value
from raysym.kernels.epilogue import ALONE, Results, Tail
from raysym.kernels.reduce import fold_along
from raysym.kernels.shared import shared_nest
from raysym.kernels.specs import shared_maker
from raysym.kernels.vector_ops import larger


@shared_maker
def softmax_rows(e: Emit, rows: int, width: int, logarithm: bool, tail: Tail = ALONE) -> None:
    """Arguments: data, those of the tail with the result; powers wait in its first array."""
    x, y = e.arg(0), Results.of(e, 1, tail)

    def row(r: Index) -> None:
        start = e.times(r, width)
        source, powers = e.at(x, start), e.at(y.first, start)
        top = fold_along(
            e,
            width,
            e.number(-math.inf),
            lambda c, n: e.keep(e.load(source, c, n), n, -math.inf),
            lambda a, b: larger(e, a, b),
        )
        peak = e.splat(e.max_lanes(top))

        def power(c: Index, n: int) -> Value:
            value = e.keep(vm.exp(e, e.b.fsub(e.load(source, c, n), peak)), n)
            if not logarithm:
                e.store(value, powers, c, n)
            return value

        total = e.splat(e.sum_lanes(fold_along(e, width, e.zero, power, e.b.fadd)))
        size = vm.log(e, total) if logarithm else None

        def cells(c: Index, n: int) -> None:
            if size is None:
                made = e.b.fdiv(e.load(powers, c, n), total)
            else:
                made = e.b.fsub(e.b.fsub(e.load(source, c, n), peak), size)
            y.put(made, e.plus(start, c), c, n)

        e.columns(width, cells)

    shared_nest(e, (rows,), row)


@shared_maker
def softmax_gradient(
    e: Emit, rows: int, width: int, scale: float, logarithm: bool, tail: Tail = ALONE
) -> None:
    """Arguments: g, y, those of the tail: of ``y (g - sum g y)``, or ``g - e^y sum g``."""
    grad, out, dx = e.arg(0), e.arg(1), Results.of(e, 2, tail)

    def row(r: Index) -> None:
        start = e.times(r, width)
        g, y = e.at(grad, start), e.at(out, start)

        def term(c: Index, n: int) -> Value:
            head = e.load(g, c, n)
            return head if logarithm else e.b.fmul(head, e.load(y, c, n))

        total = e.splat(e.sum_lanes(fold_along(e, width, e.zero, term, e.b.fadd)))

        def cells(c: Index, n: int) -> None:
            head, value = e.load(g, c, n), e.load(y, c, n)
            if logarithm:
                made = e.b.fsub(head, e.b.fmul(vm.exp(e, value), total))
            else:
                made = e.b.fmul(value, e.b.fsub(head, total))
            made = made if scale == 1.0 else e.b.fmul(made, e.number(scale))
            dx.put(made, e.plus(start, c), c, n)

        e.columns(width, cells)

    shared_nest(e, (rows,), row)


@shared_maker
def class_gradient(e: Emit, rows: int, width: int, scale: float) -> None:
    """``scale (p - onehot(label))``; arguments: p, label of every row, result."""
    p, labels, result = (e.arg(i) for i in range(3))
    factor = e.number(scale)

    def row(r: Index) -> None:
        start = e.times(r, width)

        def cells(c: Index, n: int) -> None:
            value = e.load(p, e.plus(start, c), n)
            e.store(e.b.fmul(value, factor), result, e.plus(start, c), n)

        e.columns(width, cells)
        given = e.load1(labels, r)
        label = e.call("llvm.fptosi.sat.i64.f32", I64, [given])
        label = e.b.select(e.b.fcmp_ordered("ord", given, given), label, e.const(-1))  # no NaN
        # One unsigned comparison refuses negative labels as well: they subtract nothing.
        with e.b.if_then(e.b.icmp_unsigned("<", label, e.const(width))):
            at = e.plus(start, label)
            less = e.b.fsub(e.load1(p, at), e.scalar(1.0))
            e.store1(e.b.fmul(less, e.scalar(scale)), result, at)

    shared_nest(e, (rows,), row)
