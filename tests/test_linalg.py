"""Gradients of factorizations of symmetric matrices, which are read from one half only."""

from __future__ import annotations

import numpy as np
import pytest
from evaluate import evaluate
from samples import Sample
from test_ops import check_gradient

from raysym.graph import Entry, Graph, apply, apply_all, variable
from raysym.passes.gradient import differentiate


def symmetric(x: Entry) -> Entry:
    return apply("elemwise_add", apply("_linalg_syrk", x), x_plus_turned(x))


def x_plus_turned(x: Entry) -> Entry:
    return apply("elemwise_add", x, apply("SwapAxis", x, dim1=-1, dim2=-2))


def spread(rng: np.random.Generator) -> np.ndarray:
    """A matrix whose symmetric forms above are positive, with distinct eigenvalues."""
    return np.diag([1.0, 2.0, 3.5]) + rng.uniform(-0.3, 0.3, (2, 3, 3))


@pytest.mark.parametrize("name", ["_linalg_potrf", "_linalg_syevd"])
def test_gradient_of_symmetric_matrices(name: str) -> None:
    x = variable("x")
    heads = apply_all(name, symmetric(x))
    check_gradient(Graph.of(heads), [x], Sample({}, [spread]), [0], 1e-6)


@pytest.mark.parametrize("name", ["_linalg_potrf", "_linalg_syevd"])
def test_second_gradient_of_symmetric_matrices(name: str) -> None:
    x, head = variable("x"), variable("head")
    found = differentiate(Graph.of(apply_all(name, symmetric(x))[:1]), [x], [head])
    grad = found.grads[x]
    assert grad is not None
    sample = Sample({}, [spread, (2, 3, 3)])
    check_gradient(Graph.of([grad]), [x, head], sample, [0, 1], 1e-5)


def test_eigenvectors_rebuild_the_matrix() -> None:
    x = variable("x")
    a = symmetric(x)
    u, values = apply_all("_linalg_syevd", a)
    matrix, u, values = evaluate(Graph.of([a, u, values]), {x: spread(np.random.default_rng(0))})
    np.testing.assert_allclose(np.einsum("nij,ni,nik->njk", u, values, u), matrix, atol=1e-12)
    assert (np.take_along_axis(u, np.abs(u).argmax(-1)[..., None], -1) > 0).all()


def test_lq_factors_rebuild_the_matrix() -> None:
    x = variable("x")
    a = np.random.default_rng(0).normal(size=(2, 3, 4))
    q, lower = evaluate(Graph.of(apply_all("_linalg_gelqf", x)), {x: a})
    np.testing.assert_allclose(lower @ q, a, atol=1e-12)
    np.testing.assert_allclose(q @ q.swapaxes(1, 2), np.stack([np.eye(3)] * 2), atol=1e-12)
    assert (np.triu(lower, 1) == 0).all()
