"""Layout: which worker of which replica holds what.

Data and outputs are cut into parts, one per replica. Parameters and states have a copy on every
replica. The gradient of a parameter, and the optimizer's states, live on one replica each, the
owner, so that adding up and updating are shared out (Rajbhandari et al., ZeRO, 2020, stage 1).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from raysym.graph import Node
from raysym.planning.microbatch import Batches
from raysym.planning.plan import Plan
from raysym.planning.shares import copy_name, part_name
from raysym.types import TensorType


class Layout:
    """Names of the workers of all replicas, and the homes of all entries."""

    def __init__(
        self, one: Plan, batches: Batches, placement: Mapping[Node, str], n_replicas: int
    ) -> None:
        self.n = n_replicas
        self.one, self.axes = one, batches.axes
        self.names = replica_names(one.workers, n_replicas)
        self.owners = _owners(batches, placement, n_replicas)
        self.homes: dict[str, str] = {}
        for home, worker in one.homes.items():
            owner = self.owners.get(home)
            for r in range(n_replicas) if owner is None else (owner,):
                self.homes[self.local(home, r)] = self.names[r][worker]

    def local(self, entry: str, replica: int) -> str:
        """What a replica calls an entry of the plan of one."""
        if self.n == 1 or entry not in self.one.homes or entry in self.owners:
            return entry
        return (part_name if entry in self.axes else copy_name)(entry, replica)

    def types(self, types: Mapping[str, TensorType]) -> dict[str, TensorType]:
        """The types of the entries of all replicas, by those of the plan of one."""
        return {
            self.local(home, r): types[home]
            for home in self.one.homes
            for r in range(self.n)
            if home in types
        }

    def owner_of(self, gradient: str) -> str:
        """The worker that holds a gradient of a parameter."""
        return self.names[self.owners[gradient]][self.one.homes[gradient]]

    def others(self, replica: int) -> list[int]:
        """All replicas but this one."""
        return [r for r in range(self.n) if r != replica]


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


def _owners(batches: Batches, placement: Mapping[Node, str], n_replicas: int) -> dict[str, int]:
    """The owner of each parameter's gradient: the largest first, to whom has the fewest bytes.

    The same in every mode, since a gradient has one home.
    """
    bound = batches.bound
    sizes = {entry: bound.types[entry].nbytes for entry in bound.grad_req}
    held: dict[str, list[int]] = {}
    owners: dict[str, int] = {}
    for entry in sorted(sizes, key=lambda entry: -sizes[entry]):
        home = f"grad:{bound.names[entry.node]}"
        if home not in batches.axes:
            row = held.setdefault(placement[entry.node], [0] * n_replicas)
            owners[home] = row.index(min(row))
            row[owners[home]] += sizes[entry]
    return owners
