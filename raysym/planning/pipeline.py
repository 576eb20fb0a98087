"""Pipelines: the plan of one micro-batch, repeated in the order that a schedule says.

Micro-batch 3 of entry ``fc1`` is ``fc1@3``. Data is sliced, outputs are gathered in batch order,
gradients of parameters are added up from micro-batch 0 on, whatever the schedule; states such as
BatchNorm's moving averages are updated by each micro-batch in turn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from raysym.errors import PlanError
from raysym.graph import Node
from raysym.planning.lower import lower
from raysym.planning.microbatch import Batches
from raysym.planning.plan import Plan, Recv
from raysym.planning.replicas import replicate
from raysym.planning.step import Bound, Step
from raysym.planning.unroll import Piece, Unrolling
from raysym.planning.update import Optimizer, plan_updates
from scheduler.pipeline import NAMED, Order, parse_order

STEP = "step"  # the phase in which a whole training step runs


class Pipeline(NamedTuple):
    """How a batch is cut, and the order in which workers go through the parts.

    ``schedule``: a name among `scheduler.pipeline.NAMED` or the text of an order.
    ``data_parallel``: so many replicas of the workers, each with `micro_batches` parts of the
    batch. ``optimizer``: the update that parameters get at the end of a step, where they live.
    """

    micro_batches: int = 1
    schedule: str = "1f1b"
    batch_axes: Mapping[str, int] | None = None
    data_parallel: int = 1
    optimizer: Optimizer | None = None

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
    unrolling = Unrolling(one, bound, batches)
    if not is_step:
        rows = [[Piece(phase, "", j) for j in range(batches.n)] for phase in step.phases]
        bodies = {row[0].phase: unrolling.bodies(dict.fromkeys(one.workers, row)) for row in rows}
        return unrolling.plan(bodies)
    n = pipeline.micro_batches
    if len(step.phases) == 2:
        order = _scheduled(one, step.phases, n, pipeline.schedule)
    else:  # nothing to differentiate: the step is its forward phase
        row = [Piece(step.phases[0], "", j) for j in range(n)]
        order = dict.fromkeys(one.workers, row)
    together = replicate(unrolling, order, pipeline.data_parallel)
    updates = plan_updates(one, pipeline.optimizer, batches.axes)
    for worker, runs in updates.runs.items():
        together[worker] = [*together[worker], *runs]
    return unrolling.plan({STEP: together}, updates.homes, updates.types)


def _scheduled(one: Plan, phases: Sequence[str], n: int, schedule: str) -> dict[str, list[Piece]]:
    """By worker: the pieces in the order of the schedule."""
    forward, backward = phases
    kinds = {"F": (forward, ""), "B": (backward, ""), "I": (backward, "I"), "W": (backward, "W")}
    ranks = _ranks(one, forward)
    return {
        worker: [Piece(*kinds[action.kind], action.batch) for action in row]
        for worker, row in zip(ranks, _order(schedule, len(ranks), n), strict=True)
    }


def _order(schedule: str, ranks: int, n: int) -> Order:
    order = NAMED[schedule](ranks, n) if schedule in NAMED else parse_order(schedule)
    if len(order) != ranks:
        raise PlanError(f"schedule: got {len(order)} ranks, expected {ranks}, one per worker")
    for rank, row in enumerate(order):
        for kind in "FBIW":
            batches = [action.batch for action in row if action.kind == kind]
            if batches != sorted(set(batches)):
                raise PlanError(f"schedule: rank {rank}: {kind} out of order: got {batches}")
        if any(action.stage != rank for action in row):
            raise PlanError(f"schedule {schedule!r}: expected one stage per worker")
        done = (
            sorted(a.batch for a in row if a.kind in "BW"),
            sorted(a.batch for a in row if a.kind == "F"),
        )
        if done != (list(range(n)), list(range(n))):
            raise PlanError(f"schedule: rank {rank}: expected all of {n} micro-batches: got {row}")
    return order


def _ranks(one: Plan, forward: str) -> list[str]:
    """Workers in the order of the data flow: a worker stands behind those that it receives from."""
    left = {w: {i.source for i in one.programs[w][forward] if type(i) is Recv} for w in one.workers}
    ranks: list[str] = []
    while left:
        free = [w for w, sources in left.items() if not sources - set(ranks)]
        # In a cycle of workers no order fits; the plan's check will tell whether it can run.
        ranks.append(free[0] if free else next(iter(left)))
        del left[ranks[-1]]
    return ranks
