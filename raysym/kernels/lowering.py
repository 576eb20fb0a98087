"""Which generated kernel computes an op: spec, order of arguments, workspace, layouts.

A row for every op page that has one. `lower` returns None where the reference kernel must run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

from raysym.kernels.adapted import copy_floats
from raysym.kernels.extreme import MOST
from raysym.kernels.images import lies_last
from raysym.kernels.llvm import has_half
from raysym.kernels.pages import Traced, traced
from raysym.kernels.product import Product
from raysym.kernels.specs import Spec
from raysym.op import Op, make_op
from raysym.ops.reduce import reduced_axes
from raysym.types import TensorType

Types: TypeAlias = Sequence[TensorType]


class Kernel(NamedTuple):
    """One call: arguments are `reads` (positions of inputs), all outputs, then the workspace.

    `last`: positions of inputs and outputs that lie channels-last, ``("in", 0), ("out", 0)``.
    `inplace`: an input and an output that may share memory, as each element of the output is
    written after everything that depends on that element of the input has been read.
    `width`: steps that follow may be part of it (see epilogue.py), as a last argument of the spec,
    if that `pays` or it `loops`; 0: none may. They apply to the first output, which is written in
    rows of so many numbers, and then may share memory with what they read, unless it `gathers`
    sums before. `draws`: the key of the run's random stream is one more argument, the last.
    """

    spec: Spec
    reads: tuple[int, ...]
    space: int = 0  # floats
    last: frozenset[tuple[str, int]] = frozenset()
    inplace: tuple[tuple[int, int], ...] = ()
    width: int = 0
    gathers: bool = False
    loops: bool = False
    draws: bool = False


Lowering: TypeAlias = Callable[[Any, Types, Types], Kernel | None]
LOWERINGS: dict[str, Lowering] = {}
_ANY_DTYPE: set[str] = set()
_DOUBLE: set[str] = set()
_HALF: set[str] = set()
_WITH_TAIL: set[str] = set()


def lowering(
    *names: str,
    any_dtype: bool = False,
    double: bool = False,
    half: bool = False,
    tail: bool = False,
) -> Callable[[Lowering], Lowering]:
    """Enter a lowering under the names of op pages.

    It sees float32 only or, with `any_dtype`, looks for itself. `double`: its kernels may be made
    for float64 as well. `half`: its pages compute float16 in float32, and so may its kernels.
    `tail`: some of them take steps that follow.
    """

    def enter(function: Lowering) -> Lowering:
        LOWERINGS.update(dict.fromkeys(names, function))
        _ANY_DTYPE.update(names if any_dtype else ())
        _DOUBLE.update(names if double else ())
        _HALF.update(names if half else ())
        _WITH_TAIL.update(names if tail else ())
        return function

    return enter


def lower(op: Op, ins: Types, outs: Types, turned: bool = False) -> Kernel | None:
    """The generated kernel of an op on these types, or None.

    `turned`: some input lies channels-last, and so may the others if no bit depends on it.
    """
    found = LOWERINGS.get(op.name)
    if found is not None and (op.name in _ANY_DTYPE or all_float32([*ins, *outs])):
        kernel = found(op, ins, outs)
        if kernel is not None:
            return kernel
    if found is not None and op.name in _DOUBLE and all_of("float64", [*ins, *outs]):
        kernel = found(op, ins, outs)
        if kernel is not None:
            return doubled(kernel)
    if found is not None and op.name in _HALF and _has_half([*ins, *outs]):
        kernel = found(op, _widened(ins), _widened(outs))
        if kernel is not None:
            return halved(kernel, ins, outs)
    made = _on_images(op, ins, outs, turned) or traced(op, tuple(ins), tuple(outs))
    if made is None:
        return None
    return Kernel(made.spec, made.reads, -(-made.nbytes // 4), made.last, draws=made.draws)


def _on_images(op: Op, ins: Types, outs: Types, turned: bool) -> Traced | None:
    """The page's kernel on what lies channels-last, if that is for it."""
    always = lies_last(op, [t.shape for t in ins])
    made = traced(op, tuple(ins), tuple(outs), last=True) if always or turned else None
    return made if made and (always or made.moves) else None


def takes_tail(op: Op, ins: Types, outs: Types) -> bool:
    """True when the kernel of an op may go on with elementwise steps before it stores results."""
    kernel = lower(op, ins, outs) if op.name in _WITH_TAIL else None
    return kernel is not None and kernel.width > 0


def all_float32(types: Types) -> bool:
    """True when everything is float32 and nothing is empty."""
    return all_of("float32", types)


def all_of(dtype: str, types: Types) -> bool:
    """True when everything is of a dtype and nothing is empty."""
    return all(t.dtype == dtype and t.size for t in types)


def _has_half(types: Types) -> bool:
    some = any(t.dtype == "float16" for t in types) and all(t.size for t in types)
    return some and has_half()


def _widened(types: Types) -> Types:
    return [t._replace(dtype="float32") if t.dtype == "float16" else t for t in types]


def doubled(kernel: Kernel) -> Kernel:
    """The same kernel for float64."""
    return kernel._replace(spec=kernel.spec._replace(dtype="float64"), space=2 * kernel.space)


# ----- kernels around kernels (see adapted.py)


def halved(kernel: Kernel, ins: Types, outs: Types) -> Kernel:
    """A kernel of float32 on what is float16: one rounding, of each result."""
    types = [*(ins[i] for i in kernel.reads), *outs]
    return _adapted("halves", kernel, [(t.size,) if t.dtype == "float16" else () for t in types])


def turned(kernel: Kernel, position: int, turn: tuple[int, int, int]) -> Kernel:
    """A kernel whose argument is so many matrices ``(rows, columns)``, read or written turned."""
    if 1 in turn[1:]:
        return kernel
    changes = [turn if i == position else () for i in range(len(kernel.reads) + 1)]
    return _adapted("turns", kernel, changes)


def shifted(kernel: Kernel, rows: int, channels: int) -> Kernel:
    """A kernel with one more input: a number that is added to each channel of the result."""
    reads = (*kernel.reads, max(kernel.reads) + 1)
    spec = Spec("shifts", (tuple(kernel.spec[:2]), len(kernel.reads), rows, channels))
    return kernel._replace(spec=spec, reads=reads, inplace=(), width=0)


def _adapted(maker: str, kernel: Kernel, changes: Sequence[tuple[int, ...]]) -> Kernel:
    space = kernel.space + sum(map(copy_floats, changes))
    args = tuple(kernel.spec[:2]), len(kernel.reads), tuple(changes)
    spec = Spec(maker, (*args, True) if kernel.draws else args)
    return kernel._replace(spec=spec, space=space, inplace=(), width=0)


# ----- matrix products


def product(p: Product, reads: Sequence[int]) -> Kernel:
    """The kernel of a matrix product."""
    spec = Spec("gemm", (tuple(p),))
    return Kernel(spec, tuple(reads), p.workspace(), width=p.n, gathers=p.k > p.depth)


@lowering("FullyConnected", double=True, half=True, tail=True)
def _fully_connected(op: Any, ins: Types, outs: Types) -> Kernel:
    n, k = ins[1].shape
    m = ins[0].size // k
    bias = len(ins) == 3
    return product(Product(m, n, k, turned_b=True, bias=bias), range(len(ins)))


@lowering("dot", double=True, half=True, tail=True)
def _dot(op: Any, ins: Types, outs: Types) -> Kernel:
    a, b = ins
    k = a.shape[0 if op.transpose_a else -1]
    p = Product(a.size // k, b.size // k, k, bool(op.transpose_a), bool(op.transpose_b))
    return product(p, (0, 1))


@lowering("_backward_dot", double=True, half=True, tail=True)
def _dot_gradient(op: Any, ins: Types, outs: Types) -> Kernel:
    """Of ``C = A B``: ``dA = dC B^T`` and ``dB = A^T dC``, or these transposed."""
    grad, other, a, b = ins[0], ins[1], bool(op.transpose_a), bool(op.transpose_b)
    if op.side == "lhs":
        k = other.shape[-1 if b else 0]
        n = other.size // k
        m = grad.size // n
        if a:
            return product(Product(k, m, n, b, True), (1, 0))
        return product(Product(m, k, n, False, not b), (0, 1))
    k = other.shape[0 if a else -1]
    m = other.size // k
    n = grad.size // m
    if b:
        return product(Product(n, k, m, True, a), (0, 1))
    return product(Product(k, n, m, not a, False), (1, 0))


@lowering("batch_dot", double=True, half=True, tail=True)
def _batch_dot(op: Any, ins: Types, outs: Types) -> Kernel:
    a, b = (t.shape[-2:] for t in ins)
    m, k = a[::-1] if op.transpose_a else a
    n = b[0] if op.transpose_b else b[1]
    count = math.prod(ins[0].shape[:-2])
    p = Product(m, n, k, bool(op.transpose_a), bool(op.transpose_b), repeats=count)
    return product(p, (0, 1))


# ----- sums


@lowering("sum", any_dtype=True)
def _around_channel(op: Any, ins: Types, outs: Types) -> Kernel | None:
    """Sums over all axes but axis 1 of images are taken where these lie channels-last."""
    (data,), (made,) = ins, outs
    axes = reduced_axes(op.axis, len(data.shape), op.exclude)
    if len(data.shape) != 4 or axes != (0, 2, 3) or data.dtype not in ("float32", "float64"):
        return None
    n, c, *spatial = data.shape
    turned = data._replace(shape=(n, *spatial, c))
    found = traced(make_op("sum", {"axis": (0, 1, 2)}), (turned,), (made._replace(shape=(c,)),))
    last = frozenset({("in", 0)})
    return found and Kernel(found.spec, found.reads, -(-found.nbytes // 4), last)


# ----- places of extremes


@lowering("argmax", "argmin", "argmax_channel", double=True)
def _place_of_extreme(op: Any, ins: Types, outs: Types) -> Kernel | None:
    shape = ins[0].shape
    axis = 1 if op.name == "argmax_channel" else op.axis
    count = ins[0].size if axis is None else shape[axis]
    is_last = axis is None or axis % len(shape) == len(shape) - 1
    if not is_last or count >= MOST:
        return None
    rows = ins[0].size // count
    return Kernel(Spec("place_of_extreme", (rows, count, op.name != "argmin")), (0,))
