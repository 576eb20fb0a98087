"""search(): an order for any DAG of stages under a memory cap, never worse than the named ones."""

from __future__ import annotations

from collections.abc import Iterator

from scheduler.errors import ScheduleError

from .action import Order
from .greedy import as_ready, per_rank
from .named import gpipe, interleaved, one_f_one_b, zero_bubble_free, zero_bubble_h1
from .stages import Stages
from .timeline import Timeline, run


def search(stages: Stages, batches: int, memory: float = float("inf")) -> Timeline:
    """The order with the smallest span found, with no rank above `memory`.

    Candidates are the named orders that fit the stages, and list schedules that differ in how many
    micro-batches each rank may hold and in when weight gradients run. Ties go to less memory.
    Raises ScheduleError when not even one micro-batch fits.
    """
    found = [run(order, stages) for order in _candidates(stages, batches, memory)]
    fitting = [t for t in found if max(t.peak_memory) <= memory * (1 + 1e-12)]
    if not fitting:
        need = max(per_rank(stages))
        raise ScheduleError(f"pipeline: one micro-batch keeps {need:g} on a rank, cap {memory:g}")
    return min(fitting, key=lambda t: (t.span, t.makespan, max(t.peak_memory)))


def _candidates(stages: Stages, batches: int, memory: float) -> Iterator[Order]:
    yield from _named(stages, batches)
    held = per_rank(stages)
    most = [int(min(memory / need * (1 + 1e-12), batches)) if need else batches for need in held]
    if min(most) < 1:
        return
    ranks = stages.ranks
    shapes = [
        most,
        *([min(m, ranks - r + extra) for r, m in enumerate(most)] for extra in range(ranks)),
        *([min(m, 2 * (ranks - r) - 1) for r, m in enumerate(most)] for _ in range(1)),
        *([min(m, level) for m in most] for level in range(1, 2 * ranks + 1)),
    ]
    for caps in dict.fromkeys(tuple(max(1, c) for c in shape) for shape in shapes):
        for split in (True, False):
            order = as_ready(stages, batches, caps, split)
            if order is not None:
                yield order


def _named(stages: Stages, batches: int) -> Iterator[Order]:
    ranks, n = stages.ranks, len(stages.forward)
    chunks = n // ranks
    if stages.rank_of != tuple(s % ranks for s in range(n)) or n % ranks:
        return
    if chunks > 1:
        if batches % ranks == 0:
            yield interleaved(ranks, batches, chunks)
        return
    yield from (gpipe(ranks, batches), one_f_one_b(ranks, batches), zero_bubble_h1(ranks, batches))
    for cap in range(ranks, 2 * ranks):
        yield zero_bubble_free(ranks, batches, cap)
