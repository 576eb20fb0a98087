"""Matrix products of every size: correct, inside their arrays, the same bits each time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_calls import call

from raysym.kernels.moving import PANEL
from raysym.kernels.product import (
    BLOCK_TILES,
    DEPTH,
    ROWS,
    SHORT,
    STRIP_DEPTH,
    STRIP_PANELS,
    Product,
)
from raysym.kernels.specs import Spec

GUARD = 64  # floats behind results that must stay as they are


def drawn(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.uniform(-1, 1, shape).astype(np.float32)


def guarded(n: int) -> np.ndarray:
    """Memory full of NaN: nothing may be read before it is written."""
    return np.full(n + GUARD, np.nan, np.float32)


def run(p: Product) -> tuple[np.ndarray, np.ndarray]:
    """What the kernel gives, and what float64 gives."""
    rng = np.random.default_rng(p.m * p.n + p.k)
    a = drawn(rng, p.repeats, *((p.k, p.m) if p.turned_a else (p.m, p.k)))
    b = drawn(rng, p.repeats, *((p.n, p.k) if p.turned_b else (p.k, p.n)))
    bias = drawn(rng, p.n)
    c, space = guarded(p.repeats * p.m * p.n), guarded(p.workspace())
    given_bias = [bias] if p.bias else []
    call(Spec("gemm", (tuple(p),)), a, b, *given_bias, c, space)
    assert np.isnan(c[-GUARD:]).all()
    assert np.isnan(space[-GUARD:]).all()
    left = a.astype(np.float64).swapaxes(1, 2) if p.turned_a else a.astype(np.float64)
    right = b.swapaxes(1, 2) if p.turned_b else b
    want = left @ right + (bias if p.bias else 0)
    return c[:-GUARD].reshape(want.shape), want


def check(p: Product) -> None:
    got, want = run(p)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=2e-6 * p.k**0.5)


SIZES = st.one_of(st.just(1), st.integers(1, 70))


@settings(max_examples=30, deadline=None)
@given(
    m=SIZES, n=SIZES, k=SIZES, turned=st.tuples(st.booleans(), st.booleans()),
    bias=st.booleans(), repeats=st.integers(1, 3),
)  # fmt: skip
def test_small_products(
    m: int, n: int, k: int, turned: tuple[bool, bool], bias: bool, repeats: int
) -> None:
    check(Product(m, n, k, *turned, bias=bias, repeats=repeats))


BLOCK = ROWS * BLOCK_TILES
WIDE = STRIP_PANELS * PANEL + 1
EDGES = [
    Product(1, 1, 1),
    Product(1, 1000, 3, turned_b=True, bias=True),
    Product(1000, 1, 3, turned_a=True),
    Product(3, 5, DEPTH + 1, bias=True),
    Product(BLOCK, 70, 33),
    Product(BLOCK + 1, 70, 33, bias=True, repeats=2),
    Product(BLOCK + 1, 70, 33, turned_b=True),
    Product(3 * BLOCK + 5, 33, 20, turned_b=True, bias=True),
    Product(2 * ROWS + 3, 70, 250, turned_a=True),
    Product(BLOCK + 9, 97, 250, turned_a=True, turned_b=True, bias=True),
    Product(200, 40, 2 * DEPTH + 5),
    Product(150, 66, 3 * DEPTH - 1, turned_a=True, repeats=2),
    Product(60, 70, 2 * DEPTH + 9, turned_b=True, bias=True),
    Product(150 * ROWS + 3, 65, SHORT + 1, turned_a=True, bias=True),
    Product(2 * BLOCK + 1, 66, 2 * SHORT, turned_a=True, turned_b=True, repeats=2),
    Product(80 * ROWS + 3, WIDE, STRIP_DEPTH + 1, turned_a=True, bias=True),
    Product(BLOCK + 1, WIDE, STRIP_DEPTH, turned_a=True, turned_b=True, repeats=2),
]


@pytest.mark.parametrize("p", EDGES, ids=str)
def test_products_at_the_edges_of_blocks(p: Product) -> None:
    check(p)


def test_a_product_has_the_same_bits_each_time() -> None:
    p = Product(BLOCK + 9, 97, DEPTH + 30, turned_a=True, turned_b=True)
    np.testing.assert_array_equal(run(p)[0], run(p)[0])
