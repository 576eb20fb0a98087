"""What a plan keeps in memory: resident arrays by kind, and values that come and go."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import NamedTuple

from raysym.planning.check import check
from raysym.planning.plan import Plan
from raysym.planning.shares import Share


class Footprint(NamedTuple):
    """Bytes on one worker. ``work``: the planned peak of values that come and go.

    ``heads``: outputs and their gradients. ``states``: those of an optimizer.
    """

    arguments: int = 0
    gradients: int = 0
    auxiliary: int = 0
    states: int = 0
    heads: int = 0
    work: int = 0

    @property
    def total(self) -> int:
        """All of it."""
        return sum(self)


_KINDS = {"grad": "gradients", "state": "states", "output": "heads", "head_grad": "heads"}


def footprints(
    plan: Plan, auxiliary: Container[str], work: Mapping[str, int]
) -> dict[str, Footprint]:
    """The footprint of each worker; `work` is what its runtime plans beside resident arrays."""
    found = {worker: {"work": work.get(worker, 0)} for worker in plan.workers}
    for home, worker in plan.homes.items():
        array = Share.of(home).home
        kind = _KINDS.get(array.partition(":")[0] if ":" in array else "", "arguments")
        kind = "auxiliary" if array in auxiliary else kind
        held = found.setdefault(worker, {})
        held[kind] = held.get(kind, 0) + plan.types[home].nbytes
    return {worker: Footprint(**kinds) for worker, kinds in found.items()}


def interpreted_bytes(plan: Plan) -> dict[str, int]:
    """Bytes of values that come and go on each worker, if its programs are interpreted."""
    held = dict.fromkeys(plan.workers, 0)
    for home, worker in plan.homes.items():
        held[worker] += plan.types[home].nbytes
    return {worker: peak - held[worker] for worker, peak in check(plan).items()}
