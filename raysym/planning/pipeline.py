"""Pipelines: the plan of one micro-batch, repeated in the order that a schedule says.

Micro-batch 3 of entry ``fc1`` is ``fc1@3``. Data is sliced, outputs are gathered in batch order,
gradients of parameters are added up from micro-batch 0 on, whatever the schedule; states such as
BatchNorm's moving averages are updated by each micro-batch in turn.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import scheduler
from raysym.graph import Node
from raysym.planning.lower import lower, owners_of
from raysym.planning.microbatch import Batches
from raysym.planning.orders import Schedule, order_of
from raysym.planning.plan import Plan
from raysym.planning.replicas import replicate
from raysym.planning.stage_costs import best_order
from raysym.planning.stages import Chunks, backward_stages, receive_late, stage_phase, staged
from raysym.planning.step import Bound, Step
from raysym.planning.unroll import Piece, Unrolling
from raysym.planning.update import Optimizer, plan_updates
from scheduler.pipeline import Action, Order

STEP = "step"  # the phase in which a whole training step runs


class Pipeline(NamedTuple):
    """How a batch is cut, and the order in which workers go through the parts.

    ``schedule``: "gpipe", "1f1b", "zero_bubble_h1" and "zero_bubble_free" take each worker as one
    stage; "interleaved" takes each stretch of the data flow on one worker as a stage, so that
    groups on workers 0, 1, 0, 1 make two stages each; "search" takes the best order that
    `scheduler.pipeline.search` finds for the costs of these stages on ``cluster``. Or an order of
    your own: its text, `scheduler.pipeline.Action` by rank, a `Timeline`, or a function that makes
    one of (ranks, micro-batches). ``batch_axes``: see `microbatch.split_batch`.
    ``data_parallel``: so many replicas of the workers, each with `micro_batches` parts of the
    batch. ``optimizer``: the update that parameters get at the end of a step, where they live.
    """

    micro_batches: int = 1
    schedule: Schedule = "1f1b"
    batch_axes: Mapping[str, int] | None = None
    data_parallel: int = 1
    optimizer: Optimizer | None = None
    cluster: scheduler.Cluster | None = None

    @property
    def slices(self) -> int:
        """Into how many parts the batch is cut."""
        return self.micro_batches * self.data_parallel


WHOLE = Pipeline()


def lower_pipeline(
    step: Step,
    bound: Bound,
    placement: Mapping[Node, str],
    batches: Batches,
    pipeline: Pipeline,
    is_step: bool,
) -> Plan:
    """The plan of a step over all micro-batches; `step` and its types are those of one.

    A whole step is the one phase "step": forward and backward in the order of the schedule, on all
    replicas, and the optimizer's updates. Otherwise each phase runs all micro-batches on the first
    replica before the next begins.
    """
    one = lower(step, batches.bound, placement, free=False)
    if not is_step:
        unrolling = Unrolling(one, bound, batches)
        rows = [[Piece(phase, "", j) for j in range(batches.n)] for phase in step.phases]
        bodies = {row[0].phase: unrolling.bodies(dict.fromkeys(one.workers, row)) for row in rows}
        return unrolling.plan(bodies)
    parts, rows_by_worker = _scheduled(one, step, owners_of(step, batches.bound), pipeline)
    unrolling = Unrolling(parts, bound, batches)
    together = replicate(unrolling, rows_by_worker, pipeline.data_parallel)
    updates = plan_updates(one, pipeline.optimizer, batches.axes)
    for worker, runs in updates.runs.items():
        together[worker] = [*together[worker], *runs]
    together = {worker: receive_late(body) for worker, body in together.items()}
    return unrolling.plan({STEP: together}, updates.homes, updates.types)


def _scheduled(
    one: Plan, step: Step, owners: Mapping[str, Node], pipeline: Pipeline
) -> tuple[Plan, dict[str, list[Piece]]]:
    """The plan by stages, and by worker the pieces in the order of the schedule."""
    forward, *later = step.phases
    n = pipeline.micro_batches

    def search(chunks: Chunks) -> Order:
        parts = _by_stages(one, step, owners, chunks)
        return best_order(parts, chunks, step.phases, n, pipeline.cluster)

    chunks, order = order_of(pipeline.schedule, one, forward, n, search)
    kinds = {"F": (forward, "")}
    kinds |= {k: (phase, k.strip("B")) for phase in later for k in "BIW"}
    rows = {
        worker: [_piece(action, *kinds[action.kind]) for action in row if action.kind in kinds]
        for worker, row in zip(chunks.ranks, order, strict=True)
    }
    return _by_stages(one, step, owners, chunks), rows


def _by_stages(one: Plan, step: Step, owners: Mapping[str, Node], chunks: Chunks) -> Plan:
    forward, *later = step.phases
    stages = {forward: chunks.stage_of}
    for backward in later:  # none if there is nothing to differentiate
        stages[backward] = backward_stages(one, chunks, backward, owners)
    return staged(one, stages, len(chunks.workers))


def _piece(action: Action, phase: str, part: str) -> Piece:
    return Piece(stage_phase(phase, action.stage), part, action.batch)
