"""Samples of loops and branches, with bodies made of a few plain ops."""

from __future__ import annotations

from typing import Any

import numpy as np
from samples import Sample

import raysym.ops  # noqa: F401  (fills the registry)
from raysym.graph import Entry, Graph, apply, variable
from raysym.op import make_op
from raysym.ops.subgraphs import encode

ONCE = "second order is not offered"
RANDOM = "random numbers"


def step(randomly: bool = False) -> Graph:
    """``tanh(x w + s)`` is put out, ``s + x`` is the next state; variables x, w, s."""
    x, w, s = variable("x"), variable("w"), variable("s")
    out = apply("tanh", apply("elemwise_add", apply("elemwise_mul", x, w), s))
    if randomly:
        out = apply("elemwise_mul", out, apply("_random_uniform_like", out))
    return Graph.of([out, apply("elemwise_add", s, x)])


def foreach(x: np.ndarray, s: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, ...]:
    outs = []
    for row in x:
        outs.append(np.tanh(row * w + s))
        s = s + row
    return np.stack(outs), s


FOREACH = {
    "num_args": 4,
    "num_outputs": 2,
    "num_out_data": 1,
    "in_data_locs": (0,),
    "remain_locs": (1,),
    "in_state_locs": (2,),
    "graphs": encode([step()]),
}


def body() -> list[Graph]:
    """While ``sum(v) < 3``: put out ``v w``, then ``v = v^2 + w``; variables v, w."""
    v = variable("v")
    condition = apply("_lesser_scalar", apply("sum", v), scalar=3.0)
    v2, w = variable("v"), variable("w")
    out = apply("elemwise_mul", v2, w)
    following = apply("elemwise_add", apply("square", v2), w)
    return [Graph.of([condition]), Graph.of([out, following])]


def while_loop(v: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, ...]:
    outs = np.zeros((7, *v.shape))
    for t in range(7):
        if not v.sum() < 3:
            break
        outs[t] = v * w
        v = v * v + w
    return outs, v


WHILE = {
    "num_args": 4,
    "num_outputs": 2,
    "num_out_data": 1,
    "max_iterations": 7,
    "cond_input_locs": (0,),
    "func_input_locs": (0, 1),
    "func_var_locs": (0,),
    "graphs": encode(body()),
}


def branches() -> list[Graph]:
    """If ``sum(p) > 0`` then ``x^2 y`` else ``x - w``."""
    p, x, y, w = (variable(name) for name in "pxyw")
    condition = apply("_greater_scalar", apply("sum", p), scalar=0.0)
    then: Entry = apply("elemwise_mul", apply("square", x), y)
    return [Graph.of([condition]), Graph.of([then]), Graph.of([apply("elemwise_sub", x, w)])]


COND = {
    "num_args": 7,
    "num_outputs": 1,
    "cond_input_locs": (0,),
    "then_input_locs": (1, 2),
    "else_input_locs": (1, 3),
    "graphs": encode(branches()),
}


def constant(value: float) -> Any:
    return lambda rng: np.array([value])


def kept(name: str, params: dict[str, Any], shapes: list[tuple[int, ...]]) -> list[Any]:
    """Inputs of a gradient op: head gradients, the op's inputs, and what it kept."""
    op: Any = make_op(name, params)
    _, values = op.infer_shape(shapes, [None] * op.n_values())
    return [*values[: op.num_outputs], *shapes, *values[op.num_outputs :]]


ROWS = [(4, 3), (3,), (3,)]
BRANCH = [(3,), (2, 5), (2, 5)]

SAMPLES = {
    "_foreach": [
        Sample(FOREACH, ROWS, reference=foreach),
        Sample({**FOREACH, "graphs": encode([step(True)])}, ROWS, wrt=(), why=RANDOM),
    ],
    "_backward_foreach": [Sample(FOREACH, kept("_foreach", FOREACH, ROWS), wrt=(), why=ONCE)],
    "_while_loop": [
        Sample(WHILE, [(3,), (3,)], low=0.4, high=0.6, reference=while_loop),
        Sample({**WHILE, "max_iterations": 2}, [(3,), (3,)], low=0.1, high=0.5),
        Sample(WHILE, [(3,), (3,)], low=2, high=3, reference=while_loop),
    ],
    "_backward_while_loop": [
        Sample(
            WHILE,
            [(7, 3), (3,), (3,), (3,), lambda rng: np.array([2]), (7, 3)],
            wrt=(),
            why=ONCE,
        )
    ],
    "_cond": [
        Sample(
            COND,
            [constant(1.0), (2, 5), (2, 5), (2, 5)],
            reference=lambda p, x, y, w: x * x * y,
        ),
        Sample(COND, [constant(-1.0), (2, 5), (2, 5), (2, 5)], reference=lambda p, x, y, w: x - w),
    ],
    "_backward_cond": [
        Sample(
            COND,
            [
                (2, 5),
                constant(1.0),
                (2, 5),
                (2, 5),
                (2, 5),
                lambda rng: np.array([1]),
            ],
            wrt=(),
            why=ONCE,
        )
    ],
}
