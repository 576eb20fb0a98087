"""What the stages of a plan cost, and the order of a pipeline that the scheduler finds for that."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

import scheduler
from raysym.planning.lifetimes import made, uses
from raysym.planning.plan import Instruction, Plan, Run
from raysym.planning.predict import kernel_s
from raysym.planning.stages import Chunks, stage_phase
from raysym.planning.unroll import piece_of
from scheduler.pipeline import GREEDY, Order, Stages, search


def found_order(
    schedule: str,
    parts: Plan,
    chunks: Chunks,
    phases: Sequence[str],
    n: int,
    cluster: scheduler.Cluster | None = None,
) -> Order:
    """The order of `n` micro-batches with the smallest predicted span that fits into memory, or
    what a schedule of one stage per worker becomes where workers have several.

    ScheduleError when one micro-batch does not fit. Without a cluster all workers are alike.
    """
    cluster = cluster or _alike(chunks.ranks)
    costs = stage_costs(parts, chunks, phases, cluster)
    if schedule in GREEDY:
        return GREEDY[schedule](costs, n)
    held = {
        w: sum(parts.types[e].nbytes for e, home in parts.homes.items() if home == w)
        for w in chunks.ranks
    }
    room = min(cluster.devices[cluster.index[w]].memory - held[w] for w in chunks.ranks)
    return search(costs, n, room).order


def stage_costs(
    parts: Plan, chunks: Chunks, phases: Sequence[str], cluster: scheduler.Cluster
) -> Stages:
    """Seconds of each stage of a staged plan, the transfers between them, and the bytes they keep
    from forward to backward."""
    forward, *later = phases
    seconds: dict[str, tuple[float, ...]] = {}
    for kind in "FIW":
        part, phase = ("", [forward]) if kind == "F" else (kind, later)
        seconds[kind] = tuple(
            sum(_seconds(parts, piece_of(parts, w, stage_phase(p, s), part), w, cluster))
            for p in phase or [forward]
            for s, w in enumerate(chunks.workers)
        )
    return Stages(
        seconds["F"],
        seconds["I"],
        seconds["W"],
        rank_of=tuple(map(chunks.ranks.index, chunks.workers)),
        edges=tuple(_edges(parts, chunks, phases, cluster)),
        memory=tuple(_kept(parts, chunks, forward, later)),
    )


def _alike(workers: Sequence[str]) -> scheduler.Cluster:
    kinds = {worker: worker.partition(":")[0] for worker in workers}
    return scheduler.Cluster(tuple(scheduler.Device(w, kind) for w, kind in kinds.items()))


def _seconds(
    parts: Plan, body: Sequence[Instruction], worker: str, cluster: scheduler.Cluster
) -> Iterator[float]:
    device = cluster.devices[cluster.index[worker]]
    for run in (i for i in body if type(i) is Run):
        ins, outs = ([parts.types[e] for e in names] for names in (run.args, run.outs))
        yield kernel_s(device, run, ins, outs)


def _edges(
    parts: Plan, chunks: Chunks, phases: Sequence[str], cluster: scheduler.Cluster
) -> Iterator[tuple[int, int, float]]:
    """Seconds between two stages, for all values that one makes and the other uses: the later stage
    those of forward, the earlier one those of backward, be it only the gradient of a shared weight.
    """
    forward = phases[0]
    passed: dict[tuple[int, int], int] = {}
    for phase in phases:
        bodies = [parts.programs[w][stage_phase(phase, s)] for s, w in enumerate(chunks.workers)]
        outs = [{e for i in body if type(i) is Run for e in i.outs} for body in bodies]
        for b, a in combinations(range(len(bodies)), 2):
            maker, user = (b, a) if phase == forward else (a, b)
            nbytes = sum(parts.types[e].nbytes for e in outs[maker] & uses(bodies[user]))
            if nbytes:
                passed[b, a] = max(passed.get((b, a), 0), nbytes)
    for (b, a), nbytes in sorted(passed.items()):
        yield b, a, cluster.transfer_s(nbytes, chunks.workers[b], chunks.workers[a])


def _kept(parts: Plan, chunks: Chunks, forward: str, later: Sequence[str]) -> Iterator[float]:
    for s, worker in enumerate(chunks.workers):
        bodies = [parts.programs[worker][stage_phase(p, s)] for p in later]
        read = {entry for body in bodies for entry in uses(body)} - set(parts.homes)
        kept = read & made(parts.programs[worker][stage_phase(forward, s)])
        yield float(sum(parts.types[entry].nbytes for entry in kept))
