"""Samples of optimizer updates: one weight, many weights, masters of float16 weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from samples import Sample

WHY = "an update is not differentiable"
COMMON = {"lr": 0.1, "wd": 0.03, "rescale_grad": 0.7, "clip_gradient": 0.5}
SHAPE, OTHER = (2, 3), (4, 5)


def drawn(shape: tuple[int, ...], dtype: str, low: float = -1.0) -> Callable[..., Any]:
    return lambda rng: rng.uniform(low, 1.0, shape).astype(dtype)


def arrays(states: str, *, mixed: bool = False, shape: tuple[int, ...] = SHAPE) -> list[Any]:
    """Weight, gradient and a state for each sign: '+' positive, '-' of any sign."""
    half, full = ("float16", "float32") if mixed else ("float64", "float64")
    made = [drawn(shape, half), drawn(shape, half)]
    made += [drawn(shape, full, 0.1 if sign == "+" else -1.0) for sign in states]
    return made + ([drawn(shape, full)] if mixed else [])


def sample(params: dict[str, Any], inputs: list[Any], **more: Any) -> Sample:
    return Sample(params, inputs, wrt=(), why=WHY, **more)


def c(g: np.ndarray) -> np.ndarray:
    return np.clip(0.7 * g, -0.5, 0.5)


def adam(w: np.ndarray, g: np.ndarray, m: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, ...]:
    g = np.clip(0.7 * g + 0.03 * w, -0.5, 0.5)
    m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
    return w - 0.1 * m / (np.sqrt(v) + 1e-8), m, v


def momentum(w: np.ndarray, g: np.ndarray, m: np.ndarray) -> tuple[np.ndarray, ...]:
    m = 0.9 * m - 0.1 * (c(g) + 0.03 * w)
    return w + m, m


def many(states: str, extra: tuple[Any, ...] = (), *, mixed: bool = False) -> list[Any]:
    own = [*arrays(states, mixed=mixed), *arrays(states, mixed=mixed, shape=OTHER)]
    return [*own, *(lambda rng, e=e: np.array(e, "float32") for e in extra)]


PAIR = {"rescale_grad": 0.7, "clip_gradient": 0.5, "num_weights": 2}
RATES = {"lrs": (0.1, 0.2), "wds": (0.01, 0.0)}
ADAMW = {**RATES, "etas": (0.5, 0.6), "num_weights": 2}
LAMB = {
    "learning_rates": (0.1, 0.2),
    "wds": (0.01, 0.0),
    "step_count": (3, 4),
    "num_tensors": 2,
    "upper_bound": 2.0,
}
PHASE1 = {"t": 3, "wd": 0.01}
LOADED = ((0.1, 0.2), (0.01, 0.0))
NORMS = [drawn((1,), "float64", 0.5), drawn((1,), "float64", 0.5)]
NORMS32 = [drawn((1,), "float32", 0.5), drawn((1,), "float32", 0.5)]
FTML = {"lr": 0.1, "t": 3, "wd": 0.03, "clip_grad": 0.5}

SAMPLES = {
    "sgd_update": [
        sample(COMMON, arrays(""), reference=lambda w, g: w - 0.1 * (c(g) + 0.03 * w)),
        sample({"lr": 0.1}, arrays(""), reference=lambda w, g: w - 0.1 * g),
    ],
    "sgd_mom_update": [sample({**COMMON, "momentum": 0.9}, arrays("-"), reference=momentum)],
    "nag_mom_update": [sample({**COMMON, "momentum": 0.9}, arrays("-"))],
    "signsgd_update": [
        sample(COMMON, arrays(""), reference=lambda w, g: (1 - 0.003) * w - 0.1 * np.sign(g))
    ],
    "signum_update": [sample({**COMMON, "momentum": 0.9, "wd_lh": 0.01}, arrays("-"))],
    "adam_update": [sample(COMMON, arrays("-+"), reference=adam)],
    "rmsprop_update": [sample({**COMMON, "clip_weights": 0.8}, arrays("+"))],
    "rmspropalex_update": [
        sample(COMMON, [*arrays(""), drawn(SHAPE, "float64", 0.9), *arrays("")])
    ],
    "ftrl_update": [sample({**COMMON, "lamda1": 0.2}, arrays("-+"))],
    "ftml_update": [sample(FTML, arrays("++-"))],
    "_sparse_adagrad_update": [sample(COMMON, arrays("+"))],
    "mp_sgd_update": [sample(COMMON, arrays("", mixed=True))],
    "mp_sgd_mom_update": [sample({**COMMON, "momentum": 0.9}, arrays("-", mixed=True))],
    "mp_nag_mom_update": [sample({**COMMON, "momentum": 0.9}, arrays("-", mixed=True))],
    "_contrib_group_adagrad_update": [
        sample(
            {"lr": 0.1},
            [*arrays(""), drawn((2, 1), "float64", 0.1)],
            reference=lambda w, g, h: (
                w - 0.1 * g / np.sqrt(h + (g * g).mean(axis=1, keepdims=True) + 1e-5)
            ),
        )
    ],
    "_adamw_update": [sample({"lr": 0.1, "eta": 0.7}, [*arrays("-+"), NORMS32[0]])],
    "_mp_adamw_update": [
        sample({"lr": 0.1, "eta": 0.7, "wd": 0.1}, [*arrays("-+", mixed=True), NORMS32[0]])
    ],
    "lamb_update_phase1": [
        sample(PHASE1, arrays("-+")),
        sample({**PHASE1, "bias_correction": False}, arrays("-+")),
    ],
    "mp_lamb_update_phase1": [sample(PHASE1, arrays("-+", mixed=True))],
    "lamb_update_phase2": [
        sample(
            {"lr": 0.1},
            [*arrays(""), *NORMS],
            reference=lambda w, g, r1, r2: w - 0.1 * r1 / r2 * g,
        ),
        sample({"lr": 0.1, "lower_bound": 0.9, "upper_bound": 2.0}, [*arrays(""), *NORMS]),
    ],
    "mp_lamb_update_phase2": [
        sample(
            {"lr": 0.1},
            [
                drawn(SHAPE, "float16"),
                drawn(SHAPE, "float32"),
                *NORMS32,
                drawn(SHAPE, "float32"),
            ],
        )
    ],
    "multi_lars": [
        sample(
            {"eta": 0.1, "eps": 0.01},
            [(3,), lambda rng: np.array([1.0, 0.0, 2.0]), drawn((3,), "float64", 0.1), (3,)],
        )
    ],
    "multi_sum_sq": [
        sample({"num_arrays": 2}, [(2, 3), (4,)], dtype="float32"),
    ],
    "multi_sgd_update": [sample({**PAIR, **RATES}, many(""))],
    "multi_sgd_mom_update": [sample({**PAIR, **RATES, "momentum": 0.9}, many("-"))],
    "multi_mp_sgd_update": [sample({**PAIR, **RATES}, many("", mixed=True))],
    "multi_mp_sgd_mom_update": [sample({**PAIR, **RATES}, many("-", mixed=True))],
    "preloaded_multi_sgd_update": [sample(PAIR, many("", LOADED))],
    "preloaded_multi_sgd_mom_update": [sample(PAIR, many("-", LOADED))],
    "preloaded_multi_mp_sgd_update": [sample(PAIR, many("", LOADED, mixed=True))],
    "preloaded_multi_mp_sgd_mom_update": [sample(PAIR, many("-", LOADED, mixed=True))],
    "_multi_adamw_update": [sample(ADAMW, many("-+", ((0.5,),)))],
    "_multi_mp_adamw_update": [sample(ADAMW, many("-+", ((0.5,),), mixed=True))],
    "_multi_lamb_update": [sample(LAMB, many("-+"))],
    "_multi_mp_lamb_update": [sample(LAMB, many("-+", mixed=True))],
}
