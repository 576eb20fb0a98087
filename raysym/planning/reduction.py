"""Reduction: replicas add up their gradients, and share out the updates.

Gradients are added in the order of the micro-batches, from the first one on, whoever adds: so the
bits depend on the number of micro-batches and not on that of replicas. With one micro-batch per
replica, all send their part to the owner of the parameter, who adds: a reduce-scatter in one hop,
followed by an all-gather of the updated parameters (the two halves of the bandwidth-optimal
all-reduce of Patarasuk & Yuan, 2009). With several, which may not be added up before the sum of
those before is known, the sum goes from replica to replica and then to the owner.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from itertools import zip_longest

from raysym.planning.layout import Layout
from raysym.planning.lifetimes import uses
from raysym.planning.lower import COPY
from raysym.planning.plan import Instruction, Recv, Run, Send
from raysym.planning.unroll import Unrolling

Bodies = list[list[Instruction]]  # of one worker, by replica
# A replica sends its part at once, and takes those of the others when so many more gradients are
# there: by then they have arrived.
DELAY = 1


class Reduction:
    """Of the gradients of one worker and its like on the other replicas."""

    def __init__(self, unrolling: Unrolling, layout: Layout, worker: str) -> None:
        self.unrolling, self.layout = unrolling, layout
        self.names = [row[worker] for row in layout.names]
        self.sent: set[tuple[str, int, int]] = set()

    def weave(
        self, bodies: Bodies, parts: Sequence[Mapping[str, list[str]]], at_end: bool
    ) -> Bodies:
        """The bodies with the additions where all replicas have come past the store of the last
        part, or else `at_end`."""
        self._send_old(bodies)
        chains = [self._take_chains(body, r) for r, body in enumerate(bodies)]
        meetings: dict[str, _Meeting] = {}
        for store in filter(self.is_store, bodies[0]):
            assert type(store) is Run
            home = store.outs[0]
            rows = [
                [self.layout.local(name, r) for name in row[home]] for r, row in enumerate(parts)
            ]
            meetings[home] = _Meeting(self, home, rows, [chain[home] for chain in chains])
        return [self._woven(body, meetings, r, at_end) for r, body in enumerate(bodies)]

    def is_store(self, instruction: Instruction) -> bool:
        """True where a replica has the last part of a gradient."""
        return type(instruction) is Run and instruction.outs[0] in self.layout.owners

    def _woven(
        self, body: Sequence[Instruction], meetings: Mapping[str, _Meeting], r: int, at_end: bool
    ) -> list[Instruction]:
        done: list[Instruction] = []
        due = deque(meetings.values())
        passed = 0
        for instruction in body:
            if not self.is_store(instruction):
                done.append(instruction)
                continue
            assert type(instruction) is Run
            done += meetings[instruction.outs[0]].early[r]
            passed += 1
            if not at_end and passed > DELAY:
                done += due.popleft().late[r]
        return [*done, *(i for meeting in due for i in meeting.late[r])]

    # ----- gradients that are added to old ones

    def _send_old(self, bodies: Bodies) -> None:
        """Old values go to the first replica, where the sum begins."""
        for home in sorted(uses(bodies[0]) & self.layout.owners.keys()):
            owner = self.layout.owners[home]
            if owner:
                bodies[owner].insert(0, Send(home, self.names[0]))
                bodies[0].insert(0, Recv(home, self.names[owner]))

    def _take_chains(self, body: list[Instruction], r: int) -> dict[str, list[Instruction]]:
        """Take out of the body what needs the sum of the replica before."""
        chains: dict[str, list[Instruction]] = {home: [] for home in self.layout.owners}
        of = {self.before(home, r): home for home in chains} if r else {}
        rest = []
        for instruction in body:
            found = uses([instruction]) & of.keys()
            if found and type(instruction) is Run and not self.is_store(instruction):
                home = of[found.pop()]
                chains[home].append(instruction)
                of.update(dict.fromkeys(instruction.outs, home))
            else:
                rest.append(instruction)
        body[:] = rest
        return chains

    def before(self, home: str, r: int) -> str:
        """The sum of all parts before those of replica `r`."""
        return f"{home}@{r * self.unrolling.size - 1}"

    # ----- updates

    def updated(self, bodies: Bodies, runs: Sequence[Run]) -> Bodies:
        """The bodies with the updates behind them: each by its owner, who tells the others."""
        own: list[list[Run]] = [[] for _ in self.names]
        for run in runs:
            own[self.layout.owners[run.args[1]]].append(run)
        for turn in zip_longest(*own):  # taking turns, so that little is under way
            for owner, run in enumerate(turn):
                if run is not None:
                    self._update(bodies, owner, run)
            for owner, run in enumerate(turn):
                if run is not None:
                    self._take_update(bodies, owner, run.outs[0])
        return bodies

    def _update(self, bodies: Bodies, owner: int, run: Run) -> None:
        parameter, *states = run.outs
        mine, told = self.layout.local(parameter, owner), f"updated:{parameter}"
        bodies[owner].append(Run((mine, *states), run.op, (mine, *run.args[1:])))
        others = self.layout.others(owner)
        if others:  # the name says that this is another message than the parameter itself
            sends = [Send(told, self.names[r]) for r in others]
            bodies[owner] += [Run((told,), COPY, (mine,)), *sends]
        self.unrolling.types[told] = self.unrolling.types[parameter]

    def _take_update(self, bodies: Bodies, owner: int, parameter: str) -> None:
        told = f"updated:{parameter}"
        for r in self.layout.others(owner):
            copied = Run((self.layout.local(parameter, r),), COPY, (told,))
            bodies[r] += [Recv(told, self.names[owner]), copied]


class _Meeting:
    """The addition of one gradient: what each replica sends at once, and what it does later."""

    def __init__(
        self,
        reduction: Reduction,
        home: str,
        parts: Sequence[Sequence[str]],
        chains: Sequence[Sequence[Instruction]],
    ) -> None:
        self.reduction, self.unrolling, self.home = reduction, reduction.unrolling, home
        self.owner = reduction.layout.owners[home]
        self.early: Bodies = [[] for _ in parts]
        self.late: Bodies = [[] for _ in parts]
        is_chain = home in self.unrolling.read
        self.ready = {name for row in (parts[:1] if is_chain else parts) for name in row}
        total, at = self._chained(parts, chains) if is_chain else self._added(parts)
        self._move(total, at, self.owner)
        if total != home:
            self.late[self.owner].append(Run((home,), COPY, (total,)))

    def _added(self, parts: Sequence[Sequence[str]]) -> tuple[str, int]:
        """Add part by part; the name of the sum and the replica that has it."""
        total, at, size = parts[0][-1], 0, self.unrolling.size
        for r, row in enumerate(parts[1:], 1):
            place = self.owner if size == 1 else r
            self._move(total, at, place)
            for i, part in enumerate(row):
                self._move(part, r, place)
                run = self.unrolling.added(self.home, total, part, r * size + i)
                if run.outs[0] == f"{self.home}@{self.unrolling.n - 1}" and place == self.owner:
                    run = Run((self.home,), run.op, run.args)
                self.late[place].append(run)
                total = run.outs[0]
            at = place
        return total, at

    def _chained(
        self, parts: Sequence[Sequence[str]], chains: Sequence[Sequence[Instruction]]
    ) -> tuple[str, int]:
        """Hand the sum on to each replica, whose graph adds to it."""
        total = parts[0][-1]
        for r in range(1, len(parts)):
            before = self.reduction.before(self.home, r)
            self.unrolling.types[before] = self.unrolling.one.types[self.home]
            (self.early if r == 1 else self.late)[r - 1].append(Run((before,), COPY, (total,)))
            if r == 1:
                self.ready.add(before)
            self._move(before, r - 1, r)
            self.late[r] += chains[r]
            total = parts[r][-1]
        return total, len(parts) - 1

    def _move(self, entry: str, source: int, target: int) -> None:
        """Send an entry, unless an addition before has done so."""
        if source == target or (entry, source, target) in self.reduction.sent:
            return
        self.reduction.sent.add((entry, source, target))
        names = self.reduction.names
        (self.early if entry in self.ready else self.late)[source].append(
            Send(entry, names[target])
        )
        self.late[target].append(Recv(entry, names[source]))
