"""Stages: the chunks that the programs of one micro-batch fall into, each the work of one worker.

Stage 2 of the phase "forward" is the phase ``forward/2`` of a staged plan. A worker that the data
flow visits twice has two stages if the schedule can use them (interleaving), else one.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from raysym.graph import Node
from raysym.planning.lifetimes import uses
from raysym.planning.plan import Instruction, Plan, Program, Recv, Run, Send


class Chunks(NamedTuple):
    """Stages in the order of the data flow: the worker of each, and the stage of each forward run.

    Runs go by their first output.
    """

    workers: tuple[str, ...]
    stage_of: Mapping[str, int]

    @property
    def ranks(self) -> tuple[str, ...]:
        """The workers in the order in which the data flow reaches them."""
        return tuple(dict.fromkeys(self.workers))


LATE = -1  # the stage of what waits for gradients of stages before all those of its worker
RESIDENT = "resident"  # the phase of a staged plan that sends what other workers read all along


def stage_phase(phase: str, stage: int) -> str:
    """The name of a stage's part of a phase."""
    return f"{phase}/{stage}"


def base_phase(name: str) -> str:
    """The phase that a stage's part belongs to."""
    return name.partition("/")[0]


def one_stage_each(one: Plan, forward: str) -> Chunks:
    """Every worker is one stage, whatever the data flow: it stands behind those it receives from.

    In a cycle of workers no order fits; the plan's check will tell whether it can run.
    """
    left = {w: {i.source for i in one.programs[w][forward] if type(i) is Recv} for w in one.workers}
    ranks: list[str] = []
    while left:
        free = [w for w, sources in left.items() if not sources - set(ranks)]
        ranks.append(free[0] if free else next(iter(left)))
        del left[ranks[-1]]
    stage = {worker: s for s, worker in enumerate(ranks)}
    return Chunks(tuple(ranks), {r.outs[0]: stage[w] for w, r in _runs(one, forward)})


def chunks_of(one: Plan, forward: str) -> Chunks:
    """As few stages as a greedy search finds: a worker runs all it can, then the next has its turn.

    A worker waits if another one's turn would let it do more.
    """
    ranks = one_stage_each(one, forward).workers
    frontier = _Frontier.of(list(_runs(one, forward)), one.homes)
    workers: list[str] = []
    stage_of: dict[str, int] = {}
    while ready := [w for w in ranks if frontier.ready[w]]:
        worker = next((w for w in ready if not frontier.gains_by_waiting(w)), ready[0])
        for i in frontier.advance(worker):
            stage_of[frontier.runs[i][1].outs[0]] = len(workers)
        workers.append(worker)
    idle = [w for w in ranks if w not in workers]  # they only keep arrays
    return Chunks((*workers, *idle), stage_of)


def _runs(one: Plan, phase: str) -> Iterator[tuple[str, Run]]:
    for worker, phases in one.programs.items():
        for instruction in phases[phase]:
            if type(instruction) is Run:
                yield worker, instruction


def goes_back(one: Plan, forward: str, chunks: Chunks) -> bool:
    """Whether some stage needs values of a later one."""
    if len(chunks.workers) > len(chunks.ranks):
        return False  # by the way in which they were found
    stage = {worker: s for s, worker in enumerate(chunks.workers)}
    return any(
        type(i) is Recv and stage[i.source] > stage[worker]
        for worker in one.workers
        for i in one.programs[worker][forward]
    )


class _Frontier(NamedTuple):
    """Runs with their workers: how many runs each waits for, who waits for it, who is ready."""

    runs: Sequence[tuple[str, Run]]
    waits: list[int]
    users: Sequence[Sequence[int]]
    ready: dict[str, list[int]]

    @staticmethod
    def of(runs: Sequence[tuple[str, Run]], homes: Container[str]) -> _Frontier:
        maker = {out: i for i, (_, run) in enumerate(runs) for out in run.outs if out not in homes}
        readers: dict[str, set[int]] = defaultdict(set)
        for i, (_, run) in enumerate(runs):
            for arg in run.args:
                readers[arg].add(i)
        users: list[list[int]] = [[] for _ in runs]
        waits, ready = [0] * len(runs), defaultdict(list)
        for i, (worker, run) in enumerate(runs):
            needs = {maker[arg] for arg in run.args if arg in maker}
            for home in (out for out in run.outs if out in homes):
                needs |= readers[home] - {i}  # they read what was there before
            for need in needs:
                users[need].append(i)
            waits[i] = len(needs)
            if not needs:
                ready[worker].append(i)
        return _Frontier(runs, waits, users, ready)

    def copy(self) -> _Frontier:
        ready = defaultdict(list, {worker: list(queue) for worker, queue in self.ready.items()})
        return _Frontier(self.runs, list(self.waits), self.users, ready)

    def advance(self, worker: str) -> list[int]:
        """Let a worker run all that it can; the runs."""
        done: list[int] = []
        queue = self.ready[worker]
        while queue:
            i = queue.pop()
            done.append(i)
            for user in self.users[i]:
                self.waits[user] -= 1
                if not self.waits[user]:
                    self.ready[self.runs[user][0]].append(user)
        return done

    def gains_by_waiting(self, worker: str) -> bool:
        """Whether the worker could run more in one go after all others have run what they can."""
        trial = self.copy()
        while others := [w for w, queue in trial.ready.items() if queue and w != worker]:
            for other in others:
                trial.advance(other)
        return len(trial.advance(worker)) > len(self.copy().advance(worker))


# ----- backward


def backward_stages(
    one: Plan, chunks: Chunks, backward: str, owners: Mapping[str, Node], one_each: bool = False
) -> dict[str, int]:
    """The stage of each run of the backward phase, by its first output.

    That of the node whose gradient it is, but never before the gradients that it needs; backward
    goes from the last stage to the first. Gradients of variables may need those of stages before
    all of their worker's: they are `LATE`, and so is what needs them. Where workers are one stage
    each although data flows go back (`one_each`), all is in that stage, and may wait there.
    """
    forward: dict[Node, int] = {}
    last = len(chunks.workers) - 1
    for out, stage in chunks.stage_of.items():
        if out in owners:
            forward[owners[out]] = max(forward.get(owners[out], 0), stage)
    own = {w: [s for s, at in enumerate(chunks.workers) if at == w] for w in chunks.ranks}
    level: dict[str, int] = {}  # of gradients: the stage after which they are there
    found: dict[str, int] = {}
    copies: list[tuple[str, Run]] = []
    readers: dict[str, list[int]] = defaultdict(list)  # of values that are made again
    for worker, run in _in_order(one, backward):
        out = run.outs[0]
        if out not in owners and out not in one.homes:
            copies.append((worker, run))
            continue
        wish = forward.get(owners[out], last) if out in owners else last
        wish = min([wish, *(level[arg] for arg in run.args if arg in level)])
        otherwise = own[worker][0] if one_each else LATE
        found[out] = max([s for s in own[worker] if s <= wish], default=otherwise)
        there = min(wish, found[out])
        level.update(dict.fromkeys((o for o in run.outs if o not in one.homes), there))
        for arg in run.args:
            readers[arg].append(found[out])
    _stage_copies(copies, own, readers, found)
    return found


def _stage_copies(
    copies: Sequence[tuple[str, Run]],
    own: Mapping[str, Sequence[int]],
    readers: dict[str, list[int]],
    found: dict[str, int],
) -> None:
    """Values that are made again are made for their first reader, and no sooner."""
    for worker, run in reversed(copies):
        first = max([stage for out in run.outs for stage in readers[out]], default=0)
        found[run.outs[0]] = min([s for s in own[worker] if s >= first], default=own[worker][-1])
        for arg in run.args:
            readers[arg].append(found[run.outs[0]])


def _in_order(one: Plan, phase: str) -> Iterator[tuple[str, Run]]:
    """The runs of all workers, each after those that make what it needs."""
    left: dict[str, deque[Run]] = {worker: deque() for worker in one.workers}
    for worker, run in _runs(one, phase):
        left[worker].append(run)
    missing = {out for queue in left.values() for run in queue for out in run.outs}
    missing -= set(one.homes)
    while any(left.values()):
        for worker, queue in left.items():
            while queue and missing.isdisjoint(queue[0].args):
                missing.difference_update(queue[0].outs)
                yield worker, queue.popleft()


# ----- programs


def staged(one: Plan, stages: Mapping[str, Mapping[str, int]], n_stages: int) -> Plan:
    """The plan with a phase for each stage of each phase; `stages` has the stage of each run.

    Every value is sent right after it is made, in whichever phase it is needed, and received just
    before it is used; what waits for no message runs before what does. Messages that several stages
    need stand in each: unrolling keeps the first of them that runs. Resident entries that no phase
    changes are sent in a phase of their own, so that nobody waits for them behind other work.
    """
    maker = _Maker(one, stages)
    programs: dict[str, dict[str, Program]] = {}
    for worker in one.workers:
        programs[worker] = {RESIDENT: tuple(maker.sends_of_homes(worker))}
        for phase in stages:
            for stage in (*range(n_stages), LATE):
                name = stage_phase(phase, stage)
                programs[worker][name] = tuple(maker.program(worker, phase, stage))
    return replace(one, programs=programs)


class _Maker:
    """Makes the programs of stages."""

    def __init__(self, one: Plan, stages: Mapping[str, Mapping[str, int]]) -> None:
        self.one, self.stages = one, stages
        # Where states and sums change: they travel from there.
        self.changed = {
            out: (phase, stage)
            for phase, stage_of in stages.items()
            for out, stage in stage_of.items()
            if out in one.homes
        }
        self.source: dict[tuple[str, str], str] = {}  # of what a worker receives
        self.sends: dict[tuple[str, str], dict[Send, None]] = defaultdict(dict)
        for worker, phases in one.programs.items():
            for instruction in (i for phase in stages for i in phases[phase]):
                if type(instruction) is Recv:
                    self.source[worker, instruction.entry] = instruction.source
                elif type(instruction) is Send:
                    self.sends[worker, instruction.entry][instruction] = None

    def program(self, worker: str, phase: str, stage: int) -> Iterator[Instruction]:
        """What a worker does for one stage in one phase."""
        stage_of = self.stages[phase]
        body = [i for i in self.one.programs[worker][phase] if type(i) is Run]
        runs = [run for run in body if stage_of[run.outs[0]] == stage]
        yield from self.sends_of_homes(worker, (phase, stage))
        yield from self._with_messages(worker, self._eager(worker, runs))

    def sends_of_homes(self, worker: str, changed: tuple[str, int] | None = None) -> Iterator[Send]:
        """Sends of the resident entries that one stage changes, or that none does."""
        for (sender, entry), sends in self.sends.items():
            is_home = sender == worker and entry in self.one.homes
            if is_home and self.changed.get(entry) == changed:
                yield from sends

    def _eager(self, worker: str, runs: Sequence[Run]) -> list[Run]:
        """Ordered by the last message that each needs, else as they are."""
        level: dict[str, int] = {}  # of entries: after how many messages they are there
        read: dict[str, int] = {}  # of resident entries: after how many nobody reads them
        order: list[int] = []
        n_messages = 0
        for run in runs:
            for arg in run.args:
                if arg not in level and (worker, arg) in self.source:
                    n_messages += 1
                    level[arg] = n_messages
            now = max(
                [0, *(level.get(arg, 0) for arg in run.args), *(read.get(o, 0) for o in run.outs)]
            )
            order.append(now)
            level.update(dict.fromkeys(run.outs, now))
            read.update({a: max(read.get(a, 0), now) for a in run.args if a in self.one.homes})
        return [runs[i] for i in sorted(range(len(runs)), key=order.__getitem__)]

    def _with_messages(self, worker: str, runs: Sequence[Run]) -> Iterator[Instruction]:
        here: set[str] = set()
        for run in runs:
            for arg in run.args:
                if (worker, arg) in self.source and arg not in here:
                    here.add(arg)
                    yield Recv(arg, self.source[worker, arg])
            yield run
            for out in run.outs:
                if out not in self.one.homes:
                    yield from self.sends.get((worker, out), ())


def receive_late(body: Sequence[Instruction]) -> list[Instruction]:
    """Every receive right before the first instruction that uses what it brings."""
    waiting: dict[str, Recv] = {}
    done: list[Instruction] = []
    for instruction in body:
        if type(instruction) is Recv:
            waiting[instruction.entry] = instruction
            continue
        if waiting:
            used = uses([instruction])
            done += [waiting.pop(entry) for entry in list(waiting) if entry in used]
        done.append(instruction)
    return [*done, *waiting.values()]
