"""Samples of matrix products and attention."""

import numpy as np
from samples import Sample


def attention_parts(x, heads, parts):
    time, batch, width = x.shape
    split = x.reshape(time, batch, heads, parts, width // (heads * parts))
    return [split[:, :, :, i].transpose(1, 2, 0, 3) for i in range(parts)]


def self_scores(x):
    q, k, _ = attention_parts(x, 2, 3)
    return np.einsum("bhid,bhjd->bhij", q, k).reshape(10, 3, 3) / np.sqrt(4)


def cross_scores(q, kv):
    (q,), (k, _) = attention_parts(q, 2, 1), attention_parts(kv, 2, 2)
    return np.einsum("bhid,bhjd->bhij", q, k).reshape(10, 3, 7) / np.sqrt(4)


def self_values(x, a):
    v = attention_parts(x, 2, 3)[2]
    return np.einsum("bhij,bhjd->ibhd", a.reshape(5, 2, 3, 3), v).reshape(3, 5, 8)


def cross_values(kv, a):
    v = attention_parts(kv, 2, 2)[1]
    return np.einsum("bhij,bhjd->ibhd", a.reshape(5, 2, 3, 7), v).reshape(3, 5, 8)


SAMPLES = {
    "dot": [
        Sample({}, [(2, 3), (3, 5)], reference=np.dot, smooth=True),
        Sample(
            {"transpose_a": True}, [(3, 2), (3, 5)], reference=lambda a, b: a.T @ b, smooth=True
        ),
        Sample(
            {"transpose_b": True}, [(2, 3), (5, 3)], reference=lambda a, b: a @ b.T, smooth=True
        ),
        Sample(
            {"transpose_a": True, "transpose_b": True},
            [(4, 2, 3), (5, 6, 4)],
            reference=lambda a, b: np.einsum("kij,lmk->ijlm", a, b),
            smooth=True,
        ),
        Sample(
            {},
            [(2, 3, 4), (4, 5, 6)],
            reference=lambda a, b: np.einsum("ijk,klm->ijlm", a, b),
            smooth=True,
        ),
        Sample({}, [(4,), (4,)], reference=lambda a, b: np.dot(a, b).reshape(1), smooth=True),
        Sample({}, [(2, 4), (4,)], reference=np.dot, smooth=True),
        Sample({"transpose_b": True}, [(4,), (3, 4)], reference=lambda a, b: b @ a, smooth=True),
    ],
    "_backward_dot": [
        Sample(
            {"side": "lhs"},
            [(2, 5, 6), (4, 5, 6), (2, 4)],
            reference=lambda g, b, _: np.einsum("ilm,klm->ik", g, b),
            wrt=(0, 1),
            smooth=True,
        ),
        Sample(
            {"side": "rhs", "transpose_b": True},
            [(2, 3, 5), (2, 3, 4), (5, 4)],
            reference=lambda g, a, _: np.einsum("ijl,ijk->lk", g, a),
            wrt=(0, 1),
            smooth=True,
        ),
        Sample({"side": "lhs", "transpose_a": True}, [(2, 5), (4, 5), (4, 2)], wrt=(0, 1)),
        Sample({"side": "rhs", "transpose_a": True}, [(2, 5), (4, 2), (4, 5)], wrt=(0, 1)),
    ],
    "batch_dot": [
        Sample({}, [(2, 3, 4), (2, 4, 5)], reference=np.matmul, smooth=True),
        Sample(
            {"transpose_a": True, "transpose_b": True},
            [(6, 2, 4, 3), (6, 2, 5, 4)],
            reference=lambda a, b: a.swapaxes(2, 3) @ b.swapaxes(2, 3),
            smooth=True,
        ),
        Sample({"transpose_a": True}, [(2, 4, 3), (2, 4, 5)], smooth=True),
        Sample({"transpose_b": True}, [(2, 3, 4), (2, 5, 4)], smooth=True),
    ],
    "khatri_rao": [
        Sample(
            {"num_args": 3},
            [(2, 4), (3, 4), (5, 4)],
            reference=lambda a, b, c: np.einsum("ik,jk,lk->ijlk", a, b, c).reshape(30, 4),
            wrt=(),
            why="not differentiable, as in MXNet",
        )
    ],
    "_contrib_interleaved_matmul_selfatt_qk": [
        Sample({"heads": 2}, [(3, 5, 24)], reference=self_scores, smooth=True)
    ],
    "_contrib_interleaved_matmul_selfatt_valatt": [
        Sample({"heads": 2}, [(3, 5, 24), (10, 3, 3)], reference=self_values, smooth=True)
    ],
    "_contrib_interleaved_matmul_encdec_qk": [
        Sample({"heads": 2}, [(3, 5, 8), (7, 5, 16)], reference=cross_scores, smooth=True)
    ],
    "_contrib_interleaved_matmul_encdec_valatt": [
        Sample({"heads": 2}, [(7, 5, 16), (10, 3, 7)], reference=cross_values, smooth=True)
    ],
    "_interleaved_part": [
        Sample(
            {"heads": 2, "parts": 3, "part": 1},
            [(3, 5, 24)],
            reference=lambda x: attention_parts(x, 2, 3)[1].reshape(10, 3, 4),
            smooth=True,
        )
    ],
    "_interleave": [Sample({"heads": 2, "num_args": 3}, [(10, 3, 4)] * 3, smooth=True)],
    "_scale_by_depth": [
        Sample(
            {"depth_of": 6},
            [(10, 3, 7), (3, 5, 24)],
            reference=lambda g, _: g / 2,
            wrt=(0,),
            smooth=True,
        )
    ],
}
