"""Samples of the fused recurrent op: every mode, both directions, projection, lengths, dropout."""

from __future__ import annotations

from typing import Any

import numpy as np
from samples import Sample

import raysym.ops  # noqa: F401  (fills the registry)
from raysym.op import make_op

T, N, FEATURES, H = 4, 3, 2, 5
RANDOM = "dropout draws again in every run"


def shapes(params: dict[str, Any]) -> list[Any]:
    op: Any = make_op("RNN", params)
    made: list[Any] = op.feed_shapes((T, N, FEATURES), (N,))
    if op.use_sequence_length:
        made[-1] = lambda rng: np.array([2.0, 4.0, 1.0])
    return made


def sample(mode: str, **params: Any) -> Sample:
    given = {"mode": mode, "state_size": H, "num_layers": 1, **params}
    inputs = shapes(given)
    wrt = tuple(range(len(inputs) - bool(params.get("use_sequence_length"))))
    if params.get("p"):
        return Sample(given, inputs, wrt=(), why=RANDOM)
    # The last kink of relu is far enough for these seeds; sigmoids are smooth.
    return Sample(given, inputs, low=-0.8, high=0.8, wrt=wrt, tol=1e-5)


def backward(mode: str, **params: Any) -> Sample:
    given = {"mode": mode, "state_size": H, "num_layers": 2, **params}
    op: Any = make_op("RNN", given)
    data = (T, N, FEATURES)
    inputs = [*op.result_shapes(data), *shapes(given), *op.kept_shapes(data)]
    return Sample(given, inputs, wrt=(), why="second order is not offered")


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def lstm(x: np.ndarray, flat: np.ndarray, h: np.ndarray, c: np.ndarray) -> np.ndarray:
    sizes = [4 * H * FEATURES, 4 * H * H, 4 * H, 4 * H]
    w, u, b, d = np.split(flat, np.cumsum(sizes)[:-1])
    w, u, h, c = w.reshape(4 * H, FEATURES), u.reshape(4 * H, H), h[0], c[0]
    outs = []
    for step in x:
        i, f, g, o = np.split(step @ w.T + h @ u.T + b + d, 4, axis=1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        outs.append(h)
    return np.stack(outs)


def gru(x: np.ndarray, flat: np.ndarray, h: np.ndarray) -> np.ndarray:
    sizes = [3 * H * FEATURES, 3 * H * H, 3 * H, 3 * H]
    w, u, b, d = np.split(flat, np.cumsum(sizes)[:-1])
    w, u, h = w.reshape(3 * H, FEATURES), u.reshape(3 * H, H), h[0]
    outs = []
    for step in x:
        xr, xz, xn = np.split(step @ w.T + b, 3, axis=1)
        hr, hz, hn = np.split(h @ u.T + d, 3, axis=1)
        z = sigmoid(xz + hz)
        h = (1 - z) * np.tanh(xn + sigmoid(xr + hr) * hn) + z * h
        outs.append(h)
    return np.stack(outs)


BOTH = {"num_layers": 2, "bidirectional": True, "state_outputs": True}
LENGTHS = {"use_sequence_length": True, **BOTH}
CLIP = {"lstm_state_clip_min": -0.1, "lstm_state_clip_max": 0.2}

SAMPLES = {
    "RNN": [
        Sample(
            {"mode": "lstm", "state_size": H, "num_layers": 1},
            shapes({"mode": "lstm", "state_size": H, "num_layers": 1}),
            reference=lstm,
            tol=1e-5,
        ),
        Sample(
            {"mode": "gru", "state_size": H, "num_layers": 1},
            shapes({"mode": "gru", "state_size": H, "num_layers": 1}),
            reference=gru,
            tol=1e-5,
        ),
        *(sample(mode, **BOTH) for mode in ("rnn_relu", "rnn_tanh", "lstm", "gru")),
        *(sample(mode, **LENGTHS) for mode in ("rnn_tanh", "lstm", "gru")),
        sample("lstm", projection_size=7, **BOTH),
        sample("lstm", projection_size=7, **LENGTHS),
        sample("lstm", state_outputs=True, **CLIP),
        sample("lstm", lstm_state_clip_nan=True, **CLIP),
        sample("gru", num_layers=3, p=0.5),
        sample("rnn_tanh", num_layers=2, p=1.0, bidirectional=True),
    ],
    "_RNN_inference": [
        Sample(
            {"mode": "lstm", "state_size": H, "num_layers": 1},
            shapes({"mode": "lstm", "state_size": H, "num_layers": 1}),
            reference=lstm,
            wrt=(),
            why="the inference form has no gradient",
        )
    ],
    "_backward_RNN": [
        backward("lstm", bidirectional=True, state_outputs=True, use_sequence_length=True),
        backward("gru", p=0.5),
        backward("rnn_relu"),
    ],
}
