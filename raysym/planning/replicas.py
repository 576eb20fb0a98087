"""Replicas: the same step on several groups of workers, each with its part of the batch.

Parameters and states live on the first group and are sent to the others at the start of a step.
Gradients are added up from micro-batch 0 on, from group to group, so that the bits depend on the
number of parts and not on the number of groups. States that a forward pass changes, such as
BatchNorm's moving averages, go from group to group as well: such networks wait for each other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

from raysym.errors import PlanError
from raysym.op import make_op
from raysym.planning.lifetimes import made, uses
from raysym.planning.plan import Instruction, Plan, Program, Recv, Run, Send
from raysym.planning.unroll import Piece, Unrolling

Bodies = dict[str, list[Instruction]]


def replicate(unrolling: Unrolling, rows: Mapping[str, Sequence[Piece]], n_replicas: int) -> Bodies:
    """The programs of all replicas, by worker; `rows` are the pieces of one replica."""
    if n_replicas == 1:
        return unrolling.bodies(rows)
    added = sorted(h for h in unrolling.read if h.startswith("grad:") and h in unrolling.one.homes)
    if added:
        raise PlanError(
            f"data_parallel={n_replicas}: {added[0]}: got grad_req 'add', not supported"
        )
    return _Replicas(unrolling, rows, n_replicas).bodies()


def replica_names(workers: Sequence[str], n_replicas: int) -> list[dict[str, str]]:
    """For each replica: its name of each worker; the first keeps the names as they are."""
    used = [name.partition(":") for name in workers]
    free = {kind: max(int(n) for k, _, n in used if k == kind) + 1 for kind, _, _ in used}
    names = [{name: name for name in workers}]
    for _ in range(1, n_replicas):
        row = {}
        for name in workers:
            kind = name.partition(":")[0]
            row[name] = f"{kind}:{free[kind]}"
            free[kind] += 1
        names.append(row)
    return names


def with_replicas(plan: Plan, workers: Sequence[str], n_replicas: int) -> Plan:
    """The plan with all workers of all replicas, since workers start before they have work."""
    rows = replica_names(workers, n_replicas)
    every: dict[str, Mapping[str, Program]] = {name: {} for row in rows for name in row.values()}
    return replace(plan, programs={**every, **plan.programs})


class _Replicas:
    """Brings the bodies of all replicas together."""

    def __init__(self, unrolling: Unrolling, rows: Mapping[str, Sequence[Piece]], n: int) -> None:
        self.unrolling, self.rows, self.n = unrolling, rows, n
        self.size = unrolling.n // n  # micro-batches of one replica
        self.homes = unrolling.one.homes
        self.states = self._changed()
        self.passed: set[str] = set()  # entries under which states go from replica to replica
        self.names = replica_names(unrolling.one.workers, n)
        self.before: Bodies = {name: [] for name in unrolling.one.workers}
        self.after: Bodies = {name: [] for row in self.names for name in row.values()}

    def bodies(self) -> Bodies:
        """The programs by worker."""
        found: Bodies = {}
        parts: list[dict[str, list[str]]] = []
        for r, names in enumerate(self.names):
            made_here = self.unrolling.bodies(self.rows, r * self.size, alone=False)
            parts.append(dict(self.unrolling.parts))
            for worker, body in made_here.items():
                found[names[worker]] = self._placed(worker, body, r)
        self._pass_states_on(found)
        for home in parts[0]:
            collect = self._gather if home in self.unrolling.axes else self._add_up
            collect(home, [part[home] for part in parts])
        return {
            name: [*self.before.get(name, ()), *body, *self.after[name]]
            for name, body in found.items()
        }

    def _placed(self, worker: str, body: list[Instruction], r: int) -> list[Instruction]:
        """The body as replica `r` runs it: its peers' names, and homes received from the first."""
        names = self.names[r]
        done: list[Instruction] = []
        known: set[str] = set()
        for instruction in self._late(worker, body, r) if r else body:
            if r and type(instruction) is Run and self._is_slice(instruction, worker):
                self.before[worker] += [instruction, Send(instruction.outs[0], names[worker])]
                done.append(Recv(instruction.outs[0], worker))
                continue
            for entry in sorted(uses([instruction]) - known) if r else ():
                if self.homes.get(entry) == worker:
                    known.add(entry)
                    self.before[worker].append(Send(entry, names[worker]))
                    done.append(Recv(entry, worker))
            if type(instruction) is Run:
                known.update(self.states.keys() & instruction.outs)
            passed = type(instruction) is Recv and instruction.entry in self.passed
            done.append(instruction if passed else _renamed(instruction, names))
        return done

    def _is_slice(self, run: Run, worker: str) -> bool:
        source = run.args[0] if run.args else ""
        return source in self.unrolling.axes and self.homes.get(source) == worker

    # ----- states

    def _changed(self) -> dict[str, set[str]]:
        """Homes that a step changes, apart from gradients and outputs, and what reads each of them
        in the phase that changes it. Other phases see the state as it was before the step."""
        found: dict[str, set[str]] = {}
        for phases in self.unrolling.one.programs.values():
            for body in phases.values():
                runs = [i for i in body if type(i) is Run]
                written = {out for run in runs for out in run.outs} & set(self.homes)
                for home in written:
                    if not home.startswith(("grad:", "output:")):
                        found[home] = {run.outs[0] for run in runs if home in run.args}
        return found

    def _late(self, worker: str, body: list[Instruction], r: int) -> list[Instruction]:
        """The body with all that needs the newest states at its end, so that replicas do not wait
        for each other before; earlier only if a message to another worker needs it."""
        own = {s: readers for s, readers in self.states.items() if self.homes[s] == worker}
        done: list[Instruction] = []
        late: list[Instruction] = []
        needed: set[str] = set()
        for i, instruction in enumerate(body):
            out = instruction.outs[0].rpartition("@")[0] if type(instruction) is Run else ""
            reads = [s for s, readers in own.items() if out in readers | {s}]
            if (
                not (reads and uses([instruction]) & set(reads))
                and not uses([instruction]) & needed
            ):
                done.append(instruction)
            elif type(instruction) is Run:
                late.append(instruction)
                needed.update(instruction.outs)
            else:  # a message: all of this must be done before it
                return [*done, *self._from_before(own, r), *late, *body[i:]]
        return [*done, *self._from_before(own, r), *late]

    def _from_before(self, states: Iterable[str], r: int) -> Iterator[Instruction]:
        """Take the states as the replica before has left them."""
        for state in sorted(states):
            new = f"{state}@{r * self.size - 1}"
            self.passed.add(new)
            yield Recv(new, self.names[r - 1][self.homes[state]])
            yield Run((state,), make_op("_copy", {}), (new,))

    def _pass_states_on(self, bodies: Bodies) -> None:
        """Send each state to the next replica right after its last change, at the end home."""
        for state in sorted(self.states):
            worker = self.homes[state]
            chain = [names[worker] for names in self.names]
            for r, (here, to) in enumerate(pairwise([*chain, worker])):
                new = f"{state}@{(r + 1) * self.size - 1}"
                self.unrolling.types[new] = self.unrolling.one.types[state]
                copy = Run((new,), make_op("_copy", {}), (state,))
                _after_last(bodies[here], state, [copy, Send(new, to)])
            self.after[worker] += [Recv(new, chain[-1]), Run((state,), copy.op, (new,))]

    # ----- gradients and outputs

    def _gather(self, home: str, parts: list[list[str]]) -> None:
        worker = self.homes[home]
        for names, row in zip(self.names[1:], parts[1:], strict=True):
            for part in row:
                self.after[names[worker]].append(Send(part, worker))
                self.after[worker].append(Recv(part, names[worker]))
        self.after[worker].append(self.unrolling.joined(home, [p for row in parts for p in row]))

    def _add_up(self, home: str, parts: list[list[str]]) -> None:
        """The sum goes from replica to replica, and home at the end."""
        worker, total = self.homes[home], parts[0][-1]
        source = worker
        for r in range(1, self.n):
            here = self.names[r][worker]
            self.after[source].append(Send(total, here))
            self.after[here].append(Recv(total, source))
            for i, part in enumerate(parts[r]):
                run = self.unrolling.added(home, total, part, r * self.size + i)
                self.after[here].append(run)
                total = run.outs[0]
            source = here
        self.after[source].append(Send(total, worker))
        self.after[worker] += [Recv(total, source), Run((home,), make_op("_copy", {}), (total,))]


def _renamed(instruction: Instruction, names: Mapping[str, str]) -> Instruction:
    match instruction:
        case Send(entry, to):
            return Send(entry, names[to])
        case Recv(entry, source):
            return Recv(entry, names[source])
        case _:
            return instruction


def _after_last(body: list[Instruction], entry: str, more: list[Instruction]) -> None:
    """Insert behind the last instruction that makes `entry`."""
    at = max(i for i, instruction in enumerate(body) if entry in made([instruction]))
    body[at + 1 : at + 1] = more
