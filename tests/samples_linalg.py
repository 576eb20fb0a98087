"""Samples of linear algebra."""

import numpy as np
from samples import Sample

LOWER_ONLY = "only the lower half is read; test_linalg.py differentiates symmetric matrices"


def positive(*lead, side):
    """A maker of well-conditioned symmetric positive definite matrices."""

    def make(rng):
        a = rng.normal(size=(*lead, side, side))
        return a @ a.swapaxes(-1, -2) / side + np.eye(side)

    return make


def regular(*lead, side):
    """A maker of matrices far from singular, on and below the diagonal too."""
    return lambda rng: rng.uniform(-0.5, 0.5, (*lead, side, side)) + np.eye(side) * 1.5


def mt(x):
    return np.swapaxes(x, -1, -2)


def gemm(params, a, b, c=None):
    """alpha op(A) op(B) + beta C by einsum on the last two axes."""
    a = mt(a) if params.get("transpose_a") else a
    b = mt(b) if params.get("transpose_b") else b
    made = params.get("alpha", 1.0) * np.einsum("...ij,...jk->...ik", a, b)
    return made if c is None else made + params.get("beta", 1.0) * c


def case(reference, params, *inputs, **more):
    return Sample(params, inputs, reference=lambda *x: reference(params, *x), smooth=True, **more)


def triangle(params, a):
    t = np.tril(a) if params.get("lower", True) else np.triu(a)
    return mt(t) if params.get("transpose") else t


def trmm(params, a, b):
    t = triangle(params, a)
    return params.get("alpha", 1.0) * (b @ t if params.get("rightside") else t @ b)


def trsm(params, a, b):
    t, b = np.linalg.inv(triangle(params, a)), params.get("alpha", 1.0) * b
    return b @ t if params.get("rightside") else t @ b


UPPER = {"lower": False, "transpose": True, "rightside": True, "alpha": 0.5}

SAMPLES = {
    "_triangle": [
        Sample({}, [(2, 3, 4)], reference=np.tril, smooth=True),
        Sample(
            {"lower": False, "offset": 1}, [(3, 4)], reference=lambda x: np.triu(x, 1), smooth=True
        ),
    ],
    "_linalg_gemm": [
        case(gemm, {"alpha": 0.5, "beta": 2.0}, (2, 3, 4), (2, 4, 5), (2, 3, 5)),
        case(gemm, {"transpose_a": True, "transpose_b": True}, (4, 3), (5, 4), (3, 5)),
        Sample(
            {"axis": 0, "transpose_a": True, "beta": 0.0},
            [(4, 2, 3), (4, 2, 5), (3, 2, 5)],
            reference=lambda a, b, c: np.einsum("kni,knj->inj", a, b),
            smooth=True,
        ),
    ],
    "_linalg_gemm2": [
        case(gemm, {}, (3, 4), (4, 5)),
        case(gemm, {"transpose_b": True, "alpha": 0.5}, (2, 3, 4), (2, 5, 4)),
        case(gemm, {"transpose_a": True, "transpose_b": True}, (6, 2, 4, 3), (6, 2, 5, 4)),
        Sample(
            {"axis": 1},
            [(2, 3, 6, 4), (2, 4, 6, 5)],
            reference=lambda a, b: np.einsum("nihk,nkhj->nihj", a, b),
            smooth=True,
        ),
    ],
    "_linalg_syrk": [
        Sample({"alpha": 0.5}, [(2, 3, 4)], reference=lambda a: 0.5 * a @ mt(a), smooth=True),
        Sample({"transpose": True}, [(3, 4)], reference=lambda a: a.T @ a, smooth=True),
    ],
    "_linalg_trmm": [
        case(trmm, {}, (2, 3, 3), (2, 3, 4)),
        case(trmm, UPPER, (3, 3), (4, 3)),
        case(trmm, {"rightside": True}, (3, 3), (4, 3)),
    ],
    "_linalg_trsm": [
        case(trsm, {}, regular(2, side=3), (2, 3, 4)),
        case(trsm, UPPER, regular(side=3), (4, 3)),
        case(trsm, {"transpose": True, "alpha": 2.0}, regular(side=3), (3, 4)),
        case(trsm, {"rightside": True, "lower": False}, regular(2, side=3), (2, 4, 3)),
    ],
    "_linalg_extractdiag": [
        Sample({}, [(2, 3, 3)], reference=lambda a: np.einsum("nii->ni", a), smooth=True),
        Sample({"offset": -1}, [(4, 4)], reference=lambda a: np.diagonal(a, -1), smooth=True),
        Sample({"offset": 2}, [(4, 4)], reference=lambda a: np.diagonal(a, 2)),
    ],
    "_linalg_makediag": [
        Sample({}, [(2, 3)], reference=lambda a: a[:, None] * np.eye(3), smooth=True),
        Sample({"offset": -1}, [(4,)], reference=lambda a: np.diag(a, -1), smooth=True),
        Sample({"offset": 2}, [(4,)], reference=lambda a: np.diag(a, 2)),
    ],
    "_linalg_extracttrian": [
        Sample(
            {},
            [(2, 3, 3)],
            reference=lambda a: a[:, [0, 1, 1, 2, 2, 2], [0, 0, 1, 0, 1, 2]],
            smooth=True,
        ),
        Sample(
            {"lower": False},
            [(3, 3)],
            reference=lambda a: a[[0, 0, 1, 0, 1, 2], [0, 1, 1, 2, 2, 2]],
        ),
        Sample(
            {"offset": 1}, [(4, 4)], reference=lambda a: a[[0, 0, 1, 0, 1, 2], [1, 2, 2, 3, 3, 3]]
        ),
        Sample(
            {"offset": -2, "lower": False},
            [(4, 4)],
            reference=lambda a: a[[2, 3, 3], [0, 0, 1]],
            smooth=True,
        ),
    ],
    "_linalg_maketrian": [
        Sample({}, [(3,)], reference=lambda a: np.array([[a[0], 0], [a[1], a[2]]]), smooth=True),
        Sample({"lower": False}, [(3,)], reference=lambda a: np.array([[a[0], a[1]], [0, a[2]]])),
        Sample(
            {"offset": -1},
            [(2, 3)],
            reference=lambda a: np.stack([[[0, 0, 0], [x[0], 0, 0], [x[1], x[2], 0]] for x in a]),
            smooth=True,
        ),
    ],
    "_linalg_potrf": [
        Sample({}, [positive(2, side=3)], reference=np.linalg.cholesky, wrt=(), why=LOWER_ONLY)
    ],
    "_linalg_potri": [
        Sample(
            {},
            [regular(2, side=3)],
            reference=lambda a: np.linalg.inv(np.tril(a) @ mt(np.tril(a))),
            smooth=True,
        )
    ],
    "_linalg_inverse": [
        Sample({}, [regular(2, side=3)], reference=np.linalg.inv, smooth=True),
        Sample({}, [regular(side=4)], reference=np.linalg.inv),
    ],
    "_linalg_sumlogdiag": [
        Sample(
            {},
            [positive(2, side=3)],
            reference=lambda a: np.log(np.einsum("nii->ni", a)).sum(1),
            smooth=True,
        ),
        Sample({}, [positive(side=4)], reference=lambda a: np.log(np.diag(a)).sum()[None]),
    ],
    "_linalg_det": [
        Sample({}, [regular(2, side=3)], reference=np.linalg.det, smooth=True),
        Sample({}, [regular(side=4)], reference=lambda a: np.linalg.det(a)[None], smooth=True),
    ],
    "_linalg_slogdet": [
        Sample({}, [regular(2, side=3)], reference=lambda a: tuple(np.linalg.slogdet(a))),
        Sample({}, [regular(side=4)], smooth=True),
    ],
    "_linalg_gelqf": [
        Sample({}, [lambda rng: rng.normal(size=(2, 3, 4))], smooth=True),
        Sample({}, [lambda rng: rng.normal(size=(3, 3))]),
    ],
    "_linalg_syevd": [Sample({}, [positive(2, side=3)], wrt=(), why=LOWER_ONLY)],
    "_eigen_gaps": [
        Sample(
            {},
            [
                lambda rng: (
                    np.array([[0.5, 1.5, 3.0], [2.0, 2.5, 4.5]]) + rng.uniform(-0.1, 0.1, (2, 3))
                )
            ],
            smooth=True,
        ),
        Sample(
            {},
            [lambda rng: np.array([1.0, 1.0, 3.0])],
            reference=lambda _: np.array([[0, 0, 0.5], [0, 0, 0.5], [-0.5, -0.5, 0]]),
            wrt=(),
            why="not differentiable where two values meet",
        ),
    ],
}
