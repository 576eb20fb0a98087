"""Pipelines: the plan of one micro-batch, repeated in the order that a schedule says.

Micro-batch 3 of entry ``fc1`` is ``fc1@3``. Data is sliced, outputs are gathered in batch order,
gradients of parameters are added up from micro-batch 0 on, whatever the schedule; states such as
BatchNorm's moving averages are updated by each micro-batch in turn.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import NamedTuple

import scheduler
from raysym.errors import PlanError, in_words, sentence
from raysym.graph import Node
from raysym.planning.check import check
from raysym.planning.layout import Layout, replica_names
from raysym.planning.lower import lower, owners_of
from raysym.planning.microbatch import Batches
from raysym.planning.orders import Schedule, order_of
from raysym.planning.plan import Plan
from raysym.planning.replicas import replicate
from raysym.planning.stage_costs import found_order
from raysym.planning.stages import (
    LATE,
    RESIDENT,
    Chunks,
    backward_stages,
    chunks_of,
    goes_back,
    receive_late,
    stage_phase,
    staged,
)
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
    `scheduler.pipeline.search` finds for the costs of these stages on ``cluster``. Where the data
    flow goes back to a worker, "1f1b" and the zero bubbles take such stretches as well, each as
    soon as its inputs should be there by these costs. Or an order of your own: its text,
    `scheduler.pipeline.Action` by rank, a `Timeline`, or a function that makes one of (ranks,
    micro-batches). ``batch_axes``: see `microbatch.split_batch`.
    ``data_parallel``: so many replicas of the workers, each with `micro_batches` parts of the
    batch. ``optimizer``: the update that parameters get at the end of a step, where they live.
    """

    micro_batches: int = 1
    schedule: Schedule = "1f1b"
    batch_axes: Mapping[str, int | None] | None = None
    data_parallel: int = 1
    optimizer: Optimizer | None = None
    cluster: scheduler.Cluster | None = None

    @property
    def slices(self) -> int:
        """Into how many parts the batch is cut; PlanError for numbers that are none."""
        for name in ("micro_batches", "data_parallel"):
            n = getattr(self, name)
            if not isinstance(n, int) or isinstance(n, bool) or n < 1:
                raise PlanError(sentence(name, repr(n), "a whole number from 1 on"))
        return self.micro_batches * self.data_parallel

    @property
    def is_chosen(self) -> bool:
        """True when something was asked for that only whole steps do."""
        given = self.schedule, self.batch_axes, self.optimizer
        return given != (WHOLE.schedule, WHOLE.batch_axes, WHOLE.optimizer)

    def __str__(self) -> str:
        more = f" x data_parallel={self.data_parallel}" if self.data_parallel > 1 else ""
        return f"micro_batches={self.micro_batches}{more}"


WHOLE = Pipeline()


def with_their_devices(
    cluster: scheduler.Cluster, workers: Iterable[str], pipeline: Pipeline
) -> scheduler.Cluster:
    """The cluster with a device for each worker of each replica.

    One that the cluster lacks is like that of the first replica, and so are links by name between
    devices of one replica, each with a channel of its own.
    """
    n_replicas = pipeline.slices // pipeline.micro_batches  # which refuses what is no number
    rows = replica_names(sorted(workers), n_replicas)
    devices, links = [*cluster.devices], [*cluster.links]
    for r, names in enumerate(rows):
        added = {old: new for old, new in names.items() if new not in cluster.index}
        of = [cluster.devices[cluster.index[old]] for old in added]
        devices += [replace(device, name=added[device.name]) for device in of]
        for link in cluster.links:
            if link.a in added or link.b in added:
                a, b = added.get(link.a, link.a), added.get(link.b, link.b)
                links.append(
                    replace(link, a=a, b=b, channel=link.channel and f"{link.channel}#{r}")
                )
    return replace(cluster, devices=tuple(devices), links=tuple(links))


def lower_pipeline(
    step: Step,
    placement: Mapping[Node, str],
    batches: Batches,
    pipeline: Pipeline,
    is_step: bool,
) -> Plan:
    """The plan of a step over all micro-batches; `step` and its types are those of one.

    A whole step is the one phase "step": forward and backward in the order of the schedule, and the
    optimizer's updates. Otherwise each phase runs all micro-batches before the next begins.
    """
    one = lower(step, batches.bound, placement, free=False)
    layout = Layout(one, batches, placement, pipeline.data_parallel)
    if not is_step:
        unrolling = Unrolling(one, batches, layout)
        n = pipeline.micro_batches
        whole = [[Piece(phase, "", j) for j in range(n)] for phase in step.phases]
        bodies = {
            row[0].phase: replicate(unrolling, layout, dict.fromkeys(one.workers, row), {})
            for row in whole
        }
        return unrolling.plan(bodies, layout.homes)
    chunks, rows = _scheduled(one, step, batches.bound, pipeline)
    unrolling = Unrolling(_by_stages(one, step, batches.bound, chunks), batches, layout)
    updates = plan_updates(one, pipeline.optimizer, layout)
    together = replicate(unrolling, layout, rows, updates.runs)
    together = {worker: receive_late(body) for worker, body in together.items()}
    plan = unrolling.plan({STEP: together}, {**layout.homes, **updates.homes}, updates.types)
    if goes_back(one, step.phases[0], chunks):
        _check_back_and_forth(plan, chunks_of(one, step.phases[0]), pipeline.schedule)
    return plan


def _scheduled(
    one: Plan, step: Step, bound: Bound, pipeline: Pipeline
) -> tuple[Chunks, dict[str, list[Piece]]]:
    """The stages, and by worker the pieces of all micro-batches in the order of the schedule."""
    forward, *later = step.phases
    n = pipeline.micro_batches

    def search(schedule: str, chunks: Chunks) -> Order:
        parts = _by_stages(one, step, bound, chunks)
        return found_order(schedule, parts, chunks, step.phases, n, pipeline.cluster)

    chunks, order = order_of(pipeline.schedule, one, forward, n, search)
    kinds = {"F": (forward, "")}
    kinds |= {kind: (phase, kind.strip("B")) for phase in later for kind in "BIW"}
    first = [Piece(RESIDENT, "", j) for j in range(n)]
    late = [Piece(stage_phase(phase, LATE), "", j) for phase in later for j in range(n)]
    rows = {
        worker: [*first, *(_piece(a, *kinds[a.kind]) for a in row if a.kind in kinds), *late]
        for worker, row in zip(chunks.ranks, order, strict=True)
    }
    return chunks, rows


def _by_stages(one: Plan, step: Step, bound: Bound, chunks: Chunks) -> Plan:
    forward, *later = step.phases
    owners = owners_of(step, bound)
    stages, one_each = {forward: chunks.stage_of}, goes_back(one, forward, chunks)
    for backward in later:  # none if there is nothing to differentiate
        stages[backward] = backward_stages(one, chunks, backward, owners, one_each)
    return staged(one, stages, len(chunks.workers))


def _piece(action: Action, phase: str, part: str) -> Piece:
    return Piece(stage_phase(phase, action.stage), part, action.batch)


def _check_back_and_forth(plan: Plan, chunks: Chunks, schedule: Schedule) -> None:
    """Say what to do if workers that are one stage each would wait for each other."""
    try:
        check(plan)
    except PlanError as error:
        what = f"schedule {schedule!r} of one stage per worker: the data flow goes through"
        wanted = "each worker once. Schedules by name can go back, as '1f1b'"
        wrong = sentence(what, in_words(chunks.workers), wanted)
        raise PlanError(f"{wrong}\n{error}") from error
