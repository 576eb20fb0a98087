"""Optimizer updates as part of a plan: where a parameter's gradient lives, its states do too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple, TypeAlias

from raysym.errors import MXNetError, PlanError, RuleError, sentence
from raysym.op import Op, make_op
from raysym.planning.layout import Layout
from raysym.planning.plan import Plan, Program, Run
from raysym.types import TensorType

# The name of an update op, such as "sgd_update" or "adam_update", and its parameters.
Optimizer: TypeAlias = tuple[str, Mapping[str, object]]

MASTER = "weight32"  # the slot of the float32 weight beside one of lower precision
_SCALE = "rescale_grad"  # the slot of a factor of the gradient


class Updates(NamedTuple):
    """By worker: the instructions that update its parameters; the states' homes and types."""

    runs: Mapping[str, list[Run]]
    homes: Mapping[str, str]
    types: Mapping[str, TensorType]


def state_name(slot: str, parameter: str) -> str:
    """The entry of an optimizer's state: ``state:mom:fc_weight``."""
    return f"state:{slot}:{parameter}"


def first_state(state: str, parameters: Mapping[str, Any]) -> Any:
    """What a state begins as: masters as their weight, factors as one, all others as zero."""
    _, slot, parameter = state.split(":", 2)
    return parameters[parameter] if slot == MASTER else float(slot == _SCALE)


def plan_updates(plan: Plan, optimizer: Optimizer | None, layout: Layout) -> Updates:
    """An update of every parameter that has a gradient, where its owner is.

    PlanError for an op that is no update of one weight, or that does not fit a parameter.
    """
    runs: dict[str, list[Run]] = {}
    homes: dict[str, str] = {}
    types: dict[str, TensorType] = {}
    if optimizer is None:
        return Updates(runs, homes, types)
    op = _update_op(optimizer)
    for gradient, worker in plan.homes.items():
        if gradient not in layout.owners:
            continue
        parameter = gradient.removeprefix("grad:")
        found = _state_types(op, parameter, plan.types[parameter])
        homes.update(dict.fromkeys(found, layout.owner_of(gradient)))
        types.update(found)
        written = [state_name(slot, parameter) for slot in op.aux]
        run = Run((parameter, *written), op, (parameter, gradient, *found))
        runs.setdefault(worker, []).append(run)
    return Updates(runs, homes, types)


def _state_types(op: Op, parameter: str, weight: TensorType) -> dict[str, TensorType]:
    slots = op.input_names()[2:]
    unknown, n = [None] * len(slots), len(op.output_names())
    try:
        shapes, _ = op.infer_shape([weight.shape, weight.shape, *unknown], [None] * n)
        dtypes, _ = op.infer_dtype([weight.dtype, weight.dtype, *unknown], [None] * n)
    except RuleError as error:
        what = f"optimizer '{op.name}': does not fit '{parameter}': {error}"
        raise PlanError(sentence(what, weight, "a parameter that it can update")) from error
    return {
        state_name(slot, parameter): TensorType(tuple(shape or ()), str(dtype))
        for slot, shape, dtype in zip(slots, shapes[2:], dtypes[2:], strict=True)
    }


def _update_op(optimizer: Optimizer) -> Op:
    match optimizer:
        case [str(name), {**params}]:
            op = _op_of(name, params)
        case _:
            wanted = "an update op and its parameters, such as ('sgd_update', {'lr': 0.1})"
            raise PlanError(sentence("optimizer", repr(optimizer), wanted))
    # LAMB's first half gives a direction, not a weight; multi_ forms update many weights.
    is_update = tuple(op.input_names())[:2] == ("weight", "grad") and name.endswith("_update")
    if not is_update:
        raise PlanError(f"optimizer: got '{name}', expected an update op such as 'sgd_update'")
    return op


def _op_of(name: str, params: Mapping[str, object]) -> Op:
    try:
        return make_op(name, params)
    except MXNetError as error:
        raise PlanError(f"optimizer: '{name}': {error}") from error


# ----- other numbers


def retuning(old: Optimizer | None, new: Optimizer | None) -> tuple[Op, Op] | None:
    """The update ops of both where a plan with one is a plan with the other; PlanError for none.

    They then differ in numbers, such as the rate, but not in what they read and write.
    """
    if old is None or new is None:
        return None
    ops = _update_op(old), _update_op(new)
    forms = [(op.name, op.input_names(), op.output_names()) for op in ops]
    return ops if forms[0] == forms[1] else None


def with_op(program: Program, old: Op, new: Op) -> Program:
    """The program with `new` wherever it runs `old`."""
    return tuple(
        replace(i, op=new) if type(i) is Run and (i.op is old or i.op == old) else i
        for i in program
    )


def plan_with_op(plan: Plan, phase: str, old: Op, new: Op) -> Plan:
    """The plan whose phase runs `new` in place of `old`."""
    programs = {
        worker: {**phases, phase: with_op(phases[phase], old, new)} if phase in phases else phases
        for worker, phases in plan.programs.items()
    }
    return replace(plan, programs=programs)
