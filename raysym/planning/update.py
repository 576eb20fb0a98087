"""Optimizer updates as part of a plan: where a parameter lives, its gradient and states do too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, TypeAlias

from raysym.errors import PlanError
from raysym.op import Op, make_op
from raysym.planning.layout import Layout
from raysym.planning.plan import Plan, Run
from raysym.types import TensorType

# The name of an update op, such as "sgd_update" or "adam_update", and its parameters.
Optimizer: TypeAlias = tuple[str, Mapping[str, object]]


class Updates(NamedTuple):
    """By worker: the instructions that update its parameters; the states' homes and types."""

    runs: Mapping[str, list[Run]]
    homes: Mapping[str, str]
    types: Mapping[str, TensorType]


def plan_updates(plan: Plan, optimizer: Optimizer | None, layout: Layout) -> Updates:
    """An update of every parameter that has a gradient, where its owner is.

    States start at zero and are called ``state:mom:fc_weight``. PlanError for an op that is no
    update.
    """
    runs: dict[str, list[Run]] = {}
    homes: dict[str, str] = {}
    types: dict[str, TensorType] = {}
    if optimizer is None:
        return Updates(runs, homes, types)
    op = _update_op(optimizer)
    for gradient, worker in plan.homes.items():
        parameter = gradient.removeprefix("grad:")
        if gradient not in layout.owners:
            continue
        states = [f"state:{slot}:{parameter}" for slot in op.input_names()[2:]]
        homes.update(dict.fromkeys(states, layout.owner_of(gradient)))
        types.update(dict.fromkeys(states, plan.types[parameter]))
        run = Run((parameter, *states), op, (parameter, gradient, *states))
        runs.setdefault(worker, []).append(run)
    return Updates(runs, homes, types)


def _update_op(optimizer: Optimizer) -> Op:
    name, params = optimizer
    op = make_op(name, dict(params))
    slots = tuple(op.input_names())
    # A master copy of the weight, as in the mp_ forms, would have to start as the weight.
    if slots[:2] != ("weight", "grad") or "weight32" in slots:
        raise PlanError(f"optimizer: got '{name}', expected an update op such as 'sgd_update'")
    return op
