"""Matrix products of lazy arrays: stages that the product kernels compute."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from raysym.kernels.expressions import IOTA, Leaf, Stage, Target, Untraceable, dense, dtype_of
from raysym.kernels.lazy import Lazy, Recorder, as_lazy, broadcast, cast, whole
from raysym.kernels.product import Product
from raysym.types import Shape

MATMUL = "matmul"  # the fold of such a stage; its shape is that of the product


def matmul(a: Any, b: Any) -> Lazy:
    """``a @ b`` for matrices, or stacks of them that broadcast."""
    recorder = next(x.recorder for x in (a, b) if isinstance(x, Lazy))
    dtype = np.result_type(dtype_of(a), dtype_of(b)).name
    are_matrices = min(a.ndim, b.ndim) >= 2 and a.shape[-1] == b.shape[-2]
    if dtype not in ("float32", "float64") or not are_matrices or recorder.last:
        raise Untraceable("a product of something else than matrices of floats")
    a, b = (cast(as_lazy(recorder, x, dtype), dtype) for x in (a, b))
    lead = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    (m, k), n = a.shape[-2:], b.shape[-1]
    made = recorder.buffer((*lead, m, n), dtype)
    if not made.size or not k:
        return recorder.constant(0.0, made.shape, dtype)
    if math.prod(b.shape[:-2]) == 1:  # all of them times one matrix
        a, b, lead, m = a.reshape(-1, k), b.reshape(b.shape[-2:]), (), m * math.prod(lead)
    left, right = (_matrices(x, lead) for x in (a, b))
    flags = left.strides[-1] != 1, right.strides[-1] != 1
    shape = Product(m, n, k, *flags, repeats=math.prod(lead))
    recorder.append(_stage(recorder, shape, left, right, made))
    return made


def product_of(stage: Stage) -> Product:
    """The product that a stage computes."""
    m, n, k, turned_a, turned_b, bias, repeats = stage.shape
    return Product(m, n, k, bool(turned_a), bool(turned_b), bool(bias), repeats)


def _matrices(x: Lazy, lead: Shape) -> Leaf:
    """One matrix behind the other, all transposed or none: as they lie, or copied."""
    x = broadcast(x, (*lead, *x.shape[-2:]))
    for seen in (x, x.swapaxes(-1, -2)):
        if _is_dense(seen):
            return _leaf(seen, seen is not x)
    return _leaf(x.copy().stored(), False)


def _is_dense(x: Lazy) -> bool:
    leaf = x.node
    if not isinstance(leaf, Leaf) or leaf.buffer == IOTA:
        return False
    steps = zip(x.shape, leaf.strides, dense(x.shape), strict=True)
    return all(n == 1 or a == b for n, a, b in steps)


def _leaf(x: Lazy, turned: bool) -> Leaf:
    """Where matrices begin; of the strides the last tells whether they are transposed."""
    assert isinstance(x.node, Leaf)
    return Leaf(x.node.buffer, x.node.dtype, x.node.offset, (0,) if turned else (1,))


def _stage(recorder: Recorder, shape: Product, left: Leaf, right: Leaf, made: Lazy) -> Stage:
    space = recorder.buffer((max(1, shape.workspace()),), left.dtype)
    leaves = left, right, whole(space)
    reads = tuple(("load", x.dtype, x.buffer, x.offset, ()) for x in leaves)
    return Stage(tuple(shape), MATMUL, (Target(whole(made).buffer, left.dtype, 0, ()),), reads)
