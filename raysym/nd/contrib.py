"""Control flow on arrays, checks for special values, and the ops that MXNet files under contrib."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any, TypeAlias

from raysym.nd.creation import zeros
from raysym.nd.functions import logical_and
from raysym.nd.generate import lazy_functions
from raysym.ndarray import NDArray, invoke

Nested: TypeAlias = Any  # an NDArray or nested lists of them


def foreach(
    body: Callable[[Nested, Nested], tuple[Nested, Nested]], data: Nested, init_states: Nested
) -> tuple[Nested, Nested]:
    """Run ``outs, states = body(row, states)`` for every row of `data`, one after the other.

    Returns the outputs of all steps stacked along a new first axis, and the last states. `data`,
    states and outputs are arrays or nested lists of arrays; rows run over the first axis.
    """
    count = len(_arrays("foreach: data", data)[0])
    _arrays("foreach: init_states", init_states)
    states, steps = init_states, []
    for i in range(count):
        outs, states = body(_mapped(itemgetter(i), data), states)
        steps.append(outs)
    return _stacked(steps), states


def while_loop(
    cond: Callable[..., Any],
    func: Callable[..., tuple[Nested, Nested]],
    loop_vars: NDArray | Sequence[NDArray],
    max_iterations: int | None = None,
) -> tuple[Nested, Nested]:
    """Run ``outs, loop_vars = func(*loop_vars)`` while ``cond(*loop_vars)``, at most so often.

    Returns the outputs of all steps stacked along a new first axis of length `max_iterations`,
    zeros behind the last step, and the last loop variables. ValueError without a limit or without
    loop variables, or if their number changes.
    """
    if max_iterations is None:
        raise ValueError("while_loop: max_iterations is needed: got None")
    values = [loop_vars] if isinstance(loop_vars, NDArray) else list(loop_vars)
    if not values:
        raise ValueError("while_loop: loop_vars: got none, expected at least one")
    steps: list[Nested] = []
    while len(steps) < int(max_iterations) and cond(*values):
        outs, new = func(*values)
        new = [new] if isinstance(new, NDArray) else list(new or [])
        if len(new) != len(values):
            raise ValueError(f"while_loop: loop_vars: got {len(new)}, expected {len(values)}")
        steps.append([] if outs is None else outs)
        values = new
    missing = int(max_iterations) - len(steps)
    outputs = _mapped(lambda stack: _padded(stack, missing), _stacked(steps))
    return outputs, values[0] if isinstance(loop_vars, NDArray) else values


def cond(pred: Any, then_func: Callable[[], Nested], else_func: Callable[[], Nested]) -> Nested:
    """``then_func()`` if the one element of `pred` is not 0, else ``else_func()``."""
    return then_func() if pred else else_func()


def isnan(data: NDArray) -> NDArray:
    """1 where an element is not a number, else 0."""
    return data != data


def isinf(data: NDArray) -> NDArray:
    """1 where an element is infinite, else 0."""
    return abs(data) == float("inf")


def isfinite(data: NDArray) -> NDArray:
    """1 where an element is a finite number, else 0."""
    finite: NDArray = logical_and(abs(data) != float("inf"), data == data)
    return finite


# ----- nested lists of arrays


def _arrays(what: str, nested: Nested) -> list[NDArray]:
    if isinstance(nested, list | tuple):
        return [array for part in nested for array in _arrays(what, part)]
    if not isinstance(nested, NDArray):
        raise AssertionError(f"{what}: got {type(nested).__name__}, expected an NDArray or a list")
    return [nested]


def _mapped(change: Callable[[Any], Any], nested: Nested) -> Nested:
    if isinstance(nested, list | tuple):
        return [_mapped(change, part) for part in nested]
    return change(nested)


def _stacked(steps: Sequence[Nested]) -> Nested:
    """The same nesting with the arrays of all steps stacked."""
    if not steps:
        return []
    if isinstance(steps[0], list | tuple):
        return [_stacked(parts) for parts in zip(*steps, strict=True)]
    return invoke("stack", steps, {"axis": 0, "num_args": len(steps)})


def _padded(stack: NDArray, missing: int) -> NDArray:
    if not missing:
        return stack
    rest = zeros((missing, *stack.shape[1:]), stack.context, stack.dtype)
    made: NDArray = invoke("Concat", [stack, rest], {"dim": 0, "num_args": 2})
    return made


__all__ = ["cond", "foreach", "isfinite", "isinf", "isnan", "while_loop"]

__getattr__, __dir__ = lazy_functions(globals(), "contrib")
