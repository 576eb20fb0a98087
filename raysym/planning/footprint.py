"""What a plan keeps in memory: resident arrays by kind, and values that come and go."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
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
    plans: Sequence[Plan], auxiliary: Container[str], works: Sequence[Mapping[str, int]]
) -> dict[str, Footprint]:
    """The footprint of each worker that has loaded all `plans`.

    `works`: by plan, what a runtime plans on each worker beside resident arrays. Arrays are shared
    by the plans, work is not.
    """
    workers = dict.fromkeys(worker for plan in plans for worker in plan.workers)
    found = {worker: {"work": sum(work.get(worker, 0) for work in works)} for worker in workers}
    homes = {home: plan for plan in plans for home in plan.homes}
    for home, plan in homes.items():
        array = Share.of(home).home
        kind = _KINDS.get(array.partition(":")[0] if ":" in array else "", "arguments")
        kind = "auxiliary" if array in auxiliary else kind
        held = found.setdefault(plan.homes[home], {})
        held[kind] = held.get(kind, 0) + plan.types[home].nbytes
    return {worker: Footprint(**kinds) for worker, kinds in found.items()}


def in_lines(works: Mapping[str, Mapping[str, int]], total: Mapping[str, Footprint]) -> list[str]:
    """As text: the work of each mode on each worker, then all that each worker holds."""
    lines = [
        f"{worker}, {mode}: work {nbytes} bytes"
        for mode, work in works.items()
        for worker, nbytes in work.items()
    ]
    for worker, kinds in total.items():
        parts = [f"{kind} {nbytes}" for kind, nbytes in kinds._asdict().items() if nbytes]
        lines.append(f"{worker}: {', '.join(parts)} bytes")
    mb = sum(kinds.work for kinds in total.values()) / 2**20
    return [*lines, f"Total {mb:.4g} MB allocated"]


def interpreted_bytes(plan: Plan) -> dict[str, int]:
    """Bytes of values that come and go on each worker, if its programs are interpreted."""
    held = dict.fromkeys(plan.workers, 0)
    for home, worker in plan.homes.items():
        held[worker] += plan.types[home].nbytes
    return {worker: peak - held[worker] for worker, peak in check(plan).items()}
