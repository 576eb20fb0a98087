"""Samples of elementwise ops of one input."""

import numpy as np
from oracles import special
from samples import Sample

# Where a function is tame: away from its kinks, poles and the ends of its domain.
ANY, POSITIVE, INSIDE, ABOVE_1 = (-1.5, 1.5), (0.3, 3.0), (-0.9, 0.9), (1.2, 3.0)


def round_half_away(x):
    return np.sign(x) * np.floor(np.abs(x) + 0.5)


SMOOTH = {
    "negative": (ANY, lambda x: 0 - x),
    "square": (ANY, lambda x: x * x),
    "sqrt": (POSITIVE, lambda x: x**0.5),
    "rsqrt": (POSITIVE, lambda x: x**-0.5),
    "cbrt": (POSITIVE, lambda x: x ** (1 / 3)),
    "rcbrt": (POSITIVE, lambda x: x ** (-1 / 3)),
    "reciprocal": (POSITIVE, lambda x: x**-1.0),
    "exp": (ANY, np.exp),
    "expm1": (ANY, lambda x: np.exp(x) - 1),
    "log": (POSITIVE, np.log),
    "log2": (POSITIVE, lambda x: np.log(x) / np.log(2)),
    "log10": (POSITIVE, lambda x: np.log(x) / np.log(10)),
    "log1p": (POSITIVE, lambda x: np.log(1 + x)),
    "sigmoid": ((-4, 4), special.expit),
    "softsign": (POSITIVE, lambda x: x / (1 + np.abs(x))),
    "tanh": (ANY, np.tanh),
    "sin": (ANY, np.sin),
    "cos": (ANY, np.cos),
    "tan": (INSIDE, lambda x: np.sin(x) / np.cos(x)),
    "arcsin": (INSIDE, np.arcsin),
    "arccos": (INSIDE, np.arccos),
    "arctan": (ANY, np.arctan),
    "sinh": (ANY, np.sinh),
    "cosh": (ANY, np.cosh),
    "arcsinh": (ANY, np.arcsinh),
    "arccosh": (ABOVE_1, np.arccosh),
    "arctanh": (INSIDE, np.arctanh),
    "degrees": (ANY, np.degrees),
    "radians": (ANY, np.radians),
    "erf": ((-7, 7), special.erf),
    "erfinv": (INSIDE, special.erfinv),
    "gamma": ((0.4, 4), special.gamma),
    "gammaln": ((0.4, 9), special.gammaln),
}

STEPS = {
    "floor": np.floor,
    "ceil": np.ceil,
    "trunc": np.trunc,
    "fix": np.fix,
    "round": round_half_away,
    "rint": lambda x: np.ceil(x - 0.5),
    "sign": np.sign,
    "logical_not": lambda x: np.where(x == 0, 1.0, 0.0),
}


def ties(rng):
    return np.array([-2.5, -1.5, -0.5, 0.0, 0.5, 1.5, 2.5])


def far_out(rng):
    return np.array([-6.5, -2.3, -0.5, -0.1, 0.2, 30.0, 100.5, 170.0])


def integers(rng):
    return rng.integers(-9, 9, (2, 3))


def tails(rng):
    return np.array([-1.0, -1 + 1e-9, -0.99, 1e-12, 0.0, 0.86, 1 - 1e-12, 1.0])


def zero_gradient(reference, maker=(2, 3, 5)):
    return Sample({}, [maker], -3, 3, reference=reference, wrt=(), why="zero by design")


def forward_only(reference, maker):
    return Sample({}, [maker], reference=reference, wrt=(), why="compared by values only")


SAMPLES = {
    name: [Sample({}, [(2, 3, 5)], low, high, reference=reference, smooth=True)]
    for name, ((low, high), reference) in SMOOTH.items()
}
SAMPLES |= {name: [zero_gradient(f), zero_gradient(f, ties)] for name, f in STEPS.items()}
SAMPLES["cbrt"].append(Sample({}, [(2, 3)], -3, -0.3, reference=lambda x: -((-x) ** (1 / 3))))
SAMPLES["gamma"].append(forward_only(special.gamma, far_out))
SAMPLES["gammaln"].append(forward_only(lambda x: np.log(abs(special.gamma(x))), far_out))
SAMPLES["erfinv"].append(forward_only(special.erfinv, tails))
SAMPLES["_digamma"] = [
    Sample({}, [(2, 3, 5)], 0.4, 9, reference=special.digamma),
    forward_only(special.digamma, far_out),
]
SAMPLES["_trigamma"] = [
    Sample(
        {},
        [(2, 3)],
        0.4,
        9,
        reference=lambda x: special.polygamma(1, x),
        wrt=(),
        why="the end of the chain gamma, digamma, trigamma",
    )
]
SAMPLES["exp"].append(forward_only(lambda x: np.trunc(np.exp(x)), integers))
SAMPLES["abs"] = [
    Sample({}, [(2, 3)], 0.3, 2, reference=np.abs, smooth=True),
    Sample({}, [(2, 3)], -2, -0.3, reference=np.abs, smooth=True),
    forward_only(np.abs, integers),
]
SAMPLES["relu"] = [
    Sample({}, [(2, 3)], 0.3, 2, reference=lambda x: x, smooth=True),
    Sample({}, [(2, 3)], -2, -0.3, reference=lambda x: 0 * x, smooth=True),
    forward_only(lambda x: np.where(x > 0, x, 0), integers),
]

# ----- with parameters


def smooth_l1(scale):
    def loss(x):
        near = np.abs(x) < 1 / scale**2
        return np.where(near, 0.5 * (scale * x) ** 2, np.abs(x) - 0.5 / scale**2)

    return loss


SAMPLES["clip"] = [
    Sample({"a_min": -0.5, "a_max": 0.7}, [(3, 5)], reference=lambda x: np.clip(x, -0.5, 0.7)),
    Sample({"a_min": -3, "a_max": 3}, [(3, 5)], reference=lambda x: x, smooth=True),
    Sample({"a_min": -2.5, "a_max": 2.5}, [integers], reference=lambda x: np.clip(x, -2, 2)),
]
SAMPLES["smooth_l1"] = [
    Sample({}, [(3, 5)], -0.9, 0.9, reference=smooth_l1(1), smooth=True),
    Sample({"scalar": 2.0}, [(3, 5)], 0.3, 2, reference=smooth_l1(2), smooth=True),
    Sample({"scalar": 0.5}, [(3, 5)], -9, -4.5, reference=smooth_l1(0.5), smooth=True),
]
SAMPLES["_smooth_l1_slope"] = [
    Sample({"scalar": 2.0}, [(3, 5)], -0.2, 0.2, reference=lambda x: 4 * x, smooth=True),
    Sample({"scalar": 2.0}, [(3, 5)], 0.3, 2, reference=np.sign, smooth=True),
]
SAMPLES["hard_sigmoid"] = [
    Sample({}, [(3, 5)], -2, 2, reference=lambda x: 0.2 * x + 0.5, smooth=True),
    Sample({"alpha": 1.0, "beta": 0.2}, [(3, 5)], reference=lambda x: np.clip(x + 0.2, 0, 1)),
]
SAMPLES["_contrib_quadratic"] = [
    Sample(
        {"a": 2.0, "b": -3.0, "c": 0.5},
        [(3, 5)],
        reference=lambda x: 2 * x**2 - 3 * x + 0.5,
        smooth=True,
    )
]
SAMPLES["_contrib_div_sqrt_dim"] = [
    Sample({}, [(3, 5)], reference=lambda x: x / np.sqrt(5), smooth=True)
]

# ----- with gradients that are no derivatives

BY_DESIGN = {"wrt": (), "why": "the gradient is no derivative by design"}

SAMPLES["_contrib_round_ste"] = [
    Sample({}, [(3, 5)], -3, 3, reference=round_half_away, **BY_DESIGN)
]
SAMPLES["_contrib_sign_ste"] = [Sample({}, [(3, 5)], reference=np.sign, **BY_DESIGN)]
SAMPLES["_contrib_gradientmultiplier"] = [
    Sample({"scalar": -0.5}, [(3, 5)], reference=lambda x: x, **BY_DESIGN),
    Sample({"scalar": 1.0}, [(3, 5)], smooth=True),
]
SAMPLES["_identity_with_attr_like_rhs"] = [
    Sample({}, [(3, 5), (3, 5)], reference=lambda a, b: a, smooth=True)
]
