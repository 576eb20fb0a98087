"""Relay: states that a forward pass changes, such as BatchNorm's moving averages.

They go from replica to replica, each of which changes them in turn, and from the last one to all.
What needs the newest states is done as late as can be, so that replicas do not wait for each other
before; networks whose outputs need them do wait.
"""

from __future__ import annotations

from collections.abc import Container, Iterator

from raysym.planning.layout import Layout
from raysym.planning.lifetimes import made, uses
from raysym.planning.lower import COPY
from raysym.planning.plan import Instruction, Recv, Run, Send
from raysym.planning.stages import base_phase
from raysym.planning.unroll import Unrolling


class Relay:
    """Of the states of one worker and its like on the other replicas, in some phases."""

    def __init__(
        self, unrolling: Unrolling, layout: Layout, worker: str, phases: Container[str]
    ) -> None:
        self.unrolling, self.layout = unrolling, layout
        self.names = [row[worker] for row in layout.names]
        self.fixed: dict[str, Run] = {}  # what makes states that are set to a constant
        self.readers: dict[str, set[str]] = {}  # what reads a state in the phase that changes it
        found: dict[str, list[Run]] = {}
        for phase, body in unrolling.one.programs[worker].items():
            if phase in phases:
                runs = found.setdefault(base_phase(phase), [])
                runs += [i for i in body if type(i) is Run]
        for runs in found.values():
            self._find_changes(runs)

    def _find_changes(self, runs: list[Run]) -> None:
        """Homes that a phase changes, apart from gradients and outputs.

        Other phases see the state as it was before the step.
        """
        maker = {out: run for run in runs for out in run.outs}
        for home in sorted(maker.keys() & self.unrolling.one.homes.keys()):
            if home.startswith(("grad:", "output:")):
                continue
            source = maker.get(maker[home].args[0]) if maker[home].args else None
            if source is not None and not source.args and not source.op.random:
                self.fixed[home] = source
            else:
                self.readers[home] = {run.outs[0] for run in runs if home in run.args}

    def split(self, body: list[Instruction], r: int) -> tuple[list[Instruction], list[Instruction]]:
        """What a replica can do at once, and what needs the newest states."""
        if not r:
            return body, []
        body = [*self._fix(r), *body]
        own = {self.layout.local(state, r): names for state, names in self.readers.items()}
        done: list[Instruction] = []
        late: list[Instruction] = []
        needed: set[str] = set()
        for i, instruction in enumerate(body):
            if not (_touches(instruction, own) or uses([instruction]) & needed):
                done.append(instruction)
            elif type(instruction) is Run:
                late.append(instruction)
                needed.update(instruction.outs)
            else:  # a message: all of this must be done before it
                return done, [*self._from_before(r), *late, *body[i:]]
        return done, [*self._from_before(r), *late]

    def _fix(self, r: int) -> Iterator[Instruction]:
        """Set what the replica before sets to a constant, such as BatchNorm a fixed gamma."""
        for state, run in self.fixed.items():
            new = self._passed(state, r - 1)
            yield Run((new,), run.op, ())
            yield Run((self.layout.local(state, r),), COPY, (new,))

    def _passed(self, state: str, r: int) -> str:
        """The state as replica `r` leaves it."""
        name = f"{state}@{(r + 1) * self.unrolling.size - 1}"
        self.unrolling.types[name] = self.unrolling.one.types[state]
        return name

    def _from_before(self, r: int) -> Iterator[Instruction]:
        """Take the states as the replica before has left them."""
        for state in self.readers:
            new = self._passed(state, r - 1)
            yield Recv(new, self.names[r - 1])
            yield Run((self.layout.local(state, r),), COPY, (new,))

    def pass_on(self, bodies: list[list[Instruction]]) -> None:
        """Send each state to the next replica right after its last change; the last sends to all,
        who take it when they are done."""
        last = self.layout.n - 1
        for state in self.readers:
            for r, body in enumerate(bodies):
                new, here = self._passed(state, r), self.layout.local(state, r)
                to = [r + 1] if r < last else self.layout.others(r)
                more: list[Instruction] = [
                    Run((new,), COPY, (here,)),
                    *(Send(new, self.names[x]) for x in to),
                ]
                _after_last(body, here, more)
        for state in self.readers:
            new = self._passed(state, last)
            for r in self.layout.others(last):
                kept = Run((self.layout.local(state, r),), COPY, (new,))
                bodies[r] += [Recv(new, self.names[last]), kept]


def _touches(instruction: Instruction, states: dict[str, set[str]]) -> bool:
    """True for what changes a state, and for what reads it in the phase that changes it."""
    if type(instruction) is not Run:
        return False
    base = instruction.outs[0].rpartition("@")[0]
    reads = any(
        base in readers or base == state
        for state, readers in states.items()
        if state in instruction.args
    )
    return reads or bool(states.keys() & instruction.outs)


def _after_last(body: list[Instruction], entry: str, more: list[Instruction]) -> None:
    """Insert behind the last instruction that makes `entry`."""
    at = max(i for i, instruction in enumerate(body) if entry in made([instruction]))
    body[at + 1 : at + 1] = more
