"""The straight line: bound graph -> joint step -> plan, checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from raysym.graph import Node
from raysym.planning.check import check
from raysym.planning.lean import Budget, within
from raysym.planning.lower import lower
from raysym.planning.microbatch import split_batch
from raysym.planning.pipeline import STEP, WHOLE, Pipeline, lower_pipeline
from raysym.planning.plan import Plan
from raysym.planning.replicas import with_replicas
from raysym.planning.step import (
    Bound,
    Step,
    inference_backward_step,
    inference_step,
    training_step,
)

STEPS: Mapping[str, Callable[[Bound, bool], Step]] = {
    "training": training_step,
    "step": training_step,
    "inference": inference_step,
    "inference_backward": inference_backward_step,
}


def compile_plan(
    bound: Bound,
    placement: Mapping[Node, str],
    mode: str,
    memory: Mapping[str, float] | None = None,
    tidy: bool = True,
    pipeline: Pipeline = WHOLE,
    budget: Budget | None = None,
) -> tuple[Step, Plan]:
    """The step and the checked plan of one mode.

    `memory`: bytes of each device. `tidy` off keeps every node of the user's graph in sight, for
    monitors. With micro-batches, the step is that of one micro-batch and the plan runs all. With a
    `budget`, values of forward that backward needs are made again where that saves bytes.
    """
    is_whole = mode != STEP and pipeline.slices == 1
    n, axes = pipeline.slices, pipeline.batch_axes
    batches = None if is_whole else split_batch(bound, n, axes, str(pipeline))
    step = STEPS[mode](batches.bound if batches else bound, tidy)

    def plan_of(step: Step) -> Plan:
        if batches is None:
            plan = lower(step, bound, placement)
        else:
            plan = lower_pipeline(step, placement, batches, pipeline, mode == STEP)
        if pipeline.data_parallel > 1:
            plan = with_replicas(plan, sorted(set(placement.values())), pipeline.data_parallel)
        return plan

    if budget is None:
        plan = plan_of(step)
    else:
        step, plan = within(budget, step, plan_of)
    check(plan, memory)
    return step, plan
