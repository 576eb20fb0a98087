"""Running one op at once on arrays: its rules, its kernel, and what it writes into its inputs.

Ops run as in inference. Everything that depends only on the op and the types of its inputs is
worked out once and cached.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from raysym.context import Context, current_context
from raysym.device import array_module, on_device
from raysym.errors import MXNetError, RuleError, sentence
from raysym.graph import Entry, Graph, Node, variable
from raysym.op import Op, call_kernel
from raysym.random_state import generator, next_draw
from raysym.types import PartialDType, PartialShape, TensorType, is_known, unify, unify_dtypes

Types: TypeAlias = tuple[TensorType, ...]


class Program(NamedTuple):
    """What one imperative call computes: the inputs, the visible outputs, the input updates."""

    inputs: tuple[Entry, ...]
    graph: Graph  # its outputs are the visible outputs, then the updates
    n_outputs: int
    updated: tuple[int, ...]  # positions of the inputs that the last outputs are written into


def run_op(
    op: Op, arrays: Sequence[Any], ctx: Context, outs: Types | None = None
) -> tuple[list[Any], dict[int, Any]]:
    """The visible outputs and the new values of inputs, by position.

    `outs` are the types that the outputs must have, if they are written into existing arrays.
    MXNetError names the op and its inputs if shapes, dtypes or their number do not fit.
    """
    types = tuple(TensorType(array.shape, array.dtype.name) for array in arrays)
    program = _program(op, types, outs)
    with on_device(ctx), np.errstate(all="ignore"):
        try:
            values = _evaluate(program, arrays, array_module(ctx))
        except RuleError as error:
            raise _error(op, types, str(error)) from None
    made = [values[entry] for entry in program.graph.outputs]
    visible, updates = made[: program.n_outputs], made[program.n_outputs :]
    return _owned(visible, arrays), dict(zip(program.updated, updates, strict=True))


def _evaluate(program: Program, arrays: Sequence[Any], xp: Any) -> dict[Entry, Any]:
    values: dict[Entry, Any] = dict(zip(program.inputs, arrays, strict=True))
    for node in program.graph.nodes:
        if node.is_variable:
            continue
        rng = _draw(node.op.name) if node.op.random else None
        made = call_kernel(node.op, xp, [values[entry] for entry in node.inputs], rng)
        values.update(zip(node.entries(), made, strict=True))
    return values


def _draw(name: str) -> np.random.Generator:
    seed, count = next_draw()
    return generator(seed, name, count)


def _owned(values: list[Any], arrays: Sequence[Any]) -> list[Any]:
    """Arrays that share memory neither with the inputs nor with each other, and are writable."""
    owned: list[Any] = []
    taken = [_owner(array) for array in arrays]
    for value in values:
        owner = _owner(value)
        shared = any(owner is other for other in taken) or owner.nbytes != value.nbytes
        if shared or not getattr(value.flags, "writeable", True):
            value = value.copy("C")
        taken.append(_owner(value))
        owned.append(value)
    return owned


def _owner(array: Any) -> Any:
    return array if getattr(array.base, "nbytes", None) is None else array.base


# ----- what is worked out once


@lru_cache(maxsize=8192)
def _program(op: Op, ins: Types, outs: Types | None) -> Program:
    made = result_types(op, ins, outs)
    inputs = tuple(variable(str(i)) for i in range(len(ins)))
    node = Node(op, op.name, inputs)
    if outs is not None and len(made) == 1 and not inputs:
        resolved = op.specialize((), (), made)
        node = node if resolved is None else resolved.node
    heads = op.for_inference(inputs) or node.entries()
    updates = op.forward_updates(inputs, node.entries())
    n_outputs = op.n_visible()
    graph = Graph.of([*heads[:n_outputs], *updates.values()])
    return Program(inputs, graph, n_outputs, tuple(updates))


def result_types(op: Op, ins: Types, outs: Types | None = None) -> list[TensorType]:
    """Types of all values of `op` on inputs of the given types, by the rules of its page."""
    _check_inputs(op, ins)
    try:
        shapes = _infer_shapes(op, ins, outs)
        dtypes = _infer_dtypes(op, ins, outs)
    except RuleError as error:
        raise _error(op, ins, str(error)) from None
    if not ins and not all(map(is_known, shapes)):
        raise _error(op, ins, f"the result has no elements, or an undecided shape: got {shapes[0]}")
    return [TensorType(s or (), d or "float32") for s, d in zip(shapes, dtypes, strict=True)]


def _check_inputs(op: Op, ins: Types) -> None:
    slots = op.input_names()
    if len(ins) != len(slots):
        wanted = f"{len(slots)} ({', '.join(slots)})"
        raise _error(op, ins, f"wrong number of inputs: got {len(ins)}, expected {wanted}")
    for slot, t in zip(slots, ins, strict=True):
        if 0 in t.shape:
            raise _error(op, ins, f"{slot} has no elements: got shape {t.shape}")


def _infer_shapes(op: Op, ins: Types, outs: Types | None) -> list[PartialShape]:
    known = [t.shape for t in ins]
    found = _first_guess(op, [t.shape for t in outs or ()])
    for _ in range(2):  # a rule may need its own first answer, never more
        new_ins, new_outs = op.infer_shape(known, found)
        for slot, old, new in zip(op.input_names(), known, new_ins, strict=True):
            unify(old, new, f"{slot} does not fit: shape")
        found = [unify(a, b, "output: shape") for a, b in zip(found, new_outs, strict=True)]
        if all(map(is_known, found)):
            break
    return found


def _first_guess(op: Op, outs: list[Any]) -> list[Any]:
    return [*outs, *[None] * (op.n_values() - len(outs))]


def _infer_dtypes(op: Op, ins: Types, outs: Types | None) -> list[PartialDType]:
    known = [t.dtype for t in ins]
    found = _first_guess(op, [t.dtype for t in outs or ()])
    op.check_kind(known)
    new_ins, new_outs = op.infer_dtype(known, found)
    for slot, old, new in zip(op.input_names(), known, new_ins, strict=True):
        unify_dtypes((old, new), f"{slot} does not fit: dtype")
    return [unify_dtypes(pair, "output: dtype") for pair in zip(found, new_outs, strict=True)]


def _error(op: Op, ins: Types, wrong: str) -> MXNetError:
    slots = [*op.input_names(), *[f"arg{i}" for i in range(len(ins))]]
    given = ", ".join(f"{slot}: {t}" for slot, t in zip(slots, ins, strict=False))
    return MXNetError(f"{op.name}: {wrong}" + (f"\n  inputs are {given}" if given else ""))


def context_of(op: Op, inputs: Sequence[Context], wanted: Context | None) -> Context:
    """Where `op` runs: where its inputs live, which must be one place, else as it says itself."""
    if not inputs:
        named = getattr(op, "ctx", "")
        return wanted or (_parse_context(named) if named else current_context())
    for other in inputs:
        if other != inputs[0]:
            wrong = sentence("inputs live on different contexts", f"{inputs[0]} and {other}")
            raise MXNetError(f"{op.name}: {wrong}. Use as_in_context")
    return inputs[0]


def _parse_context(text: str) -> Context:
    kind, _, number = text.rstrip(")").partition("(")
    if kind not in Context.devstr2type or not number.isdigit():
        raise MXNetError(sentence("invalid context", repr(text), "a text like 'cpu(0)'"))
    return Context(kind, int(number))
