"""The plan checker: dry-runs all programs together before any worker exists."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping

from raysym.errors import PlacementError, PlanError
from raysym.planning.plan import Free, Instruction, Plan, Recv, Run, Send


def check(plan: Plan, memory: Mapping[str, float] | None = None) -> dict[str, int]:
    """Peak bytes of each worker; PlanError when the plan could not run as it stands.

    Refused: use of an entry that is not there, a receive without a send, a message that nobody
    takes, a deadlock, or more bytes than ``memory[worker]`` allows. The message shows the program
    with the line marked.
    """
    workers = {name: _Worker(plan, name) for name in plan.workers}
    for phase in plan.phases:
        _run_phase(plan, phase, workers)
    for name, limit in (memory or {}).items():
        if name in workers and workers[name].peak > limit:
            raise _too_big(plan, workers[name], limit)
    return {name: worker.peak for name, worker in workers.items()}


class _Worker:
    """What one worker holds during the dry run."""

    def __init__(self, plan: Plan, name: str) -> None:
        self.plan, self.name = plan, name
        self.held = {entry for entry, home in plan.homes.items() if home == name}
        self.inbox: Counter[tuple[str, str]] = Counter()
        self.nbytes = self.peak = sum(self._size(entry) for entry in self.held)
        self.worst = "at rest"

    def _size(self, entry: str) -> int:
        return self.plan.types[entry].nbytes if entry in self.plan.types else 0

    def hold(self, entry: str, instruction: Instruction) -> None:
        if entry == "_" or entry in self.held:
            return
        self.held.add(entry)
        self.nbytes += self._size(entry)
        if self.nbytes > self.peak:
            self.peak, self.worst = self.nbytes, self.plan.line(instruction)

    def drop(self, entry: str) -> None:
        self.held.discard(entry)
        self.nbytes -= self._size(entry)


def _run_phase(plan: Plan, phase: str, workers: Mapping[str, _Worker]) -> None:
    todo = {name: deque(enumerate(plan.programs[name].get(phase, ()))) for name in workers}
    moving = True
    while moving:
        moving = False
        for name, left in todo.items():
            while left and _step(plan, phase, workers, name, *left[0]):
                left.popleft()
                moving = True
    for name, left in todo.items():
        if left:
            number, instruction = left[0]
            why = _why_stuck(name, instruction, todo)
            raise _refuse(plan, name, phase, number, why)
    for name, worker in workers.items():
        for (entry, source), count in worker.inbox.items():
            if count:
                raise PlanError(
                    f"plan, {name}, {phase}: {source} sends {entry} {count} times more often than "
                    "it is received"
                )


def _step(
    plan: Plan,
    phase: str,
    workers: Mapping[str, _Worker],
    name: str,
    number: int,
    instruction: Instruction,
) -> bool:
    worker = workers[name]
    match instruction:
        case Run(outs, _, args):
            missing = [arg for arg in args if arg not in worker.held]
            if missing:
                raise _refuse(plan, name, phase, number, f"{missing[0]} is not on this worker")
            for out in outs:
                worker.hold(out, instruction)
        case Send(entry, to):
            if entry not in worker.held or to not in workers:
                wrong = f"{entry} is not on this worker" if to in workers else f"no worker {to}"
                raise _refuse(plan, name, phase, number, wrong)
            workers[to].inbox[entry, name] += 1
        case Recv(entry, source):
            if not worker.inbox[entry, source]:
                return False
            worker.inbox[entry, source] -= 1
            worker.hold(entry, instruction)
        case Free(entry):
            if entry not in worker.held or plan.homes.get(entry) == name:
                raise _refuse(plan, name, phase, number, f"{entry} is not here to be freed")
            worker.drop(entry)
    return True


def _why_stuck(
    name: str,
    instruction: Instruction,
    todo: Mapping[str, deque[tuple[int, Instruction]]],
) -> str:
    assert type(instruction) is Recv
    left = [i for _, i in todo.get(instruction.source, ())]
    if Send(instruction.entry, name) in left:
        return f"deadlock: {instruction.source} would send it later, but waits as well"
    return f"{instruction.source} never sends it"


def _refuse(plan: Plan, worker: str, phase: str, number: int, why: str) -> PlanError:
    body = plan.programs[worker][phase]
    shown = range(max(0, number - 3), min(len(body), number + 4))
    lines = [f"    {plan.line(body[i])}{'   <-- here' if i == number else ''}" for i in shown]
    return PlanError("\n".join([f"plan, {worker}, {phase}: {why}", *lines]))


def _too_big(plan: Plan, worker: _Worker, limit: float) -> PlacementError:
    sizes = {e: plan.types[e].nbytes for e in worker.held if e in plan.types}
    largest = sorted(sizes, key=lambda e: -sizes[e])[:3]
    named = ", ".join(f"{e} {plan.types[e]} ({sizes[e]} bytes)" for e in largest)
    return PlacementError(
        f"{worker.name} needs {worker.peak} bytes at '{worker.worst}', has {limit:.0f} "
        f"({worker.peak - limit:.0f} too many). Largest kept: {named}"
    )
