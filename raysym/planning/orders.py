"""Orders: from what a user calls a schedule to who does what when, or a refusal that says why."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import scheduler
from raysym.errors import PlanError, in_words, sentence
from raysym.planning.plan import Plan
from raysym.planning.stages import Chunks, chunks_of, goes_back, one_stage_each
from scheduler.pipeline import GREEDY, NAMED, Action, Order, Timeline, interleaved, parse_order

# A name, the text of an order, an order, a timeline of one, or what makes one of so many ranks and
# micro-batches.
Schedule: TypeAlias = str | Order | Timeline | Callable[[int, int], Order]
# Finds an order of the kind that is named for the stages of a plan, by what they cost.
Search: TypeAlias = Callable[[str, Chunks], Order]

SEARCH = "search"  # the scheduler looks for the best order
NAMES = sorted([*NAMED, SEARCH])


def order_of(
    schedule: Schedule, one: Plan, forward: str, n: int, search: Search
) -> tuple[Chunks, Order]:
    """The stages of the plan `one` and the order of `n` micro-batches through them.

    A schedule of one stage per rank takes each worker as one if the data flow lets it; others need
    as many stages on each worker as they name. PlanError when they do not fit.
    """
    try:
        chunks, order = _order(schedule, one, forward, n, search)
    except scheduler.ScheduleError as error:
        raise PlanError(f"schedule: {error}") from error
    _check(order, chunks, n)
    return chunks, order


def _order(
    schedule: Schedule, one: Plan, forward: str, n: int, search: Search
) -> tuple[Chunks, Order]:
    chunks = one_stage_each(one, forward)
    if schedule == SEARCH or _must_turn(schedule, one, forward, chunks):
        assert isinstance(schedule, str)
        chunks = chunks_of(one, forward)
        return chunks, search(schedule, chunks)
    if schedule == "interleaved":
        chunks = chunks_of(one, forward)
        return chunks, _interleaved(chunks, n)
    order = _given(schedule, len(chunks.workers), n)
    if any(action.stage != rank for rank, row in enumerate(order) for action in row):
        chunks = chunks_of(one, forward)
    return chunks, order


def _must_turn(schedule: Schedule, one: Plan, forward: str, chunks: Chunks) -> bool:
    """Workers that are one stage each would wait for each other, but may take turns."""
    return isinstance(schedule, str) and schedule in GREEDY and goes_back(one, forward, chunks)


def _interleaved(chunks: Chunks, n: int) -> Order:
    ranks, stages = chunks.ranks, chunks.workers
    if stages != ranks * (len(stages) // len(ranks)):
        wanted = f"all of {in_words(ranks)} in turn, each as often"
        raise PlanError(sentence("schedule 'interleaved': stages on", in_words(stages), wanted))
    return interleaved(len(ranks), n, len(stages) // len(ranks))


def _given(schedule: Schedule, ranks: int, n: int) -> Order:
    if isinstance(schedule, Timeline):
        return schedule.order
    if isinstance(schedule, str):
        return _named(schedule, ranks, n)
    made = schedule(ranks, n) if callable(schedule) else schedule
    try:
        return tuple(tuple(Action(*action) for action in row) for row in made)
    except TypeError:
        raise PlanError(_unknown(schedule)) from None


def _named(schedule: str, ranks: int, n: int) -> Order:
    if schedule in NAMED:
        return NAMED[schedule](ranks, n)
    try:
        return parse_order(schedule)
    except scheduler.ScheduleError as error:
        if " " in schedule.strip():  # meant as the text of an order
            raise
        raise PlanError(_unknown(schedule)) from error


def _unknown(schedule: object) -> str:
    wanted = f"one of {in_words(NAMES)}, an order or its text such as '0F0 0B0'"
    return sentence("schedule", repr(schedule), wanted)


# ----- checks


def _check(order: Order, chunks: Chunks, n: int) -> None:
    ranks = chunks.ranks
    if len(order) != len(ranks):
        wanted = f"{len(ranks)}, one per worker: {in_words(ranks)}"
        raise PlanError(sentence("schedule", f"{len(order)} ranks", wanted))
    for rank, row in enumerate(order):
        own = [s for s, worker in enumerate(chunks.workers) if worker == ranks[rank]]
        used = sorted({action.stage for action in row})
        if used != own:
            wanted = f"{own}, since the stages are on {in_words(chunks.workers)}"
            raise PlanError(sentence(f"schedule: rank {rank}: stages", used, wanted))
        for stage in own:
            _check_stage(f"schedule: rank {rank}: stage {stage}", row, stage, n)


def _check_stage(what: str, row: tuple[Action, ...], stage: int, n: int) -> None:
    for kinds in ("F", "BI", "BW"):
        found = [a.batch for a in row if a.stage == stage and a.kind in kinds]
        if found != sorted(set(found)):
            raise PlanError(sentence(f"{what}: {kinds[-1]} out of order", found, "0, 1, ..."))
        if found != list(range(n)):
            wanted = f"all of {n} micro-batches"
            raise PlanError(sentence(f"{what}: {kinds[-1]}", found, wanted))
    done: dict[int, str] = {}
    for action in (a for a in row if a.stage == stage):
        done[action.batch] = done.get(action.batch, "") + action.kind
    wrong = {batch: kinds for batch, kinds in done.items() if kinds not in ("FB", "FIW")}
    if wrong:
        batch, kinds = next(iter(wrong.items()))
        raise PlanError(sentence(f"{what}: micro-batch {batch}", kinds, "FB or FIW"))
