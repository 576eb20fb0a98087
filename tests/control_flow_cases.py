"""Loops and branches built with any library of MXNet's interface, and what they compute.

``data/control_flow.json`` was recorded by giving MXNet 1.9.1 to `record` (oneDNN and the subgraph
backend switched off, a fresh counter of subgraph names for each case). It has no gradients where
MXNet cannot bind them (loop_in_loop, limited), nothing but lists where it cannot run (branches),
and not the one that MXNet leaves uninitialised (a in shared_branch).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np


class Case(NamedTuple):
    """A function from the library to a symbol, and shapes of its arguments."""

    build: Callable[[Any], Any]
    shapes: dict[str, tuple[int, ...]]


def dense_steps(mx: Any) -> Any:
    """Weights made inside of the body, and one from outside."""
    x, s, w = (mx.sym.Variable(name) for name in "xsw")

    def body(row: Any, state: Any) -> Any:
        hidden = mx.sym.FullyConnected(row, num_hidden=3, name="fc")
        out = mx.sym.tanh(hidden + mx.sym.broadcast_mul(state, w))
        return out, state + out

    out, last = mx.sym.contrib.foreach(body, x, s)
    return mx.sym.Group([out, last])


def lists_and_swaps(mx: Any) -> Any:
    """Nested lists of data, states that change places, an output that is a state."""
    x, y, s, t = (mx.sym.Variable(name) for name in "xyst")

    def body(rows: Any, states: Any) -> Any:
        total = rows[0] * states[0] + rows[1][0]
        return [total, [rows[1][0], states[1]]], [states[1], total]

    outs, last = mx.sym.contrib.foreach(body, [x, [y]], [s, mx.sym.exp(t, name="et")], name="lp")
    return mx.sym.Group([outs[0], *outs[1], *last])


def loop_in_loop(mx: Any) -> Any:
    """Rows of rows; the inner body reads a value from outside of both loops."""
    x, s, w = (mx.sym.Variable(name) for name in "xsw")
    outside = mx.sym.exp(w, name="ew")

    def outer(block: Any, state: Any) -> Any:
        inner = lambda row, held: (row * held + outside, held + row)  # noqa: E731
        outs, last = mx.sym.contrib.foreach(inner, mx.sym.sin(block, name="q"), state * 2)
        return outs, last

    outs, last = mx.sym.contrib.foreach(outer, x, s)
    return mx.sym.Group([outs, last, outside])


def only_states(mx: Any) -> Any:
    """No outputs, and states in a list of one."""
    x, s = mx.sym.Variable("x"), mx.sym.Variable("s")
    outs, last = mx.sym.contrib.foreach(lambda row, held: ([], [held[0] * row]), x, [s])
    assert outs == []
    return last[0]


def counted(mx: Any) -> Any:
    """A while loop that its condition ends before the limit would."""
    i, v, w = (mx.sym.Variable(name) for name in "ivw")

    def step(i: Any, v: Any) -> Any:
        return v * w, [i + 1, v * v + w]

    outs, last = mx.sym.contrib.while_loop(lambda i, v: i < 3, step, [i, v], max_iterations=3)
    return mx.sym.Group([outs, *last])


def limited(mx: Any) -> Any:
    """A while loop that its limit ends; the condition reads a value from outside."""
    i, n, v = (mx.sym.Variable(name) for name in "inv")
    bound = mx.sym.square(n, name="nn")

    def step(i: Any, v: Any) -> Any:
        return None, (i + 1, mx.sym.broadcast_mul(v, bound))

    outs, last = mx.sym.contrib.while_loop(
        lambda i, v: i < bound, step, (i, v), max_iterations=2, name="wh"
    )
    assert outs == []
    return mx.sym.Group(last)


def branches(mx: Any) -> Any:
    """A branch inside of a loop: some steps take the one, some the other."""
    x, s = mx.sym.Variable("x"), mx.sym.Variable("s")

    def body(row: Any, state: Any) -> Any:
        out = mx.sym.contrib.cond(
            mx.sym.sum(row) > 0, lambda: row * state, lambda: row - state, name="sign"
        )
        return out, state + out

    outs, last = mx.sym.contrib.foreach(body, x, s)
    return mx.sym.Group([outs, last])


def shared_branch(mx: Any) -> Any:
    """A weight of either branch, and a value that both read."""
    p, a = mx.sym.Variable("p"), mx.sym.Variable("a")
    shared = mx.sym.exp(a, name="ea")
    return mx.sym.contrib.cond(
        p,
        lambda: [mx.sym.FullyConnected(shared, num_hidden=2, name="fc"), a],
        lambda: [mx.sym.FullyConnected(a * shared, num_hidden=2, name="other"), a * 2],
    )


CASES = {
    "dense_steps": Case(
        dense_steps,
        {"x": (4, 2, 5), "s": (2, 3), "w": (2, 3), "fc_weight": (3, 5), "fc_bias": (3,)},
    ),
    "lists_and_swaps": Case(lists_and_swaps, {"x": (3, 2), "y": (3, 2), "s": (2,), "t": (2,)}),
    "loop_in_loop": Case(loop_in_loop, {"x": (2, 3, 4), "s": (4,), "w": (4,)}),
    "only_states": Case(only_states, {"x": (4, 3), "s": (3,)}),
    "counted": Case(counted, {"i": (1,), "v": (2, 3), "w": (2, 3)}),
    "limited": Case(limited, {"i": (1,), "n": (1,), "v": (3, 2)}),
    "branches": Case(branches, {"x": (4, 3), "s": (3,)}),
    "shared_branch": Case(
        shared_branch,
        {
            "p": (1,),
            "a": (2, 3),
            "fc_weight": (2, 3),
            "fc_bias": (2,),
            "other_weight": (2, 3),
            "other_bias": (2,),
        },
    ),
}


def symbol_of(mx: Any, name: str) -> Any:
    """The symbol of a case, with names that start at zero."""
    with mx.name.NameManager():
        made = CASES[name].build(mx)
        return mx.sym.Group(made) if isinstance(made, list) else made


def value_for(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Numbers between -0.9 and 0.9 that depend on nothing but the name and the shape."""
    phase = sum(map(ord, name))
    return 0.9 * np.sin(1.7 * np.arange(np.prod(shape)) + phase).reshape(shape)


def record(mx: Any, name: str, symbol: Any, grad_req: str = "write", **options: Any) -> Any:
    """Lists of the symbol, outputs of a training step, and gradients for given head gradients."""
    arrays = {k: mx.nd.array(value_for(k, shape)) for k, shape in CASES[name].shapes.items()}
    grads = {k: mx.nd.zeros(array.shape) for k, array in arrays.items()}
    executor = symbol.bind(mx.cpu(), arrays, grads, grad_req, **options)
    values = [out.asnumpy() for out in executor.forward(is_train=grad_req != "null")]
    if grad_req != "null":
        heads = [value_for(f"head{i}", value.shape) for i, value in enumerate(values)]
        executor.backward([mx.nd.array(head) for head in heads])
    return {
        "arguments": symbol.list_arguments(),
        "outputs": symbol.list_outputs(),
        "values": values,
        "gradients": {k: grad.asnumpy() for k, grad in grads.items()},
        "executor": executor,
    }
