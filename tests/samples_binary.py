"""Samples of elementwise ops of two inputs, of one input and a number, and of broadcasting."""

import numpy as np
from samples import Sample

ARITHMETIC = {
    "add": (("elemwise_add", "broadcast_add", "_plus_scalar"), np.add),
    "sub": (("elemwise_sub", "broadcast_sub", "_minus_scalar"), np.subtract),
    "mul": (("elemwise_mul", "broadcast_mul", "_mul_scalar"), np.multiply),
    "div": (("elemwise_div", "broadcast_div", "_div_scalar"), np.divide),
    "power": (("_power", "broadcast_power", "_power_scalar"), np.power),
    "hypot": (("_hypot", "broadcast_hypot", "_hypot_scalar"), np.hypot),
}
REVERSED = {
    "_rminus_scalar": np.subtract,
    "_rdiv_scalar": np.divide,
    "_rpower_scalar": np.power,
}
KINKED = {
    "mod": (("_mod", "broadcast_mod", "_mod_scalar"), np.mod),
    "maximum": (("_maximum", "broadcast_maximum", "_maximum_scalar"), np.maximum),
    "minimum": (("_minimum", "broadcast_minimum", "_minimum_scalar"), np.minimum),
}
CONDITIONS = {
    "equal": np.equal,
    "not_equal": np.not_equal,
    "greater": np.greater,
    "greater_equal": np.greater_equal,
    "lesser": np.less,
    "lesser_equal": np.less_equal,
    "logical_and": np.logical_and,
    "logical_or": np.logical_or,
    "logical_xor": np.logical_xor,
}


def digits(*shape, dtype="float64"):
    """Small whole numbers, so that ties and zeros occur."""
    return lambda rng: rng.integers(-2, 3, shape).astype(dtype)


def apart(rng):
    """Values whose differences and quotients stay away from whole numbers."""
    return np.array([[0.37, 1.61, 2.45], [3.17, 0.71, 5.39]])


def whole(dtype):
    """Makers of nonzero integers of both signs."""
    return lambda rng: rng.choice([-7, -3, -2, 2, 3, 5, 7], (2, 3)).astype(dtype)


def forms(names, f, smooth):
    """The plain, the broadcasting and the scalar form of one function on positive numbers."""
    plain, broadcasting, scalar = names
    kind = {"low": 0.3, "high": 2.0, "smooth": smooth}
    return {
        plain: [Sample({}, [(2, 3, 5), (2, 3, 5)], reference=f, **kind)],
        broadcasting: [
            Sample({}, [(2, 3, 5), (2, 1, 5)], reference=f, **kind),
            Sample({}, [(2, 1), (3, 1, 5)], reference=f, **kind),
            Sample({}, [(1,), (3, 5)], reference=f, **kind),
        ],
        scalar: [Sample({"scalar": 1.7}, [(3, 5)], reference=lambda x: f(x, 1.7), **kind)],
    }


SAMPLES = {}
for _names, _f in ARITHMETIC.values():
    SAMPLES |= forms(_names, _f, smooth=True)
for _names, _f in KINKED.values():
    SAMPLES |= forms(_names, _f, smooth=False)
for _name, _f in REVERSED.items():
    SAMPLES[_name] = [
        Sample({"scalar": 1.7}, [(3, 5)], 0.3, 2, reference=lambda x, f=_f: f(1.7, x), smooth=True)
    ]
SAMPLES["_rmod_scalar"] = [
    Sample({"scalar": 4.0}, [apart], reference=lambda x: np.mod(4.0, x)),
    Sample({"scalar": -4.0}, [apart], reference=lambda x: np.mod(-4.0, x)),
]
for _name, _f in CONDITIONS.items():
    _kind = {"wrt": (), "why": "zero by design"}
    SAMPLES[f"_{_name}"] = [Sample({}, [digits(3, 5), digits(3, 5)], reference=_f, **_kind)]
    SAMPLES[f"broadcast_{_name}"] = [
        Sample({}, [digits(3, 5), digits(2, 1, 5)], reference=_f, **_kind),
        Sample({}, [digits(3, 5, dtype="int32"), digits(5, dtype="int32")], reference=_f, **_kind),
    ]
    SAMPLES[f"_{_name}_scalar"] = [
        Sample({"scalar": s}, [digits(3, 5)], reference=lambda x, f=_f, s=s: f(x, s), **_kind)
        for s in (1.0, 0.0)
    ]

# Integers: results keep the dtype, quotients go toward zero, the number loses its fraction.
for _name, _f in {
    "elemwise_div": lambda a, b: np.trunc(a / b),
    "_mod": np.mod,
    "_power": lambda a, b: np.trunc(np.float64(a) ** b),
    "_hypot": lambda a, b: np.trunc(np.hypot(a, b)),
    "elemwise_mul": np.multiply,
}.items():
    SAMPLES[_name].append(Sample({}, [whole("int32"), whole("int32")], reference=_f))
for _name, _f in {
    "_plus_scalar": lambda x: x + 2,
    "_div_scalar": lambda x: np.trunc(x / 2),
    "_rdiv_scalar": lambda x: np.trunc(2 / x),
    "_mod_scalar": lambda x: np.mod(x, 2),
    "_maximum_scalar": lambda x: np.maximum(x, 2),
    "_rpower_scalar": lambda x: np.trunc(2.0**x),
}.items():
    SAMPLES[_name].append(Sample({"scalar": 2.9}, [whole("int64")], reference=_f))
SAMPLES["_mod_scalar"].append(
    Sample({"scalar": 0.0}, [(2, 3)], reference=lambda x: 0 * x, wrt=(), why="a pole everywhere")
)
SAMPLES["elemwise_add"].append(
    Sample({}, [(2, 3), (2, 3)], dtype="float16", reference=np.add, wrt=(), why="float16")
)

SAMPLES["_grad_add"] = [Sample({}, [(2, 3), (2, 3)], reference=np.add, smooth=True)]
SAMPLES["_scatter_elemwise_div"] = [
    Sample({}, [(2, 3), (2, 3)], 0.3, 2, reference=np.divide, smooth=True)
]
SAMPLES["_scatter_plus_scalar"] = [
    Sample({"scalar": 1.7}, [(2, 3)], reference=lambda x: x + 1.7, smooth=True)
]
SAMPLES["_scatter_minus_scalar"] = [
    Sample({"scalar": 1.7}, [(2, 3)], reference=lambda x: x - 1.7, smooth=True)
]

# ----- repeating along axes

SAMPLES["broadcast_to"] = [
    Sample(
        {"shape": (2, 3, 5)},
        [(2, 1, 5)],
        reference=lambda x: np.broadcast_to(x, (2, 3, 5)),
        smooth=True,
    ),
    Sample({"shape": (0, 3, 0)}, [(2, 1, 5)], reference=lambda x: x.repeat(3, 1), smooth=True),
    Sample({"shape": (2, 3)}, [(2, 3)], reference=lambda x: x, smooth=True),
]
SAMPLES["broadcast_axis"] = [
    Sample(
        {"axis": (0, -1), "size": (2, 5)},
        [(1, 3, 1)],
        reference=lambda x: np.broadcast_to(x, (2, 3, 5)),
        smooth=True,
    ),
    Sample({"axis": 1, "size": 4}, [(2, 1)], reference=lambda x: x.repeat(4, 1), smooth=True),
]
SAMPLES["broadcast_like"] = [
    Sample({}, [(2, 1, 5), (2, 3, 5)], reference=lambda x, y: x.repeat(3, 1), smooth=True),
    Sample(
        {"lhs_axes": (1,), "rhs_axes": (-1,)},
        [(2, 1), (3, 5)],
        reference=lambda x, y: x.repeat(5, 1),
        smooth=True,
    ),
]
