"""The straight line: bound graph -> joint step -> plan, checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from raysym.graph import Node
from raysym.planning.check import check
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
) -> tuple[Step, Plan]:
    """The step and the checked plan of one mode.

    `tidy` off keeps every node of the user's graph in sight, for monitors. With micro-batches, the
    step is that of one micro-batch and the plan runs all.
    """
    if mode != STEP and pipeline.slices == 1:
        step = STEPS[mode](bound, tidy)
        plan = lower(step, bound, placement)
    else:
        batches = split_batch(bound, pipeline.slices, pipeline.batch_axes)
        step = STEPS[mode](batches.bound, tidy)
        plan = lower_pipeline(step, bound, placement, batches, pipeline, mode == STEP)
    if pipeline.data_parallel > 1:
        plan = with_replicas(plan, sorted(set(placement.values())), pipeline.data_parallel)
    check(plan, memory)
    return step, plan
